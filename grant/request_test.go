package grant_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

func TestC01_FormPost(t *testing.T) {
	r := sent(t, func(r *grant.Request) { r.Form = url.Values{"note": {"£ € é"}} })
	if r.Method != "POST" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("%s of %s", r.Method, r.Header.Get("Content-Type"))
	}
	if want := "note=%C2%A3+%E2%82%AC+%C3%A9"; !strings.Contains(string(r.Body), want) {
		t.Errorf("body %q has no %q", r.Body, want)
	}
}

func TestC02_GrantTypeAndScope(t *testing.T) {
	for _, c := range []struct{ scope, want string }{
		{"", ""}, {"   ", ""}, {"read", "read"}, {"  Write  read Read ", "Write read Read"},
	} {
		r := sent(t, func(r *grant.Request) { r.Scope = c.scope })
		want := url.Values{"grant_type": {"client_credentials"}}
		if c.want != "" {
			want.Set("scope", c.want)
		}
		if d := cmp.Diff(want, r.Form); d != "" {
			t.Errorf("scope %q: %s", c.scope, d)
		}
	}
	refusedToSend(t, "character 2 of the scope", func(r *grant.Request) { r.Scope = "a\tb" })
}

func TestC03_NoParameterTwice(t *testing.T) {
	r := sent(t, func(r *grant.Request) {
		r.Audience = []string{"https://a.example", "b"}
		r.Resource = []string{"https://c.example/", "urn:d"}
	})
	want := url.Values{"grant_type": {"client_credentials"}, "audience": {"https://a.example", "b"}, "resource": {"https://c.example/", "urn:d"}}
	if d := cmp.Diff(want, r.Form); d != "" {
		t.Error(d)
	}
	for name, edit := range map[string]func(r *grant.Request){
		"extra twice":          func(r *grant.Request) { r.Form = url.Values{"x": {"1", "2"}} },
		"extra grant_type":     func(r *grant.Request) { r.Form = url.Values{"grant_type": {"password"}} },
		"extra scope":          func(r *grant.Request) { r.Scope, r.Form = "a", url.Values{"scope": {"b"}} },
		"extra audience":       func(r *grant.Request) { r.Audience, r.Form = []string{"a"}, url.Values{"audience": {"b"}} },
		"extra client_id":      func(r *grant.Request) { r.Auth, r.Form = grant.None{}, url.Values{"client_id": {"b"}} },
		"query twice":          func(r *grant.Request) { r.Query = url.Values{"x": {"1", "2"}} },
		"query in the URL too": func(r *grant.Request) { r.TokenURL, r.Query = r.TokenURL+"?x=1", url.Values{"x": {"2"}} },
		"URL twice":            func(r *grant.Request) { r.TokenURL += "?x=1&x=2" },
		"query and body":       func(r *grant.Request) { r.Form, r.Query = url.Values{"x": {"1"}}, url.Values{"x": {"2"}} },
		"query grant_type":     func(r *grant.Request) { r.TokenURL += "?grant_type=client_credentials" },
	} {
		t.Run(name, func(t *testing.T) { refusedToSend(t, "more than once", edit) })
	}
}

// TestC04_OneAuthentication looks at what each method sends, and at nothing else being sent.
func TestC04_OneAuthentication(t *testing.T) {
	certificate, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "an.assertion.file")
	assertion := []string{"client_assertion", "client_assertion_type", "client_id", "grant_type"}
	for _, c := range []struct {
		auth   grant.Authenticator
		header bool
		params []string
	}{
		{grant.Basic{Secret: appSecret}, true, []string{"grant_type"}},
		{grant.Basic{Secret: appSecret, Raw: true}, true, []string{"grant_type"}},
		{grant.Post{Secret: appSecret}, false, []string{"client_id", "client_secret", "grant_type"}},
		{grant.SecretJWT{Secret: appSecret, Audience: "https://as.example"}, false, assertion},
		{grant.PrivateKeyJWT{Key: newKey(t, "ES256"), Audience: "https://as.example"}, false, assertion},
		{grant.AssertionFile{Path: file}, false, assertion},
		{grant.TLS{}, false, []string{"client_id", "grant_type"}},
		{grant.None{}, false, []string{"client_id", "grant_type"}},
		{nil, false, []string{"client_id", "grant_type"}},
	} {
		t.Run(fmt.Sprintf("%T", c.auth), func(t *testing.T) {
			r := sent(t, func(r *grant.Request) {
				r.Auth = c.auth
				if c.auth == (grant.TLS{}) {
					r.Certificate = certificate
				}
			})
			var params []string
			for name := range r.Form {
				params = append(params, name)
			}
			slices.Sort(params)
			if d := cmp.Diff(c.params, params); d != "" {
				t.Error(d)
			}
			if got := len(r.Header.Values("Authorization")) == 1; got != c.header {
				t.Errorf("Authorization header: %v", got)
			}
			if (r.Certificate != nil) != (c.auth == (grant.TLS{})) {
				t.Errorf("client certificate: %v", r.Certificate != nil)
			}
		})
	}
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		refusedToSend(t, "second way of authentication", func(r *grant.Request) { r.Form = url.Values{name: {"x"}} })
	}
	refusedToSend(t, "second way of authentication", func(r *grant.Request) { r.Header = http.Header{"authorization": {"x"}} })
}

func TestC07_ClientIDBesideBasic(t *testing.T) {
	for _, want := range []bool{false, true} {
		r := sent(t, func(r *grant.Request) { r.SendClientID = want })
		if got := r.Form.Get("client_id") == "app"; got != want {
			t.Errorf("SendClientID %v: client_id in the body %v", want, got)
		}
	}
}

func TestC08_PostInTheBodyOnly(t *testing.T) {
	r := sent(t, func(r *grant.Request) { r.Auth, r.TokenURL = grant.Post{Secret: appSecret}, r.TokenURL+"?tenant=t" })
	if r.Form.Get("client_id") != "app" || r.Form.Get("client_secret") != appSecret {
		t.Errorf("sent %v", r.Form)
	}
	if d := cmp.Diff(url.Values{"tenant": {"t"}}, r.Query); d != "" {
		t.Error(d)
	}
	for _, name := range []string{"client_secret", "client_assertion", "assertion", "password"} {
		refusedToSend(t, "must not", func(r *grant.Request) { r.Query = url.Values{name: {"x"}} })
		refusedToSend(t, "must not", func(r *grant.Request) { r.TokenURL += "?" + name + "=x" })
	}
}

func TestC09_TLSOnly(t *testing.T) {
	p, _ := start(t)
	stranger := &grant.Client{}
	t.Cleanup(stranger.CloseIdleConnections)
	_, err := stranger.Token(t.Context(), newRequest(p))
	if e := failed(t, err); e.Stage != grant.StageTLS || e.Class != grant.Permanent || p.Token.Count() != 0 {
		t.Errorf("a certificate of an unknown authority: %v, %d requests", err, p.Token.Count())
	}
	refusedToSend(t, "plain http is only for a loopback address", func(r *grant.Request) {
		r.TokenURL, r.AllowPlainHTTP = "http://as.example/token", true
	})

	plain := grantwaytest.NewProvider(t)
	plain.Register(grantwaytest.Client{ID: "app", Secret: appSecret})
	r := newRequest(plain)
	_, err = stranger.Token(t.Context(), r)
	if e := failed(t, err); e.Stage != grant.StagePrepare || plain.Token.Count() != 0 {
		t.Errorf("plain http that is not allowed: %v, %d requests", err, plain.Token.Count())
	}
	r.AllowPlainHTTP = true
	if _, err := stranger.Token(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestC10_TokenURL(t *testing.T) {
	r := sent(t, func(r *grant.Request) {
		r.TokenURL += "?p=b2c%2Fpolicy&tenant=a"
		r.Query = url.Values{"api-version": {"1"}}
	})
	if d := cmp.Diff(url.Values{"p": {"b2c/policy"}, "tenant": {"a"}, "api-version": {"1"}}, r.Query); d != "" {
		t.Error(d)
	}
	for raw, want := range map[string]string{
		"":                                    "missing",
		"https://as.example/token#top":        "fragment",
		"https://as.example/token#":           "fragment",
		"https://user:pw@as.example/token":    "user name",
		"https:///token":                      "host",
		"https://:443/token":                  "host",
		"https:as.example":                    "https://",
		"ftp://as.example/token":              "https://",
		"as.example/token":                    "https://",
		"http://as.example/token":             "https",
		"http://10.0.0.1/token":               "https",
		"http://localhost.as.example/token":   "https",
		"https://as.example:0/token":          "port",
		"https://as.example:70000/token":      "port",
		"https://as.example:/token":           "port",
		"https://as.example/to\nken":          "control",
		"https://as.example/to ken":           "spaces",
		" https://as.example/token":           "spaces",
		"https://as.example\\@evil.example/":  "backslash",
		"https://as.example/\u202etoken":      "control",
		"https://as.example/\xff":             "control",
		"https://as.example/?a=%zz":           "query",
		"https://as.example/?client_secret=x": "client_secret",
		"https://[fe80::1%25eth0]/token":      "zone",
	} {
		if err := grant.CheckTokenURL(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", raw, err, want)
		}
	}
	for _, raw := range []string{
		"https://as.example/token", "https://as.example", "https://as.example:8443/a/b?c=d", "HTTPS://AS.example/token",
		"https://[2001:db8::1]:8443/token", "https://bücher.example/token",
		"http://localhost:8080/token", "http://127.0.0.1/token", "http://127.9.9.9/token", "http://[::1]:8080/token",
	} {
		if err := grant.CheckTokenURL(raw); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestC11_RedirectsRefused(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		p, c := start(t)
		p.Token.Always(grantwaytest.Redirect(status, p.API.URL+"elsewhere?code=canary"))
		_, err := c.Token(t.Context(), newRequest(p))
		e := failed(t, err)
		if e.Class != grant.Permanent || e.Status != status || !strings.Contains(e.Message, "redirects to https://127.0.0.1") || strings.Contains(e.Message, "canary") {
			t.Errorf("%d: %v", status, err)
		}
		if p.API.Count() != 0 {
			t.Errorf("%d was followed", status)
		}
	}
}

func TestC39_Resource(t *testing.T) {
	for _, bad := range []string{"", "api", "/api", "https://api.example/#a", "https://api.example/#"} {
		refusedToSend(t, "absolute URI without fragment", func(r *grant.Request) { r.Resource = []string{"https://ok.example", bad} })
	}
	_, err := answered(t, grantwaytest.OAuthError(400, "invalid_target", "no such resource"), nil)
	if e := failed(t, err); e.Class != grant.Permanent || e.Code != "invalid_target" {
		t.Errorf("%s %s", e.Class, err)
	}
}

func TestExtraParametersAndHeaders(t *testing.T) {
	r := sent(t, func(r *grant.Request) {
		r.GrantType = "urn:example:account"
		r.Form = url.Values{"account_id": {"7"}, "audience": {"a", "b"}}
		r.Header = http.Header{"x-api-key": {"k"}, "Accept": {"application/vnd.x+json"}, "content-type": {"application/x-www-form-urlencoded"}}
	})
	if d := cmp.Diff(url.Values{"grant_type": {"urn:example:account"}, "account_id": {"7"}, "audience": {"a", "b"}}, r.Form); d != "" {
		t.Error(d)
	}
	if r.Header.Get("X-Api-Key") != "k" || r.Header.Get("Accept") != "application/vnd.x+json" || len(r.Header.Values("Content-Type")) != 1 {
		t.Errorf("header %v", r.Header)
	}
	for name, value := range map[string]string{
		"Host": "x", "content-length": "1", "DPoP": "x", "Accept-Encoding": "br", "Content-Type": "application/json",
		"X-A": "a\r\nB: c", "X B": "x", "": "x", "X:": "x",
	} {
		refusedToSend(t, "header", func(r *grant.Request) { r.Header = http.Header{name: {value}} })
	}
}

func TestRequestCheck(t *testing.T) {
	for want, edit := range map[string]func(r *grant.Request){
		"client secret is missing":          func(r *grant.Request) { r.Auth = grant.Post{} },
		"client identifier is missing":      func(r *grant.Request) { r.ClientID = "" },
		"client identifier with a colon":    func(r *grant.Request) { r.ClientID, r.Auth = "a:b", grant.Basic{Secret: "x", Raw: true} },
		"signing key: is missing":           func(r *grant.Request) { r.Auth = grant.PrivateKeyJWT{Audience: "x"} },
		"needs one audience":                func(r *grant.Request) { r.Auth = grant.SecretJWT{Secret: appSecret} },
		"at least 64 bytes":                 func(r *grant.Request) { r.Auth = grant.SecretJWT{Secret: "short", Algorithm: "HS512", Audience: "x"} },
		"none of HS256":                     func(r *grant.Request) { r.Auth = grant.SecretJWT{Secret: appSecret, Algorithm: "none", Audience: "x"} },
		"client certificate":                func(r *grant.Request) { r.Auth = grant.TLS{} },
		"path is missing":                   func(r *grant.Request) { r.Auth = grant.AssertionFile{} },
		"needs a grant type that takes one": func(r *grant.Request) { r.Assertion = grant.JWT{} },
		"jwt-bearer needs an assertion":     func(r *grant.Request) { r.GrantType = grant.JWTBearer },
		"issuer and audience":               func(r *grant.Request) { r.GrantType, r.Assertion = grant.JWTBearer, grant.JWT{} },
		"lifetime must not be negative":     func(r *grant.Request) { r.DefaultLifetime = -1 },
		"DPoP key: is missing":              func(r *grant.Request) { r.DPoP = &grant.DPoPKey{} },
		"algorithm \"RS256\" does not fit": func(r *grant.Request) {
			k := newKey(t, "ES256")
			k.Algorithm = "RS256"
			r.Auth = grant.PrivateKeyJWT{Key: k, Audience: "x"}
		},
		"must not carry client_secret in it": func(r *grant.Request) { r.TokenURL += "?client_secret=x" },
	} {
		t.Run(want, func(t *testing.T) { refusedToSend(t, want, edit) })
	}
}

func TestScopes(t *testing.T) {
	for in, want := range map[string]string{
		"": "", " ": "", "a": "a", " a   b A ": "a b A", "https://x.example/.default !#[]~": "https://x.example/.default !#[]~",
	} {
		if got, err := grant.NormalizeScope(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"a\tb", "a\nb", `a"b`, `a\b`, "é", "a\x7f", "\x00"} {
		if _, err := grant.ParseScope(in); err == nil || strings.Contains(err.Error(), in) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestNothingPrintsASecret prints everything that holds one, in every way there is.
func TestNothingPrintsASecret(t *testing.T) {
	certificate, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	private := certificate.PrivateKey.(*ecdsa.PrivateKey) // the same for all
	scalar, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key, err := grant.ParseSigningKey(pkcs8(t, private))
	if err != nil {
		t.Fatal(err)
	}
	dpop, err := grant.ParseDPoPKey(pkcs8(t, private))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{"canary", fmt.Sprintf("%x", "canary"), new(big.Int).SetBytes(scalar).String(), base64.RawURLEncoding.EncodeToString(scalar), hex.EncodeToString(scalar)}
	r := &grant.Request{
		TokenURL: "https://as.example/token?key=canary", ClientID: "app", Certificate: certificate, DPoP: dpop,
		Auth: grant.PrivateKeyJWT{Key: key}, Form: url.Values{"x": {"canary"}}, Header: http.Header{"X": {"canary"}},
	}
	token := &grant.Token{AccessToken: "canary", Type: "DPoP", DPoP: dpop}
	for _, v := range []any{
		r, *r, key, *key, dpop, *dpop, token, *token, grant.Secret("canary"),
		grant.Basic{Secret: "canary"}, grant.Post{Secret: "canary"}, grant.SecretJWT{Secret: "canary"}, r.Auth,
	} {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		asJSON, _ := json.Marshal(v)
		text := fmt.Sprintf("%v %+v %#v %s %q %x %d", v, v, v, v, v, v, v) + string(asJSON) + log.String()
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%T prints %s", v, text)
			}
		}
	}
}
