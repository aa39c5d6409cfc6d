package issuer

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"github.com/grantway/grantway/internal/store"
)

// revoke ends a token that was issued to the client that asks (RFC 7009). A token that does not
// exist needs no end, so that is no error; what kind of token it is the hub sees by itself, so
// a hint does not matter.
func (i *Issuer) revoke(ctx context.Context, r *http.Request, from netip.Addr, f form) (any, *oauthError) {
	got, failure := i.authenticate(ctx, r, from, f)
	if failure != nil {
		return nil, failure
	}
	token := f.get("token")
	if token == "" {
		return nil, invalidRequest("token is missing")
	}
	if strings.HasPrefix(token, refreshPrefix) {
		return nil, i.revokeRefresh(ctx, got, token)
	}
	s, failure := i.sessionOf(r, token)
	if failure != nil || s == nil {
		return nil, failure
	}
	if s.entry.state.Load().ID != got.client.ID {
		return nil, foreignToken()
	}
	if err := i.revokeSession(ctx, s); err != nil {
		return nil, unavailable(err)
	}
	return nil, nil
}

func foreignToken() *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: "the token was issued to another client"}
}

// revokeRefresh ends a refresh token with all that comes from the same consent.
func (i *Issuer) revokeRefresh(ctx context.Context, got proven, token string) *oauthError {
	row, found, err := i.findRefresh(ctx, i.Store.Read(), token)
	switch {
	case err != nil:
		return unavailable(err)
	case !found:
		return nil
	case row.client != got.client.ID:
		return foreignToken()
	}
	var key string
	err = i.Store.Write(ctx, func(tx *store.Tx) error {
		key, err = i.revokeFamily(ctx, tx, row.family)
		return err
	})
	if err == nil {
		err = i.tokenRevoked(ctx, key)
	}
	if err != nil {
		return unavailable(err)
	}
	return nil
}
