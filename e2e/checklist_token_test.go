package e2e_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store/storetest"
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
		public := p.client(t, forPeople(grantway.AuthNone))
		p.post(t, grantBody+"&client_id="+public.ID, here).want(t, 400, "unauthorized_client")
		// Nor can one be registered for it.
		body := grantway.OAuthClient{Name: c.Name, Roles: c.Roles, ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthNone}}
		a := p.owner.ask(p.hub, http.MethodPut, "/v1/clients/"+c.ID, body)
		if a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.body), "/token_endpoint_auth_method") {
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
		for _, two := range []string{"&client_id=" + other.ID, "&client_secret=" + c.Secret, inBody, showing("x")} {
			p.post(t, grantBody+two, basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
		}
		p.post(t, grantBody+inBody+showing("x")).want(t, 400, "invalid_request")
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
		other := grantway.Federation{Issuer: "https://other.example", Subject: "x", Audience: "x", JWKS: keys}
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
			{grantway.ClientSettings{AuthMethod: grantway.AuthFederated, Federation: &other}, ""},
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
				"assertion": p.post(t, grantBody+showing(jwt), here),
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
			"an assertion":      p.post(t, grantBody+"&client_id="+c.ID+showing("x"), here),
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
		people := p.client(t, forPeople(grantway.AuthBasic))
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
	{"S20 no-store", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		auth, here := basic(c.ID, c.Secret), from("192.0.2.20")
		person := p.owner.must(p.hub, http.MethodPost, "/v1/people", grantway.Person{Email: "s20@example.com", Name: "s20", Roles: c.Roles})
		for name, a := range map[string]answer{
			"token":         p.post(t, grantBody, auth),
			"refused":       p.post(t, grantBody, basic(c.ID, "x"), here),
			"malformed":     p.post(t, "scope=x", auth),
			"method":        p.send(t, http.MethodGet, "/oauth/token", ""),
			"introspection": p.introspect(t, c, p.token(t, c)),
			"inactive":      p.introspect(t, c, "x"),
			"not asked":     p.send(t, http.MethodPost, "/oauth/introspect", "token=x", here),
			"revocation":    p.revoke(t, c, "token=x"),
			"new client":    p.owner.must(p.hub, http.MethodPost, "/v1/clients", grantway.OAuthClient{Name: "s20", Roles: c.Roles}),
			"one more":      p.manage(http.MethodPost, c, "/secrets", nil),
			"reset":         p.manage(http.MethodPost, c, "/secret", nil),
			"person":        person,
			"no token":      p.call(t, ""),
		} {
			if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" {
				t.Errorf("%s: %v %v", name, a, a.header)
			}
		}
	}},
	{"S21 no other tokens", func(t *testing.T, p *party) {
		for _, format := range formats {
			c := p.client(t, ofFormat(format))
			for _, more := range []string{"", "&scope=credential.use", "&response_type=id_token&access_type=offline"} {
				members := slices.Sorted(maps.Keys(p.post(t, grantBody+more, basic(c.ID, c.Secret)).object()))
				if got := strings.Join(members, " "); got != "access_token expires_in scope token_type" {
					t.Errorf("%s %s: the reply has %s", format, more, got)
				}
			}
			p.post(t, grantBody+"&scope=openid+offline_access", basic(c.ID, c.Secret)).want(t, 400, "invalid_scope")
		}
	}},
	{"S22 description", func(t *testing.T, p *party) {
		const canary = "c4n4ry"
		c, here := p.client(t, grantway.OAuthClient{}), from("192.0.2.22")
		auth := basic(c.ID, c.Secret)
		for name, a := range map[string]answer{
			"grant":     p.post(t, "grant_type="+canary, auth),
			"scope":     p.post(t, grantBody+"&scope="+canary+"%22%5C%0A", auth),
			"resource":  p.post(t, grantBody+"&resource="+canary, auth),
			"client":    p.post(t, grantBody, basic(canary, canary), here),
			"secret":    p.post(t, grantBody+"&client_id="+c.ID+"&client_secret="+canary, here),
			"assertion": p.post(t, grantBody+"&client_id="+c.ID+showing(canary), here),
			"kind":      p.post(t, grantBody+"&client_assertion="+canary+"&client_assertion_type="+canary, here),
			"scheme":    p.post(t, grantBody, header("Authorization", canary+" x"), here),
			"basic":     p.post(t, grantBody, header("Authorization", "Basic "+canary), here),
			"twice":     p.post(t, grantBody+"&"+canary+"=1&"+canary+"=2", auth),
			"type":      p.post(t, grantBody, auth, header("Content-Type", "text/"+canary)),
			"form":      p.post(t, grantBody+"&"+canary+"=%", auth),
			"query":     p.send(t, http.MethodPost, "/oauth/token?client_secret="+canary, grantBody),
			"method":    p.send(t, canary, "/oauth/token", grantBody),
			"subject":   p.post(t, "grant_type="+url.QueryEscape("urn:ietf:params:oauth:grant-type:token-exchange")+"&audience="+canary+"&subject_token="+canary, auth),
		} {
			forbidden := func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }
			if a.member("error") == "" || a.member("error_description") == "" || strings.Contains(string(a.body), canary) ||
				strings.ContainsFunc(a.member("error")+a.member("error_description"), forbidden) {
				t.Errorf("%s: %v", name, a)
			}
		}
	}},
	{"S23 entropy", func(t *testing.T, p *party) {
		// 43 characters of 62 are 256 bits. A token is sealed: a random IV of 128 bits, which must not come twice, and an
		// HMAC of 256 bits, which one would have to guess.
		const samples = 20
		c := p.client(t, grantway.OAuthClient{})
		var secrets, ivs, macs []string
		for range samples {
			c.Secret = p.manage(http.MethodPost, c, "/secret", nil).member("client_secret")
			token := p.token(t, c)
			for prefix, text := range map[string]string{"gws_": c.Secret, "gwt_": token} {
				if !strings.HasPrefix(text, prefix) || !strings.HasSuffix(text, checksum(text[:len(text)-6])) {
					t.Fatalf("%s: prefix or checksum is another one", text)
				}
			}
			random := c.Secret[len("gws_") : len(c.Secret)-6]
			if len(random) != 43 || strings.Trim(random, base62) != "" {
				t.Fatalf("secret %s", c.Secret)
			}
			sealed, err := base64.RawURLEncoding.DecodeString(token[len("gwt_")+16 : len(token)-6]) // behind the name of the key
			if err != nil || len(sealed) < 16+32 {
				t.Fatalf("token %s: %v", token, err)
			}
			secrets, ivs, macs = append(secrets, random), append(ivs, string(sealed[:16])), append(macs, string(sealed[len(sealed)-32:]))
		}
		for name, all := range map[string][]string{"secrets": secrets, "IVs": ivs, "HMACs": macs} {
			for n := range len(all[0]) { // of 20 random characters in one place, 10 differ but for once in 10^9 times
				seen := map[byte]bool{}
				for _, one := range all {
					seen[one[n]] = true
				}
				if len(seen) < samples/2 {
					t.Errorf("%s: place %d holds %d different characters: %q", name, n, len(seen), all)
				}
			}
		}
	}},
	{"S24 stored", func(t *testing.T, p *party) {
		signing := p.client(t, grantway.OAuthClient{ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT}}) // the hub needs its secret
		hidden := map[string]string{"a secret for assertions": signing.Secret, "a secret that is wrong": "gws_" + rand.Text()}
		var c grantway.OAuthClient
		for _, format := range formats {
			c = p.client(t, ofFormat(format))
			hidden[format+" client"], hidden[format+" client, one more"] = c.Secret, p.manage(http.MethodPost, c, "/secrets", nil).member("client_secret")
			used, revoked := p.token(t, c), p.token(t, c)
			p.call(t, "Bearer "+used).want(t, 200, "")
			p.revoke(t, c, "token="+revoked).want(t, 200, "")
			hidden[format+" token"], hidden[format+" token, revoked"] = used, revoked
		}
		p.post(t, grantBody, basic(c.ID, hidden["a secret that is wrong"]), from("192.0.2.24")).want(t, 401, "invalid_client")
		rows := stored(t, p.site)
		if !strings.Contains(rows, c.ID) {
			t.Fatal("this is not the database")
		}
		for name, text := range hidden {
			sum := sha256.Sum256([]byte(text))
			for form, value := range map[string]string{
				"itself": text, "without prefix and checksum": text[4 : len(text)-6], "in base64": base64.RawStdEncoding.EncodeToString([]byte(text)),
				"SHA-256": string(sum[:]), "SHA-256 in hex": hex.EncodeToString(sum[:]),
				"SHA-256 in base64": base64.RawStdEncoding.EncodeToString(sum[:]), "SHA-256 in base64url": base64.RawURLEncoding.EncodeToString(sum[:]),
			} {
				if strings.Contains(rows, value) {
					t.Errorf("the database holds %s, %s", name, form)
				}
			}
		}
		// What it holds instead is good for nothing.
		var hash string
		if err := open(t, p.site).QueryRowContext(t.Context(), `SELECT hash FROM client_secret WHERE client_id = $1`, c.ID).Scan(&hash); err != nil || len(hash) < 43 {
			t.Fatalf("hash %q: %v", hash, err)
		}
		p.post(t, grantBody, basic(c.ID, hash), from("192.0.2.24")).want(t, 401, "invalid_client")
		// Nobody chooses a secret.
		const chosen = "gws_chosen"
		if a := p.owner.ask(p.hub, http.MethodPost, "/v1/clients/"+c.ID+"/secrets", map[string]string{"client_secret": chosen}); a.status/100 != 4 {
			t.Errorf("a chosen secret: %v", a)
		}
		if a := p.owner.ask(p.hub, http.MethodPost, "/v1/clients", grantway.OAuthClient{Name: "chooses", Secret: chosen, Roles: c.Roles}); a.status != 422 || !strings.Contains(string(a.body), "/client_secret") {
			t.Errorf("a client with a chosen secret: %v", a)
		}
	}},
	{"S25 which secret", func(t *testing.T, p *party) {
		// Use is written down once a minute and when the hub stops, so this is a hub that stops.
		s := sqlite(t)
		if p.site.database != "" {
			s = postgres(t, storetest.EmptyPostgres(t))
		}
		h := start(t, s)
		p = &party{site: s, hub: h, owner: owner(t, s, h)}
		c := p.client(t, grantway.OAuthClient{})
		more := func(body any) (made grantway.ClientSecret) {
			if err := p.manage(http.MethodPost, c, "/secrets", body).decode(&made); err != nil {
				t.Fatal(err)
			}
			return made
		}
		ended := more(nil)
		now := grantway.Seconds(0)
		first := more(grantway.NewSecret{OldExpireIn: &now})
		second, third := more(nil), more(nil)
		for secret, want := range map[string]int{first.Secret: 200, third.Secret: 200, c.Secret: 401, ended.Secret: 401} {
			if a := p.post(t, grantBody, basic(c.ID, secret)); a.status != want {
				t.Errorf("%v, want %d", a, want)
			}
		}
		p.token(t, grantway.OAuthClient{ID: c.ID, Secret: third.Secret})
		h.stop()
		p.hub = start(t, s)
		var list grantway.Page[grantway.ClientSecret]
		if err := p.manage(http.MethodGet, c, "/secrets", nil).decode(&list); err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		for _, one := range list.Items {
			used[one.ID] = time.Since(one.LastUsed) < time.Hour
		}
		if want := (map[string]bool{first.ID: true, second.ID: false, third.ID: true}); !maps.Equal(used, want) {
			t.Errorf("last used: %v, want %v", used, want)
		}
		var trail grantway.Page[grantway.Event]
		if err := p.owner.must(p.hub, http.MethodGet, "/v1/audit?action=token.issue&caller="+c.ID, nil).decode(&trail); err != nil {
			t.Fatal(err)
		}
		var events []string
		for _, e := range trail.Items {
			events = append(events, e.Outcome+" "+e.Detail)
		}
		want := []string{"done 1 by secret " + first.ID, "done 2 by secret " + third.ID, "failed wrong secret or method, 2 times"}
		if slices.Sort(events); !slices.Equal(events, slices.Sorted(slices.Values(want))) {
			t.Errorf("trail %q, want %q", events, want)
		}
	}},
	{"S47 introspection", func(t *testing.T, p *party) {
		const mail = "https://mail.example"
		ask := func(as grantway.OAuthClient, body string, edits ...edit) answer {
			return p.send(t, http.MethodPost, "/oauth/introspect", body, append([]edit{basic(as.ID, as.Secret), from("192.0.2.47")}, edits...)...)
		}
		for _, format := range formats {
			c := ofFormat(format)
			c.Resources = []string{mail}
			c = p.client(t, c)
			stranger, server := p.client(t, grantway.OAuthClient{}), p.client(t, grantway.OAuthClient{ClientSettings: grantway.ClientSettings{Resources: []string{mail}}})
			auditor := p.client(t, grantway.OAuthClient{Roles: []grantway.Assignment{{Role: "auditor", Division: "home"}}})
			token, revoked := p.token(t, c), p.token(t, c)
			p.revoke(t, c, "token="+revoked).want(t, 200, "")
			forMail := p.post(t, grantBody+"&resource="+url.QueryEscape(mail), basic(c.ID, c.Secret)).member("access_token")
			for name, test := range map[string]struct {
				asks   grantway.OAuthClient
				token  string
				active bool
			}{
				"its own": {c, token, true}, "of a client that it may read": {auditor, token, true}, "for its resource": {server, forMail, true},
				"another's": {stranger, token, false}, "for another resource": {server, token, false}, "revoked": {c, revoked, false},
				"cut": {c, token[:len(token)-1], false}, "unknown": {c, "gwt_unknown", false}, "an unknown JWT": {c, "eyJhbGciOiJub25lIn0.e30.", false},
				"a secret": {c, c.Secret, false},
			} {
				a := ask(test.asks, "token="+test.token)
				if a.status != 200 || a.object()["active"] != test.active || !test.active && string(a.body) != `{"active":false}` {
					t.Errorf("%s, %s: %v", format, name, a)
				}
			}
			about := ask(c, "token="+token+"&token_type_hint=refresh_token").object()
			for name, want := range map[string]any{"client_id": c.ID, "sub": c.ID, "iss": p.url, "aud": p.url, "token_type": "Bearer",
				"scope": "credential.pick credential.status credential.use connector.read"} {
				if about[name] != want {
					t.Errorf("%s: %s is %v, want %v", format, name, about[name], want)
				}
			}
			ask(c, "token="+token, func(r *http.Request) { r.Header.Del("Authorization") }).want(t, 401, "invalid_client")
			ask(c, "token="+token, basic(c.ID, "x")).want(t, 401, "invalid_client")
			ask(c, "token="+token, header("Authorization", "Bearer "+token)).want(t, 401, "invalid_client")
			ask(c, "token_type_hint=access_token").want(t, 400, "invalid_request")
			ask(c, "token=a&token=b").want(t, 400, "invalid_request")
		}
		c := p.client(t, grantway.OAuthClient{})
		if a := p.send(t, http.MethodGet, "/oauth/introspect", "", basic(c.ID, c.Secret)); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
			t.Errorf("GET: %v %v", a, a.header)
		}
		public := p.client(t, forPeople(grantway.AuthNone))
		p.send(t, http.MethodPost, "/oauth/introspect", "token=x&client_id="+public.ID).want(t, 400, "unauthorized_client")
		// Who guesses tokens is slowed down, and so is who guesses secrets; what is good passes.
		tokens, secrets := from("203.0.113.47"), from("203.0.113.48")
		throttled(t, 200, func(n int) answer { return ask(c, fmt.Sprint("token=gwt_", n), tokens) })
		throttled(t, 401, func(int) answer { return ask(c, "token=x", basic(c.ID, "x"), secrets) })
		for _, from := range []edit{tokens, secrets} {
			if a := ask(c, "token="+p.token(t, c), from); a.object()["active"] != true {
				t.Errorf("a good token: %v", a)
			}
		}
	}},
	{"S48 state of now", func(t *testing.T, p *party) {
		asks := p.client(t, grantway.OAuthClient{Roles: []grantway.Assignment{{Role: "auditor", Division: "*"}}})
		for _, format := range formats {
			c := p.client(t, ofFormat(format))
			token := p.token(t, c)
			for _, step := range []struct {
				method, path string
				active       bool
			}{
				{http.MethodGet, "", true}, {http.MethodPost, "/deactivate", false}, {http.MethodPost, "/activate", true},
				{http.MethodPost, "/revoke-tokens", false}, {"", "", true}, // another one
				{http.MethodDelete, "", false}, {http.MethodPost, "/restore", false},
			} {
				if step.method == "" {
					token = p.token(t, c)
				} else {
					p.manage(step.method, c, step.path, nil)
				}
				if a := p.introspect(t, asks, token); a.status != 200 || a.object()["active"] != step.active {
					t.Errorf("%s, after %s %s: %v", format, step.method, step.path, a)
				}
			}
			token = p.token(t, c)
			if a := p.introspect(t, asks, token); a.object()["active"] != true {
				t.Errorf("%s: %v", format, a)
			}
			p.revoke(t, c, "token="+token).want(t, 200, "")
			if a := p.introspect(t, asks, token); a.status != 200 || a.object()["active"] != false {
				t.Errorf("%s, revoked: %v", format, a)
			}
		}
	}},
	{"S49 revocation", func(t *testing.T, p *party) {
		here := from("192.0.2.49")
		for _, format := range formats {
			c, other := p.client(t, ofFormat(format)), p.client(t, ofFormat(format))
			token, hinted, stays := p.token(t, c), p.token(t, c), p.token(t, c)
			p.send(t, http.MethodPost, "/oauth/revoke", "token="+token, here).want(t, 401, "invalid_client")
			p.send(t, http.MethodPost, "/oauth/revoke", "token="+token+"&client_id="+c.ID, here).want(t, 401, "invalid_client")
			p.send(t, http.MethodPost, "/oauth/revoke", "token="+token, here, basic(c.ID, "x")).want(t, 401, "invalid_client")
			p.revoke(t, other, "token="+token).want(t, 400, "invalid_grant")
			p.revoke(t, c, "token_type_hint=access_token").want(t, 400, "invalid_request")
			p.call(t, "Bearer "+token).want(t, 200, "") // none of these did anything
			for _, body := range []string{"token=" + token, "token=" + token, "token=" + hinted + "&token_type_hint=refresh_token",
				"token=x", "token=gwt_unknown&token_type_hint=nonsense", "token=eyJhbGciOiJub25lIn0.e30."} {
				if a := p.revoke(t, c, body, here); a.status != 200 || len(a.body) > 0 {
					t.Errorf("%s, %s: %v", format, body, a)
				}
			}
			for _, revoked := range []string{token, hinted} {
				p.refused(t, revoked)
			}
			p.call(t, "Bearer "+stays).want(t, 200, "")
		}
		if a := p.send(t, http.MethodGet, "/oauth/revoke?x=y", ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
			t.Errorf("GET: %v %v", a, a.header)
		}
	}},
	{"S50 revoked at once", func(t *testing.T, p *party) {
		if token := p.token(t, p.client(t, grantway.OAuthClient{})); !strings.HasPrefix(token, "gwt_") {
			t.Errorf("the default is not opaque: %s", token)
		}
		for _, format := range formats {
			c := p.client(t, ofFormat(format))
			used, unused, other := p.token(t, c), p.token(t, c), p.token(t, c)
			p.call(t, "Bearer "+used).want(t, 200, "")
			for _, token := range []string{used, unused} {
				p.revoke(t, c, "token="+token).want(t, 200, "")
				p.refused(t, token)
			}
			p.call(t, "Bearer "+other).want(t, 200, "")
			p.manage(http.MethodPost, c, "/revoke-tokens", nil)
			p.refused(t, other)
			p.call(t, "Bearer "+p.token(t, c)).want(t, 200, "")
		}
	}},
	{"S51 live tokens", func(t *testing.T, p *party) {
		auditor, designer := []grantway.Assignment{{Role: "auditor", Division: "*"}}, []grantway.Assignment{{Role: "designer", Division: "*"}}
		for _, format := range formats {
			c := ofFormat(format)
			c.Roles = auditor
			c = p.client(t, c)
			token := p.token(t, c)
			var added grantway.ClientSecret
			if err := p.manage(http.MethodPost, c, "/secrets", nil).decode(&added); err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct {
				method, path string
				body         any
				want         int
			}{
				{http.MethodPost, "/deactivate", nil, 401},
				{http.MethodPost, "/activate", nil, 200},
				{http.MethodPatch, "", grantway.OAuthClient{Name: c.Name, Roles: designer}, 403},
				{http.MethodPatch, "", grantway.OAuthClient{Name: c.Name, Roles: auditor}, 200},
				{http.MethodDelete, "/secrets/" + added.ID, nil, 200},
				{http.MethodPost, "/secret", nil, 200},
				{http.MethodPost, "/secret", grantway.SecretReset{RevokeTokens: true}, 401},
			} {
				a := p.manage(step.method, c, step.path, step.body)
				p.reads(t, token, step.want)
				if kept := a.member("live_tokens"); step.path == "/secret" && kept != map[int]string{200: "kept", 401: "revoked"}[step.want] {
					t.Errorf("%s: the tokens are %q: %v", format, kept, a)
				}
				if step.path == "/secret" {
					c.Secret = a.member("client_secret")
				}
			}
			token = p.token(t, c)
			p.reads(t, token, 200)
			p.manage(http.MethodDelete, c, "", nil)
			p.refused(t, token)
		}
	}},
	{"S52 secret reply", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		end := time.Now().Add(time.Hour).Truncate(time.Second)
		made := p.owner.must(p.hub, http.MethodPost, "/v1/clients", grantway.OAuthClient{Name: "s52", Roles: c.Roles})
		if err := made.decode(&c); err != nil {
			t.Fatal(err)
		}
		replies := []struct {
			a       answer
			expires int64 // 0 is never
			good    int   // afterwards
		}{
			{made, 0, 401},
			{p.manage(http.MethodPost, c, "/secrets", nil), 0, 401},
			{p.manage(http.MethodPost, c, "/secrets", grantway.NewSecret{ExpiresAt: end}), end.Unix(), 401},
			{p.manage(http.MethodPost, c, "/secret", nil), 0, 200}, // ends the others
			{p.manage(http.MethodPost, c, "/secrets", grantway.NewSecret{ExpiresAt: end}), end.Unix(), 200},
		}
		var secrets []string
		for _, reply := range replies {
			secret := reply.a.member("client_secret")
			secrets = append(secrets, secret)
			if reply.a.object()["client_secret_expires_at"] != float64(reply.expires) {
				t.Errorf("%v, want it to expire at %d", reply.a, reply.expires)
			}
			if a := p.post(t, grantBody, basic(c.ID, secret), from("192.0.2.52")); a.status != reply.good {
				t.Errorf("with %v: %v, want %d", reply.a, a, reply.good)
			}
		}
		for _, a := range []answer{
			p.manage(http.MethodGet, c, "", nil), p.manage(http.MethodGet, c, "/secrets", nil), p.manage(http.MethodPost, c, "/activate", nil),
			p.manage(http.MethodPatch, c, "", grantway.OAuthClient{Name: c.Name, Roles: c.Roles}), p.owner.must(p.hub, http.MethodGet, "/v1/clients?limit=1000", nil),
			p.owner.must(p.hub, http.MethodGet, "/v1/audit?limit=1000&object=client/"+c.Name, nil),
		} {
			text := string(a.body)
			shown := func(secret string) bool { return strings.Contains(text, secret[len("gws_"):]) }
			if !strings.Contains(text, `"id"`) || slices.ContainsFunc(secrets, shown) {
				t.Errorf("shown again: %s", text)
			}
		}
	}},
	{"R01 Bearer", func(t *testing.T, p *party) {
		for _, format := range formats {
			token := p.token(t, p.client(t, ofFormat(format)))
			for _, good := range []string{"Bearer " + token, "bearer " + token, "BEARER   " + token} {
				p.call(t, good).want(t, 200, "")
			}
			query := func(query string) edit { return func(r *http.Request) { r.URL.RawQuery = query } }
			for name, a := range map[string]answer{
				"query":            p.call(t, "", query("access_token="+token)),
				"encoded query":    p.call(t, "", query("limit=1&%61ccess_token="+token)),
				"query and header": p.call(t, "Bearer "+token, query("access_token="+token)),
				"two headers":      p.call(t, "Bearer "+token, func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+token) }),
				"no token":         p.call(t, "Bearer"),
				"an empty token":   p.call(t, "Bearer  "),
			} {
				if a.status != 400 || a.header.Get("WWW-Authenticate") != `Bearer realm="grantway", error="invalid_request"` {
					t.Errorf("%s, %s: %v %q", format, name, a, a.header.Get("WWW-Authenticate"))
				}
			}
			// The body is no place for it: what comes so has brought none.
			if a := p.send(t, http.MethodPost, "/v1/connectors", "access_token="+token); a.status != 401 {
				t.Errorf("%s, in the body: %v", format, a)
			}
			p.call(t, "Bearer "+token, query("limit=1&q=access_token")).want(t, 200, "")
		}
	}},
	{"R02 challenge", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		for name, a := range map[string]answer{
			"nothing":        p.call(t, ""),
			"Basic":          p.call(t, "", basic(c.ID, c.Secret)),
			"another scheme": p.call(t, "x"),
			"a change":       p.send(t, http.MethodDelete, "/v1/clients/"+c.ID, ""),
			"an unknown":     p.send(t, http.MethodGet, "/v1/clients/client_unknown", ""),
			"the metrics":    p.send(t, http.MethodGet, "/metrics", ""),
		} {
			if a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer realm="grantway"` {
				t.Errorf("%s: %v %q", name, a, a.header.Get("WWW-Authenticate"))
			}
		}
	}},
	{"R03 codes", func(t *testing.T, p *party) {
		for _, format := range formats {
			c, off, deleted, revoking := p.client(t, ofFormat(format)), p.client(t, ofFormat(format)), p.client(t, ofFormat(format)), p.client(t, ofFormat(format))
			token, offToken, deletedToken, revoked := p.token(t, c), p.token(t, off), p.token(t, deleted), p.token(t, revoking)
			for _, token := range []string{token, offToken, deletedToken, revoked} {
				p.call(t, "Bearer "+token).want(t, 200, "")
			}
			p.manage(http.MethodPost, off, "/deactivate", nil)
			p.manage(http.MethodDelete, deleted, "", nil)
			p.revoke(t, revoking, "token="+revoked).want(t, 200, "")
			for _, bad := range []string{offToken, deletedToken, revoked, "gwt_unknown", token[:len(token)-1], token[:len(token)-1] + "!", token + " " + token,
				strings.ToUpper(token), c.Secret, "eyJhbGciOiJub25lIn0.e30.", strings.Repeat("x", 10000)} {
				p.refused(t, bad)
			}
			a := p.send(t, http.MethodGet, "/v1/audit", "", header("Authorization", "Bearer "+token))
			if a.status != 403 || a.header.Get("WWW-Authenticate") != `Bearer realm="grantway", error="insufficient_scope", scope="audit.read"` {
				t.Errorf("%s, not allowed: %v %q", format, a, a.header.Get("WWW-Authenticate"))
			}
			narrow := p.post(t, grantBody+"&scope=credential.pick", basic(c.ID, c.Secret)).member("access_token")
			a = p.call(t, "Bearer "+narrow)
			if a.status != 403 || a.header.Get("WWW-Authenticate") != `Bearer realm="grantway", error="insufficient_scope", scope="connector.read"` {
				t.Errorf("%s, not in its scope: %v %q", format, a, a.header.Get("WWW-Authenticate"))
			}
			a = p.call(t, "Bearer")
			if a.status != 400 || a.header.Get("WWW-Authenticate") != `Bearer realm="grantway", error="invalid_request"` {
				t.Errorf("%s, malformed: %v %q", format, a, a.header.Get("WWW-Authenticate"))
			}
		}
	}},
	{"R09 no user", func(t *testing.T, p *party) {
		people := p.client(t, forPeople(grantway.AuthBasic))
		asked := url.Values{"response_type": {"code"}, "client_id": {people.ID}, "redirect_uri": {"https://app.example/cb"}, "scope": {"credential.use"},
			"state": {"x"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(make([]byte, 32))}, "code_challenge_method": {"S256"}}.Encode()
		direct := *p // follows no redirect
		direct.owner = &caller{http: &http.Client{Transport: p.owner.http.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
		for _, format := range formats {
			c := ofFormat(format)
			c.Roles = []grantway.Assignment{{Role: "owner", Division: "*"}} // may do all that there is
			c = p.client(t, c)
			// What it says of a person is not read.
			token := p.post(t, grantBody+"&sub=ann&username=ann&person=ann", basic(c.ID, c.Secret)).member("access_token")
			bearer := header("Authorization", "Bearer "+token)
			if a := p.send(t, http.MethodGet, "/v1/me", "", bearer); a.status != 403 || a.member("code") != string(grantway.Forbidden) {
				t.Errorf("%s, who am I: %v", format, a)
			}
			// Consent is a person's: the hub wants to see one.
			for name, a := range map[string]answer{
				"asked":  direct.send(t, http.MethodGet, "/oauth/authorize?"+asked, "", bearer),
				"allows": direct.send(t, http.MethodPost, "/oauth/authorize", url.Values{"query": {asked}, "answer": {"allow"}}.Encode(), bearer),
			} {
				if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/sign-in?") {
					t.Errorf("%s, %s: %v, to %s", format, name, a, a.header.Get("Location"))
				}
			}
			if about := p.introspect(t, c, token).object(); about["sub"] != c.ID || about["username"] != c.Name {
				t.Errorf("%s: %v", format, about)
			}
			// What it does is its own.
			as := &caller{http: p.owner.http, bearer: token}
			division := "r09-" + format
			as.must(p.hub, http.MethodPost, "/v1/divisions", grantway.Division{Name: division})
			var trail grantway.Page[grantway.Event]
			a := p.owner.must(p.hub, http.MethodGet, "/v1/audit?object=division/"+division, nil)
			if err := a.decode(&trail); err != nil || len(trail.Items) != 1 || trail.Items[0].Caller != c.ID {
				t.Errorf("%s: trail %v", format, a)
			}
		}
	}},
}

func ofFormat(format string) grantway.OAuthClient {
	return grantway.OAuthClient{ClientSettings: grantway.ClientSettings{TokenFormat: format}}
}

// forPeople is a client that acts for people.
func forPeople(authMethod string) grantway.OAuthClient {
	return grantway.OAuthClient{ClientSettings: grantway.ClientSettings{GrantType: grantway.GrantAuthorizationCode, AuthMethod: authMethod,
		RedirectURIs: []string{"https://app.example/cb"}, Scopes: []string{"credential.use"}}}
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

// refused calls the API with a token that must be of no use.
func (p *party) refused(t *testing.T, token string) {
	t.Helper()
	a := p.call(t, "Bearer "+token, from("192.0.2.200"))
	if challenge := a.header.Get("WWW-Authenticate"); a.status != 401 || challenge != `Bearer realm="grantway", error="invalid_token"` {
		t.Errorf("token %.40s: %v %q", token, a, challenge)
	}
}

// revoke asks /oauth/revoke as c.
func (p *party) revoke(t *testing.T, c grantway.OAuthClient, body string, edits ...edit) answer {
	t.Helper()
	return p.send(t, http.MethodPost, "/oauth/revoke", body, append([]edit{basic(c.ID, c.Secret)}, edits...)...)
}

// stored is all that the tables of a site hold, each value on a line.
func stored(t *testing.T, s site) string {
	t.Helper()
	tables := `SELECT name FROM sqlite_master WHERE type = 'table'`
	if s.database != "" {
		tables = `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()`
	}
	var all strings.Builder
	db := open(t, s)
	each := func(query string, row func([][]byte)) {
		rows, err := db.QueryContext(t.Context(), query)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		defer rows.Close()
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		values, into := make([][]byte, len(columns)), make([]any, len(columns))
		for n := range values {
			into[n] = &values[n]
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			row(values)
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	var names []string
	each(tables, func(row [][]byte) { names = append(names, string(row[0])) })
	for _, name := range names {
		each(`SELECT * FROM "`+name+`"`, func(row [][]byte) {
			for _, value := range row {
				all.Write(append(value, '\n'))
			}
		})
	}
	return all.String()
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// checksum is by what scanners know secrets and tokens: CRC-32 in base 62, the lowest digit first.
func checksum(text string) string {
	var digits [6]byte
	for n, sum := 0, crc32.ChecksumIEEE([]byte(text)); n < len(digits); n, sum = n+1, sum/62 {
		digits[n] = base62[sum%62]
	}
	return string(digits[:])
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
