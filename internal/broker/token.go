package broker

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/tokencache"
)

const (
	providerTimeout = 30 * time.Second // for one exchange with a token endpoint
	fetchTimeout    = 2 * time.Minute  // for a fetch with all its tries, waiting for other replicas among them
	databaseTimeout = 3 * time.Second  // past it, a fetch goes on without the database

	// A replica that fetches holds a lease of leaseLife and renews it every leaseBeat. One that
	// was killed is replaced when the lease has run out; the others look every leasePoll.
	leaseLife = 4 * time.Second
	leaseBeat = time.Second
	leasePoll = 50 * time.Millisecond

	maxMinLifetime = 86400 // seconds
)

// errSuperseded ends a fetch for a version of a credential that is no longer current.
var errSuperseded = errors.New("the credential was changed")

// Token returns a token that is valid now, for a caller who may use the credential. Served
// from memory, it touches no database, no disk and no lock. The error is a *grantway.Error:
// TokenRefused when the provider said no and will go on saying so, Unavailable when trying
// again later may help.
func (b *Broker) Token(ctx context.Context, who access.Caller, ref grantway.Ref) (*grant.Token, error) {
	h, err := b.find(ctx, who, ref.Credential, access.UseCredential)
	if err != nil {
		return nil, err
	}
	variant, err := variantOf(ref)
	if err != nil {
		return nil, err
	}
	t, err := b.current(ctx, h, variant, ref.MinLifetime.Duration())
	for try := 0; try < 3 && errors.Is(err, errSuperseded); try++ { // somebody saved it meanwhile
		if h, err = b.find(ctx, who, ref.Credential, access.UseCredential); err != nil {
			return nil, err
		}
		t, err = b.current(ctx, h, variant, ref.MinLifetime.Duration())
	}
	if err != nil {
		return nil, tokenError(h, err)
	}
	h.usage.reads.Add(1)
	b.Reads.Count(who.ID, h.id)
	return t, nil
}

func (b *Broker) current(ctx context.Context, h *head, variant string, minLifetime time.Duration) (*grant.Token, error) {
	key := cacheKey{h.id, h.version, variant}
	t, err := b.cache.Token(ctx, key, minLifetime)
	switch {
	case err == nil:
	case errors.As(err, new(*secretError)):
		// Nobody was asked for a token, so there is nothing to be patient about: the next
		// call looks into the secret store again.
		b.cache.Drop(key, "")
	case b.rotated(ctx, h, variant):
		if err := b.endBackOff(ctx, h); err != nil {
			b.databaseAway(err)
		}
		return b.cache.Token(ctx, key, minLifetime)
	}
	return t, err
}

// variantOf is what ref overrides, as part of a cache key.
func variantOf(ref grantway.Ref) (string, error) {
	if ref.MinLifetime < 0 || ref.MinLifetime > maxMinLifetime {
		return "", refError("/min_lifetime_seconds", fmt.Sprintf("must be from 0 to %d", maxMinLifetime))
	}
	if ref.Scope == "" && ref.Audience == "" && ref.Resource == "" {
		return "", nil
	}
	scope, err := grant.NormalizeScope(ref.Scope)
	if err != nil {
		return "", refError("/scope", err.Error())
	}
	if strings.ContainsFunc(ref.Audience, unicode.IsControl) {
		return "", refError("/audience", "must not contain control characters")
	}
	if ref.Resource != "" {
		if err := grant.CheckResource(ref.Resource); err != nil {
			return "", refError("/resource", err.Error())
		}
	}
	if len(scope)+len(ref.Audience)+len(ref.Resource) > 8192 {
		return "", refError("/scope", "with audience and resource must be at most 8,192 bytes")
	}
	text, err := json.Marshal(grantway.Ref{Scope: scope, Audience: ref.Audience, Resource: ref.Resource})
	return string(text), err
}

func refError(pointer, detail string) error {
	return &grantway.Error{Code: grantway.Invalid, Message: "the token request is wrong", Fields: []grantway.Field{{Pointer: pointer, Detail: detail}}}
}

// Invalidate forgets a token on every replica, because an API refused it; a newer one is
// kept. Without fingerprint it forgets whatever there is and ends a back-off: renew now.
func (b *Broker) Invalidate(ctx context.Context, who access.Caller, ref, fingerprint string) error {
	h, err := b.find(ctx, who, ref, access.UseCredential)
	if err != nil {
		return err
	}
	if sum, err := base64.RawURLEncoding.DecodeString(fingerprint); fingerprint != "" && (err != nil || len(sum) != sha256.Size) {
		return refError("/fingerprint", "is not the fingerprint of a token")
	}
	return b.drop(ctx, h, fingerprint)
}

func (b *Broker) drop(ctx context.Context, h *head, fingerprint string) error {
	err := b.Store.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			UPDATE token SET sealed = NULL, fingerprint = '', expires_at = 0, failure = '', retry_at = 0
			WHERE credential_id = $1 AND ($2 = '' OR fingerprint = $2)`, h.id, fingerprint); err != nil {
			return fmt.Errorf("forget token of credential %s: %w", h.name, err)
		}
		tx.Changed(topicToken, h.id+" "+fingerprint+" "+b.replica)
		return nil
	})
	b.dropInMemory(h.id, fingerprint) // also when the database is away
	return err
}

func (b *Broker) dropInMemory(id, fingerprint string) {
	for key := range b.cache.All() {
		if key.id == id {
			b.cache.Drop(key, fingerprint)
		}
	}
}

// endBackOff lets every replica ask again for what could not be had of a credential,
// because whatever was wrong has been put right.
func (b *Broker) endBackOff(ctx context.Context, h *head) error {
	b.endBackOffInMemory(h.id)
	return b.write(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE token SET failure = '', retry_at = 0 WHERE credential_id = $1 AND failure <> ''`, h.id); err != nil {
			return fmt.Errorf("end the back-off of credential %s: %w", h.name, err)
		}
		tx.Changed(topicRepaired, h.id+" "+b.replica)
		return nil
	})
}

// endBackOffInMemory is endBackOff for this replica; "" is all credentials.
func (b *Broker) endBackOffInMemory(id string) {
	for key, state := range b.cache.All() {
		if (id == "" || key.id == id) && state.Failure != nil && state.Token == nil {
			b.cache.Drop(key, "")
		}
	}
}

// fetch gets a new token: from the table if another replica was faster, else from the provider.
//
//	look at the row ──a usable token, or a failure that still holds──▶ done
//	  │        ▲
//	  │ free   │ leased by another replica: wait
//	  ▼        │
//	take the lease ──▶ ask the provider ──▶ store token or failure, free the lease
//
// Without a database every replica asks for itself.
func (b *Broker) fetch(ctx context.Context, key cacheKey, want tokencache.Want) (*grant.Token, error) {
	h := b.heads.get(key.id)
	if h == nil || h.version != key.version {
		return nil, errSuperseded
	}
	defer func() { h.usage.waits.Add(int64(b.cache.Peek(key).Waiters)) }()
	rec, err := b.recordOf(ctx, h)
	if err != nil {
		return nil, err
	}
	lease, t, err := b.acquire(ctx, h, rec, key, want)
	if (errors.As(err, new(*secretError)) || errors.As(err, new(*sealError))) && !h.unresolved.Swap(true) {
		b.Log.Warn("no token", "credential", h.name, "error", err)
		b.storeFailure(ctx, h, lease, err)
	}
	if t != nil || err != nil {
		return t, err
	}
	defer lease.end()
	h.unresolved.Store(false)
	began := time.Now()
	ctx, span := b.Tracer.Start(ctx, "fetch token", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("credential", h.name)))
	defer span.End()
	t, promote, err := b.ask(ctx, h, lease.values)
	stored := context.WithoutCancel(ctx) // an outcome is of use to others after a stop
	if err != nil && ctx.Err() != nil {
		lease.release(stored)
		return nil, err
	}
	h.usage.count(err)
	if err != nil {
		span.SetStatus(codes.Error, string(classOf(err)))
		b.Log.Warn("no token", "credential", h.name, "error", err, "took", time.Since(began))
		b.storeFailure(stored, h, lease, err)
		return nil, err
	}
	if promote {
		if renewed, err := b.promote(stored, access.Hub(), h); err != nil {
			b.Log.Error("the next client secret works, but was not promoted", "credential", h.name, "error", err)
		} else {
			key.version = renewed.version
			h, lease = renewed, &lending{b: b, key: rowKey(key)}
			b.cache.Put(key, t)
		}
	}
	b.storeToken(stored, h, lease, t)
	return t, nil
}

// recordOf returns what is needed to ask for a token, from memory if it was needed before.
func (b *Broker) recordOf(ctx context.Context, h *head) (*record, error) {
	if r := h.record.Load(); r != nil {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	c, r, err := b.read(ctx, h.id)
	if err != nil {
		var e *grantway.Error
		if !errors.As(err, &e) {
			b.databaseAway(err)
			return nil, &grantway.Error{Code: grantway.Unavailable, Message: "the database is not reachable and this token is not in memory", Err: err}
		}
	}
	if c.Version != h.version { // or it is gone
		if err := b.credentialChanged(ctx, h.id); err != nil {
			return nil, err
		}
		return nil, errSuperseded
	}
	h.record.Store(r)
	return r, nil
}

// ask makes the token request. When the provider refuses the client, the next secret is
// tried; promote says that it works.
func (b *Broker) ask(ctx context.Context, h *head, values connector.Values) (t *grant.Token, promote bool, err error) {
	t, err = b.askOnce(ctx, h, values)
	var refused *grant.Error
	if !errors.As(err, &refused) || refused.Code != "invalid_client" {
		return t, false, err
	}
	if next := values.Secrets["next_client_secret"]; next != "" {
		retry := values
		retry.Secrets = maps.Clone(values.Secrets)
		retry.Secrets["client_secret"] = next
		if t, nextErr := b.askOnce(ctx, h, retry); nextErr == nil {
			return t, true, nil
		}
	}
	h.refused.Store(new(digestOf(values)))
	return nil, false, err
}

// digestOf tells whether secrets are still the same. It stays in memory.
func digestOf(v connector.Values) (sum [sha256.Size]byte) {
	hash := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(v.Secrets)) {
		fmt.Fprintf(hash, "%s %d %s", key, len(v.Secrets[key]), string(v.Secrets[key]))
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// rotated tells whether a secret store holds something else by now than what the provider
// refused. Then there is no reason to wait.
func (b *Broker) rotated(ctx context.Context, h *head, variant string) bool {
	refused, rec := h.refused.Load(), h.record.Load()
	if refused == nil || rec == nil || !rec.external() {
		return false
	}
	values, err := b.values(ctx, h.id, rec, variant)
	return err == nil && digestOf(values) != *refused && h.refused.CompareAndSwap(refused, nil)
}

func (b *Broker) askOnce(ctx context.Context, h *head, values connector.Values) (*grant.Token, error) {
	def, err := definition(h.connector)
	if err != nil {
		return nil, err
	}
	request, err := def.Compile(values)
	if err != nil {
		return nil, &grant.Error{Stage: grant.StagePrepare, Class: grant.Permanent, Message: err.Error(), Err: err}
	}
	return b.provider.Token(ctx, request)
}

// secretError is a secret that could not be resolved, so no token was asked for.
type secretError struct {
	input string
	err   error
}

func (e *secretError) Error() string { return e.input + ": " + e.err.Error() }
func (e *secretError) Unwrap() error { return e.err }

// sealError is a stored secret that does not open.
type sealError struct {
	input string
	err   error
}

func (e *sealError) Error() string { return "open " + e.input + ": " + e.err.Error() }
func (e *sealError) Unwrap() error { return e.err }

// open opens and resolves the secrets of a credential, reading its record again when the data
// key was rotated since that was read.
func (b *Broker) open(ctx context.Context, h *head, rec *record, variant string) (connector.Values, error) {
	values, err := b.values(ctx, h.id, rec, variant)
	if errors.As(err, new(*sealError)) {
		h.record.Store(nil)
		if rec, err = b.recordOf(ctx, h); err == nil {
			values, err = b.values(ctx, h.id, rec, variant)
		}
	}
	return values, err
}

// values opens and resolves the secrets of a credential and applies what a Ref overrides.
func (b *Broker) values(ctx context.Context, id string, rec *record, variant string) (connector.Values, error) {
	v := connector.Values{Plain: make(map[string]grantway.Value, len(rec.inputs)), Secrets: map[string]grant.Secret{}}
	for key, value := range rec.inputs {
		v.Plain[key] = value
		if value.Ref == nil {
			continue
		}
		resolved, err := b.Secrets.Resolve(ctx, *value.Ref)
		if err != nil && key != "next_client_secret" {
			return v, &secretError{key, err}
		}
		v.Secrets[key] = resolved
	}
	for key, sealed := range rec.sealed {
		plain, err := b.Sealer.Open(secretPlace(id, key), sealed)
		if err != nil {
			return v, &sealError{key, err}
		}
		v.Secrets[key] = grant.Secret(plain)
	}
	if variant == "" {
		return v, nil
	}
	var ref grantway.Ref
	if err := json.Unmarshal([]byte(variant), &ref); err != nil {
		return v, fmt.Errorf("token variant: %w", err)
	}
	for key, text := range map[string]string{"scopes": ref.Scope, "audience": ref.Audience, "resource": ref.Resource} {
		if text != "" {
			v.Plain[key] = grantway.Text(text)
		}
	}
	return v, nil
}

// promote makes the next client secret the current one.
func (b *Broker) promote(ctx context.Context, who access.Caller, h *head) (*head, error) {
	c, rec, err := b.read(ctx, h.id)
	if err != nil {
		return nil, err
	}
	if c.Version != h.version {
		return nil, errSuperseded
	}
	c.Inputs["client_secret"] = c.Inputs["next_client_secret"]
	if sealed, ok := rec.sealed["next_client_secret"]; ok {
		plain, err := b.Sealer.Open(secretPlace(h.id, "next_client_secret"), sealed)
		if err != nil {
			return nil, fmt.Errorf("open next_client_secret: %w", err)
		}
		c.Inputs["client_secret"] = grantway.Text(string(plain))
	}
	c.Inputs["next_client_secret"] = grantway.Value{}
	delete(c.Inputs, "client_secret_expires_at") // that was the old one's
	if _, err := b.Save(ctx, who, c); err != nil {
		return nil, err
	}
	if renewed := b.heads.get(h.id); renewed != nil {
		return renewed, nil
	}
	return nil, errSuperseded
}

// lending is the lease on a row of the token table. A lending without holder is of a
// database that is away, or of a row that nobody competes for.
type lending struct {
	b      *Broker
	key    string
	holder string
	end    func()           // stops the renewals; nil-safe through acquire
	values connector.Values // to ask with
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
		t, free, err := b.look(ctx, h, rec, l.key, key.variant, want)
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

// look reads the row of a key: a token that will do, a failure that still holds, or whether the lease is free.
func (b *Broker) look(ctx context.Context, h *head, rec *record, row, variant string, want tokencache.Want) (t *grant.Token, free bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	var sealed []byte
	var fingerprint, failure string
	var expires, leased, retry int64
	err = b.Store.Read().QueryRowContext(ctx, `SELECT sealed, fingerprint, expires_at, lease_until, failure, retry_at FROM token WHERE cache_key = $1`, row).
		Scan(&sealed, &fingerprint, &expires, &leased, &failure, &retry)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, false, fmt.Errorf("look up token: %w", err)
	}
	b.databaseBack()
	if err != nil {
		return nil, true, nil
	}
	now := time.Now()
	if sealed != nil && fingerprint != want.Replace && expires > now.UnixMilli() {
		t, err := b.openToken(row, sealed)
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

// take tries to get the lease, and keeps it alive until end.
func (l *lending) take(ctx context.Context, h *head) (bool, error) {
	now := time.Now()
	var one int
	err := l.b.write(ctx, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRowContext(ctx, `
			INSERT INTO token (cache_key, credential_id, fingerprint, expires_at, holder, lease_until, failure, retry_at)
			VALUES ($1, $2, '', 0, $3, $4, '', 0)
			ON CONFLICT (cache_key) DO UPDATE SET holder = $3, lease_until = $4 WHERE token.lease_until <= $5
			RETURNING 1`, l.key, h.id, l.holder, now.Add(leaseLife).UnixMilli(), now.UnixMilli()).Scan(&one)
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
	plain, err := json.Marshal(storedToken{t, string(t.AccessToken)})
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
		return errors.Join(b.noteFailure(ctx, tx, h, string(shown), retry), b.noteFetch(ctx, tx, h, string(shown), now))
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
	Access string `json:"access_token"`
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
	return s.Token, nil
}
