package broker

import (
	"context"
	"crypto/sha256"
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
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/tokencache"
)

const (
	providerTimeout = 30 * time.Second // for one exchange with a token endpoint
	fetchTimeout    = 2 * time.Minute  // for a fetch with all its tries, waiting for other replicas among them
	databaseTimeout = 3 * time.Second  // past it, a fetch goes on without the database

	maxMinLifetime = 86400 // seconds
)

// errSuperseded ends a fetch for a version of a credential that is no longer current.
var errSuperseded = errors.New("the credential was changed")

// errUnread ends a fetch for a credential that is not in memory while the database is away.
var errUnread = errors.New("the credential cannot be read")

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
	if err == nil && variant != "" {
		err = b.takes(h, ref)
	}
	if err != nil {
		return nil, err
	}
	t, err := b.current(ctx, h, variant, ref.MinLifetime.Duration())
	for try := 0; try < 3 && errors.Is(err, errSuperseded); try++ { // somebody saved it meanwhile
		name := ref.Credential
		if b.heads.get(h.id) != nil { // by id, as fetch does: its name may still lead to the version before
			name = h.id
		}
		if h, err = b.find(ctx, who, name, access.UseCredential); err != nil {
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
	key := b.key(h, variant)
	if t := b.cache.Lookup(key, minLifetime); t != nil {
		h.usage.hits.Add(1)
		return t, nil
	}
	if err := h.usage.admit(h.name, variant, time.Now()); err != nil {
		return nil, err
	}
	t, err := b.cache.Token(ctx, key, minLifetime)
	switch {
	case err == nil:
	case errors.As(err, new(*secretError)), errors.Is(err, errUnread):
		// Nobody was asked for a token, so there is nothing to be patient about: the next
		// call looks into the secret store, or the database, again.
		b.cache.Retry(key)
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

// takes checks that the connector has what ref overrides.
func (b *Broker) takes(h *head, ref grantway.Ref) error {
	def, err := b.definition(h.connector, h.connectorVersion)
	if err != nil {
		return err
	}
	for _, o := range overridable {
		if _, ok := def.Input(o.input); o.value(ref) != "" && !ok {
			return refError("/"+o.member, "the connector "+def.Title+" does not take one for each token")
		}
	}
	return nil
}

// overridable are the inputs that a Ref overrides.
var overridable = []struct {
	input, member string
	value         func(grantway.Ref) string
}{
	{"scopes", "scope", func(r grantway.Ref) string { return r.Scope }},
	{"audience", "audience", func(r grantway.Ref) string { return r.Audience }},
	{"resource", "resource", func(r grantway.Ref) string { return r.Resource }},
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
	if fingerprint == "" {
		if err := h.usage.renewNow(h.name, time.Now()); err != nil {
			return err
		}
	} else if known, err := b.known(ctx, h, fingerprint); err == nil && !known {
		return nil // an old one: nobody has it any more
	}
	return b.drop(ctx, h, fingerprint)
}

// known tells whether some replica may still hand out the token with this fingerprint.
func (b *Broker) known(ctx context.Context, h *head, fingerprint string) (bool, error) {
	for key, state := range b.cache.All() {
		if key.id == h.id && state.Token != nil && state.Token.Fingerprint() == fingerprint {
			return true, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	var stored bool
	err := b.Store.Read().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM token WHERE credential_id = $1 AND fingerprint = $2)`, h.id, fingerprint).Scan(&stored)
	return stored, err
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
		if (id == "" || key.id == id) && state.Failure != nil {
			b.cache.Retry(key)
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
	if h == nil || key != b.key(h, key.variant) {
		return nil, errSuperseded
	}
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
	t, promote, err := b.ask(ctx, h, rec, key, lease.values)
	stored := context.WithoutCancel(ctx) // an outcome is of use to others after a stop
	share := func(f func()) { f() }
	if lease.holder == "" { // the database may be away still, and nobody should wait for it
		share = b.background.Go
	}
	if err != nil && ctx.Err() != nil {
		lease.release(stored)
		return nil, err
	}
	h.usage.count(err)
	if err != nil {
		span.SetStatus(codes.Error, string(classOf(err)))
		b.Log.Warn("no token", "credential", h.name, "error", err, "took", time.Since(began))
		share(func() { b.storeFailure(stored, h, lease, err) })
		return nil, err
	}
	if promote {
		if renewed, err := b.promote(stored, access.Hub(), h); err != nil {
			b.Log.Error("the next client secret works, but was not promoted", "credential", h.name, "error", err)
		} else {
			key = b.key(renewed, key.variant)
			h, lease = renewed, &lending{b: b, key: rowKey(key)}
			b.cache.Put(key, t)
		}
	}
	share(func() { b.storeToken(stored, h, lease, t) })
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
			return nil, &grantway.Error{Code: grantway.Unavailable, Message: "the database is not reachable and this token is not in memory", Err: errors.Join(errUnread, err)}
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

// ask makes the token request. When the provider refuses the client, secrets in secret
// stores are read again, and if they are others by now, tried; then the next secret is;
// promote says that it works.
func (b *Broker) ask(ctx context.Context, h *head, rec *record, key cacheKey, values connector.Values) (t *grant.Token, promote bool, err error) {
	t, err = b.askOnce(ctx, h, values, b.before(h, key))
	if refusesClient(err) && rec.external() {
		renewed, readErr := b.valuesWithin(ctx, h.id, rec, key.variant, 0)
		if readErr == nil && digestOf(renewed) != digestOf(values) {
			values = renewed
			t, err = b.askOnce(ctx, h, values, nil)
		}
	}
	if !refusesClient(err) {
		return t, false, err
	}
	if next := values.Secrets["next_client_secret"]; next != "" {
		retry := values
		retry.Secrets = maps.Clone(values.Secrets)
		retry.Secrets["client_secret"] = next
		if t, nextErr := b.askOnce(ctx, h, retry, nil); nextErr == nil {
			return t, true, nil
		}
	}
	h.refused.Store(new(digestOf(values)))
	return nil, false, err
}

func refusesClient(err error) bool {
	var refused *grant.Error
	return errors.As(err, &refused) && refused.Code == "invalid_client"
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
	values, err := b.valuesWithin(ctx, h.id, rec, variant, time.Second)
	return err == nil && digestOf(values) != *refused && h.refused.CompareAndSwap(refused, nil)
}

func (b *Broker) askOnce(ctx context.Context, h *head, values connector.Values, before *grant.Token) (*grant.Token, error) {
	def, err := b.definition(h.connector, h.connectorVersion)
	if err != nil {
		return nil, err
	}
	plan, err := def.Compile(values)
	if err != nil {
		return nil, &grant.Error{Stage: grant.StagePrepare, Class: grant.Permanent, Message: err.Error(), Err: err}
	}
	return plan.Token(ctx, b.provider, before)
}

// before is the last token of a key, for a connector that can refresh it; nil for others.
func (b *Broker) before(h *head, key cacheKey) *grant.Token {
	if def, err := b.definition(h.connector, h.connectorVersion); err != nil || !def.Refreshes() {
		return nil
	}
	for other, state := range b.cache.All() {
		if other == key {
			return state.Token
		}
	}
	return nil
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
	return b.valuesWithin(ctx, id, rec, variant, -1)
}

// valuesWithin is values with secrets that were read from their stores at most age ago; a
// negative age is each store's own time to live.
func (b *Broker) valuesWithin(ctx context.Context, id string, rec *record, variant string, age time.Duration) (connector.Values, error) {
	v := connector.Values{Plain: make(map[string]grantway.Value, len(rec.inputs)), Secrets: map[string]grant.Secret{}, Zone: rec.zone}
	for key, value := range rec.inputs {
		v.Plain[key] = value
		if value.Ref == nil {
			continue
		}
		resolved, err := b.Secrets.Renew(ctx, *value.Ref, age)
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
	for _, o := range overridable {
		if text := o.value(ref); text != "" {
			v.Plain[o.input] = grantway.Text(text)
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
