package tokencache_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/tokencache"
)

// TestC24RenewsEarlyBehindCallers: a token in use is renewed when 80 % ± 5 % of its life
// have passed, and no caller ever waits for that or gets an expired token.
func TestC24RenewsEarlyBehindCallers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		get(t, c, "k", 0)
		p.set(func(p *provider) { p.latency = 20 * time.Second })
		for end := time.Now().Add(10 * time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
			before := time.Now()
			get(t, c, "k", 0)
			if waited := time.Since(before); waited > 0 {
				t.Fatalf("a caller waited %v behind a renewal", waited)
			}
		}
		for i, r := range p.requests[1:] {
			before := p.requests[i]
			if age := r.at.Sub(before.token.IssuedAt); age < 45*time.Minute || age > 51*time.Minute {
				t.Errorf("renewed at an age of %v, want 75 %% to 85 %% of 1 h", age)
			}
			if r.want.Replace != before.token.Fingerprint() {
				t.Errorf("request %d was not told what it replaces", i+2)
			}
		}
		if n := p.count(); n < 11 || n > 14 {
			t.Errorf("%d requests in 10 hours", n)
		}
	})
}

// TestC24JitterSpreads: tokens fetched together are not renewed together.
func TestC24JitterSpreads(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		const n = 1000
		for i := range n {
			get(t, c, fmt.Sprint(i), 0)
		}
		perMinute := map[time.Duration]int{}
		start := time.Now()
		time.Sleep(59 * time.Minute)
		wantCount(t, p, 2*n)
		for _, r := range p.requests[n:] {
			perMinute[r.at.Sub(start)/time.Minute]++
		}
		for m, got := range perMinute {
			if got > n/3 {
				t.Errorf("%d of %d renewals in minute %d", got, n, m)
			}
		}
	})
}

// TestC24ShortToken: a token that lives 3 s makes one request per 80 % of that, not one per call.
func TestC24ShortToken(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		p.life = 3 * time.Second
		for range 6000 {
			get(t, c, "k", time.Hour) // even when more is demanded than the provider ever gives
			time.Sleep(10 * time.Millisecond)
		}
		if n := p.count(); n < 60/3 || n > 60*2/3+1 { // MinLifetime counts for half the lifetime
			t.Errorf("%d requests for 6000 calls in a minute", n)
		}
		before := p.count()
		for range 6000 {
			get(t, c, "k", 0)
			time.Sleep(10 * time.Millisecond)
		}
		if n := p.count() - before; n < 60*100/(3*85) || n > 60*100/(3*75)+1 {
			t.Errorf("%d requests for 6000 calls in a minute", n)
		}
	})
}

// TestC24ServesOldTokenWhileRenewalFails: until it really expires; then the error says why
// and when, without another request.
func TestC24ServesOldTokenWhileRenewalFails(t *testing.T) {
	for _, cause := range []*grant.Error{down, rejected} {
		t.Run(string(cause.Class), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
				first := get(t, c, "k", 0)
				p.set(func(p *provider) { p.err = cause })
				for time.Now().Before(first.ExpiresAt) {
					if get(t, c, "k", 0) != first {
						t.Fatal("another token, from a provider that is down")
					}
					time.Sleep(time.Second)
				}
				tries := p.count() - 1
				if tries < 3 || tries > 200 {
					t.Errorf("%d tries to renew in the last fifth of an hour", tries)
				}
				e := refusal(t, c, "k")
				if !errors.Is(e, cause) || e.NextTry.IsZero() {
					t.Fatalf("got %v", e)
				}
				before := p.count()
				for time.Now().Before(e.NextTry) {
					refusal(t, c, "k")
					time.Sleep(max(1, time.Until(e.NextTry)/10))
				}
				wantCount(t, p, before)
				p.set(func(p *provider) { p.err = nil })
				get(t, c, "k", 0)
				wantCount(t, p, before+1)
				if s := c.Peek("k"); s.Failure != nil || s.Failures != 0 {
					t.Errorf("failure remembered after a success: %+v", s)
				}
			})
		})
	}
}

// TestC24UnusedIsForgotten: what nobody reads is not renewed, and leaves nothing behind.
func TestC24UnusedIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		const n = 10_000
		for i := range n {
			if !c.Put(fmt.Sprint("put-", i), token(fmt.Sprint(i), time.Hour)) {
				t.Fatal("a new token was not taken")
			}
		}
		get(t, c, "fetched", 0)
		time.Sleep(59 * time.Minute) // "fetched" was renewed by now, and is not read again
		wantCount(t, p, 2)
		if got := keys(c); got != n+1 {
			t.Fatalf("%d keys before expiry, want %d", got, n+1)
		}
		time.Sleep(2 * time.Hour)
		wantCount(t, p, 2)
		if got := keys(c); got != 0 {
			t.Errorf("%d keys left after expiry", got)
		}
	})
}

// TestC24FirstUsedLate: a token first read when its time of renewal is past is renewed then.
func TestC24FirstUsedLate(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		put := token("put", time.Hour)
		c.Put("k", put)
		time.Sleep(55 * time.Minute)
		wantCount(t, p, 0)
		if get(t, c, "k", 0) != put {
			t.Fatal("the caller did not get the token that was there")
		}
		synctest.Wait()
		wantCount(t, p, 1)
		if get(t, c, "k", 0) == put {
			t.Error("the token was not renewed")
		}
	})
}

// TestC25DropByFingerprint: a token that a resource refused is dropped and fetched again
// once; a newer one stays.
func TestC25DropByFingerprint(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		first := get(t, c, "k", 0)
		refused := first.Fingerprint()
		var wg sync.WaitGroup
		for range 100 { // a hundred calls fail with the same token
			wg.Go(func() {
				c.Drop("k", refused)
				if get(t, c, "k", 0) == first {
					t.Error("got the dropped token again")
				}
			})
		}
		wg.Wait()
		wantCount(t, p, 2)
		if p.last().want.Replace != refused {
			t.Error("the fetch was not told which token will not do")
		}
		if c.Drop("k", refused) {
			t.Error("an old fingerprint dropped a newer token")
		}
		get(t, c, "k", 0)
		wantCount(t, p, 2)
		if c.Drop("unknown", refused) || c.Drop("unknown", "") {
			t.Error("something was dropped where there is nothing")
		}
	})
}

// TestC25DroppedDoesNotComeBack: late news of a dropped token does not bring it back.
func TestC25DroppedDoesNotComeBack(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		first := get(t, c, "k", 0)
		c.Drop("k", first.Fingerprint())
		if c.Put("k", first) {
			t.Error("a dropped token was put back")
		}
		if s := c.Peek("k"); s.Token != nil {
			t.Error("the dropped token is there")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := keys(c); n != 0 {
			t.Error("the fingerprint outlived its token")
		}
	})
}

// TestC25RefusingResource: a resource that refuses every token does not cost a request per call.
func TestC25RefusingResource(t *testing.T) {
	inBubble(t, func(t *testing.T, c *tokencache.Cache[string], p *provider) {
		for range 600 {
			c.Drop("k", get(t, c, "k", 0).Fingerprint())
			time.Sleep(100 * time.Millisecond)
		}
		if n := p.count(); n < 10 || n > 1+10+6 {
			t.Errorf("%d requests for 600 refused calls in a minute", n)
		}
	})
}
