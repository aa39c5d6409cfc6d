package issuer

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// topicToken is the topic of what is revoked before it expires. Its keys are the ids of tokens, or familyPrefix
// and what all tokens have in common that come from one consent.
const topicToken = "token"

const familyPrefix = "family "

// revoked is what was revoked and has not expired. A token is good by itself, so each replica holds
// all of it.
type revoked struct{ m sync.Map } // string → expiry in Unix milliseconds

func (r *revoked) has(name any) bool {
	_, there := r.m.Load(name)
	return there
}

func (r *revoked) expire(now time.Time) {
	r.m.Range(func(name, expires any) bool {
		if expires.(int64) <= now.UnixMilli() {
			r.m.Delete(name)
		}
		return true
	})
}

// tokenRevoked hears of what was revoked, or, with "", reads all again.
func (i *Issuer) tokenRevoked(ctx context.Context, name string) error {
	if name != "" {
		i.revoked.m.Store(name, time.Now().UnixMilli()+maxTokenSeconds*1000)
		return nil
	}
	err := store.Each(ctx, i.Store.Read(), func(rows *sql.Rows) error {
		var name string
		var expires int64
		err := rows.Scan(&name, &expires)
		i.revoked.m.Store(name, expires)
		return err
	}, `SELECT jti, expires_at FROM revoked_token`)
	if err != nil {
		return fmt.Errorf("revoked tokens: %w", err)
	}
	return nil
}

// revokeSession ends one token, on all replicas.
func (i *Issuer) revokeSession(ctx context.Context, s *session) error {
	err := i.Store.Write(ctx, func(tx *store.Tx) error { return revokeNamed(ctx, tx, s.jti, s.expiresAt) })
	if err != nil {
		return err
	}
	return i.tokenRevoked(ctx, s.jti)
}

func revokeNamed(ctx context.Context, tx *store.Tx, name string, expires int64) error {
	tx.Changed(topicToken, name)
	_, err := tx.ExecContext(ctx, `INSERT INTO revoked_token (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, expires)
	return err
}

// revokeFamily ends the refresh tokens that come from one consent, and the access tokens they gave.
func (i *Issuer) revokeFamily(ctx context.Context, tx *store.Tx, family string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM refresh_token WHERE family = $1`, family); err != nil {
		return err
	}
	return revokeNamed(ctx, tx, familyPrefix+family, time.Now().UnixMilli()+maxTokenSeconds*1000)
}
