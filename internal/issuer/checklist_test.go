package issuer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/issuer"
)

// Lines of the checklist that stand between those of the other files.

// RFC 9449 section 5: with a proof that is wrong there is no token, whichever the grant, and nothing is used up.
func TestS37InvalidProof(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		k := newKeyPair(jose.ES256, "")
		machine, app, ann := h.client("app", "application home"), h.forPeople(nil), h.join("ann", "administrator home")
		verifier := rand.Text() + rand.Text()
		nonce := h.nonce(machine, k)
		code := exchanging(h.code(t, app, ann, verifier), verifier)
		got := h.post(exchanging(h.code(t, app, ann, verifier), verifier), basic(app.ID, app.Secret))
		got.want(t, 200, "")
		refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.json["refresh_token"].(string)}}.Encode()

		wrong := []edit{
			header("DPoP", "x"),
			header("DPoP", h.proof(k, "GET", "/oauth/token", nonce, "")),
			header("DPoP", h.proof(k, "POST", "/oauth/revoke", nonce, "")),
			func(r *http.Request) {
				for range 2 {
					r.Header.Add("DPoP", h.proof(k, "POST", "/oauth/token", nonce, ""))
				}
			},
		}
		for name, request := range map[string]struct {
			c    grantway.OAuthClient
			body string
		}{"client_credentials": {machine, grantBody}, "authorization_code": {app, code}, "refresh_token": {app, refresh}} {
			for n, proof := range wrong {
				got := h.post(request.body, basic(request.c.ID, request.c.Secret), proof)
				if got.status != 400 || got.error() != "invalid_dpop_proof" || got.token() != "" || got.header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s, proof %d: %d %s", name, n, got.status, got.body)
				}
			}
		}
		for _, body := range []string{code, refresh} {
			h.post(body, basic(app.ID, app.Secret), header("DPoP", h.proof(k, "POST", "/oauth/token", nonce, ""))).want(t, 200, "")
		}
	})
}

// RFC 9068 section 2.2, RFC 9700 section 4.15.1: a client's token is of the client, by an id that the hub makes
// and that no person can have; a person's is of the person.
func TestS43Subject(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		ann := h.join("ann", "administrator home")
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			s := grantway.ClientSettings{TokenFormat: format}
			machine := h.make(grantway.OAuthClient{ID: ann.ID, Name: ann.ID + format, ClientSettings: s})
			if !strings.HasPrefix(machine.ID, "client_") || machine.ID == "client_"+ann.ID || strings.HasPrefix(ann.ID, "client_") {
				t.Errorf("id %q", machine.ID)
			}
			app := h.forPeople(func(s *grantway.ClientSettings) { s.TokenFormat = format })
			verifier := rand.Text() + rand.Text()
			forAnn := h.post(exchanging(h.code(t, app, ann, verifier), verifier), basic(app.ID, app.Secret)).token()
			for _, test := range []struct {
				c          grantway.OAuthClient
				token, sub string
			}{{machine, h.token(machine), machine.ID}, {app, forAnn, ann.ID}} {
				about := h.introspect(test.c, test.token)
				if about["sub"] != test.sub || about["client_id"] != test.c.ID {
					t.Errorf("%s: introspection says %v", format, about)
				}
				if format == grantway.FormatJWT {
					if _, body := payload(t, test.token); body["sub"] != test.sub || body["client_id"] != test.c.ID {
						t.Errorf("claims %v", body)
					}
				}
				if got := h.me("Bearer " + test.token); got.body != test.sub {
					t.Errorf("%s: the API takes %s for %s", format, test.sub, got.body)
				}
			}
		}
	})
}

// RFC 9700 section 2.6: what the metadata says is so. Each endpoint is there, each grant and method works, and
// what it does not list does not.
func TestS46TrueMetadata(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		var m struct {
			Issuer    string   `json:"issuer"`
			Token     string   `json:"token_endpoint"`
			Keys      string   `json:"jwks_uri"`
			Check     string   `json:"introspection_endpoint"`
			Revoke    string   `json:"revocation_endpoint"`
			Allow     string   `json:"authorization_endpoint"`
			Grants    []string `json:"grant_types_supported"`
			Methods   []string `json:"token_endpoint_auth_methods_supported"`
			Algs      []string `json:"token_endpoint_auth_signing_alg_values_supported"`
			ProofAlgs []string `json:"dpop_signing_alg_values_supported"`
		}
		if err := json.Unmarshal([]byte(h.send("GET", "/.well-known/oauth-authorization-server", "").body), &m); err != nil {
			t.Fatal(err)
		}
		if m.Issuer != h.URL() {
			t.Errorf("issuer %s", m.Issuer)
		}
		for method, endpoints := range map[string][]string{"POST": {m.Token, m.Check, m.Revoke}, "GET": {m.Keys, m.Allow}} {
			for _, endpoint := range endpoints {
				path, ours := strings.CutPrefix(endpoint, m.Issuer)
				if got := h.send(method, path, ""); !ours || got.status == 404 || got.status == 405 || got.status >= 500 {
					t.Errorf("%s: %d %s", endpoint, got.status, got.body)
				}
			}
		}
		c := h.client("app", "application home")
		for _, name := range append([]string{"password", "implicit", "urn:ietf:params:oauth:grant-type:jwt-bearer", "urn:ietf:params:oauth:grant-type:device_code"}, m.Grants...) {
			got := h.post("grant_type="+url.QueryEscape(name), basic(c.ID, c.Secret))
			if unknown := got.error() == "unsupported_grant_type"; unknown == slices.Contains(m.Grants, name) {
				t.Errorf("grant %s: %s", name, got.body)
			}
		}

		k, cert := newKeyPair(jose.ES256, ""), selfSigned("app")
		self, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: cert.PublicKey, Certificates: []*x509.Certificate{cert}}}})
		ways := map[string]func() reply{
			grantway.AuthBasic: func() reply { return h.post(grantBody, basic(c.ID, c.Secret)) },
			grantway.AuthPost: func() reply {
				c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPost}))
				return h.post(grantBody + "&client_id=" + c.ID + "&client_secret=" + c.Secret)
			},
			grantway.AuthSecretJWT: func() reply {
				c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT}))
				return h.post(asserting(signWith(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(c.Secret)}, nil, h.assertion(c))))
			},
			grantway.AuthPrivateKeyJWT: func() reply {
				c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
				return h.post(asserting(k.sign(h.assertion(c), nil)))
			},
			grantway.AuthTLS: func() reply {
				ca := newAuthority()
				c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSSubject: "CN=true"}))
				return h.post(grantBody+"&client_id="+c.ID, certificate(ca.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "true"}}, newEC().Public())))
			},
			grantway.AuthSelfSignedTLS: func() reply {
				c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthSelfSignedTLS, JWKS: self}))
				return h.post(grantBody+"&client_id="+c.ID, certificate(cert))
			},
			grantway.AuthNone: func() reply {
				c, ann, verifier := h.forPeople(func(s *grantway.ClientSettings) { s.AuthMethod = grantway.AuthNone }), h.join("ann", "administrator home"), rand.Text()+rand.Text()
				return h.post(exchanging(h.code(t, c, ann, verifier), verifier) + "&client_id=" + c.ID)
			},
		}
		for name, way := range ways {
			if !slices.Contains(m.Methods, name) {
				t.Errorf("%s is not listed", name)
			}
			way().want(t, 200, "")
		}
		if len(m.Methods) != len(ways) {
			t.Errorf("%q are listed, this test knows %d", m.Methods, len(ways))
		}
		for _, alg := range m.Algs {
			switch alg {
			case "HS256", "HS384":
				c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthSecretJWT}))
				key := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: []byte(c.Secret)}
				h.post(asserting(signWith(key, nil, h.assertion(c)))).want(t, 200, "")
			default:
				k := signer(alg)
				c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
				if got := h.post(asserting(signedBy(k, alg, map[string]any{}, h.assertion(c)))); got.status != 200 {
					t.Errorf("assertion by %s: %d %s", alg, got.status, got.body)
				}
			}
		}
		nonce := h.nonce(c, k)
		for _, alg := range m.ProofAlgs {
			k := signer(alg)
			proof := signedBy(k, alg, map[string]any{"typ": "dpop+jwt", "jwk": publicOf(k)},
				claims{"jti": rand.Text(), "htm": "POST", "htu": m.Token, "iat": time.Now().Unix(), "nonce": nonce})
			if got := h.post(grantBody, basic(c.ID, c.Secret), header("DPoP", proof)); got.status != 200 || got.json["token_type"] != "DPoP" {
				t.Errorf("proof by %s: %d %s", alg, got.status, got.body)
			}
		}
	})
}

// signer is a key for any of the asymmetric algorithms of RFC 7518 and RFC 9864.
func signer(alg string) key {
	switch a := jose.SignatureAlgorithm(alg); a {
	case jose.ES384, jose.ES512:
		private, err := ecdsa.GenerateKey(map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()}[a], rand.Reader)
		if err != nil {
			panic(err)
		}
		return key{a, private, ""}
	case "Ed25519":
		return newKeyPair(jose.EdDSA, "")
	default:
		return newKeyPair(a, "")
	}
}

// publicOf is the public key of k, which does not say what it is for.
func publicOf(k key) jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.(crypto.Signer).Public()}
}

// signedBy signs a JWT with further members in its header. Ed25519 is done by hand, since go-jose does not know that name.
func signedBy(k key, alg string, head map[string]any, c claims) string {
	if alg != "Ed25519" {
		extra := map[jose.HeaderKey]any{}
		for name, value := range head {
			extra[jose.HeaderKey(name)] = value
		}
		return k.sign(c, extra)
	}
	head["alg"] = alg
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(head) + "." + part(c)
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.private.(ed25519.PrivateKey), []byte(text)))
}

// RFC 7009 section 2.1: what is revoked is of no use from then on, and stays so: when the token was used before or not,
// when the hub has forgotten what it had in memory, and after it has cleaned up.
func TestS50RevokedAtOnce(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format, TokenSeconds: 600}))
			used, unused, other := h.token(c), h.token(c), h.token(c)
			if got := h.me("Bearer " + used); got.status != 200 {
				t.Fatalf("%s: %d %s", format, got.status, got.body)
			}
			for _, token := range []string{used, unused} {
				if got := h.send("POST", "/oauth/revoke", "token="+token, basic(c.ID, c.Secret)); got.status != 200 {
					t.Fatalf("%s: %d %s", format, got.status, got.body)
				}
			}
			for _, then := range []struct {
				name string
				do   func()
			}{
				{"at once", func() {}},
				{"without memory", h.ForgetSessions},
				{"after a purge", func() {
					ok(t, h.Purge(t.Context(), time.Now().Add(9*time.Minute))) // before it expires
					h.ForgetSessions()
				}},
			} {
				then.do()
				for _, token := range []string{used, unused} {
					got := h.me("Bearer " + token)
					if got.status != 401 || !strings.Contains(got.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
						t.Errorf("%s %s: %d %v", format, then.name, got.status, got.header)
					}
					if about := h.introspect(c, token); about["active"] != false {
						t.Errorf("%s %s: introspection says %v", format, then.name, about)
					}
				}
				if got := h.me("Bearer " + other); got.status != 200 {
					t.Errorf("%s %s: another token: %d %s", format, then.name, got.status, got.body)
				}
			}
		}
	})
}

// RFC 9700 section 2.3: a token for another API is of no use here, however it says whom it is for.
func TestR05Audience(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		const mail = "https://mail.example/api"
		refused := func(what, token string) {
			t.Helper()
			h.ForgetSessions()
			got := h.me("Bearer " + token)
			if got.status != 401 || !strings.Contains(got.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
				t.Errorf("%s: %d %v", what, got.status, got.header)
			}
		}
		for _, format := range []string{grantway.FormatOpaque, grantway.FormatJWT} {
			c := h.make(settings(grantway.ClientSettings{TokenFormat: format, Resources: []string{mail}}))
			token := h.post(grantBody+"&resource="+url.QueryEscape(mail), basic(c.ID, c.Secret)).token()
			refused(format, token)
			if about := h.introspect(c, token); about["active"] != true || about["aud"] != mail {
				t.Errorf("%s: the other API learns %v", format, about)
			}
		}
		c := h.make(settings(grantway.ClientSettings{TokenFormat: grantway.FormatJWT}))
		_, body := payload(t, h.token(c))
		for _, aud := range []any{mail, []string{mail}, []string{}, nil, h.URL() + "/", strings.ToUpper(h.URL()), h.URL() + "/oauth/token", map[string]any{"x": h.URL()}} {
			jwt, err := h.SignAs("at+jwt", claims(body).with("aud", aud))
			ok(t, err)
			refused(fmt.Sprintf("aud %q", aud), jwt)
		}
	})
}

// RFC 9449 section 7.1: the answer to a DPoP request that fails says DPoP, why, and with which algorithms it would work.
func TestR08DPoPChallenge(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		k := newKeyPair(jose.ES256, "")
		c := h.client("app", "application home")
		token := h.bound(c, k)
		var m struct {
			Algs []string `json:"dpop_signing_alg_values_supported"`
		}
		if err := json.Unmarshal([]byte(h.send("GET", "/.well-known/oauth-authorization-server", "").body), &m); err != nil || len(m.Algs) == 0 {
			t.Fatalf("%v %v", err, m)
		}
		for name, test := range map[string]struct {
			got  reply
			code string
		}{
			"no proof":        {h.me("DPoP " + token), "invalid_dpop_proof"},
			"a wrong proof":   {h.me("DPoP "+token, header("DPoP", "x")), "invalid_dpop_proof"},
			"no good token":   {h.me("DPoP "+issuer.Forge(), header("DPoP", h.proof(k, "GET", "/me", "", "x"))), "invalid_token"},
			"a bearer's call": {h.me("Bearer " + token), "invalid_token"},
		} {
			challenge := test.got.header.Get("WWW-Authenticate")
			if test.got.status != 401 || !strings.HasPrefix(challenge, "DPoP ") || !strings.Contains(challenge, `error="`+test.code+`"`) {
				t.Errorf("%s: %d %q", name, test.got.status, challenge)
			}
			if !strings.Contains(challenge, `algs="`+strings.Join(m.Algs, " ")+`"`) {
				t.Errorf("%s: %q, and the metadata says %q", name, challenge, m.Algs)
			}
		}
		// Who shows nothing learns of both ways, and of no error (RFC 6750 section 3.1).
		if got := h.me(""); got.status != 401 || strings.Contains(strings.Join(got.header["Www-Authenticate"], ","), "error") {
			t.Errorf("nothing: %d %v", got.status, got.header)
		}
	})
}
