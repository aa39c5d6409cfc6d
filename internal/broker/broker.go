// Package broker keeps credentials and gets tokens with them.
//
// Everything that ends in a token request comes through here: reading a token, validating
// a credential, authorizing somebody else's request. It is the only package that opens a
// credential's secrets, and it opens them for the length of one token request.
//
// A token is looked for in three places, nearest first: the memory of this replica (package
// tokencache), the token table, which other replicas fill too, and the provider.
package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/outbound"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/tokencache"
)

// Options are what a Broker works with. All but Log are required.
type Options struct {
	Store    *store.Store
	Sealer   *seal.Sealer
	Secrets  *secret.Stores
	Audit    *access.Log
	Reads    *access.Reads
	Outbound *outbound.Guard

	// Definition finds the definition of a connector by its name. It may return another one for the
	// same name later; both are complete and never change.
	Definition func(name string) (*connector.Definition, bool)

	Tracer  trace.Tracer // of token requests
	Log     *slog.Logger
	Version string // of this program, for the list of replicas
}

// Broker keeps credentials and their tokens. Safe for concurrent use.
type Broker struct {
	Options
	replica  string // names this process in leases
	provider *grant.Client
	cache    *tokencache.Cache[cacheKey]
	heads    heads
	away     atomic.Bool // the database did not answer the last fetch

	background sync.WaitGroup
	stop       context.CancelFunc
	cancel     []func() // subscriptions
}

// cacheKey tells tokens apart. Every save raises the version, so nothing else has to be
// compared, and a changed credential never meets its old tokens again.
type cacheKey struct {
	id      string
	version int64
	variant string // what a Ref overrides; "" when nothing
}

// New returns a Broker that knows no credential before Start.
func New(o Options) *Broker {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		Options:  o,
		replica:  newID("replica"),
		provider: &grant.Client{Transport: o.Outbound.Transport(), Timeout: providerTimeout},
	}
	b.cache = tokencache.New(tokencache.Options[cacheKey]{Fetch: b.fetch, FetchTimeout: fetchTimeout})
	return b
}

// Start loads every credential, follows the changes that other replicas make, and clears out
// what has expired, until Stop. ctx bounds the call only.
func (b *Broker) Start(ctx context.Context) error {
	b.cancel = append(b.cancel, // first, so that no change falls between
		b.Store.Subscribe(topicCredential, b.credentialChanged),
		b.Store.Subscribe(topicToken, b.tokenDropped),
		b.Store.Subscribe(topicRepaired, b.repaired))
	if err := b.heads.load(ctx, b.Store); err != nil {
		return err
	}
	if err := b.fillWords(ctx); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.background.Go(func() { b.sweep(running) })
	b.background.Go(func() { b.watch(running) })
	b.background.Go(func() { b.present(running) })
	return nil
}

// Stop ends background work and waits for it.
func (b *Broker) Stop(ctx context.Context) error {
	for _, cancel := range b.cancel {
		cancel()
	}
	if b.stop != nil {
		b.stop()
	}
	err := b.cache.Close(ctx)
	b.background.Wait()
	b.provider.CloseIdleConnections()
	return err
}

// Topics of change notifications. The key of topicCredential is the credential's id, that of
// topicRepaired the id and the replica that says so, that of topicToken the id, the
// fingerprint of the dropped token and the replica, separated by spaces. A replica has
// done already what it tells the others, and must not do it again: by then it may have a new token.
const (
	topicCredential = "credential"
	topicToken      = "token"
	topicRepaired   = "repaired"
)

func (b *Broker) credentialChanged(ctx context.Context, id string) error {
	if id == "" {
		return b.heads.load(ctx, b.Store)
	}
	h, err := b.heads.reload(ctx, b.Store, id)
	if err != nil {
		return err
	}
	b.cache.Forget(func(k cacheKey) bool { return k.id == id && (h == nil || k.version < h.version) })
	return nil
}

func (b *Broker) tokenDropped(ctx context.Context, key string) error {
	if key == "" {
		return b.compareTokens(ctx)
	}
	id, rest, _ := strings.Cut(key, " ")
	if fingerprint, replica, _ := strings.Cut(rest, " "); replica != b.replica {
		b.dropInMemory(id, fingerprint)
	}
	return nil
}

// compareTokens drops the tokens of which the table says that they were dropped or replaced,
// because this replica may not have heard of it. Tokens that are not in the table were
// fetched while it was away, and stay.
func (b *Broker) compareTokens(ctx context.Context) error {
	stored := map[string]string{} // fingerprint by cache key
	rows, err := b.Store.Read().QueryContext(ctx, `SELECT cache_key, fingerprint FROM token`)
	if err != nil {
		return fmt.Errorf("compare tokens: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var key, fingerprint string
		if err := rows.Scan(&key, &fingerprint); err != nil {
			return fmt.Errorf("compare tokens: %w", err)
		}
		stored[key] = fingerprint
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("compare tokens: %w", err)
	}
	for key, state := range b.cache.All() {
		if state.Token == nil {
			continue
		}
		mine := state.Token.Fingerprint()
		if other, ok := stored[rowKey(key)]; ok && other != mine {
			b.cache.Drop(key, mine)
		}
	}
	return nil
}

func (b *Broker) repaired(_ context.Context, key string) error {
	if id, replica, _ := strings.Cut(key, " "); replica != b.replica {
		b.endBackOffInMemory(id)
	}
	return nil
}

// watch ends the alarm about the database when it answers again, whether or not a token is
// needed just then.
func (b *Broker) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !b.away.Load() {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
		if b.Store.Ping(ctx) == nil {
			b.databaseBack()
		}
		cancel()
	}
}

// sweep deletes rows that nobody will ask for again.
func (b *Broker) sweep(ctx context.Context) {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for {
		if err := b.purge(ctx, time.Now()); err != nil && ctx.Err() == nil {
			b.Log.Warn("expired tokens were not deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (b *Broker) purge(ctx context.Context, now time.Time) error {
	return b.Store.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM token WHERE expires_at < $1 AND lease_until < $1 AND retry_at < $1`, now.UnixMilli()); err != nil {
			return fmt.Errorf("delete expired tokens: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM token_fetch WHERE minute < $1`, now.Add(-historyKeep).Unix()/60); err != nil {
			return fmt.Errorf("delete old counts of token requests: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM idempotency WHERE created_at < $1`, now.Add(-idempotencyLife).UnixMilli()); err != nil {
			return fmt.Errorf("delete old idempotency keys: %w", err)
		}
		return nil
	})
}

// find returns the head of a credential by name or id, for a caller who wants to do p
// with it. Somebody who may not even see that it exists hears that it does not.
func (b *Broker) find(ctx context.Context, who access.Caller, ref string, p access.Permission) (*head, error) {
	h := b.heads.get(ref)
	if h == nil || !(who.May(access.PickCredential, h.division) || who.May(p, h.division)) {
		return nil, noCredential(ref)
	}
	return h, b.require(ctx, who, p, h.name, h.division)
}

func noCredential(ref string) *grantway.Error {
	return grantway.Errorf(grantway.NotFound, "%s", thereIsNo("credential", ref))
}

// thereIsNo says that nothing of a kind has this name, and repeats only what may be a name:
// people paste secrets into the wrong field.
func thereIsNo(kind, name string) string {
	if access.WrongName(name) != "" {
		return "there is no such " + kind
	}
	return fmt.Sprintf("there is no %s %q", kind, name)
}

// require checks that who may do p with the named credential, and puts a refusal into the
// audit trail. A division that cannot be counts as all of them.
func (b *Broker) require(ctx context.Context, who access.Caller, p access.Permission, name, division string) error {
	if access.WrongName(division) != "" {
		division = access.Everywhere
	}
	return b.Audit.Require(ctx, who, p, division, grantway.Event{Action: p.String(), Object: object(name)})
}

// object is a credential in the audit trail, without a name when it has none that may be one.
func object(name string) string {
	if access.WrongName(name) != "" {
		return "credential/"
	}
	return "credential/" + name
}

// definition returns the connector of a credential.
func (b *Broker) definition(name string) (*connector.Definition, error) {
	if d, ok := b.Definition(name); ok && !d.Source.Abstract {
		return d, nil
	}
	return nil, invalid("/connector", "%s", thereIsNo("connector", name))
}

func invalid(pointer, format string, args ...any) *grantway.Error {
	return &grantway.Error{
		Code: grantway.Invalid, Message: "the credential was not saved because a field is wrong",
		Fields: []grantway.Field{{Pointer: pointer, Detail: fmt.Sprintf(format, args...)}},
	}
}
