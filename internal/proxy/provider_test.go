package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/peers/peer"
)

// TestProvider has definitions of connectors sign in at an authorization server that nobody here wrote: an instance
// of each calls an API, through the proxy, that asks the server what the token is worth.
func TestProvider(t *testing.T) {
	op := peer.OIDCProvider(t)
	worth := func(r *http.Request) string {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return "no token"
		}
		claims := op.Claims(t, token)
		return fmt.Sprint(claims["client_id"], " ", claims["scope"], " ", claims["active"])
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/api/who":
			fmt.Fprint(w, worth(r))
		case "/session": // the second step: an application gives sessions to who has a token
			fmt.Fprintf(w, `{"data": {"session": %q}}`, "of "+worth(r)+" for "+string(body))
		case "/app/who":
			fmt.Fprint(w, r.Header.Get("X-Session"))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(api.Close)
	hub := grantwaytest.Start(t, grantwaytest.HubOptions{RootCAs: op.Transport().TLSClientConfig.RootCAs})
	g := &rig{Hub: hub, http: &http.Client{}}
	t.Cleanup(g.http.CloseIdleConnections)
	g.token = g.signIn(t, hub.Owner.ClientID, string(hub.Owner.ClientSecret))

	for _, tt := range []struct {
		client, definition, path, want string
	}{
		{client: "client_secret_basic", path: "/who", definition: `
request:
  url: '{{token_url}}'
  basic: {username: '{{form_encode(id)}}', password: '{{form_encode(secret)}}'}
  body: {form: {grant_type: client_credentials, scope: api:read}}
apply: {base_url: '{{server}}/api'}
`},
		{client: "awkward_basic", path: "/who", definition: `
extends: oauth2
oauth2: {token_url: '{{token_url}}', client_id: '{{id}}', client_secret: '{{secret}}', scope: 'api:read', auth: client_secret_basic}
drop: [client_id, client_secret, token_endpoint, scopes, next_client_secret, client_secret_expires_at]
apply: {base_url: '{{server}}/api'}
`},
		{client: "client_secret_post", path: "/who", definition: `
request:
  url: '{{token_url}}'
  body: {form: {grant_type: client_credentials, scope: api:read, client_id: '{{id}}', client_secret: '{{secret}}'}}
apply: {base_url: '{{server}}/api'}
`},
		{client: "private_key_jwt_ES256", path: "/who", definition: `
oauth2: {token_url: '{{token_url}}', client_id: '{{id}}', scope: 'api:read', auth: private_key_jwt, signing_key: '{{secret}}', assertion_audience: '{{issuer}}'}
apply: {base_url: '{{server}}/api'}
`},
		{client: "percent_post", path: "/who", want: "of percent_post api:read true for {\"tenant\":\"berlin\"}", definition: `
steps:
  - name: token
    request:
      url: '{{token_url}}'
      body: {form: {grant_type: client_credentials, scope: api:read, client_id: '{{id}}', client_secret: '{{secret}}'}}
      extract: {first: {path: access_token}}
  - name: session
    request:
      url: '{{server}}/session'
      headers: {Authorization: 'Bearer {{first}}'}
      body: {json: {tenant: berlin}}
token: {path: data.session, lifetime: 10m}
apply: {base_url: '{{server}}/app', headers: {X-Session: '{{token}}'}}
`},
	} {
		t.Run(tt.client, func(t *testing.T) {
			client := op.Client(t, tt.client)
			name := strings.ToLower(strings.ReplaceAll(tt.client, "_", "-"))
			definition := "name: " + name + "\ntitle: " + name + "\ninputs:\n  - {key: server, type: url, required: true}\n  - {key: token_url, type: url, required: true}\n  - {key: issuer}\n" +
				"  - {key: id, required: true}\n  - {key: secret, type: secret, required: true, max: 8192}" + tt.definition
			if _, err := g.CreateConnector(t.Context(), []byte(definition)); err != nil {
				t.Fatal(err)
			}
			secret := client.Secret
			if client.Key != nil {
				secret = string(client.Key)
			}
			_, err := g.CreateCredential(t.Context(), grantway.Credential{Name: name, Connector: name, Inputs: grantway.Inputs{
				"server": grantway.Text(api.URL), "token_url": grantway.Text(client.TokenURL), "issuer": grantway.Text(op.Issuer),
				"id": grantway.Text(client.ID), "secret": grantway.Text(secret)}})
			if err != nil {
				t.Fatal(err)
			}
			resp := g.send(t, g.request(t, "GET", "/proxy/"+name+tt.path, nil))
			want := tt.want
			if want == "" {
				want = client.ID + " api:read true"
			} else {
				want = strings.Replace(want, tt.client, client.ID, 1)
			}
			if got := text(t, resp); resp.StatusCode != 200 || got != want {
				t.Errorf("HTTP %d %s, want %s", resp.StatusCode, got, want)
			}
		})
	}
}
