package grant

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Transport is an http.RoundTripper that authorizes requests: it adds a token of Source to
// each, as a bearer token (RFC 6750 section 2.1) or with a DPoP proof (RFC 9449 section 7).
//
//   - A 401 drops the token, fetches another one and sends the request once more, if its
//     body can be sent again: there is none, or the request has GetBody. A token that is refused on its
//     first use is not dropped again for a minute, so that an API that refuses every token
//     does not turn into a storm on the token endpoint.
//   - A 401 that asks for a DPoP nonce is sent once more with that nonce and the same token.
//   - A redirect to another origin goes out without token, as does everything after it.
//   - A request over plain http is refused, unless it goes to a loopback address, and so is
//     one with an access_token in the URL.
//
// The caller's request is not changed and does not get to see the token. Set the fields
// before the first use; a Transport is safe for concurrent use and must not be copied.
type Transport struct {
	// Source returns a token that is valid now, typically from a cache. Required.
	Source func(ctx context.Context) (*Token, error)

	// Drop takes the token with the given Fingerprint out of the cache, if it is still
	// there. nil when Source does not cache.
	Drop func(fingerprint string)

	// Prove makes the DPoP proof for a request with a token whose key is elsewhere: one of type
	// DPoP without a key. nil when there are no such tokens.
	Prove func(ctx context.Context, method, url, nonce string) (proof string, err error)

	// Base makes the requests; nil means http.DefaultTransport.
	Base http.RoundTripper

	nonces nonces

	mu        sync.Mutex
	refused   string // fingerprint of a fresh token that got a 401, guarded by mu
	refusedAt time.Time
}

// refusedPause is how long a token that was refused fresh is not renewed again.
const refusedPause = time.Minute

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.roundTrip(req)
	if resp != nil {
		resp.Request = req // not our copy with the token in it
	}
	return resp, err
}

func (t *Transport) roundTrip(req *http.Request) (*http.Response, error) {
	if crossOrigin(req) {
		return t.base().RoundTrip(req)
	}
	token, err := t.token(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := t.send(req, token, req.Body)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if token.Type == typeDPoP && wantsNonce(resp) {
		resp, err = t.again(req, token, resp)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || wantsNonce(resp) {
			return resp, err
		}
	}
	old := token.Fingerprint()
	if t.refusedLately(old) {
		return resp, nil
	}
	if t.Drop != nil {
		t.Drop(old)
	}
	if !replayable(req) {
		return resp, nil
	}
	token, err = t.Source(req.Context())
	if err != nil || token.Fingerprint() == old {
		return resp, nil // the 401 tells more
	}
	resp, err = t.again(req, token, resp)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		t.mu.Lock()
		t.refused, t.refusedAt = token.Fingerprint(), time.Now()
		t.mu.Unlock()
	}
	return resp, err
}

// token returns the token for req, if req may carry one.
func (t *Transport) token(req *http.Request) (*Token, error) {
	if err := CheckAPIURL(req.URL); err != nil {
		return nil, err
	}
	return t.Source(req.Context())
}

// CheckAPIURL tells why a request to u must not be authorized: it would go over plain http to
// another machine, or carries an access_token already.
func CheckAPIURL(u *url.URL) error {
	switch {
	case u.Scheme != "https" && !isLoopback(u.Hostname()):
		return errors.New("authorizing a request: a token must not go over plain http (RFC 6750 section 5.3)")
	case strings.Contains(u.RawQuery, "access_token=") && u.Query().Has("access_token"):
		return errors.New("authorizing a request: the URL carries an access_token already (RFC 6750 section 2)")
	}
	return nil
}

// again sends req once more in place of resp, which it closes, or returns resp when it cannot.
func (t *Transport) again(req *http.Request, token *Token, resp *http.Response) (*http.Response, error) {
	if !replayable(req) {
		return resp, nil
	}
	body := req.Body
	if req.GetBody != nil {
		var err error
		if body, err = req.GetBody(); err != nil {
			return resp, nil
		}
	}
	io.CopyN(io.Discard, resp.Body, 4<<10) // lets the connection be used again
	resp.Body.Close()
	return t.send(req, token, body)
}

func (t *Transport) send(req *http.Request, token *Token, body io.ReadCloser) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.Body = body
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	token.SetAuthHeader(out)
	out.Header.Del("DPoP")
	if token.Type == typeDPoP {
		proof, err := t.proof(req, token)
		if err != nil {
			if body != nil {
				body.Close()
			}
			return nil, err
		}
		out.Header.Set("DPoP", proof)
	}
	resp, err := t.base().RoundTrip(out)
	if err == nil && token.Type == typeDPoP {
		t.nonces.learn(req.URL, resp.Header)
	}
	return resp, err
}

// proof makes the DPoP proof for req (RFC 9449 section 7.1).
func (t *Transport) proof(req *http.Request, token *Token) (string, error) {
	nonce := t.nonces.get(req.URL)
	switch {
	case token.DPoP != nil:
		return token.DPoP.Proof(req.Method, req.URL.String(), nonce, token.AccessToken)
	case t.Prove != nil:
		return t.Prove(req.Context(), req.Method, req.URL.String(), nonce)
	}
	return "", errors.New("authorizing a request: the key of the DPoP token is missing")
}

func (t *Transport) refusedLately(fingerprint string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused == fingerprint && time.Since(t.refusedAt) < refusedPause
}

func (t *Transport) base() http.RoundTripper {
	if t.Base == nil {
		return http.DefaultTransport
	}
	return t.Base
}

// replayable tells whether req can be sent again.
func replayable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// wantsNonce tells whether resp asks for another try with its nonce (RFC 9449 section 9).
func wantsNonce(resp *http.Response) bool {
	return resp.Header.Get("DPoP-Nonce") != "" &&
		strings.Contains(strings.Join(resp.Header.Values("WWW-Authenticate"), ","), "use_dpop_nonce")
}

// crossOrigin tells whether req is a redirect that left, at any hop, the origin that the
// caller asked for.
func crossOrigin(req *http.Request) bool {
	var last *url.URL = req.URL
	for prev := req.Response; prev != nil && prev.Request != nil; prev = prev.Request.Response {
		if origin(prev.Request.URL) != origin(last) {
			return true
		}
		last = prev.Request.URL
	}
	return false
}
