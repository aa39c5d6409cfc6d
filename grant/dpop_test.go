package grant_test

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// wantNonce demands a DPoP nonce.
func wantNonce(nonce string) grantwaytest.Reply {
	return withNonce(nonce, grantwaytest.OAuthError(400, "use_dpop_nonce", "a nonce is needed"))
}

// withNonce sends a DPoP nonce with another reply.
func withNonce(nonce string, reply grantwaytest.Reply) grantwaytest.Reply {
	return func(w http.ResponseWriter, r *http.Request, healthy http.HandlerFunc) {
		w.Header().Set("DPoP-Nonce", nonce)
		reply(w, r, healthy)
	}
}

// proofOf returns header and claims of r's only DPoP proof.
func proofOf(t *testing.T, r *grantwaytest.Request) (header, claims map[string]any) {
	t.Helper()
	if n := len(r.Header.Values("DPoP")); n != 1 {
		t.Fatalf("%d DPoP headers", n)
	}
	return decodeJWT(t, r.Header.Get("DPoP"))
}

func TestC32_Proof(t *testing.T) {
	for _, alg := range []string{"ES256", "ES384", "ES512", "EdDSA", "RS256"} {
		private := generate(t, alg)
		k, err := grant.ParseDPoPKey(pkcs8(t, private))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		proof, err := k.Proof("POST", "HTTPS://AS.Example:443/a%2Fb?c=d#e", "", "")
		if err != nil {
			t.Fatal(err)
		}
		header, claims := decodeJWT(t, proof)
		public, _ := json.Marshal(jose.JSONWebKey{Key: private.Public()})
		var jwk map[string]any
		if err := json.Unmarshal(public, &jwk); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(map[string]any{"typ": "dpop+jwt", "alg": alg, "jwk": jwk}, header); d != "" {
			t.Error(d)
		}
		if iat := int64(claims["iat"].(float64)); len(claims["jti"].(string)) < 22 || iat < start.Unix() || iat > time.Now().Unix() {
			t.Errorf("claims %v", claims)
		}
		delete(claims, "jti")
		delete(claims, "iat")
		if d := cmp.Diff(map[string]any{"htm": "POST", "htu": "https://as.example/a%2Fb"}, claims); d != "" {
			t.Error(d)
		}
		jws, err := jose.ParseSignedCompact(proof, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
		if err == nil {
			_, err = jws.Verify(private.Public())
		}
		if err != nil {
			t.Error(err)
		}
	}

	k, v := newDPoPKey(t), readVectors(t)
	proof, err := k.Proof("GET", "https://api.example", "n", v.AccessToken)
	if err != nil {
		t.Fatal(err)
	}
	if _, claims := decodeJWT(t, proof); claims["ath"] != v.ATH || claims["nonce"] != "n" || claims["htu"] != "https://api.example/" {
		t.Errorf("claims %v", claims)
	}
	if _, err := k.Proof("GET", "/relative", "", ""); err == nil {
		t.Error("a relative URL was taken")
	}

	b, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := grant.ParseDPoPKey(b)
	if err != nil || again.Thumbprint() != k.Thumbprint() || again.Algorithm() != "ES256" {
		t.Errorf("%v, %v", again, err)
	}
}

// TestRFCVectors checks the examples of RFC 9449, 7638 and 8705 against each other, and
// our thumbprints and hashes against them.
func TestRFCVectors(t *testing.T) {
	v := readVectors(t)
	for proof, want := range map[string]map[string]any{
		v.Proof:        {"htm": "POST", "htu": "https://server.example.com/token"},
		v.ProofWithATH: {"htm": "GET", "htu": "https://resource.example.org/protectedresource", "ath": v.ATH},
	} {
		jws, err := jose.ParseSignedCompact(proof, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		key := jws.Signatures[0].Header.JSONWebKey
		if _, err := jws.Verify(key); err != nil {
			t.Error(err)
		}
		if sum, err := key.Thumbprint(crypto.SHA256); err != nil || base64.RawURLEncoding.EncodeToString(sum) != v.JKT {
			t.Errorf("thumbprint %x, %v", sum, err)
		}
		_, claims := decodeJWT(t, proof)
		for name, value := range want {
			if claims[name] != value {
				t.Errorf("%s is %v", name, claims[name])
			}
		}
	}
	if got := (&grant.Token{AccessToken: v.AccessToken}).Fingerprint(); got != v.ATH {
		t.Errorf("fingerprint %s, want %s", got, v.ATH)
	}
	var k jose.JSONWebKey // of RFC 7638 section 3.1
	if err := json.Unmarshal([]byte(`{"kty":"RSA","e":"AQAB","alg":"RS256","kid":"2011-04-29","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}`), &k); err != nil {
		t.Fatal(err)
	}
	if sum, err := k.Thumbprint(crypto.SHA256); err != nil || base64.RawURLEncoding.EncodeToString(sum) != v.Thumbprint {
		t.Errorf("thumbprint %x, %v", sum, err)
	}
}

func TestC33_NewProofEachTry(t *testing.T) {
	p, c := start(t)
	p.Token.Next(wantNonce("n1"))
	r := newRequest(p)
	r.DPoP = newDPoPKey(t)
	for range 2 { // the healthy provider takes no proof twice, either
		token, err := c.Token(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if token.Type != "DPoP" || token.DPoP != r.DPoP {
			t.Errorf("got %+v", token)
		}
	}
	seen := map[any]bool{}
	for _, request := range p.Token.Requests() {
		_, claims := proofOf(t, request)
		seen[claims["jti"]] = true
		if claims["ath"] != nil {
			t.Error("an ath at the token endpoint")
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d proofs in 3 tries", len(seen))
	}
}

func TestC34_Nonce(t *testing.T) {
	p, c := start(t)
	p.Token.Next(wantNonce("n1"), withNonce("n2", grantwaytest.Healthy()), grantwaytest.Healthy())
	r := newRequest(p)
	r.DPoP = newDPoPKey(t)
	ask := func() error { _, err := c.Token(t.Context(), r); return err }
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	// A server that is never content is asked twice, one with no nonce to offer once.
	p.Token.Next(wantNonce("n3"), wantNonce("n4"))
	if e := failed(t, ask()); e.Code != "use_dpop_nonce" || e.Class != grant.Temporary {
		t.Errorf("%s %v", e.Class, e)
	}
	p.Token.Next(grantwaytest.OAuthError(400, "use_dpop_nonce", ""))
	failed(t, ask())
	// A 401 will do as well as a 400, and other errors are not tried again.
	p.Token.Next(withNonce("n5", grantwaytest.OAuthError(401, "use_dpop_nonce", "")), grantwaytest.Healthy())
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	p.Token.Next(withNonce("n6", grantwaytest.OAuthError(401, "invalid_client", "")))
	failed(t, ask())
	p.Token.Next(withNonce("bad nonce\u00e9", grantwaytest.Healthy()), grantwaytest.Healthy())
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	var got []any
	for _, request := range p.Token.Requests() {
		_, claims := proofOf(t, request)
		got = append(got, claims["nonce"])
	}
	want := []any{nil, "n1", "n2", "n2", "n3", "n4", "n4", "n5", "n5", "n6", "n6"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	// A nonce is not for another server.
	other, _ := start(t)
	r = newRequest(other)
	r.DPoP = newDPoPKey(t)
	both := &grant.Client{Transport: c.Transport}
	both.Transport.TLSClientConfig.InsecureSkipVerify = true
	t.Cleanup(both.CloseIdleConnections)
	p.Token.Next(withNonce("n7", grantwaytest.Healthy()))
	first := newRequest(p)
	first.DPoP = r.DPoP
	for _, request := range []*grant.Request{first, r} {
		if _, err := both.Token(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if _, claims := proofOf(t, other.Token.Requests()[0]); claims["nonce"] != nil {
		t.Errorf("nonce %v of another server", claims["nonce"])
	}
}

func TestC35_UnboundTokenDiscarded(t *testing.T) {
	token, err := answered(t, body(`{"access_token":"canary","token_type":"Bearer"}`), func(r *grant.Request) { r.DPoP = newDPoPKey(t) })
	if e := failed(t, err); token != nil || e.Class != grant.Permanent || !strings.Contains(e.Message, "not bound") || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v, %v", token, err)
	}
	token, err = answered(t, body(`{"access_token":"t","token_type":"dpop"}`), func(r *grant.Request) { r.DPoP = newDPoPKey(t) })
	if err != nil || token.Type != "DPoP" {
		t.Errorf("%v, %v", token, err)
	}
}

// TestC36_Presentation uses tokens of both kinds at an API that checks everything.
func TestC36_Presentation(t *testing.T) {
	for scheme, key := range map[string]*grant.DPoPKey{"Bearer": nil, "DPoP": newDPoPKey(t)} {
		p, c := start(t)
		r := newRequest(p)
		r.DPoP = key
		transport, base := newTransport(t, p, c, r)
		client := &http.Client{Transport: transport}
		resp, err := client.Get(p.API.URL + "mail?top=3")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got := p.API.Requests()[0]
		value, _ := strings.CutPrefix(got.Header.Get("Authorization"), scheme+" ")
		if resp.StatusCode != 200 || value != p.Tokens()[0] || len(got.Query) != 1 {
			t.Errorf("%s: status %d, header %v", scheme, resp.StatusCode, got.Header)
		}
		if key != nil {
			if _, claims := proofOf(t, got); claims["htu"] != p.API.URL+"mail" || claims["htm"] != "GET" {
				t.Errorf("claims %v", claims)
			}
		} else if got.Header.Get("DPoP") != "" {
			t.Error("a proof with a bearer token")
		}
		if _, err := client.Get(p.API.URL + "?access_token=x"); err == nil {
			t.Error("two methods in one request")
		}
		base.CloseIdleConnections()
	}
}
