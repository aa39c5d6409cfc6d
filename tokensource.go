package grantway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"github.com/grantway/grantway/grant"
)

// TokenSource returns an oauth2.TokenSource for ref. It keeps the token and renews it
// ahead of its expiry, so there is no need to wrap it in oauth2.ReuseTokenSource. DPoP
// tokens need a proof for each request, which package oauth2 cannot make: use Transport.
func (c *Client) TokenSource(ctx context.Context, ref Ref) oauth2.TokenSource {
	return tokenSource{ctx, c, ref}
}

type tokenSource struct {
	ctx context.Context // oauth2.TokenSource has no context of its own
	c   *Client
	ref Ref
}

func (s tokenSource) Token() (*oauth2.Token, error) {
	t, err := s.c.cached(s.ctx, s.ref)
	if err != nil {
		return nil, err
	}
	if t.Type == "DPoP" {
		return nil, Errorf(Invalid, "credential %s: a DPoP token needs a proof for each request; use Transport", s.ref.Credential)
	}
	return t.OAuth2(), nil
}

// Transport returns a RoundTripper that authorizes requests with a token for ref. A
// request that the API answers with 401 is sent once more with a new token, if its body
// can be replayed. It works for DPoP credentials too: the hub, which has the key, makes the proofs.
func (c *Client) Transport(ref Ref) http.RoundTripper {
	return &grant.Transport{
		Source: func(ctx context.Context) (*grant.Token, error) { return c.cached(ctx, ref) },
		Drop: func(fingerprint string) {
			key := ref
			key.Proof = nil
			if t := c.cache.Peek(key).Token; t != nil && t.Fingerprint() != fingerprint {
				return // another request was refused as well, and was quicker
			}
			// First the hub, or somebody else would get the same token from it again.
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = c.Invalidate(ctx, ref.Credential, fingerprint) // the next Token call says what is wrong
			c.cache.Drop(key, fingerprint)
		},
		Prove: func(ctx context.Context, method, url, nonce string) (string, error) {
			with := ref
			with.Proof = &ProofRequest{Method: method, URL: url, Nonce: nonce}
			t, err := c.Token(ctx, with)
			return t.Proof, err
		},
		Base: c.http.Transport,
	}
}

func (c *Client) cached(ctx context.Context, ref Ref) (*grant.Token, error) {
	ref.Proof = nil
	return c.cache.Token(ctx, ref, ref.MinLifetime.Duration())
}

// asGrantError tells tokencache how to back off from a failure of the hub.
func asGrantError(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	class := grant.Permanent
	switch e.Code {
	case Unavailable, RateLimited:
		class = grant.Temporary
		if !e.RetryAt.IsZero() {
			class = grant.Throttled
		}
	case Internal:
		class = grant.Temporary
	}
	return &grant.Error{Stage: grant.StageResponse, Class: class, Message: e.Message, RetryAt: e.RetryAt, Err: err}
}
