package tokencache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grantway/grantway/grant"
)

func fixed(life time.Duration) func(context.Context, string, Want) (*grant.Token, error) {
	return func(context.Context, string, Want) (*grant.Token, error) {
		now := time.Now()
		return &grant.Token{AccessToken: "t", Type: "Bearer", IssuedAt: now, ExpiresAt: now.Add(life)}, nil
	}
}

// TestHotRead: it allocates nothing and waits for no lock.
func TestHotRead(t *testing.T) {
	c := New(Options[string]{Fetch: fixed(time.Hour)})
	defer c.Close(t.Context())
	read := func() {
		if _, err := c.Token(t.Context(), "k", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	read()
	read()
	e := c.lock("k") // would block whatever takes the lock for as long as the cleared second lasts
	e.held.Load().cleared.Store(int64(time.Hour))
	defer e.mu.Unlock()
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() { c.Token(ctx, "k", time.Minute) }); n != 0 {
		t.Errorf("%v allocations per read", n)
	}
}

// TestSuspended: a machine that slept, so that its monotonic clock knows nothing of the
// time that passed, notices the expiry within a second.
func TestSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options[string]{Fetch: fixed(time.Minute)})
		defer c.Close(t.Context())
		first, _ := c.Token(t.Context(), "k", 0)
		c.lock("k").mu.Unlock()
		v, _ := c.entries.Load("k")
		e := v.(*entry[string])
		e.mu.Lock()
		e.held.Load().expires += time.Hour // as if the epoch lay an hour later
		e.disarm()                         // and the timer has yet to fire
		e.mu.Unlock()
		c.Token(t.Context(), "k", 0)
		time.Sleep(time.Minute)
		if got, err := c.Token(t.Context(), "k", 0); err != nil || got == first {
			t.Errorf("got %p, %v; want a token other than %p", got, err, first)
		}
	})
}
