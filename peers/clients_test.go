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
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
)

// OAuth clients that nobody here wrote against a hub's authorization server, on each database.
func TestOAuthClients(t *testing.T) {
	for name, database := range map[string]func(testing.TB) string{"SQLite": func(testing.TB) string { return "" }, "PostgreSQL": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database(t)})
			t.Run("npm", func(t *testing.T) { npmClients(t, hub) })
			t.Run("x/oauth2", func(t *testing.T) { goClient(t, hub) })
			t.Run("curl", func(t *testing.T) { curlClient(t, hub) })
		})
	}
}

// oauthClient is what a program knows of itself.
type oauthClient struct {
	ID       string           `json:"id"`
	Secret   string           `json:"secret,omitempty"`
	JWK      *jose.JSONWebKey `json:"jwk,omitempty"`
	Redirect string           `json:"redirect,omitempty"`
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
	config, err := json.Marshal(map[string]any{"issuer": hub.URL, "clients": clients, "cookie": signedIn(t, hub)})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", "oauth-clients/check.mjs")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(append(config, '\n')), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node oauth-clients/check.mjs (make peers sets it up): %v\n%s", err, out)
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
	if n != 18 {
		t.Errorf("%d checks, want 18", n)
	}
}

// signedIn makes a person, and returns the cookie of the browser in which the person is signed in.
func signedIn(t *testing.T, hub *grantwaytest.Hub) string {
	t.Helper()
	invited, err := hub.InvitePerson(t.Context(), grantway.Person{Email: "ann@example.com", Roles: []grantway.Assignment{{Role: "administrator", Division: "*"}}})
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
