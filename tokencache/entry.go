package tokencache

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway/grant"
)

const (
	// Renewal is due when between 15 % and 25 % of a token's life is left: 80 % ± 5 % have
	// passed. The jitter keeps tokens that were fetched together from being renewed together.
	earliest, latest = 0.25, 0.15

	// clearance is how long a token that was looked at goes on being handed out without
	// another look at the wall clock. See held.
	clearance = time.Second

	// dropBurst and dropInterval limit Drop by fingerprint.
	dropBurst    = 10
	dropInterval = 10 * time.Second
)

// entry is all there is about one key.
//
//	          fetched, Put                      expired, dropped
//	empty ───────────────────▶ holding a token ──────────────────▶ empty
//	  │                          │
//	  │ a caller needs a token   │ 80 % of life, used; again after each back-off
//	  ▼                          ▼
//	flight (one at a time, in either state; callers of an empty entry wait for it)
//
// An empty entry stays while there is a failure or a dropped fingerprint to remember, and is
// then removed. One timer drives all that is not driven by callers; see attend.
type entry[K comparable] struct {
	c    *Cache[K]
	key  K
	held atomic.Pointer[held] // read by anybody, written with mu held

	mu       sync.Mutex // guards what follows; never held over I/O
	used     bool       // the token in held was handed out
	flight   *flight    // the fetch under way
	failure  *Error     // how the last fetch failed
	failures int        // how often in a row, in the same class
	dropped  string     // fingerprint of the token that Drop took away
	remember time.Time  // when failure and dropped no longer matter
	drops    time.Time  // when all of the dropBurst may be used again
	timer    *time.Timer
	gone     bool // no longer in the map
}

// held is a token and what its readers need to know. It is immutable but for cleared.
//
// Time is measured twice. The monotonic clock is quick to read and is not upset when
// somebody sets the clock, but on most systems it stands still while the machine is
// suspended. The wall clock knows about that, but costs twice as much. So a reader looks at
// the monotonic clock only, and at most clearance after the last look at both.
type held struct {
	token   *grant.Token
	expires time.Duration // since Cache.epoch, monotonic
	early   time.Duration // how long before the expiry renewal is due
	half    time.Duration // of the lifetime: as much as a caller may demand
	cleared atomic.Int64  // since Cache.epoch: until then Token may hand it out; 0 until first used
}

// flight is one fetch and who waits for it.
type flight struct {
	want    Want
	cancel  context.CancelFunc
	waiters atomic.Int64

	again   bool // guarded by entry.mu: the result is stale already, fetch once more
	discard bool // guarded by entry.mu: the key was forgotten, do not keep the result

	done  chan struct{} // closed when token and err are set
	token *grant.Token
	err   error
}

// remaining is how long h is valid yet, by the clock that says less.
func (e *entry[K]) remaining(h *held, now time.Time) time.Duration {
	return min(h.expires-now.Sub(e.c.epoch), h.token.ExpiresAt.Round(0).Sub(now.Round(0)))
}

// valid returns the token that is held, and nil when it has expired or there is none.
func (e *entry[K]) valid(now time.Time) *held {
	h := e.held.Load()
	if h == nil || e.remaining(h, now) > 0 {
		return h
	}
	e.held.Store(nil)
	return nil
}

// use notes that h is handed out and clears it for the readers that follow.
func (e *entry[K]) use(h *held, now time.Time) {
	e.used = true
	left := e.remaining(h, now)
	h.cleared.Store(int64(now.Sub(e.c.epoch) + min(left, clearance)))
	if left <= h.early {
		e.attend(now) // past the time of renewal, but unused until now
	}
}

// keep makes t the token of e. replaced is the fingerprint of the one it is to be better
// than: when it is the same one, what is left of it counts as its whole life, or it would be
// due for renewal again at once.
func (e *entry[K]) keep(t *grant.Token, replaced string, now time.Time) {
	life := t.ExpiresAt.Sub(now)
	h := &held{token: t, expires: now.Add(life).Sub(e.c.epoch)}
	if !t.IssuedAt.IsZero() && t.Lifetime() > 0 && t.Fingerprint() != replaced {
		life = t.Lifetime()
	}
	h.half = life / 2
	h.early = time.Duration(float64(life) * (latest + (earliest-latest)*rand.Float64()))
	e.held.Store(h)
	e.used = false
	e.clear()
}

// rememberUntil lets e stay at least until t though it holds no token.
func (e *entry[K]) rememberUntil(t time.Time) {
	if e.remember.Before(t) {
		e.remember = t
	}
}

// clear forgets failures and drops.
func (e *entry[K]) clear() {
	e.failure, e.failures, e.dropped, e.remember = nil, 0, "", time.Time{}
}

// drop implements Cache.Drop.
func (e *entry[K]) drop(fingerprint string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	h := e.valid(now)
	switch {
	case fingerprint == "":
		if h == nil && e.failure == nil && e.flight == nil {
			return false
		}
		e.failure, e.failures = nil, 0
		if e.flight != nil {
			e.flight.again = true
		}
	case h == nil || h.token.Fingerprint() != fingerprint:
		return false
	default:
		if e.drops.Sub(now) > (dropBurst-1)*dropInterval {
			return false
		}
		if e.drops.Before(now) {
			e.drops = now
		}
		e.drops = e.drops.Add(dropInterval)
	}
	if h != nil {
		e.dropped = h.token.Fingerprint()
		e.rememberUntil(now.Add(e.remaining(h, now)))
		e.held.Store(nil)
	}
	e.attend(now)
	return true
}

// forget takes e out of the map, at once or when its flight has landed.
func (e *entry[K]) forget() {
	if e.flight == nil {
		e.remove()
		return
	}
	e.held.Store(nil)
	e.clear()
	e.flight.discard = true
	if e.c.closed.Load() {
		e.flight.cancel()
	}
}

// attend does what is due, or sets the timer to when something will be: it renews the
// token, forgets it, or removes the entry. Every change of e ends with it.
func (e *entry[K]) attend(now time.Time) {
	if e.gone || e.flight != nil {
		return // landing attends
	}
	h := e.valid(now)
	if h == nil {
		if wait := e.remember.Sub(now); wait > 0 {
			e.arm(wait)
		} else {
			e.remove()
		}
		return
	}
	left := e.remaining(h, now)
	switch wait := left - h.early; {
	case wait > 0:
		e.arm(wait)
	case !e.used:
		e.arm(left)
	case e.failure != nil && now.Before(e.failure.NextTry):
		e.arm(min(left, e.failure.NextTry.Sub(now)))
	default:
		e.start(context.Background(), 0)
	}
}

// start launches the flight of e. ctx lends its values, not its end.
func (e *entry[K]) start(ctx context.Context, minLifetime time.Duration) {
	f := &flight{want: Want{Replace: e.dropped, MinLifetime: minLifetime}, done: make(chan struct{})}
	if h := e.held.Load(); h != nil {
		f.want.Replace = h.token.Fingerprint()
	}
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	e.flight = f
	e.disarm()
	e.c.running.Go(func() {
		defer f.cancel()
		want := f.want
		for {
			t, err := e.fetch(ctx, want)
			if e.land(f, t, err) {
				return
			}
			if err == nil {
				want.Replace = t.Fingerprint()
			}
		}
	})
}

// fetch calls Options.Fetch and its observers. A token that cannot be used is an error.
func (e *entry[K]) fetch(ctx context.Context, want Want) (*grant.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, e.c.o.FetchTimeout)
	defer cancel()
	if e.c.o.Started != nil {
		e.c.o.Started(e.key)
	}
	begin := time.Now()
	t, err := e.c.o.Fetch(ctx, e.key, want)
	if err == nil {
		err = usable(t, time.Now())
	}
	if e.c.o.Finished != nil {
		e.c.o.Finished(e.key, time.Since(begin), err)
	}
	return t, err
}

// usable says why a fetch that reported success gave nothing to hand out.
func usable(t *grant.Token, now time.Time) error {
	switch {
	case t == nil:
		return &grant.Error{Stage: grant.StageResponse, Class: grant.Temporary, Message: "there was no token"}
	case !now.Round(0).Before(t.ExpiresAt.Round(0)):
		return &grant.Error{Stage: grant.StageResponse, Class: grant.Temporary, Message: "the token had expired when it came"}
	}
	return nil
}

// land ends f with what was fetched. It reports false when f has to fetch again.
func (e *entry[K]) land(f *flight, t *grant.Token, err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.again && !f.discard {
		f.again = false
		return false
	}
	now := time.Now()
	e.flight = nil
	switch h := e.valid(now); {
	case err == nil && (h == nil || !h.token.IssuedAt.After(t.IssuedAt)):
		f.token = t
		if !f.discard {
			e.keep(t, f.want.Replace, now)
			e.used = f.waiters.Load() > 0
		}
	case err == nil: // Put was quicker with a newer one
		f.token = h.token
	default:
		e.fail(err, now)
		if h != nil {
			f.token = h.token
		} else if f.err = e.failure; e.c.closed.Load() {
			f.err = ErrClosed
		}
	}
	if f.discard {
		e.remove()
	}
	e.attend(now)
	close(f.done)
	return true
}

// arm sets the timer, which counts as running until it has fired or was stopped.
func (e *entry[K]) arm(wait time.Duration) {
	switch {
	case e.timer == nil:
		e.c.running.Add(1)
		e.timer = time.AfterFunc(wait, e.tick)
	case !e.timer.Reset(wait):
		e.c.running.Add(1)
	}
}

func (e *entry[K]) disarm() {
	if e.timer != nil && e.timer.Stop() {
		e.c.running.Done()
	}
}

func (e *entry[K]) tick() {
	defer e.c.running.Done()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.attend(time.Now())
}

// remove takes e out of the map for good.
func (e *entry[K]) remove() {
	if e.gone {
		return
	}
	e.gone = true
	e.disarm()
	e.held.Store(nil)
	e.clear()
	e.c.entries.Delete(e.key)
}

// state implements Cache.Peek.
func (e *entry[K]) state() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	s := State{Used: e.used, Failure: e.failure, Failures: e.failures}
	if h := e.valid(now); h != nil {
		s.Token = h.token
		s.RenewAt = now.Add(e.remaining(h, now) - h.early)
	} else {
		s.Used = false
	}
	if e.flight != nil {
		s.Fetching = true
		s.Waiters = int(e.flight.waiters.Load())
	}
	return s
}
