package issuer

import (
	"context"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/seal"
)

// secretJWT takes an assertion that is signed with the client's secret, which never travels
// (OpenID Connect Core section 9). The hub must know the secret for it, so here it is sealed,
// not only hashed. HS512 would want a longer one (RFC 7518 section 3.2).
var secretJWT = method{
	name: grantway.AuthSecretJWT, via: viaAssertion,
	verify: func(i *Issuer, ctx context.Context, c *client, p presented) (proven, error) {
		a, err := parseAssertion(p.assertion, []jose.SignatureAlgorithm{jose.HS256, jose.HS384})
		if err != nil {
			return proven{}, err
		}
		now := time.Now()
		for _, s := range c.secrets {
			if len(s.sealed) == 0 || !s.good(now) {
				continue
			}
			key, err := i.Sealer.Open(secretPlace(s.id), s.sealed)
			if err != nil {
				return proven{}, &outage{err}
			}
			if a.verifyWith([]jose.JSONWebKey{{Key: key}}) == nil {
				if err := i.checkAssertion(ctx, c, p, a); err != nil {
					return proven{}, err
				}
				return proven{secret: s.id}, nil
			}
		}
		return proven{}, errWrong("the assertion is signed with none of the client's secrets")
	},
}

func secretPlace(id string) seal.Place {
	return seal.Place{Table: "client_secret", Row: id, Column: "sealed"}
}
