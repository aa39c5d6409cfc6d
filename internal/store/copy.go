package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Copy makes to, a different database that is migrated and otherwise new, hold exactly the
// rows of from. It reads one snapshot and writes one transaction: to holds everything, or is
// as it was. Changes that are made to from meanwhile are not copied, so stop its server first.
//
// progress, if not nil, hears how many rows of a table are copied so far; the last call for a
// table has all of them.
func Copy(ctx context.Context, from, to *Store, progress func(table string, rows int)) error {
	for _, s := range []*Store{from, to} {
		status, err := s.Status(ctx)
		if err != nil {
			return err
		}
		if len(status.Pending) > 0 {
			return fmt.Errorf("the schema of the %s database is not up to date: run grantway db migrate on it first", status.Database)
		}
	}
	if progress == nil {
		progress = func(string, int) {}
	}
	src, err := from.read.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("reading the source: %w", err)
	}
	defer src.Rollback()
	tables, err := from.tables(ctx, src)
	if err != nil {
		return err
	}
	seeds, err := seeds(ctx)
	if err != nil {
		return err
	}
	return to.Write(ctx, func(dst *Tx) error {
		for _, table := range tables {
			n, err := count(ctx, dst.Tx, table)
			if err != nil {
				return err
			}
			if n > seeds[table] {
				return fmt.Errorf("the target is not empty, its table %s has %d rows: copy into a new database", table, n)
			}
		}
		for _, table := range slices.Backward(tables) {
			if _, err := dst.ExecContext(ctx, `DELETE FROM `+quote(table)); err != nil {
				return fmt.Errorf("clearing table %s: %w", table, err)
			}
		}
		for _, table := range tables {
			if err := copyTable(ctx, src, dst.Tx, table, progress); err != nil {
				return fmt.Errorf("copying table %s: %w", table, err)
			}
			want, err := count(ctx, src, table)
			if err != nil {
				return err
			}
			if got, err := count(ctx, dst.Tx, table); err != nil || got != want {
				return errors.Join(err, fmt.Errorf("copying table %s: %d of %d rows arrived", table, got, want))
			}
		}
		return nil
	})
}

// seeds counts the rows that the migrations themselves put into a new database, by table.
func seeds(ctx context.Context) (map[string]int, error) {
	dir, err := os.MkdirTemp("", "grantway-")
	if err != nil {
		return nil, fmt.Errorf("making an empty database: %w", err)
	}
	defer os.RemoveAll(dir)
	s, err := Open(ctx, Options{URL: "sqlite:" + filepath.Join(dir, "empty.db")})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.Migrate(ctx); err != nil {
		return nil, err
	}
	rows := map[string]int{}
	return rows, s.Write(ctx, func(tx *Tx) error {
		tables, err := s.tables(ctx, tx.Tx)
		for _, table := range tables {
			if err == nil {
				rows[table], err = count(ctx, tx.Tx, table)
			}
		}
		return err
	})
}

// tables lists the tables that hold data, each after those its foreign keys point to.
func (s *Store) tables(ctx context.Context, tx *sql.Tx) ([]string, error) {
	names := `SELECT name, '' FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite@_%' ESCAPE '@'`
	references := `SELECT m.name, f."table" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`
	if s.postgres != nil {
		names = `SELECT tablename, '' FROM pg_tables WHERE schemaname = current_schema()`
		references = `
			SELECT child.relname, parent.relname FROM pg_constraint c
			JOIN pg_class child ON child.oid = c.conrelid
			JOIN pg_class parent ON parent.oid = c.confrelid
			WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace`
	}
	left, err := pairs(ctx, tx, names)
	if err != nil {
		return nil, err
	}
	parents, err := pairs(ctx, tx, references)
	if err != nil {
		return nil, err
	}
	delete(left, versionTable)
	var order []string
	for len(left) > 0 {
		var ready []string
		for table := range left {
			waits := func(parent string) bool { return parent != table && left[parent] != nil }
			if !slices.ContainsFunc(parents[table], waits) {
				ready = append(ready, table)
			}
		}
		if len(ready) == 0 {
			return nil, fmt.Errorf("foreign keys go in a circle among %d tables", len(left))
		}
		slices.Sort(ready)
		for _, table := range ready {
			delete(left, table)
		}
		order = append(order, ready...)
	}
	return order, nil
}

// pairs runs a query for two columns of text and groups the second by the first.
func pairs(ctx context.Context, tx *sql.Tx, query string) (map[string][]string, error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("listing tables: %w", err)
	}
	defer rows.Close()
	found := map[string][]string{}
	for rows.Next() {
		var a, b string
		if err := rows.Scan(&a, &b); err != nil {
			return nil, fmt.Errorf("listing tables: %w", err)
		}
		found[a] = append(found[a], b)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing tables: %w", err)
	}
	return found, nil
}

func count(ctx context.Context, tx *sql.Tx, table string) (n int, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM `+quote(table)).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting the rows of %s: %w", table, err)
	}
	return n, nil
}

// copyTable copies one table, as many rows in a statement as fit.
func copyTable(ctx context.Context, src, dst *sql.Tx, table string, progress func(string, int)) error {
	rows, err := src.QueryContext(ctx, `SELECT * FROM `+quote(table))
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quote(c.Name())
	}
	insert := `INSERT INTO ` + quote(table) + ` (` + strings.Join(names, ", ") + `) VALUES `

	const parameters = 30000 // SQLite takes 32,766 in a statement, PostgreSQL 65,535
	perStatement := min(500, parameters/len(columns))
	var values []any
	copied := 0
	flush := func() error {
		if len(values) > 0 {
			if _, err := dst.ExecContext(ctx, insert+placeholders(len(values), len(columns)), values...); err != nil {
				return err
			}
			copied += len(values) / len(columns)
			values = values[:0]
		}
		progress(table, copied)
		return nil
	}
	for rows.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, c := range columns {
			switch value := row[i].(type) {
			case int64:
				if c.DatabaseTypeName() == "BOOLEAN" {
					row[i] = value != 0 // SQLite keeps booleans as numbers
				}
			case []byte:
				if value == nil {
					row[i] = []byte{} // the SQLite driver gives this for no bytes; NULL is a plain nil
				}
			}
		}
		if values = append(values, row...); len(values) >= perStatement*len(columns) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return flush()
}

// placeholders returns ($1, $2), ($3, $4) for 4 values of rows that have 2 columns.
func placeholders(values, columns int) string {
	var b strings.Builder
	for i := range values {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String() + ")"
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
