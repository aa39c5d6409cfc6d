// Package tokencache keeps one fresh access token per key and asks for new ones as
// seldom as that allows.
//
// A [Cache] is given a function that fetches a token. Callers ask the cache, and most of
// the time are answered from memory, by a map lookup and one look at the clock:
//
//   - A token is never handed out once it has expired.
//   - When about 20 % of a token's life is left, it is renewed in the background, if
//     anybody used it; meanwhile callers go on getting the current one. A token that
//     nobody used is forgotten when it expires.
//   - There is never more than one fetch per key at a time. Everybody who needs its result
//     waits for it, and shares it, a failure as well as a token.
//   - After a failure callers get the valid token for as long as there is one, and then an
//     [Error], at once, until it is time for the next try.
//
// The cache knows package grant and nothing else: what a key means and how a token is
// fetched is up to its user.
package tokencache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway/grant"
)

// ErrClosed is what Token returns once Close has been called.
var ErrClosed = errors.New("token cache is closed")

// Options sets up a Cache. The zero value of every field but Fetch is a sensible default.
type Options[K comparable] struct {
	// Fetch gets a new token for key. It is called on a goroutine of its own, never twice
	// at once for one key, with a context that ends after FetchTimeout or when the cache
	// is closed. That context carries the values of the context of the caller who was
	// first to need the token, for tracing, but not its cancellation: the fetch is done for
	// everybody. Fetch must return soon after its context ends.
	//
	// What class of failure an error is, is read from the *grant.Error in its chain; an error
	// without one counts as temporary. Required.
	Fetch func(ctx context.Context, key K, want Want) (*grant.Token, error)

	// FetchTimeout is the most time one fetch may take. 0 means 60 seconds.
	FetchTimeout time.Duration

	// Temporary is the back-off after network faults, 5xx and the like: the delay is a
	// random share of a bound that doubles ("full jitter"). 0 means from 1 second to 1 minute.
	Temporary Backoff

	// Permanent is the back-off after failures that last until somebody changes a setting;
	// the delay doubles. 0 means from 1 minute to 30 minutes.
	Permanent Backoff

	// MaxRetryAfter caps how long a server may send us away (grant.Error.RetryAt).
	// 0 means 1 hour.
	MaxRetryAfter time.Duration

	// Started and Finished, where set, are told about each fetch, for metrics. They are
	// called on the fetch's goroutine, with no lock held, and must be quick.
	Started  func(key K)
	Finished func(key K, took time.Duration, err error)
}

// Backoff bounds the delays after repeated failures: First after the first one, then
// doubling up to Max. A zero field takes the default of the option it is in.
type Backoff struct{ First, Max time.Duration }

// Want tells Fetch what is wanted beyond any valid token. It is for fetchers that have
// another place to look before they ask the provider, such as a database that several
// replicas share.
type Want struct {
	// Replace is the fingerprint of a token that will not do: the one that is to be renewed,
	// or one that was dropped. "" when there is none.
	Replace string

	// MinLifetime is how long the token should still be valid.
	MinLifetime time.Duration
}

// State is what the cache knows about one key.
type State struct {
	Token    *grant.Token // nil when there is no valid token
	Used     bool         // the token was handed out, so it will be renewed
	RenewAt  time.Time    // when it will be renewed if used; zero without a token
	Failure  *Error       // the last fetch failed like this; nil when it succeeded
	Failures int          // how many fetches in a row failed like this
	Fetching bool         // a fetch is under way
	Waiters  int          // callers that wait for it
}

// Cache keeps one token per key. It is safe for concurrent use. Make one with New.
//
// Reads are quickest when K is a string or an integer; a struct of several fields takes half
// as long again, which matters to nobody who does I/O with the token.
type Cache[K comparable] struct {
	o       Options[K]
	epoch   time.Time      // where this cache's monotonic clock starts
	entries sync.Map       // K → *entry[K]
	closed  atomic.Bool    // set before Close visits the entries; checked under entry.mu
	running sync.WaitGroup // fetches, and timers that are armed or firing
}

// New makes a cache. It panics when o.Fetch is nil.
func New[K comparable](o Options[K]) *Cache[K] {
	if o.Fetch == nil {
		panic("tokencache: Options.Fetch is nil")
	}
	setDefault(&o.FetchTimeout, time.Minute)
	setDefault(&o.Temporary.First, time.Second)
	setDefault(&o.Temporary.Max, time.Minute)
	setDefault(&o.Permanent.First, time.Minute)
	setDefault(&o.Permanent.Max, 30*time.Minute)
	setDefault(&o.MaxRetryAfter, time.Hour)
	return &Cache[K]{o: o, epoch: time.Now()}
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Token returns a token that is valid now, from memory where possible.
//
// A caller that needs the token for longer says so by minLifetime, and gets a new one when
// the current one has less left. That is a wish, not a guarantee: it counts for at most
// half of the lifetime that the provider gives its tokens, so it never leads to a request
// per call, and while no new token can be had the current one is handed out.
//
// When a fetch is needed, Token waits for it until ctx ends, which ends the waiting but not
// the fetch. The error is then ctx's; it is ErrClosed after Close, and an *Error otherwise.
func (c *Cache[K]) Token(ctx context.Context, key K, minLifetime time.Duration) (*grant.Token, error) {
	if v, ok := c.entries.Load(key); ok {
		if h := v.(*entry[K]).held.Load(); h != nil {
			now := time.Since(c.epoch)
			if int64(now) < h.cleared.Load() && h.expires-now >= min(minLifetime, h.half) {
				return h.token, nil
			}
		}
	}
	return c.token(ctx, key, minLifetime)
}

// Lookup is Token that does not wait: it returns nil when a token would have to be fetched,
// and fetches none.
func (c *Cache[K]) Lookup(key K, minLifetime time.Duration) *grant.Token {
	v, ok := c.entries.Load(key)
	if !ok {
		return nil
	}
	e := v.(*entry[K])
	if h := e.held.Load(); h != nil {
		now := time.Since(c.epoch)
		if int64(now) < h.cleared.Load() && h.expires-now >= min(minLifetime, h.half) {
			return h.token
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	h := e.valid(now)
	if h == nil || c.closed.Load() || e.remaining(h, now) < min(minLifetime, h.half) {
		return nil
	}
	e.use(h, now)
	return h.token
}

// token is Token off the hot path: on the first use of a token, and then once a second
// (see held.cleared), and whenever there is no token that will do.
func (c *Cache[K]) token(ctx context.Context, key K, minLifetime time.Duration) (*grant.Token, error) {
	for {
		e := c.lock(key)
		if e == nil {
			return nil, ErrClosed
		}
		now := time.Now()
		h := e.valid(now)
		if h != nil {
			e.use(h, now)
			if e.remaining(h, now) >= min(minLifetime, h.half) {
				e.mu.Unlock()
				return h.token, nil
			}
			minLifetime = min(minLifetime, h.half)
		}
		if e.flight == nil {
			if e.failure != nil && now.Before(e.failure.NextTry) {
				defer e.mu.Unlock()
				if h != nil {
					return h.token, nil
				}
				return nil, e.failure
			}
			e.start(ctx, minLifetime)
		}
		f := e.flight
		f.waiters.Add(1)
		e.mu.Unlock()

		select {
		case <-f.done:
		case <-ctx.Done():
			f.waiters.Add(-1)
			return nil, fmt.Errorf("waiting for a token: %w", context.Cause(ctx))
		}
		if f.err != nil {
			return nil, f.err
		}
		if f.want.MinLifetime >= minLifetime && usable(f.token, time.Now()) == nil {
			return f.token, nil
		}
		// Others asked for less than this caller needs, or it woke up too late: look again.
	}
}

// Put tells the cache about a token that came from elsewhere, such as a database or another
// replica, as if it had been fetched and not yet used; it also ends a back-off. It reports
// whether the token was taken: one that has expired, was dropped, or is not newer (IssuedAt)
// than what is there is not.
func (c *Cache[K]) Put(key K, t *grant.Token) bool {
	e := c.lock(key)
	if e == nil {
		return false
	}
	defer e.mu.Unlock()
	now := time.Now()
	defer e.attend(now) // an entry made in vain goes away again
	h := e.valid(now)
	if usable(t, now) != nil || t.Fingerprint() == e.dropped || h != nil && !t.IssuedAt.After(h.token.IssuedAt) {
		return false
	}
	e.keep(t, "", now)
	return true
}

// Drop forgets the token with this fingerprint, because a resource refused it; the next
// caller starts a fetch. A newer token is not dropped. The fingerprint "" means whatever
// is there, "renew now": it also ends a back-off, and a fetch that is under way asks once
// more, since it may have started before whatever the caller knows about happened.
//
// Drop reports whether there was something to drop. So that a resource which refuses every
// token does not cost a token request per call, it also declines to drop by fingerprint
// more often than dropBurst times at once and then every dropInterval (10 times, 10 seconds).
func (c *Cache[K]) Drop(key K, fingerprint string) bool {
	v, ok := c.entries.Load(key)
	if !ok {
		return false
	}
	return v.(*entry[K]).drop(fingerprint)
}

// Retry ends the back-off of a key that has neither a token nor a fetch under way, so that
// the next caller starts a fetch, and reports whether it did. A token that somebody fetched
// in the meantime stays.
func (c *Cache[K]) Retry(key K) bool {
	v, ok := c.entries.Load(key)
	if !ok {
		return false
	}
	e := v.(*entry[K])
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.failure == nil || e.flight != nil || e.valid(now) != nil {
		return false
	}
	e.failure, e.failures = nil, 0
	e.attend(now)
	return true
}

// Forget removes every key that match accepts, with its token and its back-off. The result
// of a fetch that is under way goes to the callers that wait for it and is not kept.
func (c *Cache[K]) Forget(match func(K) bool) {
	for _, v := range c.entries.Range {
		if e := v.(*entry[K]); match(e.key) {
			e.mu.Lock()
			e.forget()
			e.mu.Unlock()
		}
	}
}

// Peek returns what is known about key, the zero State when that is nothing. It does not
// count as use and never starts a fetch.
func (c *Cache[K]) Peek(key K) State {
	v, ok := c.entries.Load(key)
	if !ok {
		return State{}
	}
	return v.(*entry[K]).state()
}

// All yields the state of every key, in no order. Keys that come or go meanwhile may or may
// not be seen.
func (c *Cache[K]) All() iter.Seq2[K, State] {
	return func(yield func(K, State) bool) {
		for _, v := range c.entries.Range {
			e := v.(*entry[K])
			if !yield(e.key, e.state()) {
				return
			}
		}
	}
}

// Close cancels what is under way and waits until all of it has ended, or until ctx has:
// then it returns ctx's error. Callers that wait get ErrClosed, and so does everybody after.
func (c *Cache[K]) Close(ctx context.Context) error {
	c.closed.Store(true)
	c.Forget(func(K) bool { return true })
	ended := make(chan struct{})
	go func() {
		c.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the token cache: %w", context.Cause(ctx))
	}
}

// lock returns the entry of key, made if need be, with its lock held; nil when c is closed.
// What it makes is in the map before closed is checked under the entry's lock, so Close
// either sees the entry or keeps it from starting anything.
func (c *Cache[K]) lock(key K) *entry[K] {
	for {
		v, ok := c.entries.Load(key)
		if !ok {
			v, _ = c.entries.LoadOrStore(key, &entry[K]{c: c, key: key})
		}
		e := v.(*entry[K])
		e.mu.Lock()
		if c.closed.Load() {
			e.forget()
			e.mu.Unlock()
			return nil
		}
		if !e.gone {
			return e
		}
		e.mu.Unlock()
	}
}
