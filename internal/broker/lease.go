package broker

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/tokencache"
)

// A replica that fetches holds a lease of leaseLife and renews it every leaseBeat. One that
// was killed is replaced when the lease has run out; the others look every leasePoll.
const (
	leaseLife = 4 * time.Second
	leaseBeat = time.Second
	leasePoll = 50 * time.Millisecond
)

// lending is the lease on a row of the token table. A lending without holder is of a
// database that is away, or of a row that nobody competes for.
type lending struct {
	b      *Broker
	key    string
	holder string
	end    func()           // stops the renewals; nil-safe through acquire
	values connector.Values // to ask with
	seen   outcome          // of the last fetch, when the lease was found free
}

// outcome is what tells one outcome in a row of the token table from the next one.
type outcome struct {
	fingerprint    string
	expires, retry int64 // Unix milliseconds
}

func rowKey(k cacheKey) string {
	sum := sha256.Sum256([]byte(k.variant))
	return fmt.Sprintf("%s/%d/%s", k.id, k.version, base64.RawURLEncoding.EncodeToString(sum[:12]))
}

// acquire returns a token that another replica stored, or the lease to fetch one. The error
// is a failure that another replica had and that still holds.
func (b *Broker) acquire(ctx context.Context, h *head, rec *record, key cacheKey, want tokencache.Want) (*lending, *grant.Token, error) {
	l := &lending{b: b, key: rowKey(key), holder: b.replica, end: func() {}}
	for {
		t, free, err := b.look(ctx, h, rec, l, key.variant, want)
		if shared := new(*grant.Error); t != nil || errors.As(err, shared) {
			return l, t, err
		}
		if free || err != nil { // it is up to this replica, if the secrets are there
			var noSecret error
			if l.values, noSecret = b.open(ctx, h, rec, key.variant); noSecret != nil {
				return l, nil, noSecret
			}
		}
		if free {
			if free, err = l.take(ctx, h); err == nil && free {
				return l, nil, nil
			}
		}
		if err != nil {
			if ctx.Err() != nil {
				return l, nil, context.Cause(ctx)
			}
			b.databaseAway(err)
			l.holder = ""
			return l, nil, nil
		}
		select {
		case <-ctx.Done():
			return l, nil, context.Cause(ctx)
		case <-time.After(leasePoll):
		}
	}
}

// look reads the row of a key: a token that will do, a failure that still holds, or whether
// the lease is free. It leaves in l what take has to find unchanged.
func (b *Broker) look(ctx context.Context, h *head, rec *record, l *lending, variant string, want tokencache.Want) (t *grant.Token, free bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	var sealed []byte
	var fingerprint, failure string
	var expires, leased, retry int64
	err = b.Store.Read().QueryRowContext(ctx, `SELECT sealed, fingerprint, expires_at, lease_until, failure, retry_at FROM token WHERE cache_key = $1`, l.key).
		Scan(&sealed, &fingerprint, &expires, &leased, &failure, &retry)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, false, fmt.Errorf("look up token: %w", err)
	}
	b.databaseBack()
	l.seen = outcome{fingerprint, expires, retry}
	if err != nil {
		return nil, true, nil
	}
	now := time.Now()
	if sealed != nil && fingerprint != want.Replace && expires > now.UnixMilli() {
		t, err := b.openToken(l.key, sealed)
		if err == nil {
			err = b.bind(ctx, h, rec, variant, t)
		}
		if err != nil { // as good as no token: the new one replaces it
			b.Log.Warn("a stored token cannot be used", "credential", h.name, "error", err)
		} else if left := t.ExpiresAt.Sub(now); left >= min(want.MinLifetime, t.Lifetime()/2) {
			return t, false, nil
		}
	}
	if failure != "" && retry > now.UnixMilli() {
		return nil, false, decodeFailure(failure, fromMillis(retry))
	}
	return nil, leased <= now.UnixMilli(), nil
}

// bind gives a stored token its DPoP key, which is stored with the credential.
func (b *Broker) bind(ctx context.Context, h *head, rec *record, variant string, t *grant.Token) error {
	if rec.inputs["dpop"].Text != "true" {
		return nil
	}
	values, err := b.open(ctx, h, rec, variant)
	if err != nil {
		return err
	}
	t.DPoP, err = grant.ParseDPoPKey([]byte(values.Secrets["dpop_key"]))
	return err
}

// take tries to get the lease, and keeps it alive until end. It gets none when another
// replica had the lease, and an outcome, since look.
func (l *lending) take(ctx context.Context, h *head) (bool, error) {
	now := time.Now()
	var one int
	err := l.b.write(ctx, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRowContext(ctx, `
			INSERT INTO token (cache_key, credential_id, fingerprint, expires_at, holder, lease_until, failure, retry_at)
			VALUES ($1, $2, '', 0, $3, $4, '', 0)
			ON CONFLICT (cache_key) DO UPDATE SET holder = $3, lease_until = $4
				WHERE token.lease_until <= $5 AND token.fingerprint = $6 AND token.expires_at = $7 AND token.retry_at = $8
			RETURNING 1`, l.key, h.id, l.holder, now.Add(leaseLife).UnixMilli(), now.UnixMilli(),
			l.seen.fingerprint, l.seen.expires, l.seen.retry).Scan(&one)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lease token: %w", err)
	}
	beat, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.end = stop
	l.b.background.Go(func() { l.keepAlive(beat) })
	return true, nil
}

func (l *lending) keepAlive(ctx context.Context) {
	tick := time.NewTicker(leaseBeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A beat that is lost costs nothing: the next one comes before the lease runs out.
		_ = l.b.write(ctx, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE token SET lease_until = $3 WHERE cache_key = $1 AND holder = $2 AND lease_until > 0`,
				l.key, l.holder, time.Now().Add(leaseLife).UnixMilli())
			return err
		})
	}
}

// release gives the lease back without an outcome.
func (l *lending) release(ctx context.Context) {
	if l.holder == "" {
		return
	}
	err := l.b.write(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE token SET holder = '', lease_until = 0 WHERE cache_key = $1 AND holder = $2`, l.key, l.holder)
		return err
	})
	if err != nil { // then it runs out
		l.b.Log.Warn("a lease was not given back", "error", err)
	}
}

// storeToken shares t with the other replicas and with this one after a restart. A token
// that cannot be stored is as good as any, so the error ends in the log.
func (b *Broker) storeToken(ctx context.Context, h *head, l *lending, t *grant.Token) {
	stored := storedToken{Token: t, Access: string(t.AccessToken), Kept: map[string]string{}}
	for name, value := range t.Kept {
		stored.Kept[name] = string(value)
	}
	plain, err := json.Marshal(stored)
	if err == nil {
		plain, err = b.Sealer.Seal(tokenPlace(l.key), plain)
	}
	if err != nil {
		b.Log.Error("token not stored", "credential", h.name, "error", err)
		return
	}
	now := time.Now()
	err = b.write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO token (cache_key, credential_id, sealed, fingerprint, expires_at, holder, lease_until, failure, retry_at)
			VALUES ($1, $2, $3, $4, $5, '', 0, '', 0)
			ON CONFLICT (cache_key) DO UPDATE SET sealed = $3, fingerprint = $4, expires_at = $5, holder = '', lease_until = 0, failure = '', retry_at = 0`,
			l.key, h.id, plain, t.Fingerprint(), t.ExpiresAt.UnixMilli()); err != nil {
			return err
		}
		return errors.Join(b.noteSuccess(ctx, tx, h, now), b.noteFetch(ctx, tx, h, "", now))
	})
	b.stored(h, err)
}

// storeFailure shares a failure with the other replicas, so that they do not try as well.
// While one of them is trying, its outcome counts and not this one.
func (b *Broker) storeFailure(ctx context.Context, h *head, l *lending, cause error) {
	now := time.Now()
	f, retry := describe(cause, now)
	shown, err := json.Marshal(f)
	shared, sharedErr := encodeFailure(f, cause)
	if err = errors.Join(err, sharedErr); err != nil {
		b.Log.Error("failure not stored", "credential", h.name, "error", err)
		return
	}
	err = b.write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE token SET holder = '', lease_until = 0, failure = $2, retry_at = $3
			WHERE cache_key = $1 AND (holder = $4 OR lease_until <= $5)`,
			l.key, string(shared), retry.UnixMilli(), l.holder, now.UnixMilli()); err != nil {
			return err
		}
		if err := b.noteFetch(ctx, tx, h, string(shown), now); err != nil || !blames(h, l, cause) {
			return err
		}
		return b.noteFailure(ctx, tx, h, string(shown), retry)
	})
	b.stored(h, err)
}

func (b *Broker) stored(h *head, err error) {
	switch {
	case err == nil:
		b.databaseBack()
	case b.heads.get(h.id) != nil: // else it was deleted meanwhile
		b.databaseAway(fmt.Errorf("store the outcome of a token request for credential %s: %w", h.name, err))
	}
}

// write is a transaction that is given up when the database hangs.
func (b *Broker) write(ctx context.Context, f func(context.Context, *store.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	return b.Store.Write(ctx, func(tx *store.Tx) error { return f(ctx, tx) })
}

// databaseAway and databaseBack raise and end the alarm that replicas fetch without each other.
func (b *Broker) databaseAway(err error) {
	if !b.away.Swap(true) {
		b.Log.Error("the database is away: tokens in memory are served, each replica asks the providers for itself", "error", err)
	}
}

func (b *Broker) databaseBack() {
	if b.away.Load() && b.away.Swap(false) {
		b.Log.Info("the database is back")
	}
}

// storedToken is the sealed form of a token.
type storedToken struct {
	*grant.Token
	Access string            `json:"access_token"`
	Kept   map[string]string `json:"kept,omitempty"`
}

func tokenPlace(row string) seal.Place {
	return seal.Place{Table: "token", Row: row, Column: "sealed"}
}

func (b *Broker) openToken(row string, sealed []byte) (*grant.Token, error) {
	plain, err := b.Sealer.Open(tokenPlace(row), sealed)
	if err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	var s storedToken
	if err := json.Unmarshal(plain, &s); err != nil {
		return nil, fmt.Errorf("stored token: %w", err)
	}
	s.AccessToken = grant.Secret(s.Access)
	for name, value := range s.Kept {
		if s.Token.Kept == nil {
			s.Token.Kept = map[string]grant.Secret{}
		}
		s.Token.Kept[name] = grant.Secret(value)
	}
	return s.Token, nil
}
