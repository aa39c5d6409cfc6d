package proxy_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/grantway/grantway"
)

// TestListNarrowsEveryToken: what a client's list leaves out, none of its tokens gets at, in
// whatever way: not those of the client itself, and not those of an owner for whom it acts.
func TestListNarrowsEveryToken(t *testing.T) {
	g := start(t, false, nil)
	if _, err := g.CreateConnector(t.Context(), []byte(`
name: shop
title: Shop
extends: oauth2
apply: {base_url: "`+g.api.URL+`"}
endpoints:
  - {name: orders, path: /orders}
  - {name: make-order, method: POST, path: /orders}
`)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"listed", "other"} {
		_, err := g.CreateCredential(t.Context(), grantway.Credential{Name: name, Connector: "shop", Inputs: grantway.Inputs{
			"client_id": grantway.Text("app"), "client_secret": grantway.Text("secret"), "token_endpoint": grantway.Text(g.provider.Token.URL)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	fire, err := g.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "fire", Roles: []grantway.Assignment{{Role: "owner", Division: "*"}},
		Credentials: []grantway.CredentialUse{{Credential: "listed", Via: grantway.ViaEndpoint, Endpoints: []string{"make-order"}}}})
	if err != nil {
		t.Fatal(err)
	}
	g.firesOnly(t, g.signIn(t, fire.ID, fire.Secret))
	list := []grantway.CredentialUse{{Credential: "listed", Via: grantway.ViaProxy, Methods: []string{"GET"}, Paths: []string{"/orders"}}}
	machine, err := g.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "machine", Roles: []grantway.Assignment{{Role: "owner", Division: "*"}}, Credentials: list})
	if err != nil {
		t.Fatal(err)
	}
	const redirect = "http://127.0.0.1/callback"
	desktop, err := g.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "desktop", Credentials: list, ClientSettings: grantway.ClientSettings{
		GrantType: grantway.GrantAuthorizationCode, RedirectURIs: []string{redirect},
		Scopes: []string{"credential.use", "credential.pick", "credential.read", "credential.write", "credential.validate", "client.write"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		client grantway.OAuthClient
		token  string
	}{
		{machine, g.signIn(t, machine.ID, machine.Secret)},
		{desktop, g.signInPerson(t, desktop, redirect)},
	} {
		t.Run(tt.client.Name, func(t *testing.T) {
			g := *g
			g.token = tt.token
			do := func(method, path, body string) *http.Response {
				r := g.request(t, method, path, strings.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				return g.send(t, r)
			}
			for _, path := range []string{"GET /proxy/listed/orders", "POST /v1/credentials/listed/endpoints/orders"} {
				method, path, _ := strings.Cut(path, " ")
				if resp := do(method, path, ""); resp.StatusCode != 200 {
					t.Errorf("%s %s: HTTP %d %s", method, path, resp.StatusCode, text(t, resp))
				}
			}
			reached, asked := len(g.api.seen()), len(g.provider.Token.Requests())
			for _, tt := range []struct{ method, path, body string }{
				{"POST", "/v1/credentials/listed/token", ""},
				{"POST", "/v1/credentials/other/token", ""},
				{"POST", "/v1/credentials/other/token/invalidate", ""},
				{"GET", "/proxy/listed/customers", ""},
				{"POST", "/proxy/listed/orders", ""},
				{"GET", "/proxy/other/orders", ""},
				{"POST", "/v1/credentials/listed/endpoints/make-order", ""},
				{"POST", "/v1/credentials/other/endpoints/orders", ""},
				{"POST", "/v1/credentials/listed/validate", ""},
				{"POST", "/v1/credentials/other/validate", ""},
				{"PATCH", "/v1/credentials/listed", `{"description": "mine"}`},
				{"PATCH", "/v1/credentials/other", `{"inputs": {"token_endpoint": "https://evil.example/token"}}`},
				{"POST", "/v1/connectors", `{"name": "mine", "title": "Mine", "extends": "oauth2"}`},
				{"PUT", "/v1/connectors/shop", `{"name": "shop", "title": "Shop", "extends": "oauth2"}`},
				{"POST", "/v1/people", `{"email": "me@example.com", "roles": [{"role": "owner", "division": "*"}]}`},
				{"POST", "/v1/secret-stores", `{"name": "mine", "kind": "vault"}`},
				{"POST", "/v1/divisions", `{"name": "mine"}`},
				{"DELETE", "/v1/sso", ""},
				{"POST", "/v1/key/rotate", ""},
				{"POST", "/v1/clients", `{"name": "free", "roles": [{"role": "application"}]}`},
			} {
				t.Run(tt.method+tt.path, func(t *testing.T) { problem(t, do(tt.method, tt.path, tt.body), 403, grantway.Forbidden) })
			}
			for _, credential := range []string{"listed", "other"} {
				resp := g.askToken(t, g.http, tt.client, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {credential},
					"subject_token": {tt.token}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}})
				if body := text(t, resp); resp.StatusCode != 400 || !strings.Contains(body, "invalid_target") {
					t.Errorf("exchange for %s: HTTP %d %s", credential, resp.StatusCode, body)
				}
			}
			if n := len(g.api.seen()) - reached; n != 0 {
				t.Errorf("%d requests reached the API", n)
			}
			if n := len(g.provider.Token.Requests()) - asked; n != 0 {
				t.Errorf("%d requests reached the token endpoint", n)
			}
		})
	}
}

// signInPerson gets a token for a client that acts for an owner.
func (g *rig) signInPerson(t *testing.T, c grantway.OAuthClient, redirect string) string {
	t.Helper()
	invited, err := g.InvitePerson(t.Context(), grantway.Person{Email: "ann@example.com", Roles: []grantway.Assignment{{Role: "owner", Division: "*"}}})
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := *g.http
	browser.Jar = jar
	post := func(to string, form url.Values) *http.Response {
		resp, err := browser.PostForm(to, form)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	post(invited.Link, url.Values{"name": {"Ann"}, "password": {"correct horse battery staple"}, "repeat": {"correct horse battery staple"}})
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {redirect}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}}
	resp := post(g.URL+"/oauth/authorize", url.Values{"query": {query.Encode()}, "answer": {"allow"}})
	back, err := resp.Location()
	if err != nil {
		t.Fatalf("HTTP %d: %v", resp.StatusCode, err)
	}
	resp = g.askToken(t, g.http, c, url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {redirect}, "code_verifier": {verifier}})
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("HTTP %d to %s: no token, %v", resp.StatusCode, back, err)
	}
	return answer.AccessToken
}

// firesOnly tries what a token may do that may call the endpoint make-order of the credential listed, and nothing else.
func (g *rig) firesOnly(t *testing.T, token string) {
	t.Helper()
	before := len(g.api.seen())
	for request, want := range map[string]int{
		"POST /v1/credentials/listed/endpoints/make-order": 200,
		"POST /v1/credentials/listed/endpoints/orders":     403,
		"POST /v1/credentials/other/endpoints/make-order":  403,
		"POST /v1/credentials/listed/token":                403,
		"POST /proxy/listed/orders":                        403,
		"GET /proxy/listed/orders":                         403,
		"GET /proxy/other/orders":                          403,
	} {
		method, path, _ := strings.Cut(request, " ")
		r := g.request(t, method, path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if resp := g.send(t, r); resp.StatusCode != want {
			t.Errorf("%s: HTTP %d %s, want %d", request, resp.StatusCode, text(t, resp), want)
		}
	}
	if n := len(g.api.seen()) - before; n != 1 {
		t.Errorf("%d requests reached the API", n)
	}
}
