package issuer_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// hub is an issuer on a database, behind an HTTP server of its own.
type hub struct {
	*issuer.Issuer
	mu      sync.Mutex
	people  map[string]access.Caller // by id; guarded by mu
	remotes *remotes
	key     string // key-encryption key
	t       testing.TB
	store   *store.Store
	audit   *access.Log
	server  *httptest.Server
}

// ask is a page that says what it was given.
func ask(w http.ResponseWriter, _ *http.Request, status int, c issuer.Consent) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(c)
}

// each runs body with a hub on each kind of database.
func each(t *testing.T, body func(t *testing.T, h *hub)) {
	t.Helper()
	key := newKey(t)
	storetest.Each(t, func(t *testing.T, s *store.Store) { body(t, start(t, s, key)) })
}

// pair runs body with two hubs on one database of each kind.
func pair(t *testing.T, body func(t *testing.T, a, b *hub)) {
	t.Helper()
	key := newKey(t)
	storetest.EachURL(t, func(t *testing.T, url string) {
		body(t, start(t, storetest.Open(t, url), key), start(t, storetest.Open(t, url), key))
	})
}

func newKey(t testing.TB) string {
	path := filepath.Join(t.TempDir(), "key")
	if err := seal.GenerateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

func start(t testing.TB, s *store.Store, key string, options ...func(*issuer.Options)) *hub {
	t.Helper()
	kek, err := seal.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.Open(t.Context(), s, kek)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sealer.Close)
	quiet := slog.New(slog.DiscardHandler)
	h := &hub{t: t, store: s, audit: access.NewLog(s, quiet), people: map[string]access.Caller{}, remotes: newRemotes(t), key: key}
	o := issuer.Options{Store: s, Sealer: sealer, Audit: h.audit, Proxied: proxied,
		URL: func() string { return h.server.URL }, Certificates: certificates, ClientCAs: authorities, TakesCertificates: true,
		HTTP: h.remotes.client(), Person: h.person, SignedIn: h.signedIn, Ask: ask, Exchange: h.exchange, RequestsPerMinute: -1, OAuthRequestsPerMinute: -1}
	for _, set := range options {
		set(&o)
	}
	h.Issuer, err = issuer.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/oauth/", h.Handler())
	mux.Handle("/.well-known/", h.Handler())
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) { // a protected resource
		who, err := h.Authenticate(r)
		if err == nil {
			err = who.Check(access.UseCredential, "home")
		}
		if err != nil {
			if nonce := issuer.Nonce(err); nonce != "" {
				w.Header().Set("DPoP-Nonce", nonce)
			}
			if challenge := issuer.Challenge(err); challenge != "" {
				w.Header().Set("WWW-Authenticate", challenge)
			}
			http.Error(w, err.Error(), status(err))
			return
		}
		io.WriteString(w, who.ID)
	})
	h.server = httptest.NewServer(mux)
	h.server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(func() {
		h.server.Close()
		if err := h.Stop(context.Background()); err != nil && s.Ping(context.Background()) == nil {
			t.Error(err)
		}
	})
	return h
}

// proxied is a trusted proxy that tells in two headers what it saw.
func proxied(r *http.Request) (from netip.Addr, tls, ok bool) {
	from, err := netip.ParseAddr(r.Header.Get("Test-From"))
	return from, r.Header.Get("Test-Proto") == "https", err == nil
}

func status(err error) int {
	return map[grantway.Code]int{grantway.Malformed: 400, grantway.Unauthenticated: 401, grantway.Forbidden: 403,
		grantway.RateLimited: 429, grantway.Unavailable: 503}[code(err)]
}

func code(err error) grantway.Code {
	if e, ok := err.(*grantway.Error); ok {
		return e.Code
	}
	return ""
}

// client makes a client with the roles given as "role division".
func (h *hub) client(name string, roles ...string) grantway.OAuthClient {
	h.t.Helper()
	c, err := h.CreateClient(h.t.Context(), access.Hub(), grantway.OAuthClient{Name: name, Roles: assignments(roles...)})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func assignments(roles ...string) []grantway.Assignment {
	var all []grantway.Assignment
	for _, r := range roles {
		role, division, _ := strings.Cut(r, " ")
		all = append(all, grantway.Assignment{Role: role, Division: division})
	}
	return all
}

// exec changes a row of a client in the database, as later versions of the hub will.
func (h *hub) exec(clientID, query string, args ...any) {
	h.t.Helper()
	err := h.store.Write(h.t.Context(), func(tx *store.Tx) error {
		if _, err := tx.ExecContext(h.t.Context(), query, args...); err != nil {
			return err
		}
		_, err := tx.ExecContext(h.t.Context(), `UPDATE client SET version = version + 1 WHERE id = $1`, clientID)
		return err
	})
	if err == nil {
		err = h.Reload(h.t.Context(), clientID)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// run changes rows.
func (h *hub) run(query string, args ...any) {
	h.t.Helper()
	ok(h.t, h.store.Write(h.t.Context(), func(tx *store.Tx) error {
		_, err := tx.ExecContext(h.t.Context(), query, args...)
		return err
	}))
}

// count returns the one number that a query gives.
func (h *hub) count(query string, args ...any) (n int) {
	h.t.Helper()
	if err := h.store.Read().QueryRowContext(h.t.Context(), query, args...).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// reply is an answer of the token endpoint.
type reply struct {
	status int
	header http.Header
	body   string
	json   map[string]any
}

func (r reply) error() string { s, _ := r.json["error"].(string); return s }
func (r reply) token() string { s, _ := r.json["access_token"].(string); return s }

// edit changes a request before it is sent.
type edit func(*http.Request)

func basic(id, secret string) edit {
	return header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret))))
}

func header(name, value string) edit {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func (h *hub) post(body string, edits ...edit) reply {
	h.t.Helper()
	return h.send(http.MethodPost, "/oauth/token", body, edits...)
}

func (h *hub) send(method, path, body string, edits ...edit) reply {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.server.URL+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, e := range edits {
		e(r)
	}
	resp, err := h.server.Client().Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	got := reply{status: resp.StatusCode, header: resp.Header, body: string(text)}
	if err := json.Unmarshal(text, &got.json); err != nil && path == "/oauth/token" && method != http.MethodHead {
		h.t.Errorf("answer %q is not JSON: %v", text, err)
	}
	return got
}

const grantBody = "grant_type=client_credentials"

// token gets a token for c.
func (h *hub) token(c grantway.OAuthClient) string {
	h.t.Helper()
	got := h.post(grantBody, basic(c.ID, c.Secret))
	if got.status != http.StatusOK {
		h.t.Fatalf("no token: %d %s", got.status, got.body)
	}
	return got.token()
}

// me calls the protected resource with an Authorization header.
func (h *hub) me(authorization string, edits ...edit) reply {
	h.t.Helper()
	if authorization != "" {
		edits = append([]edit{header("Authorization", authorization)}, edits...)
	}
	return h.send(http.MethodGet, "/me", "", edits...)
}

// want checks the status and the error code of an answer.
func (r reply) want(t *testing.T, status int, code string) {
	t.Helper()
	if r.status != status || r.error() != code {
		t.Errorf("got %d %s, want %d %s", r.status, r.body, status, code)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var owner = access.Hub()

// trail returns the events of an action, newest first.
func (h *hub) trail(action string) []grantway.Event {
	h.t.Helper()
	page, err := h.audit.List(h.t.Context(), owner, access.Filter{Action: action}, "", 0)
	ok(h.t, err)
	return page.Items
}

// newRequest and newRecorder are for calling the handler without a network.
func newRequest(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/oauth/token", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = "127.0.0.1:1"
	return r
}

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// fill gets as many tokens for c as make a crowd.
func fill(h *hub, c grantway.OAuthClient) {
	h.t.Helper()
	handler := h.Handler()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range issuer.Crowd / 10 {
				if got := post(handler, "127.0.0.1", c.ID, c.Secret); got != http.StatusOK {
					h.t.Errorf("got %d", got)
				}
			}
		})
	}
	wg.Wait()
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func sha256Of(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
