package issuer

import (
	"context"

	"github.com/grantway/grantway"
)

// privateKeyJWT takes an assertion that is signed with the client's own key (RFC 7523).
var privateKeyJWT = method{
	name: grantway.AuthPrivateKeyJWT, via: viaAssertion,
	check: func(c *grantway.OAuthClient, wrong func(pointer, detail string)) {
		checkKeys(c.JWKS, c.JWKSURI, "", true, wrong)
	},
	verify: func(i *Issuer, ctx context.Context, c *client, p presented) (proven, error) {
		a, err := parseAssertion(p.assertion, asymmetric)
		if err != nil {
			return proven{}, err
		}
		err = i.withKeys(ctx, c.JWKS, c.JWKSURI, a.verifyWith)
		if err != nil {
			return proven{}, err
		}
		if err := i.checkAssertion(ctx, c, p, a); err != nil {
			return proven{}, err
		}
		return proven{by: "key " + a.usedKid}, nil
	},
}
