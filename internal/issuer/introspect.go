package issuer

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/grantway/grantway"
)

// introspection is the answer of RFC 7662 section 2.2. Of a token that is not good it says
// nothing else.
type introspection struct {
	Active    bool     `json:"active"`
	Scope     string   `json:"scope,omitempty"`
	Client    string   `json:"client_id,omitempty"`
	Username  string   `json:"username,omitempty"`
	TokenType string   `json:"token_type,omitempty"`
	Expires   int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	Audience  string   `json:"aud,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	ID        string   `json:"jti,omitempty"`
	Confirm   *confirm `json:"cnf,omitempty"`
}

// introspect tells a client about an access token: one of its own, one that is for a resource
// it is registered for, or one of a client that its roles let it read. About all others it says
// what it says of tokens that do not exist.
func (i *Issuer) introspect(ctx context.Context, r *http.Request, from netip.Addr, f form) (any, *oauthError) {
	got, failure := i.authenticate(ctx, r, from, f)
	if failure != nil {
		return nil, failure
	}
	if got.by == "nothing" {
		return nil, &oauthError{status: http.StatusBadRequest, code: "unauthorized_client", description: "a public client cannot ask about tokens"}
	}
	token := f.get("token")
	if token == "" {
		return nil, invalidRequest("token is missing")
	}
	s, failure := i.sessionOf(r, token)
	if failure != nil {
		return nil, failure
	}
	if s == nil {
		return introspection{}, nil
	}
	c := s.entry.state.Load()
	if !i.good(s, c, time.Now()) || !got.client.mayInspect(c, s) {
		return introspection{}, nil
	}
	about := introspection{
		Active: true, Client: c.ID, Username: c.Name, TokenType: schemeBearer, Expires: s.expiresAt / 1000, IssuedAt: s.issuedAt / 1000,
		Subject: c.ID, Audience: s.resource, Issuer: i.URL(), ID: s.jti, Confirm: s.binding.confirm(),
	}
	held := c.caller.Anywhere()
	if s.person != "" {
		caller, err := i.person(ctx, s, c)
		if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.Unauthenticated {
			return introspection{}, nil
		}
		if err != nil {
			return nil, unavailable(err)
		}
		about.Subject, about.Username, held = caller.ID, caller.Name, caller.Anywhere()
	}
	if s.only != 0 {
		held &= s.only
	}
	about.Scope = held.String()
	if about.Audience == "" {
		about.Audience = i.URL()
	}
	if about.Confirm != nil && about.Confirm.JKT != "" {
		about.TokenType = schemeDPoP
	}
	return about, nil
}

// mayInspect says whether c may learn about a token of owner.
func (c *client) mayInspect(owner *client, s *session) bool {
	if owner.ID == c.ID || visible(c.caller, owner.Roles) {
		return true
	}
	for _, resource := range c.Resources {
		if s.resource == resource {
			return true
		}
	}
	return false
}

// sessionOf finds what an access token stands for; nil when it is none. Whoever asks for
// tokens that do not exist too often has to wait.
func (i *Issuer) sessionOf(r *http.Request, token string) (*session, *oauthError) {
	key := sessionKeyOf(token)
	if s := i.sessions.get(&key); s != nil {
		return s, nil
	}
	s, err := i.loadSession(r, key, token)
	if err == nil {
		return s, nil
	}
	e, ok := errors.AsType[*grantway.Error](err)
	switch {
	case ok && e.Code == grantway.Unauthenticated:
		return nil, nil
	case ok && e.Code == grantway.RateLimited:
		return nil, &oauthError{status: http.StatusTooManyRequests, code: "slow_down", description: "too many unknown tokens from this address", retryAfter: time.Until(e.RetryAt)}
	}
	return nil, unavailable(err)
}
