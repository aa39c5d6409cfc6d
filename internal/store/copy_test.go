package store_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// sampleTables are created so that the alphabet is not the order of the foreign keys.
var sampleTables = []string{
	`CREATE TABLE z_owner (id TEXT NOT NULL PRIMARY KEY)`,
	`CREATE TABLE m_thing (id TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL REFERENCES z_owner (id),
		n BIGINT NOT NULL, data BYTEA, flag BOOLEAN NOT NULL)`,
	`CREATE TABLE a_part (thing TEXT NOT NULL REFERENCES m_thing (id) ON DELETE CASCADE, "order" BIGINT, PRIMARY KEY (thing, "order"))`,
}

func TestCopy(t *testing.T) {
	lite, postgres, again := storetest.Open(t, storetest.SQLite(t)), storetest.Open(t, storetest.Postgres(t)), storetest.Open(t, storetest.SQLite(t))
	for _, s := range []*store.Store{lite, postgres, again} {
		write(t, s, sampleTables...)
	}
	write(t, lite, `INSERT INTO z_owner (id) VALUES ('ö''"')`)
	const things = 1203 // more than fit in two statements
	err := lite.Write(t.Context(), func(tx *store.Tx) error {
		tx.Changed("credential", "one")
		for i := range things {
			data := bytes.Repeat([]byte{0, byte(i)}, i%3) // also empty
			if i == 7 {
				data = nil
			}
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO m_thing (id, owner, n, data, flag) VALUES ($1, 'ö''"', $2, $3, $4)`,
				fmt.Sprint(i), int64(i)<<32, data, i%2 == 0); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(t.Context(), `INSERT INTO a_part (thing, "order") VALUES ('7', 1), ('7', 2)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	for _, step := range []struct{ from, to *store.Store }{{lite, postgres}, {postgres, again}} {
		var order []string
		rows := map[string]int{}
		err := store.Copy(t.Context(), step.from, step.to, func(table string, n int) {
			if rows[table] = n; !slices.Contains(order, table) {
				order = append(order, table)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if rows["m_thing"] != things || rows["a_part"] != 2 || rows["change"] != 1 {
			t.Errorf("progress: %v", rows)
		}
		if slices.Index(order, "z_owner") > slices.Index(order, "m_thing") || slices.Index(order, "m_thing") > slices.Index(order, "a_part") {
			t.Errorf("order: %v", order)
		}
	}
	for _, s := range []*store.Store{lite, postgres, again} {
		if n := number(t, s, `SELECT count(*) FROM m_thing WHERE data IS NULL`); n != 1 {
			t.Errorf("data is NULL in %d rows, want 1", n)
		}
	}
	if diff := cmp.Diff(dump(t, lite), dump(t, again)); diff != "" {
		t.Errorf("after there and back: -want +got\n%s", diff)
	}
	if diff := cmp.Diff(dump(t, lite), dump(t, postgres)); diff != "" {
		t.Errorf("on PostgreSQL: -want +got\n%s", diff)
	}

	if err := store.Copy(t.Context(), lite, postgres, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a database that has rows: %v", err)
	}
	if diff := cmp.Diff(dump(t, lite), dump(t, postgres)); diff != "" {
		t.Errorf("after a refused copy: -want +got\n%s", diff)
	}
}

func dump(t *testing.T, s *store.Store) (lines []string) {
	t.Helper()
	rows, err := s.Read().QueryContext(t.Context(), `SELECT id, owner, n, data, flag FROM m_thing ORDER BY n`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, owner string
		var n int64
		var data []byte
		var flag bool
		if err := rows.Scan(&id, &owner, &n, &data, &flag); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %s %d %x %t", id, owner, n, data, flag))
	}
	return lines
}

func TestCopyIsAllOrNothing(t *testing.T) {
	lite, postgres := storetest.Open(t, storetest.SQLite(t)), storetest.Open(t, storetest.Postgres(t))
	write(t, lite, `CREATE TABLE a (id TEXT NOT NULL)`, `CREATE TABLE b (id TEXT NOT NULL)`,
		`INSERT INTO a (id) VALUES ('x')`, `INSERT INTO b (id) VALUES ('refused')`)
	write(t, postgres, `CREATE TABLE a (id TEXT NOT NULL)`, `CREATE TABLE b (id TEXT NOT NULL CHECK (id <> 'refused'))`)
	if err := store.Copy(t.Context(), lite, postgres, nil); err == nil || !strings.Contains(err.Error(), "copying table b") {
		t.Errorf("got %v", err)
	}
	if n := number(t, postgres, `SELECT count(*) FROM a`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if n := number(t, postgres, `SELECT count(*) FROM division`); n != 1 {
		t.Errorf("%d divisions are left, want the one of the migrations", n)
	}
}

func TestCopyWantsMigratedDatabases(t *testing.T) {
	lite := storetest.Open(t, storetest.SQLite(t))
	empty := open(t, store.Options{URL: storetest.EmptyPostgres(t)})
	for _, step := range []struct{ from, to *store.Store }{{lite, empty}, {empty, lite}} {
		if err := store.Copy(t.Context(), step.from, step.to, nil); err == nil || !strings.Contains(err.Error(), "grantway db migrate") {
			t.Errorf("got %v", err)
		}
	}
}
