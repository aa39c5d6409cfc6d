package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is where goose notes the migrations that were run.
const versionTable = "schema_version"

// Migrations returns the SQL files that make the schema, named NNN_noun.sql. There is one
// set for both databases, and no way back: a migration that was released is never edited.
func Migrations() fs.FS {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // only for a malformed literal
	}
	return files
}

// Status is the state of the schema.
type Status struct {
	Database string   // "SQLite" or "PostgreSQL"
	Version  int64    // of the database; 0 when it is empty
	Latest   int64    // the newest this program knows
	Pending  []string // the migrations that Migrate would run, oldest first
}

// Status reads the state of the schema, and refuses a schema newer than this program knows,
// because what it means is unknown. It does not change the database.
func (s *Store) Status(ctx context.Context) (Status, error) {
	status := Status{Database: "SQLite"}
	exists := `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1`
	if s.postgres != nil {
		status.Database = "PostgreSQL"
		exists = `SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = $1`
	}
	var tables int
	if err := s.db.QueryRowContext(ctx, exists, versionTable).Scan(&tables); err != nil {
		return Status{}, fmt.Errorf("reading the schema's version: %w", err)
	}
	done := map[int64]bool{}
	if tables > 0 {
		rows, err := s.db.QueryContext(ctx, `SELECT version_id FROM `+versionTable)
		if err != nil {
			return Status{}, fmt.Errorf("reading the schema's version: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var version int64
			if err := rows.Scan(&version); err != nil {
				return Status{}, fmt.Errorf("reading the schema's version: %w", err)
			}
			done[version] = true
			status.Version = max(status.Version, version)
		}
		if err := rows.Err(); err != nil {
			return Status{}, fmt.Errorf("reading the schema's version: %w", err)
		}
	}

	provider, err := s.goose()
	if err != nil {
		return Status{}, err
	}
	for _, source := range provider.ListSources() {
		status.Latest = max(status.Latest, source.Version)
		if !done[source.Version] {
			status.Pending = append(status.Pending, path.Base(source.Path))
		}
	}
	if status.Version > status.Latest {
		return Status{}, fmt.Errorf("the database has schema version %d, and this grantway knows up to %d: "+
			"run the newer grantway that migrated it, or restore the backup from before that",
			status.Version, status.Latest)
	}
	return status, nil
}

// Migrate brings the schema up to date. Replicas that start at the same time on PostgreSQL
// take turns. On SQLite it is refused while a server has the database open.
func (s *Store) Migrate(ctx context.Context) error {
	before, err := s.Status(ctx)
	if err != nil || len(before.Pending) == 0 {
		return err
	}
	if s.postgres == nil && s.lock == nil {
		file, err := lockFile(s.path)
		if err != nil {
			return err
		}
		defer file.Close()
	}
	provider, err := s.goose()
	if err != nil {
		return err
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	for _, r := range results {
		s.log.Info("database migrated", "migration", path.Base(r.Source.Path), "duration", r.Duration)
	}
	return nil
}

func (s *Store) goose() (*goose.Provider, error) {
	options := []goose.ProviderOption{
		goose.WithTableName(versionTable),
		goose.WithDisableGlobalRegistry(true),
	}
	dialect := goose.DialectSQLite3
	if s.postgres != nil {
		dialect = goose.DialectPostgres
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // every second, for 5 minutes
		if err != nil {
			return nil, fmt.Errorf("migrations: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(dialect, s.db, Migrations(), options...)
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	return provider, nil
}

func inUse(database string) error {
	return fmt.Errorf("%s is in use by another grantway: stop that one first", database)
}
