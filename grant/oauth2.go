package grant

import (
	"context"
	"errors"
	"time"

	"golang.org/x/oauth2"
)

// TokenSource makes c and r a token source for golang.org/x/oauth2. Every call of its Token
// asks the server; wrap it in [oauth2.ReuseTokenSource], or use package tokencache, to keep
// tokens. ctx holds for all calls. DPoP tokens need a proof for each request, which package
// oauth2 cannot make: for a Request with DPoP every call fails, use Transport.
func TokenSource(ctx context.Context, c *Client, r *Request) oauth2.TokenSource {
	return tokenSource{ctx, c, r}
}

type tokenSource struct {
	ctx     context.Context
	client  *Client
	request *Request
}

func (s tokenSource) Token() (*oauth2.Token, error) {
	if s.request.DPoP != nil {
		return nil, prepareError("oauth2", errors.New("a DPoP token needs a proof for each request; use grant.Transport"))
	}
	t, err := s.client.Token(s.ctx, s.request)
	if err != nil {
		return nil, err
	}
	return t.OAuth2(), nil
}

// OAuth2 is t as a golang.org/x/oauth2 token, with the granted scope as the extra "scope".
func (t *Token) OAuth2() *oauth2.Token {
	return (&oauth2.Token{
		AccessToken: string(t.AccessToken),
		TokenType:   t.Type,
		Expiry:      t.ExpiresAt,
		ExpiresIn:   int64(time.Until(t.ExpiresAt) / time.Second),
	}).WithExtra(map[string]any{"scope": t.Scope})
}
