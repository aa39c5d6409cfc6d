package broker

import (
	"context"
	"errors"
	"net/http"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

// Client returns an HTTP client whose requests carry a token for ref, for the parts of the
// hub that call APIs themselves. A request that is answered with 401 is sent once more with
// a new token if its body can be replayed. Redirects are followed within the same origin only.
func (b *Broker) Client(who access.Caller, ref grantway.Ref) *http.Client {
	return &http.Client{
		Transport: &grant.Transport{
			Source: func(ctx context.Context) (*grant.Token, error) { return b.Token(ctx, who, ref) },
			Drop: func(fingerprint string) {
				ctx, cancel := context.WithTimeout(context.Background(), databaseTimeout)
				defer cancel()
				if err := b.Invalidate(ctx, who, ref.Credential, fingerprint); err != nil {
					b.Log.Warn("a refused token was not forgotten everywhere", "credential", ref.Credential, "error", err)
				}
			},
			Base: b.Outbound.Transport(),
		},
		CheckRedirect: sameOrigin,
	}
}

func sameOrigin(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	if next.URL.Scheme != first.Scheme || next.URL.Host != first.Host {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}
