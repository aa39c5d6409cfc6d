package issuer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// A program that asks for a token at every call must not fill the database. Taking
// tokens back before their time to make room would break the other programs that use the
// same client, so instead tokens beyond the first crowd live shortly: what such a client has in
// the database is bounded by crowd and what it asks for in a minute.
const (
	crowd         = 1000
	crowdLifetime = time.Minute
)

// lifetime is how long a token of c issued now lives.
func (e *entry) lifetime(c *client) time.Duration {
	if e.live.Load() >= crowd {
		return min(c.lifetime, crowdLifetime)
	}
	return c.lifetime
}

// countTokens corrects the number of live tokens of the clients that got any since the last
// count, or have many. Each replica counts what it issues itself between two counts.
func (i *Issuer) countTokens(ctx context.Context, now time.Time) error {
	var due []*entry
	i.clients.all(func(e *entry, _ *client) {
		if e.issued.Swap(0) > 0 || e.live.Load() >= crowd {
			due = append(due, e)
		}
	})
	for _, e := range due {
		var n int64
		err := i.Store.Read().QueryRowContext(ctx, `
			SELECT count(*) FROM (SELECT 1 FROM access_token WHERE client_id = $1 AND expires_at > $2 LIMIT $3) AS live`,
			e.state.Load().ID, now.UnixMilli(), crowd).Scan(&n)
		if err != nil {
			return err
		}
		e.live.Store(n + e.issued.Load())
	}
	return nil
}

// tokenRow is a row of access_token. Times are in Unix milliseconds.
type tokenRow struct {
	hash, client, secret, scope       string
	person, binding, resource, family string
	issuedAt, expiresAt               int64
}

// ledger writes issued tokens into the database.
type ledger struct {
	*batch[tokenRow]
	insert [manyRows + 1]string // SQL that inserts so many rows
}

// errRefused means that the client or its secret has been deleted or turned off.
var errRefused = errors.New("the client or its secret is no longer good")

func (l *ledger) init(s *store.Store) {
	l.batch = newBatch(s, l.writeRows)
	for n := 1; n <= manyRows; n++ {
		l.insert[n] = insertTokens(n)
	}
}

func (l *ledger) writeRows(ctx context.Context, tx *store.Tx, rows []*waiting[tokenRow]) error {
	for some := range slices.Chunk(rows, manyRows) {
		args := make([]any, 0, len(some)*tokenColumns)
		for _, w := range some {
			r := &w.row
			args = append(args, r.hash, r.client, r.secret, r.scope, r.person, r.binding, r.resource, r.family, r.issuedAt, r.expiresAt)
		}
		written := make(map[string]bool, len(some))
		err := store.Each(ctx, tx, func(row *sql.Rows) error {
			var hash string
			err := row.Scan(&hash)
			written[hash] = true
			return err
		}, l.insert[len(some)], args...)
		if err != nil {
			return err
		}
		for _, w := range some {
			if w.refused = nil; !written[w.row.hash] {
				w.refused = errRefused
			}
		}
	}
	return nil
}

const tokenColumns = 10

// insertTokens is the SQL that inserts n rows and returns the hashes of those that it inserted. It
// looks at the secret, if one was used, and the client once more: memory may be a moment
// behind, and a secret that was taken away must not give one more token.
func insertTokens(n int) string {
	var rows strings.Builder
	for p := 1; p <= n*tokenColumns; p += tokenColumns {
		if p > 1 {
			rows.WriteString(", ")
		}
		rows.WriteByte('(')
		for c := range tokenColumns - 2 {
			fmt.Fprintf(&rows, "CAST($%d AS TEXT), ", p+c)
		}
		fmt.Fprintf(&rows, "CAST($%d AS BIGINT), CAST($%d AS BIGINT))", p+tokenColumns-2, p+tokenColumns-1)
	}
	return `
		INSERT INTO access_token (hash, client_id, secret_id, scope, person_id, binding, resource, family, issued_at, expires_at)
		SELECT v.column1, c.id, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8, v.column9, v.column10
		FROM (VALUES ` + rows.String() + `) AS v
		JOIN client c ON c.id = v.column2 AND c.active AND c.deleted_at = 0
		LEFT JOIN client_secret s ON s.id = v.column3 AND s.client_id = c.id AND (s.expires_at = 0 OR s.expires_at > v.column9)
		WHERE v.column3 = '' OR s.id IS NOT NULL
		RETURNING hash`
}

// find reads the row of a token; sql.ErrNoRows means that there is no such token.
func (l *ledger) find(ctx context.Context, hash string) (row tokenRow, err error) {
	row.hash = hash
	err = l.store.Read().QueryRowContext(ctx, `
		SELECT client_id, secret_id, scope, person_id, binding, resource, family, issued_at, expires_at
		FROM access_token WHERE hash = $1`, hash).
		Scan(&row.client, &row.secret, &row.scope, &row.person, &row.binding, &row.resource, &row.family, &row.issuedAt, &row.expiresAt)
	return row, err
}

// expiring are the tables whose rows are deleted once they expire.
var expiring = []struct{ table, key string }{
	{"access_token", "hash"}, {"used_once", "hash"}, {"revoked_token", "jti"}, {"authorization_code", "hash"}, {"refresh_token", "hash"},
}

// purge deletes the rows that have expired, some at a time so that others get their turn.
func (i *Issuer) purge(ctx context.Context, now time.Time) error {
	const some = 5000
	for _, t := range expiring {
		for deleted := int64(some); deleted == some; {
			err := i.Store.Write(ctx, func(tx *store.Tx) error {
				r, err := tx.ExecContext(ctx, `DELETE FROM `+t.table+`
					WHERE `+t.key+` IN (SELECT `+t.key+` FROM `+t.table+` WHERE expires_at <= $1 LIMIT $2)`, now.UnixMilli(), some)
				if err != nil {
					return err
				}
				deleted, err = r.RowsAffected()
				return err
			})
			if err != nil {
				return fmt.Errorf("expired rows of %s: %w", t.table, err)
			}
		}
	}
	if err := i.purgeClients(ctx, now); err != nil {
		return err
	}
	return i.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM client_use WHERE hour < $1`, hourOf(now.Add(-keepUse).UnixMilli()))
		return err
	})
}

// purgeClients deletes for good the clients that nobody has restored in time.
func (i *Issuer) purgeClients(ctx context.Context, now time.Time) error {
	var ended []string
	i.clients.all(func(_ *entry, c *client) {
		if !c.DeletedAt.IsZero() && c.RestorableUntil.Before(now) {
			ended = append(ended, c.ID)
		}
	})
	for _, id := range ended {
		err := i.Store.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM client WHERE id = $1 AND deleted_at BETWEEN 1 AND $2`, id, now.Add(-keepDeleted).UnixMilli())
			tx.Changed(topicClient, id)
			return err
		})
		if err == nil {
			err = i.reload(ctx, id)
		}
		if err != nil {
			return fmt.Errorf("client %s: %w", id, err)
		}
	}
	return nil
}
