package issuer

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

const accessTokenType = "urn:ietf:params:oauth:token-type:access_token"

// tokenExchange is RFC 8693: a client gives an access token of this hub and gets the access token of
// a credential, which audience names. It is the standard way to do what
// POST /v1/credentials/{name}/token does, and who may is decided there.
var tokenExchange = grantType{
	name: "urn:ietf:params:oauth:grant-type:token-exchange",
	for_: []string{grantway.GrantClientCredentials, grantway.GrantAuthorizationCode},
	issue: func(i *Issuer, ctx context.Context, r *http.Request, got proven, f form) (*tokenResponse, *oauthError) {
		subject, names := f.get("subject_token"), f.many["audience"]
		switch {
		case subject == "":
			return nil, invalidRequest("subject_token is missing")
		case f.get("subject_token_type") != accessTokenType:
			return nil, invalidRequest("subject_token_type must be " + accessTokenType)
		case f.get("requested_token_type") != "" && f.get("requested_token_type") != accessTokenType:
			return nil, invalidRequest("requested_token_type must be " + accessTokenType)
		case f.get("actor_token") != "":
			return nil, invalidRequest("this server takes no actor_token")
		case len(names) != 1:
			return nil, invalidRequest("audience must name one credential")
		case len(f.many["resource"]) > 1:
			return nil, invalidTarget("ask for one resource at a time")
		}
		who, failure := i.callerOf(ctx, r, got, subject)
		if failure != nil {
			return nil, failure
		}
		ref := grantway.Ref{Credential: names[0], Scope: f.get("scope")}
		if resource := f.many["resource"]; resource != nil {
			ref.Resource = resource[0]
		}
		token, err := i.Exchange(ctx, who, ref)
		if err != nil {
			return nil, exchangeError(err)
		}
		return &tokenResponse{AccessToken: string(token.AccessToken), IssuedTokenType: accessTokenType, TokenType: token.Type,
			ExpiresIn: max(0, int64(time.Until(token.ExpiresAt).Seconds())), Scope: token.Scope}, nil
	},
}

// callerOf is whom an access token stands for that the client who sends it was given.
func (i *Issuer) callerOf(ctx context.Context, r *http.Request, got proven, token string) (access.Caller, *oauthError) {
	s, failure := i.sessionOf(r, token)
	if failure != nil {
		return access.Caller{}, failure
	}
	const wrong = "the subject token is not a good access token of this client for this hub"
	if s == nil {
		return access.Caller{}, invalidGrant(wrong)
	}
	c := s.entry.state.Load()
	if c.ID != got.client.ID || !i.good(s, c, time.Now()) || s.resource != "" {
		return access.Caller{}, invalidGrant(wrong)
	}
	if s.binding != "" {
		bound, failure := i.boundTo(ctx, r, got)
		if failure != nil {
			return access.Caller{}, failure
		}
		if bound != s.binding && !(len(got.certificates) > 0 && s.binding == boundToCertificate+binding(thumbprint(got.certificates[0]))) {
			return access.Caller{}, invalidGrant("the subject token is bound to another key")
		}
	}
	caller, err := i.caller(ctx, s, c)
	if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.Unavailable {
		return access.Caller{}, unavailable(err)
	}
	if err != nil {
		return access.Caller{}, invalidGrant(wrong)
	}
	return caller, nil
}

// exchangeError is an error of a credential in the words of OAuth. Its own text may repeat the
// request, so it stays behind.
func exchangeError(err error) *oauthError {
	if e, ok := errors.AsType[*grantway.Error](err); ok {
		switch e.Code {
		case grantway.Forbidden, grantway.NotFound:
			return invalidTarget("the client may not use this credential, or there is none")
		case grantway.Invalid, grantway.Malformed:
			return invalidScope("the credential takes no such scope or resource")
		case grantway.TokenRefused:
			return invalidTarget("the provider of the credential gives no token; the hub's status of it says why")
		}
	}
	if e, ok := errors.AsType[*grant.Error](err); ok && !e.RetryAt.IsZero() {
		return &oauthError{status: http.StatusServiceUnavailable, code: "temporarily_unavailable", description: "the provider of the credential gives no token now", retryAfter: time.Until(e.RetryAt)}
	}
	return &oauthError{status: http.StatusServiceUnavailable, code: "temporarily_unavailable", description: "no token can be had now, try again", retryAfter: time.Second, err: err}
}
