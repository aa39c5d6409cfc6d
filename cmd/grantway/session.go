package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/grantway/grantway/grant"
)

// session is what a person has got by signing in: an access token, and the refresh token that gets
// the next session. A refresh token is good once, and using it twice ends the sign-in.
type session struct {
	token   *grant.Token
	refresh grant.Secret
}

// sessionText is a session as it is kept.
type sessionText struct {
	Token        *grant.Token `json:"token"`
	AccessToken  string       `json:"access_token"`
	RefreshToken string       `json:"refresh_token"`
}

func (s session) text() (string, error) {
	text, err := json.Marshal(sessionText{s.token, string(s.token.AccessToken), string(s.refresh)})
	return string(text), err
}

// session is that of the person who signed in to the context of this name.
func (c *contexts) session(name string) (session, error) {
	if !c.Hubs[name].Person {
		return session{}, fmt.Errorf("the context %s was removed or replaced in the meantime", name)
	}
	secret, err := c.secret(name)
	if err != nil {
		return session{}, err
	}
	var t sessionText
	if json.Unmarshal([]byte(secret), &t) != nil || t.Token == nil {
		return session{}, fmt.Errorf("the sign-in of context %s cannot be read; log in again", name)
	}
	t.Token.AccessToken = grant.Secret(t.AccessToken)
	return session{t.Token, grant.Secret(t.RefreshToken)}, nil
}

// spare is how long a token must still be valid for a command to begin with it.
const spare = 10 * time.Second

// serves says whether the access token will do, where the one with the fingerprint replace does not.
func (s session) serves(replace string) bool {
	return s.token.Fingerprint() != replace && time.Until(s.token.ExpiresAt) > spare
}

// sessionOf gets access tokens of the person who signed in to the context of this name, for
// grantway.Options.
func sessionOf(name string) func(ctx context.Context, replace string) (*grant.Token, error) {
	return func(ctx context.Context, replace string) (*grant.Token, error) {
		all, err := readContexts()
		if err != nil {
			return nil, err
		}
		s, err := all.session(name)
		if err != nil || s.serves(replace) {
			return s.token, err
		}
		// Under the lock, although it is a request: of two commands that refresh at once, the second must find
		// what the first has kept. It is not broken off either, or the refresh token were used up for nothing.
		ctx = context.WithoutCancel(ctx)
		err = changeContexts(func(all *contexts) error {
			if s, err = all.session(name); err != nil || s.serves(replace) {
				return err
			}
			hub := all.Hubs[name]
			request := requestOf(hub.URL, hub.ClientID, "refresh_token", url.Values{"refresh_token": {string(s.refresh)}})
			if s, err = newSession(ctx, request, s.refresh); err != nil {
				return err
			}
			text, err := s.text()
			all.keep(name, hub, text)
			return err
		})
		if err != nil {
			return nil, err
		}
		return s.token, nil
	}
}

// requestOf is a token request of a program on a person's machine, which has no secret (RFC 8252
// section 8.4).
func requestOf(hub, clientID, grantType string, form url.Values) *grant.Request {
	return &grant.Request{TokenURL: hub + "/oauth/token", AllowPlainHTTP: true, ClientID: clientID, GrantType: grantType, Form: form}
}

// newSession makes a token request. Where the answer has no refresh token, the old one stays good
// (RFC 6749 section 6). Errors of the hub are a *grant.Error.
func newSession(ctx context.Context, r *grant.Request, old grant.Secret) (session, error) {
	var client grant.Client
	defer client.CloseIdleConnections()
	answer, err := client.Ask(ctx, r)
	if err != nil {
		return session{}, err
	}
	token, err := answer.Token(r)
	if err != nil {
		return session{}, err
	}
	var more struct {
		RefreshToken grant.Secret `json:"refresh_token"`
	}
	if json.Unmarshal(answer.Body, &more) != nil || more.RefreshToken == "" {
		more.RefreshToken = old
	}
	return session{token, more.RefreshToken}, nil
}

// endSession tells the hub that the sign-in to the context of this name is over: its access tokens end
// with the refresh token.
func (c *contexts) endSession(ctx context.Context, name string) error {
	s, err := c.session(name)
	if err != nil {
		return err
	}
	var client grant.Client
	defer client.CloseIdleConnections()
	hub := c.Hubs[name]
	return client.Revoke(ctx, hub.URL+"/oauth/revoke", requestOf(hub.URL, hub.ClientID, "", nil), s.refresh)
}
