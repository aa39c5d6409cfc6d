package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// TestPeople walks through what the API does with people.
func TestPeople(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		roles := []object{{"role": "auditor"}}
		var invited grantway.Invitation
		created := h.owner.do(t, "POST", "/v1/people", object{"email": "Ann@example.com", "name": "Ann", "roles": roles}).want(t, http.StatusCreated)
		created.into(t, &invited)
		path := "/v1/people/" + invited.Person.ID
		if created.header.Get("Location") != path || !strings.HasPrefix(invited.Link, h.URL+access.InvitationPath) || invited.Person.State != grantway.Invited {
			t.Errorf("%s, %+v", created.header.Get("Location"), invited)
		}
		if want := []grantway.Assignment{{Role: "auditor", Division: "home"}}; !slices.Equal(invited.Person.Roles, want) {
			t.Errorf("%+v", invited.Person)
		}
		h.owner.do(t, "POST", "/v1/people", object{"email": "ann@EXAMPLE.com", "roles": roles}).problem(t, grantway.Conflict, "/email")
		h.owner.do(t, "POST", "/v1/people", object{"email": "x", "name": "a\nb", "roles": []object{{"role": "king", "division": "x"}}}).
			problem(t, grantway.Invalid, "/email", "/name", "/roles/0/role", "/roles/0/division")
		h.owner.do(t, "POST", "/v1/people", object{"email": "x@example.com", "roles": roles, "password": canary}).problem(t, grantway.Invalid, "/password")

		var one grantway.Person
		h.owner.do(t, "GET", "/v1/people/ann@example.com", nil).want(t, http.StatusOK).into(t, &one)
		if one.ID != invited.Person.ID || one.CreatedAt.IsZero() {
			t.Errorf("%+v", one)
		}
		h.owner.do(t, "PUT", path, one).want(t, http.StatusOK) // what was read can be written
		h.owner.do(t, "PUT", path, object{"roles": []object{}}).problem(t, grantway.Invalid, "/roles")
		h.owner.do(t, "POST", path+"/deactivate", nil).want(t, http.StatusOK).into(t, &one)
		h.owner.do(t, "POST", path+"/link", nil).problem(t, grantway.Conflict)
		h.owner.do(t, "POST", path+"/activate", nil).want(t, http.StatusOK).into(t, &one)
		if one.State != grantway.Invited {
			t.Errorf("%+v", one)
		}
		var renewed grantway.Invitation
		h.owner.do(t, "POST", path+"/link", nil).want(t, http.StatusOK).into(t, &renewed)
		if renewed.Link == invited.Link {
			t.Error("the link is the same")
		}
		var sessions grantway.Page[grantway.Session]
		h.owner.do(t, "GET", path+"/sessions", nil).want(t, http.StatusOK).into(t, &sessions)
		if sessions.Items == nil || len(sessions.Items) != 0 {
			t.Errorf("%+v", sessions)
		}
		h.owner.do(t, "DELETE", path+"/sessions", nil).want(t, http.StatusNoContent)
		h.owner.do(t, "DELETE", path+"/sessions/session_x", nil).problem(t, grantway.NotFound)
		h.owner.do(t, "GET", "/v1/people/nobody", nil).problem(t, grantway.NotFound)

		// Somebody who holds a role in a division keeps the division.
		h.owner.do(t, "POST", "/v1/divisions", object{"name": "emea"}).want(t, http.StatusCreated)
		h.owner.do(t, "PUT", path, object{"roles": []object{{"role": "designer", "division": "emea"}}}).want(t, http.StatusOK)
		if h.owner.do(t, "DELETE", "/v1/divisions/emea", nil).status < 400 {
			t.Error("a division is gone in which somebody holds a role")
		}
	})
}

func TestSingleSignOn(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.owner.do(t, "GET", "/v1/sso", nil).problem(t, grantway.NotFound)
		h.owner.do(t, "PUT", "/v1/sso", object{}).problem(t, grantway.Invalid, "/name", "/issuer", "/client_id")
		settings := object{"name": "Contoso", "issuer": "https://login.example.com", "client_id": "hub", "client_secret": canary,
			"rules": []object{{"claim": "groups", "value": "admins", "role": "owner", "division": "*"}}}
		var s grantway.SingleSignOn
		h.owner.do(t, "PUT", "/v1/sso", settings).want(t, http.StatusOK).into(t, &s)
		if !s.ClientSecret.Set || s.RedirectURI != h.URL+access.SSOPath {
			t.Errorf("%+v", s)
		}
		h.owner.do(t, "GET", "/v1/sso", nil).want(t, http.StatusOK).into(t, &s)
		h.owner.do(t, "PUT", "/v1/sso", s).want(t, http.StatusOK).into(t, &s) // what was read can be written
		if !s.ClientSecret.Set {
			t.Error("the secret was not kept")
		}
		s.Issuer = "https://evil.example.com"
		h.owner.do(t, "PUT", "/v1/sso", s).problem(t, grantway.Invalid, "/client_secret")
		h.owner.do(t, "DELETE", "/v1/sso", nil).want(t, http.StatusNoContent)
		h.owner.do(t, "DELETE", "/v1/sso", nil).problem(t, grantway.NotFound)
	})
}
