package issuer

import (
	"context"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

// issuance is what a new access token says.
type issuance struct {
	proven          // for which client, and how it proved itself
	person   string // who allowed it; "": the client acts for itself
	only     access.Permissions
	scope    string // as the answer says it
	resource string // another API it is for; "": this one
	binding  binding
	family   string // of refresh tokens
	refresh  string // the refresh token that comes with it
}

// binding is the key that a token is of no use without: "jkt " and a thumbprint (RFC 9449), or
// "x5t " and one (RFC 8705); "": none.
type binding string

const (
	boundToKey         = "jkt "
	boundToCertificate = "x5t "
)

// A program that asks for a token at every call, and revokes it, would fill the list of what is revoked. Taking
// tokens back before their time would break the other programs that use the same client, so
// instead tokens beyond the first crowd live shortly, and as many as crowd live their whole time again
// in each lifetime: what there is of such a client is bounded by twice crowd, for each replica,
// and what it asks for in a minute.
const (
	crowd         = 10_000
	crowdLifetime = time.Minute
)

// lifetime is how long a token of c issued at now lives.
func (e *entry) lifetime(c *client, now time.Time) time.Duration {
	for {
		old := e.crowd.Load()
		full := now.Add(c.lifetime).UnixNano()
		next := min(max(old, now.UnixNano()), full) + int64(c.lifetime/crowd) // it was longer before, or the clock was set back
		if next > full {
			return min(c.lifetime, crowdLifetime)
		}
		if e.crowd.CompareAndSwap(old, next) {
			return c.lifetime
		}
	}
}

// issue makes an access token.
func (i *Issuer) issue(ctx context.Context, n issuance) (grant.Secret, time.Duration, error) {
	now := time.Now()
	lifetime, text := i.clients.entry(n.client.ID).lifetime(n.client, now), i.sealToken
	if n.client.TokenFormat == grantway.FormatJWT {
		text = i.signToken
	}
	token, err := text(ctx, n, now, lifetime)
	if err != nil {
		return "", 0, err
	}
	i.usage.issued(n, now)
	return grant.Secret(token), lifetime, nil
}
