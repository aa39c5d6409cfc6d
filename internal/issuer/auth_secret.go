package issuer

import (
	"context"
	"crypto/subtle"
	"time"

	"github.com/grantway/grantway"
)

// secretBasic and secretPost take the client's secret (RFC 6749 section 2.3.1), in the header or
// in the body.
var (
	secretBasic = method{name: grantway.AuthBasic, via: viaBasic, verify: verifySecret}
	secretPost  = method{name: grantway.AuthPost, via: viaBody, verify: verifySecret}
)

func verifySecret(i *Issuer, _ context.Context, c *client, p presented) (proven, error) {
	id, ok := i.secretOf(c, p.secret, time.Now())
	if !ok {
		return proven{}, errWrong("the secret is none of the client's, or has expired")
	}
	return proven{secret: id}, nil
}

// secretOf says whether secret is one of c's, and which. It compares with every secret, in the
// same time whatever the outcome.
func (i *Issuer) secretOf(c *client, secret string, now time.Time) (id string, ok bool) {
	got := []byte(i.hash(secret))
	for _, s := range c.secrets {
		same := subtle.ConstantTimeCompare(got, []byte(s.hash)) == 1
		if same && s.good(now) {
			id, ok = s.id, true
		}
	}
	return id, ok
}

// publicClient is a program on somebody's machine. It proves nothing, so it only gets tokens
// that a person allows, with PKCE.
var publicClient = method{
	name: grantway.AuthNone, via: viaNothing,
	check: func(c *grantway.OAuthClient, wrong func(pointer, detail string)) {
		if c.GrantType != grantway.GrantAuthorizationCode {
			wrong("/token_endpoint_auth_method", "must not be none: without a person, the client must prove who it is")
		}
	},
	verify: func(_ *Issuer, _ context.Context, c *client, _ presented) (proven, error) {
		if c.GrantType != grantway.GrantAuthorizationCode {
			return proven{}, errWrong("a public client has no grant without a person")
		}
		return proven{by: "nothing"}, nil
	},
}
