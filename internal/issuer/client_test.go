package issuer_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

func caller(roles ...string) access.Caller {
	return access.Caller{ID: "client_tester", Name: "tester", Kind: access.Client, Roles: assignments(roles...)}
}

func (h *hub) division(names ...string) {
	h.t.Helper()
	for _, name := range names {
		ok(h.t, access.NewDivisions(h.store, h.audit).Create(h.t.Context(), owner, grantway.Division{Name: name}))
	}
}

func TestClientLifecycle(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.division("sales")
		who := caller("owner *")
		made, err := h.CreateClient(t.Context(), who, grantway.OAuthClient{ID: "mine", Name: "App", Description: "d",
			Roles: assignments("designer ", "application sales", "auditor *")})
		ok(t, err)
		want := grantway.OAuthClient{Name: "App", Description: "d", Roles: assignments("application sales", "auditor *", "designer home"),
			State: "active", Version: 1, SecretExpiresAt: new(int64), ClientSettings: grantway.ClientSettings{
				GrantType: "client_credentials", AuthMethod: "client_secret_basic", TokenSeconds: 86400, TokenFormat: "opaque"}}
		if diff := cmp.Diff(want, made, cmpopts.IgnoreFields(grantway.OAuthClient{}, "ID", "Secret", "CreatedAt"), cmpopts.SortSlices(byRole)); diff != "" {
			t.Error(diff)
		}
		if !strings.HasPrefix(made.ID, "client_") || !strings.HasPrefix(made.Secret, "gws_") || made.CreatedAt.IsZero() {
			t.Errorf("got %+v", made)
		}
		want = made
		want.Secret, want.SecretExpiresAt = "", nil // shown once
		for _, ref := range []string{made.ID, "App", "aPP"} {
			got, err := h.Client(t.Context(), who, ref)
			ok(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", ref, diff)
			}
			got.Roles[0] = grantway.Assignment{} // ours to change
		}

		changed := made
		changed.Name, changed.Description, changed.Roles = "app2", "", assignments("auditor *")
		got, err := h.UpdateClient(t.Context(), who, changed)
		ok(t, err)
		changed.Secret, changed.SecretExpiresAt, changed.Version = "", nil, 2
		if diff := cmp.Diff(changed, got); diff != "" {
			t.Error(diff)
		}
		h.post(grantBody, basic(made.ID, made.Secret)).want(t, 200, "") // an update keeps the secret

		reset, err := h.ResetSecret(t.Context(), who, made.ID, grantway.SecretReset{})
		ok(t, err)
		if reset.Secret == made.Secret || reset.Name != "app2" {
			t.Errorf("got %+v", reset)
		}
		h.post(grantBody, basic(made.ID, made.Secret)).want(t, 401, "invalid_client")
		h.post(grantBody, basic(made.ID, reset.Secret)).want(t, 200, "")

		ok(t, h.SetActive(t.Context(), who, made.ID, false))
		ok(t, h.SetActive(t.Context(), who, made.ID, true))
		ok(t, h.DeleteClient(t.Context(), who, made.ID))
		for _, err := range []error{
			errOf(h.Client(t.Context(), who, made.ID)), errOf(h.Client(t.Context(), who, "app2")), errOf(h.UpdateClient(t.Context(), who, changed)),
			errOf(h.ResetSecret(t.Context(), who, made.ID, grantway.SecretReset{})), h.SetActive(t.Context(), who, made.ID, true), h.DeleteClient(t.Context(), who, made.ID),
			h.DeleteClient(t.Context(), who, ""),
		} {
			if code(err) != grantway.NotFound {
				t.Errorf("after the deletion: %v", err)
			}
		}
		h.client("app2", "designer home") // the name is free

		var trail []string
		for _, e := range h.trail("client.") {
			if e.Caller == who.ID {
				trail = append(trail, e.Action+" "+e.Object+" "+strings.Join(e.Fields, "+"))
			}
		}
		if diff := cmp.Diff([]string{
			"client.delete client/app2 ", "client.activate client/app2 ", "client.deactivate client/app2 ", "client.reset_secret client/app2 ",
			"client.update client/App description+name+roles", "client.create client/App client_secret+description+name+roles",
		}, trail); diff != "" {
			t.Error(diff)
		}
	})
}

func byRole(a, b grantway.Assignment) bool { return a.Role < b.Role }

func errOf(_ grantway.OAuthClient, err error) error { return err }

// Every wrong field is named, and nothing is saved.
func TestClientInvalid(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		c := h.client("app", "application home")
		bad := grantway.OAuthClient{ID: c.ID, Name: "a b", Description: "\x00", Roles: assignments(
			"superuser home", "designer nowhere", "designer home", "designer ", " home")}
		_, create := h.CreateClient(t.Context(), owner, bad)
		_, update := h.UpdateClient(t.Context(), owner, bad)
		for _, err := range []error{create, update} {
			e, _ := err.(*grantway.Error)
			if e == nil || e.Code != grantway.Invalid {
				t.Fatalf("got %v", err)
			}
			var pointers []string
			for _, f := range e.Fields {
				pointers = append(pointers, f.Pointer)
			}
			if got := strings.Join(pointers, " "); got != "/name /description /roles/0/role /roles/1/division /roles/3 /roles/4/role" {
				t.Errorf("fields %s", got)
			}
		}
		if _, err := h.CreateClient(t.Context(), owner, grantway.OAuthClient{Name: "none"}); code(err) != grantway.Invalid || !strings.Contains(err.Error(), "roles") {
			t.Errorf("got %v", err)
		}
		_, err := h.CreateClient(t.Context(), owner, grantway.OAuthClient{Name: "APP", Roles: assignments("designer home")})
		if code(err) != grantway.Conflict {
			t.Errorf("got %v", err)
		}
		other := h.client("other", "designer home")
		other.Name = "aPP"
		if _, err := h.UpdateClient(t.Context(), owner, other); code(err) != grantway.Conflict {
			t.Errorf("got %v", err)
		}
		if n := h.count(`SELECT count(*) FROM client`); n != 2 {
			t.Errorf("%d clients", n)
		}
		if got, err := h.Client(t.Context(), owner, c.ID); err != nil || got.Name != "app" || len(got.Roles) != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// One may assign only what one holds, and change only those who hold no more (G-4).
func TestClientRefused(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.division("sales")
		admin := caller("administrator sales", "designer home")
		for _, roles := range []string{"owner sales", "application home", "application *", "designer home"} {
			_, err := h.CreateClient(t.Context(), admin, grantway.OAuthClient{Name: "x", Roles: assignments("application sales", roles)})
			if code(err) != grantway.Forbidden {
				t.Errorf("%s granted: %v", roles, err)
			}
		}
		for _, role := range []string{"administrator", "designer", "auditor", "application"} {
			_, err := h.CreateClient(t.Context(), admin, grantway.OAuthClient{Name: role, Roles: assignments(role + " sales")})
			ok(t, err)
		}
		mine := h.client("mine", "application sales")
		mine.Roles = assignments("owner sales")
		if _, err := h.UpdateClient(t.Context(), admin, mine); code(err) != grantway.Forbidden {
			t.Errorf("raised: %v", err)
		}

		for _, c := range []grantway.OAuthClient{h.client("mightier", "owner sales"), h.client("wider", "application sales", "application home")} {
			if _, err := h.Client(t.Context(), admin, c.ID); err != nil {
				t.Errorf("%s is in a division of the administrator: %v", c.Name, err)
			}
			c.Roles = assignments("designer sales")
			for what, err := range map[string]error{
				"update": errOf(h.UpdateClient(t.Context(), admin, c)), "reset": errOf(h.ResetSecret(t.Context(), admin, c.ID, grantway.SecretReset{})),
				"delete": h.DeleteClient(t.Context(), admin, c.ID), "off": h.SetActive(t.Context(), admin, c.ID, false),
			} {
				if code(err) != grantway.Forbidden {
					t.Errorf("%s of %s: %v", what, c.Name, err)
				}
			}
			h.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
		}
		hidden := h.client("hidden", "application home")
		for what, err := range map[string]error{
			"read": errOf(h.Client(t.Context(), admin, hidden.ID)), "delete": h.DeleteClient(t.Context(), admin, hidden.ID),
		} {
			if code(err) != grantway.NotFound {
				t.Errorf("%s of a client of another division: %v", what, err)
			}
		}

		for _, who := range []access.Caller{caller("designer *"), caller("application *"), caller("auditor *"), {}} {
			for what, err := range map[string]error{
				"create": errOf(h.CreateClient(t.Context(), who, grantway.OAuthClient{Name: "y", Roles: assignments("designer home")})),
				"delete": h.DeleteClient(t.Context(), who, mine.ID), "reset": errOf(h.ResetSecret(t.Context(), who, mine.ID, grantway.SecretReset{})),
			} {
				if code(err) != grantway.Forbidden {
					t.Errorf("%s by %v: %v", what, who.Roles, err)
				}
			}
		}
		if _, err := h.Clients(t.Context(), caller("application *"), false, "", 0); code(err) != grantway.Forbidden {
			t.Errorf("list: %v", err)
		}

		denied := map[string]int{}
		for _, e := range h.trail("") {
			if e.Outcome == access.Denied {
				denied[e.Action+" "+e.Object]++
			}
		}
		for _, want := range []string{"client.create client/x", "client.update client/mine", "client.delete client/mightier", "client.reset_secret client/wider"} {
			if denied[want] == 0 {
				t.Errorf("no refusal of %s in %v", want, denied)
			}
		}
	})
}

func TestClientsList(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.division("sales")
		for _, name := range []string{"b", "D", "a", "C", "e"} {
			division := "home"
			if name < "D" {
				division = "sales"
			}
			h.client(name, "designer "+division)
		}
		names := func(who access.Caller, limit int) string {
			var all []string
			for cursor, more := "", true; more; more = cursor != "" {
				page, err := h.Clients(t.Context(), who, false, cursor, limit)
				ok(t, err)
				if len(page.Items) > limit {
					t.Fatalf("%d items", len(page.Items))
				}
				for _, c := range page.Items {
					all = append(all, c.Name)
					if c.Secret != "" {
						t.Error("a secret is shown")
					}
				}
				cursor = page.Next
			}
			return strings.Join(all, "")
		}
		for limit := 1; limit <= 6; limit++ {
			if got := names(owner, limit); got != "abCDe" {
				t.Errorf("pages of %d: %s", limit, got)
			}
			if got := names(caller("auditor sales"), limit); got != "C" {
				t.Errorf("pages of %d: %s", limit, got)
			}
		}
		if got := names(caller("auditor home"), 2); got != "abDe" {
			t.Errorf("got %s", got)
		}
		if _, err := h.Clients(t.Context(), owner, false, "*", 0); code(err) != grantway.Malformed {
			t.Errorf("got %v", err)
		}
	})
}

// A division with a client in it stays, also when nobody looked.
func TestClientKeepsDivision(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.division("sales")
		c := h.client("app", "application sales")
		d := access.NewDivisions(h.store, h.audit)
		if err := d.Delete(t.Context(), owner, "sales"); err == nil {
			t.Error("deleted")
		}
		d.Contents = h.Contents
		if err := d.Delete(t.Context(), owner, "sales"); code(err) != grantway.Conflict || !strings.Contains(err.Error(), "client app") {
			t.Errorf("got %v", err)
		}
		ok(t, h.DeleteClient(t.Context(), owner, c.ID))
		ok(t, d.Delete(t.Context(), owner, "sales"))
	})
}

// Two administrators cannot, together, do what neither may alone.
func TestConcurrentUpdates(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		c := a.client("app", "designer home")
		done := make(chan error, 20)
		for n := range 10 {
			go func() {
				_, err := a.UpdateClient(t.Context(), owner, grantway.OAuthClient{ID: c.ID, Name: "app", Roles: assignments([]string{"owner home", "designer home"}[n%2])})
				done <- err
			}()
			go func() {
				_, err := b.UpdateClient(t.Context(), caller("administrator home"), grantway.OAuthClient{ID: c.ID, Name: "app", Roles: assignments("auditor home")})
				if code(err) == grantway.Forbidden {
					err = nil
				}
				done <- err
			}()
		}
		for range 20 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, h := range []*hub{a, b} {
			ok(t, h.Reload(t.Context(), c.ID))
		}
		got, err := a.Client(t.Context(), owner, c.ID)
		ok(t, err)
		same, err := b.Client(t.Context(), owner, c.ID)
		ok(t, err)
		if diff := cmp.Diff(got, same); diff != "" || len(got.Roles) != 1 {
			t.Error(got.Roles, diff)
		}
	})
}
