package grant_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// generate makes a private key for a JWS algorithm.
func generate(t *testing.T, alg string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pkcs8 writes a private key as PEM.
func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func newKey(t *testing.T, alg string) *grant.SigningKey {
	t.Helper()
	k, err := grant.ParseSigningKey(pkcs8(t, generate(t, alg)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newDPoPKey(t *testing.T) *grant.DPoPKey {
	t.Helper()
	k, err := grant.NewDPoPKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "assertion")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestC05_BasicEncoding(t *testing.T) {
	v := readVectors(t)
	for _, b := range []basicVector{v.Basic1, v.Basic2, v.Basic3} {
		r := sent(t, func(r *grant.Request) { r.ClientID, r.Auth = b.ID, grant.Basic{Secret: grant.Secret(b.Secret)} })
		if got := r.Header.Get("Authorization"); got != b.Header {
			t.Errorf("%s: got %q, want %q", b.ID, got, b.Header)
		}
	}

	var special string // of RFC 6749 appendix B
	for u := range strings.FieldsSeq(v.AppendixB.Codepoints) {
		n, err := strconv.ParseInt(strings.TrimPrefix(u, "U+"), 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		special += string(rune(n))
	}
	r := sent(t, func(r *grant.Request) { r.ClientID, r.Auth = special, grant.Basic{Secret: grant.Secret(special)} })
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(v.AppendixB.Encoded+":"+v.AppendixB.Encoded))
	if got := r.Header.Get("Authorization"); got != want {
		t.Errorf("appendix B: got %q, want %q", got, want)
	}

	// A server that decodes, written by somebody else.
	p, c := start(t)
	p.Register(grantwaytest.Client{ID: "a:b c/é", Secret: "s:% +ü&="})
	ask := newRequest(p)
	ask.ClientID, ask.Auth = "a:b c/é", grant.Basic{Secret: "s:% +ü&="}
	if _, err := c.Token(t.Context(), ask); err != nil {
		t.Error(err)
	}
}

func TestC06_RawBasic(t *testing.T) {
	p, c := start(t)
	p.Register(grantwaytest.Client{ID: "app", Secret: "s:% +ü&=", Method: grantwaytest.AuthRawBasic})
	r := newRequest(p)
	r.Auth = grant.Basic{Secret: "s:% +ü&=", Raw: true}
	if _, err := c.Token(t.Context(), r); err != nil {
		t.Error(err)
	}
	// The other encoding is never tried.
	r.Auth = grant.Basic{Secret: "s:% +ü&="}
	_, err := c.Token(t.Context(), r)
	if e := failed(t, err); e.Code != "invalid_client" || p.Token.Count() != 2 {
		t.Errorf("%v, %d requests", err, p.Token.Count())
	}
}

// TestC26_Assertion looks at the claims of both kinds of client assertion.
func TestC26_Assertion(t *testing.T) {
	for _, auth := range []grant.Authenticator{
		grant.SecretJWT{Secret: appSecret, Audience: "https://as.example/"},
		grant.PrivateKeyJWT{Key: newKey(t, "ES256"), Audience: "https://as.example/"},
	} {
		start := time.Now()
		r := sent(t, func(r *grant.Request) { r.Auth = auth })
		if got := r.Form["client_assertion_type"]; !cmp.Equal(got, []string{"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}) {
			t.Errorf("client_assertion_type %q", got)
		}
		if len(r.Form["client_assertion"]) != 1 {
			t.Errorf("%d assertions", len(r.Form["client_assertion"]))
		}
		_, claims := decodeJWT(t, r.Form.Get("client_assertion"))
		if claims["iss"] != "app" || claims["sub"] != "app" || claims["aud"] != "https://as.example/" {
			t.Errorf("claims %v", claims)
		}
		if iat := int64(claims["iat"].(float64)); iat < start.Unix() || iat > time.Now().Unix() || claims["exp"] != float64(iat+60) {
			t.Errorf("claims %v", claims)
		}
	}
}

func TestC27_AudienceIsTheIssuer(t *testing.T) {
	for _, set := range []func(issuer string, legacy bool) grant.Authenticator{
		func(issuer string, legacy bool) grant.Authenticator {
			return grant.SecretJWT{Secret: appSecret, Audience: issuer, TokenURLAudience: legacy}
		},
		func(issuer string, legacy bool) grant.Authenticator {
			return grant.PrivateKeyJWT{Key: newKey(t, "ES256"), Audience: issuer, TokenURLAudience: legacy}
		},
	} {
		audience := func(auth grant.Authenticator) (aud any, tokenURL string) {
			r := sent(t, func(r *grant.Request) { r.Auth, tokenURL = auth, r.TokenURL })
			_, claims := decodeJWT(t, r.Form.Get("client_assertion"))
			return claims["aud"], tokenURL
		}
		if aud, _ := audience(set("https://as.example", false)); aud != any("https://as.example") {
			t.Errorf("aud %v", aud)
		}
		if aud, tokenURL := audience(set("", true)); aud != any(tokenURL) {
			t.Errorf("aud %v", aud)
		}
		refusedToSend(t, "needs one audience", func(r *grant.Request) { r.Auth = set("", false) })
		refusedToSend(t, "needs one audience", func(r *grant.Request) { r.Auth = set("https://as.example", true) })
	}
}

// TestC28_FreshAssertions makes one request that is retried for a DPoP nonce, and another one.
func TestC28_FreshAssertions(t *testing.T) {
	p, c := start(t)
	p.Token.Next(wantNonce("n1"))
	p.Token.Always(grantwaytest.JSON(200, map[string]any{"access_token": "x", "token_type": "DPoP"}))
	r := newRequest(p)
	r.Auth, r.DPoP = grant.PrivateKeyJWT{Key: newKey(t, "ES256"), Audience: "https://as.example"}, newDPoPKey(t)
	for range 2 {
		if _, err := c.Token(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[any]bool{}
	for _, request := range p.Token.Requests() {
		_, claims := decodeJWT(t, request.Form.Get("client_assertion"))
		id := claims["jti"].(string)
		if seen[id] || len(id) < 22 { // 128 bits in base64
			t.Errorf("jti %q", id)
		}
		seen[id] = true
		if claims["exp"].(float64)-claims["iat"].(float64) > 60 {
			t.Errorf("claims %v", claims)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d attempts", len(seen))
	}
}

// TestC29_AssertionHeader verifies an assertion of every algorithm with the public key.
func TestC29_AssertionHeader(t *testing.T) {
	certPEM, err := os.ReadFile("testdata/rfc8705a.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		private := generate(t, alg)
		k, err := grant.ParseSigningKey(pkcs8(t, private))
		if err != nil {
			t.Fatal(err)
		}
		if k.Algorithm != alg && !(k.Algorithm == "RS256" && alg[1] == 'S') {
			t.Errorf("%s: the default is %s", alg, k.Algorithm)
		}
		k.Algorithm, k.KeyID, k.Certificate = alg, "key-1", certificate
		r := sent(t, func(r *grant.Request) { r.Auth = grant.PrivateKeyJWT{Key: k, Audience: "https://as.example"} })
		assertion := r.Form.Get("client_assertion")
		header, _ := decodeJWT(t, assertion)
		want := map[string]any{"alg": alg, "kid": "key-1", "typ": "client-authentication+jwt", "x5t#S256": readVectors(t).Certificate.Thumbprint}
		if d := cmp.Diff(want, header); d != "" {
			t.Error(d)
		}
		jws, err := jose.ParseSignedCompact(assertion, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
		if err == nil {
			_, err = jws.Verify(private.Public())
		}
		if err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}

	for _, alg := range []string{"", "HS256", "HS384", "HS512"} {
		r := sent(t, func(r *grant.Request) {
			r.Auth = grant.SecretJWT{Secret: appSecret, Algorithm: alg, Audience: "https://as.example", Type: "JWT"}
		})
		jws, err := jose.ParseSignedCompact(r.Form.Get("client_assertion"), []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512})
		if err == nil {
			_, err = jws.Verify([]byte(appSecret))
		}
		if err != nil || jws.Signatures[0].Header.ExtraHeaders["typ"] != "JWT" || alg != "" && jws.Signatures[0].Header.Algorithm != alg {
			t.Errorf("%s: %v, %v", alg, err, jws.Signatures[0].Header)
		}
	}
}

// TestC30_MutualTLS asks with one certificate, then with another, then with none: each
// connection must present its own.
func TestC30_MutualTLS(t *testing.T) {
	p, c := start(t)
	for _, presented := range []bool{true, true, false} {
		r := newRequest(p)
		var want []byte
		if presented {
			certificate, err := grantwaytest.NewClientCertificate()
			if err != nil {
				t.Fatal(err)
			}
			p.Register(grantwaytest.Client{ID: "app", Method: grantwaytest.AuthTLS, Certificate: certificate.Leaf})
			r.Auth, r.Certificate, want = grant.TLS{}, certificate, certificate.Leaf.Raw
		} else {
			p.Register(grantwaytest.Client{ID: "app", Secret: appSecret})
		}
		if _, err := c.Token(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		requests := p.Token.Requests()
		got := requests[len(requests)-1]
		if presented && (got.Form.Get("client_id") != "app" || got.Certificate == nil || string(got.Certificate.Raw) != string(want)) {
			t.Errorf("client_id %q, certificate %v", got.Form.Get("client_id"), got.Certificate)
		}
		if !presented && got.Certificate != nil {
			t.Error("a certificate of another request was presented")
		}
	}

	// The certificate is orthogonal: it goes with Basic, too.
	certificate, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	if r := sent(t, func(r *grant.Request) { r.Certificate = certificate }); r.Certificate == nil || r.Header.Get("Authorization") == "" {
		t.Errorf("certificate %v, Authorization %q", r.Certificate != nil, r.Header.Get("Authorization"))
	}
	sum := sha256.Sum256(certificate.Leaf.Raw)
	k, err := grant.ParseSigningKey(append(pkcs8(t, certificate.PrivateKey), pemCertificate(certificate)...))
	if err != nil {
		t.Fatal(err)
	}
	r := sent(t, func(r *grant.Request) { r.Auth = grant.PrivateKeyJWT{Key: k, Audience: "https://as.example"} })
	if header, _ := decodeJWT(t, r.Form.Get("client_assertion")); header["x5t#S256"] != base64.RawURLEncoding.EncodeToString(sum[:]) {
		t.Errorf("header %v", header)
	}
}

func pemCertificate(c *tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

// TestAssertion sends what somebody else signed.
func TestAssertion(t *testing.T) {
	r := sent(t, func(r *grant.Request) { r.Auth = grant.Assertion{Value: "theirs"} })
	if got := r.Form.Get("client_assertion"); got != "theirs" {
		t.Errorf("client_assertion %q", got)
	}
	r = sent(t, func(r *grant.Request) {
		r.Auth, r.GrantType, r.Assertion = nil, grant.JWTBearer, grant.Assertion{Value: "theirs"}
	})
	if got := r.Form.Get("assertion"); got != "theirs" {
		t.Errorf("assertion %q", got)
	}
	refusedToSend(t, "assertion is missing", func(r *grant.Request) { r.Auth = grant.Assertion{} })
}

// TestAssertionFile re-reads the file at every attempt.
func TestAssertionFile(t *testing.T) {
	p, c := start(t)
	p.Token.Always(anyToken)
	file := writeFile(t, " first\n")
	client := newRequest(p)
	client.Auth = grant.AssertionFile{Path: file}
	bearer := newRequest(p)
	bearer.Auth, bearer.GrantType, bearer.Assertion = nil, grant.JWTBearer, grant.AssertionFile{Path: file}
	for i, want := range []string{"first", "second"} {
		for _, r := range []*grant.Request{client, bearer} {
			if _, err := c.Token(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		requests := p.Token.Requests()[2*i:]
		if got := requests[0].Form.Get("client_assertion"); got != want {
			t.Errorf("client_assertion %q, want %q", got, want)
		}
		if got := requests[1].Form; got.Get("assertion") != want || got.Get("grant_type") != grant.JWTBearer {
			t.Errorf("sent %v, want %q", got, want)
		}
		if err := os.WriteFile(file, []byte("second"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, content := range []string{"", " \n", strings.Repeat("x", 64<<10+1)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := c.Token(t.Context(), client)
		if e := failed(t, err); e.Stage != grant.StagePrepare || e.Class != grant.Temporary {
			t.Errorf("a file of %d bytes: %s %s %v", len(content), e.Stage, e.Class, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	_, err := c.Token(t.Context(), client)
	if e := failed(t, err); e.Class != grant.Temporary || !strings.Contains(e.Message, "no such file") {
		t.Errorf("no file: %s %v", e.Class, err)
	}
}

func TestJWTBearer(t *testing.T) {
	key := newKey(t, "RS256")
	key.KeyID = "k"
	r := sent(t, func(r *grant.Request) {
		r.GrantType, r.Auth, r.ClientID = grant.JWTBearer, nil, ""
		r.Assertion = grant.JWT{Key: key, Issuer: "robot@example", Audience: "https://as.example/token", Lifetime: time.Hour,
			Claims: map[string]any{"scope": "a b", "jti": nil, "sub": "boss@example"}}
	})
	header, claims := decodeJWT(t, r.Form.Get("assertion"))
	if d := cmp.Diff(map[string]any{"alg": "RS256", "typ": "JWT", "kid": "k"}, header); d != "" {
		t.Error(d)
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 3600 {
		t.Errorf("lifetime %v", life)
	}
	delete(claims, "exp")
	delete(claims, "iat")
	if d := cmp.Diff(map[string]any{"iss": "robot@example", "sub": "boss@example", "aud": "https://as.example/token", "scope": "a b"}, claims); d != "" {
		t.Error(d)
	}
	delete(r.Form, "assertion")
	if d := cmp.Diff(url.Values{"grant_type": {grant.JWTBearer}}, r.Form); d != "" {
		t.Error(d)
	}
}

func TestParseSigningKey(t *testing.T) {
	ec := generate(t, "ES256").(*ecdsa.PrivateKey)
	rsaKey := generate(t, "RS256").(*rsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	jwk := func(k jose.JSONWebKey) []byte {
		b, err := k.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, data := range map[string][]byte{
		"SEC 1":   pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}),
		"PKCS #1": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}),
		"PKCS #8": pkcs8(t, ec),
		"blanks":  append([]byte("\n  "), pkcs8(t, ec)...),
	} {
		if _, err := grant.ParseSigningKey(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	k, err := grant.ParseSigningKey(jwk(jose.JSONWebKey{Key: rsaKey, KeyID: "7", Algorithm: "PS384", Use: "sig"}))
	if err != nil || k.Algorithm != "PS384" || k.KeyID != "7" {
		t.Errorf("JWK: %v, %v", k, err)
	}

	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	other, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	for want, data := range map[string][]byte{
		"neither":           []byte("hunter2"),
		"not a private JWK": []byte(`{"kty":"EC","d":"hunter2"}`),
		"the JWK is not a":  jwk(jose.JSONWebKey{Key: ec.Public()}),
		"not a private key": jwk(jose.JSONWebKey{Key: []byte("hunter2 hunter2 hunter2")}),
		"not for signing":   jwk(jose.JSONWebKey{Key: ec, Use: "enc"}),
		"does not fit":      jwk(jose.JSONWebKey{Key: ec, Algorithm: "ES384"}),
		"public key":        pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"encrypted":         pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("hunter2")}),
		"malformed":         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hunter2")}),
		"more than one":     append(pkcs8(t, ec), pkcs8(t, ec)...),
		"2048 bits":         pkcs8(t, weak),
		"another key":       append(pkcs8(t, ec), pemCertificate(other)...),
	} {
		if _, err := grant.ParseSigningKey(data); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
