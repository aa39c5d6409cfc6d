package broker_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// TestTokensWhileSaving reads tokens while the credential is saved again and again.
func TestTokensWhileSaving(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		c := create(t, hub, credential(p, "app", nil))
		var readers sync.WaitGroup
		var done atomic.Bool
		for range 4 {
			readers.Go(func() {
				for !done.Load() {
					if _, err := hub.Token(t.Context(), grantway.Ref{Credential: "app"}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for i := range 30 {
			c = update(t, hub, c, map[string]string{"scopes": fmt.Sprint("s", i)})
			if got := token(t, hub, grantway.Ref{Credential: "app"}); got.Scope != fmt.Sprint("s", i) {
				t.Errorf("after save %d: a token for %q", i, got.Scope)
			}
		}
		done.Store(true)
		readers.Wait()
	})
}

// TestDeletedWhileFetching deletes a credential under a request for its token.
func TestDeletedWhileFetching(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "app", nil))
		release := p.Token.Hold()
		result := make(chan error, 1)
		go func() {
			_, err := hub.Token(t.Context(), grantway.Ref{Credential: "app"})
			result <- err
		}()
		await(t, p, 1)
		if err := hub.DeleteCredential(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		release()
		<-result // whoever asked before may have it
		noToken(t, hub, grantway.Ref{Credential: "app"}, grantway.NotFound)
		if metric(t, hub, "grantway_database_away") != 0 {
			t.Error("that is no reason for an alarm")
		}
	})
}

// TestRestart stops a hub and starts another one on the same database: the token is still there.
func TestRestart(t *testing.T) {
	each(t, func(t *testing.T, database string) {
		p := grantwaytest.NewProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		options := grantwaytest.HubOptions{Database: database, Data: t.TempDir()}
		var first [3]grantway.Token
		refs := [3]grantway.Ref{{Credential: "app"}, {Credential: "app", Scope: "narrow"}, {Credential: "bound"}}
		t.Run("before", func(t *testing.T) {
			hub := grantwaytest.Start(t, options)
			create(t, hub, credential(p, "app", nil))
			create(t, hub, credential(p, "bound", map[string]string{"dpop": "true"}))
			for i, ref := range refs {
				first[i] = token(t, hub, ref)
			}
			p.Unregister("app")
			create(t, hub, credential(p, "failing", nil))
			noToken(t, hub, grantway.Ref{Credential: "failing"}, grantway.TokenRefused)
		})
		wantRequests(t, p, 4)
		hub := grantwaytest.Start(t, options)
		for i, ref := range refs {
			if got := token(t, hub, ref); got.AccessToken != first[i].AccessToken || !got.ExpiresAt.Equal(first[i].ExpiresAt) || got.Scope != first[i].Scope || got.TokenType != first[i].TokenType {
				t.Errorf("%+v: %+v, before the restart %+v", ref, got, first[i])
			}
		}
		callBound(t, hub, p, "bound")
		noToken(t, hub, grantway.Ref{Credential: "failing"}, grantway.TokenRefused, "unknown client (HTTP 401). Check the client identifier") // a failure outlives it, too
		wantRequests(t, p, 4)
	})
}

// TestStopWhileFetching stops a hub in the middle of a fetch: the next one need not wait for
// the lease to run out.
func TestStopWhileFetching(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, database string) {
		p := grantwaytest.NewProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Lifetime: 2 * time.Second})
		options := grantwaytest.HubOptions{Database: database, Data: t.TempDir()}
		t.Run("before", func(t *testing.T) {
			hub := grantwaytest.Start(t, options)
			create(t, hub, credential(p, "app", nil))
			token(t, hub, grantway.Ref{Credential: "app"})
			p.Token.Hold() // the renewal
			await(t, p, 2)
		})
		p.Token.Hold()()
		hub := grantwaytest.Start(t, options)
		began := time.Now()
		token(t, hub, grantway.Ref{Credential: "app"})
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the first token took %v", took)
		}
		if s := status(t, hub, "app"); s.Health != grantway.Healthy || s.LastError != nil {
			t.Errorf("the stop counts as a failure: %s", asJSON(t, s))
		}
	})
}
