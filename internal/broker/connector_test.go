package broker_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// sessions is a vendor that RFC 6749 knows nothing of: a challenge, a JSON login that sets a
// cookie, and an API that wants both the cookie and where the answer said it is.
const sessions = `
name: sessions
title: Sessions
inputs:
  - {key: server, type: url, required: true}
  - {key: user, required: true}
  - {key: password, type: secret, required: true}
steps:
  - name: challenge
    request: {url: '{{server}}/challenge', extract: {challenge: data.0.challenge}}
  - name: login
    request:
      url: '{{server}}/login'
      body: {json: {user: '{{user}}', proof: '{{hex(hmac("sha256", password, challenge))}}'}}
token:
  cookie: SID
  lifetime: 10m
  keep: {api: api}
errors: {when: [{path: ok, equals: 'false'}], code: code, message: text, invalid_client: [wrong]}
apply:
  base_url: '{{api}}'
  cookies: {SID: '{{token}}'}
verify: GET /me
`

// keys needs no token.
const keys = `
name: keys
title: Keys
inputs:
  - {key: server, type: url, required: true}
  - {key: key, type: secret, required: true}
apply:
  base_url: '{{server}}/v1'
  headers: {X-Key: '{{key}}'}
verify: GET /me
`

func vendor(t *testing.T, logins *atomic.Int64) *httptest.Server {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET /challenge", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"data":[{"challenge":"c1"}]}`)
	})
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		logins.Add(1)
		var in struct{ User, Proof string }
		m := hmac.New(sha256.New, []byte("p"))
		m.Write([]byte("c1"))
		proof := hex.EncodeToString(m.Sum(nil))
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.User != `a"b` || in.Proof != proof {
			io.WriteString(w, `{"ok":false,"code":"wrong","text":"no such user"}`)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "SID", Value: fmt.Sprintf("s%d", logins.Load())})
		fmt.Fprintf(w, `{"ok":true,"api":"%s/api"}`, server.URL)
	})
	mux.HandleFunc("GET /api/me", func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("SID"); err != nil || !strings.HasPrefix(c.Value, "s") {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	mux.HandleFunc("GET /v1/me", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Key") != "k3y" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"error":"bad key %s"}`, r.Header.Get("X-Key"))
		}
	})
	return server
}

// TestDefinitionOfAnyKind gets a token in two steps, keeps what the answer says with it, also for
// another replica, and authorizes a request; and it does without a token.
func TestDefinitionOfAnyKind(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		var logins atomic.Int64
		server := vendor(t, &logins)
		b := newBroker(t, s, sessions, keys)
		hub := access.Hub()
		save := func(name, kind string, inputs grantway.Inputs) {
			t.Helper()
			inputs["server"] = grantway.Text(server.URL)
			if _, err := b.Save(t.Context(), hub, grantway.Credential{Name: name, Connector: kind, Inputs: inputs}); err != nil {
				t.Fatal(err)
			}
		}
		save("app", "sessions", grantway.Inputs{"user": grantway.Text(`a"b`), "password": grantway.Text("p")})
		save("wrong", "sessions", grantway.Inputs{"user": grantway.Text("b"), "password": grantway.Text("p4ssw0rd")})
		save("key", "keys", grantway.Inputs{"key": grantway.Text("k3y")})
		save("badkey", "keys", grantway.Inputs{"key": grantway.Text("wr0ng-canary")})

		other := broker.New(b.Options)
		if err := other.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { other.Stop(context.WithoutCancel(t.Context())) })
		for _, replica := range []*broker.Broker{b, b, other} {
			token, err := replica.Token(t.Context(), hub, grantway.Ref{Credential: "app"})
			if err != nil {
				t.Fatal(err)
			}
			if string(token.Kept["api"]) != server.URL+"/api" || string(token.AccessToken) != "s1" {
				t.Errorf("token %q, kept %q", string(token.AccessToken), string(token.Kept["api"]))
			}
			if r := call(t, replica.Client(hub, grantway.Ref{Credential: "app"}), "GET", server.URL+"/api/me", nil); r.StatusCode != 200 {
				t.Errorf("status %d with the session", r.StatusCode)
			}
			if r := call(t, replica.Client(hub, grantway.Ref{Credential: "key"}), "GET", server.URL+"/v1/me", nil); r.StatusCode != 200 {
				t.Errorf("status %d with the key", r.StatusCode)
			}
		}
		if n := logins.Load(); n != 1 {
			t.Errorf("%d logins", n)
		}

		for _, c := range []struct{ name, steps string }{
			{"app", "settings ok, secret ok, address ok, request ok, response ok, verify ok"},
			{"wrong", "settings ok, secret ok, address ok, request ok, response failed"},
			{"key", "settings ok, secret ok, verify ok"},
			{"badkey", "settings ok, secret ok, verify failed"},
		} {
			saved, err := b.Get(t.Context(), hub, c.name)
			if err != nil {
				t.Fatal(err)
			}
			report, err := b.Validate(t.Context(), hub, grantway.Credential{ID: saved.ID})
			if err != nil {
				t.Fatal(err)
			}
			var steps []string
			for _, step := range report.Steps {
				steps = append(steps, step.Name+" "+step.Result)
			}
			text := asJSON(t, report)
			if got := strings.Join(steps, ", "); got != c.steps || report.OK == strings.Contains(c.steps, "failed") {
				t.Errorf("%s: %s", c.name, text)
			}
			if strings.Contains(text, "canary") || strings.Contains(text, "p4ssw0rd") {
				t.Errorf("%s: a secret in %s", c.name, text)
			}
		}
		if _, err := b.Token(t.Context(), hub, grantway.Ref{Credential: "key"}); err == nil || !strings.Contains(err.Error(), "no token") {
			t.Errorf("a token without one: %v", err)
		}
		if _, err := b.Token(t.Context(), hub, grantway.Ref{Credential: "app", Scope: "x"}); err == nil || !strings.Contains(err.Error(), "does not take") {
			t.Errorf("a scope that is not taken: %v", err)
		}
	})
}

// TestUpstreamsWithSecrets are made for each request; those without are kept, also when the
// connector could take a client certificate.
func TestUpstreamsWithSecrets(t *testing.T) {
	p := grantwaytest.NewProvider(t)
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		b := newBroker(t, s, keys)
		plain := credential(p, "plain", nil)
		key := grantway.Credential{Name: "key", Connector: "keys", Inputs: grantway.Inputs{"server": grantway.Text(p.API.URL), "key": grantway.Text("k")}}
		for _, c := range []grantway.Credential{plain, key} {
			if _, err := b.Save(t.Context(), access.Hub(), c); err != nil {
				t.Fatal(err)
			}
			first, err := b.Upstream(t.Context(), access.Hub(), c.Name)
			if err != nil {
				t.Fatal(err)
			}
			second, err := b.Upstream(t.Context(), access.Hub(), c.Name)
			if err != nil {
				t.Fatal(err)
			}
			if kept := first == second; kept != (c.Name == "plain") {
				t.Errorf("%s: kept in memory: %v", c.Name, kept)
			}
		}
	})
}
