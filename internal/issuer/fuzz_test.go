package issuer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/store/storetest"
)

// FuzzTokenRequest: whatever comes, the answer is well-formed, repeats nothing, and is not
// a token.
func FuzzTokenRequest(f *testing.F) {
	h := start(f, storetest.Open(f, storetest.SQLite(f)), newKey(f))
	c := h.client("app", "application home")
	for _, seed := range [][3]string{
		{grantBody, "Basic " + base64Of(c.ID+":x"), "application/x-www-form-urlencoded"},
		{grantBody + "&client_id=" + c.ID + "&client_secret=gws_x", "", "application/x-www-form-urlencoded; charset=utf-8"},
		{grantBody + "&scope=a+b&scope=%zz&resource=a&resource=b", "Basic Og==", "application/x-www-form-urlencoded"},
		{"&&==&%00=%ff&grant_type", "basic  x", "application/x-www-form-urlencoded"},
		{"{}", "Bearer x", "application/json"},
	} {
		f.Add(seed[0], seed[1], seed[2], "")
	}
	f.Add(grantBody, "", "application/x-www-form-urlencoded", "client%5fsecret=1;x")
	handler := h.Handler()
	f.Fuzz(func(t *testing.T, body, authorization, kind, query string) {
		r, w := newRequest(body), newRecorder()
		r.Header.Set("Content-Type", kind)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		r.URL.RawQuery = query
		handler.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusTooManyRequests:
		default:
			t.Errorf("status %d", w.Code)
		}
		var reply map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil || reply["error"] == "" || reply["access_token"] != nil {
			t.Errorf("%v: %s", err, w.Body)
		}
		checkDescription(t, reply)
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Error("may be cached")
		}
	})
}

// FuzzAuthorization: no header but that with a token of ours passes.
func FuzzAuthorization(f *testing.F) {
	h := start(f, storetest.Open(f, storetest.SQLite(f)), newKey(f))
	token := h.token(h.client("app", "application home"))
	for _, seed := range []string{"", "Bearer", "bearer  x", "Bearer " + token[:len(token)-1], "Bearer gwt_" + strings.Repeat("a", 49), "Basic Og=="} {
		f.Add(seed, "")
	}
	f.Add("Bearer x", "access_token=x")
	f.Add("Bearer x", "%61ccess_token=x;y")
	var n atomic.Uint32
	f.Fuzz(func(t *testing.T, authorization, query string) {
		if strings.Contains(authorization, token) {
			return
		}
		r, k := newRequest(""), n.Add(1)
		r.Header.Set("Test-From", fmt.Sprintf("10.%d.%d.%d", k>>16&255, k>>8&255, k&255)) // who guesses at one address has to wait
		r.Header.Set("Test-Proto", "https")
		r.Header.Set("Authorization", authorization)
		r.URL.RawQuery = query
		who, err := h.Authenticate(r)
		if c := code(err); who.ID != "" || c != grantway.Unauthenticated && c != grantway.Malformed {
			t.Errorf("%+v, %v", who, err)
		}
		if challenge := issuer.Challenge(err); !strings.HasPrefix(challenge, `Bearer realm="grantway"`) {
			t.Errorf("challenge %q", challenge)
		}
	})
}

// FuzzAssertion: no assertion passes but one that the client's key has signed.
func FuzzAssertion(f *testing.F) {
	h := start(f, storetest.Open(f, storetest.SQLite(f)), newKey(f))
	k := newKeyPair(jose.ES256, "k")
	c := h.make(settings(grantway.ClientSettings{AuthMethod: grantway.AuthPrivateKeyJWT, JWKS: jwks(k)}))
	good := h.assertion(c)
	for _, seed := range []string{k.sign(good.with("exp", 1), nil), k.sign(good.with("aud", []string{}), nil), k.sign(good.with("iss", 1), nil), unsigned(good),
		newKeyPair(jose.EdDSA, "k").sign(good, nil), "..", "eyJhbGciOiJFZDI1NTE5In0..", "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsiYjY0Il0sImI2NCI6ZmFsc2V9.x.y"} {
		f.Add(seed)
	}
	handler := h.Handler()
	f.Fuzz(func(t *testing.T, jwt string) {
		r, w := newRequest(grantBody+"&"+url.Values{"client_id": {c.ID}, "client_assertion_type": {assertionKind}, "client_assertion": {jwt}}.Encode()), newRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized && w.Code != http.StatusTooManyRequests && w.Code != http.StatusBadRequest {
			t.Errorf("status %d %s", w.Code, w.Body)
		}
	})
}

// FuzzProof: no proof passes but one that its key has signed, for this request and now.
func FuzzProof(f *testing.F) {
	h := start(f, storetest.Open(f, storetest.SQLite(f)), newKey(f))
	c := h.client("app", "application home")
	k := newKeyPair(jose.ES256, "")
	for _, seed := range []string{h.proof(k, "POST", "/oauth/token", "", "", "iat", 1), k.prove(claims{}, "dpop+jwt"), k.prove(claims{"jti": 1, "iat": "x"}, "dpop+jwt"), "x", "..",
		"eyJhbGciOiJFZDI1NTE5IiwidHlwIjoiZHBvcCtqd3QiLCJqd2siOnt9fQ.e30."} {
		f.Add(seed)
	}
	handler := h.Handler()
	f.Fuzz(func(t *testing.T, proof string) {
		r, w := newRequest(grantBody), newRecorder()
		basic(c.ID, c.Secret)(r)
		r.Header["Dpop"] = []string{proof}
		handler.ServeHTTP(w, r)
		var reply map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil || w.Code != http.StatusBadRequest {
			t.Errorf("status %d %s", w.Code, w.Body)
		}
		checkDescription(t, reply)
	})
}

// FuzzJWT: no access token passes that the hub did not sign.
func FuzzJWT(f *testing.F) {
	h := start(f, storetest.Open(f, storetest.SQLite(f)), newKey(f))
	token := h.token(h.make(settings(grantway.ClientSettings{TokenFormat: grantway.FormatJWT})))
	parts := strings.Split(token, ".")
	for _, seed := range []string{parts[0] + "." + parts[1] + ".", parts[0] + ".e30." + parts[2], "eyJ..", "eyJhbGciOiJub25lIn0.e30."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, jwt string) {
		if jwt == token {
			return
		}
		r := newRequest("")
		r.Header.Set("Authorization", "Bearer "+jwt)
		if who, err := h.Authenticate(r); err == nil {
			t.Errorf("%q is %+v", jwt, who)
		}
	})
}
