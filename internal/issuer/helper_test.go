package issuer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

// The parts around an issuer that app gives it.

// person tells of the people that a test has added.
func (h *hub) person(_ context.Context, id string) (access.Caller, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if who, ok := h.people[id]; ok {
		return who, nil
	}
	return access.Caller{}, grantway.Errorf(grantway.NotFound, "nobody")
}

// join adds a person, in the database too, since tokens refer to the row.
func (h *hub) join(name string, roles ...string) access.Caller {
	h.t.Helper()
	who := access.Caller{ID: "person_" + name, Name: name, Kind: access.Person, Roles: assignments(roles...)}
	h.mu.Lock()
	h.people[who.ID] = who
	h.mu.Unlock()
	h.run(`INSERT INTO person (id, email, email_key, name, active, password, issuer, subject, created_at, last_sign_in)
		VALUES ($1, $2, $2, $3, TRUE, $4, '', '', 1, 1)`, who.ID, name+"@example.com", name, []byte("x"))
	return who
}

// signedIn takes a cookie with a person's id for a session.
func (h *hub) signedIn(r *http.Request) (access.Caller, bool) {
	cookie, err := r.Cookie("person")
	if err != nil {
		return access.Caller{}, false
	}
	who, err := h.person(r.Context(), cookie.Value)
	return who, err == nil
}

// exchange has one credential, "sales", for callers that may use credentials.
func (h *hub) exchange(_ context.Context, who access.Caller, ref grantway.Ref) (*grant.Token, error) {
	if ref.Credential != "sales" {
		return nil, grantway.Errorf(grantway.NotFound, "no credential")
	}
	if err := who.Check(access.UseCredential, "home"); err != nil {
		return nil, err
	}
	return &grant.Token{AccessToken: "of-the-provider", Type: "Bearer", Scope: ref.Scope, ExpiresAt: time.Now().Add(time.Hour)}, nil
}

// remotes serves documents at https URLs of any host.
type remotes struct {
	mu      sync.Mutex
	m       map[string]string // by URL
	fetched map[string]int
	server  *httptest.Server
}

func newRemotes(t testing.TB) *remotes {
	f := &remotes{m: map[string]string{}, fetched: map[string]int{}}
	f.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		at := "https://" + r.Host + r.URL.Path
		f.fetched[at]++
		text, ok := f.m[at]
		if !ok {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, text)
	}))
	t.Cleanup(f.server.Close)
	return f
}

func (f *remotes) set(url, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m[url] = text
}

func (f *remotes) count(url string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetched[url]
}

func (f *remotes) client() *http.Client {
	var d net.Dialer
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // every host is the one server
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, f.server.Listener.Addr().String())
		},
	}}
}

// authority issues certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

var newAuthority = sync.OnceValue(func() *authority {
	a := &authority{key: newEC()}
	a.cert = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.key.Public())
	return a
})

var authorities = func() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(newAuthority().cert)
	return pool
}()

var serial int64

// issue makes a certificate, which is self-signed as long as a has none.
func (a *authority) issue(c *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	serial++
	c.SerialNumber = big.NewInt(serial)
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if c.ExtKeyUsage == nil && !c.IsCA {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	if err != nil {
		panic(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return made
}

func selfSigned(name string) *x509.Certificate {
	a := &authority{key: newEC()}
	return a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}}, a.key.Public())
}

// certificates are in a header of the test; how they come to the hub is app's business.
func certificates(r *http.Request) []*x509.Certificate {
	der, err := base64.StdEncoding.DecodeString(r.Header.Get("Test-Certificate"))
	if err != nil || len(der) == 0 {
		return nil
	}
	all, err := x509.ParseCertificates(der)
	if err != nil {
		panic(err)
	}
	return all
}

func certificate(c *x509.Certificate) edit {
	return header("Test-Certificate", base64.StdEncoding.EncodeToString(c.Raw))
}

func thumbprintOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// key is a key pair of a client.
type key struct {
	alg     jose.SignatureAlgorithm
	private any
	kid     string
}

func newEC() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func newKeyPair(alg jose.SignatureAlgorithm, kid string) key {
	switch alg {
	case jose.ES256:
		return key{alg, newEC(), kid}
	case jose.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		return key{alg, private, kid}
	}
	return key{alg, rsaKey(), kid}
}

func (k key) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.(crypto.Signer).Public(), KeyID: k.kid, Algorithm: string(k.alg)}
}

func (k key) thumbprint() string {
	public := k.public()
	sum, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

func jwks(keys ...key) json.RawMessage {
	var set jose.JSONWebKeySet
	for _, k := range keys {
		set.Keys = append(set.Keys, k.public())
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	return text
}

type claims map[string]any

// sign makes a JWT. headers are further members of its header.
func (k key) sign(c claims, headers map[jose.HeaderKey]any) string {
	o := &jose.SignerOptions{ExtraHeaders: headers}
	return signWith(jose.SigningKey{Algorithm: k.alg, Key: jose.JSONWebKey{Key: k.private, KeyID: k.kid}}, o, c)
}

func signWith(sk jose.SigningKey, o *jose.SignerOptions, c claims) string {
	signer, err := jose.NewSigner(sk, o)
	if err != nil {
		panic(err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

// with returns a copy of c with members changed; nil removes one.
func (c claims) with(pairs ...any) claims {
	out := claims{}
	for name, value := range c {
		out[name] = value
	}
	for n := 0; n < len(pairs); n += 2 {
		if out[pairs[n].(string)] = pairs[n+1]; pairs[n+1] == nil {
			delete(out, pairs[n].(string))
		}
	}
	return out
}

// assertion are the claims of an assertion of c that is good.
func (h *hub) assertion(c grantway.OAuthClient) claims {
	now := time.Now().Unix()
	return claims{"iss": c.ID, "sub": c.ID, "aud": h.server.URL, "iat": now, "exp": now + 60, "jti": rand.Text()}
}

const assertionKind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// asserting is the body of a token request with an assertion.
func asserting(jwt string) string {
	return grantBody + "&client_assertion_type=" + url.QueryEscape(assertionKind) + "&client_assertion=" + jwt
}

// proof makes a DPoP proof for a request.
func (h *hub) proof(k key, method, path, nonce, token string, pairs ...any) string {
	c := claims{"jti": rand.Text(), "htm": method, "htu": h.server.URL + path, "iat": time.Now().Unix()}
	if nonce != "" {
		c["nonce"] = nonce
	}
	if token != "" {
		c["ath"] = sha256Of(token)
	}
	return k.prove(c.with(pairs...), "dpop+jwt")
}

func (k key) prove(c claims, typ string) string {
	o := (&jose.SignerOptions{EmbedJWK: true}).WithType(jose.ContentType(typ))
	return signWith(jose.SigningKey{Algorithm: k.alg, Key: k.private}, o, c)
}

// nonce asks the token endpoint for a nonce.
func (h *hub) nonce(c grantway.OAuthClient, k key) string {
	h.t.Helper()
	got := h.post(grantBody, basic(c.ID, c.Secret), header("DPoP", h.proof(k, "POST", "/oauth/token", "", "")))
	nonces := got.header["Dpop-Nonce"]
	if got.status != 400 || got.error() != "use_dpop_nonce" || len(nonces) != 1 {
		h.t.Fatalf("no nonce: %d %s %q", got.status, got.body, nonces)
	}
	return nonces[0]
}

// bound gets a token for c that is bound to k.
func (h *hub) bound(c grantway.OAuthClient, k key) string {
	h.t.Helper()
	got := h.post(grantBody, basic(c.ID, c.Secret), header("DPoP", h.proof(k, "POST", "/oauth/token", h.nonce(c, k), "")))
	if got.status != 200 || got.json["token_type"] != "DPoP" {
		h.t.Fatalf("no token: %d %s", got.status, got.body)
	}
	return got.token()
}

// make makes a client as it is given, with the role application if it has none.
func (h *hub) make(c grantway.OAuthClient) grantway.OAuthClient {
	h.t.Helper()
	if c.Name == "" {
		c.Name = "app-" + rand.Text()[:8]
	}
	if c.Roles == nil && c.GrantType != grantway.GrantAuthorizationCode {
		c.Roles = assignments("application home")
	}
	made, err := h.CreateClient(h.t.Context(), owner, c)
	if err != nil {
		h.t.Fatalf("%v %+v", err, err.(*grantway.Error).Fields)
	}
	return made
}

func settings(s grantway.ClientSettings) grantway.OAuthClient {
	return grantway.OAuthClient{ClientSettings: s}
}

// payload is the middle of a JWT.
func payload(t testing.TB, jwt string) (header, body map[string]any) {
	t.Helper()
	jws, err := jose.ParseSignedCompact(jwt, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
	if err != nil {
		t.Fatalf("%q: %v", jwt, err)
	}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &body); err != nil {
		t.Fatal(err)
	}
	p := jws.Signatures[0].Protected
	return map[string]any{"alg": p.Algorithm, "kid": p.KeyID, "typ": p.ExtraHeaders[jose.HeaderType]}, body
}

// introspect asks about a token as c.
func (h *hub) introspect(c grantway.OAuthClient, token string) map[string]any {
	h.t.Helper()
	got := h.send("POST", "/oauth/introspect", "token="+url.QueryEscape(token), basic(c.ID, c.Secret))
	if got.status != 200 {
		h.t.Fatalf("introspection: %d %s", got.status, got.body)
	}
	return got.json
}

func equal(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

var addresses atomic.Uint32

// elsewhere sends a request from an address of its own, where nobody has failed yet.
func elsewhere() edit {
	n := addresses.Add(1)
	return func(r *http.Request) {
		r.Header.Set("Test-From", netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String())
		r.Header.Set("Test-Proto", "https")
	}
}
