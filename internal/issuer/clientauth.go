package issuer

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// The registered authentication methods of a client (RFC 7591 section 2), and authSecret, which
// a client has that registered none: its secret, sent either way (RFC 6749 section 2.3.1).
const (
	authSecret = "client_secret"
	authBasic  = "client_secret_basic"
	authPost   = "client_secret_post"
)

// presented is what a client shows of itself.
type presented struct{ id, secret, method string }

// readPresented finds the one way in which the request authenticates (RFC 6749 section 2.3).
func readPresented(r *http.Request, f form) (presented, *oauthError) {
	var p presented
	switch headers := r.Header["Authorization"]; len(headers) {
	case 0:
		p = presented{f.get("client_id"), f.get("client_secret"), authPost}
	case 1:
		id, secret, ok := parseBasic(headers[0])
		if !ok {
			return p, invalidClient("the Authorization header is not HTTP Basic with a form-encoded id and secret")
		}
		if f.get("client_secret") != "" {
			return p, invalidRequest("the client authenticates in two ways")
		}
		if other := f.get("client_id"); other != "" && other != id {
			return p, invalidRequest("client_id is not that of the Authorization header")
		}
		p = presented{id, secret, authBasic}
	default:
		return p, invalidRequest("there are two Authorization headers")
	}
	if f.get("client_assertion") != "" || f.get("client_assertion_type") != "" {
		if p.secret != "" {
			return p, invalidRequest("the client authenticates in two ways")
		}
		return p, invalidClient("this server takes no client assertions")
	}
	if p.id == "" || p.secret == "" {
		return p, invalidClient("the client must authenticate, with HTTP Basic or client_id and client_secret in the body")
	}
	return p, nil
}

func invalidClient(description string) *oauthError {
	return &oauthError{status: http.StatusUnauthorized, code: "invalid_client", description: description}
}

// authenticate returns the client that the request proves to come from, and the id of the
// secret it used. An unknown client, a wrong secret, an inactive client and a method that is not
// the registered one look alike, in words and in time: each compares a hash in memory,
// and asks the database for one number.
func (i *Issuer) authenticate(ctx context.Context, r *http.Request, from netip.Addr, f form) (*client, string, *oauthError) {
	p, failure := readPresented(r, f)
	if failure != nil {
		return nil, "", failure
	}
	if !utf8.ValidString(p.id) || strings.Contains(p.id, "\x00") {
		p.id = "" // no client has that id either, and PostgreSQL takes it for text
	}
	now := time.Now()
	c := i.nobody
	if e := i.clients.entry(p.id); e != nil {
		c = e.state.Load()
	}
	if secretID, ok := i.accepts(c, p.secret, p.method, now); ok {
		return c, secretID, nil
	}
	if wait := i.failures.failed(from, p.id, now); wait > 0 {
		return nil, "", &oauthError{status: http.StatusTooManyRequests, code: "invalid_client",
			description: "too many failed attempts from this address", retryAfter: wait}
	}
	// The client, or its secret, may have been made a moment ago on another replica.
	version, err := i.version(ctx, p.id)
	if err != nil {
		return nil, "", unavailable(err)
	}
	if version > c.version {
		if err := i.reload(ctx, p.id); err != nil {
			return nil, "", unavailable(err)
		}
		if e := i.clients.entry(p.id); e != nil {
			c = e.state.Load()
			if secretID, ok := i.accepts(c, p.secret, p.method, now); ok {
				return c, secretID, nil
			}
		}
	}
	if c.ID != "" {
		i.usage.refused(c.ID, now)
	}
	i.Log.Warn("client not authenticated", "client", c.ID, "address", from) // no id: an unknown one
	return nil, "", invalidClient(wrongClient)
}

const wrongClient = "the client is unknown, or its secret or authentication method is wrong"

func unavailable(err error) *oauthError {
	return &oauthError{status: http.StatusServiceUnavailable, code: "temporarily_unavailable",
		description: "the database is away, try again", retryAfter: time.Second, err: err}
}
