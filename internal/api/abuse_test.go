package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/grantway/grantway"
)

// TestRefusalsRepeat asks for the same forbidden thing again and again.
func TestRefusalsRepeat(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		who := h.as(t, "application", "home")
		for range 50 {
			who.do(t, "GET", "/v1/audit", nil).problem(t, grantway.Forbidden)
		}
		if n := h.count(t, `SELECT COUNT(*) FROM audit WHERE outcome = 'denied'`); n != 1 {
			t.Errorf("%d refusals in the audit trail, want 1", n)
		}
	})
}

// TestPastedSecrets puts secrets where names belong.
func TestPastedSecrets(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		const pasted = "gws_PASTED"
		for _, who := range []*caller{h.owner, h.as(t, "application", "home")} {
			for _, answer := range []*answer{
				who.do(t, "GET", "/v1/clients/"+pasted, nil), who.do(t, "DELETE", "/v1/clients/"+pasted, nil),
				who.do(t, "DELETE", "/v1/divisions/"+pasted, nil), who.do(t, "POST", "/v1/divisions", object{"name": pasted}),
			} {
				if answer.status < 400 || strings.Contains(string(answer.body), pasted) {
					t.Errorf("HTTP %d %s", answer.status, answer.body)
				}
			}
		}
		if n := h.count(t, `SELECT COUNT(*) FROM audit WHERE object LIKE '%PASTED%'`); n != 0 {
			t.Errorf("%d rows of the audit trail hold it", n)
		}
	})
}

// TestSecretIsNotCached, not even by a cache of HTTP/1.0 (RFC 6749 section 5.1).
func TestSecretIsNotCached(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		var c grantway.OAuthClient
		made := h.owner.do(t, "POST", "/v1/clients", object{"name": "app", "roles": []object{{"role": "application", "division": "home"}}}).want(t, http.StatusCreated)
		made.into(t, &c)
		for _, answer := range []*answer{made, h.owner.do(t, "POST", "/v1/clients/"+c.ID+"/secret", nil).want(t, http.StatusOK)} {
			if answer.header.Get("Cache-Control") != "no-store" || answer.header.Get("Pragma") != "no-cache" {
				t.Errorf("headers %v", answer.header)
			}
		}
	})
}
