package issuer_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
)

// The lines S26 to S34 of the checklist: clients that prove who they are by a key.

// RFC 7523 section 3, RFC 8725 section 3.1: each claim is checked, and nothing is believed by default.
func TestS26Assertion(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		k, other := newKeyPair(jose.ES256, "k1"), newKeyPair(jose.ES256, "k1")
		c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
		now := time.Now().Unix()
		good := func(pairs ...any) claims { return h.assertion(c).with(pairs...) }
		for name, test := range map[string]struct {
			jwt  string
			want int
		}{
			"good":                   {k.sign(good(), nil), 200},
			"nbf of now":             {k.sign(good("nbf", now), nil), 200},
			"clock 30 s ahead":       {k.sign(good("iat", now+30, "nbf", now+30), nil), 200},
			"typ of RFC 7523bis":     {k.sign(good(), map[jose.HeaderKey]any{"typ": "client-authentication+jwt"}), 200},
			"another key, same kid":  {other.sign(good(), nil), 401},
			"another issuer":         {k.sign(good("iss", "x"), nil), 401},
			"another subject":        {k.sign(good("sub", "x"), nil), 401},
			"no exp":                 {k.sign(good("exp", nil), nil), 401},
			"exp in the past":        {k.sign(good("exp", now-1), nil), 401},
			"exp too far ahead":      {k.sign(good("exp", now+3600), nil), 401},
			"exp not a number":       {k.sign(good("exp", "soon"), nil), 401},
			"nbf in the future":      {k.sign(good("nbf", now+300), nil), 401},
			"iat in the future":      {k.sign(good("iat", now+300), nil), 401},
			"no jti":                 {k.sign(good("jti", nil), nil), 401},
			"a jti without end":      {k.sign(good("jti", strings.Repeat("x", 300)), nil), 401},
			"an access token's typ":  {k.sign(good(), map[jose.HeaderKey]any{"typ": "at+jwt"}), 401},
			"unsigned":               {unsigned(good()), 401},
			"signed with the secret": {signWith(jose.SigningKey{Algorithm: jose.HS256, Key: make([]byte, 32)}, nil, good()), 401},
			"not a JWT":              {"x.y.z", 401},
		} {
			got := h.post(asserting(test.jwt), elsewhere())
			if got.status != test.want || test.want == 401 && got.error() != "invalid_client" {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
		h.post(grantBody+"&client_assertion="+k.sign(good(), nil)).want(t, 401, "invalid_client") // without its type
		h.post(grantBody+"&client_assertion_type=x&client_assertion="+k.sign(good(), nil)).want(t, 401, "invalid_client")
		h.post(asserting("")).want(t, 401, "invalid_client")
	})
}

func unsigned(c claims) string {
	text, _ := json.Marshal(c)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(text) + "."
}

// All algorithms that the metadata lists work.
func TestS26Algorithms(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.RS256, jose.EdDSA} {
			k := newKeyPair(alg, "")
			c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(newKeyPair(jose.ES256, "old"), k)}))
			if got := h.post(asserting(k.sign(h.assertion(c), nil))); got.status != 200 {
				t.Errorf("%s: %d %s", alg, got.status, got.body)
			}
		}
		c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT}))
		sign := func(secret string) string {
			return signWith(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(secret)}, nil, h.assertion(c))
		}
		h.post(asserting(sign(c.Secret))).want(t, 200, "")
		h.post(asserting(sign(strings.Repeat("x", 40)))).want(t, 401, "invalid_client")
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 401, "invalid_client") // its secret never travels
		if n := h.count(`SELECT count(*) FROM client_secret WHERE sealed IS NOT NULL`); n != 1 {
			t.Errorf("%d sealed secrets", n)
		}
	})
}

// draft rfc7523bis: the audience is the issuer, alone.
func TestS27Audience(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		k := newKeyPair(jose.ES256, "")
		strict := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
		legacy := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k), AudienceTokenURL: true}))
		issuer, endpoint := h.server.URL, h.server.URL+"/oauth/token"
		for _, test := range []struct {
			aud            any
			strict, legacy int
		}{
			{issuer, 200, 200}, {[]string{issuer}, 200, 200}, {endpoint, 401, 200},
			{[]string{issuer, "https://other.example"}, 401, 401}, {"https://other.example", 401, 401}, {issuer + "/", 401, 401}, {nil, 401, 401},
		} {
			for c, want := range map[*grantway.OAuthClient]int{&strict: test.strict, &legacy: test.legacy} {
				if got := h.post(asserting(k.sign(h.assertion(*c).with("aud", test.aud), nil))); got.status != want {
					t.Errorf("%v, legacy %t: %d %s", test.aud, c.AudienceTokenURL, got.status, got.body)
				}
			}
		}
	})
}

// RFC 7523 section 3 (7): a jti is good once for its client, on all replicas, and only an assertion that
// is good uses it up.
func TestS28Replay(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		k := newKeyPair(jose.ES256, "")
		c := a.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
		other := a.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
		good := a.assertion(c)
		a.post(asserting(k.sign(good.with("aud", "https://other.example"), nil))).want(t, 401, "invalid_client") // does not use it up
		jwt := k.sign(good, nil)
		a.post(asserting(jwt)).want(t, 200, "")
		a.post(asserting(jwt)).want(t, 401, "invalid_client")
		a.post(asserting(k.sign(good, nil))).want(t, 401, "invalid_client")                          // the same jti, signed anew
		a.post(asserting(k.sign(a.assertion(other).with("jti", good["jti"]), nil))).want(t, 200, "") // of another client
		b.URL = a.URL
		b.post(asserting(jwt)).want(t, 401, "invalid_client") // on another replica
	})
}

// Keys at a URL are kept, and fetched again for one that is not known, but not all the time.
func TestS29KeysByURL(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		const at = "https://client.example/jwks"
		old, fresh := newKeyPair(jose.ES256, "old"), newKeyPair(jose.ES256, "new")
		h.remotes.set(at, string(jwks(old)))
		c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKSURI: at}))
		for range 3 {
			h.post(asserting(old.sign(h.assertion(c), nil))).want(t, 200, "")
		}
		if n := h.remotes.count(at); n != 1 {
			t.Errorf("fetched %d times", n)
		}
		h.remotes.set(at, string(jwks(old, fresh)))
		h.post(asserting(fresh.sign(h.assertion(c), nil))).want(t, 401, "invalid_client") // fetched a moment ago
		h.AgeDocuments(61 * time.Second)
		h.post(asserting(fresh.sign(h.assertion(c), nil))).want(t, 200, "")
		for range 5 {
			h.post(asserting(newKeyPair(jose.ES256, "x").sign(h.assertion(c), nil)), header("Test-From", "192.0.2.9"), header("Test-Proto", "https"))
		}
		if n := h.remotes.count(at); n != 2 {
			t.Errorf("fetched %d times", n)
		}
		h.AgeDocuments(6 * time.Minute)
		h.remotes.set(at, strings.Repeat("x", 65<<10)) // too long: what is kept goes on
		h.post(asserting(fresh.sign(h.assertion(c), nil))).want(t, 200, "")
	})
}

// RFC 7521 section 4.2: a client_id beside an assertion names the same client.
func TestS30ClientID(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		k := newKeyPair(jose.ES256, "")
		c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
		other := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
		h.post(asserting(k.sign(h.assertion(c), nil))+"&client_id="+c.ID).want(t, 200, "")
		h.post(asserting(k.sign(h.assertion(c), nil))+"&client_id="+other.ID).want(t, 401, "invalid_client")
		h.post(asserting(k.sign(h.assertion(c), nil)), basic(c.ID, "x")).want(t, 400, "invalid_request")
	})
}

// RFC 8705 section 2: exactly one name of a certificate whose chain is good, or the very certificate.
func TestS31Certificates(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		ca, k := newAuthority(), newEC()
		uri, _ := url.Parse("spiffe://example/app")
		full := ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "app", Organization: []string{"Example"}}, DNSNames: []string{"app.example"},
			URIs: []*url.URL{uri}, IPAddresses: []net.IP{net.ParseIP("192.0.2.7")}, EmailAddresses: []string{"app@example.com"}}, k.Public())
		none := ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "other"}}, k.Public())
		foreign := (&authority{key: newEC()}).issue(&x509.Certificate{Subject: full.Subject, DNSNames: full.DNSNames}, k.Public())
		server := ca.issue(&x509.Certificate{Subject: full.Subject, DNSNames: full.DNSNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, k.Public())
		expired := ca.issue(&x509.Certificate{Subject: full.Subject, DNSNames: full.DNSNames, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, k.Public())
		for name, s := range map[string]grantway.ClientSettings{
			"subject": {TLSSubject: "CN=app, O=Example"}, "dns": {TLSDNS: "APP.example"}, "uri": {TLSURI: "spiffe://example/app"},
			"ip": {TLSIP: "192.0.2.7"}, "email": {TLSEmail: "app@example.com"},
		} {
			s.AuthMethod = grantway.AuthTLS
			c := h.make(settings(s))
			body := grantBody + "&client_id=" + c.ID
			if got := h.post(body, certificate(full)); got.status != 200 {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
			for what, one := range map[string]*x509.Certificate{"another name": none, "another authority": foreign, "a server's": server, "expired": expired} {
				if got := h.post(body, certificate(one), elsewhere()); got.status != 401 {
					t.Errorf("%s, %s: %d %s", name, what, got.status, got.body)
				}
			}
			h.post(body, elsewhere()).want(t, 401, "invalid_client")
			h.post(grantBody, certificate(full), elsewhere()).want(t, 401, "invalid_client") // client_id is required (RFC 8705 section 2)
		}
		mine, other := selfSigned("app"), selfSigned("app")
		set, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: mine.PublicKey, Certificates: []*x509.Certificate{mine}}}})
		c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthSelfSignedTLS, JWKS: set}))
		h.post(grantBody+"&client_id="+c.ID, certificate(mine)).want(t, 200, "")
		h.post(grantBody+"&client_id="+c.ID, certificate(other)).want(t, 401, "invalid_client")
		h.post(grantBody+"&client_id="+c.ID, certificate(full)).want(t, 401, "invalid_client")
	})
}

// RFC 8705 section 3: the token names the certificate, as a JWT and at introspection.
func TestS32CertificateBound(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		cert := selfSigned("app")
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{CertificateBound: true, TokenFormat: format}))
			got := h.post(grantBody, basic(c.ID, c.Secret), certificate(cert))
			got.want(t, 200, "")
			want := map[string]any{"x5t#S256": thumbprintOf(cert)}
			if about := h.introspect(c, got.token()); !equal(about["cnf"], want) || about["token_type"] != "Bearer" {
				t.Errorf("%s: %v", format, about)
			}
			if format == grantway.FormatJWT {
				if _, body := payload(t, got.token()); !equal(body["cnf"], want) {
					t.Errorf("%v", body)
				}
			}
		}
	})
}

// RFC 8705 section 3.4, RFC 9449 section 5.2: bound clients get nothing unbound.
func TestS34BoundOnly(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.make(settings(grantway.ClientSettings{CertificateBound: true}))
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 400, "invalid_request")
		c = h.make(settings(grantway.ClientSettings{DPoPBound: true}))
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 400, "invalid_dpop_proof")
	})
}

// A JWT of another issuer is the client, with no secret at all, if all three names are as registered.
func TestFederated(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		const issuer = "https://cluster.example"
		k := newKeyPair(jose.RS256, "cluster")
		h.remotes.set(issuer+"/.well-known/openid-configuration", `{"issuer":"`+issuer+`","jwks_uri":"`+issuer+`/keys"}`)
		h.remotes.set(issuer+"/keys", string(jwks(k)))
		c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthFederated, Federation: &grantway.Federation{
			Issuer: issuer, Subject: "system:serviceaccount:prod:app", Audience: "grantway"}}))
		now := time.Now().Unix()
		good := claims{"iss": issuer, "sub": "system:serviceaccount:prod:app", "aud": []string{"grantway", "x"}, "exp": now + 3600, "iat": now}
		body := func(c2 claims) string { return asserting(k.sign(c2, nil)) + "&client_id=" + c.ID }
		for range 2 { // such tokens are sent many times
			h.post(body(good)).want(t, 200, "")
		}
		for name, bad := range map[string]claims{
			"issuer": good.with("iss", "https://evil.example"), "subject": good.with("sub", "system:serviceaccount:prod:app2"),
			"audience": good.with("aud", "other"), "expired": good.with("exp", now-1), "no exp": good.with("exp", nil),
		} {
			if got := h.post(body(bad)); got.status != 401 {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
		h.post(asserting(newKeyPair(jose.ES256, "cluster").sign(good, nil))+"&client_id="+c.ID).want(t, 401, "invalid_client")
		h.post(asserting(k.sign(good, nil))).want(t, 401, "invalid_client") // it does not say which client it is for
		if n := h.remotes.count("https://evil.example/.well-known/openid-configuration"); n != 0 {
			t.Error("a stranger's issuer was asked")
		}
	})
}
