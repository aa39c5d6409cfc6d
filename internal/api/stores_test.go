package api_test

import (
	"net/http"
	"testing"

	"github.com/grantway/grantway"
)

// storeBody is a secret store that is not there to be reached.
func storeBody(name string) object {
	return object{"name": name, "kind": "vault", "inputs": object{"address": "http://127.0.0.1:1", "token": canary}}
}

// TestSecretStoresOfTheHub are nobody's who is an administrator of one division only.
func TestSecretStoresOfTheHub(t *testing.T) {
	h := start(t, "")
	h.owner.do(t, "POST", "/v1/secret-stores", storeBody("vault")).want(t, http.StatusCreated)
	who := h.as(t, "administrator", "home")
	who.do(t, "POST", "/v1/secret-stores", storeBody("other")).problem(t, grantway.Forbidden)
	who.do(t, "POST", "/v1/secret-stores/test", storeBody("other")).problem(t, grantway.Forbidden)
	who.do(t, "PUT", "/v1/secret-stores/vault", storeBody("vault")).problem(t, grantway.Forbidden)
	who.do(t, "POST", "/v1/secret-stores/vault/test", nil).problem(t, grantway.Forbidden)
	who.do(t, "DELETE", "/v1/secret-stores/vault", nil).problem(t, grantway.Forbidden)
	who.do(t, "GET", "/v1/secret-stores/vault", nil).want(t, http.StatusOK)
}

// TestSecretStoreVersions are ETags, on both databases.
func TestSecretStoreVersions(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		var one grantway.SecretStore
		body := storeBody("vault")
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
		h.owner.do(t, "POST", "/v1/secret-stores/test", object{"name": "x", "kind": "vault", "read": object{"key": "k", "colour": "red"}}).problem(t, grantway.Invalid, "/colour")
		h.owner.do(t, "POST", "/v1/secret-stores/test", object{"name": "x", "kind": "vault", "inputs": object{"address": "ftp://x", "token": canary}}).problem(t, grantway.Invalid, "/inputs/address")
		h.owner.do(t, "GET", "/v1/secret-stores/nobody", nil).problem(t, grantway.NotFound)
		h.owner.do(t, "POST", "/v1/secret-stores/nobody/test", nil).problem(t, grantway.NotFound)
	})
}
