package broker

import (
	"context"
	"fmt"

	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// sealedColumns are the places of sealed values: a query for the row's name and value, and
// the statement that replaces a value if it is still the same. One text per table, since a
// row's name in seal.Place is made of its key columns.
var sealedColumns = []struct{ table, column, rows, replace string }{
	{"credential_secret", "sealed",
		`SELECT credential_id || '/' || input, sealed FROM credential_secret`,
		`UPDATE credential_secret SET sealed = $3 WHERE credential_id || '/' || input = $1 AND sealed = $2`},
	{"token", "sealed",
		`SELECT cache_key, sealed FROM token WHERE sealed IS NOT NULL`,
		`UPDATE token SET sealed = $3 WHERE cache_key = $1 AND sealed = $2`},
	{"idempotency", "digest",
		`SELECT caller || '/' || idem_key, digest FROM idempotency`,
		`UPDATE idempotency SET digest = $3 WHERE caller || '/' || idem_key = $1 AND digest = $2`},
}

// Reseal brings everything the broker sealed to the newest data key. It is a seal.Reseal.
func (b *Broker) Reseal(ctx context.Context, s *seal.Sealer) (n int, err error) {
	for _, c := range sealedColumns {
		done, err := b.resealColumn(ctx, s, c.table, c.column, c.rows, c.replace)
		n += done
		if err != nil {
			return n, fmt.Errorf("seal %s again: %w", c.table, err)
		}
	}
	return n, nil
}

func (b *Broker) resealColumn(ctx context.Context, s *seal.Sealer, table, column, query, replace string) (n int, err error) {
	type value struct {
		row    string
		sealed []byte
	}
	var values []value
	rows, err := b.Store.Read().QueryContext(ctx, query)
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
				renewed, ok, err := s.Renew(seal.Place{Table: table, Row: v.row, Column: column}, v.sealed)
				if err != nil {
					return err
				}
				if !ok {
					continue
				}
				if _, err := tx.ExecContext(ctx, replace, v.row, v.sealed, renewed); err != nil {
					return err
				}
				changed++
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
