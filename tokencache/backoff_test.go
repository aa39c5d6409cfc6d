package tokencache_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/tokencache"
)

// delays returns how long the cache stays away from the provider after each of n failures
// in a row, when a caller is back at once each time.
func delays(t *testing.T, c *tokencache.Cache[string], n int) []time.Duration {
	t.Helper()
	var all []time.Duration
	for range n {
		e := refusal(t, c, "k")
		all = append(all, time.Until(e.NextTry))
		time.Sleep(time.Until(e.NextTry))
	}
	return all
}

func TestBackoffPermanent(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		p.err = rejected
		want := []time.Duration{1, 2, 4, 8, 16, 30, 30}
		for i, got := range delays(t, c, len(want)) {
			if got != want[i]*time.Minute {
				t.Errorf("delay %d is %v, want %d min", i+1, got, want[i])
			}
		}
		wantCount(t, p, len(want))
		if s := c.Peek("k"); s.Failures != len(want) || !errors.Is(s.Failure, rejected) {
			t.Errorf("state %+v", s)
		}
		time.Sleep(2 * time.Hour)
		if keys(c) != 0 {
			t.Error("a failure that nobody asks about is never forgotten")
		}
	})
}

func TestBackoffTemporary(t *testing.T) {
	for _, cause := range []error{down, errors.New("not a grant.Error"), &grant.Error{Class: grant.Throttled}} {
		inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
			p.err = cause
			distinct := map[time.Duration]bool{}
			bound := time.Second
			for i, got := range delays(t, c, 20) {
				if got <= 0 || got > bound {
					t.Errorf("delay %d is %v, want at most %v", i+1, got, bound)
				}
				distinct[got] = true
				bound = min(2*bound, time.Minute)
			}
			if len(distinct) < 15 {
				t.Errorf("delays without jitter: %v", distinct)
			}
		})
	}
}

func TestBackoffThrottled(t *testing.T) {
	for _, tt := range []struct{ asked, want time.Duration }{
		{90 * time.Second, 90 * time.Second},
		{30 * time.Minute, 30 * time.Minute},
		{48 * time.Hour, time.Hour}, // capped
	} {
		inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
			p.err = &grant.Error{Stage: grant.StageResponse, Class: grant.Throttled, Status: 429, RetryAt: time.Now().Add(tt.asked)}
			e := refusal(t, c, "k")
			if got := time.Until(e.NextTry); got != tt.want {
				t.Errorf("asked for %v: next try in %v, want %v", tt.asked, got, tt.want)
			}
			time.Sleep(tt.want - 1)
			refusal(t, c, "k")
			wantCount(t, p, 1)
		})
	}
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		p.err = &grant.Error{Class: grant.Throttled, RetryAt: time.Now().Add(-time.Minute)}
		if e := refusal(t, c, "k"); !time.Now().Before(e.NextTry) {
			t.Error("a Retry-After in the past leads to a try at once")
		}
	})
}

// TestBackoffOptions: every bound can be set.
func TestBackoffOptions(t *testing.T) {
	o := tokencache.Options[string]{
		Permanent:     tokencache.Backoff{First: time.Second, Max: 3 * time.Second},
		MaxRetryAfter: time.Minute,
	}
	withOptions(t, o, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		p.err = rejected
		for i, got := range delays(t, c, 3) {
			if want := []time.Duration{1, 2, 3}[i] * time.Second; got != want {
				t.Errorf("delay %d is %v, want %v", i+1, got, want)
			}
		}
		p.set(func(p *provider) {
			p.err = &grant.Error{Class: grant.Throttled, RetryAt: time.Now().Add(time.Hour)}
		})
		if got := delays(t, c, 1)[0]; got != time.Minute {
			t.Errorf("sent away for %v, want the cap of 1 minute", got)
		}
	})
}

// TestRenewNow: Drop without a fingerprint takes away the token and ends a back-off.
func TestRenewNow(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		first := get(t, c, "k", 0)
		if !c.Drop("k", "") || get(t, c, "k", 0) == first {
			t.Error("the token is still there")
		}
		wantCount(t, p, 2)
		c.Drop("k", "")
		p.set(func(p *provider) { p.err = rejected })
		refusal(t, c, "k")
		p.set(func(p *provider) { p.err = nil })
		refusal(t, c, "k")
		if !c.Drop("k", "") {
			t.Error("a back-off is something to drop")
		}
		get(t, c, "k", 0)
		wantCount(t, p, 4)
	})
}

// TestRenewNowDuringFlight: what was asked before "renew now" is not what was meant, so
// the flight asks once more, and those who wait get the later answer.
func TestRenewNowDuringFlight(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		p.latency, p.err = time.Second, rejected
		var wg sync.WaitGroup
		wg.Go(func() { get(t, c, "k", 0) })
		synctest.Wait()
		p.set(func(p *provider) { p.err = nil })
		c.Drop("k", "")
		wg.Wait()
		wantCount(t, p, 2)
		get(t, c, "k", 0)
		wantCount(t, p, 2)
	})
}
