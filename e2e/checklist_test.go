package e2e_test

import (
	"crypto/rand"
	"encoding/pem"
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
)

// TestChecklist goes through the normative lines of the hub's authorization server and of its API (S01 to S52, R01 to R09)
// with the program itself: over HTTP, against one process on each database. What only a clock or a look into memory shows is
// in the tests of the same names in package issuer.
func TestChecklist(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s site) {
		p := newParty(t, s)
		for _, l := range slices.Concat(tokenLines, boundLines) {
			t.Run(l.name, func(t *testing.T) { l.check(t, p) })
		}
	})
}

// line is one line of the checklist.
type line struct {
	name  string // "S01 POST only"
	check func(t *testing.T, p *party)
}

// party is a hub, its owner, and what is around them: an authority whose certificates the hub takes from clients, a
// proxy that it trusts (everybody on this machine), and a server that has the keys of clients.
type party struct {
	*hub
	site      site
	owner     *caller
	authority *authority
	documents *documents
}

func newParty(t *testing.T, s site) *party {
	t.Helper()
	p := &party{authority: newAuthority(t), documents: newDocuments(t)}
	dir := t.TempDir()
	write := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s.flags = []string{"--client-ca", write("clients.pem", p.authority.certificate.Raw), "--trusted-proxies", "127.0.0.0/8"}
	s.env = []string{"SSL_CERT_FILE=" + write("documents.pem", p.documents.Certificate().Raw)}
	p.site, p.hub = s, start(t, s)
	p.owner = owner(t, s, p.hub)
	return p
}

// edit changes a request before it is sent.
type edit func(*http.Request)

func basic(id, secret string) edit {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
}

func header(name, value string) edit { return func(r *http.Request) { r.Header.Set(name, value) } }

// from makes a request come from another address, by way of the proxy that is trusted.
func from(address string) edit {
	return func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", address)
		r.Header.Set("X-Forwarded-Proto", "https")
	}
}

// send makes a request with a form as its body, or with none.
func (p *party) send(t *testing.T, method, path, form string, edits ...edit) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, e := range edits {
		e(req)
	}
	a, err := p.owner.send(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

const grantBody = "grant_type=client_credentials"

// post asks /oauth/token.
func (p *party) post(t *testing.T, form string, edits ...edit) answer {
	t.Helper()
	return p.send(t, http.MethodPost, "/oauth/token", form, edits...)
}

// client makes a client with a name of its own, by default one that may use the credentials of the home division.
func (p *party) client(t *testing.T, c grantway.OAuthClient) grantway.OAuthClient {
	t.Helper()
	c.Name = strings.ToLower("app-" + rand.Text()[:8])
	if c.Roles == nil && c.GrantType != grantway.GrantAuthorizationCode {
		c.Roles = []grantway.Assignment{{Role: "application", Division: "home"}}
	}
	var made grantway.OAuthClient
	a := p.owner.ask(p.hub, http.MethodPost, "/v1/clients", c)
	if a.status != http.StatusCreated || a.decode(&made) != nil {
		t.Fatalf("creating a client: %v", a)
	}
	return made
}

// token gets a token for a client with a secret.
func (p *party) token(t *testing.T, c grantway.OAuthClient) string {
	t.Helper()
	a := p.post(t, grantBody, basic(c.ID, c.Secret))
	a.want(t, http.StatusOK, "")
	return a.member("access_token")
}

// call calls the API with this Authorization header, "" for none.
func (p *party) call(t *testing.T, authorization string, edits ...edit) answer {
	t.Helper()
	if authorization != "" {
		edits = append([]edit{header("Authorization", authorization)}, edits...)
	}
	return p.send(t, http.MethodGet, "/v1/connectors", "", edits...)
}

// introspect asks about a token as c.
func (p *party) introspect(t *testing.T, c grantway.OAuthClient, token string) answer {
	t.Helper()
	return p.send(t, http.MethodPost, "/oauth/introspect", "token="+url.QueryEscape(token), basic(c.ID, c.Secret))
}

// object is the answer as a JSON object; nil when it is none.
func (a answer) object() (o map[string]any) {
	a.decode(&o)
	return o
}

// member is a string in the answer.
func (a answer) member(name string) string {
	text, _ := a.object()[name].(string)
	return text
}

// want checks status and error code.
func (a answer) want(t *testing.T, status int, code string) {
	t.Helper()
	if a.status != status || a.member("error") != code {
		t.Errorf("got %v, want %d %s", a, status, code)
	}
}

// documents serves what clients publish over https.
type documents struct {
	*httptest.Server
	mu      sync.Mutex        // guards what follows
	m       map[string]string // by path
	fetched map[string]int
}

func newDocuments(t *testing.T) *documents {
	d := &documents{m: map[string]string{}, fetched: map[string]int{}}
	d.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.fetched[r.URL.Path]++
		text, ok := d.m[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(text))
	}))
	t.Cleanup(d.Close)
	return d
}

// set publishes text, and returns where.
func (d *documents) set(path, text string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.m[path] = text
	return d.URL + path
}

func (d *documents) count(path string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fetched[path]
}
