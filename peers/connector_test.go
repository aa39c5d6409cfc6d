package peers_test

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/peers/peer"
)

// partner is what a person may write for a vendor with such a server: by hand, where the ready-made
// connector has inputs for everything.
const partner = `
name: partner
title: Partner
inputs:
  - {key: token_url, type: url, required: true}
  - {key: api, type: base_url, required: true}
  - {key: id, required: true}
  - {key: secret, type: secret, required: true}
request:
  url: '{{token_url}}'
  body: {form: {grant_type: client_credentials, client_id: '{{id}}', client_secret: '{{secret}}', resource: https://api.example.com/v1}}
apply:
  base_url: '{{api}}'
`

// TestProxy goes all the way: a credential made of a connector, the proxy, a real authorization
// server, and an API that gets that server's token and none of the inputs.
func TestProxy(t *testing.T) {
	server := peer.OIDCProvider(t)
	authority, err := os.ReadFile(server.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	hub := grantwaytest.Start(t, grantwaytest.HubOptions{RootCAs: roots})
	if _, err := hub.CreateConnector(t.Context(), []byte(partner)); err != nil {
		t.Fatal(err)
	}
	arrived := make(chan *http.Request, 1)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		arrived <- r
	}))
	t.Cleanup(api.Close)
	owner := hubToken(t, hub)

	for _, tt := range []struct {
		name, connector, client string
		inputs                  func(c *peer.Client) grantway.Inputs
	}{
		{"basic", "", "client_secret_basic", func(c *peer.Client) grantway.Inputs { return grantway.Inputs{"client_secret": grantway.Text(c.Secret)} }},
		{"awkward", "", "awkward_basic", func(c *peer.Client) grantway.Inputs { return grantway.Inputs{"client_secret": grantway.Text(c.Secret)} }},
		{"post", "", "client_secret_post", func(c *peer.Client) grantway.Inputs { return grantway.Inputs{"client_secret": grantway.Text(c.Secret)} }},
		{"key", "", "private_key_jwt_ES256", func(c *peer.Client) grantway.Inputs {
			return grantway.Inputs{"signing_key": grantway.Text(string(c.Key)), "assertion_audience": grantway.Text(server.Issuer)}
		}},
		{"partner", "partner", "client_secret_post", func(c *peer.Client) grantway.Inputs {
			return grantway.Inputs{"token_url": grantway.Text(c.TokenURL), "api": grantway.Text(api.URL + "/v1"), "id": grantway.Text(c.ID), "secret": grantway.Text(c.Secret)}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := server.Client(t, tt.client)
			inputs := tt.inputs(c)
			if tt.connector == "" {
				inputs["client_id"], inputs["token_endpoint"], inputs["base_url"] = grantway.Text(c.ID), grantway.Text(c.TokenURL), grantway.Text(api.URL+"/v1")
				inputs["auth_method"], inputs["resource"], inputs["scopes"] = grantway.Text(c.Method), grantway.Text(peer.API), grantway.Text(peer.ScopeRead)
			}
			if _, err := hub.CreateCredential(t.Context(), grantway.Credential{Name: tt.name, Connector: tt.connector, Inputs: inputs}); err != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequestWithContext(t.Context(), "POST", hub.URL+"/proxy/"+tt.name+"/messages?top=1", strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+owner)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 {
				t.Fatalf("HTTP %d: %s", resp.StatusCode, text)
			}
			got := <-arrived
			body, _ := io.ReadAll(got.Body)
			if got.Method != "POST" || got.RequestURI != "/v1/messages?top=1" || string(body) != "hello" {
				t.Errorf("%s %s %s", got.Method, got.RequestURI, body)
			}
			token, ok := strings.CutPrefix(got.Header.Get("Authorization"), "Bearer ")
			if claims := server.Claims(t, token); !ok || claims["client_id"] != c.ID || claims["aud"] != peer.API {
				t.Errorf("the API got a token with %v", claims)
			}
			for name := range got.Header {
				switch name {
				case "Authorization", "Accept-Encoding", "Content-Length", "User-Agent":
				default:
					t.Errorf("the API got the header %s", name)
				}
			}
		})
	}
}

// hubToken signs the owner of a hub in.
func hubToken(t *testing.T, hub *grantwaytest.Hub) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", hub.URL+"/oauth/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(hub.Owner.ClientID, string(hub.Owner.ClientSecret))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatal(cmp.Or(answer.Error, "no token"), err)
	}
	return answer.AccessToken
}
