package broker

import (
	"errors"
	"io"
	"net/http"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

// Client returns an HTTP client for the API of a credential, for the parts of the hub that call
// APIs themselves. Its requests are authorized as the connector says, with a token for ref. One that
// the API refuses is sent once more with a new token if its body can be replayed. Requests and
// redirects lead to the base URL's origin and the hosts that the connector allows; if nobody says where
// the API is, requests may go anywhere, and redirects stay within the origin.
func (b *Broker) Client(who access.Caller, ref grantway.Ref) *http.Client {
	c := &apiClient{b, who, ref}
	return &http.Client{Transport: c, CheckRedirect: c.checkRedirect}
}

// apiClient is the http.RoundTripper of Client.
type apiClient struct {
	b   *Broker
	who access.Caller
	ref grantway.Ref
}

// RoundTrip implements http.RoundTripper. The caller's request is not changed and does not get to
// see the token.
func (c *apiClient) RoundTrip(r *http.Request) (*http.Response, error) {
	u, err := c.b.Upstream(r.Context(), c.who, c.ref.Credential)
	if err != nil {
		return nil, failed(r, err)
	}
	if err := grant.CheckAPIURL(r.URL); err != nil {
		return nil, failed(r, err)
	}
	send := http.RoundTripper(c.b.Outbound.Transport())
	if cert := u.Certificate(); cert != nil {
		send = c.b.certified.Transport(u.ID, cert)
	}
	body := r.Body
	var first *http.Response
	for {
		a, err := u.authorize(r.Context(), c.who, c.ref)
		if err == nil {
			if base, unknown := u.plan.BaseURL(a.token); unknown == nil && !u.plan.Allows(r.URL, base) {
				err = grantway.Errorf(grantway.Forbidden, "credential %s is not for requests to %s", u.Name, r.URL.Host)
			}
		}
		out := r.Clone(r.Context())
		if out.Header == nil {
			out.Header = http.Header{}
		}
		out.Body = body
		if err == nil {
			err = a.Apply(out)
		}
		switch {
		case err != nil && first != nil:
			return first, nil // it tells more
		case err != nil:
			return nil, failed(r, err)
		}
		if first != nil {
			io.CopyN(io.Discard, first.Body, 4<<10) // lets the connection be used again
			first.Body.Close()
		}
		resp, err := send.RoundTrip(out)
		if err != nil {
			return nil, err
		}
		resp.Request = r // not the one with the token in it
		again := a.Refused(r.Context(), resp, first != nil)
		if !again || first != nil {
			return resp, nil
		}
		switch {
		case r.Body == nil || r.Body == http.NoBody:
		case r.GetBody == nil:
			return resp, nil
		default:
			if body, err = r.GetBody(); err != nil {
				return resp, nil
			}
		}
		first = resp
	}
}

// failed closes the body of a request that is not sent.
func failed(r *http.Request, err error) error {
	if r.Body != nil {
		r.Body.Close()
	}
	return err
}

func (c *apiClient) checkRedirect(next *http.Request, via []*http.Request) error {
	u, err := c.b.Upstream(next.Context(), c.who, c.ref.Credential)
	switch {
	case err != nil:
		return err
	case !u.Follows(via[0].URL, next.URL):
		return http.ErrUseLastResponse
	case len(via) >= 10:
		return errors.New("stopped after 10 redirects")
	}
	return nil
}
