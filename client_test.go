package grantway_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
)

// each runs body on each kind of database, with a hub and a provider that knows the client "app".
func each(t *testing.T, body func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider)) {
	t.Helper()
	run := func(t *testing.T, database string) {
		p := grantwaytest.NewProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		body(t, grantwaytest.Start(t, grantwaytest.HubOptions{Database: database}), p)
	}
	t.Run("SQLite", func(t *testing.T) { run(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { run(t, storetest.Postgres(t)) })
}

func credential(p *grantwaytest.Provider, name string) grantway.Credential {
	return grantway.Credential{Name: name, Inputs: grantway.Inputs{
		"client_id": grantway.Text("app"), "client_secret": grantway.Text("s3cret"), "token_endpoint": grantway.Text(p.Token.URL),
	}}
}

func create(t *testing.T, hub *grantwaytest.Hub, c grantway.Credential) grantway.Credential {
	t.Helper()
	saved, err := hub.CreateCredential(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// wantError checks that err is an *Error with this code and these fields.
func wantError(t *testing.T, err error, code grantway.Code, pointers ...string) *grantway.Error {
	t.Helper()
	var e *grantway.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is not a *grantway.Error", err)
	}
	var got []string
	for _, f := range e.Fields {
		got = append(got, f.Pointer)
	}
	if e.Code != code || e.Message == "" || !slices.Equal(got, pointers) {
		t.Errorf("%s %q %s, want %s %q", e.Code, got, e.Message, code, pointers)
	}
	return e
}

// TestCredentials takes a credential through its life.
func TestCredentials(t *testing.T) {
	each(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		ctx := t.Context()
		saved := create(t, hub, credential(p, "mail"))
		read, err := hub.Credential(ctx, saved.ID)
		if diff := cmp.Diff(saved, read); err != nil || diff != "" {
			t.Errorf("read, %v (-saved +read):\n%s", err, diff)
		}
		read.Description = "changed"
		updated, err := hub.UpdateCredential(ctx, "mail", read)
		if err != nil || updated.Version != 2 || updated.Description != "changed" {
			t.Errorf("updated: %+v, %v", updated, err)
		}
		_, err = hub.UpdateCredential(ctx, "mail", read) // read is of version 1
		wantError(t, err, grantway.PreconditionFailed)
		patched, err := hub.PatchCredential(ctx, "mail", 2, json.RawMessage(`{"description":null,"name":"post"}`))
		if err != nil || patched.Version != 3 || patched.Description != "" || patched.Name != "post" {
			t.Errorf("patched: %+v, %v", patched, err)
		}
		_, err = hub.PatchCredential(ctx, "post", 2, json.RawMessage(`{}`))
		wantError(t, err, grantway.PreconditionFailed)

		if report, err := hub.ValidateCredential(ctx, "post"); err != nil || !report.OK {
			t.Errorf("validated: %+v, %v", report, err)
		}
		patched.Inputs["scopes"] = grantway.Text("a b") // the secret of the draft is that of the saved one
		if report, err := hub.ValidateDraft(ctx, patched); err != nil || !report.OK {
			t.Errorf("validated a draft: %+v, %v", report, err)
		}
		token, err := hub.Token(ctx, grantway.Ref{Credential: "post", MinLifetime: 60})
		if err != nil || token.AccessToken == "" || time.Until(token.ExpiresAt) < time.Minute {
			t.Errorf("token: %+v, %v", token, err)
		}
		status, err := hub.Status(ctx, "post")
		if err != nil || status.Health != grantway.Healthy || status.TokenFingerprint != token.Fingerprint {
			t.Errorf("status: %+v, %v", status, err)
		}
		if err := hub.Invalidate(ctx, "post", token.Fingerprint); err != nil {
			t.Error(err)
		}
		if again, err := hub.Token(ctx, grantway.Ref{Credential: "post"}); err != nil || again.AccessToken == token.AccessToken {
			t.Errorf("an invalidated token was served again, %v", err)
		}
		if err := hub.DeleteCredential(ctx, "post"); err != nil {
			t.Error(err)
		}
		_, err = hub.Credential(ctx, "post")
		wantError(t, err, grantway.NotFound)
		_, err = hub.Status(ctx, "a/b?c") // a name is escaped
		wantError(t, err, grantway.NotFound)
	})
}

// TestIterators follows the cursors of lists, and stops when told or when something is wrong.
func TestIterators(t *testing.T) {
	each(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		ctx := t.Context()
		var want, got []string
		for i := range 120 {
			name := fmt.Sprintf("app-%03d", i)
			create(t, hub, credential(p, name))
			want = append(want, name)
		}
		for c, err := range hub.Credentials(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, c.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("credentials (-want +got):\n%s", diff)
		}
		for range hub.Credentials(ctx) {
			break
		}
		n := 0
		for e, err := range hub.Audit(ctx, url.Values{"action": {"credential.create"}, "limit": {"50"}}) {
			if err != nil || e.Action != "credential.create" {
				t.Fatalf("%+v, %v", e, err)
			}
			n++
		}
		if n != len(want) {
			t.Errorf("%d events, want %d", n, len(want))
		}
		n = 0
		for _, err := range hub.Audit(ctx, url.Values{"limit": {"many"}}) {
			wantError(t, err, grantway.Invalid, "/limit")
			n++
		}
		if n != 1 {
			t.Errorf("an error came %d times", n)
		}
	})
}

// TestErrors decodes what the hub refuses.
func TestErrors(t *testing.T) {
	each(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		ctx := t.Context()
		_, err := hub.CreateCredential(ctx, grantway.Credential{})
		wantError(t, err, grantway.Invalid, "/name", "/inputs/client_id", "/inputs/client_secret", "/inputs/token_endpoint")
		create(t, hub, credential(p, "mail"))
		_, err = hub.CreateCredential(ctx, credential(p, "MAIL"))
		wantError(t, err, grantway.Conflict, "/name")

		p.Token.Next(grantwaytest.RetryAfter(429, "60"))
		_, err = hub.Token(ctx, grantway.Ref{Credential: "mail"})
		if e := wantError(t, err, grantway.Unavailable); time.Until(e.RetryAt) < 30*time.Second {
			t.Errorf("retry at %s", e.RetryAt)
		}

		made, err := hub.CreateOAuthClient(ctx, grantway.OAuthClient{Name: "designer", Roles: []grantway.Assignment{{Role: "designer", Division: "home"}}})
		if err != nil {
			t.Fatal(err)
		}
		designer := hub.SignIn(t, grantway.Options{ClientID: made.ID, ClientSecret: grantway.Secret(made.Secret)})
		_, err = designer.Credential(ctx, "mail")
		wantError(t, err, grantway.Forbidden)
		if err := hub.DeleteOAuthClient(ctx, made.ID); err != nil {
			t.Fatal(err)
		}
		_, err = designer.Credential(ctx, "mail") // its token went with it, and so did its way to a new one
		var refused *grant.Error
		if !errors.As(err, &refused) || refused.Code != "invalid_client" {
			t.Errorf("a deleted client: %v", err)
		}
	})
}

// TestHub calls what is left.
func TestHub(t *testing.T) {
	each(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		ctx := t.Context()
		create(t, hub, credential(p, "mail"))
		if status, err := hub.Hub(ctx); err != nil || status.Version != "test" || status.Credentials != 1 {
			t.Errorf("%+v, %v", status, err)
		}
		if stores, err := hub.SecretStores(ctx); err != nil || len(stores) != 2 {
			t.Errorf("%+v, %v", stores, err)
		}
		if n, err := hub.RotateKey(ctx); err != nil || n == 0 {
			t.Errorf("%d values, %v", n, err)
		}
		if _, err := hub.CreateDivision(ctx, grantway.Division{Name: "sales"}); err != nil {
			t.Error(err)
		}
		var divisions, clients []string
		for d, err := range hub.Divisions(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			divisions = append(divisions, d.Name)
		}
		for c, err := range hub.OAuthClients(ctx) {
			if err != nil || c.Secret != "" {
				t.Fatalf("%+v, %v", c, err)
			}
			clients = append(clients, c.Name)
		}
		if !slices.Equal(divisions, []string{"home", "sales"}) || !slices.Equal(clients, []string{"owner"}) {
			t.Errorf("divisions %q, clients %q", divisions, clients)
		}
		if err := hub.DeleteDivision(ctx, "sales"); err != nil {
			t.Error(err)
		}
	})
}

// TestTokenSource hands tokens to golang.org/x/oauth2.
func TestTokenSource(t *testing.T) {
	each(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "mail"))
		source := hub.TokenSource(t.Context(), grantway.Ref{Credential: "mail", Scope: "mail.read"})
		token, err := source.Token()
		if err != nil {
			t.Fatal(err)
		}
		if !token.Valid() || token.Type() != "Bearer" || token.Extra("scope") != "mail.read" || token.AccessToken != p.Tokens()[0] {
			t.Errorf("token %+v", token)
		}
		api := oauth2.NewClient(t.Context(), source)
		for range 3 {
			resp, err := api.Get(p.API.URL + "messages")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("the API answered %s", resp.Status)
			}
		}
		if n := p.Token.Count(); n != 1 {
			t.Errorf("%d token requests, want 1", n)
		}
		_, err = hub.TokenSource(t.Context(), grantway.Ref{Credential: "nothing"}).Token()
		wantError(t, err, grantway.NotFound)

		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", DPoP: true})
		bound := credential(p, "bound")
		bound.Inputs["dpop"] = grantway.Text("true")
		create(t, hub, bound)
		_, err = hub.TokenSource(t.Context(), grantway.Ref{Credential: "bound"}).Token()
		wantError(t, err, grantway.Invalid)
	})
}

// TestTransport authorizes requests: a 401 costs exactly one new token and one more request.
func TestTransport(t *testing.T) {
	each(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "mail"))
		api := &http.Client{Transport: hub.Transport(grantway.Ref{Credential: "mail"})}
		tokens, calls := 0, 0
		call := func(name string, body io.Reader, status, newTokens, newCalls int) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), "POST", p.API.URL+"messages", body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := api.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			resp.Body.Close()
			if req.Header.Get("Authorization") != "" || resp.Request.Header.Get("Authorization") != "" {
				t.Errorf("%s: the caller gets to see the token", name)
			}
			tokens, calls = tokens+newTokens, calls+newCalls
			if resp.StatusCode != status || p.Token.Count() != tokens || p.API.Count() != calls {
				t.Errorf("%s: HTTP %d, %d token requests, %d calls; want %d, %d, %d", name, resp.StatusCode, p.Token.Count(), p.API.Count(), status, tokens, calls)
			}
			for _, r := range p.API.Requests()[calls-newCalls:] {
				if body != nil && string(r.Body) != "hello" {
					t.Errorf("%s: the body arrived as %q", name, r.Body)
				}
			}
		}
		call("first", nil, 200, 1, 1)
		call("same token", strings.NewReader("hello"), 200, 0, 1)
		p.API.Next(grantwaytest.Status(401))
		call("refused once", strings.NewReader("hello"), 200, 1, 2)
		call("the new token", nil, 200, 0, 1)
		p.Revoke()
		call("revoked", nil, 200, 1, 2)
		p.API.Next(grantwaytest.Status(401))
		call("a body that cannot be sent again", io.MultiReader(strings.NewReader("hello")), 401, 0, 1)
		call("the token of which was dropped all the same", nil, 200, 1, 1)
		p.API.Always(grantwaytest.Status(401))
		call("refused for good", strings.NewReader("hello"), 401, 1, 2)
		call("and again", nil, 401, 0, 1)
		p.API.Always(nil)

		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", DPoP: true})
		bound := credential(p, "bound")
		bound.Inputs["dpop"] = grantway.Text("true")
		create(t, hub, bound)
		api = &http.Client{Transport: hub.Transport(grantway.Ref{Credential: "bound"})}
		call("DPoP", strings.NewReader("hello"), 200, 1, 1)
		call("DPoP, another proof", strings.NewReader("hello"), 200, 0, 1)
		p.Revoke()
		call("DPoP, revoked", strings.NewReader("hello"), 200, 1, 2)

		api = &http.Client{Transport: hub.Transport(grantway.Ref{Credential: "nothing"})}
		_, err := api.Get(p.API.URL)
		wantError(t, err, grantway.NotFound)
	})
}

// front is a proxy before a hub that spoils some requests to its API.
func front(t *testing.T, hub *grantwaytest.Hub, spoil func(w http.ResponseWriter, r *http.Request, forward http.Handler) bool) *grantway.Client {
	t.Helper()
	target, err := url.Parse(hub.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/oauth/") || !spoil(w, r, proxy) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	o := hub.Owner
	o.URL = server.URL + "/"
	c, err := grantway.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(t.Context()) })
	return c
}

// TestTokenOfTheHubIsRenewed has the hub refuse the client's own token.
func TestTokenOfTheHubIsRenewed(t *testing.T) {
	hub := grantwaytest.Start(t, grantwaytest.HubOptions{})
	var refuse atomic.Int64
	var seen []string
	c := front(t, hub, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		seen = append(seen, r.Header.Get("Authorization"))
		if refuse.Add(-1) < 0 {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	refuse.Store(1)
	if _, err := c.Hub(t.Context()); err != nil {
		t.Errorf("refused once: %v", err)
	}
	if len(seen) != 2 || seen[0] == seen[1] {
		t.Errorf("%d requests, want 2 with different tokens", len(seen))
	}
	refuse.Store(2)
	_, err := c.Hub(t.Context())
	wantError(t, err, grantway.Internal) // the front's 401 is not what a hub sends
	if len(seen) != 4 {
		t.Errorf("%d requests, want 4", len(seen))
	}
}

// TestCreateOnceOnly loses the answer to a create: the client sends it once more, and there is
// one credential.
func TestCreateOnceOnly(t *testing.T) {
	hub, p := grantwaytest.Start(t, grantwaytest.HubOptions{}), grantwaytest.NewProvider(t)
	var keys []string
	c := front(t, hub, func(_ http.ResponseWriter, r *http.Request, forward http.Handler) bool {
		if r.Method != http.MethodPost {
			return false
		}
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		if len(keys) > 1 {
			return false
		}
		forward.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler) // cuts the connection
	})
	if _, err := c.Hub(t.Context()); err != nil { // opens the connection
		t.Fatal(err)
	}
	saved, err := c.CreateCredential(t.Context(), credential(p, "mail"))
	if err != nil || saved.Version != 1 {
		t.Fatalf("%+v, %v", saved, err)
	}
	if len(keys) != 2 || keys[0] == "" || keys[0] != keys[1] {
		t.Errorf("idempotency keys %q, want the same one twice", keys)
	}
}

// TestNewClient takes its settings from the environment, and refuses those that make no sense.
func TestNewClient(t *testing.T) {
	for _, row := range []struct{ url, id, secret, wrong string }{
		{"https://hub.example.com", "id", "s3cret", ""},
		{"http://127.0.0.1:8420/", "id", "s3cret", ""},
		{"", "id", "s3cret", "GRANTWAY_URL"},
		{"https://hub.example.com", "", "s3cret", "GRANTWAY_CLIENT_ID"},
		{"https://hub.example.com", "id", "", "GRANTWAY_CLIENT_SECRET"},
		{"", "", "", "GRANTWAY_URL"},
		{"http://hub.example.com", "id", "s3cret", "https"},
		{"https://user:s3cret@hub.example.com", "id", "s3cret", "user name"},
		{"hub.example.com", "id", "s3cret", "https://"},
	} {
		t.Setenv("GRANTWAY_URL", row.url)
		t.Setenv("GRANTWAY_CLIENT_ID", row.id)
		t.Setenv("GRANTWAY_CLIENT_SECRET", row.secret)
		c, err := grantway.NewClient(grantway.Options{})
		switch {
		case row.wrong == "" && err != nil:
			t.Errorf("%+v: %v", row, err)
		case row.wrong == "":
			c.Close(t.Context())
		default:
			if e := wantError(t, err, grantway.Invalid); !strings.Contains(e.Message, row.wrong) || strings.Contains(e.Message, "s3cret") {
				t.Errorf("%+v: %v", row, err)
			}
		}
	}
}

// TestInputs reads and writes the forms of inputs.
func TestInputs(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":"text","b":12,"c":true,"d":null}`:        `{"a":"text","b":"12","c":"true","d":""}`,
		`{"a":{"store":"env","key":"K"}}`:              `{"a":{"store":"env","key":"K"}}`,
		`{"a":{"source":"internal","set":true}}`:       `{"a":{"source":"internal","set":true}}`,
		`{"a":[{"in":"body","name":"n","value":"v"}]}`: `{"a":[{"in":"body","name":"n","value":"v"}]}`,
		`{"a":[]}`: `{"a":[]}`,
		`null`:     `{}`,
	} {
		var in grantway.Inputs
		if err := json.Unmarshal([]byte(text), &in); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := json.Marshal(in)
		if err != nil || !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	var in grantway.Inputs
	err := json.Unmarshal([]byte(`{"b":{"x":1},"a/~":[1],"c":"fine","d":{"source":"external"}}`), &in)
	wantError(t, err, grantway.Invalid, "/inputs/a~1~0", "/inputs/b", "/inputs/d")
	wantError(t, json.Unmarshal([]byte(`[]`), &in), grantway.Invalid, "/inputs")
}
