package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// open opens a Store without starting it.
func open(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// write runs statements in one transaction.
func write(t *testing.T, s *store.Store, statements ...string) {
	t.Helper()
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		for _, statement := range statements {
			if _, err := tx.ExecContext(t.Context(), statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, s *store.Store, query string, args ...any) (n int64) {
	t.Helper()
	if err := s.Read().QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// eachEmpty runs body on a database of each kind that has no schema yet.
func eachEmpty(t *testing.T, body func(t *testing.T, url string)) {
	t.Run("SQLite", func(t *testing.T) { body(t, storetest.EmptySQLite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { body(t, storetest.EmptyPostgres(t)) })
}

func TestMigrate(t *testing.T) {
	files, err := fs.Glob(store.Migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	eachEmpty(t, func(t *testing.T, url string) {
		s := open(t, store.Options{URL: url})
		before, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := store.Status{Database: before.Database, Latest: before.Latest, Pending: files}
		if diff := cmp.Diff(want, before); diff != "" || !strings.HasPrefix(t.Name(), "TestMigrate/"+before.Database) {
			t.Errorf("before: -want +got\n%s", diff)
		}
		for range 2 {
			if err := errors.Join(s.Migrate(t.Context()), s.Ping(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		after, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want.Version, want.Pending = want.Latest, nil
		if diff := cmp.Diff(want, after); diff != "" {
			t.Errorf("after: -want +got\n%s", diff)
		}
	})
}

func TestMigrateByReplicasAtOnce(t *testing.T) {
	url := storetest.EmptyPostgres(t)
	var replicas sync.WaitGroup
	for range 3 {
		s := open(t, store.Options{URL: url})
		replicas.Go(func() {
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	replicas.Wait()
}

func TestNewerSchema(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		s := open(t, store.Options{URL: url})
		yes := map[string]string{"SQLite": "1", "PostgreSQL": "TRUE"}[t.Name()[len("TestNewerSchema/"):]]
		write(t, s, `INSERT INTO schema_version (version_id, is_applied) VALUES (99999, `+yes+`)`)
		for what, err := range map[string]error{
			"Migrate": s.Migrate(t.Context()),
			"Open":    func() error { _, err := store.Open(t.Context(), store.Options{URL: url}); return err }(),
		} {
			if err == nil || !strings.Contains(err.Error(), "schema version 99999") || !strings.Contains(err.Error(), "newer grantway") {
				t.Errorf("%s: %v, want it to name the version and what to do", what, err)
			}
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"":                                     "database URL",
		"mysql://u:canary@h":                   "database URL",
		"sqlite:":                              "path of a file",
		"sqlite::memory:":                      "path of a file",
		"sqlite:" + t.TempDir() + "/none/x.db": "creating the database",
		"postgres://u:canary@h:port/db":        "database URL",
		"postgres://u:canary@127.0.0.1:1/db":   "connect",
		"postgres://u:canary@127.0.0.1:1/db?sslmode=mode": "database URL",
	} {
		_, err := store.Open(t.Context(), store.Options{URL: url})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("Open(%q): %v, want %q", url, err, want)
		}
	}
}

func TestSQLiteFiles(t *testing.T) {
	dir := t.TempDir() + "/a ?#%20ü"
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := open(t, store.Options{URL: "sqlite:" + dir + "/hub.db", Exclusive: true})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, s, `CREATE TABLE sample (id TEXT PRIMARY KEY)`)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprint(info.Mode(), " ", file.Name()))
	}
	want := []string{"-rw------- hub.db", "-rw------- hub.db-shm", "-rw------- hub.db-wal", "-rw------- hub.db.lock"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if _, err := s.Read().ExecContext(t.Context(), `INSERT INTO sample (id) VALUES ('x')`); err == nil {
		t.Error("Read wrote")
	}
}

func TestExclusive(t *testing.T) {
	o := store.Options{URL: storetest.EmptySQLite(t), Exclusive: true}
	server := open(t, o)
	refused := func(err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "in use by another grantway") {
			t.Errorf("got %v, want it refused", err)
		}
	}
	_, err := store.Open(t.Context(), o)
	refused(err)
	tool := open(t, store.Options{URL: o.URL})
	refused(tool.Migrate(t.Context()))
	if err := server.Migrate(t.Context()); err != nil {
		t.Error(err)
	}
	if err := tool.Migrate(t.Context()); err != nil {
		t.Errorf("with nothing to migrate: %v", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	open(t, o)
}

// TestOneText shows that the SQL of the house style means the same on both databases.
func TestOneText(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		write(t, s, `CREATE TABLE sample (id TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, data BYTEA, flag BOOLEAN NOT NULL)`)
		type row struct {
			ID   string
			N    int64
			Data []byte
			Flag bool
		}
		// Parameters are out of order and used twice.
		upsert := func(r row) (got row) {
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				return tx.QueryRowContext(t.Context(), `
					INSERT INTO sample (flag, id, n, data) VALUES ($4, $1, $2, $3)
					ON CONFLICT (id) DO UPDATE SET n = sample.n + $2, data = excluded.data, flag = $4
					RETURNING id, n, data, flag`, r.ID, r.N, r.Data, r.Flag).Scan(&got.ID, &got.N, &got.Data, &got.Flag)
			})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if diff := cmp.Diff(row{"a", 1 << 40, []byte{0, 255}, true}, upsert(row{"a", 1 << 40, []byte{0, 255}, true})); diff != "" {
			t.Errorf("insert: -want +got\n%s", diff)
		}
		if diff := cmp.Diff(row{"a", 1<<40 + 1, nil, false}, upsert(row{"a", 1, nil, false})); diff != "" {
			t.Errorf("update: -want +got\n%s", diff)
		}
		// No bytes are not NULL, although the SQLite driver scans both as nil.
		if got := upsert(row{"b", -1, []byte{}, true}); len(got.Data) != 0 {
			t.Errorf("empty bytes: got %v", got)
		}
		if n := number(t, s, `SELECT count(*) FROM sample WHERE flag AND data IS NOT NULL OR NOT flag AND data IS NULL`); n != 2 {
			t.Errorf("%d rows as they should be, want 2", n)
		}
	})
}

func TestWriteIsAllOrNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		write(t, s, `CREATE TABLE sample (id TEXT NOT NULL PRIMARY KEY)`)
		insert := func(tx *store.Tx) {
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO sample (id) VALUES ('a')`); err != nil {
				t.Error(err)
			}
		}
		sentinel := errors.New("no")
		if err := s.Write(t.Context(), func(tx *store.Tx) error { insert(tx); return sentinel }); err != sentinel {
			t.Errorf("got %v, want the error as it is", err)
		}
		func() {
			defer func() { recover() }()
			s.Write(t.Context(), func(tx *store.Tx) error { insert(tx); panic("no") })
		}()
		ctx, cancel := context.WithCancel(t.Context())
		if err := s.Write(ctx, func(tx *store.Tx) error { insert(tx); cancel(); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want canceled", err)
		}
		if n := number(t, s, `SELECT count(*) FROM sample`); n != 0 {
			t.Errorf("%d rows are left, want 0", n)
		}
		write(t, s, `INSERT INTO sample (id) VALUES ('a')`)
	})
}

func TestDuplicate(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		write(t, s, `CREATE TABLE sample (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL)`,
			`CREATE UNIQUE INDEX sample_name ON sample (lower(name))`, `INSERT INTO sample (id, name) VALUES ('a', 'x')`)
		for statement, want := range map[string]bool{
			`INSERT INTO sample (id, name) VALUES ('a', 'y')`:  true,
			`INSERT INTO sample (id, name) VALUES ('b', 'X')`:  true,
			`INSERT INTO sample (id, name) VALUES ('c', NULL)`: false,
		} {
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				_, err := tx.ExecContext(t.Context(), statement)
				return err
			})
			if err == nil || store.Duplicate(fmt.Errorf("saving: %w", err)) != want {
				t.Errorf("%s: %v, want duplicate to be %t", statement, err, want)
			}
		}
	})
}

func TestConcurrentWriters(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		write(t, s, `CREATE TABLE counter (n BIGINT NOT NULL)`, `INSERT INTO counter (n) VALUES (0)`)
		const writers, rounds = 8, 25
		var all sync.WaitGroup
		for i := range writers {
			topics := [][]string{{"a", "b"}, {"b", "a"}}[i%2] // the order must not matter
			all.Go(func() {
				for range rounds {
					err := s.Write(t.Context(), func(tx *store.Tx) error {
						tx.Changed(topics[0], "x")
						tx.Changed(topics[1], "x")
						_, err := tx.ExecContext(t.Context(), `UPDATE counter SET n = n + 1`)
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		for _, query := range []string{`SELECT n FROM counter`, `SELECT version FROM change WHERE topic = 'a'`, `SELECT version FROM change WHERE topic = 'b'`} {
			if n := number(t, s, query); n != writers*rounds {
				t.Errorf("%s: %d, want %d", query, n, writers*rounds)
			}
		}
	})
}

// TestDeadlockRunsAgain makes two transactions wait for one another.
func TestDeadlockRunsAgain(t *testing.T) {
	s := storetest.Open(t, storetest.Postgres(t))
	write(t, s, `CREATE TABLE sample (id TEXT NOT NULL, n BIGINT NOT NULL)`, `INSERT INTO sample (id, n) VALUES ('a', 0), ('b', 0)`)
	var both, all sync.WaitGroup
	both.Add(2)
	for _, ids := range [][]string{{"a", "b"}, {"b", "a"}} {
		meet := sync.OnceFunc(func() { both.Done(); both.Wait() })
		all.Go(func() {
			err := s.Write(t.Context(), func(tx *store.Tx) error {
				for _, id := range ids {
					if _, err := tx.ExecContext(t.Context(), `UPDATE sample SET n = n + 1 WHERE id = $1`, id); err != nil {
						return fmt.Errorf("counting: %w", err)
					}
					meet()
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := number(t, s, `SELECT min(n) FROM sample`); n != 2 {
		t.Errorf("counted %d, want 2", n)
	}
}

// TestLock lets writers read, decide and write, which only works when they take turns.
func TestLock(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		write(t, s, `CREATE TABLE sample (n BIGINT NOT NULL)`)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				err := s.Write(t.Context(), func(tx *store.Tx) error {
					if err := tx.Lock(t.Context(), "sample"); err != nil {
						return err
					}
					var n int
					if err := tx.QueryRowContext(t.Context(), `SELECT count(*) FROM sample`).Scan(&n); err != nil || n >= 3 {
						return err
					}
					_, err := tx.ExecContext(t.Context(), `INSERT INTO sample (n) VALUES ($1)`, n)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := number(t, s, `SELECT count(*) FROM sample`); n != 3 {
			t.Errorf("%d rows, want 3", n)
		}
	})
}

func TestSerializationFailureRunsAgain(t *testing.T) {
	s := storetest.Open(t, storetest.Postgres(t))
	write(t, s, `CREATE TABLE sample (n BIGINT NOT NULL)`, `INSERT INTO sample (n) VALUES (0)`)
	runs := 0
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		runs++
		if _, err := tx.ExecContext(t.Context(), `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRowContext(t.Context(), `SELECT n FROM sample`).Scan(&n); err != nil {
			return err
		}
		if runs == 1 {
			write(t, s, `UPDATE sample SET n = 10`)
		}
		_, err := tx.ExecContext(t.Context(), `UPDATE sample SET n = n + 1`)
		return err
	})
	if n := number(t, s, `SELECT n FROM sample`); err != nil || n != 11 || runs != 2 {
		t.Errorf("%v, n = %d after %d runs, want 11 after 2", err, n, runs)
	}

	runs = 0
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		runs++
		_, err := tx.ExecContext(t.Context(), `DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$`)
		return err
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "40001" || runs < 3 || runs > 20 {
		t.Errorf("%v after %d runs, want to give up", err, runs)
	}
}

// TestPostgresClosesConnections shows that connections the server closed are replaced.
func TestPostgresClosesConnections(t *testing.T) {
	s := storetest.Open(t, storetest.Postgres(t))
	var conns []*sql.Conn
	for range 5 {
		conn, err := s.Read().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.Close()
	}
	other := storetest.Open(t, storetest.Postgres(t))
	number(t, other, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1`, database(t, s))
	write(t, s, `CREATE TABLE sample (n BIGINT NOT NULL)`)
}

func database(t *testing.T, s *store.Store) (name string) {
	t.Helper()
	if err := s.Read().QueryRowContext(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}
