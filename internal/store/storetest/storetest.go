// Package storetest gives a test a fresh database of each kind.
//
// PostgreSQL databases are made on the server that GRANTWAY_TEST_POSTGRES names, the URL of a
// superuser of a server that can be thrown away. Without it tests fail rather than skip.
package storetest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/grantway/grantway/internal/store"
)

// Each runs body as two subtests, on a fresh SQLite and on a fresh PostgreSQL database, which
// are migrated and started.
func Each(t *testing.T, body func(t *testing.T, s *store.Store)) {
	t.Helper()
	EachURL(t, func(t *testing.T, url string) { body(t, Open(t, url)) })
}

// EachURL is Each for tests that open the database themselves: as several replicas, or in
// other processes. The database is migrated.
func EachURL(t *testing.T, body func(t *testing.T, url string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { body(t, SQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { body(t, Postgres(t)) })
}

// Open opens and starts a Store, and closes it when the test ends.
func Open(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// SQLite returns the URL of a fresh, migrated SQLite database.
func SQLite(t testing.TB) string {
	t.Helper()
	file, err := sqliteFile()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "grantway.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return "sqlite:" + path
}

// sqliteFile is what is in the file of a migrated database.
var sqliteFile = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "grantway-storetest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "grantway.db")
	if err := migrate(context.Background(), "sqlite:"+path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// EmptySQLite returns the URL of a SQLite database without a schema.
func EmptySQLite(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "grantway.db")
}

// Postgres returns the URL of a fresh, migrated PostgreSQL database. It is dropped when the
// test ends.
func Postgres(t testing.TB) string {
	t.Helper()
	server := connect(t)
	template, err := server.template(t.Context())
	if err != nil {
		t.Fatalf("making the template database: %v", err)
	}
	return server.create(t, template)
}

// EmptyPostgres returns the URL of a PostgreSQL database without a schema.
func EmptyPostgres(t testing.TB) string {
	t.Helper()
	return connect(t).create(t, "template1")
}

func migrate(ctx context.Context, url string) error {
	s, err := store.Open(ctx, store.Options{URL: url})
	if err != nil {
		return err
	}
	return errors.Join(s.Migrate(ctx), s.Close())
}

// server is a connection to the PostgreSQL server, as its superuser.
type server struct {
	conn *pgx.Conn
	url  *url.URL
}

func connect(t testing.TB) server {
	t.Helper()
	address := os.Getenv("GRANTWAY_TEST_POSTGRES")
	if address == "" {
		t.Fatal("GRANTWAY_TEST_POSTGRES is not set: run `make test`, or first `eval \"$(scripts/postgres start)\"`")
	}
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal("GRANTWAY_TEST_POSTGRES is not a URL")
	}
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatalf("GRANTWAY_TEST_POSTGRES: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return server{conn, parsed}
}

func (s server) database(name string) string {
	u := *s.url
	u.Path = "/" + name
	return u.String()
}

// create makes a database with a random name from a template.
func (s server) create(t testing.TB, template string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	if _, err := s.conn.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatalf("creating a database: %v", err)
	}
	t.Cleanup(func() { // before the one that closes conn
		if _, err := s.conn.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("dropping a database: %v", err)
		}
	})
	return s.database(name)
}

// template returns the name of a database with the newest schema, which it makes when no test
// before, in this process or another one, has made it. The name changes with the schema.
func (s server) template(ctx context.Context) (string, error) {
	hash := sha256.New()
	files := store.Migrations()
	paths, err := fs.Glob(files, "*.sql")
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
	}
	name := "template_" + hex.EncodeToString(hash.Sum(nil)[:8])

	if _, err := s.conn.Exec(ctx, "SELECT pg_advisory_lock(1)"); err != nil {
		return "", err
	}
	defer s.conn.Exec(ctx, "SELECT pg_advisory_unlock(1)")
	var there bool
	err = s.conn.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_database WHERE datname = $1", name).Scan(&there)
	if err != nil || there {
		return name, err
	}
	unfinished := name + "_unfinished" // left by a test that was killed, or made now
	if _, err := s.conn.Exec(ctx, "DROP DATABASE IF EXISTS "+unfinished+" WITH (FORCE)"); err != nil {
		return "", err
	}
	if _, err := s.conn.Exec(ctx, "CREATE DATABASE "+unfinished); err != nil {
		return "", err
	}
	if err := migrate(ctx, s.database(unfinished)); err != nil {
		return "", err
	}
	_, err = s.conn.Exec(ctx, "ALTER DATABASE "+unfinished+" RENAME TO "+name)
	return name, err
}
