package issuer_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/store/storetest"
)

// The lines R01 to R03 of the checklist for a protected resource, over HTTP.

// RFC 6750 section 2: one token, in the header.
func TestR01Bearer(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		token := h.token(c)
		for _, good := range []string{"Bearer " + token, "bearer " + token, "BEARER   " + token} {
			if got := h.me(good); got.status != 200 || got.body != c.ID {
				t.Errorf("%s: %d %s", good[:10], got.status, got.body)
			}
		}
		query := func(query string) edit { return func(r *http.Request) { r.URL.RawQuery = query } }
		twice := func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+token) }
		for name, got := range map[string]reply{
			"query":            h.me("", query("access_token="+token)),
			"encoded query":    h.me("", query("a=b&%61ccess_token="+token)),
			"query and header": h.me("Bearer "+token, query("access_token="+token)),
			"two headers":      h.me("Bearer "+token, twice),
			"no token":         h.me("Bearer"),
			"empty token":      h.me("Bearer  "),
		} {
			if got.status != 400 || got.header.Get("WWW-Authenticate") != `Bearer realm="grantway", error="invalid_request"` {
				t.Errorf("%s: %d %q", name, got.status, got.header.Get("WWW-Authenticate"))
			}
		}
		if got := h.me("Bearer "+token, query("access=1&token=2&q=%61")); got.status != 200 {
			t.Errorf("another query: %d", got.status)
		}
	})
}

// RFC 6750 section 3.1: no error code for who brings no token.
func TestR02Challenge(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		for _, authorization := range []string{"", "Basic " + base64Of(c.ID+":"+c.Secret), "x"} {
			got := h.me(authorization)
			if got.status != 401 || got.header.Get("WWW-Authenticate") != `Bearer realm="grantway"` {
				t.Errorf("%q: %d %q", authorization, got.status, got.header.Get("WWW-Authenticate"))
			}
		}
	})
}

// RFC 6750 section 3.1.
func TestR03Codes(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c, designer := h.client("app", "application home"), h.client("designer", "designer home")
		off, deleted := h.client("off", "application home"), h.client("deleted", "application home")
		token, offToken, deletedToken := h.token(c), h.token(off), h.token(deleted)
		for _, token := range []string{offToken, deletedToken} {
			if got := h.me("Bearer " + token); got.status != 200 {
				t.Fatal(got.status)
			}
		}
		ok(t, h.SetActive(t.Context(), owner, off.ID, false))
		ok(t, h.DeleteClient(t.Context(), owner, deleted.ID))
		for name, bad := range map[string]string{
			"unknown": "gwt_unknown", "cut": token[:len(token)-1], "changed": token[:len(token)-1] + "_", "two": token + " " + token,
			"a secret": c.Secret, "JWT": "eyJhbGciOiJub25lIn0.e30.", "long": strings.Repeat("x", 10000),
			"off": offToken, "deleted": deletedToken,
		} {
			got := h.me("Bearer " + bad)
			if got.status != 401 || got.header.Get("WWW-Authenticate") != `Bearer realm="grantway", error="invalid_token"` {
				t.Errorf("%s: %d %q", name, got.status, got.header.Get("WWW-Authenticate"))
			}
		}
		got := h.me("Bearer " + h.token(designer))
		if got.status != 403 || got.header.Get("WWW-Authenticate") != `Bearer realm="grantway", error="insufficient_scope", scope="credential.use"` {
			t.Errorf("not allowed: %d %q", got.status, got.header.Get("WWW-Authenticate"))
		}
		ok(t, h.SetActive(t.Context(), owner, off.ID, true))
		if got := h.me("Bearer " + offToken); got.status != 200 {
			t.Errorf("on again: %d", got.status)
		}
	})
	if got := issuer.Challenge(errors.New("other")); got != "" {
		t.Errorf("challenge for any error: %q", got)
	}
	if got := issuer.Challenge(grantway.Errorf(grantway.Malformed, "not JSON")); got != "" {
		t.Errorf("challenge for a bad body: %q", got)
	}
}

// A token ends on time, in memory or not.
func TestTokenExpires(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		h.exec(c.ID, `UPDATE client SET token_seconds = 300 WHERE id = $1`, c.ID)
		token := h.token(c)
		issued := time.Now()
		r := newRequest("")
		r.Header.Set("Authorization", "Bearer "+token)
		if _, err := h.Authenticate(r); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) { // in here time stands at the year 2000
			time.Sleep(time.Until(issued.Add(299 * time.Second)))
			if _, err := h.Authenticate(r); err != nil {
				t.Errorf("a second before: %v", err)
			}
			time.Sleep(2 * time.Second)
			if _, err := h.Authenticate(r); code(err) != grantway.Unauthenticated {
				t.Errorf("a second after: %v", err)
			}
			h.ForgetSessions()
			if _, err := h.Authenticate(r); code(err) != grantway.Unauthenticated {
				t.Errorf("when it is not in memory: %v", err)
			}
		})
	})
}

// An opaque token of which one character is another is none, although its checksum is right.
func TestOpaqueTokenTampered(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		token := h.token(h.client("app", "application home"))
		body := token[:len(token)-6]
		if issuer.Checked(body) != token {
			t.Fatal("the checksum is another one")
		}
		for n := len("gwt_"); n < len(body); n++ {
			with := "A"
			if body[n] == 'A' {
				with = "B"
			}
			changed := issuer.Checked(body[:n] + with + body[n+1:])
			got := h.me("Bearer "+changed, header("Test-From", fmt.Sprintf("192.0.2.%d", n)), header("Test-Proto", "https"))
			if got.status != 401 {
				t.Errorf("character %d: %d %s", n, got.status, got.body)
			}
		}
		for _, body := range []string{"gwt_", body[:20], body[:21], body[:len(body)-43], body + "AAAA"} {
			if got := h.me("Bearer " + issuer.Checked(body)); got.status != 401 {
				t.Errorf("%s: %d %s", body, got.status, got.body)
			}
		}
	})
}

// What a token may do follows the roles of its client at once.
func TestRolesChange(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.client("other-owner", "owner *") // the last owner cannot be changed
		c := h.client("app", "application home")
		token := h.token(c)
		for _, test := range []struct {
			roles string
			want  int
		}{{"designer home", 403}, {"owner *", 200}, {"application home", 200}} {
			c.Roles, c.Version = assignments(test.roles), 0
			_, err := h.UpdateClient(t.Context(), owner, c)
			ok(t, err)
			if got := h.me("Bearer " + token); got.status != test.want {
				t.Errorf("%s: %d", test.roles, got.status)
			}
		}
	})
}

func TestAuthenticateAllocatesNothing(t *testing.T) {
	h := start(t, storetest.Open(t, storetest.SQLite(t)), newKey(t))
	c := h.client("app", "application home")
	r := newRequest("")
	r.Header.Set("Authorization", "Bearer "+h.token(c))
	if n := testing.AllocsPerRun(100, func() {
		if who, err := h.Authenticate(r); err != nil || who.ID != c.ID || who.Kind != access.Client {
			t.Fatal(who, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
