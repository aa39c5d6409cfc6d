package issuer_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

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
	f.Fuzz(func(t *testing.T, authorization, query string) {
		if strings.Contains(authorization, token) {
			return
		}
		r := newRequest("")
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
