// Package peer starts the authorization servers of other people that Grantway's tests
// talk to: the npm oidc-provider and ory/fosite. Both are real servers in processes of
// their own, on loopback, over https with a certificate made for the occasion.
//
//	op := peer.OIDCProvider(t)
//	c := op.Client(t, "private_key_jwt_ES256")
//	hub := &grant.Client{Transport: op.Transport()}
//
// The two speak one protocol with the test that starts them:
//
//	test → server   stdin, one line    {"cert", "key", "client_ca", "jwks", "scopes", "resource", "clients"}
//	server → test   stdout, one line   {"issuer", "token_endpoint", …}, when it accepts connections
//	test → server   stdin, one line    {"login": {"claim": …}}, for each Set; answered by a line
//	test → server   stdin closes       the server exits; so it does when the test is killed
//
// `make peers` installs and builds them. A server that is missing fails the test.
package peer

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// API is the one audience and resource the servers know. A token asked for with it is a
// JWT whose aud it is; a token asked for without is opaque.
const API = "https://api.example.com/v1"

// Every client may have ScopeRead and ScopeWrite, and none ScopeAdmin.
const (
	ScopeRead  = "api:read"
	ScopeWrite = "api:write"
	ScopeAdmin = "admin"
)

// Lifetime is how long a token of every client but "short" lives, ShortLifetime that of "short".
const (
	Lifetime      = 10 * time.Minute
	ShortLifetime = 3 * time.Second
)

// Server is a running authorization server. It stops with the test that started it.
type Server struct {
	Issuer        string `json:"issuer"`
	TokenURL      string `json:"token_endpoint"`
	MTLSTokenURL  string `json:"mtls_token_endpoint"` // the one that asks for a client certificate; "" when there is none
	IntrospectURL string `json:"introspection_endpoint"`
	RevokeURL     string `json:"revocation_endpoint"`
	PlainAddress  string `json:"plain_address"` // host and port that serve the same without TLS; "" when nothing does

	// CAFile is a PEM file with the only authority that vouches for the server, for
	// processes that take it from SSL_CERT_FILE.
	CAFile string `json:"-"`

	roots      *x509.CertPool
	signingKey jose.JSONWebKey // of the server's access tokens, public
	clients    map[string]*Client
	stdin      io.Writer
	stdout     *bufio.Reader
}

// OIDCProvider starts the npm oidc-provider. Its clients are client_secret_basic,
// client_secret_post, client_secret_jwt, private_key_jwt_{ES256,PS256,RS256,EdDSA},
// tls_client_auth, self_signed_tls_client_auth, private_key_jwt_mtls (a key, and tokens
// bound to a certificate), dpop, dpop_nonce, short, and with awkward characters in id and
// secret: awkward_basic, awkward_post, percent_basic, percent_post.
func OIDCProvider(tb testing.TB) *Server {
	tb.Helper()
	dir := filepath.Join(root(tb), "peers", "oidc-provider")
	need(tb, filepath.Join(dir, "node_modules", "oidc-provider"))
	return start(tb, oidcProviderClients, nil, "node", filepath.Join(dir, "server.mjs"))
}

// Accounts is what an OpenID provider says of people, by their login: claims.
type Accounts map[string]map[string]any

// OpenIDProvider starts the npm oidc-provider for people, who sign in on its pages by login with
// any password; the login is the sub. Its clients are client_secret_basic, client_secret_post
// and public, which have people sent back to redirect, by code and with PKCE.
func OpenIDProvider(tb testing.TB, redirect string, accounts Accounts) *Server {
	tb.Helper()
	dir := filepath.Join(root(tb), "peers", "oidc-provider")
	need(tb, filepath.Join(dir, "node_modules", "oidc-provider"))
	const code = "authorization_code"
	return start(tb, []spec{
		{name: "client_secret_basic", grantType: code, redirect: redirect},
		{name: "client_secret_post", grantType: code, redirect: redirect},
		{name: "public", method: "none", grantType: code, redirect: redirect},
	}, accounts, "node", filepath.Join(dir, "server.mjs"))
}

// Set changes what an OpenIDProvider says of some people.
func (s *Server) Set(tb testing.TB, accounts Accounts) {
	tb.Helper()
	line, err := json.Marshal(accounts)
	if err == nil {
		_, err = s.stdin.Write(append(line, '\n'))
	}
	if err == nil {
		_, err = s.stdout.ReadBytes('\n')
	}
	if err != nil {
		tb.Fatalf("peer: accounts: %v", err)
	}
}

// Fosite starts the server built on ory/fosite. Its clients are client_secret_basic,
// client_secret_post, private_key_jwt_{ES256,PS256,RS256}, jwt_bearer, short, and with
// awkward characters in id and secret: awkward_basic, awkward_post, percent_basic,
// percent_post. It takes its token URL, and nothing else, as the audience of assertions.
func Fosite(tb testing.TB) *Server {
	tb.Helper()
	binary := filepath.Join(root(tb), ".cache", "fosite")
	need(tb, binary)
	return start(tb, fositeClients, nil, binary)
}

// root is the top of the repository.
func root(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "peers", "oidc-provider", "server.mjs")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			tb.Fatal("peer: not inside the Grantway repository")
		}
		dir = filepath.Dir(dir)
	}
}

func need(tb testing.TB, path string) {
	tb.Helper()
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("peer: %v\nrun `make peers`, or `make test`, which does all set-up", err)
	}
}

// start runs one server and returns it when it is ready.
func start(tb testing.TB, specs []spec, accounts Accounts, command string, args ...string) *Server {
	tb.Helper()
	pki := NewAuthority(tb, "Grantway test authority")
	keys := newKeys(tb)
	clients, registrations := newClients(tb, specs, pki, keys)
	cert, key := pki.Issue(tb, "127.0.0.1")
	settings := map[string]any{
		"cert":      string(cert),
		"key":       string(key),
		"client_ca": string(pki.PEM),
		"jwks":      jose.JSONWebKeySet{Keys: []jose.JSONWebKey{keys.server}},
		"scopes":    []string{ScopeRead, ScopeWrite, ScopeAdmin},
		"resource":  API,
		"clients":   registrations,
	}
	if accounts != nil {
		settings["accounts"] = accounts
	}
	config, err := json.Marshal(settings)
	if err != nil {
		tb.Fatal(err)
	}

	var stderr bytes.Buffer
	cmd := exec.Command(command, args...)
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("peer: %v", err)
	}
	stop := func() error {
		stdin.Close()
		hung := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		defer hung.Stop()
		return cmd.Wait()
	}
	hung := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	_, err = stdin.Write(append(config, '\n'))
	var ready []byte
	answers := bufio.NewReader(stdout)
	if err == nil {
		ready, err = answers.ReadBytes('\n')
	}
	hung.Stop()
	if err != nil {
		tb.Fatalf("peer: %s did not start: %v, %v\n%s", filepath.Base(command), err, stop(), stderr.String())
	}
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Errorf("peer: %s: %v\n%s", filepath.Base(command), err, stderr.String())
		}
	})

	s := &Server{roots: x509.NewCertPool(), signingKey: keys.server.Public(), clients: clients, stdin: stdin, stdout: answers}
	if err := json.Unmarshal(ready, s); err != nil {
		tb.Fatalf("peer: %s answered %q: %v", filepath.Base(command), ready, err)
	}
	s.roots.AddCert(pki.cert)
	s.CAFile = filepath.Join(tb.TempDir(), "ca.pem")
	if err := os.WriteFile(s.CAFile, pki.PEM, 0o600); err != nil {
		tb.Fatal(err)
	}
	for _, c := range clients {
		c.TokenURL = s.TokenURL
		if c.CertificatePEM != nil {
			c.TokenURL = s.MTLSTokenURL
		}
	}
	return s
}

// Client returns the client of that name.
func (s *Server) Client(tb testing.TB, name string) *Client {
	tb.Helper()
	c, ok := s.clients[name]
	if !ok {
		tb.Fatalf("peer: %s has no client %q", s.Issuer, name)
	}
	return c
}

// Transport returns a new transport that trusts the server, and nobody else.
func (s *Server) Transport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}}
}

// Claims is what the server itself says about an access token: the claims of a JWT, whose
// signature is checked with the server's key, or the introspection of an opaque token
// (RFC 7662), which has "active".
func (s *Server) Claims(tb testing.TB, token string) map[string]any {
	tb.Helper()
	claims := map[string]any{}
	if strings.Count(token, ".") == 2 {
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			tb.Fatalf("peer: access token: %v", err)
		}
		if err := parsed.Claims(s.signingKey, &claims); err != nil {
			tb.Fatalf("peer: access token: %v", err)
		}
		return claims
	}
	c := s.Client(tb, "client_secret_basic")
	body := strings.NewReader(url.Values{"token": {token}}.Encode())
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, s.IntrospectURL, body)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	transport := s.Transport()
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		tb.Fatalf("peer: introspection: %v", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&claims); err != nil {
		tb.Fatalf("peer: introspection (HTTP %d): %v", resp.StatusCode, err)
	}
	return claims
}
