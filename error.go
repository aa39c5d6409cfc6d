package grantway

import (
	"fmt"
	"strings"
	"time"
)

// Code classes an Error. The hub maps each code to one HTTP status, and Client maps back.
type Code string

// The codes, with the HTTP status each has on the wire.
const (
	Malformed          Code = "malformed"           // 400: not JSON, not a form, unknown field
	Unauthenticated    Code = "unauthenticated"     // 401: no token, or one that is not valid
	Forbidden          Code = "forbidden"           // 403: the caller's roles do not allow it
	NotFound           Code = "not_found"           // 404
	MethodNotAllowed   Code = "method_not_allowed"  // 405
	Conflict           Code = "conflict"            // 409: name taken, still in use, idempotency key reused
	PreconditionFailed Code = "precondition_failed" // 412: If-Match does not name the current version
	TooLarge           Code = "too_large"           // 413: body over 1 MiB
	UnsupportedMedia   Code = "unsupported_media"   // 415
	Invalid            Code = "invalid"             // 422: one or more fields are wrong; see Fields
	RateLimited        Code = "rate_limited"        // 429: see RetryAt
	Internal           Code = "internal"            // 500: our fault; details are in the hub's log only
	TokenRefused       Code = "token_refused"       // 502: the token endpoint said no, and will go on saying no
	UpstreamFailed     Code = "upstream_failed"     // 502: the API behind /proxy did not answer, or answered what must not be passed on
	UpstreamTimeout    Code = "upstream_timeout"    // 504: the API behind /proxy did not answer in time
	Unavailable        Code = "unavailable"         // 503: the token endpoint, a secret store or the database is away; see RetryAt
)

// Error is what the hub tells a caller: a code to branch on, one sentence for people
// that says what to do, and the fields that are wrong. It never holds a secret.
type Error struct {
	Code    Code
	Message string

	// Fields names each wrong field of a request body; nil when the fault is not in a field.
	Fields []Field

	// RetryAt is when trying again makes sense; zero when waiting does not help or nobody knows.
	RetryAt time.Time

	// Err is the cause for the log. It is not sent to callers.
	Err error
}

// Field is one wrong field: a JSON pointer into the request body (RFC 6901) and what is
// wrong with it. It does not repeat the value, which may be a secret.
type Field struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// Pointer makes the JSON pointer (RFC 6901) of the member that names lead to; the whole
// document is "".
func Pointer(names ...string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
	}
	return b.String()
}

// Errorf makes an Error with a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error: the message, then each field on its own.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	for i, f := range e.Fields {
		b.WriteString(map[bool]string{true: ": ", false: "; "}[i == 0])
		b.WriteString(strings.TrimPrefix(f.Pointer, "/") + " " + f.Detail)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
