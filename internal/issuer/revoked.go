package issuer

import (
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// topicToken is the topic of tokens that were revoked. Its keys are "jti " and the id of a JWT,
// "key " and the session key of an opaque token, "family " and that of refresh tokens, or
// "client " and its id.
const topicToken = "token"

const familyPrefix = "family " // of what is revoked in place of a jti

// revoked are the JWTs, and families of them, that were revoked and have not expired: a JWT is good by itself, so each
// replica holds all of those that are not.
type revoked struct{ m sync.Map } // jti → expiry in Unix milliseconds

func (r *revoked) has(jti string) bool {
	_, there := r.m.Load(jti)
	return there
}

func (r *revoked) expire(now time.Time) {
	r.m.Range(func(jti, expires any) bool {
		if expires.(int64) <= now.UnixMilli() {
			r.m.Delete(jti)
		}
		return true
	})
}

// tokenRevoked hears of a token that was revoked, or, with "", reads all again.
func (i *Issuer) tokenRevoked(ctx context.Context, key string) error {
	kind, rest, _ := strings.Cut(key, " ")
	switch kind {
	case "jti":
		i.revoked.m.Store(rest, time.Now().UnixMilli()+maxTokenSeconds*1000)
		return nil
	case "key":
		if sum, err := base64.RawURLEncoding.DecodeString(rest); err == nil && len(sum) == len(sessionKey{}) {
			i.sessions.remove(sessionKey(sum))
		}
		return nil
	case "client":
		i.sessions.drop(func(s *session) bool { return s.entry.state.Load().ID == rest })
		return nil
	case "family":
		i.revoked.m.Store(key, time.Now().UnixMilli()+maxTokenSeconds*1000)
		i.sessions.drop(func(s *session) bool { return s.family == rest })
		return nil
	}
	err := store.Each(ctx, i.Store.Read(), func(rows *sql.Rows) error {
		var jti string
		var expires int64
		err := rows.Scan(&jti, &expires)
		i.revoked.m.Store(jti, expires)
		return err
	}, `SELECT jti, expires_at FROM revoked_token`)
	if err != nil {
		return fmt.Errorf("revoked tokens: %w", err)
	}
	i.sessions.drop(func(s *session) bool { // of those without jti any may be, and the rows tell
		return s.jti == "" || s.family != "" && i.revoked.has(familyPrefix+s.family)
	})
	return nil
}

// revokeSession ends one token, on all replicas.
func (i *Issuer) revokeSession(ctx context.Context, key sessionKey, token string, s *session) error {
	notice := "key " + base64.RawURLEncoding.EncodeToString(key[:])
	if s.jti != "" {
		notice = "jti " + s.jti
	}
	err := i.Store.Write(ctx, func(tx *store.Tx) (err error) {
		if s.jti != "" {
			_, err = tx.ExecContext(ctx, `INSERT INTO revoked_token (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, s.jti, s.expiresAt)
		} else {
			_, err = tx.ExecContext(ctx, `DELETE FROM access_token WHERE expires_at = $1 AND hash = $2`, s.expiresAt, i.hash(token))
		}
		tx.Changed(topicToken, notice)
		return err
	})
	if err != nil {
		return err
	}
	return i.tokenRevoked(ctx, notice)
}

// revokeFamily ends the refresh tokens that come from one consent, and the access tokens they gave.
func (i *Issuer) revokeFamily(ctx context.Context, tx *store.Tx, family string) error {
	for _, table := range []string{"access_token", "refresh_token"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE family = $1`, family); err != nil {
			return err
		}
	}
	tx.Changed(topicToken, familyPrefix+family)
	_, err := tx.ExecContext(ctx, `INSERT INTO revoked_token (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, // JWTs have no rows
		familyPrefix+family, time.Now().UnixMilli()+maxTokenSeconds*1000)
	return err
}
