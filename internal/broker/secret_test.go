package broker_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// keyStore is a secret store and how its keys are written.
type keyStore struct {
	name string
	set  func(t testing.TB, key, value string)
}

// eachStore runs body with a hub, for each kind of database and of secret store.
func eachStore(t *testing.T, body func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider, s keyStore)) {
	each(t, func(t *testing.T, database string) {
		dir := t.TempDir()
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database, SecretFiles: dir})
		for _, s := range []keyStore{
			{"file", func(t testing.TB, key, value string) {
				if err := os.WriteFile(filepath.Join(dir, key), []byte(value+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}},
			{"env", func(t testing.TB, key, value string) { t.Setenv(key, value) }},
		} {
			t.Run(s.name, func(t *testing.T) {
				p := grantwaytest.NewProvider(t)
				p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
				body(t, hub, p, s)
			})
		}
	})
}

func fromStore(p *grantwaytest.Provider, name, key string, s keyStore) grantway.Credential {
	c := credential(p, name, nil)
	c.Inputs["client_secret"] = external(key, s.name)
	return c
}

// TestExternalSecretThatIsNotThere is C-6: a credential is saved before its secret is, the
// error names store and key, and once the key is there the very next request works.
func TestExternalSecretThatIsNotThere(t *testing.T) {
	eachStore(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider, s keyStore) {
		name, key := "missing-"+s.name, "TEST_BROKER_MISSING_"+s.name
		c := create(t, hub, fromStore(p, name, key, s))
		if len(c.Warnings) != 1 || c.Warnings[0].Pointer != "/inputs/client_secret" {
			t.Errorf("warnings %+v", c.Warnings)
		}
		for range 3 {
			noToken(t, hub, grantway.Ref{Credential: name}, grantway.Unavailable, "secret store "+s.name+" has no key "+key)
		}
		if st := status(t, hub, name); st.Health != grantway.Failing || st.LastError == nil || st.LastError.Stage != "prepare" || st.LastError.Hint == "" {
			t.Errorf("status %s", asJSON(t, st))
		}
		wantRequests(t, p, 0)

		s.set(t, key, "s3cret")
		began := time.Now()
		token(t, hub, grantway.Ref{Credential: name})
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if st := status(t, hub, name); st.Health != grantway.Healthy {
			t.Errorf("status %s", asJSON(t, st))
		}
	})
}

// TestExternalSecretIsRotated at the provider and in the store, without an edit of the credential.
func TestExternalSecretIsRotated(t *testing.T) {
	eachStore(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider, s keyStore) {
		name, key := "rotated-"+s.name, "TEST_BROKER_ROTATED_"+s.name
		s.set(t, key, "s3cret")
		created := create(t, hub, fromStore(p, name, key, s))
		first := token(t, hub, grantway.Ref{Credential: name})
		renew := func() {
			t.Helper()
			if err := hub.Invalidate(t.Context(), name, ""); err != nil {
				t.Fatal(err)
			}
		}

		// First in the store, then at the provider.
		s.set(t, key, "second")
		p.Register(grantwaytest.Client{ID: "app", Secret: "second"})
		renew()
		if got := token(t, hub, grantway.Ref{Credential: name}); got.Fingerprint == first.Fingerprint {
			t.Error("not renewed")
		}
		wantRequests(t, p, 2)

		// First at the provider, and a program asks in between: it backs off, but only for as
		// long as the store holds what was refused.
		p.Register(grantwaytest.Client{ID: "app", Secret: "third"})
		renew()
		noToken(t, hub, grantway.Ref{Credential: name}, grantway.TokenRefused, "wrong secret")
		noToken(t, hub, grantway.Ref{Credential: name, Scope: "a"}, grantway.TokenRefused, "wrong secret")
		noToken(t, hub, grantway.Ref{Credential: name}, grantway.TokenRefused, "wrong secret")
		wantRequests(t, p, 4)
		s.set(t, key, "third")
		token(t, hub, grantway.Ref{Credential: name})
		token(t, hub, grantway.Ref{Credential: name, Scope: "a"})
		wantRequests(t, p, 6)

		// Neither is right: one request for each value, no more.
		p.Register(grantwaytest.Client{ID: "app", Secret: "fourth"})
		renew()
		noToken(t, hub, grantway.Ref{Credential: name}, grantway.TokenRefused)
		s.set(t, key, "wrong")
		for range 3 {
			noToken(t, hub, grantway.Ref{Credential: name}, grantway.TokenRefused)
		}
		wantRequests(t, p, 8)

		now, err := hub.Credential(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(created, now); diff != "" {
			t.Errorf("the credential was changed (-created +now):\n%s", diff)
		}
	})
}

// TestSecretMovesToAStore wipes what was stored of it (C-6).
func TestSecretMovesToAStore(t *testing.T) {
	t.Setenv("TEST_BROKER_MOVED", "s3cret")
	each(t, func(t *testing.T, database string) {
		p := grantwaytest.NewProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database})
		db := open(t, hub, database)
		stored := func() []string {
			return query[string](t, db, `SELECT input FROM credential_secret WHERE credential_id IN (SELECT id FROM credential WHERE name = 'app') ORDER BY input`)
		}
		c := create(t, hub, credential(p, "app", map[string]string{"next_client_secret": "n3xt"}))
		if diff := cmp.Diff([]string{"client_secret", "next_client_secret"}, stored()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		c.Inputs["client_secret"] = external("TEST_BROKER_MOVED", "env")
		c.Inputs["next_client_secret"] = grantway.Value{} // null removes it
		c = update(t, hub, c, nil)
		if left := stored(); left != nil {
			t.Errorf("still stored: %q", left)
		}
		token(t, hub, grantway.Ref{Credential: "app"})
		c.Inputs["client_secret"] = grantway.Text("s3cret") // and back
		update(t, hub, c, nil)
		token(t, hub, grantway.Ref{Credential: "app"})
		if diff := cmp.Diff([]string{"client_secret"}, stored()); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}

// TestNextSecret is tried when the provider refuses the current one, and becomes it when it
// works, whichever of the two is in the database and which in a store.
func TestNextSecret(t *testing.T) {
	t.Setenv("TEST_BROKER_CURRENT", "old")
	t.Setenv("TEST_BROKER_NEXT", "new")
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		internal := grantway.Value{Set: true}
		inEnv := external("TEST_BROKER_NEXT", "env")
		for name, c := range map[string]struct {
			current, next grantway.Value
			want          grantway.Value
		}{
			"internal":             {grantway.Text("old"), grantway.Text("new"), internal},
			"external":             {external("TEST_BROKER_CURRENT", "env"), inEnv, inEnv},
			"internal-to-external": {grantway.Text("old"), inEnv, inEnv},
			"external-to-internal": {external("TEST_BROKER_CURRENT", "env"), grantway.Text("new"), internal},
		} {
			p.Register(grantwaytest.Client{ID: name, Secret: "old"})
			saved := credential(p, name, map[string]string{"client_id": name, "client_secret_expires_at": "2030-01-31"})
			saved.Inputs["client_secret"], saved.Inputs["next_client_secret"] = c.current, c.next
			saved = create(t, hub, saved)
			before := p.Token.Count()
			token(t, hub, grantway.Ref{Credential: name})
			wantRequests(t, p, before+1) // the current one works, so the next one is not tried

			p.Register(grantwaytest.Client{ID: name, Secret: "new"})
			if err := hub.Invalidate(t.Context(), name, ""); err != nil {
				t.Fatal(err)
			}
			got := token(t, hub, grantway.Ref{Credential: name})
			wantRequests(t, p, before+3)
			now, err := hub.Credential(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			want := saved
			want.Version, want.UpdatedAt, want.Inputs = now.Version, now.UpdatedAt, grantway.Inputs{
				"client_id": saved.Inputs["client_id"], "token_endpoint": saved.Inputs["token_endpoint"], "client_secret": c.want}
			if diff := cmp.Diff(want, now); diff != "" || now.Version != saved.Version+1 {
				t.Errorf("%s: promoted (-want +got):\n%s", name, diff)
			}
			if again := token(t, hub, grantway.Ref{Credential: name}); again.Fingerprint != got.Fingerprint {
				t.Errorf("%s: the new version has another token", name)
			}
			if err := hub.Invalidate(t.Context(), name, ""); err != nil {
				t.Fatal(err)
			}
			token(t, hub, grantway.Ref{Credential: name}) // with the promoted one, at once
			wantRequests(t, p, before+4)
		}
	})
}

// TestNextSecretThatDoesNotWork is tried once, and stays where it is.
func TestNextSecretThatDoesNotWork(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "app", Secret: "something else"})
		create(t, hub, credential(p, "app", map[string]string{"next_client_secret": "n3xt"}))
		for range 3 {
			noToken(t, hub, grantway.Ref{Credential: "app"}, grantway.TokenRefused, "wrong secret")
		}
		wantRequests(t, p, 2)

		c := credential(p, "gone", nil)
		c.Inputs["next_client_secret"] = external("TEST_BROKER_NOT_THERE", "env")
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		create(t, hub, c)
		token(t, hub, grantway.Ref{Credential: "gone"}) // the next one is not needed yet
		r := validate(t, hub, "gone")
		wantSteps(t, r, "settings ok", "secret warning", "address ok", "request ok", "response ok")
		contains(t, r.Steps[1].Hint, "next_client_secret", "TEST_BROKER_NOT_THERE")
	})
}

// TestEnvStoreKeepsTheHubsOwnKeys lets nobody read them through a credential.
func TestEnvStoreKeepsTheHubsOwnKeys(t *testing.T) {
	t.Setenv("GRANTWAY_KEY", "kek")
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		c := credential(p, "app", nil)
		c.Inputs["client_secret"] = external("GRANTWAY_KEY", "env")
		if r := validateDraft(t, hub, c); r.OK || lastStep(r).Name != "secret" {
			t.Errorf("report %s", asJSON(t, r))
		}
		create(t, hub, c)
		noToken(t, hub, grantway.Ref{Credential: "app"}, grantway.Unavailable, "GRANTWAY_KEY belongs to the hub itself")
		wantRequests(t, p, 0)

		var e *grantway.Error
		c.Name, c.Inputs["client_secret"] = "other", external("KEY", "vault")
		if _, err := hub.CreateCredential(t.Context(), c); !errors.As(err, &e) || e.Code != grantway.Invalid || e.Fields[0].Pointer != "/inputs/client_secret/store" {
			t.Errorf("an unknown store: %v", err)
		}
	})
}
