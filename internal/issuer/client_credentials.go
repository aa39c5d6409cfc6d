package issuer

import (
	"context"
	"net/http"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// clientCredentials is the client credentials grant (RFC 6749 section 4.4): a client gets
// a token for itself. There is no refresh token (section 4.4.3).
//
// A scope is a list of permissions, by which the client asks for a token that may do less
// than its roles allow. Without one the token may do all that they allow, at any time: also
// when they change.
var clientCredentials = grantType{
	name: grantway.GrantClientCredentials, for_: []string{grantway.GrantClientCredentials},
	issue: func(i *Issuer, ctx context.Context, r *http.Request, got proven, f form) (*tokenResponse, *oauthError) {
		held := got.client.caller.Anywhere()
		granted, only := held, access.Permissions(0)
		if scope := f.get("scope"); scope != "" {
			asked, ok := access.ParsePermissions(scope)
			if !ok || asked&^held != 0 {
				return nil, invalidScope("the scope names something other than permissions that the roles of the client have")
			}
			granted, only = asked, asked
		}
		resource, failure := i.resourceOf(got.client, f)
		if failure != nil {
			return nil, failure
		}
		bound, failure := i.boundTo(ctx, r, got)
		if failure != nil {
			return nil, failure
		}
		return i.answer(ctx, issuance{proven: got, only: only, scope: granted.String(), resource: resource, binding: bound})
	},
}

func invalidScope(description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_scope", description: description}
}
