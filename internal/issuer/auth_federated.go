package issuer

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/grantway/grantway"
)

// federated takes the JWT of another issuer that the client trusts (RFC 7521 section 6.2 with a
// subject of that issuer): a Kubernetes service account, a job of a CI system. client_id says
// which client it is for, and issuer, subject and audience must be exactly those that are
// registered. Such tokens are made to be sent more than once, so their jti is not looked at.
var federated = method{
	name: grantway.AuthFederated, via: viaAssertion,
	check: func(c *grantway.OAuthClient, wrong func(pointer, detail string)) {
		f := c.Federation
		if f == nil {
			wrong("/federation", "is required: issuer, subject and audience of the JWT that the client has")
			return
		}
		if u, err := url.Parse(f.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			wrong("/federation/issuer", "must be an https URL without a query")
		}
		if f.Subject == "" || strings.ContainsAny(f.Subject, "*") {
			wrong("/federation/subject", "is required, and is the whole subject: there are no wildcards")
		}
		if f.Audience == "" {
			wrong("/federation/audience", "is required")
		}
		checkKeys(f.JWKS, f.JWKSURI, "/federation", false, wrong)
	},
	verify: func(i *Issuer, ctx context.Context, c *client, p presented) (proven, error) {
		f := c.Federation
		if f == nil {
			return proven{}, errWrong("the client has no federation")
		}
		a, err := parseAssertion(p.assertion, asymmetric)
		if err != nil {
			return proven{}, err
		}
		// What costs nothing comes first: a JWT for somebody else makes the hub ask nobody.
		switch {
		case a.claims.Issuer != f.Issuer:
			return proven{}, errWrong("the JWT is of another issuer")
		case a.claims.Subject != f.Subject:
			return proven{}, errWrong("the JWT is of another subject")
		case !a.claims.Audience.has(f.Audience):
			return proven{}, errWrong("the JWT is for another audience")
		}
		if err := a.checkTimes(time.Now(), 0); err != nil {
			return proven{}, err
		}
		keys := f.JWKSURI
		if keys == "" && f.JWKS == nil {
			if keys, err = i.discoverKeys(ctx, f.Issuer); err != nil {
				return proven{}, err
			}
		}
		err = i.withKeys(ctx, f.JWKS, keys, a.verifyWith)
		if err != nil {
			return proven{}, err
		}
		return proven{by: "subject " + printable(a.claims.Subject)}, nil
	},
}

// discoverKeys asks an issuer where its keys are (OpenID Connect Discovery section 4).
func (i *Issuer) discoverKeys(ctx context.Context, issuer string) (string, error) {
	text, err := i.remote.get(ctx, strings.TrimRight(issuer, "/")+"/.well-known/openid-configuration", false)
	if err != nil {
		return "", err
	}
	var m struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &m); err != nil || m.Issuer != issuer || m.JWKSURI == "" {
		return "", errWrong(fmt.Sprintf("the configuration of %s is not its own", issuer))
	}
	return m.JWKSURI, nil
}

// printable is s for the audit trail.
func printable(s string) string {
	if s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), ""); len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
