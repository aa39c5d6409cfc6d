// Package issuer is the hub's own authorization server: it knows the OAuth clients that
// may call the hub, gives them access tokens at /oauth/token, and tells for a request
// whose token it carries.
//
// Clients are few and change seldom: every replica holds all of them in memory, and hears
// of changes from the others. Tokens are opaque strings of 256 random bits, and the
// database holds only their keyed hash, one row each; a replica holds those it
// has seen.
//
//	POST /oauth/token ─> client authenticated (memory) ─> grant ─> row in access_token
//	Authorization: Bearer … ─> session (memory, else the row) ─> client (memory) ─> access.Caller
//
// A token says who its holder is, not what it may do: roles are looked up in the client
// at each call. So when a role goes, or the client does, so does what its tokens can do, on
// every replica within store.Staleness.
package issuer

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

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

	Log *slog.Logger // nil discards
}

// Issuer is the authorization server. Its methods may be called concurrently.
type Issuer struct {
	Options
	hashKey  []byte
	nobody   *client // stands in for a client that does not exist
	clients  registry
	sessions sessions
	failures throttle // of clients that authenticate
	misses   throttle // of access tokens that are not in the database
	tokens   ledger
	usage    usage

	stop        context.CancelFunc // nil before Start
	unsubscribe func()
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
	i := &Issuer{Options: o}
	i.sessions.init()
	i.tokens.init(o.Store)
	if err := i.loadHashKey(ctx); err != nil {
		return nil, fmt.Errorf("key for the hashes of secrets and tokens: %w", err)
	}
	i.nobody = &client{secrets: []clientSecret{{hash: i.hash(newSecret(secretPrefix))}}}
	return i, nil
}

// Start loads the clients, and follows their changes until Stop. ctx bounds the call only.
func (i *Issuer) Start(ctx context.Context) error {
	i.unsubscribe = i.Store.Subscribe(topicClient, i.clientChanged) // first, so that no change falls between
	if err := i.clientChanged(ctx, ""); err != nil {
		i.unsubscribe()
		return err
	}
	running, stop := context.WithCancel(context.Background())
	i.stop = stop
	i.background.Go(func() { i.tokens.run(running) })
	i.background.Go(func() { i.tidy(running) })
	return nil
}

// Stop ends background work, waits for it, and writes down what was used since the last
// minute. There must be no more requests.
func (i *Issuer) Stop(ctx context.Context) error {
	if i.stop == nil {
		return nil
	}
	i.unsubscribe()
	i.stop()
	i.background.Wait()
	return i.recordUsage(ctx)
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
		i.complain(ctx, "expired tokens not deleted", i.tokens.purge(ctx, now))
		i.complain(ctx, "tokens of clients not counted", i.countTokens(ctx, now))
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

// Reseal seals what the issuer keeps sealed with the newest data key. It is a seal.Reseal.
func (i *Issuer) Reseal(ctx context.Context, s *seal.Sealer) (n int, err error) {
	sealed, err := i.sealedHashKey(ctx)
	if err != nil {
		return 0, fmt.Errorf("key for the hashes of secrets and tokens: %w", err)
	}
	renewed, ok, err := s.Renew(hashKeyPlace, sealed)
	if err != nil || !ok {
		return 0, err
	}
	err = i.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE issuer_state SET value = $1 WHERE name = $2`, renewed, hashKeyName)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("key for the hashes of secrets and tokens: %w", err)
	}
	return 1, nil
}
