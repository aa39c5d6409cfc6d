// Package store opens the database of a hub, SQLite or PostgreSQL, and runs transactions on it.
//
// Callers write one SQL text for both databases: $n parameters, columns named, the types
// TEXT BIGINT BYTEA BOOLEAN, ON CONFLICT and RETURNING. What differs stays in here: the
// connections, the migrations of the schema, and how other replicas hear of a change.
//
// A server calls Open, Migrate and Start, in this order, and then lets its nouns subscribe
// and load. Tools that only read or write rows leave Start out.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// Options says which database to open.
type Options struct {
	// URL is "sqlite:" and the path of a file, or a postgres:// URL. The file is created
	// when it does not exist, readable and writable by its owner only.
	URL string

	// Exclusive refuses to open an SQLite file that another exclusive Store has open, in
	// this process or another one. Servers set it; tools that run beside a server do not.
	// PostgreSQL is made to be shared and ignores it.
	Exclusive bool

	// MaxConns bounds the connections to PostgreSQL, not counting the one that listens for
	// changes; 0 means 16. SQLite ignores it.
	MaxConns int

	Log *slog.Logger // nil discards
}

// Store is one open database. Its methods may be called concurrently.
type Store struct {
	log  *slog.Logger
	feed *feed

	db   *sql.DB // SQLite: the one connection that writes
	read *sql.DB // SQLite: connections that cannot write; PostgreSQL: the same as db

	postgres *pgx.ConnConfig // nil on SQLite
	path     string          // of the SQLite file
	lock     *os.File        // held while an exclusive SQLite Store is open, else nil
}

// Open opens a database without changing its schema. It fails when the database cannot be
// reached, and when its schema is newer than this program knows.
func Open(ctx context.Context, o Options) (*Store, error) {
	s := &Store{log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.feed = newFeed(s)

	var err error
	switch scheme, rest, _ := strings.Cut(o.URL, ":"); scheme {
	case "sqlite":
		err = s.openSQLite(rest, o.Exclusive)
	case "postgres", "postgresql":
		err = s.openPostgres(o.URL, o.MaxConns)
	default: // the URL is not repeated, it may hold a password
		return nil, errors.New("database URL must be sqlite:PATH or postgres://…")
	}
	if err == nil {
		_, err = s.Status(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) openSQLite(path string, exclusive bool) error {
	s.path = strings.TrimPrefix(path, "//")
	if s.path == "" || strings.Contains(s.path, ":memory:") {
		return errors.New("database URL sqlite: needs the path of a file")
	}
	if exclusive {
		lock, err := lockFile(s.path)
		if err != nil {
			return err
		}
		s.lock = lock
	}
	// SQLite gives the files beside it (-wal, -shm) the mode of this one. An existing file is
	// not touched: closing any descriptor of it would drop the locks this process holds on it.
	file, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating the database: %w", err)
	}

	// FULL makes every commit reach the disk, so that a power cut loses nothing acknowledged.
	// With secure_delete, what was deleted is overwritten: a secret that moved to a secret store
	// stays nowhere, not even sealed.
	dsn := "file:" + (&url.URL{Path: s.path}).EscapedPath() +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_pragma=secure_delete(1)"
	if s.db, err = sql.Open("sqlite", dsn+"&_txlock=immediate"); err != nil {
		return fmt.Errorf("opening %s: %w", s.path, err)
	}
	s.db.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite", dsn+"&_pragma=query_only(1)"); err != nil {
		return fmt.Errorf("opening %s: %w", s.path, err)
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	s.read.SetMaxOpenConns(readers)
	s.read.SetMaxIdleConns(readers)
	return nil
}

func (s *Store) openPostgres(address string, conns int) error {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return fmt.Errorf("database URL: %w", err) // pgx leaves the password out
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "grantway"
	}
	if conns == 0 {
		conns = 16
	}
	s.postgres = config
	s.db = stdlib.OpenDB(*config)
	s.db.SetMaxOpenConns(conns)
	s.db.SetMaxIdleConns(conns)
	s.db.SetConnMaxIdleTime(5 * time.Minute)
	s.read = s.db
	return nil
}

// Close ends the delivery of changes, waits for it, and closes the database.
func (s *Store) Close() error {
	s.feed.stop()
	var errs []error
	for _, db := range []*sql.DB{s.read, s.db} { // closing twice does nothing
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.read.PingContext(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// Querier is a *Tx, or what Read returns: for a function that reads within a transaction or without one.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Each calls row for each row that a query finds, which it must scan and not keep. It ends with the first error.
func Each(ctx context.Context, q Querier, row func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Read is for queries outside a transaction. On SQLite it refuses to write.
func (s *Store) Read() *sql.DB { return s.read }
