package broker

import (
	"context"
	"fmt"

	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// sealedColumn is a place of sealed values: a query for the row's name and value, and the
// statement that replaces a value if it is still the same. One text per table, since a
// row's name in seal.Place is made of its key columns.
type sealedColumn struct {
	table, column, rows, replace string

	// drop, where set, forgets a value that does not open, if it is still the same. Without
	// it such a value ends the rotation: somebody has to look at it.
	drop string
}

var sealedColumns = []sealedColumn{
	{"credential_secret", "sealed",
		`SELECT credential_id || '/' || input, sealed FROM credential_secret`,
		`UPDATE credential_secret SET sealed = $3 WHERE credential_id || '/' || input = $1 AND sealed = $2`, ""},
	{"token", "sealed",
		`SELECT cache_key, sealed FROM token WHERE sealed IS NOT NULL`,
		`UPDATE token SET sealed = $3 WHERE cache_key = $1 AND sealed = $2`,
		`UPDATE token SET sealed = NULL, fingerprint = '', expires_at = 0 WHERE cache_key = $1 AND sealed = $2`},
	{"idempotency", "digest",
		`SELECT caller || '/' || idem_key, digest FROM idempotency`,
		`UPDATE idempotency SET digest = $3 WHERE caller || '/' || idem_key = $1 AND digest = $2`, ""},
}

// Reseal brings everything the broker sealed to the newest data key. It is a seal.Reseal.
func (b *Broker) Reseal(ctx context.Context, s *seal.Sealer) (n int, err error) {
	for _, c := range sealedColumns {
		done, err := b.resealColumn(ctx, s, c)
		n += done
		if err != nil {
			return n, fmt.Errorf("seal %s again: %w", c.table, err)
		}
	}
	return n, nil
}

func (b *Broker) resealColumn(ctx context.Context, s *seal.Sealer, c sealedColumn) (n int, err error) {
	type value struct {
		row    string
		sealed []byte
	}
	var values []value
	rows, err := b.Store.Read().QueryContext(ctx, c.rows)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var v value
		if err := rows.Scan(&v.row, &v.sealed); err != nil {
			return 0, err
		}
		values = append(values, v)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	const batch = 200 // rows per transaction, so that others get their turn
	for len(values) > 0 {
		part := values[:min(batch, len(values))]
		values = values[len(part):]
		changed := 0
		err := b.Store.Write(ctx, func(tx *store.Tx) error {
			changed = 0
			for _, v := range part {
				renewed, ok, err := s.Renew(seal.Place{Table: c.table, Row: v.row, Column: c.column}, v.sealed)
				switch {
				case err != nil && c.drop != "":
					b.Log.Warn("a stored value is forgotten", "table", c.table, "error", err)
					_, err = tx.ExecContext(ctx, c.drop, v.row, v.sealed)
				case ok:
					_, err = tx.ExecContext(ctx, c.replace, v.row, v.sealed, renewed)
					changed++
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return n, err
		}
		n += changed
	}
	return n, nil
}
