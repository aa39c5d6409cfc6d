package issuer_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// The lines S01 to S25 of the checklist for a token endpoint, over HTTP. See the RFC
// sections in their comments.

// RFC 6749 section 3.2: POST only.
func TestS01PostOnly(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			got := h.send(method, "/oauth/token", grantBody, basic(c.ID, c.Secret))
			if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST" {
				t.Errorf("%s: %d, Allow %q", method, got.status, got.header.Get("Allow"))
			}
		}
	})
}

// RFC 6749 section 3.2, RFC 9700 section 4.13: TLS, or a proxy that is trusted.
func TestS02TLS(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		for _, test := range []struct {
			name, from, proto string
			want              int
		}{
			{"plain http from loopback", "", "", 200},
			{"a proxy on this host tells of another host over http", "192.0.2.1", "http", 400},
			{"a proxy on this host tells of another host over https", "192.0.2.1", "https", 200},
			{"a proxy on this host tells of this host over http", "::1", "http", 400},
			{"an untrusted header changes nothing", "", "https", 200},
		} {
			got := h.post(grantBody, basic(c.ID, c.Secret), header("Test-From", test.from), header("Test-Proto", test.proto))
			if got.status != test.want {
				t.Errorf("%s: %d %s", test.name, got.status, got.body)
			}
		}
		direct := func(remote string) int {
			r, w := newRequest(grantBody), newRecorder()
			basic(c.ID, c.Secret)(r)
			r.RemoteAddr = remote
			h.Handler().ServeHTTP(w, r)
			return w.Code
		}
		for remote, want := range map[string]int{"127.0.0.1:1": 200, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200,
			"192.0.2.1:1": 400, "10.0.0.1:1": 400, "[2001:db8::1]:1": 400, "@": 400, "": 400} {
			if got := direct(remote); got != want {
				t.Errorf("plain http from %q: %d, want %d", remote, got, want)
			}
		}
	})
}

// RFC 6749 Appendix B: one media type, and a bounded body.
func TestS03MediaType(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		auth := basic(c.ID, c.Secret)
		for kind, want := range map[string]int{
			"application/x-www-form-urlencoded":                    200,
			"application/x-www-form-urlencoded; charset=UTF-8":     200,
			"Application/X-WWW-Form-URLEncoded":                    200,
			"application/x-www-form-urlencoded;charset=iso-8859-1": 400,
			"application/json":                                     400,
			"multipart/form-data; boundary=x":                      400,
			"text/plain":                                           400,
			"":                                                     400,
			"application/x-www-form-urlencoded; ;":                 400,
		} {
			got := h.post(grantBody, auth, header("Content-Type", kind))
			if got.status != want || want == 400 && got.error() != "invalid_request" {
				t.Errorf("%q: %d %s", kind, got.status, got.body)
			}
		}
		h.post(`{"grant_type":"client_credentials"}`, auth, header("Content-Type", "application/json")).want(t, 400, "invalid_request")
		h.post("--x\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--x--\r\n", auth,
			header("Content-Type", "multipart/form-data; boundary=x")).want(t, 400, "invalid_request")
		h.post(grantBody+"&x="+strings.Repeat("x", 64<<10), auth).want(t, 400, "invalid_request")
		h.post(grantBody+"&x="+strings.Repeat("x", 60<<10), auth).want(t, 200, "")
		for _, body := range []string{"grant_type=client%5gcredentials", grantBody + "&a=%", grantBody + "&%zz=1", grantBody + "&a=%ff", grantBody + "&a=\xff"} {
			h.post(body, auth).want(t, 400, "invalid_request")
		}
	})
}

// RFC 6749 section 2.3.1: parameters are in the body, and a secret never in the URL.
func TestS04Query(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		auth := basic(c.ID, c.Secret)
		send := func(query, body string, edits ...edit) reply {
			return h.send("POST", "/oauth/token?"+query, body, edits...)
		}
		send("client_id="+c.ID+"&client_secret="+c.Secret, grantBody).want(t, 400, "invalid_request")
		for _, query := range []string{"client_secret=x", "a=b&client%5Fsecret=x", "a;client_secret=x", "client_secret=%zz", "client_assertion=x", "access_token=x"} {
			send(query, grantBody, auth).want(t, 400, "invalid_request")
		}
		send("grant_type=client_credentials", "", auth).want(t, 400, "invalid_request") // not read: missing
		send("scope=openid&tenant=1", grantBody, auth).want(t, 200, "")                 // not read: no scope
	})
}

// RFC 6749 section 3.2: empty is absent, unknown is ignored, twice is wrong.
func TestS05Parameters(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		auth := basic(c.ID, c.Secret)
		h.post(grantBody+"&scope=&client_id=&client_secret=&foo=", auth).want(t, 200, "") // Dovecot posts the like
		h.post("grant_type=&scope=credential.use", auth).want(t, 400, "invalid_request")
		h.post("&"+grantBody+"&&foo=bar&=&x", auth).want(t, 200, "")
		h.post(grantBody+"&"+grantBody, auth).want(t, 400, "invalid_request")
		h.post(grantBody+"&scope=credential.use&scope=credential.pick", auth).want(t, 400, "invalid_request")
		h.post(grantBody+"&scope=credential.use&%73cope=credential.pick", auth).want(t, 400, "invalid_request")
		h.post(grantBody+"&foo=1&foo=2", auth).want(t, 400, "invalid_request")
		// resource may come twice (RFC 8707 section 2), though a token is for one of them.
		h.post(grantBody+"&resource=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example", auth).want(t, 400, "invalid_target")
	})
}

// RFC 6749 section 5.2.
func TestS06GrantType(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		auth := basic(c.ID, c.Secret)
		h.post("", auth).want(t, 400, "invalid_request")
		h.post("scope=credential.use", auth).want(t, 400, "invalid_request")
		for _, kind := range []string{"password", "Client_Credentials", "client_credentials ", "implicit", "urn:x"} {
			h.post("grant_type="+url.QueryEscape(kind), auth).want(t, 400, "unsupported_grant_type")
		}
	})
}

// RFC 6749 section 4.4: this grant is for clients that authenticate.
func TestS07Authenticates(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		h.post(grantBody).want(t, 401, "invalid_client")
		h.post(grantBody+"&client_id="+c.ID).want(t, 401, "invalid_client")
		h.post(grantBody+"&client_id="+c.ID+"&client_secret=").want(t, 401, "invalid_client")
		h.post(grantBody, basic(c.ID, "")).want(t, 401, "invalid_client")
		h.post(grantBody, basic("", c.Secret)).want(t, 401, "invalid_client")
		h.exec(c.ID, `UPDATE client SET auth_method = 'none' WHERE id = $1`, c.ID)
		h.post(grantBody+"&client_id="+c.ID).want(t, 401, "invalid_client")
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 401, "invalid_client")
	})
}

// RFC 6749 section 2.3.1: both halves are form-encoded, and split at the first colon.
func TestS08Basic(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		encodeAll := func(s string) string { // as oauth4webapi does with "-", "_" and "."
			return strings.NewReplacer("_", "%5F", "-", "%2D", ".", "%2E").Replace(s)
		}
		raw := func(text string) edit { return header("Authorization", "Basic "+base64Of(text)) }
		h.post(grantBody, raw(c.ID+":"+c.Secret)).want(t, 200, "")
		h.post(grantBody, raw(encodeAll(c.ID)+":"+encodeAll(c.Secret))).want(t, 200, "")
		h.post(grantBody, header("Authorization", "bAsIc  "+base64Of(c.ID+":"+c.Secret))).want(t, 200, "")
		for _, bad := range []string{
			"Basic", "Basic ", "Basic !!!", "Basic " + base64Of(c.ID), "Basic " + base64Of(c.ID+":%zz"), "Basic " + base64Of("%:"+c.Secret),
			"Basic " + base64Of(c.ID+":"+c.Secret+":"), "Basic " + base64Of(c.ID+":"+c.Secret) + "=", "Basic" + base64Of(c.ID+":"+c.Secret),
		} {
			h.post(grantBody, header("Authorization", bad)).want(t, 401, "invalid_client")
		}

		// An id that only the decoding makes right.
		const id = "a+b c%:ü"
		h.exec(id, `INSERT INTO client (id, name, name_key, description, active, grant_type, auth_method, token_seconds, version, created_at, updated_at)
			SELECT $1, $2, $3, '', TRUE, grant_type, auth_method, 300, 1, 0, 0 FROM client WHERE id = $4`, id, "odd", "odd", c.ID)
		more, err := h.AddSecret(t.Context(), owner, id, grantway.NewSecret{})
		ok(t, err)
		secret := more.Secret
		got := h.post(grantBody, raw("a%2Bb+c%25%3A%C3%BC:"+secret))
		got.want(t, 200, "")
		if got.json["expires_in"] != 300.0 {
			t.Errorf("got %s", got.body)
		}
		h.post(grantBody, raw(id+":"+secret)).want(t, 401, "invalid_client")
	})
}

// RFC 6749 section 2.3: one way to authenticate in a request.
func TestS09OneMethod(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c, other := h.client("app", "application *"), h.client("other", "application *")
		auth := basic(c.ID, c.Secret)
		h.post(grantBody+"&client_id="+c.ID, auth).want(t, 200, "")
		h.post(grantBody+"&client_id="+other.ID, auth).want(t, 400, "invalid_request")
		h.post(grantBody+"&client_secret="+c.Secret, auth).want(t, 400, "invalid_request")
		h.post(grantBody+"&client_id="+c.ID+"&client_secret="+c.Secret, auth).want(t, 400, "invalid_request")
		assertion := "&client_assertion=x&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
		h.post(grantBody+assertion, auth).want(t, 400, "invalid_request")
		h.post(grantBody+"&client_id="+c.ID+"&client_secret="+c.Secret+assertion).want(t, 400, "invalid_request")
		h.post(grantBody, func(r *http.Request) {
			auth(r)
			r.Header.Add("Authorization", r.Header.Get("Authorization"))
		}).want(t, 400, "invalid_request")
	})
}

// A scheme that is not understood is not passed over in favor of the body.
func TestS10OtherScheme(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		for _, value := range []string{"Bearer x", "Digest username=x", "DPoP x", "Basicx y", "x", ""} {
			got := h.post(grantBody+"&client_id="+c.ID+"&client_secret="+c.Secret, func(r *http.Request) { r.Header["Authorization"] = []string{value} })
			got.want(t, 401, "invalid_client")
		}
	})
}

// The registered method only.
func TestS11RegisteredMethod(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		inHeader := func() reply { return h.post(grantBody, basic(c.ID, c.Secret)) }
		inBody := func() reply { return h.post(grantBody + "&client_id=" + c.ID + "&client_secret=" + c.Secret) }
		for _, test := range []struct {
			method       string
			header, body int
		}{
			{"client_secret", 200, 200}, // none registered: RFC 6749 lets it choose how to send its secret
			{"client_secret_basic", 200, 401},
			{"client_secret_post", 401, 200},
			{"private_key_jwt", 401, 401}, // not to be downgraded to a secret that is still there
			{"tls_client_auth", 401, 401},
		} {
			h.exec(c.ID, `UPDATE client SET auth_method = $1 WHERE id = $2`, test.method, c.ID)
			if got := inHeader(); got.status != test.header {
				t.Errorf("%s, in the header: %d %s", test.method, got.status, got.body)
			}
			if got := inBody(); got.status != test.body {
				t.Errorf("%s, in the body: %d %s", test.method, got.status, got.body)
			}
		}
	})
}

// RFC 6749 section 5.2, RFC 9110 section 15.5.2.
func TestS12Challenge(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		for _, got := range []reply{
			h.post(grantBody, basic(c.ID, "gws_wrong")),
			h.post(grantBody, header("Authorization", "Bearer x")),
			h.post(grantBody + "&client_id=" + c.ID + "&client_secret=x"),
			h.post(grantBody),
		} {
			got.want(t, 401, "invalid_client")
			if challenge := got.header.Get("WWW-Authenticate"); challenge != `Basic realm="grantway"` {
				t.Errorf("WWW-Authenticate: %q", challenge)
			}
		}
	})
}

// Unknown client, wrong secret, inactive client: nobody can tell which. That they also
// take as long is for BenchmarkRefusal to show.
func TestS13SameRefusal(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c, off, deleted := h.client("app", "application *"), h.client("off", "application *"), h.client("deleted", "application *")
		ok(t, h.SetActive(t.Context(), owner, off.ID, false))
		ok(t, h.DeleteClient(t.Context(), owner, deleted.ID))
		first := h.post(grantBody, basic(c.ID, off.Secret))
		first.want(t, 401, "invalid_client")
		first.header.Del("Date")
		for name, auth := range map[string]edit{
			"unknown": basic("client_unknown", c.Secret), "inactive": basic(off.ID, off.Secret),
			"deleted": basic(deleted.ID, deleted.Secret), "wrong": basic(c.ID, "x"),
		} {
			got := h.post(grantBody, auth)
			got.header.Del("Date")
			if got.status != first.status || got.body != first.body || len(got.header) != len(first.header) {
				t.Errorf("%s: %d %s %v, not %d %s %v", name, got.status, got.body, got.header, first.status, first.body, first.header)
			}
		}
		ok(t, h.SetActive(t.Context(), owner, off.ID, true))
		h.post(grantBody, basic(off.ID, off.Secret)).want(t, 200, "")
	})
}

// RFC 6749 section 2.3.1: guessing is slowed down, and a good client is not locked out.
func TestS14Throttle(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		at := func(from string) []edit { return []edit{header("Test-From", from), header("Test-Proto", "https")} }
		guess := func(from, id string) reply { return h.post(grantBody, append(at(from), basic(id, "gws_guess"))...) }
		refusedAfter := func(from string, id func(n int) string) int {
			for n := range 1000 {
				if got := guess(from, id(n)); got.status == http.StatusTooManyRequests {
					if seconds, err := time.ParseDuration(got.header.Get("Retry-After") + "s"); err != nil || seconds < time.Second || seconds > time.Minute {
						t.Errorf("Retry-After: %q", got.header.Get("Retry-After"))
					}
					return n
				} else if got.status != http.StatusUnauthorized {
					t.Fatalf("%d %s", got.status, got.body)
				}
			}
			t.Fatal("1,000 guesses are answered")
			return 0
		}
		this := func(int) string { return c.ID }
		if n := refusedAfter("192.0.2.1", this); n < 5 || n > 20 {
			t.Errorf("%d guesses for one client", n)
		}
		if got := guess("192.0.2.1", "client_other"); got.status != http.StatusUnauthorized {
			t.Errorf("a failure of another client behind the same address: %d", got.status)
		}
		if n := refusedAfter("192.0.2.2", func(n int) string { return "client_" + string(rune('a'+n%26)) + strings.Repeat("x", n/26) }); n < 30 || n > 100 {
			t.Errorf("%d guesses for many clients", n)
		}
		// An IPv6 host has 2^64 addresses.
		if n := refusedAfter("2001:db8::1", this); n < 5 {
			t.Errorf("%d guesses", n)
		}
		if got := guess("2001:db8::ffff:2", c.ID); got.status != http.StatusTooManyRequests {
			t.Errorf("from the same /64: %d", got.status)
		}
		for _, from := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "198.51.100.1"} {
			h.post(grantBody, append(at(from), basic(c.ID, c.Secret))...).want(t, 200, "")
		}
	})
}

// RFC 6749 section 5.2: the client may not use the grant.
func TestS15UnauthorizedClient(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		h.exec(c.ID, `UPDATE client SET grant_type = 'authorization_code' WHERE id = $1`, c.ID)
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 400, "unauthorized_client")
		h.post(grantBody, basic(c.ID, "x")).want(t, 401, "invalid_client")
	})
}

// RFC 6749 section 3.3 and Appendix A.4.
func TestS16Scope(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home", "designer home")
		auth := basic(c.ID, c.Secret)
		for scope, want := range map[string]string{
			"credential.use":                        "",
			"credential.use credential.pick":        "",
			"openid":                                "invalid_scope", // unknown
			"credential.use openid":                 "invalid_scope",
			"credential.write":                      "invalid_scope", // over the grant
			"credential.use key.rotate":             "invalid_scope",
			"Credential.Use":                        "invalid_scope",
			" ":                                     "invalid_scope", // malformed
			"credential.use ":                       "invalid_scope",
			"credential.use  credential.pick":       "invalid_scope",
			"credential.use\tcredential.pick":       "invalid_scope",
			`"credential.use"`:                      "invalid_scope",
			`credential\use`:                        "invalid_scope",
			"é":                                     "invalid_scope",
			"credential.use credential.use":         "invalid_scope",
			strings.Repeat("credential.use ", 1000): "invalid_scope",
		} {
			if got := h.post(grantBody+"&scope="+url.QueryEscape(scope), auth); got.error() != want {
				t.Errorf("%.40q: %d %s", scope, got.status, got.body)
			}
		}
	})
}

// RFC 6749 section 3.3: without a scope the token may do all that the roles allow, and it
// follows them. With one it may do less.
func TestS17DefaultScope(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		full := h.post(grantBody, basic(c.ID, c.Secret))
		narrow := h.post(grantBody+"&scope=credential.pick", basic(c.ID, c.Secret))
		for range 2 {
			if got := h.me("Bearer " + full.token()); got.status != 200 || got.body != c.ID {
				t.Errorf("full: %d %s", got.status, got.body)
			}
			if got := h.me("Bearer " + narrow.token()); got.status != 403 {
				t.Errorf("narrow: %d %s", got.status, got.body)
			}
			h.ForgetSessions() // the second time from the database
		}
	})
}

// RFC 6749 sections 3.3 and 5.1: the reply always says what was granted.
func TestS18GrantedScope(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		for body, want := range map[string]string{
			grantBody: "credential.pick credential.status credential.use connector.read",
			grantBody + "&scope=credential.use+credential.pick": "credential.pick credential.use",
		} {
			if got := h.post(body, basic(c.ID, c.Secret)); got.json["scope"] != want {
				t.Errorf("%s: %s", body, got.body)
			}
		}
	})
}

// RFC 6749 section 5.1; and golang.org/x/oauth2 and our own grant package understand it.
func TestS19Reply(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		got := h.post(grantBody, basic(c.ID, c.Secret))
		got.want(t, 200, "")
		if kind := got.header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("Content-Type: %q", kind)
		}
		if got.token() == "" || got.json["token_type"] != "Bearer" || got.json["expires_in"] != 86400.0 {
			t.Errorf("got %s", got.body)
		}

		for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
			one := c
			if style == oauth2.AuthStyleInParams {
				one = h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPost}))
			}
			config := clientcredentials.Config{ClientID: one.ID, ClientSecret: one.Secret, TokenURL: h.server.URL + "/oauth/token",
				AuthStyle: style, Scopes: []string{"credential.use"}}
			resp, err := config.Client(t.Context()).Get(h.server.URL + "/me")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("x/oauth2, style %d: %s", style, resp.Status)
			}
			token, err := config.Token(t.Context())
			if err != nil || token.Extra("scope") != "credential.use" || time.Until(token.Expiry) < 86000*time.Second {
				t.Errorf("x/oauth2: %v, %v", token, err)
			}
		}
		config := clientcredentials.Config{ClientID: c.ID, ClientSecret: "wrong", TokenURL: h.server.URL + "/oauth/token"}
		if _, err := config.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "invalid_client") {
			t.Errorf("x/oauth2: %v", err)
		}

		for _, auth := range []grant.Authenticator{grant.Basic{}, grant.Post{}} {
			c = h.make(settings(grantway.ClientSettings{AuthMethod: auth.Method()}))
			switch auth.(type) {
			case grant.Basic:
				auth = grant.Basic{Secret: grant.Secret(c.Secret)}
			default:
				auth = grant.Post{Secret: grant.Secret(c.Secret)}
			}
			token, err := new(grant.Client).Token(t.Context(), &grant.Request{TokenURL: h.server.URL + "/oauth/token", AllowPlainHTTP: true, ClientID: c.ID, Auth: auth})
			if err != nil || token.Type != "Bearer" || token.ExpirySource != "response" {
				t.Errorf("grant: %v, %v", token, err)
			}
		}
	})
}

// RFC 6749 section 5.1: nothing of this endpoint is kept by a cache.
func TestS20NoStore(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		for name, got := range map[string]reply{
			"token": h.post(grantBody, basic(c.ID, c.Secret)), "refused": h.post(grantBody, basic(c.ID, "x")),
			"malformed": h.post(""), "method": h.send("GET", "/oauth/token", ""),
		} {
			if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Pragma") != "no-cache" {
				t.Errorf("%s: %v", name, got.header)
			}
		}
	})
}

// RFC 6749 section 4.4.3: nothing else comes with the token.
func TestS21NoOtherTokens(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		got := h.post(grantBody, basic(c.ID, c.Secret))
		for name := range got.json {
			switch name {
			case "access_token", "token_type", "expires_in", "scope":
			default:
				t.Errorf("the reply holds %s", name)
			}
		}
	})
}

// RFC 6749 section 5.2 and Appendix A.8: the description repeats nothing of the request.
func TestS22Description(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		const canary = "c4n4ry"
		for name, got := range map[string]reply{
			"grant":  h.post("grant_type="+canary, basic(c.ID, c.Secret)),
			"scope":  h.post(grantBody+"&scope="+canary, basic(c.ID, c.Secret)),
			"client": h.post(grantBody, basic(canary, canary)),
			"secret": h.post(grantBody + "&client_id=" + c.ID + "&client_secret=" + canary),
			"scheme": h.post(grantBody, header("Authorization", canary+" x")),
			"basic":  h.post(grantBody, header("Authorization", "Basic "+canary)),
			"twice":  h.post(grantBody + "&" + canary + "=1&" + canary + "=2"),
			"type":   h.post(grantBody, header("Content-Type", "text/"+canary)),
			"query":  h.send("POST", "/oauth/token?client_secret="+canary, grantBody),
			"method": h.send("PUT", "/oauth/token", grantBody),
		} {
			if got.error() == "" || strings.Contains(got.body, canary) {
				t.Errorf("%s: %s", name, got.body)
			}
			checkDescription(t, got.json)
		}
	})
}

// checkDescription checks the characters that RFC 6749 Appendix A.7 and A.8 allow.
func checkDescription(t *testing.T, reply map[string]any) {
	t.Helper()
	for _, name := range []string{"error", "error_description"} {
		text, _ := reply[name].(string)
		if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }) {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// RFC 6749 section 10.10, and marks by which scanners find what was leaked.
func TestS23Entropy(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		seen := map[string]bool{}
		for range 20 {
			reset, err := h.ResetSecret(t.Context(), owner, c.ID, grantway.SecretReset{})
			ok(t, err)
			c.Secret = reset.Secret
			body, found := strings.CutPrefix(c.Secret, "gws_")
			if !found || len(body) != 43+6 || strings.Trim(body, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") != "" {
				t.Errorf("%q: 43 characters of 62 are 256 bits", c.Secret)
			}
			token := h.token(c)
			sealed, err := base64.RawURLEncoding.DecodeString(token[len("gwt_")+16 : len(token)-6]) // between the name of the key and the checksum
			if err != nil || !strings.HasPrefix(token, "gwt_") || len(sealed) < 16+32 {
				t.Errorf("%q: a random IV of 128 bits, and an HMAC of 256", token)
			}
			for _, random := range []string{body[:8], string(sealed[:16]), string(sealed[16:32]), string(sealed[len(sealed)-32:])} {
				if seen[random] {
					t.Errorf("%q is there twice", random)
				}
				seen[random] = true
			}
		}
	})
}

// RFC 6819 section 5.1.4.1.3: the database holds no secret, nor anything one can be found with.
func TestS24Stored(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		token := h.token(c)
		h.post(grantBody, basic(c.ID, "gws_c4n4ry"))
		h.send("POST", "/oauth/revoke", "token="+token, basic(c.ID, c.Secret)).want(t, 200, "")
		ok(t, h.RecordUsage(t.Context()))
		for _, secret := range []string{c.Secret, token, "gws_c4n4ry"} {
			for _, form := range []string{secret, sha256Of(secret)} {
				for _, query := range []string{
					`SELECT count(*) FROM client_secret WHERE hash LIKE $1 OR id LIKE $1`,
					`SELECT count(*) FROM revoked_token WHERE jti LIKE $1`,
					`SELECT count(*) FROM audit WHERE detail LIKE $1 OR fields LIKE $1 OR object LIKE $1 OR caller LIKE $1`,
				} {
					if h.count(query, "%"+form+"%") != 0 {
						t.Errorf("%s finds it", query)
					}
				}
			}
		}
		// A hash without the key is of no use: neither another's row nor one that was put there.
		h.exec(c.ID, `UPDATE client_secret SET hash = $1 WHERE client_id = $2`, sha256Of("gws_mine"), c.ID)
		h.post(grantBody, basic(c.ID, "gws_mine")).want(t, 401, "invalid_client")
	})
}

// Every secret that has not expired is good, and it is noted which one was used.
func TestS25Secrets(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		add := func() (id, secret string) {
			more, err := h.AddSecret(t.Context(), owner, c.ID, grantway.NewSecret{})
			ok(t, err)
			return more.ID, more.Secret
		}
		secondID, second := add()
		thirdID, third := add()
		h.exec(c.ID, `UPDATE client_secret SET expires_at = $1 WHERE id = $2`, time.Now().UnixMilli()-1, thirdID)
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
		h.post(grantBody, basic(c.ID, third)).want(t, 401, "invalid_client")
		before := time.Now().UnixMilli()
		h.post(grantBody, basic(c.ID, second)).want(t, 200, "")
		h.post(grantBody, basic(c.ID, second)).want(t, 200, "")
		ok(t, h.RecordUsage(t.Context()))
		if h.count(`SELECT count(*) FROM client_secret WHERE id = $1 AND last_used >= $2`, secondID, before) != 1 {
			t.Error("the time of the last use is not noted")
		}
		if h.count(`SELECT count(*) FROM client_secret WHERE id = $1 AND last_used = 0`, thirdID) != 1 {
			t.Error("a secret that was refused is noted as used")
		}
		var details []string
		for _, e := range h.trail("token.issue") {
			if e.Caller != c.ID || e.Object != "client/app" {
				t.Errorf("got %+v", e)
			}
			details = append(details, e.Outcome+" "+e.Detail)
		}
		if got := strings.Join(details, ", "); !strings.Contains(got, "done 2 by secret "+secondID) || !strings.Contains(got, "failed wrong secret or method, 1 times") {
			t.Errorf("trail: %s", got)
		}
	})
}

// A program that asks for a token at every call, and revokes it, does not fill the database.
func TestCrowd(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c, other := h.client("app", "application home"), h.client("other", "application home")
		first := h.token(c)
		fill(h, c)
		got := h.post(grantBody, basic(c.ID, c.Secret))
		if got.json["expires_in"] != 60.0 {
			t.Errorf("got %s", got.body)
		}
		if got := h.post(grantBody, basic(other.ID, other.Secret)); got.json["expires_in"] != 86400.0 {
			t.Errorf("another client: %s", got.body)
		}
		if got := h.me("Bearer " + first); got.status != 200 {
			t.Errorf("a token was taken back: %d", got.status)
		}
		for _, token := range []string{first, got.token()} {
			h.send("POST", "/oauth/revoke", "token="+token, basic(c.ID, c.Secret)).want(t, 200, "")
		}
		for _, step := range []struct {
			after time.Duration
			want  int
		}{{0, 2}, {time.Hour + 2*time.Minute, 1}, {25*time.Hour + time.Minute, 0}} { // an hour longer than the tokens
			ok(t, h.Purge(t.Context(), time.Now().Add(step.after)))
			if n := h.count(`SELECT count(*) FROM revoked_token`); n != step.want {
				t.Errorf("after %v there are %d rows", step.after, n)
			}
		}
	})
}

// Nobody waits for the database for ever, and who went away is not waited for.
func TestTokenCanceled(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r, w := newRequest(grantBody).WithContext(ctx), newRecorder()
		basic(c.ID, c.Secret)(r)
		h.Handler().ServeHTTP(w, r)
		if w.Code != 503 && w.Code != 200 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}
