package issuer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
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

// issue makes a token for c, whose secret has this id. It returns errRefused when the client
// or the secret is no longer good.
func (i *Issuer) issue(ctx context.Context, c *client, secretID string, only access.Permissions) (grant.Secret, time.Duration, error) {
	e := i.clients.entry(c.ID)
	text := newSecret(tokenPrefix)
	now := time.Now()
	lifetime := e.lifetime(c)
	row := tokenRow{
		hash: i.hash(text), client: c.ID, secret: secretID, scope: only.String(),
		issuedAt: now.UnixMilli(), expiresAt: now.Add(lifetime).UnixMilli(),
	}
	if err := i.tokens.add(ctx, row); err != nil {
		return "", 0, err
	}
	e.live.Add(1)
	e.issued.Add(1)
	i.usage.issued(c.ID, secretID, now)
	i.sessions.put(sessionKeyOf(text), &session{entry: e, only: only, expiresAt: row.expiresAt})
	return grant.Secret(text), lifetime, nil
}

// tokenRow is a row of access_token. Times are in Unix milliseconds.
type tokenRow struct {
	hash, client, secret, scope string
	issuedAt, expiresAt         int64
}

// ledger writes issued tokens into the database. A token is durable when add returns; to
// make that cheap, all tokens that wait are written in one transaction.
type ledger struct {
	store   *store.Store
	waiting chan *waitingToken
	insert  [manyRows + 1]string // SQL that inserts so many rows
}

type waitingToken struct {
	tokenRow
	done chan error // buffered
}

// maxBatch bounds how many tokens are written in one transaction, manyRows is how many by one
// statement: with PostgreSQL each statement is a round trip.
const (
	maxBatch = 256
	manyRows = 32
)

// errRefused means that the client or its secret has been deleted or turned off.
var errRefused = errors.New("the client or its secret is no longer good")

func (l *ledger) init(s *store.Store) {
	l.store = s
	l.waiting = make(chan *waitingToken, maxBatch)
	for n := 1; n <= manyRows; n++ {
		l.insert[n] = insertTokens(n)
	}
}

// add writes one row, and returns when it is durable.
func (l *ledger) add(ctx context.Context, row tokenRow) error {
	w := &waitingToken{tokenRow: row, done: make(chan error, 1)}
	select {
	case l.waiting <- w:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes rows until ctx ends.
func (l *ledger) run(ctx context.Context) {
	for {
		var batch []*waitingToken
		select {
		case <-ctx.Done():
			return
		case w := <-l.waiting:
			batch = append(batch, w)
		}
	gather:
		for len(batch) < maxBatch {
			select {
			case w := <-l.waiting:
				batch = append(batch, w)
			default:
				break gather
			}
		}
		l.write(ctx, batch)
	}
}

// write writes batch in one transaction, and tells those who wait. On PostgreSQL a client
// that is deleted at the same moment breaks the transaction off; in the next attempt it
// is gone, and only its own tokens are refused.
func (l *ledger) write(ctx context.Context, batch []*waitingToken) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var written map[string]bool // hashes
	var err error
	for range 3 {
		err = l.store.Write(ctx, func(tx *store.Tx) error {
			written = make(map[string]bool, len(batch))
			for rows := range slices.Chunk(batch, manyRows) {
				if err := l.writeRows(ctx, tx, rows, written); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			break
		}
	}
	for _, w := range batch {
		if err == nil && !written[w.hash] {
			w.done <- errRefused
		} else {
			w.done <- err
		}
	}
}

func (l *ledger) writeRows(ctx context.Context, tx *store.Tx, rows []*waitingToken, written map[string]bool) error {
	args := make([]any, 0, len(rows)*5)
	for _, w := range rows {
		args = append(args, w.hash, w.secret, w.scope, w.issuedAt, w.expiresAt)
	}
	return store.Each(ctx, tx, func(row *sql.Rows) error {
		var hash string
		err := row.Scan(&hash)
		written[hash] = true
		return err
	}, l.insert[len(rows)], args...)
}

// insertTokens is the SQL that inserts n rows and returns the hashes of those that it inserted. It
// looks at the secret and the client once more: memory may be a moment behind, and a
// secret that was taken away must not give one more token.
func insertTokens(n int) string {
	var rows strings.Builder
	for p := 1; p <= n*5; p += 5 {
		if p > 1 {
			rows.WriteString(", ")
		}
		fmt.Fprintf(&rows, "(CAST($%d AS TEXT), CAST($%d AS TEXT), CAST($%d AS TEXT), CAST($%d AS BIGINT), CAST($%d AS BIGINT))", p, p+1, p+2, p+3, p+4)
	}
	return `
		INSERT INTO access_token (hash, client_id, secret_id, scope, issued_at, expires_at)
		SELECT v.column1, c.id, s.id, v.column3, v.column4, v.column5
		FROM (VALUES ` + rows.String() + `) AS v
		JOIN client_secret s ON s.id = v.column2 AND (s.expires_at = 0 OR s.expires_at > v.column4)
		JOIN client c ON c.id = s.client_id AND c.active
		RETURNING hash`
}

// find reads the row of a token; sql.ErrNoRows means that there is no such token.
func (l *ledger) find(ctx context.Context, hash string) (row tokenRow, err error) {
	row.hash = hash
	err = l.store.Read().QueryRowContext(ctx,
		`SELECT client_id, secret_id, scope, issued_at, expires_at FROM access_token WHERE hash = $1`, hash).
		Scan(&row.client, &row.secret, &row.scope, &row.issuedAt, &row.expiresAt)
	return row, err
}

// purge deletes the rows of tokens that have expired, some at a time so that others get their turn.
func (l *ledger) purge(ctx context.Context, now time.Time) error {
	const some = 5000
	for {
		var deleted int64
		err := l.store.Write(ctx, func(tx *store.Tx) error {
			r, err := tx.ExecContext(ctx, `
				DELETE FROM access_token
				WHERE hash IN (SELECT hash FROM access_token WHERE expires_at <= $1 LIMIT $2)`, now.UnixMilli(), some)
			if err != nil {
				return err
			}
			deleted, err = r.RowsAffected()
			return err
		})
		if err != nil || deleted < some {
			return err
		}
	}
}
