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

// issue makes an access token. It returns errRefused when the client or the secret is no
// longer good. An opaque token is durable by then; a JWT needs no row.
func (i *Issuer) issue(ctx context.Context, n issuance) (grant.Secret, time.Duration, error) {
	e := i.clients.entry(n.client.ID)
	if e == nil {
		return "", 0, errRefused
	}
	now := time.Now()
	if !now.After(time.UnixMilli(n.client.tokensAfter)) { // the clock of the replica that revoked them is ahead, or it was just now
		now = time.UnixMilli(n.client.tokensAfter + 1)
	}
	if n.client.TokenFormat == grantway.FormatJWT {
		lifetime := n.client.lifetime
		text, err := i.signToken(ctx, n, now, lifetime)
		if err != nil {
			return "", 0, err
		}
		i.usage.issued(n, now)
		return grant.Secret(text), lifetime, nil
	}
	lifetime := e.lifetime(n.client, now)
	expires := now.Add(lifetime).UnixMilli()
	text := newToken(expires)
	row := tokenRow{
		expiresAt: expires, hash: i.hash(text), client: n.client.ID, secret: n.secret, scope: n.only.String(), person: n.person, binding: string(n.binding),
		resource: n.resource, family: n.family, issuedAt: now.UnixMilli(),
	}
	if err := i.tokens.add(ctx, row); err != nil {
		return "", 0, err
	}
	i.usage.issued(n, now)
	i.sessions.put(sessionKeyOf(text), &session{entry: e, only: n.only, person: n.person, binding: n.binding, resource: n.resource,
		family: n.family, issuedAt: row.issuedAt, expiresAt: row.expiresAt})
	return grant.Secret(text), lifetime, nil
}
