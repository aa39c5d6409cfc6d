package broker_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"html"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// each runs body on SQLite and on PostgreSQL. database is for HubOptions.
func each(t *testing.T, body func(t *testing.T, database string)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { body(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { body(t, storetest.Postgres(t)) })
}

// eachHub is each with a hub, and a provider with the client "app" that has the secret "s3cret".
func eachHub(t *testing.T, body func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider)) {
	t.Helper()
	each(t, withHub(body))
}

// eachHubWaiting is eachHub for what waits most of the time, and so runs beside others.
func eachHubWaiting(t *testing.T, body func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider)) {
	t.Helper()
	t.Parallel()
	each(t, func(t *testing.T, database string) {
		t.Parallel()
		withHub(body)(t, database)
	})
}

func withHub(body func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider)) func(*testing.T, string) {
	return func(t *testing.T, database string) {
		p := grantwaytest.NewProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		body(t, grantwaytest.Start(t, grantwaytest.HubOptions{Database: database}), p)
	}
}

// credential is one for the client "app" of p, with inputs in place of the usual ones: text is
// a value, "" removes one.
func credential(p *grantwaytest.Provider, name string, inputs map[string]string) grantway.Credential {
	c := grantway.Credential{Name: name, Inputs: grantway.Inputs{
		"client_id": grantway.Text("app"), "client_secret": grantway.Text("s3cret"), "token_endpoint": grantway.Text(p.Token.URL),
	}}
	return with(c, inputs)
}

// with is c with other inputs.
func with(c grantway.Credential, inputs map[string]string) grantway.Credential {
	c.Inputs = maps.Clone(c.Inputs)
	for key, text := range inputs {
		if c.Inputs[key] = grantway.Text(text); text == "" {
			delete(c.Inputs, key)
		}
	}
	return c
}

func external(key, storeName string) grantway.Value {
	return grantway.Value{Ref: &grantway.SecretRef{Store: storeName, Key: key}}
}

func create(t testing.TB, hub *grantwaytest.Hub, c grantway.Credential) grantway.Credential {
	t.Helper()
	scrape(t, hub)
	c, err := hub.CreateCredential(t.Context(), c)
	if err != nil {
		t.Fatalf("create %s: %v", c.Name, err)
	}
	return c
}

// update saves c with other inputs; secrets that c does not have are kept.
func update(t testing.TB, hub *grantwaytest.Hub, c grantway.Credential, inputs map[string]string) grantway.Credential {
	t.Helper()
	c, err := hub.UpdateCredential(t.Context(), c.Name, with(c, inputs))
	if err != nil {
		t.Fatalf("update %s: %v", c.Name, err)
	}
	return c
}

func token(t testing.TB, hub *grantwaytest.Hub, ref grantway.Ref) grantway.Token {
	t.Helper()
	token, err := hub.Token(t.Context(), ref)
	if err != nil {
		t.Fatalf("token of %s: %v", ref.Credential, err)
	}
	return token
}

// noToken wants the token of ref to be refused with code, for a reason that has all of the parts.
func noToken(t testing.TB, hub *grantwaytest.Hub, ref grantway.Ref, code grantway.Code, parts ...string) *grantway.Error {
	t.Helper()
	_, err := hub.Token(t.Context(), ref)
	var e *grantway.Error
	if !errors.As(err, &e) {
		t.Fatalf("token of %s: %v, want a *grantway.Error", ref.Credential, err)
	}
	if e.Code != code {
		t.Fatalf("token of %s: %s %v, want %s", ref.Credential, e.Code, e, code)
	}
	contains(t, e.Message, parts...)
	return e
}

func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

func status(t testing.TB, hub *grantwaytest.Hub, name string) grantway.Status {
	t.Helper()
	s, err := hub.Status(t.Context(), name)
	if err != nil {
		t.Fatalf("status of %s: %v", name, err)
	}
	return s
}

func wantRequests(t testing.TB, p *grantwaytest.Provider, want int) {
	t.Helper()
	if got := p.Token.Count(); got != want {
		t.Errorf("the provider got %d token requests, want %d", got, want)
	}
}

func await(t testing.TB, p *grantwaytest.Provider, requests int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Token.Await(ctx, requests); err != nil {
		t.Fatal(err)
	}
}

// eventually calls f again and again until it is content, for at most within.
func eventually(t testing.TB, within time.Duration, what string, f func() bool) {
	t.Helper()
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for began := time.Now(); !f(); <-pace.C {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// until waits for a moment to pass, such as the expiry of a token.
func until(at time.Time) { <-time.After(time.Until(at) + time.Millisecond) }

// open opens the database of a running hub beside it.
func open(t testing.TB, hub *grantwaytest.Hub, database string) *store.Store {
	t.Helper()
	if database == "" {
		database = "sqlite:" + filepath.Join(hub.Data, "grantway.db")
	}
	s, err := store.Open(t.Context(), store.Options{URL: database})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// query returns the rows of a query with one column.
func query[T any](t testing.TB, s *store.Store, text string, args ...any) (list []T) {
	t.Helper()
	rows, err := s.Read().QueryContext(t.Context(), text, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func execute(t testing.TB, s *store.Store, text string, args ...any) sql.Result {
	t.Helper()
	var result sql.Result
	err := s.Write(t.Context(), func(tx *store.Tx) (err error) {
		result, err = tx.ExecContext(t.Context(), text, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// asJSON is v the way the API would send it.
func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// jwtOf is a JWT with these claims, which is all that a client can know of one.
func jwtOf(t testing.TB, claims map[string]any) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(asJSON(t, claims))) + "." + encode([]byte("signature"))
}

// spellings are the forms in which a secret may turn up in a text.
func spellings(secret string) []string {
	quoted, _ := json.Marshal(secret)
	return []string{secret, url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret), string(quoted[1 : len(quoted)-1]),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)), hex.EncodeToString([]byte(secret))}
}

// scrapers are the hub tokens that metric reads with, by hub. They are fetched when a test makes its
// first credential, since later its database may be away.
var scrapers sync.Map

func scrape(t testing.TB, hub *grantwaytest.Hub) string {
	t.Helper()
	if token, ok := scrapers.Load(hub); ok {
		return token.(string)
	}
	token, err := (&grant.Client{}).Token(t.Context(), &grant.Request{TokenURL: hub.URL + "/oauth/token", AllowPlainHTTP: true,
		ClientID: hub.Owner.ClientID, Auth: grant.Basic{Secret: hub.Owner.ClientSecret}})
	if err != nil {
		t.Fatal(err)
	}
	scrapers.Store(hub, string(token.AccessToken))
	return string(token.AccessToken)
}

// metric is the value of a series at /metrics; 0 when there is none.
func metric(t testing.TB, hub *grantwaytest.Hub, series string) float64 {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, hub.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+scrape(t, hub))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: HTTP %d", response.StatusCode)
	}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// newKeyPEM is a fresh private key on P-256.
func newKeyPEM(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// renewNow makes a hub forget the token of a credential. When that was too often it says so, and
// does not wait for its turn as a client does that has the time.
func renewNow(t *testing.T, c *grantway.Client, name string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return c.Invalidate(ctx, name, "")
}
