package issuer

import (
	"context"
	"errors"
	"net/http"
	"net/netip"

	"github.com/grantway/grantway/internal/access"
)

const grantClientCredentials = "client_credentials"

// clientCredentials is the client credentials grant (RFC 6749 section 4.4): a client gets
// a token for itself. There is no refresh token (section 4.4.3).
//
// A scope is a list of permissions, by which the client asks for a token that may do less
// than its roles allow. Without one the token may do all that they allow, at any time: also
// when they change.
func (i *Issuer) clientCredentials(ctx context.Context, r *http.Request, from netip.Addr, f form) (*tokenResponse, *oauthError) {
	c, secretID, failure := i.authenticate(ctx, r, from, f)
	if failure != nil {
		return nil, failure
	}
	if c.grantType != grantClientCredentials {
		return nil, &oauthError{status: http.StatusBadRequest, code: "unauthorized_client", description: "the client may not use this grant type"}
	}
	held := c.caller.Anywhere()
	granted, only := held, access.Permissions(0)
	if scope := f.get("scope"); scope != "" {
		asked, ok := access.ParsePermissions(scope)
		if !ok || asked&^held != 0 {
			return nil, &oauthError{status: http.StatusBadRequest, code: "invalid_scope",
				description: "the scope names something other than permissions that the roles of the client have"}
		}
		granted, only = asked, asked
	}
	token, lifetime, err := i.issue(ctx, c, secretID, only)
	if errors.Is(err, errRefused) {
		return nil, invalidClient(wrongClient)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return &tokenResponse{AccessToken: string(token), TokenType: "Bearer", ExpiresIn: int64(lifetime.Seconds()), Scope: granted.String()}, nil
}
