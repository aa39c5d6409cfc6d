package grant

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Stage says how far a token request came before it failed.
type Stage string

// The stages of a token request, in order.
const (
	StagePrepare  Stage = "prepare"  // the request could not be built: a bad key, an unreadable assertion file
	StageAddress  Stage = "address"  // the name did not resolve, or no connection could be made
	StageTLS      Stage = "tls"      // the TLS handshake or the certificate check failed
	StageRequest  Stage = "request"  // the request was not sent or answered in time
	StageResponse Stage = "response" // an answer came, and it was an error or made no sense
)

// Class says what a caller should do about a failure.
type Class string

const (
	// Permanent failures repeat until somebody changes a setting: invalid_client,
	// unauthorized_client, invalid_scope, an answer that is no token, a bad certificate.
	Permanent Class = "permanent"
	// Temporary failures go away by themselves: network faults, 5xx.
	Temporary Class = "temporary"
	// Throttled means the server said when to come back (429, or 503 with Retry-After).
	Throttled Class = "throttled"
)

// Error is a failed token request, revocation or discovery. No field ever holds a secret: bodies are cut and
// what was sent is redacted before it gets here.
type Error struct {
	Stage  Stage
	Class  Class
	Status int // HTTP status, 0 when no answer came

	// Code, Description and URI are the error members of the reply (RFC 6749 section 5.2),
	// or of our own making where the reply had none: Code is then "" and Message tells.
	Code, Description, URI string

	// Message says in one sentence what happened, for failures that have no Code.
	Message string

	// RetryAt is when the server asked us to come back (RFC 9110 section 10.2.3); zero when it did not.
	RetryAt time.Time

	// Err is the cause, if there is one; errors.Is and errors.As reach it.
	Err error

	op string // what failed; "" is a token request
}

// during says that the *Error err, if it is not nil, is of op and not of a token request.
func during(op string, err error) error {
	if e, ok := err.(*Error); ok {
		e.op = op
	}
	return err
}

// Error implements error. The text is fit for an administrator's eyes.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(cmp.Or(e.op, "token request") + ": ")
	switch {
	case e.Code != "":
		b.WriteString(e.Code)
		if e.Description != "" {
			fmt.Fprintf(&b, ": %s", e.Description)
		}
	case e.Message != "":
		b.WriteString(e.Message)
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	default:
		b.WriteString(string(e.Stage))
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
