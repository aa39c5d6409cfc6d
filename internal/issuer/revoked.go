package issuer

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// topicToken is the topic of what is revoked before it expires. Its keys are until when that is kept, in Unix
// milliseconds, a space, and the id of a token, or familyPrefix and what all tokens have in common
// that come from one consent.
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
func (i *Issuer) tokenRevoked(ctx context.Context, key string) error {
	if key != "" {
		until, name, _ := strings.Cut(key, " ")
		kept, err := strconv.ParseInt(until, 10, 64)
		i.revoked.m.Store(name, kept)
		return err
	}
	err := store.Each(ctx, i.Store.Read(), func(rows *sql.Rows) error {
		var name string
		var kept int64
		err := rows.Scan(&name, &kept)
		i.revoked.m.Store(name, kept)
		return err
	}, `SELECT jti, expires_at FROM revoked_token`)
	if err != nil {
		return fmt.Errorf("revoked tokens: %w", err)
	}
	return nil
}

// revokeSession ends one token, on all replicas.
func (i *Issuer) revokeSession(ctx context.Context, s *session) error {
	var key string
	err := i.Store.Write(ctx, func(tx *store.Tx) (err error) {
		key, err = revokeName(ctx, tx, s.jti, s.expiresAt)
		return err
	})
	if err != nil {
		return err
	}
	return i.tokenRevoked(ctx, key)
}

// revokeName ends what has a name and expires then, in Unix milliseconds. It returns the key for tokenRevoked.
func revokeName(ctx context.Context, tx *store.Tx, name string, expires int64) (key string, err error) {
	kept := expires + time.Hour.Milliseconds() // clocks differ, and a token of a family may be issued at this moment
	_, err = tx.ExecContext(ctx, `INSERT INTO revoked_token (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, kept)
	key = strconv.FormatInt(kept, 10) + " " + name
	tx.Changed(topicToken, key)
	return key, err
}

// revokeFamily ends the refresh tokens that come from one consent, and the access tokens they gave. It returns
// the key for tokenRevoked.
func (i *Issuer) revokeFamily(ctx context.Context, tx *store.Tx, family string) (key string, err error) {
	if err := deleteRefresh(ctx, tx, `family = $1`, family); err != nil {
		return "", err
	}
	return revokeName(ctx, tx, familyPrefix+family, time.Now().UnixMilli()+maxTokenSeconds*1000)
}
