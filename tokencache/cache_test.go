package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is the far side of a Fetch: it counts, and does what it is told.
type provider struct {
	t *testing.T

	mu       sync.Mutex
	life     time.Duration // of the tokens it issues
	latency  time.Duration // of an answer
	err      error         // instead of a token
	requests []request
	under    map[string]int // requests under way by key
}

type request struct {
	key   string
	at    time.Time
	want  tokencache.Want
	token *grant.Token
	err   error
}

func (p *provider) fetch(ctx context.Context, key string, want tokencache.Want) (*grant.Token, error) {
	p.mu.Lock()
	r := request{key: key, at: time.Now(), want: want, err: p.err}
	if r.err == nil {
		r.token = token(fmt.Sprintf("%s-%d", key, len(p.requests)+1), p.life)
	}
	p.requests = append(p.requests, r)
	if p.under == nil {
		p.under = map[string]int{}
	}
	p.under[key]++
	if p.under[key] > 1 {
		p.t.Errorf("%d requests for %s at once", p.under[key], key)
	}
	latency := p.latency
	p.mu.Unlock()

	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.under[key]--
	}()
	select {
	case <-time.After(latency):
		return r.token, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *provider) set(f func(*provider)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.requests)
}

func (p *provider) last() request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[len(p.requests)-1]
}

// token makes a token that is issued now.
func token(value string, life time.Duration) *grant.Token {
	now := time.Now()
	return &grant.Token{AccessToken: grant.Secret(value), Type: "Bearer", IssuedAt: now, ExpiresAt: now.Add(life)}
}

// inBubble runs body in virtual time, on a cache whose provider issues one-hour tokens.
func inBubble(t *testing.T, body func(t *testing.T, c *tokencache.Cache[string], p *provider)) {
	t.Helper()
	withOptions(t, tokencache.Options[string]{}, body)
}

func withOptions(t *testing.T, o tokencache.Options[string], body func(t *testing.T, c *tokencache.Cache[string], p *provider)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{t: t, life: time.Hour}
		o.Fetch = p.fetch
		c := tokencache.New(o)
		defer func() {
			if err := c.Close(t.Context()); err != nil {
				t.Errorf("closing: %v", err)
			}
		}()
		body(t, c, p)
	})
}

// get reads the token of key, which must be there and valid.
func get(t *testing.T, c *tokencache.Cache[string], key string, minLifetime time.Duration) *grant.Token {
	t.Helper()
	tok, err := c.Token(t.Context(), key, minLifetime)
	if err != nil {
		t.Fatalf("token of %s: %v", key, err)
	}
	if !time.Now().Before(tok.ExpiresAt) {
		t.Fatalf("got a token that expired %v ago", time.Since(tok.ExpiresAt))
	}
	return tok
}

// refusal reads the token of key, which must fail with an *Error.
func refusal(t *testing.T, c *tokencache.Cache[string], key string) *tokencache.Error {
	t.Helper()
	tok, err := c.Token(t.Context(), key, 0)
	var e *tokencache.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, %v; want a *tokencache.Error", tok, err)
	}
	return e
}

func wantCount(t *testing.T, p *provider, want int) {
	t.Helper()
	if got := p.count(); got != want {
		t.Fatalf("%d requests, want %d", got, want)
	}
}

func keys(c *tokencache.Cache[string]) (n int) {
	for range c.All() {
		n++
	}
	return n
}

var (
	down     = &grant.Error{Stage: grant.StageAddress, Class: grant.Temporary, Message: "connection refused"}
	rejected = &grant.Error{Stage: grant.StageResponse, Class: grant.Permanent, Status: 401, Code: "invalid_client"}
)

// TestSingleFlight: however many callers need a token, one request is made, and its
// failure is theirs too.
func TestSingleFlight(t *testing.T) {
	for _, fault := range []error{nil, down} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
				p.latency, p.err = time.Second, fault
				const callers = 10_000
				results := make([]error, callers)
				var wg sync.WaitGroup
				for i := range callers {
					wg.Go(func() { _, results[i] = c.Token(t.Context(), "k", time.Duration(i)) })
				}
				synctest.Wait()
				if s := c.Peek("k"); !s.Fetching || s.Waiters != callers {
					t.Errorf("%d waiters, fetching %v; want %d", s.Waiters, s.Fetching, callers)
				}
				wg.Wait()
				wantCount(t, p, 1)
				for _, err := range results {
					if !errors.Is(err, fault) {
						t.Fatalf("got %v, want %v", err, fault)
					}
				}
				if s := c.Peek("k"); s.Fetching || s.Waiters != 0 || s.Used != (fault == nil) {
					t.Errorf("afterwards: %+v", s)
				}
			})
		})
	}
}

// TestCallerLeaves: the first caller's end is not the end of the fetch, which does carry
// the values of its context.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type trace struct{}
		c := tokencache.New(tokencache.Options[string]{
			FetchTimeout: 10 * time.Second,
			Fetch: func(ctx context.Context, key string, _ tokencache.Want) (*grant.Token, error) {
				if ctx.Value(trace{}) != "span" {
					t.Error("the caller's context values did not reach the fetch")
				}
				if end, _ := ctx.Deadline(); time.Until(end) != 10*time.Second {
					t.Errorf("the fetch may take %v", time.Until(end))
				}
				if key == "hangs" {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				time.Sleep(5 * time.Second)
				return token("t", time.Hour), nil
			},
		})
		defer c.Close(t.Context())
		ctx := context.WithValue(t.Context(), trace{}, "span")

		impatient, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Token(impatient, "k", 0); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the impatient caller got %v", err)
			}
			if w := c.Peek("k").Waiters; w != 1 {
				t.Errorf("%d waiters, want 1", w)
			}
		})
		synctest.Wait()
		if _, err := c.Token(ctx, "k", 0); err != nil {
			t.Errorf("the patient caller got %v", err)
		}
		wg.Wait()

		_, err := c.Token(ctx, "hangs", 0)
		var e *tokencache.Error
		if !errors.As(err, &e) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a fetch that timed out gave %v", err)
		}
	})
}

func TestMinLifetime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		first := get(t, c, "k", 0)
		time.Sleep(25 * time.Minute)
		if get(t, c, "k", 20*time.Minute) != first {
			t.Error("renewed although enough was left")
		}
		time.Sleep(10 * time.Minute) // 25 minutes left
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if get(t, c, "k", 28*time.Minute) == first {
					t.Error("got a token with less life than demanded")
				}
			})
		}
		wg.Wait()
		wantCount(t, p, 2)
		if got := p.last().want; got.MinLifetime != 28*time.Minute || got.Replace != first.Fingerprint() {
			t.Errorf("the fetch was told %+v", got)
		}

		// While no new one can be had, the one that is there is better than nothing.
		p.set(func(p *provider) { p.err = down })
		time.Sleep(40 * time.Minute)
		get(t, c, "k", 30*time.Minute)
		wantCount(t, p, 3)
		get(t, c, "k", 30*time.Minute) // in back-off
		wantCount(t, p, 3)
	})
}

// TestMinLifetimeJoins: who needs more than the flight it joined was asked for, and more
// than that brought, gets a second fetch.
func TestMinLifetimeJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stored := token("stored", time.Hour) // as in a database that replicas share
		time.Sleep(40 * time.Minute)
		var fetches atomic.Int64
		c := tokencache.New(tokencache.Options[string]{
			Fetch: func(_ context.Context, _ string, want tokencache.Want) (*grant.Token, error) {
				fetches.Add(1)
				time.Sleep(time.Second)
				if time.Until(stored.ExpiresAt) < want.MinLifetime {
					stored = token("new", time.Hour)
				}
				return stored, nil
			},
		})
		defer c.Close(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "k", 0) })
		synctest.Wait()
		if left := time.Until(get(t, c, "k", 25*time.Minute).ExpiresAt); left < 25*time.Minute {
			t.Errorf("a caller that needs 25 minutes got %v", left)
		}
		wg.Wait()
		if n := fetches.Load(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

// TestSameTokenAgain: a provider (or a fetcher) that answers with the token it gave before
// is asked again in ever shorter intervals, but not without end and not once per call.
func TestSameTokenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		same := token("same", time.Hour)
		var fetches atomic.Int64
		c := tokencache.New(tokencache.Options[string]{
			Fetch: func(context.Context, string, tokencache.Want) (*grant.Token, error) {
				fetches.Add(1)
				return same, nil
			},
		})
		defer c.Close(t.Context())
		for time.Now().Before(same.ExpiresAt) {
			get(t, c, "k", 50*time.Minute)
			time.Sleep(100 * time.Millisecond)
		}
		if n := fetches.Load(); n > 20 {
			t.Errorf("%d fetches for one token", n)
		}
	})
}

// TestUselessResult: a fetch that reports success and brings nothing usable is a failure.
func TestUselessResult(t *testing.T) {
	for name, result := range map[string]func() *grant.Token{
		"nil":     func() *grant.Token { return nil },
		"expired": func() *grant.Token { return token("t", 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := tokencache.New(tokencache.Options[string]{
					Fetch: func(context.Context, string, tokencache.Want) (*grant.Token, error) { return result(), nil },
				})
				defer c.Close(t.Context())
				var g *grant.Error
				if e := refusal(t, c, "k"); !errors.As(e, &g) || g.Class != grant.Temporary {
					t.Errorf("got %v", e)
				}
			})
		})
	}
}

func TestPut(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		if c.Put("k", token("expired", 0)) || c.Put("k", nil) || keys(c) != 0 {
			t.Error("took what is no token")
		}
		p.err = rejected
		refusal(t, c, "k")
		old := token("old", time.Hour)
		time.Sleep(time.Second)
		elsewhere := token("elsewhere", time.Hour)
		if !c.Put("k", elsewhere) || get(t, c, "k", 0) != elsewhere {
			t.Error("a token from elsewhere did not end the back-off")
		}
		if c.Put("k", elsewhere) || c.Put("k", old) {
			t.Error("took a token that is not newer")
		}

		// The timers start again: the new token is renewed at 80 % of its own life.
		p.set(func(p *provider) { p.err = nil })
		time.Sleep(40 * time.Minute)
		c.Put("k", token("newer", time.Hour))
		get(t, c, "k", 0)
		time.Sleep(40 * time.Minute)
		wantCount(t, p, 1)
		time.Sleep(15 * time.Minute)
		wantCount(t, p, 2)
	})
}

// TestPutDuringFlight: what the flight brings does not replace a newer token.
func TestPutDuringFlight(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		p.latency = time.Second
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "k", 0) })
		time.Sleep(time.Second / 2)
		elsewhere := token("elsewhere", time.Hour)
		c.Put("k", elsewhere)
		wg.Wait()
		if get(t, c, "k", 0) != elsewhere {
			t.Error("an older token replaced a newer one")
		}
		wantCount(t, p, 1)
	})
}

func TestForget(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		get(t, c, "a1", 0)
		b := get(t, c, "b", 0)
		p.latency = time.Second
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "a2", 0) })
		synctest.Wait()
		c.Forget(func(key string) bool { return strings.HasPrefix(key, "a") })
		wg.Wait() // the caller of a2 gets what it waited for
		wantCount(t, p, 3)
		if n := keys(c); n != 1 || c.Peek("b").Token != b {
			t.Errorf("%d keys left, want b alone", n)
		}
		get(t, c, "a1", 0)
		wantCount(t, p, 4)
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := tokencache.New(tokencache.Options[string]{
			Fetch: func(ctx context.Context, key string, _ tokencache.Want) (*grant.Token, error) {
				switch key {
				case "polite":
					<-ctx.Done()
				case "stubborn":
					<-release
				}
				return token("t", time.Hour), ctx.Err()
			},
		})
		get(t, c, "held", 0)
		var wg sync.WaitGroup
		for _, key := range []string{"polite", "stubborn"} {
			wg.Go(func() {
				if _, err := c.Token(t.Context(), key, 0); !errors.Is(err, tokencache.ErrClosed) {
					t.Errorf("the caller of %s got %v", key, err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close did not wait for a fetch that goes on: %v", err)
		}
		close(release)
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("closing: %v", err)
		}
		wg.Wait()
		for _, key := range []string{"held", "new"} {
			if _, err := c.Token(t.Context(), key, 0); !errors.Is(err, tokencache.ErrClosed) {
				t.Errorf("after Close, %s: %v", key, err)
			}
		}
		if c.Put("k", token("t", time.Hour)) || keys(c) != 0 {
			t.Error("a closed cache took a token")
		}
	})
}

func TestObservers(t *testing.T) {
	var started, finished []string
	o := tokencache.Options[string]{
		Started: func(key string) { started = append(started, key) },
		Finished: func(key string, took time.Duration, err error) {
			finished = append(finished, fmt.Sprint(key, " ", took, " ", err))
		},
	}
	withOptions(t, o, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		p.latency = time.Second
		get(t, c, "a", 0)
		get(t, c, "a", 0)
		p.set(func(p *provider) { p.err = errors.New("no route") })
		refusal(t, c, "b")
	})
	if got := strings.Join(started, ","); got != "a,b" {
		t.Errorf("started %s", got)
	}
	if got := strings.Join(finished, ","); got != "a 1s <nil>,b 1s no route" {
		t.Errorf("finished %s", got)
	}
}

// TestLookupAndRetry: Lookup never waits and never fetches; Retry ends a back-off, and only that.
func TestLookupAndRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetches, fail := 0, true
		c := tokencache.New(tokencache.Options[string]{Fetch: func(context.Context, string, tokencache.Want) (*grant.Token, error) {
			fetches++
			if fail {
				return nil, &grant.Error{Class: grant.Permanent, Message: "no"}
			}
			now := time.Now()
			return &grant.Token{AccessToken: "t", Type: "Bearer", IssuedAt: now, ExpiresAt: now.Add(time.Hour)}, nil
		}})
		defer c.Close(t.Context())
		if c.Lookup("k", 0) != nil || c.Retry("k") || fetches != 0 {
			t.Error("an unknown key has a token or a back-off, or was fetched")
		}
		if _, err := c.Token(t.Context(), "k", 0); err == nil || c.Lookup("k", 0) != nil || fetches != 1 {
			t.Errorf("a failed key: %v after %d fetches", err, fetches)
		}
		fail = false
		if !c.Retry("k") || c.Retry("k") {
			t.Error("Retry ends a back-off once")
		}
		got, err := c.Token(t.Context(), "k", 0)
		if err != nil || c.Lookup("k", 0) != got || c.Lookup("k", 2*time.Hour) != got || fetches != 2 {
			t.Errorf("after Retry: %v after %d fetches", err, fetches)
		}
		time.Sleep(31 * time.Minute) // of the bubble
		if c.Lookup("k", time.Hour) != nil || c.Lookup("k", 0) != got {
			t.Error("Lookup hands out a token that is too old, or none")
		}
		if c.Retry("k") || c.Lookup("k", 0) != got {
			t.Error("Retry dropped a token")
		}
	})
}
