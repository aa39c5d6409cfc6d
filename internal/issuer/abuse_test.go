package issuer_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
)

// A client id that no database takes for text is that of an unknown client.
func TestClientIDNotText(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		unknown := h.post(grantBody, basic("nobody", "x"))
		for _, id := range []string{"\xff", "a\x00b", "\x00"} {
			if got := h.post(grantBody, basic(id, "x")); got.status != 401 || got.body != unknown.body {
				t.Errorf("%q: %d %s", id, got.status, got.body)
			}
		}
		if got := h.post(grantBody + "&client_id=a%00b&client_secret=x"); got.status != 401 || got.body != unknown.body {
			t.Errorf("in the body: %d %s", got.status, got.body)
		}
	})
}

// Tokens that are made up are refused without a look once their address has shown too many. Good ones pass all the time, in
// memory or not, and of those whose key nobody knows, the keys are not read again each time.
func TestForgedTokens(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		good := h.token(h.client("app", "application home"))
		refused, asked := 0, 0
		for range 200 {
			if got := h.me("Bearer " + issuer.Forge()); got.status != 401 {
				t.Fatalf("of an unknown key: %d", got.status)
			}
			switch got := h.me("Bearer " + issuer.ForgeLike(good)); got.status {
			case http.StatusUnauthorized:
				asked++
			case http.StatusTooManyRequests:
				refused++
			default:
				t.Fatal(got.status)
			}
			if asked%10 == 0 {
				h.ForgetSessions()
			}
			if got := h.me("Bearer " + good); got.status != 200 {
				t.Fatalf("a good token: %d", got.status)
			}
		}
		if asked < 60 || refused == 0 {
			t.Errorf("%d asked, %d refused", asked, refused)
		}
		r, _ := http.NewRequest("GET", "/me", nil)
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Set("Authorization", "Bearer "+issuer.ForgeLike(good))
		_, err := h.Authenticate(r)
		if e, ok := err.(*grantway.Error); !ok || e.Code != grantway.RateLimited || e.RetryAt.IsZero() {
			t.Errorf("got %v", err)
		}
		r.RemoteAddr = "192.0.2.7:1"
		if _, err := h.Authenticate(r); code(err) != grantway.Unauthenticated {
			t.Errorf("another address: %v", err)
		}
	})
}

// A proxy on this machine that is not trusted does not make http from elsewhere safe.
func TestS02Relayed(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application *")
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Via", "X-Real-IP"} {
			if got := h.post(grantBody, basic(c.ID, c.Secret), header(name, "https")); got.status != 400 {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
	})
}

// What is pasted where a name belongs comes back nowhere.
func TestPastedSecret(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		designer := access.Caller{ID: "client_d", Name: "d", Kind: access.Client, Roles: assignments("designer home")}
		for _, pasted := range []string{c.Secret, issuer.Forge(), "not a name"} {
			for _, who := range []access.Caller{owner, designer} {
				_, err1 := h.Client(t.Context(), who, pasted)
				_, err2 := h.ResetSecret(t.Context(), who, pasted, grantway.SecretReset{})
				_, err3 := h.CreateClient(t.Context(), who, grantway.OAuthClient{Name: pasted, Roles: assignments("application home")})
				for _, err := range []error{err1, err2, err3, h.DeleteClient(t.Context(), who, pasted)} {
					if err == nil || strings.Contains(err.Error(), pasted) {
						t.Errorf("got %v", err)
					}
				}
			}
			var n int
			err := h.store.Read().QueryRowContext(t.Context(), `SELECT count(*) FROM audit WHERE object LIKE $1`, "%"+pasted+"%").Scan(&n)
			if err != nil || n != 0 {
				t.Errorf("%d rows of the audit trail hold it, %v", n, err)
			}
		}
	})
}
