package issuer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// A program that asks for a token at every call must not fill the database. Taking
// tokens back before their time to make room would break the other programs that use the
// same client, so instead tokens beyond the first crowd live shortly, and as many as crowd live their
// whole time again in each lifetime: what such a client has in the database is bounded by twice
// crowd, for each replica, and what it asks for in a minute.
const (
	crowd         = 1000
	crowdLifetime = time.Minute
)

// lifetime is how long a token of c issued at now lives.
func (e *entry) lifetime(c *client, now time.Time) time.Duration {
	for {
		old := e.crowd.Load()
		next := max(old, now.UnixNano()) + int64(c.lifetime/crowd)
		if next > now.Add(c.lifetime).UnixNano() {
			return min(c.lifetime, crowdLifetime)
		}
		if e.crowd.CompareAndSwap(old, next) {
			return c.lifetime
		}
	}
}

// tokenRow is a row of access_token. Times are in Unix milliseconds.
//
// Its key is when the token expires and then the hash, so rows that come and go together lie together: a new one
// goes to the end of the table and of its one index, and those that have expired are the first. By
// the hash alone each row would have a page of its own to write. So that the row is found, a
// token says when it expires.
type tokenRow struct {
	expiresAt                         int64
	hash, client, secret, scope       string
	person, binding, resource, family string
	issuedAt                          int64
}

func (r tokenRow) key() string { return r.hash }

func (r tokenRow) columns() []any {
	return []any{r.expiresAt, r.hash, r.client, r.secret, r.scope, r.person, r.binding, r.resource, r.family, r.issuedAt}
}

// errRefused means that the client or its secret has been deleted or turned off.
var errRefused = errors.New("the client or its secret is no longer good")

// newLedger writes issued tokens into the database. It looks at the secret, if one was used, and the client
// once more: memory may be a moment behind, and a secret that was taken away must not give one
// more token.
func newLedger(ctx context.Context, s *store.Store) (*batch[tokenRow], error) {
	return newBatch[tokenRow](ctx, s, errRefused, func(values string) string {
		return `
			INSERT INTO access_token (expires_at, hash, client_id, secret_id, scope, person_id, binding, resource, family, issued_at)
			SELECT v.column1, v.column2, c.id, v.column4, v.column5, v.column6, v.column7, v.column8, v.column9, v.column10
			FROM (VALUES ` + values + `) AS v
			JOIN client c ON c.id = v.column3 AND c.active AND c.deleted_at = 0
			LEFT JOIN client_secret s ON s.id = v.column4 AND s.client_id = c.id AND (s.expires_at = 0 OR s.expires_at > v.column10)
			WHERE v.column4 = '' OR s.id IS NOT NULL
			RETURNING hash`
	})
}

// findToken reads the row of a token; sql.ErrNoRows means that there is no such token.
func (i *Issuer) findToken(ctx context.Context, token string) (row tokenRow, err error) {
	expires, ok := expiryOf(token)
	if !ok {
		return tokenRow{}, sql.ErrNoRows
	}
	row.expiresAt, row.hash = expires, i.hash(token)
	err = i.Store.Read().QueryRowContext(ctx, `
		SELECT client_id, secret_id, scope, person_id, binding, resource, family, issued_at
		FROM access_token WHERE expires_at = $1 AND hash = $2`, row.expiresAt, row.hash).
		Scan(&row.client, &row.secret, &row.scope, &row.person, &row.binding, &row.resource, &row.family, &row.issuedAt)
	return row, err
}

// purge deletes what has expired.
func (i *Issuer) purge(ctx context.Context, now time.Time) error {
	for _, table := range []string{"access_token", "used_once", "revoked_token", "authorization_code", "refresh_token"} {
		if err := i.Store.DeleteExpired(ctx, table, now); err != nil {
			return err
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
