package peers_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/store/storetest"
	"github.com/grantway/grantway/peers/peer"
)

// OAuth clients that nobody here wrote against a hub's authorization server, on each database.
func TestOAuthClients(t *testing.T) {
	for name, database := range map[string]func(testing.TB) string{"SQLite": func(testing.TB) string { return "" }, "PostgreSQL": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database(t)})
			t.Run("npm", func(t *testing.T) { npmClients(t, hub) })
			t.Run("x/oauth2", func(t *testing.T) { goClient(t, hub) })
			t.Run("x/oauth2 for a person", func(t *testing.T) { goPerson(t, hub) })
			t.Run("curl", func(t *testing.T) { curlClient(t, hub) })
			t.Run("npm with certificates", func(t *testing.T) { certificateClients(t, database(t)) })
		})
	}
}

// oauthClient is what a program knows of itself.
type oauthClient struct {
	ID       string           `json:"id"`
	Secret   string           `json:"secret,omitempty"`
	JWK      *jose.JSONWebKey `json:"jwk,omitempty"`
	Redirect string           `json:"redirect,omitempty"`
	Cert     string           `json:"cert,omitempty"` // of its TLS connections, in PEM
	Key      string           `json:"key,omitempty"`
}

func register(t *testing.T, hub *grantwaytest.Hub, name string, s grantway.ClientSettings) oauthClient {
	t.Helper()
	one := grantway.OAuthClient{Name: name, ClientSettings: s}
	if s.GrantType != grantway.GrantAuthorizationCode {
		one.Roles = []grantway.Assignment{{Role: "application", Division: "home"}}
	}
	made, err := hub.CreateOAuthClient(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	c := oauthClient{ID: made.ID, Secret: made.Secret}
	if s.RedirectURIs != nil {
		c.Redirect = s.RedirectURIs[0]
	}
	return c
}

func npmClients(t *testing.T, hub *grantwaytest.Hub) {
	clients := map[string]oauthClient{
		"basic":             register(t, hub, "basic", grantway.ClientSettings{TokenFormat: grantway.FormatJWT}),
		"opaque":            register(t, hub, "opaque", grantway.ClientSettings{}),
		"post":              register(t, hub, "post", grantway.ClientSettings{AuthMethod: grantway.AuthPost}),
		"client_secret_jwt": register(t, hub, "secret-jwt", grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT}),
		"code": register(t, hub, "code", grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode,
			RedirectURIs: []string{"https://app.example/cb"}, Scopes: []string{"credential.pick", "credential.use"}}),
		"native": register(t, hub, "native", grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode, AuthMethod: grantway.AuthNone,
			RedirectURIs: []string{"http://127.0.0.1/cb"}, Scopes: []string{"credential.pick", "credential.use"}}),
	}
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for name, key := range map[string]crypto.Signer{"ES256": ec, "PS256": rsaKey, "EdDSA": ed} {
		private := jose.JSONWebKey{Key: key, KeyID: "key-" + name}
		set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{private.Public()}})
		if err != nil {
			t.Fatal(err)
		}
		c := register(t, hub, "key-"+name, grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: set})
		c.JWK = &private
		clients[name] = c
	}
	runNPM(t, "check.mjs", 18, map[string]any{"issuer": hub.URL, "clients": clients, "cookie": signedIn(t, hub, "ann@example.com")})
}

// certificateClients are clients with certificates, of a hub that serves TLS (RFC 8705).
func certificateClients(t *testing.T, database string) {
	authority, own := peer.NewAuthority(t, "authority"), peer.NewAuthority(t, "self-signed client")
	hub := startTLS(t, authority, database)
	byCA := register(t, hub, "by-authority", grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "client.example.com", CertificateBound: true, TokenFormat: grantway.FormatJWT})
	cert, key := authority.Issue(t, "client.example.com")
	byCA.Cert, byCA.Key = string(cert), string(key)

	block, _ := pem.Decode(own.PEM)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: parsed.PublicKey, Certificates: []*x509.Certificate{parsed}}}})
	if err != nil {
		t.Fatal(err)
	}
	bySelf := register(t, hub, "by-itself", grantway.ClientSettings{AuthMethod: grantway.AuthSelfSignedTLS, JWKS: set, CertificateBound: true})
	bySelf.Cert, bySelf.Key = string(own.PEM), string(own.KeyPEM(t))
	runNPM(t, "certificates.mjs", 4, map[string]any{"issuer": hub.URL, "ca": string(authority.PEM), "clients": map[string]oauthClient{"authority": byCA, "itself": bySelf}})
}

// startTLS starts a hub that serves TLS with a certificate of authority, which it trusts for clients, too.
func startTLS(t *testing.T, authority *peer.Authority, database string) *grantwaytest.Hub {
	t.Helper()
	data, roots := t.TempDir(), x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM)
	o := app.Options{Listen: "127.0.0.1:0", Data: data, Database: database, Key: "file:" + filepath.Join(data, "key"), ClientCAs: roots,
		TLSCert: filepath.Join(data, "cert.pem"), TLSKey: filepath.Join(data, "key.pem"), Version: "test", Log: slog.New(slog.DiscardHandler)}
	cert, key := authority.Issue(t, "127.0.0.1")
	for path, text := range map[string][]byte{o.TLSCert: cert, o.TLSKey: key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hub, err := app.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hub.Stop(context.WithoutCancel(t.Context())) })
	if err := hub.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(data, "owner.json"))
	if err != nil {
		t.Fatal(err)
	}
	var owner app.Owner
	if err := json.Unmarshal(text, &owner); err != nil {
		t.Fatal(err)
	}
	admin, err := grantway.NewClient(grantway.Options{URL: hub.URL(), ClientID: owner.ClientID, ClientSecret: grantway.Secret(owner.ClientSecret),
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close(context.WithoutCancel(t.Context())) })
	return &grantwaytest.Hub{Client: admin, URL: hub.URL(), Data: data}
}

// runNPM runs a script of oauth-clients with its configuration, and makes a test of each of its checks, of which
// there must be so many.
func runNPM(t *testing.T, script string, checks int, config any) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join("oauth-clients", script))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(append(text, '\n')), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node oauth-clients/%s (make peers sets it up): %v\n%s", script, err, out)
	}
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); n++ {
		var check struct{ Name, Error string }
		if err := json.Unmarshal(lines.Bytes(), &check); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		t.Run(check.Name, func(t *testing.T) {
			if check.Error != "" {
				t.Error(check.Error)
			}
		})
	}
	if n != checks {
		t.Errorf("%d checks, want %d", n, checks)
	}
}

// signedIn makes a person, and returns the cookie of the browser in which the person is signed in.
func signedIn(t *testing.T, hub *grantwaytest.Hub, email string) string {
	t.Helper()
	invited, err := hub.InvitePerson(t.Context(), grantway.Person{Email: email, Roles: []grantway.Assignment{{Role: "administrator", Division: "*"}}})
	if err != nil {
		t.Fatal(err)
	}
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	resp, err := browser.PostForm(invited.Link, url.Values{"name": {"Ann"}, "password": {"correct horse battery staple"}, "repeat": {"correct horse battery staple"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	at, _ := url.Parse(hub.URL)
	var cookies []string
	for _, c := range jar.Cookies(at) {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	return strings.Join(cookies, "; ")
}

func goClient(t *testing.T, hub *grantwaytest.Hub) {
	for style, method := range map[oauth2.AuthStyle]string{oauth2.AuthStyleInHeader: grantway.AuthBasic, oauth2.AuthStyleInParams: grantway.AuthPost} {
		c := register(t, hub, "go-"+method, grantway.ClientSettings{AuthMethod: method})
		config := clientcredentials.Config{ClientID: c.ID, ClientSecret: c.Secret, TokenURL: hub.URL + "/oauth/token", AuthStyle: style}
		resp, err := config.Client(t.Context()).Get(hub.URL + "/v1/status")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
}

// goPerson acts for a person, by code and PKCE.
func goPerson(t *testing.T, hub *grantwaytest.Hub) {
	c := register(t, hub, "go-person", grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode, AuthMethod: grantway.AuthNone,
		RedirectURIs: []string{"http://127.0.0.1/cb"}, Scopes: []string{"credential.pick", "credential.status"}})
	config := oauth2.Config{ClientID: c.ID, RedirectURL: "http://127.0.0.1:4711/cb", Scopes: []string{"credential.status"},
		Endpoint: oauth2.Endpoint{AuthURL: hub.URL + "/oauth/authorize", TokenURL: hub.URL + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams}}
	verifier := oauth2.GenerateVerifier()
	_, query, _ := strings.Cut(config.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), "?")
	r, err := http.NewRequestWithContext(t.Context(), "POST", hub.URL+"/oauth/authorize", strings.NewReader(url.Values{"query": {query}, "answer": {"allow"}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Cookie", signedIn(t, hub, "bob@example.com"))
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	token, err := config.Exchange(t.Context(), back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	token.Expiry = time.Now().Add(-time.Second) // so that it is refreshed
	source := config.TokenSource(t.Context(), token)
	next, err := source.Token()
	if err != nil || next.RefreshToken == token.RefreshToken || next.Extra("scope") != "credential.status" {
		t.Fatalf("refresh: %v", err)
	}
	resp, err = oauth2.NewClient(t.Context(), source).Get(hub.URL + "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the API answers %s", resp.Status)
	}
}

func curlClient(t *testing.T, hub *grantwaytest.Hub) {
	c := register(t, hub, "curl", grantway.ClientSettings{})
	run := func(input string, args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, "curl", append([]string{"--silent", "--show-error", "--fail", "--config", "-"}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("curl: %v: %s", err, out)
		}
		return string(out)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	text := run("user = \""+c.ID+":"+c.Secret+"\"\n", "--data", "grant_type=client_credentials", hub.URL+"/oauth/token")
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("%s: %v", text, err)
	}
	if text := run("oauth2-bearer = \""+answer.AccessToken+"\"\n", hub.URL+"/v1/status"); !strings.Contains(text, `"caller":"curl"`) {
		t.Errorf("got %s", text)
	}
}
