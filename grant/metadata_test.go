package grant_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// publish starts a TLS server that publishes metadata at one path, and a Client that trusts
// it; asked lists the paths it was asked for. %s in the document is the server's URL.
func publish(t *testing.T, path, document string) (server *httptest.Server, c *grant.Client, asked *[]string) {
	t.Helper()
	asked = new([]string)
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.URL.Path)
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, strings.ReplaceAll(document, "%s", server.URL))
	}))
	t.Cleanup(server.Close)
	c = &grant.Client{Transport: server.Client().Transport.(*http.Transport)}
	t.Cleanup(c.CloseIdleConnections)
	return server, c, asked
}

func TestC37_Discovery(t *testing.T) {
	const document = `{"issuer":"%sISSUER","token_endpoint":"%s/token","response_types_supported":[]}`
	for _, c := range []struct {
		issuer, path string
		asked        []string
	}{
		{"", "/.well-known/oauth-authorization-server", nil},
		{"/", "/.well-known/oauth-authorization-server", nil},
		{"/tenant", "/.well-known/oauth-authorization-server/tenant", nil},
		{"/tenant/", "/.well-known/oauth-authorization-server/tenant", nil},
		{"/tenant/v2.0", "/tenant/v2.0/.well-known/openid-configuration", []string{"/.well-known/oauth-authorization-server/tenant/v2.0"}},
		{"", "/.well-known/openid-configuration", []string{"/.well-known/oauth-authorization-server"}},
	} {
		server, client, asked := publish(t, c.path, strings.ReplaceAll(document, "ISSUER", c.issuer))
		m, err := client.Discover(t.Context(), server.URL+c.issuer)
		if err != nil {
			t.Errorf("%q: %v", c.issuer, err)
			continue
		}
		if m.Issuer != server.URL+c.issuer || m.TokenEndpoint != server.URL+"/token" {
			t.Errorf("got %+v", m)
		}
		if d := cmp.Diff(append(c.asked, c.path), *asked); d != "" {
			t.Error(d)
		}
	}

	const path = "/.well-known/oauth-authorization-server"
	for _, c := range []struct {
		document, want string
		asked          int
	}{
		{`{"issuer":"%s/","token_endpoint":"%s/token"}`, "discovery: the metadata at", 1},
		{`{"issuer":"https://evil.example","token_endpoint":"%s/token"}`, `is of issuer "https://evil.example"`, 1},
		{`{"token_endpoint":"%s/token"}`, `is of issuer ""`, 1},
		{`{"issuer":"%s"}`, "token_endpoint in the metadata is missing", 2},
		{`{"issuer":"%s","token_endpoint":"http://as.example/token"}`, "404", 2},
		{`<html>`, "404", 2},
		{`[]`, "404", 2},
	} {
		server, client, asked := publish(t, path, c.document)
		m, err := client.Discover(t.Context(), server.URL)
		if e := failed(t, err); m != nil || e.Class != grant.Permanent || len(*asked) != c.asked {
			t.Errorf("%s: %v, %v, asked %v", c.document, m, err, *asked)
		} else if c.asked == 1 && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.document, err)
		}
	}
	for _, bad := range []string{"", "as.example", "http://as.example", "https://as.example/?a", "https://as.example/#a", "https://a@as.example"} {
		_, err := (&grant.Client{}).Discover(t.Context(), bad)
		if e := failed(t, err); e.Stage != grant.StagePrepare {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestC31_MutualTLSAlias(t *testing.T) {
	server, client, _ := publish(t, "/.well-known/oauth-authorization-server", `{"issuer":"%s","token_endpoint":"%s/token","revocation_endpoint":"%s/revoke",
		"mtls_endpoint_aliases":{"token_endpoint":"https://mtls.as.example/token","revocation_endpoint":"https://mtls.as.example/revoke"}}`)
	m, err := client.Discover(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	plain, mutual := &grant.Request{}, &grant.Request{Certificate: certificate}
	got := []string{m.TokenURL(plain), m.RevocationURL(plain), m.TokenURL(mutual), m.RevocationURL(mutual)}
	want := []string{server.URL + "/token", server.URL + "/revoke", "https://mtls.as.example/token", "https://mtls.as.example/revoke"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	m.MTLS.TokenEndpoint, m.MTLS.RevocationEndpoint = "", ""
	if m.TokenURL(mutual) != want[0] || m.RevocationURL(mutual) != want[1] {
		t.Error("no alias means the plain endpoints")
	}
}

func TestC38_Warnings(t *testing.T) {
	const endpoint = `"token_endpoint":"https://as.example/token"`
	key := newKey(t, "ES256")
	for _, c := range []struct {
		document string
		auth     grant.Authenticator
		edit     func(*grant.Request)
		want     []string
	}{
		{`{`, grant.Basic{}, nil, nil},
		{`{`, grant.Post{}, nil, []string{"the server does not list client authentication client_secret_post; it lists client_secret_basic"}},
		{`{"token_endpoint_auth_methods_supported":["client_secret_post","private_key_jwt"],`, grant.Basic{}, nil,
			[]string{"the server does not list client authentication client_secret_basic; it lists client_secret_post, private_key_jwt"}},
		{`{"token_endpoint_auth_methods_supported":["self_signed_tls_client_auth"],`, grant.TLS{}, nil, nil},
		{`{"token_endpoint_auth_methods_supported":["private_key_jwt"],"token_endpoint_auth_signing_alg_values_supported":["RS256"],`, grant.PrivateKeyJWT{Key: key}, nil,
			[]string{"the server does not list signature algorithm ES256; it lists RS256"}},
		{`{"token_endpoint_auth_methods_supported":["client_secret_jwt"],"token_endpoint_auth_signing_alg_values_supported":["HS256"],`, grant.SecretJWT{}, nil, nil},
		{`{"grant_types_supported":["authorization_code"],"dpop_signing_alg_values_supported":["RS256"],`, grant.Basic{},
			func(r *grant.Request) { r.DPoP = newDPoPKey(t) },
			[]string{"the server does not list grant type client_credentials; it lists authorization_code", "the server does not list DPoP algorithm ES256; it lists RS256"}},
		{`{`, grant.Basic{}, func(r *grant.Request) { r.TokenURL = "https://as.example/other" }, []string{"the server's token endpoint for this request is https://as.example/token"}},
	} {
		var m grant.Metadata
		if err := json.Unmarshal([]byte(c.document+endpoint+"}"), &m); err != nil {
			t.Fatal(err)
		}
		r := &grant.Request{TokenURL: "https://as.example/token", ClientID: "app", Auth: c.auth}
		if c.edit != nil {
			c.edit(r)
		}
		if d := cmp.Diff(c.want, m.Warnings(r)); d != "" {
			t.Errorf("%s %T: %s", c.document, c.auth, d)
		}
	}
}

func TestC41_Revocation(t *testing.T) {
	p, c := start(t)
	r := newRequest(p)
	r.Scope, r.Form, r.DPoP = "read", url.Values{"x": {"y"}}, newDPoPKey(t)
	for _, reply := range []grantwaytest.Reply{grantwaytest.Body(200, "", ""), body(`{"error":"what"}`)} {
		p.API.Next(reply)
		if err := c.Revoke(t.Context(), p.API.URL+"revoke", r, "the-token"); err != nil {
			t.Error(err)
		}
	}
	r.Auth = grant.Post{Secret: appSecret}
	p.API.Next(grantwaytest.RetryAfter(503, "60"))
	start := time.Now()
	err := c.Revoke(t.Context(), p.API.URL+"revoke", r, "the-token")
	if e := failed(t, err); e.Class != grant.Throttled || e.RetryAt.Before(start.Add(time.Minute)) || !strings.HasPrefix(err.Error(), "revocation: ") {
		t.Errorf("%s %v", e.Class, err)
	}
	p.API.Next(grantwaytest.Status(503))
	if e := failed(t, c.Revoke(t.Context(), p.API.URL+"revoke", r, "the-token")); e.Class != grant.Temporary {
		t.Errorf("%s %v", e.Class, e)
	}
	p.API.Next(grantwaytest.OAuthError(400, "unsupported_token_type", "not the-token"))
	if e := failed(t, c.Revoke(t.Context(), p.API.URL+"revoke", r, "the-token")); e.Class != grant.Permanent || e.Description != "not [secret]" {
		t.Errorf("%s %v", e.Class, e)
	}
	if e := failed(t, c.Revoke(t.Context(), "http://as.example/revoke", r, "the-token")); e.Stage != grant.StagePrepare {
		t.Error(e)
	}

	requests := p.API.Requests()
	if d := cmp.Diff(url.Values{"token": {"the-token"}, "token_type_hint": {"access_token"}}, requests[0].Form); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(url.Values{"token": {"the-token"}, "token_type_hint": {"access_token"}, "client_id": {"app"}, "client_secret": {appSecret}}, requests[2].Form); d != "" {
		t.Error(d)
	}
	if requests[0].Method != "POST" || !strings.HasPrefix(requests[0].Header.Get("Authorization"), "Basic ") || len(requests) != 5 {
		t.Errorf("%s, header %v, %d requests", requests[0].Method, requests[0].Header, len(requests))
	}
}

// TestC42PreferredAuthMethod: what a form should offer first.
func TestC42PreferredAuthMethod(t *testing.T) {
	for _, tt := range []struct {
		offered []string
		want    string
	}{
		{nil, "client_secret_basic"}, // RFC 8414 section 2
		{[]string{"client_secret_basic", "client_secret_post"}, "client_secret_basic"},
		{[]string{"client_secret_post", "private_key_jwt", "client_secret_basic"}, "private_key_jwt"},
		{[]string{"client_secret_basic", "tls_client_auth"}, "tls_client_auth"},
		{[]string{"client_secret_jwt", "client_secret_post"}, "client_secret_jwt"},
		{[]string{"attest_jwt_client_auth"}, ""},
	} {
		if got := (&grant.Metadata{AuthMethods: tt.offered}).PreferredAuthMethod(); got != tt.want {
			t.Errorf("of %v: got %q, want %q", tt.offered, got, tt.want)
		}
	}
}
