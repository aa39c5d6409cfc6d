package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
)

// names pages through a list of credentials and returns the names on each page.
func (c *caller) names(t *testing.T, limit string) (pages [][]string) {
	t.Helper()
	query := url.Values{}
	if limit != "" {
		query.Set("limit", limit)
	}
	for {
		var page grantway.Page[grantway.Credential]
		c.do(t, "GET", "/v1/credentials?"+query.Encode(), nil).want(t, http.StatusOK).into(t, &page)
		names := []string{}
		for _, one := range page.Items {
			names = append(names, one.Name)
		}
		pages = append(pages, names)
		if page.Next == "" {
			return pages
		}
		query.Set("cursor", page.Next)
	}
}

func lengths(pages [][]string) (n []int) {
	for _, page := range pages {
		n = append(n, len(page))
	}
	return n
}

// TestPaging goes through 250 credentials: each is there once, in the order of the names
// without regard to case, also while credentials come and go.
func TestPaging(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		var want []string
		for i := range 250 {
			name := fmt.Sprintf("app-%03d", i)
			if i%3 == 0 {
				name = strings.ToUpper(name)
			}
			want = append(want, name)
		}
		for _, name := range slices.Backward(want) {
			h.save(t, h.credential(name, nil))
		}
		for _, row := range []struct {
			limit string
			pages []int
		}{
			{"", []int{100, 100, 50}},
			{"125", []int{125, 125}},
			{"249", []int{249, 1}},
			{"250", []int{250}},
			{"1000", []int{250}},
		} {
			pages := h.owner.names(t, row.limit)
			if diff := cmp.Diff(row.pages, lengths(pages)); diff != "" {
				t.Errorf("limit %q, lengths of pages (-want +got):\n%s", row.limit, diff)
			}
			if diff := cmp.Diff(want, slices.Concat(pages...)); diff != "" {
				t.Errorf("limit %q (-want +got):\n%s", row.limit, diff)
			}
		}

		var first, second grantway.Page[grantway.Credential]
		h.owner.do(t, "GET", "/v1/credentials?limit=100", nil).want(t, http.StatusOK).into(t, &first)
		h.owner.do(t, "DELETE", "/v1/credentials/app-099", nil).want(t, http.StatusNoContent) // the last one of the page
		h.save(t, h.credential("app-000-b", nil))                                             // before the cursor
		h.save(t, h.credential("app-100-b", nil))                                             // behind it
		h.owner.do(t, "GET", "/v1/credentials?limit=2&cursor="+first.Next, nil).want(t, http.StatusOK).into(t, &second)
		if got := []string{second.Items[0].Name, second.Items[1].Name}; !slices.Equal(got, []string{"app-100", "app-100-b"}) {
			t.Errorf("the second page begins with %q", got)
		}
	})
}

// TestDivisions lists, reads and uses credentials with roles in one division only.
func TestDivisions(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, name := range []string{"sales", "support"} {
			h.owner.do(t, "POST", "/v1/divisions", object{"name": name}).want(t, http.StatusCreated)
			for i := range 3 {
				h.save(t, with(h.credential(fmt.Sprintf("%s-%d", name, i), nil), "division", name))
			}
		}
		h.save(t, h.credential("home-0", nil))
		sales := []string{"sales-0", "sales-1", "sales-2"}

		for _, role := range []string{"owner", "administrator", "auditor", "designer", "application"} {
			who := h.as(t, role, "sales")
			pages := who.names(t, "2")
			if diff := cmp.Diff(sales, slices.Concat(pages...)); diff != "" || len(pages) != 2 {
				t.Errorf("%s in sales, %d pages (-want +got):\n%s", role, len(pages), diff)
			}
			// What is in another division does not exist, whatever is asked of it.
			for _, ref := range []string{"support-0", "home-0", "nothing"} {
				who.do(t, "GET", "/v1/credentials/"+ref, nil).problem(t, grantway.NotFound)
				who.do(t, "GET", "/v1/credentials/"+ref+"/status", nil).problem(t, grantway.NotFound)
				who.do(t, "PATCH", "/v1/credentials/"+ref, object{"description": "x"}).problem(t, grantway.NotFound)
				who.do(t, "DELETE", "/v1/credentials/"+ref, nil).problem(t, grantway.NotFound)
				who.do(t, "POST", "/v1/credentials/"+ref+"/token", nil).problem(t, grantway.NotFound)
				who.do(t, "POST", "/v1/credentials/"+ref+"/token/invalidate", nil).problem(t, grantway.NotFound)
				who.do(t, "POST", "/v1/credentials/"+ref+"/validate", nil).problem(t, grantway.NotFound)
			}
			var divisions grantway.Page[grantway.Division]
			who.do(t, "GET", "/v1/divisions", nil).want(t, http.StatusOK).into(t, &divisions)
			if len(divisions.Items) != 1 || divisions.Items[0].Name != "sales" {
				t.Errorf("%s in sales sees the divisions %+v", role, divisions.Items)
			}
		}

		// Moving a credential needs the permission on both sides.
		admin := h.as(t, "administrator", "support")
		admin.do(t, "PATCH", "/v1/credentials/support-0", object{"division": "sales"}).problem(t, grantway.Forbidden)
		admin.do(t, "POST", "/v1/credentials", with(h.credential("new", nil), "division", "sales")).problem(t, grantway.Forbidden)
		admin.do(t, "POST", "/v1/credentials", h.credential("new", nil)).problem(t, grantway.Forbidden) // home
		admin.do(t, "POST", "/v1/credentials/validate", with(h.credential("new", nil), "division", "sales")).problem(t, grantway.Forbidden)
		h.owner.do(t, "PATCH", "/v1/credentials/support-0", object{"division": "sales"}).want(t, http.StatusOK)
		admin.do(t, "GET", "/v1/credentials/support-0", nil).problem(t, grantway.NotFound)

		// Their audit trail is that of their division.
		var events grantway.Page[grantway.Event]
		h.as(t, "auditor", "support").do(t, "GET", "/v1/audit?limit=1000", nil).want(t, http.StatusOK).into(t, &events)
		for _, e := range events.Items {
			if e.Division != "support" {
				t.Errorf("the auditor of support sees %+v", e)
			}
		}
		if len(events.Items) == 0 {
			t.Error("the auditor of support sees no event")
		}

		h.owner.do(t, "DELETE", "/v1/divisions/support", nil).problem(t, grantway.Conflict)
		for _, name := range []string{"support-1", "support-2"} {
			h.owner.do(t, "DELETE", "/v1/credentials/"+name, nil).want(t, http.StatusNoContent)
		}
		h.owner.do(t, "DELETE", "/v1/divisions/support", nil).problem(t, grantway.Conflict) // clients hold roles there
	})
}

// TestDesigner picks a credential by its name and learns no more of it (O-5).
func TestDesigner(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		body := h.credential("mail", object{"scopes": "mail.read"})
		body["description"] = "Sales mailbox"
		saved := h.save(t, body)
		designer := h.as(t, "designer", "home")
		list := decode(t, designer.do(t, "GET", "/v1/credentials", nil).want(t, http.StatusOK).body)
		want := object{"items": []any{object{"id": saved.ID, "name": "mail", "description": "Sales mailbox", "division": "home",
			"connector": "oauth2-client-credentials", "inputs": object{}}}}
		if diff := cmp.Diff(want, list); diff != "" {
			t.Errorf("what a designer sees (-want +got):\n%s", diff)
		}
		for _, ref := range []string{"mail", saved.ID} {
			p := designer.do(t, "GET", "/v1/credentials/"+ref, nil).problem(t, grantway.Forbidden)
			for _, part := range []string{"credential.read", "division home", "auditor", "designer in home"} {
				if !strings.Contains(p.Detail, part) {
					t.Errorf("the refusal does not name %q: %s", part, p.Detail)
				}
			}
		}
		// Nor does it get out of the audit trail by a name that no database would store.
		for _, name := range []string{"a\x00b", strings.Repeat("ä", 100_000)} {
			designer.do(t, "POST", "/v1/credentials", with(h.credential(name, nil), "division", name)).problem(t, grantway.Forbidden)
		}
		if n := h.count(t, `SELECT COUNT(*) FROM audit WHERE action = 'credential.write' AND outcome = 'denied' AND LENGTH(object) < 300`); n != 2 {
			t.Errorf("%d refusals in the audit trail, want 2", n)
		}
		event := h.lastEvent(t, "credential.read")
		if event.Outcome != "denied" || event.Caller != designer.id || event.Object != "credential/mail" || event.Division != "home" {
			t.Errorf("the refusal in the audit trail: %+v", event)
		}
	})
}
