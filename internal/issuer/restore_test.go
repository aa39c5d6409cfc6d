package issuer_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/store/storetest"
)

// TestRestore is G-5: a client that was deleted gets no token, and its tokens end, on each replica; for a week it
// can be restored with its secrets, if its name is free.
func TestRestore(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		b.URL = a.URL
		wait := b.heard()
		c := a.make(grantway.OAuthClient{Name: "app", ClientSettings: grantway.ClientSettings{TokenFormat: grantway.FormatJWT}})
		wait(1)
		token := a.token(c)
		if me := b.me("Bearer " + token); me.status != 200 {
			t.Fatalf("%d %s", me.status, me.body)
		}
		ok(t, a.DeleteClient(t.Context(), owner, c.ID))
		wait(1)
		for _, h := range []*hub{a, b} {
			h.post(grantBody, basic(c.ID, c.Secret)).want(t, 401, "invalid_client")
			if me := h.me("Bearer " + token); me.status != 401 {
				t.Errorf("its token: %d", me.status)
			}
			if _, err := h.Client(t.Context(), owner, c.ID); code(err) != grantway.NotFound {
				t.Errorf("it can be read: %v", err)
			}
		}
		if err := a.SetActive(t.Context(), owner, c.ID, true); code(err) != grantway.NotFound {
			t.Errorf("it can be changed: %v", err)
		}
		page, err := b.Clients(t.Context(), owner, true, "", 0)
		if err != nil || len(page.Items) != 1 || page.Items[0].ID != c.ID || page.Items[0].RestorableUntil.Sub(page.Items[0].DeletedAt) != 7*24*time.Hour {
			t.Errorf("%v %+v", err, page.Items)
		}

		taken := a.make(grantway.OAuthClient{Name: "App"}) // the name is free
		if _, err := a.RestoreClient(t.Context(), owner, c.ID); code(err) != grantway.Conflict {
			t.Errorf("restored beside another one of that name: %v", err)
		}
		ok(t, a.DeleteClient(t.Context(), owner, taken.ID))
		if _, err := a.RestoreClient(t.Context(), caller("auditor *"), c.ID); code(err) != grantway.Forbidden {
			t.Errorf("restored by an auditor: %v", err)
		}
		a.division("sales")
		seller := a.client("seller", "application sales")
		ok(t, a.DeleteClient(t.Context(), owner, seller.ID))
		a.run(`DELETE FROM division WHERE name = 'sales'`) // it is in nobody's way
		if _, err := a.RestoreClient(t.Context(), owner, seller.ID); code(err) != grantway.Conflict {
			t.Errorf("restored without its division: %v", err)
		}
		back, err := a.RestoreClient(t.Context(), owner, c.ID)
		if err != nil || back.Name != "app" || !back.DeletedAt.IsZero() || back.State != grantway.ClientActive || len(back.Roles) != len(c.Roles) {
			t.Fatalf("%v %+v", err, back)
		}
		for back.ID != "" { // however many changes b is told of
			if got, err := b.Client(t.Context(), owner, c.ID); err == nil && got.Version == back.Version {
				break
			}
			wait(1)
		}
		for _, h := range []*hub{a, b} {
			h.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
			if me := h.me("Bearer " + token); me.status != 401 {
				t.Errorf("a token from before: %d", me.status)
			}
		}
		if _, err := a.RestoreClient(t.Context(), owner, c.ID); code(err) != grantway.NotFound {
			t.Errorf("restored twice: %v", err)
		}

		// After a week it is gone for good.
		ok(t, a.Purge(t.Context(), time.Now().Add(6*24*time.Hour)))
		if page, err := a.Clients(t.Context(), owner, true, "", 0); err != nil || len(page.Items) != 2 {
			t.Errorf("after six days: %v %+v", err, page.Items)
		}
		ok(t, a.Purge(t.Context(), time.Now().Add(8*24*time.Hour)))
		if _, err := a.RestoreClient(t.Context(), owner, taken.ID); code(err) != grantway.NotFound {
			t.Errorf("restored after a week: %v", err)
		}
		if n := a.count(`SELECT count(*) FROM client WHERE id = $1`, taken.ID); n != 0 {
			t.Errorf("%d rows of it are left", n)
		}
		a.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
	})
}

// TestOAuthRequestsPerMinute: a client that asks too often has to wait, by itself; nobody else can make it.
func TestOAuthRequestsPerMinute(t *testing.T) {
	h := start(t, storetest.Open(t, storetest.SQLite(t)), newKey(t), func(o *issuer.Options) { o.OAuthRequestsPerMinute = 5 })
	c, other := h.client("app", "application home"), h.client("other", "application home")
	for range 20 { // somebody else, in its name
		h.post(grantBody, basic(c.ID, "gws_wrong"), header("X-Forwarded-For", "192.0.2.7"))
	}
	token := h.token(c)
	for range 2 {
		h.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
	}
	h.send("POST", "/oauth/introspect", "token="+token, basic(c.ID, c.Secret)).want(t, 200, "")
	h.send("POST", "/oauth/revoke", "token="+token, basic(c.ID, c.Secret)).want(t, 200, "")
	for path, body := range map[string]string{"/oauth/token": grantBody, "/oauth/introspect": "token=" + token, "/oauth/revoke": "token=" + token} {
		got := h.send("POST", path, body, basic(c.ID, c.Secret))
		if got.want(t, http.StatusTooManyRequests, "temporarily_unavailable"); got.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	h.post(grantBody, basic(other.ID, other.Secret)).want(t, 200, "")
}
