package e2e_test

import (
	"net/http"
	"testing"

	"github.com/grantway/grantway"
)

// tokenLines are the lines about requests and replies of the token endpoint, and about Bearer at the API.
var tokenLines = []line{
	{"S01 POST only", func(t *testing.T, p *party) {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			a := p.send(t, method, "/oauth/token", "")
			if a.want(t, http.StatusMethodNotAllowed, "invalid_request"); a.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s: Allow %q", method, a.header.Get("Allow"))
			}
		}
	}},
	{"S02 TLS", func(t *testing.T, p *party) {
		c := p.client(t, grantway.OAuthClient{})
		p.post(t, grantBody, basic(c.ID, c.Secret), from("192.0.2.2")).want(t, http.StatusOK, "")
		p.post(t, grantBody, basic(c.ID, c.Secret), from("192.0.2.2"), header("X-Forwarded-Proto", "http")).want(t, http.StatusBadRequest, "invalid_request")
	}},
}
