package broker_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// pair starts two hubs on one PostgreSQL database, and a provider with the client "app".
func pair(t *testing.T) (a, b *grantwaytest.Hub, p *grantwaytest.Provider, database string) {
	t.Helper()
	p = grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
	options := grantwaytest.HubOptions{Database: storetest.Postgres(t), Data: t.TempDir()}
	return grantwaytest.Start(t, options), grantwaytest.Start(t, options), p, options.Database
}

// known waits until a hub has heard of the credential.
func known(t testing.TB, hub *grantwaytest.Hub, name string) {
	t.Helper()
	eventually(t, store.Staleness, "the other hub knows "+name, func() bool {
		_, err := hub.Status(t.Context(), name)
		return err == nil
	})
}

// TestTwoHubsMakeOneRequest has both asked for the same cold token at once.
func TestTwoHubsMakeOneRequest(t *testing.T) {
	a, b, p, _ := pair(t)
	create(t, a, credential(p, "app", nil))
	known(t, b, "app")
	release := p.Token.Hold()
	var all sync.WaitGroup
	var got [20]string
	for i := range got {
		all.Go(func() {
			hub := []*grantwaytest.Hub{a, b}[i%2]
			token, err := hub.Token(t.Context(), grantway.Ref{Credential: "app"})
			if err != nil {
				t.Error(err)
			}
			got[i] = token.Fingerprint
		})
	}
	await(t, p, 1)
	for _, hub := range []*grantwaytest.Hub{a, b} {
		eventually(t, 10*time.Second, "all wait", func() bool { return metric(t, hub, `grantway_token_waiters{credential="app"}`) == 10 })
	}
	release()
	all.Wait()
	for _, fingerprint := range got {
		if fingerprint != got[0] || fingerprint == "" {
			t.Errorf("tokens %q", got)
		}
	}
	wantRequests(t, p, 1)
}

// TestTwoHubsShareAFailure has one hub fail, and the other one know without asking.
func TestTwoHubsShareAFailure(t *testing.T) {
	a, b, p, _ := pair(t)
	for name, reply := range map[string]grantwaytest.Reply{
		"permanent": grantwaytest.OAuthError(401, "invalid_client", "who is that"),
		"throttled": grantwaytest.RetryAfter(429, "40"),
		"page":      grantwaytest.HTML(404),
	} {
		before := p.Token.Count()
		p.Token.Next(reply)
		create(t, a, credential(p, name, nil))
		known(t, b, name)
		code := grantway.TokenRefused
		if name == "throttled" {
			code = grantway.Unavailable
		}
		one, two := noToken(t, a, grantway.Ref{Credential: name}, code), noToken(t, b, grantway.Ref{Credential: name}, code)
		if one.Message != two.Message {
			t.Errorf("one hub says %q,\nthe other one %q", one.Message, two.Message)
		}
		if d := two.RetryAt.Sub(one.RetryAt); d < -2*time.Second || d > 2*time.Second || time.Until(two.RetryAt) < 30*time.Second {
			t.Errorf("%s: retry at %v and %v", name, one.RetryAt, two.RetryAt)
		}
		wantRequests(t, p, before+1)
	}
}

// TestTwoHubsShareHealthAndRepair validates on one hub what both failed with.
func TestTwoHubsShareHealthAndRepair(t *testing.T) {
	a, b, p, _ := pair(t)
	p.Unregister("app")
	create(t, a, credential(p, "app", nil))
	known(t, b, "app")
	ref := grantway.Ref{Credential: "app"}
	noToken(t, a, ref, grantway.TokenRefused)
	noToken(t, b, ref, grantway.TokenRefused)
	p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
	if r := validate(t, a, "app"); !r.OK {
		t.Fatalf("report %s", asJSON(t, r))
	}
	eventually(t, store.Staleness, "the other hub has the token", func() bool {
		_, err := b.Token(t.Context(), ref)
		return err == nil
	})
	if s := status(t, b, "app"); s.Health != grantway.Healthy {
		t.Errorf("status %s", asJSON(t, s))
	}
	wantRequests(t, p, 2)
}

// TestSaveIsSeenByTheOtherHub in a second at most.
func TestSaveIsSeenByTheOtherHub(t *testing.T) {
	a, b, p, _ := pair(t)
	c := create(t, a, credential(p, "app", nil))
	known(t, b, "app")
	for i := range 5 {
		scope := fmt.Sprint("s", i)
		c = update(t, a, c, map[string]string{"scopes": scope})
		eventually(t, store.Staleness, "a token of the new version", func() bool {
			return token(t, b, grantway.Ref{Credential: "app"}).Scope == scope
		})
	}
	if err := a.DeleteCredential(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	eventually(t, store.Staleness, "it is gone", func() bool {
		_, err := b.Token(t.Context(), grantway.Ref{Credential: "app"})
		var e *grantway.Error
		return errors.As(err, &e) && e.Code == grantway.NotFound
	})
}

// TestInvalidateReachesTheOtherHub drops a token on both, and costs one request.
func TestInvalidateReachesTheOtherHub(t *testing.T) {
	a, b, p, _ := pair(t)
	create(t, a, credential(p, "app", nil))
	known(t, b, "app")
	ref := grantway.Ref{Credential: "app"}
	for i := range 6 {
		old := token(t, a, ref)
		if other := token(t, b, ref); other.Fingerprint != old.Fingerprint {
			t.Fatal("two tokens")
		}
		wantRequests(t, p, i+1)
		fingerprint := old.Fingerprint
		if i%2 == 1 {
			fingerprint = "" // renew now
		}
		if err := a.Invalidate(t.Context(), "app", fingerprint); err != nil {
			t.Fatal(err)
		}
		eventually(t, store.Staleness, "a new token", func() bool { return token(t, b, ref).Fingerprint != old.Fingerprint })
	}
}

// TestLeaseOfADeadHub is taken over when it has run out, and not before.
func TestLeaseOfADeadHub(t *testing.T) {
	each(t, func(t *testing.T, database string) {
		p := grantwaytest.NewProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database})
		create(t, hub, credential(p, "app", nil))
		token(t, hub, grantway.Ref{Credential: "app"})
		const left = time.Second
		began := time.Now()
		execute(t, open(t, hub, database), `UPDATE token SET sealed = NULL, fingerprint = '', expires_at = 0, holder = 'dead', lease_until = $1`, began.Add(left).UnixMilli())
		got := token(t, hub, grantway.Ref{Credential: "app", MinLifetime: 3600}) // that in memory goes on meanwhile
		wantRequests(t, p, 1)
		if err := hub.Invalidate(t.Context(), "app", got.Fingerprint); err != nil {
			t.Fatal(err)
		}
		token(t, hub, grantway.Ref{Credential: "app"})
		if took := time.Since(began); took < left || took > left+2*time.Second {
			t.Errorf("taken over after %v, want %v", took, left)
		}
		wantRequests(t, p, 2)
	})
}
