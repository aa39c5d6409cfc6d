package api_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// canary is, or is part of, every secret that the tests hand to a hub. No answer may hold it.
const canary = "canary-8c1f0e"

// hub is a running hub, asked over HTTP.
type hub struct {
	*grantwaytest.Hub
	owner    *caller
	provider *grantwaytest.Provider // knows the client "app" with the secret canary
	database string                 // its URL
	files    string                 // directory of the secret store "file"
	http     *http.Client
}

// each runs body with a fresh hub on each kind of database.
func each(t *testing.T, body func(t *testing.T, h *hub)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { body(t, start(t, "")) })
	t.Run("PostgreSQL", func(t *testing.T) { body(t, start(t, storetest.Postgres(t))) })
}

// start starts a hub on a PostgreSQL database, or on SQLite for "".
func start(t *testing.T, database string) *hub {
	t.Helper()
	h := &hub{provider: grantwaytest.NewProvider(t), database: database, files: t.TempDir()}
	h.provider.Register(grantwaytest.Client{ID: "app", Secret: canary})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	h.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	h.Hub = grantwaytest.Start(t, grantwaytest.HubOptions{Database: database, SecretFiles: h.files})
	h.database = cmp.Or(database, "sqlite:"+filepath.Join(h.Data, "grantway.db"))
	h.owner = h.signIn(t, h.Owner.ClientID, string(h.Owner.ClientSecret))
	return h
}

// signIn gets a token of the hub for one of its clients.
func (h *hub) signIn(t *testing.T, id, secret string) *caller {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(id, secret) // both need no encoding
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := h.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("sign in: HTTP %d, %v", resp.StatusCode, err)
	}
	return &caller{h, id, answer.AccessToken}
}

// as returns a caller that holds role in division.
func (h *hub) as(t *testing.T, role, division string) *caller {
	t.Helper()
	client, err := h.CreateOAuthClient(t.Context(), grantway.OAuthClient{
		Name: strings.ReplaceAll(role+"-in-"+division, "*", "all"), Roles: []grantway.Assignment{{Role: role, Division: division}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h.signIn(t, client.ID, client.Secret)
}

// nobody sends requests without a token.
func (h *hub) nobody() *caller { return &caller{hub: h} }

// credential is the body of a plain credential that works with the hub's provider. A nil
// input is left out.
func (h *hub) credential(name string, inputs object) object {
	all := object{"client_id": "app", "client_secret": canary, "token_endpoint": h.provider.Token.URL}
	maps.Copy(all, inputs)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return object{"name": name, "inputs": all}
}

// save stores a credential as the owner and returns it as the hub answered.
func (h *hub) save(t *testing.T, body object) (saved grantway.Credential) {
	t.Helper()
	h.owner.do(t, "POST", "/v1/credentials", body).want(t, http.StatusCreated).into(t, &saved)
	return saved
}

// count runs a query for one number on the hub's database.
func (h *hub) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{URL: h.database})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Read().QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// object is a JSON object.
type object = map[string]any

// caller is a client of the hub.
type caller struct {
	hub   *hub
	id    string
	token string // "" sends none
}

// do sends one request. body is nil for none, a string or a reader (of unknown length) to be
// sent as it is, or anything else for its JSON. header holds names and values in turn; a value of "" removes the header.
func (c *caller) do(t *testing.T, method, path string, body any, header ...string) *answer {
	t.Helper()
	var payload io.Reader = http.NoBody
	switch body := body.(type) {
	case nil:
	case string:
		payload = strings.NewReader(body)
	case io.Reader:
		payload = body
	default:
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.hub.URL+path, payload)
	if err != nil {
		t.Fatal(err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
		if pair[1] == "" {
			req.Header.Del(pair[0])
		}
	}
	resp, err := c.hub.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var head bytes.Buffer
	resp.Header.Write(&head)
	if strings.Contains(string(text)+head.String(), canary) {
		t.Errorf("%s %s: the answer holds a secret: %s%s", method, path, head.String(), text)
	}
	return &answer{method + " " + path, resp.StatusCode, resp.Header, text}
}

// answer is what the hub answered.
type answer struct {
	to     string // method and path
	status int
	header http.Header
	body   []byte
}

// want ends the test if the status is another one.
func (a *answer) want(t *testing.T, status int) *answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("%s: HTTP %d, want %d: %s", a.to, a.status, status, a.body)
	}
	return a
}

// into replaces *v by the body, which must be the JSON of its type and nothing more.
func (a *answer) into(t *testing.T, v any) {
	t.Helper()
	reflect.ValueOf(v).Elem().SetZero()
	if kind := a.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("%s: Content-Type %q, want application/json", a.to, kind)
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v: %s", a.to, err, a.body)
	}
}

// statusOf is the HTTP status of each code, as documented at the codes.
var statusOf = map[grantway.Code]int{
	grantway.Malformed: 400, grantway.Unauthenticated: 401, grantway.Forbidden: 403, grantway.NotFound: 404,
	grantway.MethodNotAllowed: 405, grantway.Conflict: 409, grantway.PreconditionFailed: 412, grantway.TooLarge: 413,
	grantway.UnsupportedMedia: 415, grantway.Invalid: 422, grantway.RateLimited: 429, grantway.Internal: 500,
	grantway.TokenRefused: 502, grantway.Unavailable: 503,
}

// problem checks that the answer is a complete problem document with this code, and with
// these fields, in any order.
func (a *answer) problem(t *testing.T, code grantway.Code, pointers ...string) (p grantway.Problem) {
	t.Helper()
	if kind := a.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("%s: HTTP %d, Content-Type %q, want application/problem+json: %s", a.to, a.status, kind, a.body)
		return p
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Errorf("%s: %v: %s", a.to, err, a.body)
		return p
	}
	status := statusOf[code]
	if p.Code != code || p.Status != status || a.status != status || p.Title != http.StatusText(status) || p.Type != "about:blank" || p.Detail == "" {
		t.Errorf("%s: HTTP %d, want %d %s: %s", a.to, a.status, status, code, a.body)
	}
	if cache := a.header.Get("Cache-Control"); cache != "no-store" {
		t.Errorf("%s: Cache-Control %q of a problem", a.to, cache)
	}
	var got []string
	for _, f := range p.Errors {
		got = append(got, f.Pointer)
		if f.Detail == "" {
			t.Errorf("%s: field %s without detail", a.to, f.Pointer)
		}
	}
	slices.Sort(got)
	slices.Sort(pointers)
	if !slices.Equal(got, pointers) {
		t.Errorf("%s: wrong fields %q, want %q: %s", a.to, got, pointers, a.body)
	}
	return p
}

// grantClient is the client "app" of the provider with another secret.
func grantClient(secret string) grantwaytest.Client {
	return grantwaytest.Client{ID: "app", Secret: secret}
}
