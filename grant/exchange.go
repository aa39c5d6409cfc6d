package grant

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Exchange is one request of a kind that RFC 6749 does not know: a login that speaks JSON
// or XML, a GET with a key in a header. Who makes it answers for what is in it; a Client adds
// that no redirect is followed, that the answer is bounded, and that no error repeats Secrets.
type Exchange struct {
	// Request is what to send: to an https URL, or an http one of a loopback address.
	Request *http.Request

	// Certificate is the client certificate of the connection (RFC 8705); nil means none.
	Certificate *tls.Certificate

	// Secrets are taken out of whatever a server says before it becomes part of an error.
	Secrets []string

	// Public is what was sent and is no secret, although it may look like one.
	Public string
}

func (x *Exchange) attempt() *attempt {
	return &attempt{req: x.Request, cert: x.Certificate, hide: newRedactor(x.Secrets, x.Public+" "+x.Request.URL.Host+x.Request.URL.Path)}
}

// checkRequestURL is what is checked of every URL; unlike a token URL it may carry a secret,
// because there are vendors who want it there.
func checkRequestURL(u *url.URL) error {
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Opaque != "", u.Hostname() == "":
		return errors.New("must start with https:// and name a host")
	case u.User != nil:
		return errors.New("must not have a user name or password before the host")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("must be https; plain http is only for a loopback address")
	}
	return nil
}

// Answer is an HTTP response that was read whole. It must not be changed.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte

	// Sent is when the request went out, which is where lifetimes begin, Received when the answer was there.
	Sent, Received time.Time

	hide *redactor
}

// NewAnswer makes an answer that did not come over the network, to x: for trying out definitions with
// what was recorded.
func NewAnswer(x *Exchange, status int, header http.Header, body []byte, at time.Time) *Answer {
	return &Answer{Status: status, Header: header, Body: bytes.Clone(body), Sent: at, Received: at, hide: x.attempt().hide}
}

// Fail makes an *Error of an answer that makes no sense. What the message quotes of the
// answer must be names only, and is cleaned once more of what was sent.
func (a *Answer) Fail(format string, args ...any) *Error {
	return a.nonsense(a.hide.text(fmt.Sprintf(format, args...), 400, false))
}

// Refusal makes an *Error of an answer that is an error in the vendor's own words. Without
// code and description it reads the error of RFC 6749 section 5.2, or describes what came.
func (a *Answer) Refusal(code, description string) *Error {
	if code == "" && description == "" {
		return a.refusal()
	}
	e := &Error{Stage: StageResponse, Status: a.Status, RetryAt: retryAt(a.Header.Get("Retry-After"))}
	e.Code = a.hide.text(code, 100, false)
	e.Description = a.hide.text(description, 500, !a.ok())
	if e.Code == "" {
		e.Message = e.Description
	}
	e.Class = class(a.Status, code, !e.RetryAt.IsZero())
	return e
}

// TokenType puts the token type of an answer into its registered spelling: Bearer when it is
// empty, in whatever case it is written.
func TokenType(s string) string {
	switch {
	case s == "", strings.EqualFold(s, "Bearer"):
		return "Bearer"
	case strings.EqualFold(s, typeDPoP):
		return typeDPoP
	}
	return s
}
