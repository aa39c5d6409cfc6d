package broker_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// TestBasicAndPost is C-2 and C-3: one method of authentication a request, and secrets that
// get through only when they are encoded right.
func TestBasicAndPost(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		for i, secret := range []string{"s3cret", "jhyun/ku[ojubbj]/jhgfdrg^7*dfg&jkiu#bjshdm,ktttdg", "a=b+c%25 é:"} {
			id := fmt.Sprint("client ", i)
			for _, m := range []struct {
				name   string
				method grantwaytest.Method
				inputs map[string]string
			}{
				{"basic", grantwaytest.AuthBasic, nil},
				{"raw", grantwaytest.AuthRawBasic, map[string]string{"basic_encoding": "raw"}},
				{"post", grantwaytest.AuthPost, map[string]string{"auth_method": "client_secret_post"}},
			} {
				p.Register(grantwaytest.Client{ID: id, Secret: secret, Method: m.method})
				c := with(credential(p, fmt.Sprint(m.name, i), map[string]string{"client_id": id, "client_secret": secret, "scopes": "B a  A"}), m.inputs)
				create(t, hub, c)
				if r := validate(t, hub, c.Name); !r.OK {
					t.Errorf("%s %q: %s", m.name, secret, asJSON(t, r))
					continue
				}
				got := p.Token.Requests()[p.Token.Count()-1]
				body := "grant_type=client_credentials&scope=B+a+A"
				authorization := got.Header.Get("Authorization")
				if m.name == "post" {
					if authorization != "" || got.Form.Get("client_secret") != secret || got.Form.Get("client_id") != id {
						t.Errorf("post: %q, body %q", authorization, got.Body)
					}
				} else if !strings.HasPrefix(authorization, "Basic ") || string(got.Body) != body {
					t.Errorf("%s: %q, body %q", m.name, authorization, got.Body)
				}
				if len(got.Query) > 0 {
					t.Errorf("%s: query %v", m.name, got.Query)
				}
			}
		}
	})
}

// TestTokenAnswer shows what a program gets, and that a second one gets it from memory.
func TestTokenAnswer(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "app", map[string]string{"scopes": "read write"}))
		got := token(t, hub, grantway.Ref{Credential: "APP"}) // names are the same in any case
		issued := p.Tokens()[0]
		want := grantway.Token{AccessToken: issued, TokenType: "Bearer", ExpiresIn: got.ExpiresIn, ExpiresAt: got.ExpiresAt, Scope: "read write",
			Fingerprint: got.Fingerprint, Header: grantway.Header{Name: "Authorization", Value: "Bearer " + issued}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("token (-want +got):\n%s", diff)
		}
		if left := time.Until(got.ExpiresAt); left < 59*time.Minute || left > time.Hour || got.ExpiresIn < 3540 || got.ExpiresIn > 3600 {
			t.Errorf("expires in %d s, at %v", got.ExpiresIn, got.ExpiresAt)
		}
		again := token(t, hub, grantway.Ref{Credential: "app"})
		if again.AccessToken != issued {
			t.Error("two tokens")
		}
		wantRequests(t, p, 1)
	})
}

// TestC23CacheKey changes each part of what a token is for: another token. The same again: none.
func TestC23CacheKey(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "other", Secret: "s3cret"})
		c := create(t, hub, credential(p, "app", nil))
		create(t, hub, credential(p, "twin", nil)) // the same inputs, another credential
		seen := map[string]string{}
		distinct := func(part string, ref grantway.Ref) {
			t.Helper()
			got := token(t, hub, ref)
			if again := token(t, hub, ref); again.Fingerprint != got.Fingerprint {
				t.Errorf("%s: a second token for the same", part)
			}
			if before, ok := seen[got.Fingerprint]; ok {
				t.Errorf("%s: the token of %s", part, before)
			}
			seen[got.Fingerprint] = part
			wantRequests(t, p, len(seen))
		}
		own := grantway.Ref{Credential: "app"}
		distinct("nothing", own)
		distinct("connection", grantway.Ref{Credential: "twin"})
		for _, edit := range []struct {
			part   string
			inputs map[string]string
		}{
			{"token URL", map[string]string{"token_endpoint": p.Token.URL + "?tenant=a"}},
			{"client id", map[string]string{"client_id": "other"}},
			{"scopes", map[string]string{"scopes": "read"}},
			{"audience", map[string]string{"audience": "https://api.example.com"}},
			{"resource", map[string]string{"resource": "https://api.example.com"}},
			{"DPoP", map[string]string{"dpop": "true"}},
		} {
			c = update(t, hub, c, edit.inputs)
			distinct(edit.part, own)
		}
		c.Inputs["extra_parameters"] = grantway.Value{Params: []grantway.Param{{In: "body", Name: "region", Value: "b"}}}
		c = update(t, hub, c, nil)
		distinct("extra parameters", own)
		c.Inputs["dpop_key"] = grantway.Text(string(newKeyPEM(t)))
		c = update(t, hub, c, nil)
		distinct("DPoP key", own)

		distinct("scope of the request", grantway.Ref{Credential: "app", Scope: "write"})
		distinct("order of the scope", grantway.Ref{Credential: "app", Scope: "write read"})
		distinct("audience of the request", grantway.Ref{Credential: "app", Audience: "https://other.example.com"})
		distinct("resource of the request", grantway.Ref{Credential: "app", Resource: "https://other.example.com"})
		distinct("audience and resource", grantway.Ref{Credential: "app", Audience: "https://other.example.com", Resource: "https://other.example.com"})

		// A rename is no other connection: who refers to it by id goes on, with its token.
		c.Name = "renamed"
		if _, err := hub.UpdateCredential(t.Context(), "app", c); err != nil {
			t.Fatal(err)
		}
		noToken(t, hub, own, grantway.NotFound)
		token(t, hub, grantway.Ref{Credential: c.ID})
	})
}

// TestOverrides shows what goes out for a Ref with its own scope, audience and resource.
func TestOverrides(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "app", map[string]string{"scopes": "read", "audience": "https://a.example.com", "resource": "https://r.example.com"}))
		for _, c := range []struct {
			ref  grantway.Ref
			want [3]string
		}{
			{grantway.Ref{}, [3]string{"read", "https://a.example.com", "https://r.example.com"}},
			{grantway.Ref{Scope: "  B  a "}, [3]string{"B a", "https://a.example.com", "https://r.example.com"}},
			{grantway.Ref{Audience: "other"}, [3]string{"read", "other", "https://r.example.com"}},
			{grantway.Ref{Resource: "urn:r"}, [3]string{"read", "https://a.example.com", "urn:r"}},
		} {
			c.ref.Credential = "app"
			got := token(t, hub, c.ref)
			form := p.Token.Requests()[p.Token.Count()-1].Form
			if sent := [3]string{form.Get("scope"), form.Get("audience"), form.Get("resource")}; sent != c.want {
				t.Errorf("%+v: %q was asked for, want %q", c.ref, sent, c.want)
			}
			if got.Scope != c.want[0] {
				t.Errorf("%+v: scope %q", c.ref, got.Scope)
			}
		}
		token(t, hub, grantway.Ref{Credential: "app", Scope: "B a"}) // the same scope, spaced otherwise
		wantRequests(t, p, 4)
		for pointer, ref := range map[string]grantway.Ref{
			"/scope":                {Scope: "a\nb"},
			"/resource":             {Resource: "/relative"},
			"/min_lifetime_seconds": {MinLifetime: -1},
		} {
			ref.Credential = "app"
			if e := noToken(t, hub, ref, grantway.Invalid); len(e.Fields) != 1 || e.Fields[0].Pointer != pointer {
				t.Errorf("%+v: %v", ref, e)
			}
		}
	})
}

// TestOverridesAreNotTheHealth lets no caller spoil the health of a credential by asking for
// what the provider does not grant, or embellish it by a token of its own.
func TestOverridesAreNotTheHealth(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Scopes: []string{"read", "write"}})
		create(t, hub, credential(p, "app", map[string]string{"scopes": "read"}))
		token(t, hub, grantway.Ref{Credential: "app", Scope: "write"})
		if s := status(t, hub, "app"); s.Health != grantway.Healthy || !s.TokenExpiresAt.IsZero() {
			t.Errorf("with a token of another scope: %s", asJSON(t, s))
		}
		noToken(t, hub, grantway.Ref{Credential: "app", Scope: "delete"}, grantway.TokenRefused, "invalid_scope")
		if s := status(t, hub, "app"); s.Health != grantway.Healthy || s.LastError != nil {
			t.Errorf("after a scope that is not granted: %s", asJSON(t, s))
		}
		token(t, hub, grantway.Ref{Credential: "app"})
		p.Unregister("app")
		noToken(t, hub, grantway.Ref{Credential: "app", Scope: "read write"}, grantway.TokenRefused, "invalid_client")
		if s := status(t, hub, "app"); s.Health != grantway.Degraded || s.LastError == nil || s.TokenExpiresAt.IsZero() {
			t.Errorf("after the client was removed: %s", asJSON(t, s))
		}
	})
}

// TestMinLifetime gets a new token for who needs it for longer, at most half of what the
// provider grants, so that a demand it cannot fulfil does not cost a request a call.
func TestMinLifetime(t *testing.T) {
	eachHubWaiting(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Lifetime: 6 * time.Second})
		create(t, hub, credential(p, "app", nil))
		first := token(t, hub, grantway.Ref{Credential: "app", MinLifetime: 3600})
		for range 20 {
			token(t, hub, grantway.Ref{Credential: "app", MinLifetime: 3600})
		}
		wantRequests(t, p, 1)
		until(first.ExpiresAt.Add(-2700 * time.Millisecond)) // less than half is left
		if got := token(t, hub, grantway.Ref{Credential: "app"}); got.Fingerprint != first.Fingerprint {
			t.Error("a new token, without need")
		}
		if got := token(t, hub, grantway.Ref{Credential: "app", MinLifetime: 3600}); got.Fingerprint == first.Fingerprint {
			t.Error("no new token")
		}
		wantRequests(t, p, 2)
	})
}

// TestC24ShortTokens reads tokens of 3 seconds 200 times.
func TestC24ShortTokens(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Lifetime: 3 * time.Second})
		create(t, hub, credential(p, "app", nil))
		began := time.Now()
		for range 200 {
			if got := token(t, hub, grantway.Ref{Credential: "app"}); !got.ExpiresAt.After(time.Now()) {
				t.Fatal("an expired token")
			}
		}
		const renewal = 2250 * time.Millisecond // the earliest one
		if n, most := p.Token.Count(), max(2, 1+int(time.Since(began)/renewal)); n > most {
			t.Errorf("%d token requests, want at most %d", n, most)
		}
	})
}

// TestC24RenewsAhead renews a token that is in use behind its users, and lets one that is not
// in use expire.
func TestC24RenewsAhead(t *testing.T) {
	eachHubWaiting(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		const life = 5 * time.Second
		idle := grantwaytest.NewProvider(t)
		for _, p := range []*grantwaytest.Provider{p, idle} {
			p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Lifetime: life})
		}
		create(t, hub, credential(idle, "idle", nil))
		validate(t, hub, "idle") // has a token now, which nobody asked for
		create(t, hub, credential(p, "app", nil))
		first := token(t, hub, grantway.Ref{Credential: "app"})

		release := p.Token.Hold()
		defer release()
		await(t, p, 2)
		if left := time.Until(first.ExpiresAt); left <= 0 || left > life*3/10 {
			t.Errorf("renewed %v before the expiry, want 15 to 25 %% of %v", left, life)
		}
		// The renewal is under way, and the provider takes its time: nobody waits for it.
		if got := token(t, hub, grantway.Ref{Credential: "app"}); got.Fingerprint != first.Fingerprint {
			t.Error("not the current token")
		}
		release()
		eventually(t, life, "the new token", func() bool {
			return token(t, hub, grantway.Ref{Credential: "app"}).Fingerprint != first.Fingerprint
		})
		wantRequests(t, p, 2)
		until(status(t, hub, "idle").TokenExpiresAt)
		wantRequests(t, idle, 1)
	})
}

// TestSingleFlight has many callers for a token that nobody has yet: one request, and they
// share what comes of it.
func TestSingleFlight(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "app", nil))
		token(t, hub, grantway.Ref{Credential: "app"}) // the hub's own sign-in is done, too
		for i, reply := range []grantwaytest.Reply{grantwaytest.Healthy(), grantwaytest.OAuthError(401, "invalid_client", "no")} {
			before := p.Token.Count()
			p.Token.Next(reply)
			release := p.Token.Hold()
			if err := hub.Invalidate(t.Context(), "app", ""); err != nil {
				t.Fatal(err)
			}
			const callers = 50
			var got [callers]string
			var all sync.WaitGroup
			for i := range got {
				all.Go(func() {
					token, err := hub.Token(t.Context(), grantway.Ref{Credential: "app"})
					got[i] = fmt.Sprint(token.Fingerprint, err)
				})
			}
			await(t, p, before+1)
			eventually(t, 10*time.Second, "all wait", func() bool { return metric(t, hub, `grantway_token_waiters{credential="app"}`) == callers })
			release()
			all.Wait()
			if same := slices.Compact(got[:]); len(same) != 1 || i == 1 != strings.Contains(same[0], "invalid_client: no") {
				t.Errorf("callers got %q", same)
			}
			wantRequests(t, p, before+1)
		}
	})
}

// TestInvalidate drops a token by its fingerprint, once, and anything at all on demand.
func TestInvalidate(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		ref := grantway.Ref{Credential: "app"}
		create(t, hub, credential(p, "app", nil))
		invalidate := func(fingerprint string) {
			t.Helper()
			if err := hub.Invalidate(t.Context(), "app", fingerprint); err != nil {
				t.Fatal(err)
			}
		}
		first := token(t, hub, ref)
		invalidate(first.Fingerprint)
		second := token(t, hub, ref)
		if second.Fingerprint == first.Fingerprint {
			t.Error("the token is still there")
		}
		invalidate(first.Fingerprint) // somebody is late: the newer one stays
		if got := token(t, hub, ref); got.Fingerprint != second.Fingerprint {
			t.Error("a newer token was dropped")
		}
		wantRequests(t, p, 2)

		for want := 3; want < 13; want++ { // renew now: one request each, not two
			invalidate("")
			renewed := token(t, hub, ref)
			for range 5 {
				if got := token(t, hub, ref); got.Fingerprint != renewed.Fingerprint {
					t.Error("renewed twice")
				}
			}
			wantRequests(t, p, want)
		}

		p.Token.Always(grantwaytest.OAuthError(401, "invalid_client", "no"))
		invalidate("")
		noToken(t, hub, ref, grantway.TokenRefused)
		invalidate("") // also ends a back-off
		noToken(t, hub, ref, grantway.TokenRefused)
		wantRequests(t, p, 14)
		if err := hub.Invalidate(t.Context(), "app", "garbage"); err == nil {
			t.Error("that is no fingerprint")
		}
		unknown := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
		invalidate(unknown)
	})
}

// TestC21PermanentFailure makes one request, and then tells everybody what came of it.
func TestC21PermanentFailure(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		for i, code := range []string{"invalid_client", "unauthorized_client", "invalid_scope"} {
			name := strings.ReplaceAll(code, "_", "-")
			p.Token.Always(grantwaytest.OAuthError(400, code, "for a reason"))
			create(t, hub, credential(p, name, nil))
			for range 20 {
				e := noToken(t, hub, grantway.Ref{Credential: name}, grantway.TokenRefused, "credential "+name, code+": for a reason (HTTP 400)")
				if wait := time.Until(e.RetryAt); wait < 50*time.Second || wait > 61*time.Second {
					t.Errorf("%s: retry in %v", code, wait)
				}
			}
			wantRequests(t, p, i+1)
			s := status(t, hub, name)
			if s.Health != grantway.Failing || s.LastError == nil || s.LastError.Code != code || s.LastError.Class != "permanent" || time.Until(s.NextTry) < 50*time.Second {
				t.Errorf("status %s", asJSON(t, s))
			}
			if n := metric(t, hub, `grantway_token_fetches_total{credential="`+name+`",outcome="permanent"}`); n != 1 {
				t.Errorf("%s: %v permanent failures counted", code, n)
			}
		}
	})
}

// TestC22RetryAfter obeys the provider, in seconds and as a date, and does not try before.
func TestC22RetryAfter(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		date := time.Now().Add(40 * time.Second)
		for name, reply := range map[string]grantwaytest.Reply{
			"seconds":     grantwaytest.RetryAfter(429, "40"),
			"date":        grantwaytest.RetryAfter(429, date.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")),
			"unavailable": grantwaytest.RetryAfter(503, "40"),
		} {
			before := p.Token.Count()
			p.Token.Next(reply)
			create(t, hub, credential(p, name, nil))
			for range 3 {
				e := noToken(t, hub, grantway.Ref{Credential: name}, grantway.Unavailable, name)
				if wait := time.Until(e.RetryAt); wait < 30*time.Second || wait > 42*time.Second {
					t.Errorf("%s: retry in %v", name, wait)
				}
			}
			wantRequests(t, p, before+1)
			if s := status(t, hub, name); s.LastError == nil || s.LastError.Class != "throttled" {
				t.Errorf("%s: status %s", name, asJSON(t, s))
			}
		}
	})
}

// TestProviderDown serves the valid token until it really expires, and then says why there
// is none; when the provider is back, so are tokens, without help.
func TestProviderDown(t *testing.T) {
	eachHubWaiting(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Lifetime: 3 * time.Second})
		create(t, hub, credential(p, "app", nil))
		ref := grantway.Ref{Credential: "app"}
		first := token(t, hub, ref)
		p.Down()
		eventually(t, 10*time.Second, "no token any more", func() bool {
			before := time.Now()
			got, err := hub.Token(t.Context(), ref)
			if err == nil && (got.Fingerprint != first.Fingerprint || !got.ExpiresAt.After(before)) {
				t.Fatalf("token %+v", got)
			}
			return err != nil
		})
		if early := time.Until(first.ExpiresAt); early > 50*time.Millisecond {
			t.Errorf("gave up %v before the expiry", early)
		}
		e := noToken(t, hub, ref, grantway.Unavailable, "credential app", "refused the connection")
		if wait := time.Until(e.RetryAt); wait < -time.Second || wait > time.Minute {
			t.Errorf("retry in %v", wait)
		}
		if s := status(t, hub, "app"); s.Health != grantway.Failing || s.LastSuccess.IsZero() || s.LastError.Class != "temporary" || !s.TokenExpiresAt.IsZero() {
			t.Errorf("status %s", asJSON(t, s))
		}
		if err := p.Up(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "a token again", func() bool {
			_, err := hub.Token(t.Context(), ref)
			return err == nil
		})
		if s := status(t, hub, "app"); s.Health != grantway.Healthy {
			t.Errorf("status %s", asJSON(t, s))
		}
	})
}

// TestUnknownCredential is not found, whoever asks.
func TestUnknownCredential(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		noToken(t, hub, grantway.Ref{Credential: "nothing"}, grantway.NotFound, "nothing")
		var e *grantway.Error
		if err := hub.Invalidate(t.Context(), "nothing", ""); !errors.As(err, &e) || e.Code != grantway.NotFound {
			t.Errorf("invalidate: %v", err)
		}
	})
}
