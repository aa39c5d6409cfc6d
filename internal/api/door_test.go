package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/api"
)

// TestChallenges sends requests without a token that counts (RFC 6750 section 3).
func TestChallenges(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.save(t, h.credential("one", nil))
		deleted, err := h.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "deleted", Roles: []grantway.Assignment{{Role: "owner", Division: "*"}}})
		if err != nil {
			t.Fatal(err)
		}
		gone := h.signIn(t, deleted.ID, deleted.Secret)
		if err := h.DeleteOAuthClient(t.Context(), deleted.ID); err != nil {
			t.Fatal(err)
		}
		const invalid = `Bearer realm="grantway", error="invalid_token"`
		for _, row := range []struct {
			name, authorization, query string
			code                       grantway.Code
			challenge                  string
		}{
			{"nothing", "", "", grantway.Unauthenticated, `Bearer realm="grantway"`},
			{"another scheme", "Basic YTpi", "", grantway.Unauthenticated, `Bearer realm="grantway"`},
			{"unknown token", "Bearer " + strings.Repeat("x", 40), "", grantway.Unauthenticated, invalid},
			{"a changed token", "Bearer " + h.owner.token[:len(h.owner.token)-1] + "_", "", grantway.Unauthenticated, invalid},
			{"token of a deleted client", "Bearer " + gone.token, "", grantway.Unauthenticated, invalid},
			{"scheme only", "Bearer", "", grantway.Malformed, `Bearer realm="grantway", error="invalid_request"`},
			{"token in the URL", "", "?access_token=" + h.owner.token, grantway.Malformed, `Bearer realm="grantway", error="invalid_request"`},
		} {
			for _, ask := range []string{"GET /v1/credentials", "POST /v1/credentials/one/token", "DELETE /v1/credentials/one"} {
				method, path, _ := strings.Cut(ask, " ")
				answer := h.nobody().do(t, method, path+row.query, nil, "Authorization", row.authorization)
				answer.problem(t, row.code)
				if got := answer.header.Values("WWW-Authenticate"); !slices.Equal(got, []string{row.challenge}) {
					t.Errorf("%s, %s: WWW-Authenticate %q, want %q", row.name, ask, got, row.challenge)
				}
			}
		}
		lower := h.nobody().do(t, "GET", "/v1/credentials", nil, "Authorization", "bearer "+h.owner.token)
		lower.want(t, http.StatusOK)
		if answer := h.owner.do(t, "GET", "/v1/credentials/nothing", nil); answer.header.Values("WWW-Authenticate") != nil {
			t.Error("a 404 has a WWW-Authenticate header")
		}
	})
}

// TestMethodNotAllowed asks every path for a method it does not have.
func TestMethodNotAllowed(t *testing.T) {
	h := start(t, "")
	methods := map[string][]string{}
	for _, route := range api.Routes() {
		methods[route.Path] = append(methods[route.Path], route.Method)
	}
	methods["/v1/credentials/validate"] = methods["/v1/credentials/{name}"] // a credential may be called so
	for _, name := range []string{"check", "preview", "try"} {
		methods["/v1/connectors/"+name] = methods["/v1/connectors/{name}"]
	}
	methods["/v1/secret-stores/test"] = methods["/v1/secret-stores/{name}"]
	for path, want := range methods {
		if slices.Contains(want, "GET") {
			want = append(slices.Clone(want), "HEAD")
		}
		slices.Sort(want)
		for _, method := range []string{"OPTIONS", "TRACE", "BREW"} {
			answer := h.owner.do(t, method, strings.NewReplacer("{name}", "one", "{id}", "one", "{version}", "1").Replace(path), nil)
			answer.problem(t, grantway.MethodNotAllowed)
			if got := answer.header.Get("Allow"); got != strings.Join(want, ", ") {
				t.Errorf("%s %s: Allow %q, want %q", method, path, got, strings.Join(want, ", "))
			}
		}
	}
	for _, path := range []string{"/v1", "/v1/", "/v2/credentials", "/v1/credentials/", "/v1/credentials/one/", "/v1/credentials/one/tokens", "/v1/credentials/a%2Fb", "/favicon.ico"} {
		for _, method := range []string{"GET", "POST", "BREW"} {
			answer := h.owner.do(t, method, path, nil)
			if path == "/v1/credentials/a%2Fb" && method != "GET" {
				answer.problem(t, grantway.MethodNotAllowed)
				continue
			}
			answer.problem(t, grantway.NotFound)
		}
	}
}

// TestHead asks for the headers of everything that can be read.
func TestHead(t *testing.T) {
	h := start(t, "")
	for _, route := range api.Routes() {
		if route.Method != "GET" || route.Name == "getMe" { // which is for people
			continue
		}
		path, _ := h.request(t, route, "head-"+strings.ToLower(route.Name))
		get, head := h.owner.do(t, "GET", path, nil).want(t, http.StatusOK), h.owner.do(t, "HEAD", path, nil).want(t, http.StatusOK)
		for _, name := range []string{"Content-Type", "ETag", "Cache-Control", "X-Content-Type-Options"} {
			if got, want := head.header.Get(name), get.header.Get(name); got != want {
				t.Errorf("HEAD %s: %s %q, GET %q", path, name, got, want)
			}
		}
		if len(head.body) != 0 {
			t.Errorf("HEAD %s has a body", path)
		}
	}
	h.owner.do(t, "HEAD", "/v1/credentials/nothing", nil).want(t, http.StatusNotFound)
}

// TestTokenAnswer reads a token: its shape, its headers, and that nobody may keep a copy.
func TestTokenAnswer(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.provider.Register(grantwaytest.Client{ID: "app", Secret: canary, Lifetime: 10 * time.Minute})
		h.save(t, h.credential("one", object{"scopes": "a b"}))
		answer := h.as(t, "application", "home").do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK)
		var got grantway.Token
		answer.into(t, &got)
		if want := h.provider.Tokens()[0]; got.AccessToken != want || got.Header != (grantway.Header{Name: "Authorization", Value: "Bearer " + want}) {
			t.Errorf("the token of the provider is %q, that of the hub %+v", want, got)
		}
		left := time.Until(got.ExpiresAt)
		if got.TokenType != "Bearer" || got.Scope != "a b" || got.Proof != "" || left <= 9*time.Minute || left > 10*time.Minute || (left-got.ExpiresIn.Duration()).Abs() > time.Minute {
			t.Errorf("token: %+v", got)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
			if got := answer.header.Get(name); got != want {
				t.Errorf("%s %q, want %q", name, got, want)
			}
		}

		var again, other, renewed grantway.Token
		h.owner.do(t, "POST", "/v1/credentials/one/token", object{}).want(t, http.StatusOK).into(t, &again)
		if again.AccessToken != got.AccessToken || again.Fingerprint != got.Fingerprint {
			t.Error("the second read got another token")
		}
		h.owner.do(t, "POST", "/v1/credentials/one/token", object{"scope": "c", "audience": "https://api.example.com", "resource": "urn:x"}).want(t, http.StatusOK).into(t, &other)
		last := h.provider.Token.Requests()[1].Form
		if other.AccessToken == got.AccessToken || other.Scope != "c" || last.Get("scope") != "c" || last.Get("audience") != "https://api.example.com" || last.Get("resource") != "urn:x" {
			t.Errorf("a token with another scope: %+v, asked with %v", other, last)
		}
		h.owner.do(t, "POST", "/v1/credentials/one/token/invalidate", object{"fingerprint": got.Fingerprint}).want(t, http.StatusNoContent)
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK).into(t, &renewed)
		if renewed.AccessToken == got.AccessToken {
			t.Error("an invalidated token was served again")
		}
		h.owner.do(t, "POST", "/v1/credentials/one/token/invalidate", object{"fingerprint": got.Fingerprint}).want(t, http.StatusNoContent) // late
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK).into(t, &again)
		if again.AccessToken != renewed.AccessToken {
			t.Error("a newer token was dropped by the fingerprint of an older one")
		}
		h.owner.do(t, "POST", "/v1/credentials/one/token", object{"proof": object{"method": "GET", "url": "https://api.example.com"}}).problem(t, grantway.Invalid, "/proof")
	})
}

// TestNoToken is how the door tells that there is no token.
func TestNoToken(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.save(t, h.credential("one", nil))
		h.save(t, h.credential("refused", object{"client_secret": canary + "-wrong"}))

		p := h.owner.do(t, "POST", "/v1/credentials/refused/token", nil).problem(t, grantway.TokenRefused)
		for _, part := range []string{"refused", "invalid_client"} {
			if !strings.Contains(p.Detail, part) {
				t.Errorf("the answer does not name %q: %s", part, p.Detail)
			}
		}
		h.provider.Token.Next(grantwaytest.RetryAfter(503, "120"))
		answer := h.owner.do(t, "POST", "/v1/credentials/one/token", nil)
		p = answer.problem(t, grantway.Unavailable)
		if wait := time.Until(p.RetryAt); wait < time.Minute || wait > 2*time.Minute+time.Second {
			t.Errorf("retry_at is %s away", wait)
		}
		if after := answer.header.Get("Retry-After"); len(after) < 2 || len(after) > 3 {
			t.Errorf("Retry-After %q, want about 120", after)
		}
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).problem(t, grantway.Unavailable)
		if n := h.provider.Token.Count(); n != 2 {
			t.Errorf("%d token requests, want 2: the provider said when to come back", n)
		}
		h.owner.do(t, "POST", "/v1/credentials/one/token/invalidate", nil).want(t, http.StatusNoContent) // renew now
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK)
	})
}

// TestProbes asks what machines ask.
func TestProbes(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, path := range []string{"/healthz", "/readyz"} {
			if got := string(h.nobody().do(t, "GET", path, nil).want(t, http.StatusOK).body); got != `{"status":"ok"}` {
				t.Errorf("GET %s: %s", path, got)
			}
		}

		h.save(t, h.credential("one", nil))
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK)
		open := h.as(t, "application", "*").do(t, "GET", "/metrics", nil).want(t, http.StatusOK)
		for _, line := range []string{
			`grantway_token_fetches_total{credential="one",outcome="ok"} 1`, `grantway_token_reads_total{credential="one"} 1`,
			`grantway_token_waiters{credential="one"} 0`, `grantway_credentials 1`, `grantway_database_away 0`,
		} {
			if !strings.Contains(string(open.body), "\n"+line+"\n") {
				t.Errorf("/metrics does not say %q", line)
			}
		}
		if strings.Contains(string(open.body), h.provider.Tokens()[0]) {
			t.Error("/metrics shows a token")
		}

		// A proxy on this machine that says nothing of itself looks like this machine.
		answer := h.nobody().do(t, "GET", "/metrics", nil)
		answer.problem(t, grantway.Unauthenticated)
		if got := answer.header.Get("WWW-Authenticate"); got != `Bearer realm="grantway"` {
			t.Errorf("/metrics: WWW-Authenticate %q", got)
		}
		for _, who := range []*caller{h.as(t, "application", "home"), h.as(t, "designer", "*")} {
			who.do(t, "GET", "/metrics", nil).problem(t, grantway.Forbidden)
		}
	})
}

// TestHubStatus is what a hub says of itself.
func TestHubStatus(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.save(t, h.credential("one", nil))
		var got grantway.HubStatus
		h.owner.do(t, "GET", "/v1/status", nil).want(t, http.StatusOK).into(t, &got)
		database := map[bool]string{true: "SQLite", false: "PostgreSQL"}[strings.HasPrefix(h.database, "sqlite:")]
		if got.Version != "test" || got.Caller != "owner" || got.Database != database || got.Schema < 5 || got.Credentials != 1 || time.Since(got.StartedAt) > time.Minute {
			t.Errorf("status: %+v", got)
		}
		var stores grantway.Page[grantway.SecretStore]
		h.owner.do(t, "GET", "/v1/secret-stores", nil).want(t, http.StatusOK).into(t, &stores)
		if len(stores.Items) != 2 || stores.Items[0].Name != "env" || stores.Items[1].Name != "file" || stores.Items[1].Error != "" {
			t.Errorf("secret stores: %+v", stores.Items)
		}
		var rotation grantway.KeyRotation
		h.owner.do(t, "POST", "/v1/key/rotate", nil).want(t, http.StatusOK).into(t, &rotation)
		if rotation.Resealed < 2 { // the credential's secret and the issuer's key
			t.Errorf("rotation: %+v", rotation)
		}
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK)
	})
}
