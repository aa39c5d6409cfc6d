package broker_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// dataKeys counts the sealed values of a database by the id of the data key in front of them.
func dataKeys(t testing.TB, s *store.Store) map[string]int {
	t.Helper()
	keys := map[string]int{}
	for _, text := range []string{
		`SELECT sealed FROM credential_secret`, `SELECT sealed FROM token WHERE sealed IS NOT NULL`, `SELECT digest FROM idempotency`,
		`SELECT value FROM issuer_state WHERE name = 'hash_key'`,
	} {
		values := query[[]byte](t, s, text)
		if len(values) == 0 {
			t.Errorf("no values of %s", text)
		}
		for _, v := range values {
			keys[hex.EncodeToString(v[:5])]++
		}
	}
	return keys
}

// TestRotateKeyWhileTokensAreFetched gives the hub a new data key, again and again, while
// programs get tokens and credentials are saved: nothing fails, and all is sealed anew.
func TestRotateKeyWhileTokensAreFetched(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, database string) {
		p := grantwaytest.NewProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database})
		rotateWhileTokensAreFetched(t, p, open(t, hub, database), hub, hub)
	})
	t.Run("two hubs", func(t *testing.T) {
		a, b, p, database := pair(t)
		rotateWhileTokensAreFetched(t, p, storetest.Open(t, database), a, b)
	})
}

func rotateWhileTokensAreFetched(t *testing.T, p *grantwaytest.Provider, db *store.Store, rotating, using *grantwaytest.Hub) {
	const credentials = 8
	for i := range credentials {
		create(t, rotating, credential(p, fmt.Sprint("c", i), map[string]string{"dpop": fmt.Sprint(i%2 == 0)}))
	}
	for i := range credentials {
		known(t, using, fmt.Sprint("c", i))
		token(t, using, grantway.Ref{Credential: fmt.Sprint("c", i)})
	}
	before := dataKeys(t, db)
	var users sync.WaitGroup
	var done atomic.Bool
	var fetched atomic.Int64
	for i := range 4 {
		users.Go(func() {
			for n := i; !done.Load(); n++ {
				name := fmt.Sprint("c", n%credentials)
				var e *grantway.Error
				if err := renewNow(t, using.Client, name); errors.As(err, &e) && e.Code == grantway.RateLimited {
					continue // enough of this one
				} else if err != nil {
					t.Error(err)
				}
				if _, err := using.Token(t.Context(), grantway.Ref{Credential: name}); err != nil {
					t.Error(err)
				}
				fetched.Add(1)
			}
		})
	}
	users.Go(func() {
		for n := 0; !done.Load(); n++ {
			if _, err := using.CreateCredential(t.Context(), credential(p, fmt.Sprint("new", n), nil)); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2 {
		at := fetched.Load()
		n, err := rotating.RotateKey(t.Context())
		if err != nil {
			t.Errorf("rotate: %v", err)
		}
		if n < credentials {
			t.Errorf("%d values sealed again", n)
		}
		eventually(t, 10*time.Second, "tokens after the rotation", func() bool { return fetched.Load() > at+8 })
	}
	done.Store(true)
	users.Wait()
	after := dataKeys(t, db)
	if len(after) != 1 {
		t.Errorf("values by data key: %v", after)
	}
	for key := range after {
		if before[key] != 0 {
			t.Error("the data key is an old one")
		}
	}
	for i := range credentials {
		name := fmt.Sprint("c", i)
		count := p.Token.Count()
		token(t, using, grantway.Ref{Credential: name})
		wantRequests(t, p, count) // from memory, or from the table
		if r := validate(t, using, name); !r.OK {
			t.Errorf("%s: %s", name, asJSON(t, r))
		}
	}
}

// TestSwappedRows opens no sealed value in the place of another one.
func TestSwappedRows(t *testing.T) {
	each(t, func(t *testing.T, database string) {
		p := grantwaytest.NewProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		p.Register(grantwaytest.Client{ID: "rich", Secret: "other"})
		options := grantwaytest.HubOptions{Database: database, Data: t.TempDir()}
		var poor, rich grantway.Token
		t.Run("before", func(t *testing.T) {
			hub := grantwaytest.Start(t, options)
			create(t, hub, credential(p, "poor", nil))
			create(t, hub, credential(p, "rich", map[string]string{"client_id": "rich", "client_secret": "other"}))
			poor, rich = token(t, hub, grantway.Ref{Credential: "poor"}), token(t, hub, grantway.Ref{Credential: "rich"})

			db := open(t, hub, database)
			execute(t, db, `UPDATE token SET sealed = (SELECT t.sealed FROM token t, credential c WHERE t.credential_id = c.id AND c.name = 'rich')
				WHERE credential_id = (SELECT id FROM credential WHERE name = 'poor')`)
		})
		hub := grantwaytest.Start(t, options)
		got := token(t, hub, grantway.Ref{Credential: "poor"})
		if got.AccessToken == rich.AccessToken || got.AccessToken == poor.AccessToken {
			t.Error("a stored token was used in the wrong place")
		}
		wantRequests(t, p, 3) // a new one was fetched
		if got := token(t, hub, grantway.Ref{Credential: "rich"}); got.AccessToken != rich.AccessToken {
			t.Error("the other row is as it was")
		}

		// A token that does not open is no obstacle to a new data key; a secret is.
		db := open(t, hub, database)
		execute(t, db, `UPDATE token SET sealed = (SELECT t.sealed FROM token t, credential c WHERE t.credential_id = c.id AND c.name = 'rich')
			WHERE credential_id = (SELECT id FROM credential WHERE name = 'poor')`)
		if _, err := hub.RotateKey(t.Context()); err != nil {
			t.Errorf("rotate with a damaged token: %v", err)
		}
		execute(t, db, `UPDATE credential_secret SET sealed = (SELECT s.sealed FROM credential_secret s, credential c WHERE s.credential_id = c.id AND c.name = 'rich')
			WHERE credential_id = (SELECT id FROM credential WHERE name = 'poor')`)
		if err := hub.Invalidate(t.Context(), "poor", ""); err != nil {
			t.Fatal(err)
		}
		if s := validateFails(t, hub, "poor"); s != "" {
			t.Errorf("validated with another credential's secret: %s", s)
		}
		if _, err := hub.RotateKey(t.Context()); err == nil {
			t.Error("rotated with a secret that does not open")
		}
	})
}

// validateFails returns the report if there is one.
func validateFails(t testing.TB, hub *grantwaytest.Hub, name string) string {
	t.Helper()
	r, err := hub.ValidateCredential(t.Context(), name)
	if err != nil {
		return ""
	}
	return asJSON(t, r)
}
