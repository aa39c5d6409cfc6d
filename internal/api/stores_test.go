package api_test

import (
	"net/http"
	"testing"

	"github.com/grantway/grantway"
)

// TestSecretStoreRoles is who may do what with secret stores.
func TestSecretStoreRoles(t *testing.T) {
	h := start(t, "")
	body := object{"name": "vault", "kind": "vault", "inputs": object{"address": "http://127.0.0.1:1", "token": canary}}
	for _, c := range []struct {
		role, division string
		read, write    bool
	}{
		{"owner", "*", true, true},
		{"administrator", "*", true, true},
		{"administrator", "home", true, false}, // stores are the whole hub's
		{"auditor", "*", true, false},
		{"designer", "*", false, false},
		{"application", "*", false, false},
	} {
		t.Run(c.role+" in "+c.division, func(t *testing.T) {
			who := h.as(t, c.role, c.division)
			if c.write {
				who.do(t, "POST", "/v1/secret-stores", body).want(t, http.StatusCreated)
				who.do(t, "PUT", "/v1/secret-stores/vault", object{"inputs": object{"address": "http://127.0.0.1:2"}}).want(t, http.StatusOK)
				who.do(t, "POST", "/v1/secret-stores/vault/test", nil).want(t, http.StatusOK)
			} else {
				h.owner.do(t, "POST", "/v1/secret-stores", body).want(t, http.StatusCreated)
				who.do(t, "POST", "/v1/secret-stores", body).problem(t, grantway.Forbidden)
				who.do(t, "PUT", "/v1/secret-stores/vault", body).problem(t, grantway.Forbidden)
				who.do(t, "POST", "/v1/secret-stores/vault/test", nil).problem(t, grantway.Forbidden)
				who.do(t, "DELETE", "/v1/secret-stores/vault", nil).problem(t, grantway.Forbidden)
			}
			for _, path := range []string{"/v1/secret-stores", "/v1/secret-stores/vault"} {
				if c.read {
					who.do(t, "GET", path, nil).want(t, http.StatusOK)
				} else {
					who.do(t, "GET", path, nil).problem(t, grantway.Forbidden)
				}
			}
			if c.write {
				who.do(t, "DELETE", "/v1/secret-stores/vault", nil).want(t, http.StatusNoContent)
			} else {
				h.owner.do(t, "DELETE", "/v1/secret-stores/vault", nil).want(t, http.StatusNoContent)
			}
		})
	}
	h.nobody().do(t, "GET", "/v1/secret-stores", nil).problem(t, grantway.Unauthenticated)
}

// TestSecretStoreVersions are ETags, on both databases.
func TestSecretStoreVersions(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		var one grantway.SecretStore
		body := object{"name": "vault", "kind": "vault", "inputs": object{"address": "http://127.0.0.1:1", "token": canary}}
		h.owner.do(t, "POST", "/v1/secret-stores", body).want(t, http.StatusCreated).into(t, &one)
		if one.Version != 1 || !one.Inputs["token"].Set || one.Inputs["token"].Text != "" {
			t.Errorf("created: %+v", one)
		}
		h.owner.do(t, "PUT", "/v1/secret-stores/vault", object{"version": 1, "inputs": object{"address": "http://127.0.0.1:2"}}).want(t, http.StatusOK).into(t, &one)
		if one.Version != 2 || !one.Inputs["token"].Set {
			t.Errorf("the token was not kept: %+v", one)
		}
		h.owner.do(t, "PUT", "/v1/secret-stores/vault", object{"version": 1, "inputs": object{"address": "http://127.0.0.1:3"}}).problem(t, grantway.PreconditionFailed)
		h.owner.do(t, "PUT", "/v1/secret-stores/vault", object{"inputs": object{"address": "http://127.0.0.1:2", "token": nil}}).problem(t, grantway.Invalid, "/inputs/token")
		h.owner.do(t, "POST", "/v1/secret-stores", object{"name": "x", "kind": "vault", "colour": "red"}).problem(t, grantway.Invalid, "/colour")
		h.owner.do(t, "GET", "/v1/secret-stores/nobody", nil).problem(t, grantway.NotFound)
		h.owner.do(t, "POST", "/v1/secret-stores/nobody/test", nil).problem(t, grantway.NotFound)
	})
}
