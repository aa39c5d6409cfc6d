package proxy_test

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/app"
)

// rig is a running hub, an authorization server, and an API behind the proxy.
type rig struct {
	*grantwaytest.Hub
	provider *grantwaytest.Provider
	api      *api
	token    string // of the owner, for the hub
	http     *http.Client
}

// api is a server whose handler a test may change, and which notes what reached it.
type api struct {
	*httptest.Server

	mu       sync.Mutex // guards what follows
	handler  http.HandlerFunc
	requests []*http.Request // without bodies
}

func (a *api) handle(h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handler = h
}

func (a *api) seen() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// last is the request that arrived last.
func (a *api) last(t *testing.T) *http.Request {
	t.Helper()
	seen := a.seen()
	if len(seen) == 0 {
		t.Fatal("no request reached the API")
	}
	return seen[len(seen)-1]
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests = append(a.requests, r)
	handler := a.handler
	a.mu.Unlock()
	if handler == nil {
		io.WriteString(w, "hello")
		return
	}
	handler(w, r)
}

// start starts a hub with the credential "api", whose API is the returned rig's, over plain
// http, or with TLS over HTTP/2.
func start(t *testing.T, secure bool, inputs grantway.Inputs) *rig {
	t.Helper()
	g := &rig{provider: grantwaytest.NewProvider(t), api: &api{}}
	g.provider.Register(grantwaytest.Client{ID: "app", Secret: "secret"})
	g.api.Server = httptest.NewUnstartedServer(g.api)
	var roots *x509.CertPool
	if secure {
		g.api.EnableHTTP2 = true
		g.api.StartTLS()
		roots = x509.NewCertPool()
		roots.AddCert(g.api.Certificate())
	} else {
		g.api.Start()
	}
	t.Cleanup(g.api.Close)
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	g.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	g.Hub = grantwaytest.Start(t, grantwaytest.HubOptions{RootCAs: roots})
	g.token = g.signIn(t, g.Owner.ClientID, string(g.Owner.ClientSecret))
	g.save(t, "api", g.api.URL+"/base", inputs)
	return g
}

// save stores a credential for an API at base.
func (g *rig) save(t *testing.T, name, base string, inputs grantway.Inputs) grantway.Credential {
	t.Helper()
	all := grantway.Inputs{
		"client_id": grantway.Text("app"), "client_secret": grantway.Text("secret"),
		"token_endpoint": grantway.Text(g.provider.Token.URL), "base_url": grantway.Text(base),
	}
	for key, v := range inputs {
		all[key] = v
	}
	saved, err := g.CreateCredential(t.Context(), grantway.Credential{Name: name, Inputs: all})
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// limit sets the rate limit of a credential.
func (g *rig) limit(t *testing.T, name string, limit grantway.RateLimit) {
	t.Helper()
	c, err := g.Credential(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	c.RateLimit = &limit
	if _, err := g.UpdateCredential(t.Context(), c.ID, c); err != nil {
		t.Fatal(err)
	}
}

// signIn gets a token of the hub for one of its clients.
func (g *rig) signIn(t *testing.T, id, secret string) string {
	t.Helper()
	resp := g.askToken(t, g.http, grantway.OAuthClient{ID: id, Secret: secret}, url.Values{"grant_type": {"client_credentials"}})
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("sign in: HTTP %d, %v", resp.StatusCode, err)
	}
	return answer.AccessToken
}

// askToken asks the hub for a token, as a client that authenticates with Basic.
func (g *rig) askToken(t *testing.T, by *http.Client, c grantway.OAuthClient, form url.Values) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", g.URL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(c.ID, c.Secret)
	resp, err := by.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// client makes a client that may use what uses say, and returns a token for it.
func (g *rig) client(t *testing.T, name string, uses ...grantway.CredentialUse) string {
	t.Helper()
	made, err := g.CreateOAuthClient(t.Context(), grantway.OAuthClient{
		Name: name, Roles: []grantway.Assignment{{Role: "application", Division: "home"}}, Credentials: uses,
	})
	if err != nil {
		t.Fatal(err)
	}
	return g.signIn(t, made.ID, made.Secret)
}

// request makes a request to the hub as the owner.
func (g *rig) request(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+g.token)
	return r
}

func (g *rig) send(t *testing.T, r *http.Request) *http.Response {
	t.Helper()
	resp, err := g.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (g *rig) get(t *testing.T, path string) *http.Response {
	t.Helper()
	return g.send(t, g.request(t, "GET", path, nil))
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("HTTP %d: %v", resp.StatusCode, err)
	}
	return string(b)
}

// problem checks that resp is a problem document with this status and code.
func problem(t *testing.T, resp *http.Response, status int, code grantway.Code) grantway.Problem {
	t.Helper()
	var p grantway.Problem
	body := text(t, resp)
	if kind := resp.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("HTTP %d, %s: want a problem document: %s", resp.StatusCode, kind, body)
		return p
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != status || p.Code != code {
		t.Errorf("HTTP %d: %s, want %d %s", resp.StatusCode, body, status, code)
	}
	return p
}

// denied returns the refusals of an action on a credential from the audit trail.
func (g *rig) denied(t *testing.T, action, credential string) []grantway.Event {
	t.Helper()
	var events []grantway.Event
	for event, err := range g.Audit(t.Context(), url.Values{"action": {action}, "outcome": {"denied"}, "object": {"credential/" + credential}}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event)
	}
	return events
}

// wantDenied checks that the audit trail has a refusal, with a reason.
func (g *rig) wantDenied(t *testing.T, action, credential string) {
	t.Helper()
	if events := g.denied(t, action, credential); len(events) != 1 || events[0].Detail == "" {
		t.Errorf("refusals of %s on %s in the audit trail: %v, want one with a reason", action, credential, events)
	}
}

// raw sends bytes over a connection of its own and returns the answer, nil when the connection
// was closed without one.
func (g *rig) raw(t *testing.T, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// line is a request line with the owner's authorization.
func (g *rig) line(format string, args ...any) string {
	return fmt.Sprintf(format, args...) + " HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer " + g.token + "\r\n"
}

// ownerIn is how the owner of the hub in a data directory signs in.
func ownerIn(t *testing.T, data string) grantway.Options {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "owner.json"))
	if err != nil {
		t.Fatal(err)
	}
	var owner app.Owner
	if err := json.Unmarshal(text, &owner); err != nil {
		t.Fatal(err)
	}
	return grantway.Options{URL: owner.URL, ClientID: owner.ClientID, ClientSecret: grantway.Secret(owner.ClientSecret)}
}
