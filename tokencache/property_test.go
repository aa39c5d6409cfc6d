package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/tokencache"
)

// model is a provider that checks, at each request, whether there was reason to make it.
type model struct {
	mu      sync.Mutex
	life    time.Duration
	latency time.Duration
	err     *grant.Error
	retryIn time.Duration // for throttled failures
	keys    map[string]*keyModel
	broken  []string // invariants that were violated
}

// keyModel is what the provider and the test did about one key so far.
type keyModel struct {
	under    int       // requests under way
	notYet   time.Time // no request may be made before this, unless excused
	backoff  bool      // because the last one failed, not because it brought a token
	rejected int       // permanent failures in a row
	excused  bool      // a request is right at any time: "renew now" or the like came
}

func (m *model) fetch(ctx context.Context, key string, want tokencache.Want) (*grant.Token, error) {
	begin := time.Now()
	m.mu.Lock()
	k := m.keys[key]
	if k.under++; k.under > 1 {
		m.broken = append(m.broken, "two requests at once for "+key)
	}
	if !k.excused && begin.Before(k.notYet) {
		m.broken = append(m.broken, fmt.Sprintf("request for %s %v too early", key, k.notYet.Sub(begin)))
	}
	if begin.Sub(k.notYet) >= permanentDelay(k.rejected-1) {
		k.rejected = 0 // the cache may have forgotten
	}
	k.excused = false
	life, latency, fault, retryIn := m.life, m.latency, m.err, m.retryIn
	m.mu.Unlock()

	timedOut := false
	select {
	case <-time.After(latency):
	case <-ctx.Done():
		timedOut = true
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	k.under--
	now := time.Now()
	rejected := k.rejected
	k.notYet, k.backoff, k.rejected = now, true, 0
	switch {
	case k.excused:
		// Dropped or forgotten meanwhile: the result does not count.
	case timedOut, fault == nil && life <= latency, fault != nil && fault.Class == grant.Temporary:
		// Full jitter: the next request may come at once.
	case fault == nil:
		// Renewal comes after 75 % of the life at the earliest, a demand counts for at most half.
		k.notYet, k.backoff = begin.Add(life/2), false
	case fault.Class == grant.Throttled:
		k.notYet = now.Add(min(retryIn, time.Hour))
		fault = &grant.Error{Class: grant.Throttled, RetryAt: now.Add(retryIn)}
	case fault.Class == grant.Permanent:
		k.rejected = rejected + 1
		k.notYet = now.Add(permanentDelay(rejected))
	}
	if timedOut {
		return nil, ctx.Err()
	}
	if fault != nil {
		return nil, fault
	}
	return &grant.Token{
		AccessToken: grant.Secret(fmt.Sprint(key, begin.UnixNano())), Type: "Bearer",
		IssuedAt: begin, ExpiresAt: begin.Add(life),
	}, nil
}

// permanentDelay is the documented delay after n earlier permanent failures.
func permanentDelay(n int) time.Duration {
	return min(time.Minute<<max(n, 0), 30*time.Minute)
}

// TestProperties runs random sequences of reads, pauses, failures, drops and the like, and
// checks that no expired token is handed out, no error while there is a valid token, that
// there is never more than one request per key under way, and none without a reason.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			m := &model{life: time.Hour, latency: time.Millisecond, keys: map[string]*keyModel{"a": {}, "b": {}}}
			c := tokencache.New(tokencache.Options[string]{Fetch: m.fetch})
			var readers sync.WaitGroup
			defer func() {
				if err := c.Close(context.Background()); err != nil {
					rt.Errorf("closing: %v", err)
				}
				readers.Wait()
			}()
			broken := func(format string, args ...any) {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.broken = append(m.broken, fmt.Sprintf(format, args...))
			}
			key := rapid.SampledFrom([]string{"a", "b"})
			change := func(key string, f func(*keyModel)) {
				m.mu.Lock()
				defer m.mu.Unlock()
				f(m.keys[key])
			}

			rt.Repeat(map[string]func(*rapid.T){
				"read": func(rt *rapid.T) {
					key := key.Draw(rt, "key")
					demand := rapid.SampledFrom([]time.Duration{0, 0, time.Second, time.Minute, time.Hour}).Draw(rt, "demand")
					patience := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Hour}).Draw(rt, "patience")
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					readers.Go(func() {
						defer cancel()
						tok, err := c.Token(ctx, key, demand)
						var e *tokencache.Error
						switch {
						case err == nil && !time.Now().Before(tok.ExpiresAt):
							broken("expired token for %s", key)
						case errors.As(err, &e) && c.Peek(key).Token != nil:
							broken("error for %s while there is a token", key)
						case err != nil && e == nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, tokencache.ErrClosed):
							broken("untyped error %v", err)
						}
					})
					synctest.Wait()
				},
				"pause": func(rt *rapid.T) {
					unit := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Second, time.Minute}).Draw(rt, "unit")
					time.Sleep(unit * time.Duration(rapid.IntRange(1, 60).Draw(rt, "n")))
					synctest.Wait()
				},
				"provider": func(rt *rapid.T) {
					m.mu.Lock()
					defer m.mu.Unlock()
					m.life = rapid.SampledFrom([]time.Duration{0, 3 * time.Second, time.Minute, time.Hour}).Draw(rt, "life")
					m.latency = rapid.SampledFrom([]time.Duration{0, time.Millisecond, 5 * time.Second, time.Hour}).Draw(rt, "latency")
					m.err = rapid.SampledFrom([]*grant.Error{nil, nil, down, rejected, {Class: grant.Throttled}}).Draw(rt, "error")
					m.retryIn = rapid.SampledFrom([]time.Duration{-time.Hour, 0, time.Minute, 5 * time.Hour}).Draw(rt, "retry in")
				},
				"refused": func(rt *rapid.T) {
					key := key.Draw(rt, "key")
					if s := c.Peek(key); s.Token != nil && c.Drop(key, s.Token.Fingerprint()) {
						change(key, func(k *keyModel) {
							if !k.backoff {
								k.notYet = time.Now()
							}
						})
					}
				},
				"renew now": func(rt *rapid.T) {
					key := key.Draw(rt, "key")
					change(key, func(k *keyModel) { k.excused, k.rejected = true, 0 })
					c.Drop(key, "")
					synctest.Wait()
				},
				"forget": func(rt *rapid.T) {
					key := key.Draw(rt, "key")
					change(key, func(k *keyModel) { k.excused, k.rejected = true, 0 })
					c.Forget(func(k string) bool { return k == key })
				},
				"put": func(rt *rapid.T) {
					key := key.Draw(rt, "key")
					if c.Peek(key).Fetching {
						return
					}
					life := rapid.SampledFrom([]time.Duration{3 * time.Second, time.Hour}).Draw(rt, "life")
					if c.Put(key, token(fmt.Sprint("put", time.Now().UnixNano()), life)) {
						change(key, func(k *keyModel) {
							k.notYet, k.backoff, k.rejected, k.excused = time.Now().Add(life/2), false, 0, false
						})
					}
				},
				"": func(rt *rapid.T) {
					m.mu.Lock()
					defer m.mu.Unlock()
					if len(m.broken) > 0 {
						rt.Fatal(m.broken)
					}
				},
			})
		})
	})
}

// TestConcurrent does everything at once in real time, for the race detector.
func TestConcurrent(t *testing.T) {
	var under [4]atomic.Int64 // fetches under way by key
	c := tokencache.New(tokencache.Options[int]{
		Temporary: tokencache.Backoff{First: time.Microsecond, Max: time.Microsecond},
		Fetch: func(_ context.Context, key int, _ tokencache.Want) (*grant.Token, error) {
			if under[key].Add(1) > 1 {
				t.Error("two fetches at once for one key")
			}
			defer under[key].Add(-1)
			runtime.Gosched()
			if rand.N(10) == 0 {
				return nil, down
			}
			return token(fmt.Sprint(rand.Int()), time.Millisecond), nil
		},
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				key := rand.N(len(under))
				switch rand.N(20) {
				case 0:
					c.Drop(key, "")
				case 1:
					c.Put(key, token("put", time.Millisecond))
				case 2:
					c.Forget(func(k int) bool { return k == key })
				case 3:
					for range c.All() {
					}
				default:
					tok, err := c.Token(t.Context(), key, time.Duration(rand.N(1000))*time.Microsecond)
					if err == nil {
						c.Drop(key, tok.Fingerprint())
					}
				}
			}
		})
	}
	wg.Wait()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for key := range c.All() {
		t.Errorf("key %d left after Close", key)
	}
}
