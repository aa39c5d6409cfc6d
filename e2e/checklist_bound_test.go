package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
)

const mail = "https://mail.example/api" // another API that tokens are for

var application = []grantway.Assignment{{Role: "application", Division: "home"}}

var formats = []string{grantway.FormatOpaque, grantway.FormatJWT}

// boundLines are the lines about keys and certificates of clients, about tokens that are bound to them, and about what becomes
// of tokens.
var boundLines = []line{
	{"S26 assertion", func(t *testing.T, p *party) {
		k, stranger, now := newKey(t, "ES256"), newKey(t, "ES256"), time.Now().Unix()
		c, other := p.keyed(t, k), p.keyed(t, k)
		good := func(pairs ...any) string { return k.sign(p.assertion(c).with(pairs...)) }
		for what, jwt := range map[string]string{
			"good":               good(),
			"exp in 5 minutes":   good("exp", now+300),
			"nbf of now":         good("nbf", now),
			"a clock 50 s ahead": good("iat", now+50, "nbf", now+50),
			"typ JWT":            k.sign(p.assertion(c), "typ", "JWT"),
			"typ of RFC 7523bis": k.sign(p.assertion(c), "typ", "client-authentication+jwt"),
		} {
			p.expect(t, what, "", asserting(jwt))
		}
		public, err := x509.MarshalPKIXPublicKey(k.private.Public())
		if err != nil {
			t.Fatal(err)
		}
		for what, jwt := range map[string]string{
			"nothing":                            "",
			"not a JWT":                          "x.y.z",
			"another iss":                        good("iss", other.ID),
			"no iss":                             good("iss", nil),
			"another sub":                        good("sub", other.ID),
			"no sub":                             good("sub", nil),
			"both another's":                     good("iss", "client_x", "sub", "client_x"),
			"no exp":                             good("exp", nil),
			"exp in the past":                    good("exp", now-1),
			"exp in 10 minutes":                  good("exp", now+600),
			"exp that is no number":              good("exp", "soon"),
			"nbf in 3 minutes":                   good("nbf", now+180),
			"iat in 3 minutes":                   good("iat", now+180),
			"changed after it was signed":        swap(good(), 1, p.assertion(c)),
			"without its signature":              strings.Join(strings.Split(good(), ".")[:2], ".") + ".",
			"by another key":                     stranger.sign(p.assertion(c)),
			"by another key, which it brings":    stranger.sign(p.assertion(c), "jwk", stranger.public()),
			"an access token's typ":              k.sign(p.assertion(c), "typ", "at+jwt"),
			"alg none":                           keyPair{alg: "none"}.sign(p.assertion(c)),
			"alg none in capitals":               keyPair{alg: "NONE"}.sign(p.assertion(c)),
			"alg HS256 with the public key":      keyPair{alg: "HS256", secret: public}.sign(p.assertion(c)),
			"an alg that is not listed":          k.sign(p.assertion(c), "alg", "ES256K"),
			"another alg that is, and not meant": k.sign(p.assertion(c), "alg", "RS256"),
			"a critical header that is unknown":  k.sign(p.assertion(c), "crit", []string{"x"}, "x", 1),
		} {
			p.expect(t, what, "invalid_client", asserting(jwt)+"&client_id="+c.ID)
		}
		for _, kind := range []string{"", "x", strings.ToUpper(assertionType), assertionType + " ", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"} {
			form := grantBody + "&" + url.Values{"client_assertion_type": {kind}, "client_assertion": {good()}}.Encode()
			p.expect(t, fmt.Sprintf("type %q", kind), "invalid_client", form)
		}

		// What the key is for is registered too, and a secret has algorithms of its own.
		r := newKey(t, "RS256")
		pss := p.keyed(t, keyPair{alg: "PS256", private: r.private})
		p.expect(t, "PS256", "", asserting(keyPair{alg: "PS256", private: r.private}.sign(p.assertion(pss))))
		p.expect(t, "RS256 by a key for PS256", "invalid_client", asserting(r.sign(p.assertion(pss))))
		shared := p.registered(t, grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT})
		for alg, code := range map[string]string{"HS256": "", "HS512": "invalid_client", "none": "invalid_client"} {
			p.expect(t, alg, code, asserting(keyPair{alg: alg, secret: []byte(shared.Secret)}.sign(p.assertion(shared))))
		}
		p.expect(t, "another secret", "invalid_client", asserting(keyPair{alg: "HS256", secret: []byte(c.ID)}.sign(p.assertion(shared))))
	}},
	{"S27 audience", func(t *testing.T, p *party) {
		k := newKey(t, "ES256")
		strict := p.keyed(t, k)
		legacy := p.registered(t, grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k), AudienceTokenURL: true})
		const wrong = "invalid_client"
		issuer, endpoint := p.url, p.url+"/oauth/token"
		for _, test := range []struct {
			aud            any
			strict, legacy string
		}{
			{issuer, "", ""},
			{endpoint, wrong, ""},
			{[]string{issuer, endpoint}, wrong, wrong},
			{[]string{issuer, "https://other.example"}, wrong, wrong},
			{[]string{}, wrong, wrong},
			{"https://other.example", wrong, wrong},
			{"https://other.example/oauth/token", wrong, wrong},
			{issuer + "/", wrong, wrong},
			{p.url + "/oauth/introspect", wrong, wrong},
			{nil, wrong, wrong},
		} {
			p.expect(t, fmt.Sprintf("aud %v", test.aud), test.strict, asserting(k.sign(p.assertion(strict).with("aud", test.aud))))
			p.expect(t, fmt.Sprintf("aud %v, legacy", test.aud), test.legacy, asserting(k.sign(p.assertion(legacy).with("aud", test.aud))))
		}
	}},
	{"S28 replay", func(t *testing.T, p *party) {
		k := newKey(t, "ES256")
		c, other := p.keyed(t, k), p.keyed(t, k)
		good := p.assertion(c)
		// An assertion that is refused does not use its jti up: else who reads one could spoil it.
		for what, form := range map[string]string{
			"for another server": asserting(k.sign(good.with("aud", "https://other.example"))),
			"expired":            asserting(k.sign(good.with("exp", time.Now().Unix()-1))),
			"of the future":      asserting(k.sign(good.with("nbf", time.Now().Unix()+180))),
			"another iss":        asserting(k.sign(good.with("iss", other.ID))),
			"another key":        asserting(newKey(t, "ES256").sign(good)),
			"another client_id":  asserting(k.sign(good)) + "&client_id=" + other.ID,
		} {
			p.expect(t, what, "invalid_client", form)
		}
		jwt := k.sign(good)
		p.expect(t, "good", "", asserting(jwt))
		p.expect(t, "again", "invalid_client", asserting(jwt))
		p.expect(t, "signed anew, to last longer", "invalid_client", asserting(k.sign(good.with("exp", time.Now().Unix()+120))))
		p.expect(t, "of another client", "", asserting(k.sign(p.assertion(other).with("jti", good["jti"]))))
		for n, code := range map[int]string{0: "invalid_client", 256: "", 257: "invalid_client"} {
			p.expect(t, fmt.Sprintf("jti of %d", n), code, asserting(k.sign(p.assertion(c).with("jti", strings.Repeat("j", n)))))
		}
		p.expect(t, "no jti", "invalid_client", asserting(k.sign(p.assertion(c).with("jti", nil))))
		if b := p.replica(t); b != nil {
			b.expect(t, "on another replica", "invalid_client", asserting(jwt))
			jwt = k.sign(p.assertion(c))
			b.expect(t, "a new one there", "", asserting(jwt))
			p.expect(t, "and back here", "invalid_client", asserting(jwt))
		}
	}},
	{"S29 jwks_uri", func(t *testing.T, p *party) {
		for _, uri := range []string{strings.Replace(p.documents.URL, "https", "http", 1) + "/keys", "ftp://client.example/keys", "/keys", "https://me@client.example/keys"} {
			p.unregistrable(t, uri, "/jwks_uri", grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKSURI: uri})
		}
		at := func(uri string) grantway.OAuthClient {
			return p.registered(t, grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKSURI: uri})
		}
		old, fresh := newKey(t, "ES256"), newKey(t, "ES256")
		old.kid, fresh.kid = "old", "new"
		c := at(p.documents.set("/kept", string(jwks(old))))
		for range 3 {
			p.expect(t, "a key at a URL", "", asserting(old.sign(p.assertion(c))))
		}
		p.documents.set("/kept", string(jwks(old, fresh)))
		for range 3 {
			p.expect(t, "a kid of later", "invalid_client", asserting(fresh.sign(p.assertion(c))))
		}
		p.expect(t, "the kid of before", "", asserting(old.sign(p.assertion(c))))
		if n := p.documents.count("/kept"); n != 1 {
			t.Errorf("the keys were fetched %d times within a minute", n)
		}
		for n, code := range map[int]string{64 << 10: "", 64<<10 + 1: "invalid_client"} {
			set := string(jwks(old))
			c := at(p.documents.set(fmt.Sprint("/", n), set+strings.Repeat(" ", n-len(set))))
			p.expect(t, fmt.Sprintf("%d bytes", n), code, asserting(old.sign(p.assertion(c))))
		}

		// 127.0.0.0/8 is allowed here, and all other private networks are not. To connect to 0.0.0.0 is to connect to this machine.
		port, asked := mute(t)
		for _, host := range []string{"0.0.0.0" + port, "10.255.255.1", "192.168.255.1", "169.254.169.254", "[::1]" + port, "[fd00::1]", "[::ffff:10.255.255.1]"} {
			c := at("https://" + host + "/keys")
			p.expect(t, host, "invalid_client", asserting(old.sign(p.assertion(c))))
			if asked.Load() != 0 {
				t.Errorf("%s: %d connections, want it refused and not tried", host, asked.Load())
			}
		}
		c = at("https://127.0.0.1" + port + "/keys")
		p.expect(t, "a server that says nothing", "invalid_client", asserting(old.sign(p.assertion(c)))) // and not 503: the hub did not wait for the 10 s of a token request
		if asked.Load() != 1 {
			t.Errorf("a server that says nothing: %d connections, want one", asked.Load())
		}
	}},
	{"S30 client_id beside", func(t *testing.T, p *party) {
		k := newKey(t, "ES256")
		c, other := p.keyed(t, k), p.keyed(t, k)
		for id, code := range map[string]string{"": "", c.ID: "", other.ID: "invalid_client", "client_x": "invalid_client", strings.ToUpper(c.ID): "invalid_client"} {
			a := p.expect(t, "client_id "+id, code, asserting(k.sign(p.assertion(c)))+"&client_id="+id)
			if code != "" && (a.member("access_token") != "" || a.header.Get("Cache-Control") != "no-store") {
				t.Errorf("client_id %s: %v %v", id, a, a.header)
			}
		}
	}},
	{"S31 certificates", func(t *testing.T, p *party) {
		uri, err := url.Parse("spiffe://example/app")
		if err != nil {
			t.Fatal(err)
		}
		key := newKey(t, "ES256").private.(*ecdsa.PrivateKey)
		full := func() *x509.Certificate { // a template, which issue fills in
			return &x509.Certificate{Subject: pkix.Name{CommonName: "app", Organization: []string{"Example"}}, DNSNames: []string{"other.example", "app.example"}, URIs: []*url.URL{uri},
				IPAddresses: []net.IP{net.IPv4(192, 0, 2, 7)}, EmailAddresses: []string{"app@example.com"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		}
		good, server, expired := p.authority.issue(t, full(), key), full(), full()
		server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		between := p.authority.below(t)
		chained := between.issue(t, full(), key)
		for name, s := range map[string]grantway.ClientSettings{
			"subject": {TLSSubject: "CN=app,O=Example"}, "dns": {TLSDNS: "app.example"}, "uri": {TLSURI: "spiffe://example/app"},
			"ip": {TLSIP: "192.0.2.7"}, "email": {TLSEmail: "app@example.com"},
		} {
			s.AuthMethod = grantway.AuthTLS
			form := grantBody + "&client_id=" + p.registered(t, s).ID
			p.expect(t, name, "", form, certificates(good))
			p.expect(t, name+", with its chain", "", form, certificates(chained, between.certificate))
			for what, shown := range map[string]edit{
				"none":                    nothing,
				"another name":            certificates(p.authority.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "app.example"}}, key)),
				"of another authority":    certificates(newAuthority(t).issue(t, full(), key)),
				"of nobody but itself":    certificates((&authority{key: key}).issue(t, full(), key)),
				"without its chain":       certificates(chained),
				"signed by no authority":  certificates((&authority{key, good}).issue(t, full(), key), good),
				"behind one that is good": certificates(p.authority.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}}, key), good),
				"of a server":             certificates(p.authority.issue(t, server, key)),
				"expired":                 certificates(p.authority.issue(t, expired, key)),
			} {
				p.expect(t, name+", "+what, "invalid_client", form, shown)
			}
		}
		p.unregistrable(t, "no name", "/token_endpoint_auth_method", grantway.ClientSettings{AuthMethod: grantway.AuthTLS})
		p.unregistrable(t, "two names", "/token_endpoint_auth_method", grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "app.example", TLSIP: "192.0.2.7"})

		mine := selfSigned(t)
		for name, s := range map[string]grantway.ClientSettings{"jwks": {JWKS: x5c(mine)}, "jwks_uri": {JWKSURI: p.documents.set("/x5c", string(x5c(mine)))}} {
			s.AuthMethod = grantway.AuthSelfSignedTLS
			form := grantBody + "&client_id=" + p.registered(t, s).ID
			p.expect(t, name, "", form, certificates(mine))
			for what, shown := range map[string]edit{
				"none":                            nothing,
				"another":                         certificates(selfSigned(t)),
				"of an authority":                 certificates(good),
				"another, with it as its chain":   certificates(selfSigned(t), mine),
				"another one of the same subject": certificates((&authority{key: key}).issue(t, &x509.Certificate{Subject: mine.Subject}, key)),
			} {
				p.expect(t, name+", "+what, "invalid_client", form, shown)
			}
		}
	}},
	{"S32 certificate-bound", func(t *testing.T, p *party) {
		block, err := os.ReadFile("../grant/testdata/rfc8705a.pem")
		if err != nil {
			t.Fatal(err)
		}
		der, _ := pem.Decode(block)
		vector, err := x509.ParseCertificate(der.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		mine := selfSigned(t)
		sum := sha256.Sum256(mine.Raw)
		for _, format := range formats {
			c := p.registered(t, grantway.ClientSettings{CertificateBound: true, TokenFormat: format})
			for thumbprint, one := range map[string]*x509.Certificate{
				"A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0": vector, // RFC 8705 appendix A
				base64.RawURLEncoding.EncodeToString(sum[:]):  mine,
			} {
				a := p.expect(t, format, "", grantBody, basic(c.ID, c.Secret), certificates(one))
				if a.member("token_type") != "Bearer" {
					t.Errorf("%s: %v", format, a)
				}
				p.bound(t, c, a.member("access_token"), "Bearer", map[string]any{"x5t#S256": thumbprint})
			}
		}
	}},
	{"S33 Client-Cert", func(t *testing.T, p *party) {
		key := newKey(t, "ES256").private.(*ecdsa.PrivateKey)
		issue := func(name string) *x509.Certificate {
			return p.authority.issue(t, &x509.Certificate{DNSNames: []string{name}}, key)
		}
		mine, other := issue("app.example"), issue("other.example")
		s := grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "app.example"}
		form := grantBody + "&client_id=" + p.registered(t, s).ID
		p.expect(t, "good", "", form, header("Client-Cert", clientCert(mine)))
		for what, headers := range map[string]http.Header{
			"two of them":        {"Client-Cert": {clientCert(mine), clientCert(mine)}},
			"two in one":         {"Client-Cert": {clientCert(other) + ", " + clientCert(mine)}},
			"a chain alone":      {"Client-Cert-Chain": {clientCert(mine)}},
			"without colons":     {"Client-Cert": {strings.Trim(clientCert(mine), ":")}},
			"PEM, as some do it": {"Client-Cert": {url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mine.Raw})))}},
			"not a certificate":  {"Client-Cert": {":AAAA:"}},
			"another name 1":     {"X-Client-Cert": {clientCert(mine)}},
			"another name 2":     {"X-Ssl-Client-Cert": {clientCert(mine)}},
			"another name 3":     {"Ssl-Client-Cert": {clientCert(mine)}},
			"another name 4":     {"X-Forwarded-Client-Cert": {"Cert=" + clientCert(mine)}},
		} {
			p.expect(t, what, "invalid_client", form, func(r *http.Request) { maps.Copy(r.Header, headers) })
		}

		// The same hub without that proxy: the header is as if it were not there, whoever sends it.
		site := sqlite(t)
		site.flags = p.site.flags[:slices.Index(p.site.flags, "--trusted-proxies")]
		alone := p.beside(t, site, "")
		form = grantBody + "&client_id=" + alone.registered(t, s).ID
		alone.post(t, form, certificates(mine)).want(t, http.StatusUnauthorized, "invalid_client")
		c := alone.registered(t, grantway.ClientSettings{CertificateBound: true})
		alone.post(t, grantBody, basic(c.ID, c.Secret), certificates(mine)).want(t, http.StatusBadRequest, "invalid_request")
		c = alone.registered(t, grantway.ClientSettings{})
		alone.post(t, grantBody, basic(c.ID, c.Secret), certificates(mine)).want(t, http.StatusOK, "")
	}},
	{"S34 bound only", func(t *testing.T, p *party) {
		k := newKey(t, "ES256")
		for _, format := range formats {
			c := p.registered(t, grantway.ClientSettings{CertificateBound: true, TokenFormat: format})
			p.expect(t, "no certificate", "invalid_request", grantBody, basic(c.ID, c.Secret))
			p.expect(t, "a certificate", "", grantBody, basic(c.ID, c.Secret), certificates(selfSigned(t)))
			c = p.registered(t, grantway.ClientSettings{DPoPBound: true, TokenFormat: format})
			p.expect(t, "no proof", "invalid_dpop_proof", grantBody, basic(c.ID, c.Secret))
			p.expect(t, "a certificate and no proof", "invalid_dpop_proof", grantBody, basic(c.ID, c.Secret), certificates(selfSigned(t)))
			p.expect(t, "a proof", "", grantBody, basic(c.ID, c.Secret), header("DPoP", p.proof(k, http.MethodPost, "/oauth/token", "", "nonce", p.nonce(t, c))))
		}
	}},
	{"S35 proof", func(t *testing.T, p *party) {
		c, k, now := p.registered(t, grantway.ClientSettings{}), newKey(t, "ES256"), time.Now().Unix()
		nonce := p.nonce(t, c)
		try := func(what, code string, proofs ...string) {
			t.Helper()
			p.expect(t, what, code, grantBody, basic(c.ID, c.Secret), func(r *http.Request) { r.Header["Dpop"] = proofs })
		}
		with := func(k keyPair, pairs ...any) string {
			return p.proof(k, http.MethodPost, "/oauth/token", "", append([]any{"nonce", nonce}, pairs...)...)
		}
		good := func(pairs ...any) string { return with(k, pairs...) }
		body := func() claims { return opened(t, good(), 1) }
		loud := strings.Replace(p.url, "http://", "HTTP://", 1) + "/oauth/token"
		for what, proof := range map[string]string{
			"good":                        good(),
			"htu in another spelling":     good("htu", loud+"?a=b#c"),
			"45 s ago":                    good("iat", now-45),
			"in 45 s":                     good("iat", now+45),
			"RS256":                       with(newKey(t, "RS256")),
			"Ed25519":                     with(newKey(t, "Ed25519")),
			"ath, which is for resources": good("ath", "x"),
		} {
			try(what, "", proof)
		}
		private := claims{}
		if text, err := (jose.JSONWebKey{Key: k.private}).MarshalJSON(); err != nil || json.Unmarshal(text, &private) != nil || private["d"] == nil {
			t.Fatalf("%v %s", err, text)
		}
		partial := claims{"dp": "AQ", "kty": "EC", "crv": "P-256", "x": private["x"], "y": private["y"]} // a reader of EC keys passes over dp
		try("the same without dp", "", k.sign(body(), "typ", "dpop+jwt", "jwk", partial.with("dp", nil)))
		secret := []byte("0123456789abcdef0123456789abcdef")
		octets := claims{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(secret)}
		for what, proof := range map[string]string{
			"empty":                          "",
			"not a JWT":                      "x",
			"two parts":                      strings.Join(strings.Split(good(), ".")[:2], "."),
			"two in one header":              good() + ", " + good(),
			"no jti":                         good("jti", nil),
			"a jti that is no string":        good("jti", 1),
			"no htm":                         good("htm", nil),
			"no htu":                         good("htu", nil),
			"no iat":                         good("iat", nil),
			"iat that is no number":          good("iat", "now"),
			"no typ":                         k.sign(body(), "jwk", k.public()),
			"typ of another JWT":             k.sign(body(), "typ", "JWT", "jwk", k.public()),
			"unsigned":                       keyPair{alg: "none"}.sign(body(), "typ", "dpop+jwt", "jwk", k.public()),
			"symmetric":                      keyPair{alg: "HS256", secret: secret}.sign(body(), "typ", "dpop+jwt", "jwk", octets),
			"an alg that is not listed":      k.sign(body(), "typ", "dpop+jwt", "jwk", k.public(), "alg", "ES256K"),
			"no jwk":                         k.sign(body(), "typ", "dpop+jwt"),
			"somebody else's jwk":            k.sign(body(), "typ", "dpop+jwt", "jwk", newKey(t, "ES256").public()),
			"the private key in jwk":         k.sign(body(), "typ", "dpop+jwt", "jwk", private),
			"a part of a private key in jwk": k.sign(body(), "typ", "dpop+jwt", "jwk", partial),
			"changed after it was signed":    swap(good(), 1, body()),
			"a header that was changed":      swap(good(), 0, claims{"typ": "dpop+jwt", "alg": "ES256", "jwk": k.public(), "x": 1}),
			"another method":                 good("htm", http.MethodGet),
			"the method in small letters":    good("htm", "post"),
			"another path":                   good("htu", p.url+"/oauth/revoke"),
			"the path in other letters":      good("htu", p.url+"/OAuth/token"),
			"another host":                   good("htu", "http://other.example/oauth/token"),
			"another scheme":                 good("htu", strings.Replace(p.url, "http://", "https://", 1)+"/oauth/token"),
			"another port":                   good("htu", "http://127.0.0.1:1/oauth/token"),
			"htu that is only a path":        good("htu", "/oauth/token"),
			"3 minutes ago":                  good("iat", now-180),
			"in 3 minutes":                   good("iat", now+180),
		} {
			try(what, "invalid_dpop_proof", proof)
		}
		try("two headers", "invalid_dpop_proof", good(), good())
		try("no nonce", "use_dpop_nonce", good("nonce", nil))
		try("another nonce", "use_dpop_nonce", good("nonce", "x"))
	}},
	{"S36 proof replay", func(t *testing.T, p *party) {
		c, k, other, jti := p.registered(t, grantway.ClientSettings{}), newKey(t, "ES256"), newKey(t, "ES256"), rand.Text()
		nonce := p.nonce(t, c)
		proof := func(k keyPair) edit {
			return header("DPoP", p.proof(k, http.MethodPost, "/oauth/token", "", "nonce", nonce, "jti", jti))
		}
		first := proof(k)
		token := p.expect(t, "good", "", grantBody, basic(c.ID, c.Secret), first).member("access_token")
		p.expect(t, "again", "invalid_dpop_proof", grantBody, basic(c.ID, c.Secret), first)
		p.expect(t, "signed anew", "invalid_dpop_proof", grantBody, basic(c.ID, c.Secret), proof(k))
		p.expect(t, "by another key", "", grantBody, basic(c.ID, c.Secret), proof(other))
		// A jti is used up for one URI.
		api := header("DPoP", p.proof(k, http.MethodGet, "/v1/connectors", token, "jti", jti))
		for what, status := range []int{http.StatusOK, http.StatusUnauthorized} {
			if a := p.call(t, "DPoP "+token, api, elsewhere()); a.status != status {
				t.Errorf("the API, time %d: got %v, want %d", what+1, a, status)
			}
		}
		if b := p.replica(t); b != nil {
			b.expect(t, "on another replica", "invalid_dpop_proof", grantBody, basic(c.ID, c.Secret), first)
			b.expect(t, "a new one there", "", grantBody, basic(c.ID, c.Secret), header("DPoP", p.proof(k, http.MethodPost, "/oauth/token", "", "nonce", nonce)))
		}
	}},
	{"S37 invalid proof", func(t *testing.T, p *party) {
		k := newKey(t, "ES256")
		signed, shared := p.keyed(t, k), p.registered(t, grantway.ClientSettings{})
		nonce, jti := p.nonce(t, shared), rand.Text()
		proof := func(pairs ...any) edit {
			return header("DPoP", p.proof(k, http.MethodPost, "/oauth/token", "", append([]any{"nonce", nonce}, pairs...)...))
		}
		for what, wrong := range map[string]edit{"no JWT": header("DPoP", "x"), "another method": proof("htm", "GET", "jti", jti), "another URI": proof("htu", p.url, "jti", jti)} {
			for method, a := range map[string]answer{
				"secret": p.expect(t, what, "invalid_dpop_proof", grantBody, basic(shared.ID, shared.Secret), wrong),
				"key":    p.expect(t, what, "invalid_dpop_proof", asserting(k.sign(p.assertion(signed))), wrong),
			} {
				if a.member("access_token") != "" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("DPoP-Nonce") != "" {
					t.Errorf("%s, %s: %v %v", what, method, a, a.header)
				}
			}
		}
		p.expect(t, "the jti of those", "", grantBody, basic(shared.ID, shared.Secret), proof("jti", jti)) // it was not used up
		p.expect(t, "a wrong secret too", "invalid_client", grantBody, basic(shared.ID, "x"), proof("htm", "GET"))
	}},
	{"S38 nonce", func(t *testing.T, p *party) {
		k, site := newKey(t, "ES256"), sqlite(t)
		site.flags = p.site.flags
		b := p.beside(t, site, "")
		mine, theirs := p.registered(t, grantway.ClientSettings{}), b.registered(t, grantway.ClientSettings{})
		try := func(at *party, c grantway.OAuthClient, what, code, nonce string) {
			t.Helper()
			a := at.expect(t, what, code, grantBody, basic(c.ID, c.Secret), header("DPoP", at.proof(k, http.MethodPost, "/oauth/token", "", "nonce", nonce)))
			if nonces := a.header.Values("DPoP-Nonce"); code != "" && (len(nonces) != 1 || nonces[0] == nonce) {
				t.Errorf("%s: nonces %q", what, nonces)
			}
		}
		nonce, their := p.nonce(t, mine), b.nonce(t, theirs)
		if raw, err := base64.RawURLEncoding.DecodeString(nonce); err != nil || len(raw) < 16 {
			t.Errorf("a nonce of %d bytes: %q %v", len(raw), nonce, err)
		}
		for n := range 3 { // as long as it is a recent one
			try(p, mine, fmt.Sprint("time ", n+1), "", nonce)
		}
		// What one hub gives at a time tells nothing of what another one does.
		for what, wrong := range map[string]string{"of another hub": their, "empty": "", "made up": "x", "changed": nonce[1:] + nonce[:1], "longer": nonce + "A"} {
			try(p, mine, what, "use_dpop_nonce", wrong)
		}
		b.stop() // what it has given is kept nowhere, and good
		b = p.beside(t, site, "")
		try(b, theirs, "of before the restart", "", their)
		if r := p.replica(t); r != nil {
			r.expect(t, "of another replica", "", grantBody, basic(mine.ID, mine.Secret), header("DPoP", p.proof(k, http.MethodPost, "/oauth/token", "", "nonce", nonce)))
		}
	}},
	{"S39 DPoP-bound", func(t *testing.T, p *party) {
		k := newKey(t, "ES256")
		sum, err := (&jose.JSONWebKey{Key: k.private.Public()}).Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		mine := p.authority.issue(t, &x509.Certificate{DNSNames: []string{"app.example"}}, newKey(t, "ES256").private.(*ecdsa.PrivateKey))
		nonce := p.nonce(t, p.registered(t, grantway.ClientSettings{}))
		for _, format := range formats {
			for what, s := range map[string]grantway.ClientSettings{
				"secret": {}, "secret and certificate": {CertificateBound: true}, "mTLS": {AuthMethod: grantway.AuthTLS, TLSDNS: "app.example", CertificateBound: true},
			} {
				s.TokenFormat = format
				c := p.registered(t, s)
				how := []edit{certificates(mine), header("DPoP", p.proof(k, http.MethodPost, "/oauth/token", "", "nonce", nonce))}
				form := grantBody + "&client_id=" + c.ID
				if c.Secret != "" {
					how = append(how, basic(c.ID, c.Secret))
				}
				a := p.expect(t, what, "", form, how...)
				if a.member("token_type") != "DPoP" {
					t.Errorf("%s, %s: %v", format, what, a)
				}
				reader := c
				if c.Secret == "" {
					reader = p.client(t, grantway.OAuthClient{Roles: []grantway.Assignment{{Role: "auditor", Division: "*"}}}) // who may read clients may ask about their tokens
				}
				p.bound(t, reader, a.member("access_token"), "DPoP", map[string]any{"jkt": base64.RawURLEncoding.EncodeToString(sum)})
			}
		}
	}},
	{"S40 resource", func(t *testing.T, p *party) {
		for _, format := range formats {
			c := p.registered(t, grantway.ClientSettings{TokenFormat: format, Resources: []string{mail, "urn:example:api"}})
			ask := func(code string, resources ...string) answer {
				t.Helper()
				return p.expect(t, fmt.Sprintf("%q", resources), code, grantBody+"&"+url.Values{"resource": resources}.Encode(), basic(c.ID, c.Secret))
			}
			for resource, aud := range map[string]string{"": p.url, p.url: p.url, mail: mail, "urn:example:api": "urn:example:api"} {
				token := ask("", resource).member("access_token")
				if about := p.introspect(t, c, token).object(); about["active"] != true || about["aud"] != aud {
					t.Errorf("%s, resource %q: introspection says %v", format, resource, about)
				}
				if format == grantway.FormatJWT && opened(t, token, 1)["aud"] != aud {
					t.Errorf("resource %q: claims %v", resource, opened(t, token, 1))
				}
			}
			for _, bad := range []string{"mail.example/api", "/api", "api", mail + "#x", mail + "#", mail + "/", strings.ToUpper(mail), "https://other.example", p.url + "/", "https:"} {
				ask("invalid_target", bad)
			}
			ask("invalid_target", mail, "https://other.example")
			ask("invalid_target", mail, p.url) // each is known, and a token is for one
		}
		for _, bad := range []string{"/api", mail + "#x"} {
			p.unregistrable(t, bad, "/resources/0", grantway.ClientSettings{Resources: []string{bad}})
		}
	}},
	{"S41 least privilege", func(t *testing.T, p *party) {
		const all, less = "credential.pick credential.status credential.use connector.read", "credential.pick credential.status"
		for _, format := range formats {
			c := p.registered(t, grantway.ClientSettings{TokenFormat: format, Resources: []string{mail}})
			for form, want := range map[string]struct {
				scope, aud          string
				connectors, clients int // what the API answers who lists these
			}{
				grantBody: {all, p.url, http.StatusOK, http.StatusForbidden},
				grantBody + "&scope=credential.pick+credential.status": {less, p.url, http.StatusForbidden, http.StatusForbidden},
				grantBody + "&resource=" + url.QueryEscape(mail):       {all, mail, http.StatusUnauthorized, http.StatusUnauthorized},
			} {
				a := p.expect(t, form, "", form, basic(c.ID, c.Secret))
				token := a.member("access_token")
				about := p.introspect(t, c, token).object()
				if a.member("scope") != want.scope || about["scope"] != want.scope || about["aud"] != want.aud {
					t.Errorf("%s, %s: %v, and introspection says %v", format, form, a, about)
				}
				for path, status := range map[string]int{"/v1/connectors": want.connectors, "/v1/clients": want.clients} {
					if a := p.send(t, http.MethodGet, path, "", header("Authorization", "Bearer "+token), elsewhere()); a.status != status {
						t.Errorf("%s, %s: %s: got %v, want %d", format, form, path, a, status)
					}
				}
			}
		}
		// S32 and S39 show that both ways to bind a token work; here they are offered.
		if m := p.metadata(t); m["tls_client_certificate_bound_access_tokens"] != true || len(m.list("dpop_signing_alg_values_supported")) == 0 {
			t.Errorf("metadata %v", m)
		}
	}},
	{"S42 JWT", func(t *testing.T, p *party) {
		seen := map[any]bool{}
		for _, alg := range []string{grantway.AlgES256, grantway.AlgRS256, grantway.AlgEdDSA} {
			c := p.registered(t, grantway.ClientSettings{TokenFormat: grantway.FormatJWT, TokenAlg: alg, TokenSeconds: 600})
			for range 2 {
				before := float64(time.Now().Unix())
				a := p.expect(t, alg, "", grantBody, basic(c.ID, c.Secret))
				token, after := a.member("access_token"), float64(time.Now().Unix())
				if head := opened(t, token, 0); head["alg"] != alg || head["typ"] != "at+jwt" {
					t.Errorf("header %v", head)
				}
				body := opened(t, token, 1)
				iat, _ := body["iat"].(float64)
				exp, _ := body["exp"].(float64)
				if body["iss"] != p.url || body["aud"] != p.url || body["sub"] != c.ID || body["client_id"] != c.ID || body["scope"] != a.member("scope") ||
					iat < before || iat > after || exp != iat+600 {
					t.Errorf("%s: claims %v", alg, body)
				}
				if jti, _ := body["jti"].(string); len(jti) < 22 || seen[jti] {
					t.Errorf("%s: jti %q", alg, jti)
				}
				seen[body["jti"]] = true
				p.verify(t, token)
				if a := p.call(t, "Bearer "+token); a.status != http.StatusOK {
					t.Errorf("%s: %v", alg, a)
				}
			}
		}
		p.unregistrable(t, "unsigned", "/token_signing_alg", grantway.ClientSettings{TokenFormat: grantway.FormatJWT, TokenAlg: "none"})
	}},
	{"S43 subject", func(t *testing.T, p *party) {
		var ann grantway.Invitation
		email := strings.ToLower(rand.Text()) + "@example.com"
		a := p.owner.ask(p.hub, http.MethodPost, "/v1/people", grantway.Person{ID: "client_ann", Email: email, Name: "Ann", Roles: application})
		if a.status != http.StatusCreated || a.decode(&ann) != nil {
			t.Fatal(a)
		}
		if strings.HasPrefix(ann.Person.ID, "client_") || ann.Person.ID == "" {
			t.Errorf("a person has the id %q", ann.Person.ID)
		}
		for _, format := range formats {
			c := p.client(t, grantway.OAuthClient{ID: ann.Person.ID, ClientSettings: grantway.ClientSettings{TokenFormat: format}}) // it cannot choose
			if !strings.HasPrefix(c.ID, "client_") || len(c.ID) < len("client_")+26 || strings.Contains(c.ID, ann.Person.ID) {
				t.Errorf("a client has the id %q", c.ID)
			}
			token := p.token(t, c)
			if about := p.introspect(t, c, token).object(); about["sub"] != c.ID || about["client_id"] != c.ID {
				t.Errorf("%s: introspection says %v", format, about)
			}
			if format == grantway.FormatJWT {
				if body := opened(t, token, 1); body["sub"] != c.ID || body["client_id"] != c.ID {
					t.Errorf("claims %v", body)
				}
			}
		}
	}},
	{"S44 keys", func(t *testing.T, p *party) {
		algs := []string{grantway.AlgRS256, grantway.AlgES256, grantway.AlgEdDSA}
		list := func(method string) map[string]grantway.SigningKey {
			t.Helper()
			var page grantway.Page[grantway.SigningKey]
			if a := p.owner.must(p.hub, method, "/v1/signing-keys", nil); a.decode(&page) != nil {
				t.Fatal(a)
			}
			keys := map[string]grantway.SigningKey{}
			for _, k := range page.Items {
				keys[k.ID] = k
			}
			return keys
		}
		c, old, kids := map[string]grantway.OAuthClient{}, map[string]string{}, map[string]string{}
		for _, alg := range algs {
			c[alg] = p.registered(t, grantway.ClientSettings{TokenFormat: grantway.FormatJWT, TokenAlg: alg})
			old[alg] = p.token(t, c[alg])
			kids[alg] = p.verify(t, old[alg])
		}

		// A successor is published now and signs later; the old key stays for the longest of its tokens, and for caches.
		before := list(http.MethodGet)
		keys := list(http.MethodPost)
		var cached int
		a := p.send(t, http.MethodGet, "/oauth/jwks", "")
		if _, err := fmt.Sscanf(a.header.Get("Cache-Control"), "max-age=%d", &cached); err != nil || cached <= 0 {
			t.Errorf("Cache-Control %q: %v", a.header.Get("Cache-Control"), err)
		}
		next := map[string]string{}
		for kid, k := range keys {
			if _, there := before[kid]; !there && slices.Contains(algs, k.Alg) {
				next[k.Alg] = kid
				if ahead := time.Until(k.SignsFrom); ahead <= time.Duration(cached)*time.Second || !p.published(t, kid) {
					t.Errorf("the successor %+v signs in %v; published: %t", k, ahead, p.published(t, kid))
				}
			}
		}
		for _, alg := range algs {
			k, least := keys[kids[alg]], 172800*time.Second+time.Duration(cached)*time.Second
			if next[alg] == "" || !k.SignsUntil.Equal(keys[next[alg]].SignsFrom) || k.RemovedAt.Sub(k.SignsUntil) < least {
				t.Errorf("%s: %+v, and its successor %+v", alg, k, keys[next[alg]])
			}
			if kid := p.verify(t, p.token(t, c[alg])); kid != kids[alg] {
				t.Errorf("%s: a token by %s, and its time has not come", alg, kid)
			}
		}
		if again := list(http.MethodPost); len(again) != len(keys) {
			t.Errorf("%d keys, and after one more rotation %d", len(keys), len(again))
		}

		// In an emergency a key goes at once, with all that it signed, and its successor signs.
		for n, alg := range algs {
			if a := p.call(t, "Bearer "+old[alg]); a.status != http.StatusOK {
				t.Errorf("%s, before: %v", alg, a)
			}
			unused := p.token(t, c[alg]) // which the hub has not seen yet
			p.owner.must(p.hub, http.MethodDelete, "/v1/signing-keys/"+kids[alg], nil)
			for _, token := range []string{old[alg], unused} {
				if a := p.call(t, "Bearer "+token, elsewhere()); a.status != http.StatusUnauthorized {
					t.Errorf("%s, after: %v", alg, a)
				}
				if about := p.introspect(t, c[alg], token).object(); about["active"] != false {
					t.Errorf("%s: introspection says %v", alg, about)
				}
			}
			token := p.token(t, c[alg])
			if kid := p.verify(t, token); kid != next[alg] || p.published(t, kids[alg]) {
				t.Errorf("%s: the new key is %s, want %s; published is %t", alg, kid, next[alg], p.published(t, kids[alg]))
			}
			good := []string{token}
			for _, other := range algs[n+1:] {
				good = append(good, old[other])
			}
			for _, token := range good {
				if a := p.call(t, "Bearer "+token); a.status != http.StatusOK {
					t.Errorf("%s: another key's: %v", alg, a)
				}
			}
		}
	}},
	{"S45 metadata", func(t *testing.T, p *party) {
		const external = "https://hub.example"
		for issuer, m := range map[string]metadata{p.url: p.metadata(t), external: p.beside(t, sqlite(t), external).metadata(t)} {
			if u, err := url.Parse(issuer); m["issuer"] != issuer || err != nil || u.RawQuery != "" || u.Fragment != "" {
				t.Errorf("issuer %v, want %s", m["issuer"], issuer)
			}
			for name, path := range map[string]string{
				"token_endpoint": "/oauth/token", "jwks_uri": "/oauth/jwks", "authorization_endpoint": "/oauth/authorize",
				"introspection_endpoint": "/oauth/introspect", "revocation_endpoint": "/oauth/revoke",
			} {
				if m[name] != issuer+path {
					t.Errorf("%s: %v", name, m[name])
				}
			}
			for name, one := range map[string]string{
				"response_types_supported": "code", "grant_types_supported": "client_credentials", "token_endpoint_auth_methods_supported": "private_key_jwt",
			} {
				if !slices.Contains(m.list(name), one) {
					t.Errorf("%s: %v", name, m[name])
				}
			}
			for name, value := range m {
				list, isList := value.([]any)
				if isList && len(list) == 0 || value == nil || value == "" || strings.Contains(name, "_alg_") && slices.Contains(m.list(name), "none") {
					t.Errorf("%s: %v", name, value)
				}
				signed := func(method string) bool { return strings.HasSuffix(method, "_jwt") }
				algs := m.list(strings.Replace(name, "auth_methods", "auth_signing_alg_values", 1))
				if strings.HasSuffix(name, "auth_methods_supported") && slices.ContainsFunc(m.list(name), signed) && !slices.Contains(algs, "RS256") {
					t.Errorf("%s is %v, and the algorithms %q", name, value, algs)
				}
			}
		}
		for _, wrong := range []string{external + "?a=b", external + "#a", "http://hub.example"} {
			site := sqlite(t)
			site.flags = []string{"--external-url", wrong}
			if says := refused(t, site); !strings.Contains(says, "--external-url") {
				t.Errorf("%s: %s", wrong, says)
			}
		}
	}},
	{"S46 true metadata", func(t *testing.T, p *party) {
		m := p.metadata(t)
		// Endpoints.
		for name, method := range map[string]string{
			"token_endpoint": "POST", "introspection_endpoint": "POST", "revocation_endpoint": "POST", "jwks_uri": "GET", "authorization_endpoint": "GET",
		} {
			uri, _ := m[name].(string)
			path, ours := strings.CutPrefix(uri, p.url)
			if a := p.send(t, method, path, "", elsewhere()); !ours || a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed || a.status >= 500 {
				t.Errorf("%s %s: %v", name, uri, a)
			}
		}
		// Grants.
		c := p.registered(t, grantway.ClientSettings{})
		grants := m.list("grant_types_supported")
		others := []string{"password", "implicit", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:device_code"}
		for _, name := range slices.Concat(others, grants) {
			a := p.post(t, "grant_type="+url.QueryEscape(name), basic(c.ID, c.Secret), elsewhere())
			if unknown := a.member("error") == "unsupported_grant_type"; unknown == slices.Contains(grants, name) {
				t.Errorf("grant %s: %v", name, a)
			}
		}
		// Response types and code challenges. Who is not signed in is sent to sign in, unless the request is wrong.
		app := p.registered(t, grantway.ClientSettings{
			GrantType: grantway.GrantAuthorizationCode, AuthMethod: grantway.AuthNone, RedirectURIs: []string{"https://app.example/back"}, Scopes: []string{"connector.read"},
		})
		for _, kind := range append([]string{"token", "id_token", "code token"}, m.list("response_types_supported")...) {
			for _, way := range append([]string{"plain", "S512"}, m.list("code_challenge_methods_supported")...) {
				query := url.Values{"response_type": {kind}, "client_id": {app.ID}, "code_challenge": {strings.Repeat("x", 43)}, "code_challenge_method": {way}}
				to := p.location(t, "/oauth/authorize?"+query.Encode())
				wrong := !strings.HasPrefix(to, "/sign-in?")
				if listed := slices.Contains(m.list("response_types_supported"), kind) && slices.Contains(m.list("code_challenge_methods_supported"), way); wrong == listed {
					t.Errorf("response type %s, challenge %s: sent to %s", kind, way, to)
				}
				if said := strings.Contains(to, "iss="+url.QueryEscape(p.url)); wrong && said != (m["authorization_response_iss_parameter_supported"] == true) {
					t.Errorf("sent to %s, and the metadata says %v", to, m["authorization_response_iss_parameter_supported"])
				}
			}
		}
		// Ways to authenticate, at each endpoint.
		k, mine, self := newKey(t, "ES256"), newKey(t, "ES256").private.(*ecdsa.PrivateKey), selfSigned(t)
		named := p.authority.issue(t, &x509.Certificate{DNSNames: []string{"true.example"}}, mine)
		ways := map[string]func(s grantway.ClientSettings) (form string, shown edit){
			grantway.AuthBasic: func(s grantway.ClientSettings) (string, edit) {
				c := p.registered(t, s)
				return "", basic(c.ID, c.Secret)
			},
			grantway.AuthPost: func(s grantway.ClientSettings) (string, edit) {
				c := p.registered(t, s)
				return "&client_id=" + c.ID + "&client_secret=" + c.Secret, nothing
			},
			grantway.AuthSecretJWT: func(s grantway.ClientSettings) (string, edit) {
				c := p.registered(t, s)
				return showing(keyPair{alg: "HS256", secret: []byte(c.Secret)}.sign(p.assertion(c))), nothing
			},
			grantway.AuthPrivateKeyJWT: func(s grantway.ClientSettings) (string, edit) {
				s.JWKS = jwks(k)
				return showing(k.sign(p.assertion(p.registered(t, s)))), nothing
			},
			grantway.AuthTLS: func(s grantway.ClientSettings) (string, edit) {
				s.TLSDNS = "true.example"
				return "&client_id=" + p.registered(t, s).ID, certificates(named)
			},
			grantway.AuthSelfSignedTLS: func(s grantway.ClientSettings) (string, edit) {
				s.JWKS = x5c(self)
				return "&client_id=" + p.registered(t, s).ID, certificates(self)
			},
			grantway.AuthNone: func(grantway.ClientSettings) (string, edit) { return "&client_id=" + app.ID, nothing },
		}
		for endpoint, form := range map[string]string{"token": grantBody, "introspection": "token=x", "revocation": "token=x"} {
			path := strings.TrimPrefix(m[endpoint+"_endpoint"].(string), p.url)
			listed := m.list(endpoint + "_endpoint_auth_methods_supported")
			for name, way := range ways {
				auth, shown := way(grantway.ClientSettings{AuthMethod: name})
				a := p.send(t, http.MethodPost, path, form+auth, shown, elsewhere())
				works := a.status == http.StatusOK || name == grantway.AuthNone && endpoint == "token" && a.member("error") == "unauthorized_client" // known, and not for this grant
				if works != slices.Contains(listed, name) {
					t.Errorf("%s by %s: got %v, and listed are %q", endpoint, name, a, listed)
				}
			}
			for _, name := range listed {
				if ways[name] == nil {
					t.Errorf("%s by %s: this test does not know how", endpoint, name)
				}
			}
		}
		// Algorithms.
		for _, alg := range m.list("token_endpoint_auth_signing_alg_values_supported") {
			if strings.HasPrefix(alg, "HS") {
				c := p.registered(t, grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT})
				p.expect(t, alg, "", asserting(keyPair{alg: alg, secret: []byte(c.Secret)}.sign(p.assertion(c))))
				continue
			}
			k := newKey(t, alg)
			p.expect(t, alg, "", asserting(k.sign(p.assertion(p.keyed(t, k)))))
		}
		nonce := p.nonce(t, c)
		for _, alg := range m.list("dpop_signing_alg_values_supported") {
			p.expect(t, alg, "", grantBody, basic(c.ID, c.Secret), header("DPoP", p.proof(newKey(t, alg), http.MethodPost, "/oauth/token", "", "nonce", nonce)))
		}
		// Another configuration, another document: here nobody can show a certificate.
		bare := p.beside(t, sqlite(t), "")
		m = bare.metadata(t)
		for _, name := range []string{grantway.AuthTLS, grantway.AuthSelfSignedTLS} {
			if slices.Contains(m.list("token_endpoint_auth_methods_supported"), name) {
				t.Errorf("without certificates: %v", m)
			}
		}
		if m["tls_client_certificate_bound_access_tokens"] == true {
			t.Errorf("without certificates: %v", m)
		}
		form := grantBody + "&client_id=" + bare.registered(t, grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "true.example"}).ID
		bare.post(t, form, certificates(named)).want(t, http.StatusUnauthorized, "invalid_client")
	}},
	{"R04 verify JWT", func(t *testing.T, p *party) {
		c := p.registered(t, grantway.ClientSettings{TokenFormat: grantway.FormatJWT, TokenAlg: grantway.AlgRS256, Resources: []string{mail}, TokenTyp: grantway.TypJWT})
		token := p.token(t, c)
		head, body, parts := opened(t, token, 0), opened(t, token, 1), strings.Split(token, ".")
		if head["typ"] != "at+jwt" {
			t.Errorf("typ %v of a token for the hub", head["typ"])
		}
		if a := p.call(t, "Bearer "+token); a.status != http.StatusOK {
			t.Errorf("good: %v", a)
		}
		stranger, kid := newKey(t, "ES256"), head["kid"]
		var public []byte // of the hub, which is no secret
		set := p.keys(t)
		for _, k := range set.Key(kid.(string)) {
			var err error
			if public, err = x509.MarshalPKIXPublicKey(k.Key); err != nil {
				t.Fatal(err)
			}
		}
		if public == nil {
			t.Fatalf("no key %v", kid)
		}
		for what, bad := range map[string]string{
			"another key with its kid":     keyPair{alg: "RS256", private: newKey(t, "RS256").private}.sign(body, "typ", "at+jwt", "kid", kid),
			"another alg with its kid":     stranger.sign(body, "typ", "at+jwt", "kid", kid),
			"another key, which it brings": stranger.sign(body, "typ", "at+jwt", "kid", kid, "jwk", stranger.public()),
			"another key and kid":          stranger.sign(body, "typ", "at+jwt", "kid", "x"),
			"the public key as a secret":   keyPair{alg: "HS256", secret: public}.sign(body, "typ", "at+jwt", "kid", kid),
			"unsigned":                     keyPair{alg: "none"}.sign(body, "typ", "at+jwt", "kid", kid),
			"without its signature":        parts[0] + "." + parts[1] + ".",
			"two parts":                    parts[0] + "." + parts[1],
			"cut":                          token[:len(token)-5],
			"alg none":                     swap(token, 0, head.with("alg", "none")),
			"alg PS256":                    swap(token, 0, head.with("alg", "PS256")),
			"no kid":                       swap(token, 0, head.with("kid", nil)),
			"another typ":                  swap(token, 0, head.with("typ", "JWT")),
			"another sub":                  swap(token, 1, body.with("sub", "client_x")),
			"a later exp":                  swap(token, 1, body.with("exp", body["exp"].(float64)+1)),
			"another's, with typ JWT":      p.expect(t, mail, "", grantBody+"&resource="+url.QueryEscape(mail), basic(c.ID, c.Secret)).member("access_token"),
			"an assertion of a key client": stranger.sign(p.assertion(p.keyed(t, stranger))),
			"a proof":                      p.proof(stranger, http.MethodGet, "/v1/connectors", token),
		} {
			p.invalid(t, what, "Bearer "+bad)
		}

		// The hub moves, with its keys: what it signed under another name is another issuer's, also if it is for the new one.
		const one, two = "https://one.example", "https://two.example"
		site := sqlite(t)
		b := p.beside(t, site, one)
		c = b.registered(t, grantway.ClientSettings{TokenFormat: grantway.FormatJWT, Resources: []string{one, two}})
		tokens := map[string]string{}
		for _, resource := range []string{one, two} {
			a := b.post(t, grantBody+"&resource="+url.QueryEscape(resource), basic(c.ID, c.Secret))
			a.want(t, http.StatusOK, "")
			tokens[resource] = a.member("access_token")
			if body := opened(t, tokens[resource], 1); body["iss"] != one || body["aud"] != resource {
				t.Errorf("claims %v", body)
			}
		}
		b.stop()
		for _, name := range []string{two, one} {
			b = p.beside(t, site, name)
			for resource, token := range tokens {
				status := http.StatusUnauthorized
				if name == one && resource == one {
					status = http.StatusOK
				}
				if a := b.call(t, "Bearer "+token); a.status != status {
					t.Errorf("a token of %s for %s, at %s: got %v, want %d", one, resource, name, a, status)
				}
			}
			b.stop()
		}
	}},
	{"R05 audience", func(t *testing.T, p *party) {
		for _, format := range formats {
			c := p.registered(t, grantway.ClientSettings{TokenFormat: format, Resources: []string{mail, p.url + "/v1/connectors"}})
			for _, resource := range c.Resources {
				token := p.expect(t, resource, "", grantBody+"&resource="+url.QueryEscape(resource), basic(c.ID, c.Secret)).member("access_token")
				for range 2 { // the second time it is known
					p.invalid(t, format+" for "+resource, "Bearer "+token)
				}
				if about := p.introspect(t, c, token).object(); about["active"] != true || about["aud"] != resource { // it is good, and not for the hub
					t.Errorf("%s: introspection says %v", format, about)
				}
				p.invalid(t, format+" for "+resource+", after introspection", "Bearer "+token)
			}
		}
	}},
	{"R06 DPoP-bound", func(t *testing.T, p *party) {
		k, other := newKey(t, "ES256"), newKey(t, "ES256")
		for _, format := range formats {
			c := p.registered(t, grantway.ClientSettings{TokenFormat: format})
			token, plain := p.proved(t, c, k), p.token(t, c)
			prove := func(k keyPair, token string, pairs ...any) edit {
				return header("DPoP", p.proof(k, http.MethodGet, "/v1/connectors", token, pairs...))
			}
			used := prove(k, token)
			for what, proof := range map[string]edit{
				"good": used, "with a nonce": prove(k, token, "nonce", p.nonce(t, c)), "htu with a query": prove(k, token, "htu", p.url+"/v1/connectors?a=b"),
			} {
				if a := p.call(t, "DPoP "+token, proof, elsewhere()); a.status != http.StatusOK {
					t.Errorf("%s, %s: %v", format, what, a)
				}
			}
			if a := p.call(t, "dpop "+token, prove(k, token), elsewhere()); a.status != http.StatusOK {
				t.Errorf("%s, in small letters: %v", format, a)
			}
			for what, test := range map[string]struct {
				authorization string
				proof         edit
			}{
				"as Bearer":             {"Bearer " + token, nothing},
				"as Bearer, with proof": {"Bearer " + token, prove(k, token)},
				"no proof":              {"DPoP " + token, nothing},
				"no JWT":                {"DPoP " + token, header("DPoP", "x")},
				"two proofs": {"DPoP " + token, func(r *http.Request) {
					prove(k, token)(r)
					r.Header.Add("DPoP", p.proof(k, http.MethodGet, "/v1/connectors", token))
				}},
				"a used proof":             {"DPoP " + token, used},
				"by another key":           {"DPoP " + token, prove(other, token)},
				"no ath":                   {"DPoP " + token, prove(k, "")},
				"ath of another token":     {"DPoP " + token, prove(k, plain)},
				"for another method":       {"DPoP " + token, prove(k, token, "htm", http.MethodPost)},
				"for another URI":          {"DPoP " + token, prove(k, token, "htu", p.url+"/v1/credentials")},
				"old":                      {"DPoP " + token, prove(k, token, "iat", time.Now().Unix()-180)},
				"a nonce that is none":     {"DPoP " + token, prove(k, token, "nonce", "x")},
				"a token that is no key's": {"DPoP " + plain, prove(k, plain)},
			} {
				if a := p.call(t, test.authorization, test.proof, elsewhere()); a.status != http.StatusUnauthorized {
					t.Errorf("%s, %s: got %v, want 401", format, what, a)
				}
			}
		}
	}},
	{"R07 certificate-bound", func(t *testing.T, p *party) {
		mine := selfSigned(t)
		for _, format := range formats {
			c := p.registered(t, grantway.ClientSettings{TokenFormat: format, CertificateBound: true})
			token := p.expect(t, format, "", grantBody, basic(c.ID, c.Secret), certificates(mine)).member("access_token")
			if a := p.call(t, "Bearer "+token, certificates(mine), elsewhere()); a.status != http.StatusOK {
				t.Errorf("%s: %v", format, a)
			}
			for what, shown := range map[string]edit{
				"none": nothing, "another": certificates(selfSigned(t)), "another before it": certificates(selfSigned(t), mine), "one that is none": header("Client-Cert", ":AAAA:"),
			} {
				p.invalid(t, format+", "+what, "Bearer "+token, shown)
			}
		}
	}},
	{"R08 DPoP challenge", func(t *testing.T, p *party) {
		k, c := newKey(t, "ES256"), p.registered(t, grantway.ClientSettings{})
		token, plain := p.proved(t, c, k), p.token(t, c)
		prove := func(token string, pairs ...any) edit {
			return header("DPoP", p.proof(k, http.MethodGet, "/v1/connectors", token, pairs...))
		}
		algs := `algs="` + strings.Join(p.metadata(t).list("dpop_signing_alg_values_supported"), " ") + `"`
		for what, test := range map[string]struct {
			authorization string
			proof         edit
			code          string
		}{
			"no proof":       {"DPoP " + token, nothing, "invalid_dpop_proof"},
			"a wrong one":    {"DPoP " + token, prove("x"), "invalid_dpop_proof"},
			"no token of us": {"DPoP gwt_x", prove("gwt_x"), "invalid_token"},
			"not bound":      {"DPoP " + plain, prove(plain), "invalid_token"},
			"as Bearer":      {"Bearer " + token, prove(token), "invalid_token"},
			"a wrong nonce":  {"DPoP " + token, prove(token, "nonce", "x"), "use_dpop_nonce"},
		} {
			a := p.call(t, test.authorization, test.proof, elsewhere())
			challenge := a.header.Get("WWW-Authenticate")
			if a.status != http.StatusUnauthorized || !strings.HasPrefix(challenge, "DPoP ") || !strings.Contains(challenge, algs) || !strings.Contains(challenge, `error="`+test.code+`"`) {
				t.Errorf("%s: got %d %q, want the scheme DPoP, %s and %s", what, a.status, challenge, test.code, algs)
			}
			nonces := a.header.Values("DPoP-Nonce")
			if want := test.code == "use_dpop_nonce"; want != (len(nonces) == 1) {
				t.Errorf("%s: nonces %q", what, nonces)
			} else if want {
				if a := p.call(t, "DPoP "+token, prove(token, "nonce", nonces[0]), elsewhere()); a.status != http.StatusOK {
					t.Errorf("with the nonce it gave: %v", a)
				}
			}
		}
	}},
}
