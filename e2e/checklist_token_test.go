package e2e_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
)

// tokenLines are the lines about requests and replies of the token endpoint, about what becomes of tokens, and about Bearer at
// the API. Whoever fails in them comes from an address of its own, 192.0.2.n for line n, since failures are counted by address.
var tokenLines = []line{
	{"S01 POST only", func(t *testing.T, p *party) {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			a := p.send(t, method, "/oauth/token", "")
			if a.want(t, http.StatusMethodNotAllowed, "invalid_request"); a.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s: Allow %q", method, a.header.Get("Allow"))
			}
		}
	}},
	{"S02 TLS", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		p.post(t, grantBody, basic(c.ID, c.Secret), from("192.0.2.2")).want(t, http.StatusOK, "")
		p.post(t, grantBody, basic(c.ID, c.Secret), from("192.0.2.2"), header("X-Forwarded-Proto", "http")).want(t, http.StatusBadRequest, "invalid_request")
	}},
	{"S03 media type", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		const form = "application/x-www-form-urlencoded"
		for _, test := range []struct {
			kind, body string
			want       int
		}{
			{form, grantBody, 200},
			{"Application/X-WWW-Form-URLEncoded; charset=UTF-8", grantBody, 200},
			{form + "; charset=iso-8859-1", grantBody, 400},
			{form + "; ;", grantBody, 400},
			{"text/plain", grantBody, 400},
			{"", grantBody, 400},
			{"application/json", `{"grant_type":"client_credentials"}`, 400},
			{"multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--x--\r\n", 400},
			{form, grantBody + "&x=" + strings.Repeat("x", 60<<10), 200}, // below the cap of 64 KiB, and above it
			{form, grantBody + "&x=" + strings.Repeat("x", 64<<10), 400},
			{form, grantBody + "&a=%", 400}, // what is no form in UTF-8
			{form, grantBody + "&a=%ff", 400},
		} {
			a := p.post(t, test.body, basic(c.ID, c.Secret), header("Content-Type", test.kind))
			if a.status != test.want || a.status == 400 && a.member("error") != "invalid_request" {
				t.Errorf("%q %.60q: %v", test.kind, test.body, a)
			}
		}
		p.post(t, grantBody, basic(c.ID, c.Secret), func(r *http.Request) { r.Header.Add("Content-Type", "text/plain") }).want(t, 400, "invalid_request")
	}},
	{"S04 query", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		send := func(query, body string, edits ...edit) answer {
			return p.send(t, http.MethodPost, "/oauth/token?"+query, body, edits...)
		}
		send("client_id="+c.ID+"&client_secret="+c.Secret, grantBody).want(t, 400, "invalid_request")
		for _, secret := range []string{"client_secret=x", "a=b&client%5Fsecret=x", "a;client_secret=x", "client_assertion=x", "refresh_token=x", "code=x"} {
			send(secret, grantBody, basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
		}
		send(grantBody, "scope=credential.use", basic(c.ID, c.Secret)).want(t, 400, "invalid_request") // its grant_type is not read
		if a := send("scope=credential.pick", grantBody, basic(c.ID, c.Secret)); a.status != 200 || a.member("scope") == "credential.pick" {
			t.Errorf("a scope in the query: %v", a)
		}
	}},
	{"S05 parameters", func(t *testing.T, p *party) {
		const api = "https://api.example"
		c := p.client(t, grantway.OAuthClient{ClientSettings: grantway.ClientSettings{Resources: []string{api}}})
		for body, want := range map[string]string{
			"grant_type=&" + grantBody + "&scope=&client_id=&client_secret=&client_assertion=&resource=": "", // empty is absent
			"grant_type=&scope=credential.use":              "invalid_request",
			"&" + grantBody + "&&foo=bar&=&x&username=ann":  "", // unknown is ignored
			grantBody + "&" + grantBody:                     "invalid_request",
			grantBody + "&scope=a&%73cope=a":                "invalid_request",
			grantBody + "&foo=1&foo=2":                      "invalid_request",
			grantBody + "&resource=" + url.QueryEscape(api): "",
			// Two resources are no malformed request (RFC 8707 section 2), although a token is for one.
			grantBody + "&resource=" + url.QueryEscape(api) + "&resource=https%3A%2F%2Fother.example": "invalid_target",
		} {
			if a := p.post(t, body, basic(c.ID, c.Secret)); a.member("error") != want || (want == "") != (a.status == 200) {
				t.Errorf("%s: %v, want %q", body, a, want)
			}
		}
	}},
	{"S06 grant type", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		p.post(t, "scope=credential.use", basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
		for _, kind := range []string{"password", "implicit", "Client_Credentials", "client_credentials ", "urn:x"} {
			p.post(t, "grant_type="+url.QueryEscape(kind), basic(c.ID, c.Secret)).want(t, 400, "unsupported_grant_type")
		}
	}},
	{"S07 every client authenticates", func(t *testing.T, p *party) {
		c, here := p.client(t, grantway.OAuthClient{}), from("192.0.2.7")
		for _, grant := range []string{grantBody, "grant_type=" + url.QueryEscape("urn:ietf:params:oauth:grant-type:token-exchange")} {
			p.post(t, grant, here).want(t, 401, "invalid_client")
			p.post(t, grant+"&client_id="+c.ID, here).want(t, 401, "invalid_client")
			p.post(t, grant+"&client_id="+c.ID+"&client_secret=", here).want(t, 401, "invalid_client")
			p.post(t, grant, here, basic(c.ID, "")).want(t, 401, "invalid_client")
			p.post(t, grant, here, basic("", c.Secret)).want(t, 401, "invalid_client")
		}
		public := p.client(t, grantway.OAuthClient{ClientSettings: grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode,
			AuthMethod: grantway.AuthNone, RedirectURIs: []string{"http://127.0.0.1/"}, Scopes: []string{"credential.use"}}})
		p.post(t, grantBody+"&client_id="+public.ID, here).want(t, 400, "unauthorized_client")
		// Nor can one be registered for it.
		body := grantway.OAuthClient{Name: c.Name, Roles: c.Roles, ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthNone}}
		if a := p.owner.ask(p.hub, http.MethodPut, "/v1/clients/"+c.ID, body); a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.body), "/token_endpoint_auth_method") {
			t.Errorf("a public client with the grant: %v", a)
		}
	}},
	{"S08 Basic", func(t *testing.T, p *party) {
		c, here := p.client(t, grantway.OAuthClient{}), from("192.0.2.8")
		raw := func(text string) edit {
			return header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(text)))
		}
		escaped := func(text string) string { // all of it, as oauth4webapi does with "-", "_" and "."
			return "%" + strings.ToUpper(strings.Join(strings.Split(fmt.Sprintf("% x", text), " "), "%"))
		}
		p.post(t, grantBody, raw(c.ID+":"+c.Secret)).want(t, 200, "")
		p.post(t, grantBody, raw(escaped(c.ID)+":"+escaped(c.Secret))).want(t, 200, "")
		p.post(t, grantBody, header("Authorization", "bAsIc  "+base64.StdEncoding.EncodeToString([]byte(c.ID+":"+c.Secret)))).want(t, 200, "")
		for _, bad := range []string{c.ID, c.ID + "%3A" + c.Secret, c.ID + ":%zz", "%:" + c.Secret, c.ID + ":" + c.Secret + ":"} {
			p.post(t, grantBody, raw(bad), here).want(t, 401, "invalid_client")
		}
		for _, bad := range []string{"Basic", "Basic ", "Basic !!!"} {
			p.post(t, grantBody, header("Authorization", bad), here).want(t, 401, "invalid_client")
		}
		// Which id the hub read shows by the one in the body: with another it is 400, with the same 401.
		for text, id := range map[string]string{"a+b:c:d": "a b", "a%3Ab:c": "a:b", "a%2Bb+%25%C3%BC:": "a+b %ü"} {
			body := grantBody + "&client_id="
			p.post(t, body+url.QueryEscape(id), raw(text), here).want(t, 401, "invalid_client")
			p.post(t, body+"x", raw(text), here).want(t, 400, "invalid_request")
		}
	}},
	{"S09 one method", func(t *testing.T, p *party) {
		c, other := p.client(t, grantway.OAuthClient{}), p.client(t, grantway.OAuthClient{})
		inBody := "&client_id=" + c.ID + "&client_secret=" + c.Secret
		p.post(t, grantBody+"&client_id="+c.ID, basic(c.ID, c.Secret)).want(t, 200, "")
		for _, two := range []string{"&client_id=" + other.ID, "&client_secret=" + c.Secret, inBody, asserting("x")} {
			p.post(t, grantBody+two, basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
		}
		p.post(t, grantBody+inBody+asserting("x")).want(t, 400, "invalid_request")
		p.post(t, grantBody, basic(c.ID, c.Secret), func(r *http.Request) {
			r.Header.Add("Authorization", r.Header.Get("Authorization"))
		}).want(t, 400, "invalid_request")
	}},
	{"S10 other schemes", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthPost}})
		body := grantBody + "&client_id=" + c.ID + "&client_secret=" + c.Secret
		p.post(t, body).want(t, 200, "")
		for _, value := range []string{"Bearer x", "Digest username=x", "DPoP x", "Basicx y", "x", ""} {
			p.post(t, body, header("Authorization", value), from("192.0.2.10")).want(t, 401, "invalid_client")
		}
	}},
	{"S11 registered method", func(t *testing.T, p *party) {
		keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.authority.key.Public(), Certificates: []*x509.Certificate{p.authority.certificate}}}})
		if err != nil {
			t.Fatal(err)
		}
		// One client, made so that its secret is good for an assertion too. It keeps the secret under each method.
		c := p.client(t, grantway.OAuthClient{ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT}})
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(c.Secret)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for n, test := range []struct {
			settings grantway.ClientSettings
			way      string // the only one that is good; "" is none
		}{
			{grantway.ClientSettings{AuthMethod: grantway.AuthBasic}, "header"},
			{grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: keys}, ""},
			{grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "app.example"}, ""},
			{grantway.ClientSettings{AuthMethod: grantway.AuthSelfSignedTLS, JWKS: keys}, ""},
			{grantway.ClientSettings{AuthMethod: grantway.AuthFederated, Federation: &grantway.Federation{Issuer: "https://other.example", Subject: "x", Audience: "x", JWKS: keys}}, ""},
			{grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT}, "assertion"},
			{grantway.ClientSettings{AuthMethod: grantway.AuthPost}, "body"},
		} {
			p.owner.must(p.hub, http.MethodPut, "/v1/clients/"+c.ID, grantway.OAuthClient{Name: c.Name, Roles: c.Roles, ClientSettings: test.settings})
			now := time.Now().Unix()
			claims, err := json.Marshal(map[string]any{"iss": c.ID, "sub": c.ID, "aud": p.url, "iat": now, "exp": now + 60, "jti": rand.Text()})
			if err != nil {
				t.Fatal(err)
			}
			jws, err := signer.Sign(claims)
			if err != nil {
				t.Fatal(err)
			}
			jwt, err := jws.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			here := from(fmt.Sprintf("198.51.100.%d", n))
			for way, a := range map[string]answer{
				"header":    p.post(t, grantBody, basic(c.ID, c.Secret), here),
				"body":      p.post(t, grantBody+"&client_id="+c.ID+"&client_secret="+c.Secret, here),
				"assertion": p.post(t, grantBody+asserting(jwt), here),
			} {
				if good := way == test.way; good != (a.status == 200) || !good && a.member("error") != "invalid_client" {
					t.Errorf("%s, secret in %s: %v", test.settings.AuthMethod, way, a)
				}
			}
		}
	}},
	{"S12 challenge", func(t *testing.T, p *party) {
		c, here := p.client(t, grantway.OAuthClient{}), from("192.0.2.12")
		for name, a := range map[string]answer{
			"a wrong secret":    p.post(t, grantBody, basic(c.ID, "gws_wrong"), here),
			"an unknown client": p.post(t, grantBody, basic("client_unknown", "gws_wrong"), here),
			"another scheme":    p.post(t, grantBody, header("Authorization", "Bearer x"), here),
			"in the body":       p.post(t, grantBody+"&client_id="+c.ID+"&client_secret=x", here),
			"an assertion":      p.post(t, grantBody+"&client_id="+c.ID+asserting("x"), here),
			"nothing":           p.post(t, grantBody, here),
		} {
			if a.want(t, 401, "invalid_client"); a.header.Get("WWW-Authenticate") != `Basic realm="grantway"` {
				t.Errorf("%s: WWW-Authenticate %q", name, a.header.Get("WWW-Authenticate"))
			}
		}
	}},
	{"S13 same refusal", func(t *testing.T, p *party) {
		c, off, gone, key := p.client(t, grantway.OAuthClient{}), p.client(t, grantway.OAuthClient{}), p.client(t, grantway.OAuthClient{}),
			p.client(t, grantway.OAuthClient{ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "app.example"}})
		p.manage(http.MethodPost, off, "/deactivate", nil)
		p.manage(http.MethodDelete, gone, "", nil)
		refusal := func(id, secret string) string {
			a := p.post(t, grantBody, basic(id, secret), from("192.0.2.13"))
			a.want(t, 401, "invalid_client")
			a.header.Del("Date")
			return fmt.Sprint(a, a.header)
		}
		first := refusal(c.ID, off.Secret) // a secret of another
		for name, got := range map[string]string{
			"unknown": refusal("client_unknown", c.Secret), "wrong": refusal(c.ID, "x"), "inactive": refusal(off.ID, off.Secret),
			"inactive and wrong": refusal(off.ID, "x"), "deleted": refusal(gone.ID, gone.Secret), "another method": refusal(key.ID, "x"),
		} {
			if got != first {
				t.Errorf("%s: %s, not %s", name, got, first)
			}
		}
	}},
	{"S14 throttle", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		guess := func(id string, from edit) answer { return p.post(t, grantBody, basic(id, "gws_guess"), from) }
		one, many, six := from("203.0.113.1"), from("203.0.113.2"), from("2001:db8::1")
		if n := throttled(t, 401, func(int) answer { return guess(c.ID, one) }); n < 10 || n > 20 { // 10, and one in six seconds
			t.Errorf("%d guesses for one client", n)
		}
		if n := throttled(t, 401, func(n int) answer { return guess(fmt.Sprint("client_", n), many) }); n < 60 || n > 120 { // 60, and one a second
			t.Errorf("%d guesses for many clients", n)
		}
		throttled(t, 401, func(int) answer { return guess(c.ID, six) })
		if a := guess(c.ID, from("2001:db8::ffff:2")); a.status != http.StatusTooManyRequests { // a host has the whole /64
			t.Errorf("from the same /64: %v", a)
		}
		// The count is neither of the address alone nor of the client alone, and the client itself always passes.
		guess("client_other", one).want(t, 401, "invalid_client")
		guess(c.ID, from("203.0.113.3")).want(t, 401, "invalid_client")
		for _, from := range []edit{one, many, six, from("203.0.113.3")} {
			p.post(t, grantBody, basic(c.ID, c.Secret), from).want(t, 200, "")
		}
	}},
	{"S15 unauthorized client", func(t *testing.T, p *party) {
		people := p.client(t, grantway.OAuthClient{ClientSettings: grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode,
			RedirectURIs: []string{"https://app.example/cb"}, Scopes: []string{"credential.use"}}})
		machine := p.client(t, grantway.OAuthClient{})
		p.post(t, grantBody, basic(people.ID, people.Secret)).want(t, 400, "unauthorized_client")
		p.post(t, grantBody, basic(people.ID, "x"), from("192.0.2.15")).want(t, 401, "invalid_client") // only the client is told
		for _, grant := range []string{"authorization_code&code=x&code_verifier=x&redirect_uri=x", "refresh_token&refresh_token=x"} {
			p.post(t, "grant_type="+grant, basic(machine.ID, machine.Secret)).want(t, 400, "unauthorized_client")
		}
	}},
	{"S16 scope", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{}) // holds credential.pick, credential.status, credential.use and connector.read
		for _, scope := range []string{"credential.use", "connector.read credential.pick"} {
			p.post(t, grantBody+"&scope="+url.QueryEscape(scope), basic(c.ID, c.Secret)).want(t, 200, "")
		}
		for _, scope := range []string{
			"openid", "credential.use openid", "Credential.Use", // unknown
			"credential.write", "credential.use key.rotate", // over the grant
			" ", " credential.use", "credential.use ", "credential.use  credential.pick", "credential.use credential.use", // malformed
			"credential.use\tcredential.pick", "credential.use\x00", `"credential.use"`, `credential\use`, "credential.use\x7f", "é",
			strings.Repeat("credential.use ", 1000),
		} {
			if a := p.post(t, grantBody+"&scope="+url.QueryEscape(scope), basic(c.ID, c.Secret)); a.status != 400 || a.member("error") != "invalid_scope" {
				t.Errorf("%.40q: %v", scope, a)
			}
		}
	}},
	{"S17 scope omitted", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{Roles: []grantway.Assignment{{Role: "designer", Division: "*"}}})
		full := p.token(t, c)
		narrow := p.post(t, grantBody+"&scope=credential.pick", basic(c.ID, c.Secret)).member("access_token")
		p.call(t, "Bearer "+full).want(t, 200, "")
		p.reads(t, full, 403)
		if a := p.call(t, "Bearer "+narrow); a.status != 403 {
			t.Errorf("a token without the permission: %v", a)
		}
		// The default is documented as all that the roles allow at any time.
		p.manage(http.MethodPatch, c, "", grantway.OAuthClient{Name: c.Name, Roles: []grantway.Assignment{{Role: "auditor", Division: "*"}}})
		p.reads(t, full, 200)
		p.reads(t, narrow, 403)
	}},
	{"S18 scope granted", func(t *testing.T, p *party) {
		for _, format := range formats {
			c := p.client(t, ofFormat(format))
			for asked, want := range map[string]string{
				"":                                 "credential.pick credential.status credential.use connector.read",
				"credential.use":                   "credential.use",
				"credential.use+credential.pick":   "credential.pick credential.use",
				"connector.read+credential.status": "credential.status connector.read",
			} {
				if a := p.post(t, grantBody+"&scope="+asked, basic(c.ID, c.Secret)); a.status != 200 || a.member("scope") != want {
					t.Errorf("%s %q: %v", format, asked, a)
				}
			}
		}
	}},
	{"S19 reply", func(t *testing.T, p *party) {
		for _, format := range formats {
			c := ofFormat(format)
			c.TokenSeconds = 301
			c = p.client(t, c)
			a := p.post(t, grantBody, basic(c.ID, c.Secret))
			if a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.member("token_type") != "Bearer" || a.object()["expires_in"] != 301.0 {
				t.Errorf("%s: %v %v", format, a, a.header)
			}
			p.call(t, "Bearer "+a.member("access_token")).want(t, 200, "")
			about := p.introspect(t, c, a.member("access_token")).object()
			if exp, _ := about["exp"].(float64); about["iat"] != exp-301 {
				t.Errorf("%s: the token's own lifetime is another: %v", format, about)
			}
		}
	}},
}

// formats are those of access tokens; what becomes of a token must not depend on it.
var formats = []string{grantway.FormatOpaque, grantway.FormatJWT}

func ofFormat(format string) grantway.OAuthClient {
	return grantway.OAuthClient{ClientSettings: grantway.ClientSettings{TokenFormat: format}}
}

// asserting are the parameters of an assertion.
func asserting(jwt string) string {
	return "&client_assertion_type=" + url.QueryEscape("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") + "&client_assertion=" + jwt
}

// manage does something to a client as the owner, which must work; path is behind that of the client.
func (p *party) manage(method string, c grantway.OAuthClient, path string, body any) answer {
	return p.owner.must(p.hub, method, "/v1/clients/"+c.ID+path, body)
}

// reads calls what only auditors may.
func (p *party) reads(t *testing.T, token string, want int) {
	t.Helper()
	if a := p.send(t, http.MethodGet, "/v1/audit?limit=1", "", header("Authorization", "Bearer "+token)); a.status != want {
		t.Errorf("reading the audit trail: %v, want %d", a, want)
	}
}

// throttled makes a request again and again until it is one too many, and returns how many were answered with want before.
func throttled(t *testing.T, want int, request func(n int) answer) int {
	t.Helper()
	for n := range 1000 {
		a := request(n)
		if a.status == http.StatusTooManyRequests {
			if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
				t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
			}
			return n
		}
		if a.status != want {
			t.Fatalf("request %d: %v", n, a)
		}
	}
	t.Fatal("1,000 are answered")
	return 0
}
