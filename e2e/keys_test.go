package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // for ES384 and the like
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
)

// What clients prove themselves with, for TestChecklist: keys, assertions, proofs and certificates; and more of the party.

// keyPair is a key pair of a client, or a secret.
type keyPair struct {
	alg, kid string
	private  crypto.Signer
	secret   []byte // for HMAC; with neither, what it signs has no signature
}

// rsaKey is one for all, since making one takes long.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// newKey makes a key for an asymmetric algorithm of RFC 7518 or RFC 9864.
func newKey(t *testing.T, alg string) keyPair {
	t.Helper()
	k, err := keyPair{alg: alg}, error(nil)
	switch curves := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}; {
	case curves[alg] != nil:
		k.private, err = ecdsa.GenerateKey(curves[alg], rand.Reader)
	case strings.HasPrefix(alg, "Ed"):
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.private, err = rsaKey()
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// public is the key as a proof holds it.
func (k keyPair) public() jose.JSONWebKey { return jose.JSONWebKey{Key: k.private.Public()} }

// jwks is what a client registers.
func jwks(keys ...keyPair) json.RawMessage {
	var set jose.JSONWebKeySet
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.kid, Algorithm: k.alg})
	}
	return marshalled(set)
}

// x5c is what a client with a certificate of its own registers.
func x5c(c *x509.Certificate) json.RawMessage {
	return marshalled(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: c.PublicKey, Certificates: []*x509.Certificate{c}}}})
}

func marshalled(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // no test makes such a thing
	}
	return text
}

type claims map[string]any

// with returns a copy with members changed; nil removes one.
func (c claims) with(pairs ...any) claims {
	c = maps.Clone(c)
	for pair := range slices.Chunk(pairs, 2) {
		if c[pair[0].(string)] = pair[1]; pair[1] == nil {
			delete(c, pair[0].(string))
		}
	}
	return c
}

// segment is one part of a JWT.
func (c claims) segment() string { return base64.RawURLEncoding.EncodeToString(marshalled(c)) }

// sign makes a JWT with further members in its header, by hand: also those that no library would make.
func (k keyPair) sign(body claims, head ...any) string {
	h := claims{"alg": k.alg}
	if k.kid != "" {
		h["kid"] = k.kid
	}
	text := h.with(head...).segment() + "." + body.segment()
	return text + "." + base64.RawURLEncoding.EncodeToString(k.signature([]byte(text)))
}

func (k keyPair) signature(text []byte) (signature []byte) {
	hash := crypto.SHA256
	switch {
	case strings.HasSuffix(k.alg, "384"):
		hash = crypto.SHA384
	case strings.HasSuffix(k.alg, "512"):
		hash = crypto.SHA512
	}
	if k.secret != nil {
		mac := hmac.New(hash.New, k.secret)
		mac.Write(text)
		return mac.Sum(nil)
	}
	h := hash.New()
	h.Write(text)
	sum, err := h.Sum(nil), error(nil)
	switch key := k.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, text)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, sum)
		if err != nil {
			panic(err)
		}
		size := (key.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		var o crypto.SignerOpts = hash
		if strings.HasPrefix(k.alg, "PS") {
			o = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		signature, err = key.Sign(rand.Reader, sum, o)
	}
	if err != nil {
		panic(err)
	}
	return signature
}

// opened is a part of a JWT: 0 is its header, 1 are its claims.
func opened(t *testing.T, jwt string, part int) (c claims) {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no JWT", jwt)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[part])
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatalf("%q: %v", jwt, err)
	}
	return c
}

// swap puts another part into a JWT.
func swap(jwt string, part int, c claims) string {
	parts := strings.Split(jwt, ".")
	parts[part] = c.segment()
	return strings.Join(parts, ".")
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// showing is an assertion in a form.
func showing(jwt string) string {
	return "&" + url.Values{"client_assertion_type": {assertionType}, "client_assertion": {jwt}}.Encode()
}

// asserting is a token request with an assertion.
func asserting(jwt string) string { return grantBody + showing(jwt) }

// assertion is one of c that is good.
func (p *party) assertion(c grantway.OAuthClient) claims {
	now := time.Now().Unix()
	return claims{"iss": c.ID, "sub": c.ID, "aud": p.url, "iat": now, "exp": now + 60, "jti": rand.Text()}
}

// proof is a DPoP proof (RFC 9449 section 4.2) for a request, with a token unless that is "".
func (p *party) proof(k keyPair, method, path, token string, pairs ...any) string {
	c := claims{"jti": rand.Text(), "htm": method, "htu": p.url + path, "iat": time.Now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		c["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return k.sign(c.with(pairs...), "typ", "dpop+jwt", "jwk", k.public())
}

// nonce asks for what proofs at the token endpoint must hold.
func (p *party) nonce(t *testing.T, c grantway.OAuthClient) string {
	t.Helper()
	a := p.expect(t, "nonce", "use_dpop_nonce", grantBody, basic(c.ID, c.Secret), header("DPoP", p.proof(newKey(t, "ES256"), http.MethodPost, "/oauth/token", "")))
	if nonces := a.header.Values("DPoP-Nonce"); len(nonces) != 1 {
		t.Fatalf("nonces %q", nonces)
	}
	return a.header.Get("DPoP-Nonce")
}

// registered makes a client with these settings.
func (p *party) registered(t *testing.T, s grantway.ClientSettings) grantway.OAuthClient {
	t.Helper()
	return p.client(t, grantway.OAuthClient{ClientSettings: s})
}

// keyed makes a client that signs assertions.
func (p *party) keyed(t *testing.T, keys ...keyPair) grantway.OAuthClient {
	t.Helper()
	return p.registered(t, grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(keys...)})
}

// unregistrable checks that there can be no client with these settings, because of the member at pointer.
func (p *party) unregistrable(t *testing.T, what, pointer string, s grantway.ClientSettings) {
	t.Helper()
	a := p.owner.ask(p.hub, http.MethodPost, "/v1/clients", grantway.OAuthClient{Name: strings.ToLower(rand.Text()), Roles: application, ClientSettings: s})
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.body), `"`+pointer+`"`) {
		t.Errorf("%s: got %v, want 422 because of %s", what, a, pointer)
	}
}

// expect makes a token request, from where nobody has failed yet, and checks the answer: its error code, or with "" that
// there is a token.
func (p *party) expect(t *testing.T, what, code, form string, edits ...edit) answer {
	t.Helper()
	status := http.StatusBadRequest
	switch code {
	case "":
		status = http.StatusOK
	case "invalid_client":
		status = http.StatusUnauthorized
	}
	a := p.post(t, form, append([]edit{elsewhere()}, edits...)...)
	if a.status != status || a.member("error") != code || (a.member("access_token") != "") != (code == "") {
		t.Errorf("%s: got %v, want %d %s", what, a, status, code)
	}
	return a
}

// bound checks that a token says what it is bound to, at introspection by c and, when it is a JWT, in itself.
func (p *party) bound(t *testing.T, c grantway.OAuthClient, token, kind string, cnf map[string]any) {
	t.Helper()
	about := p.introspect(t, c, token).object()
	if about["active"] != true || about["token_type"] != kind || !reflect.DeepEqual(about["cnf"], any(cnf)) {
		t.Errorf("introspection says %v, want %v", about, cnf)
	}
	if strings.Count(token, ".") == 2 {
		if body := opened(t, token, 1); !reflect.DeepEqual(body["cnf"], any(cnf)) {
			t.Errorf("claims %v, want %v", body, cnf)
		}
	}
}

// proved gets a token for c that is bound to k.
func (p *party) proved(t *testing.T, c grantway.OAuthClient, k keyPair) string {
	t.Helper()
	proof := p.proof(k, http.MethodPost, "/oauth/token", "", "nonce", p.nonce(t, c))
	return p.expect(t, "a bound token", "", grantBody, basic(c.ID, c.Secret), header("DPoP", proof)).member("access_token")
}

// invalid checks that the API refuses a token, and says why (RFC 6750 section 3.1).
func (p *party) invalid(t *testing.T, what, authorization string, edits ...edit) {
	t.Helper()
	a := p.call(t, authorization, append([]edit{elsewhere()}, edits...)...)
	if challenge := a.header.Get("WWW-Authenticate"); a.status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) {
		t.Errorf("%s: got %v %q, want 401 invalid_token", what, a, challenge)
	}
}

// keys are those that the hub publishes.
func (p *party) keys(t *testing.T) (set jose.JSONWebKeySet) {
	t.Helper()
	a := p.send(t, http.MethodGet, "/oauth/jwks", "")
	if err := a.decode(&set); err != nil || a.status != http.StatusOK {
		t.Fatalf("%v: %v", a, err)
	}
	for _, k := range set.Keys {
		if !k.IsPublic() || k.KeyID == "" || k.Use != "sig" {
			t.Errorf("published is %+v", k)
		}
	}
	return set
}

func (p *party) published(t *testing.T, kid string) bool {
	t.Helper()
	set := p.keys(t)
	return len(set.Key(kid)) == 1
}

// verify checks a JWT as another API would, and returns the name of its key.
func (p *party) verify(t *testing.T, token string) (kid string) {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
	if err != nil {
		t.Fatalf("%q: %v", token, err)
	}
	kid = jws.Signatures[0].Protected.KeyID
	set := p.keys(t)
	found := set.Key(kid)
	if len(found) != 1 || found[0].Algorithm != jws.Signatures[0].Protected.Algorithm {
		t.Fatalf("the keys of %q are %+v", kid, found)
	}
	if _, err := jws.Verify(found[0]); err != nil {
		t.Errorf("by %s: %v", kid, err)
	}
	return kid
}

// metadata is the document of RFC 8414.
type metadata map[string]any

func (p *party) metadata(t *testing.T) (m metadata) {
	t.Helper()
	a := p.send(t, http.MethodGet, "/.well-known/oauth-authorization-server", "")
	if err := a.decode(&m); err != nil || a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v %v: %v", a, a.header, err)
	}
	return m
}

// list is a member that is a list of strings.
func (m metadata) list(name string) (list []string) {
	all, _ := m[name].([]any)
	for _, one := range all {
		list = append(list, fmt.Sprint(one))
	}
	return list
}

// location is where a browser is sent that asks for path.
func (p *party) location(t *testing.T, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.owner.http.Transport.RoundTrip(req) // which does not follow
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Location")
}

// nothing changes nothing.
func nothing(*http.Request) {}

var addresses atomic.Uint32

// elsewhere makes a request come from an address of its own: failures at one do not slow down the others.
func elsewhere() edit {
	n := addresses.Add(1)
	return from(netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)}).String())
}

// clientCert is a certificate in a header (RFC 9440 section 2).
func clientCert(c *x509.Certificate) string {
	return ":" + base64.StdEncoding.EncodeToString(c.Raw) + ":"
}

// certificates are what the client has shown to the proxy, which passes it on (RFC 9440).
func certificates(leaf *x509.Certificate, chain ...*x509.Certificate) edit {
	return func(r *http.Request) {
		r.Header.Set("Client-Cert", clientCert(leaf))
		for _, c := range chain {
			r.Header.Add("Client-Cert-Chain", clientCert(c))
		}
	}
}

// beside is the party at another hub. If external is not "", that is how it calls itself, wherever it listens.
func (p *party) beside(t *testing.T, s site, external string) *party {
	t.Helper()
	other := *p
	if external != "" {
		s.flags = append(slices.Clone(s.flags), "--external-url", external)
	}
	other.hub = start(t, s)
	other.url = "http://" + other.address
	if other.site = s; s.database == "" { // else it is one more replica, where p.owner is the owner
		other.owner = owner(t, s, other.hub)
	}
	return &other
}

// replica is one more process on the database of p, with its name; nil with SQLite, of which there is only one.
func (p *party) replica(t *testing.T) *party {
	t.Helper()
	if p.site.database == "" {
		return nil
	}
	return p.beside(t, p.site.replica(t), p.url)
}

// mute is a server that takes connections, which it counts, and says nothing.
func mute(t *testing.T) (port string, asked *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			asked.Add(1)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
	})
	return fmt.Sprint(":", listener.Addr().(*net.TCPAddr).Port), asked
}

// authority issues certificates for clients.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) *authority { return (&authority{}).below(t) }

// below is an authority with a certificate of a; of its own if a is none.
func (a *authority) below(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate == nil {
		a = &authority{key: key}
	}
	name := pkix.Name{CommonName: "authority " + rand.Text()}
	return &authority{key, a.issue(t, &x509.Certificate{Subject: name, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key)}
}

// selfSigned is a certificate of nobody but itself.
func selfSigned(t *testing.T) *x509.Certificate {
	t.Helper()
	key := newKey(t, "ES256").private.(*ecdsa.PrivateKey)
	return (&authority{key: key}).issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "app"}}, key)
}

// issue makes a certificate for key; template says what is in it. Without dates it is good for two hours around now.
func (a *authority) issue(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent := template
	if a.certificate != nil {
		parent = a.certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
