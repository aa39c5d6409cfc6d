package grant

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Client asks token endpoints. The zero value is ready to use; set the fields before the
// first use. It is safe for concurrent use, never follows a redirect, never retries on
// its own but for one DPoP nonce, and reads at most 1 MiB of an answer, counted after
// decompression.
type Client struct {
	// Transport makes the connections. It is cloned at the first use, so its dialer, proxy,
	// root certificates and limits are kept and its idle connections are not shared; nil means
	// sane defaults with the proxy of the environment. An *Error that its dialer returns comes
	// back as it is. With a DialTLSContext the Certificate of a Request has no effect.
	Transport *http.Transport

	// Timeout bounds a whole exchange, the nonce retry included; 0 means 30 seconds.
	Timeout time.Duration

	once   sync.Once
	shared *http.Transport
	nonces nonces
}

// Token asks for a token. The error is always an *Error; when ctx ended, it wraps ctx.Err().
func (c *Client) Token(ctx context.Context, r *Request) (*Token, error) {
	ans, err := c.Ask(ctx, r)
	if err != nil {
		return nil, err
	}
	return ans.Token(r)
}

// Ask is Token for callers who read the answer themselves, or more of it than a Token. An
// answer of any status is no error.
func (c *Client) Ask(ctx context.Context, r *Request) (*Answer, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	for retried := false; ; retried = true {
		nonce := ""
		if u, err := url.Parse(r.TokenURL); err == nil && r.DPoP != nil {
			nonce = c.nonces.get(u)
		}
		a, err := r.build(ctx, nonce)
		if err != nil {
			return nil, err
		}
		ans, err := c.send(ctx, a)
		if err != nil {
			return nil, err
		}
		// A server may want a nonce that we did not have (RFC 9449 section 8).
		if r.DPoP != nil && c.nonces.learn(a.req.URL, ans.Header) != "" && ans.wantsNonce() && !retried {
			continue
		}
		return ans, nil
	}
}

// Exchange makes one request that need not be one of RFC 6749, with all the guarantees of a
// Client. An answer of any status is no error.
func (c *Client) Exchange(ctx context.Context, x *Exchange) (*Answer, error) {
	if err := checkRequestURL(x.Request.URL); err != nil {
		return nil, prepareError("URL", err)
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	return c.send(ctx, x.attempt())
}

// Revoke tells the revocation endpoint that token is no longer needed (RFC 7009), with
// r's client authentication. It succeeds too when the server never heard of the token.
// The error is always an *Error; a Temporary or Throttled one means that the token may
// still be live and it is worth trying again.
func (c *Client) Revoke(ctx context.Context, endpoint string, r *Request, token Secret) error {
	return during("revocation", c.revoke(ctx, endpoint, r, token))
}

func (c *Client) revoke(ctx context.Context, endpoint string, r *Request, token Secret) error {
	if err := r.Check(); err != nil {
		return err
	}
	if _, err := r.endpoint(endpoint); err != nil {
		return prepareError("revocation endpoint", err)
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	form := url.Values{"token": {string(token)}, "token_type_hint": {"access_token"}}
	a, err := r.message(ctx, endpoint, form, nil, []string{string(token)})
	if err != nil {
		return err
	}
	ans, err := c.send(ctx, a)
	if err != nil {
		return err
	}
	if ans.Status != http.StatusOK {
		return ans.refusal()
	}
	return nil
}

// CloseIdleConnections closes the connections that are not in use.
func (c *Client) CloseIdleConnections() { c.transport().CloseIdleConnections() }

func (c *Client) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	return context.WithTimeout(ctx, timeout)
}

// maxBody is how much of an answer is read.
const maxBody = 1 << 20

// send makes one attempt; its error is an *Error.
func (c *Client) send(ctx context.Context, a *attempt) (*Answer, error) {
	transport := c.transport()
	if a.cert != nil {
		// A connection of its own for each request: tokens are fetched rarely, and no
		// other request can ever ride on this client's identity.
		transport = withCertificate(transport, a.cert)
	}
	var p progress
	host := a.req.URL.Host
	sent := time.Now().Round(0) // wall clock: a suspended machine's tokens expire too
	start := time.Now()
	resp, err := transport.RoundTrip(a.req.WithContext(p.watch(ctx)))
	if err != nil {
		return nil, failure(ctx, err, p.stage.Load().(Stage), host, time.Since(start), a.hide)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		e := failure(ctx, err, StageResponse, host, time.Since(start), a.hide)
		e.Status = resp.StatusCode
		return nil, e
	}
	if len(body) > maxBody {
		return nil, &Error{Stage: StageResponse, Class: Permanent, Status: resp.StatusCode, Message: "the answer is larger than 1 MiB"}
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body, Sent: sent, Received: time.Now(), hide: a.hide}, nil
}

func (c *Client) transport() *http.Transport {
	c.once.Do(func() {
		if c.Transport == nil {
			c.shared = &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				ForceAttemptHTTP2:   true,
				TLSHandshakeTimeout: 10 * time.Second,
				IdleConnTimeout:     30 * time.Second, // shorter than any load balancer's
				MaxIdleConns:        100,
			}
		} else {
			c.shared = c.Transport.Clone()
		}
		// Decompression by the transport is streamed, and so bounded by maxBody.
		c.shared.DisableCompression = false
		if c.shared.MaxResponseHeaderBytes == 0 {
			c.shared.MaxResponseHeaderBytes = maxBody
		}
	})
	return c.shared
}

// withCertificate returns a copy of t that presents cert, to whatever the server asks for,
// and keeps neither connections nor TLS sessions.
func withCertificate(t *http.Transport, cert *tls.Certificate) *http.Transport {
	t = t.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	t.TLSClientConfig.ClientSessionCache = nil
	t.DisableKeepAlives = true
	return t
}
