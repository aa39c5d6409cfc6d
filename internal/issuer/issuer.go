// Package issuer is the hub's own authorization server: it knows the OAuth clients that
// may call the hub, gives them access tokens at /oauth/token, and tells for a request
// whose token it carries.
//
// Clients are few and change seldom: every replica holds all of them in memory, and hears
// of changes from the others. An access token is sealed or signed and good by itself, so it has no row
// in the database; what has a row is a token that was revoked.
//
//	POST /oauth/token ─> client authenticated (memory) ─> grant ─> token sealed or signed
//	Authorization: Bearer … ─> session (memory, else verified) ─> client (memory) ─> access.Caller
//
// A token says who its holder is, not what it may do: roles are looked up in the client
// at each call. So when a role goes, or the client does, so does what its tokens can do, on
// every replica within store.Staleness.
package issuer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// Options are what an Issuer works with. Store, Sealer and Audit are required.
type Options struct {
	Store  *store.Store
	Sealer *seal.Sealer
	Audit  *access.Log

	// Proxied tells, for a request that came through a proxy the hub trusts, which address it
	// came from and whether nobody could listen on its way; ok is false for all other
	// requests, and then the connection itself tells. nil: no proxy is trusted.
	//
	// The token endpoint takes plain http from loopback addresses only, and from there only
	// what does not say that it was passed on.
	Proxied func(r *http.Request) (from netip.Addr, secure, ok bool)

	// Credential finds a credential by name or id, as far as who may know of it. nil: there are
	// none that a client could be limited to.
	Credential func(who access.Caller, ref string) (id, name string, ok bool)
	// URL is the issuer identifier: how clients reach the hub, without a slash at the end. nil: "".
	URL func() string

	// HTTP fetches the keys of clients; nil: only keys that are stored here are known.
	HTTP *http.Client

	// Certificates returns the certificates that the client of r has shown, its own first: on
	// this connection, or to a proxy that is trusted. nil: none ever does.
	Certificates func(r *http.Request) []*x509.Certificate

	// TakesCertificates says that Certificates may return some.
	TakesCertificates bool

	// ClientCAs issue the certificates of tls_client_auth; nil: nobody does.
	ClientCAs *x509.CertPool

	// Person returns a person who is active, with the roles of now. nil: there are no people, and
	// no authorization code grant.
	Person func(ctx context.Context, id string) (access.Caller, error)

	// SignedIn returns the person who is signed in to the console in the browser that r comes from.
	SignedIn func(r *http.Request) (access.Caller, bool)

	// Ask answers with the page of c, whose form posts to AuthorizePath. Required with Person.
	Ask func(w http.ResponseWriter, r *http.Request, status int, c Consent)

	// Exchange returns a token of a credential, for RFC 8693. nil: there is no such grant.
	Exchange func(ctx context.Context, who access.Caller, ref grantway.Ref) (*grant.Token, error)

	// RequestsPerMinute limits the calls with one token, on one replica, for clients that have no
	// limit of their own; 0 is 300, -1 no limit.
	RequestsPerMinute int

	// OAuthRequestsPerMinute limits the requests of one client for tokens, introspection and revocation
	// together, on one replica, and to ten times as many those from one address; 0 is 3,000, -1 no limit.
	OAuthRequestsPerMinute int

	// KeyPeriod is how long a signing key signs; 0 is 30 days.
	KeyPeriod time.Duration

	Log *slog.Logger // nil discards
}

// Issuer is the authorization server. Its methods may be called concurrently.
type Issuer struct {
	Options
	hashKey  []byte
	macs     sync.Pool // of hash.Hash, HMAC-SHA-256 with hashKey
	nonceKey []byte    // of DPoP nonces; the same on all replicas
	nobody   *client   // stands in for a client that does not exist
	clients  registry
	sessions sessions
	failures throttle // of clients that authenticate
	passes   throttle // of clients that have proved who they are
	forged   throttle // access tokens that are made up

	strangeKeys throttle // keys that access tokens name, and nobody knows
	once        once
	keys        keyring
	revoked     revoked
	remote      remote
	usage       usage
	requests    *prometheus.CounterVec // at the endpoints
	warned      time.Time              // when expiring secrets were last warned of; tidy's alone

	stop        context.CancelFunc // nil before Start
	unsubscribe []func()
	background  sync.WaitGroup
}

// New returns an Issuer that can change clients. It issues and takes tokens from Start on.
func New(ctx context.Context, o Options) (*Issuer, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Proxied == nil {
		o.Proxied = func(*http.Request) (from netip.Addr, secure, ok bool) { return }
	}
	if o.URL == nil {
		o.URL = func() string { return "" }
	}
	if o.Certificates == nil {
		o.Certificates = func(*http.Request) []*x509.Certificate { return nil }
	}
	if o.SignedIn == nil {
		o.SignedIn = func(*http.Request) (access.Caller, bool) { return access.Caller{}, false }
	}
	if o.RequestsPerMinute == 0 {
		o.RequestsPerMinute = 300
	}
	if o.OAuthRequestsPerMinute == 0 {
		o.OAuthRequestsPerMinute = 3000
	}
	if o.KeyPeriod == 0 {
		o.KeyPeriod = 30 * 24 * time.Hour
	}
	i := &Issuer{Options: o, once: newOnce(o.Store), remote: remote{http: o.HTTP}}
	i.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grantway_oauth_requests_total", Help: "Requests at the OAuth endpoints, by endpoint and outcome (ok, or the error code).",
	}, []string{"endpoint", "outcome"})
	i.sessions.init()
	if err := i.loadHashKey(ctx); err != nil {
		return nil, fmt.Errorf("key for the hashes of secrets and tokens: %w", err)
	}
	i.macs.New = func() any { return hmac.New(sha256.New, i.hashKey) }
	i.nonceKey = derive(i.hashKey, "dpop nonce")
	i.nobody = &client{secrets: []clientSecret{{hash: i.hash(newSecret(secretPrefix))}}}
	i.nobody.AuthMethod = grantway.AuthSecret
	return i, nil
}

// Start loads the clients, and follows their changes until Stop. ctx bounds the call only.
func (i *Issuer) Start(ctx context.Context) error {
	topics := []struct {
		name string
		load func(ctx context.Context, key string) error
	}{{topicClient, i.clientChanged}, {topicToken, i.tokenRevoked}, {topicKey, i.keysChanged}}
	if err := i.Store.Write(ctx, func(tx *store.Tx) error { return i.ensureKey(ctx, tx, opaqueAlg) }); err != nil {
		return fmt.Errorf("key for opaque tokens: %w", err)
	}
	for _, t := range topics { // first, so that no change falls between
		i.unsubscribe = append(i.unsubscribe, i.Store.Subscribe(t.name, t.load))
	}
	for _, t := range topics {
		if err := t.load(ctx, ""); err != nil {
			i.forget()
			return err
		}
	}
	running, stop := context.WithCancel(context.Background())
	i.stop = stop
	i.background.Go(func() { i.once.run(running) })
	i.background.Go(func() { i.tidy(running) })
	return nil
}

// Stop ends background work, waits for it, and writes down what was used since the last
// minute. There must be no more requests.
func (i *Issuer) Stop(ctx context.Context) error {
	if i.stop == nil {
		return nil
	}
	i.forget()
	i.stop()
	i.background.Wait()
	return i.recordUsage(ctx)
}

// forget ends the subscriptions.
func (i *Issuer) forget() {
	for _, cancel := range i.unsubscribe {
		cancel()
	}
	i.unsubscribe = nil
}

// tidy does what is due every minute until ctx ends.
func (i *Issuer) tidy(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		i.sessions.expire(now)
		i.complain(ctx, "use of clients not recorded", i.recordUsage(ctx))
		i.complain(ctx, "expired tokens not deleted", i.purge(ctx, now))
		i.complain(ctx, "signing keys not rotated", i.rotateKeys(ctx, now))
		i.revoked.expire(now)
		i.warnExpiring(now)
	}
}

func (i *Issuer) complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		i.Log.Error(what, "error", err)
	}
}

// The key under which secrets and tokens are hashed is random, made once, and sealed.
const hashKeyName = "hash_key"

var hashKeyPlace = seal.Place{Table: "issuer_state", Row: hashKeyName, Column: "value"}

func (i *Issuer) loadHashKey(ctx context.Context) error {
	sealed, err := i.sealedHashKey(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		fresh := make([]byte, 32)
		rand.Read(fresh)
		sealed, err := i.Sealer.Seal(hashKeyPlace, fresh)
		if err != nil {
			return err
		}
		err = i.Store.Write(ctx, func(tx *store.Tx) error { // another replica may have been faster
			_, err := tx.ExecContext(ctx, `INSERT INTO issuer_state (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
				hashKeyName, sealed)
			return err
		})
		if err != nil {
			return err
		}
		return i.loadHashKey(ctx)
	}
	if err != nil {
		return err
	}
	i.hashKey, err = i.Sealer.Open(hashKeyPlace, sealed)
	return err
}

func (i *Issuer) sealedHashKey(ctx context.Context) (sealed []byte, err error) {
	err = i.Store.Read().QueryRowContext(ctx, `SELECT value FROM issuer_state WHERE name = $1`, hashKeyName).Scan(&sealed)
	return sealed, err
}

// derive makes another key of one.
func derive(key []byte, purpose string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose))
	return mac.Sum(nil)
}

// Reseal seals what the issuer keeps sealed with the newest data key. It is a seal.Reseal.
func (i *Issuer) Reseal(ctx context.Context, s *seal.Sealer) (n int, err error) {
	key, err := i.sealedHashKey(ctx)
	if err != nil {
		return 0, fmt.Errorf("key for the hashes of secrets and tokens: %w", err)
	}
	kept := []seal.Row{{Place: hashKeyPlace, Sealed: key, Replace: `UPDATE issuer_state SET value = $1 WHERE name = $2 AND value = $3`}}
	for _, source := range []struct {
		query, update string
		place         func(id string) seal.Place
	}{
		{`SELECT id, sealed FROM client_secret WHERE sealed IS NOT NULL`, `UPDATE client_secret SET sealed = $1 WHERE id = $2 AND sealed = $3`, secretPlace},
		{`SELECT kid, sealed FROM signing_key`, `UPDATE signing_key SET sealed = $1 WHERE kid = $2 AND sealed = $3`, keyPlace},
	} {
		err := store.Each(ctx, i.Store.Read(), func(rows *sql.Rows) error {
			var id string
			var sealed []byte
			err := rows.Scan(&id, &sealed)
			kept = append(kept, seal.Row{Place: source.place(id), Sealed: sealed, Replace: source.update})
			return err
		}, source.query)
		if err != nil {
			return 0, fmt.Errorf("secrets and signing keys: %w", err)
		}
	}
	return s.RenewRows(ctx, i.Store, kept)
}
