package grant

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

type object = map[string]json.RawMessage

// object decodes the body if it is a JSON object, whatever its content type says.
func (a *Answer) object() (object, bool) {
	var o object
	err := json.Unmarshal(bytes.TrimPrefix(a.Body, []byte("\xef\xbb\xbf")), &o)
	return o, err == nil && o != nil
}

func (a *Answer) ok() bool { return a.Status >= 200 && a.Status < 300 }

// wantsNonce tells whether the server refused the request for want of a DPoP nonce.
func (a *Answer) wantsNonce() bool {
	o, _ := a.object()
	return !a.ok() && text(o["error"]) == "use_dpop_nonce"
}

// Token makes a Token of the answer to r (RFC 6749 section 5.1), or an *Error.
func (a *Answer) Token(r *Request) (*Token, error) {
	hide := a.hide
	top, isObject := a.object()
	if !a.ok() || hasError(top) {
		return nil, a.refusal()
	}
	if !isObject {
		return nil, a.nonsense("the answer is " + a.describe(hide))
	}
	key := r.TokenKey
	if key == "" {
		key = "access_token"
	}
	raw, parent, found := find(top, key)
	if !found {
		names := slices.Sorted(maps.Keys(top))
		return nil, a.nonsense(hide.text(fmt.Sprintf("the answer has no %s; it has: %s", key, cmp.Or(strings.Join(names, ", "), "nothing")), 300, false))
	}
	value := text(raw)
	if value == "" || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil, a.nonsense(hide.text(key, 100, true) + " in the answer is not a token: it must be a string of printable ASCII characters")
	}
	t := &Token{AccessToken: Secret(value), IssuedAt: a.Sent}

	// What belongs to the token stands beside it, or at the top.
	member := func(name string) json.RawMessage {
		if raw, ok := parent[name]; ok {
			return raw
		}
		return top[name]
	}
	if e := a.tokenType(t, r, text(member("token_type")), hide); e != nil {
		return nil, e
	}
	t.Scope, _ = NormalizeScope(r.Scope)
	if granted, ok := scope(member("scope")); ok {
		t.Scope = granted
	}
	asText := func(name string) string {
		if s := text(member(name)); s != "" {
			return s
		}
		return string(member(name))
	}
	if err := a.Expire(t, asText, r.DefaultLifetime); err != nil {
		return nil, err
	}
	return t, nil
}

func (a *Answer) tokenType(t *Token, r *Request, typ string, hide *redactor) *Error {
	optional := r.TokenTypeOptional || r.TokenKey != "" && r.TokenKey != "access_token"
	switch {
	case typ == "" && !optional:
		return a.nonsense("the answer has no token_type (RFC 6749 section 5.1)")
	case typ == "", strings.EqualFold(typ, "Bearer"):
		t.Type = "Bearer"
	case strings.EqualFold(typ, "DPoP"):
		t.Type = typeDPoP
	default:
		return a.nonsense(fmt.Sprintf("token_type %q is neither Bearer nor DPoP", hide.text(typ, 50, false)))
	}
	switch {
	case r.DPoP != nil && t.Type != typeDPoP:
		return a.nonsense("the token is not bound to the DPoP key: its token_type is " + t.Type + "; it was discarded")
	case r.DPoP == nil && t.Type == typeDPoP:
		return a.nonsense("the token is bound to a DPoP key, and none was used")
	}
	t.DPoP = r.DPoP
	return nil
}

// Expire fills in t.ExpiresAt and t.ExpirySource: by what the answer says in one of the members
// expires_in, expires_at, expires_on and expires, else by the exp claim of a JWT, else by
// standard (0 is DefaultLifetime). Its error is an *Error, Temporary: by the next try the server may
// have made a new token.
func (a *Answer) Expire(t *Token, member func(name string) string, standard time.Duration) error {
	seconds, name, source := a.lifetime(t, member, standard)
	return a.ExpireIn(t, seconds, name, source)
}

// ExpireIn is Expire with a lifetime in seconds that is known, what it is called, and the ExpirySource.
func (a *Answer) ExpireIn(t *Token, seconds float64, name, source string) error {
	lifetime := time.Duration(0)
	if seconds > 0 {
		lifetime = time.Duration(min(seconds, MaxLifetime.Seconds()) * float64(time.Second))
	}
	t.ExpiresAt, t.ExpirySource = a.Sent.Add(lifetime), source
	if !t.ExpiresAt.After(a.Received) {
		return &Error{Stage: StageResponse, Class: Temporary, Status: a.Status,
			Message: fmt.Sprintf("the token had expired when it arrived: by %s its lifetime is %g s", name, seconds)}
	}
	return nil
}

// lifetime is how many seconds from a.Sent the token lives, which member or claim says so, and
// the ExpirySource that makes.
func (a *Answer) lifetime(t *Token, member func(string) string, standard time.Duration) (seconds float64, name, source string) {
	for _, name := range []string{"expires_in", "expires_at", "expires_on", "expires"} {
		s := member(name)
		if v, ok := number(s); ok && name == "expires_in" {
			return v, name, "response"
		} else if ok {
			return a.until(v), name, "response"
		}
		for _, parse := range []func(string) (time.Time, error){http.ParseTime, parseRFC3339} {
			if at, err := parse(s); err == nil {
				return at.Sub(a.Sent).Seconds(), name, "response"
			}
		}
	}
	if exp, ok := t.Claims()["exp"].(json.Number); ok {
		if v, ok := number(exp.String()); ok {
			return v - unix(a.Sent), "the claim exp", "jwt"
		}
	}
	return cmp.Or(standard, DefaultLifetime).Seconds(), "default", "default"
}

// until converts v to seconds from a.Sent: a number of seconds or milliseconds since 1970
// is a time, one too small to be a time of this century is a lifetime in seconds.
func (a *Answer) until(v float64) float64 {
	switch {
	case v >= 1e11:
		return v/1000 - unix(a.Sent)
	case v >= 1e9:
		return v - unix(a.Sent)
	}
	return v
}

// number reads a number, however large.
func number(s string) (float64, bool) {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	return v, (err == nil || math.IsInf(v, 0)) && !math.IsNaN(v)
}

func parseRFC3339(s string) (time.Time, error) { return time.Parse(time.RFC3339, s) }

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// refusal makes an Error of an answer that is an error, or is no token.
func (a *Answer) refusal() *Error {
	hide := a.hide
	e := &Error{Stage: StageResponse, Status: a.Status, RetryAt: retryAt(a.Header.Get("Retry-After"))}
	o, _ := a.object()
	code := ""
	if hasError(o) {
		var inner object // some servers nest: {"error": {"code": …, "message": …}}
		_ = json.Unmarshal(o["error"], &inner)
		code = cmp.Or(text(o["error"]), text(inner["code"]), text(inner["status"]), text(inner["type"]))
		description := cmp.Or(text(o["error_description"]), text(inner["message"]), text(inner["description"]))
		e.Code = hide.text(code, 100, false)
		e.Description = hide.text(description, 500, !a.ok())
		if u, err := url.Parse(text(o["error_uri"])); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
			e.URI = hide.text(u.String(), 500, true)
		}
	}
	e.Class = class(a.Status, code, !e.RetryAt.IsZero())
	to, err := url.Parse(a.Header.Get("Location"))
	said := "the server answered " + cmp.Or(http.StatusText(a.Status), "with an unknown status")
	switch {
	case e.Code != "":
	case e.Description != "":
		e.Message = e.Description
	case a.Status >= 300 && a.Status < 400 && err == nil && to.Host != "":
		to = &url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}
		e.Message = "the server redirects to " + hide.text(to.String(), 200, true) + ", which is refused"
	case a.Status >= 300 && a.Status < 400:
		e.Message = "the server redirects, which is refused"
	default:
		e.Message = said + " and " + a.describe(hide)
	}
	return e
}

// class says what to do about an error reply. See Class.
func class(status int, code string, retryAfter bool) Class {
	switch {
	case status == http.StatusTooManyRequests, code == "slow_down", status == http.StatusServiceUnavailable && retryAfter:
		return Throttled
	case code == "temporarily_unavailable", code == "server_error", code == "use_dpop_nonce":
		return Temporary
	case strings.HasPrefix(code, "invalid_"), strings.HasPrefix(code, "unauthorized_"), strings.HasPrefix(code, "unsupported_"):
		return Permanent
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return Temporary
	}
	return Permanent
}

// maxRetryAfter is the longest that a server can hold us off.
const maxRetryAfter = 24 * time.Hour

// retryAt reads a Retry-After header: seconds or a date (RFC 9110 section 10.2.3). It is zero
// when there is none or it makes no sense.
func retryAt(header string) time.Time {
	now := time.Now().Round(0)
	at, err := http.ParseTime(header)
	if err != nil {
		n, err := strconv.ParseUint(header, 10, 64)
		if err != nil {
			return time.Time{}
		}
		at = now.Add(time.Duration(min(n, uint64(maxRetryAfter/time.Second))) * time.Second)
	}
	if latest := now.Add(maxRetryAfter); at.After(latest) {
		return latest
	}
	return at
}

func (a *Answer) nonsense(message string) *Error {
	return &Error{Stage: StageResponse, Class: Permanent, Status: a.Status, Message: message}
}

// describe names what the body is and shows a piece of it.
func (a *Answer) describe(hide *redactor) string {
	if len(bytes.TrimSpace(a.Body)) == 0 {
		return "empty"
	}
	return a.kind() + ": " + hide.body(a.Body, a.Status)
}

// kind names what the body, which is not empty, is.
func (a *Answer) kind() string {
	b := bytes.TrimSpace(a.Body)
	media, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	switch {
	case json.Valid(b) && b[0] == '[':
		return "a JSON array, not an object"
	case json.Valid(b) && b[0] != '{':
		return "JSON, but not an object"
	case json.Valid(b):
		return "a JSON object"
	case b[0] == '<' || strings.Contains(media, "html"):
		return "a web page, not JSON"
	}
	return "not JSON"
}

// find returns the member of o that key names, and the object it stands in: key as it is, else as a path.
func find(o object, key string) (value json.RawMessage, in object, ok bool) {
	if v, ok := o[key]; ok {
		return v, o, true
	}
	for first, rest := range splits(key) {
		var inner object
		if json.Unmarshal(o[first], &inner) == nil && inner != nil {
			if v, in, ok := find(inner, rest); ok {
				return v, in, true
			}
		}
	}
	return nil, nil, false
}

// splits yields the ways to cut a path at a dot.
func splits(key string) func(func(string, string) bool) {
	return func(yield func(string, string) bool) {
		for i, c := range key {
			if c == '.' && !yield(key[:i], key[i+1:]) {
				return
			}
		}
	}
}

// hasError tells whether o is an error reply. Some servers send an empty error with every token.
func hasError(o object) bool {
	switch string(o["error"]) {
	case "", "null", `""`, "false", "0", "{}", "[]":
		return false
	}
	return true
}

// text is the string that raw is, else "".
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// scope reads a scope member: a string, or a list of them.
func scope(raw json.RawMessage) (string, bool) {
	var one string
	var many []string
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return "", false
	case json.Unmarshal(raw, &one) == nil:
	case json.Unmarshal(raw, &many) == nil:
		one = strings.Join(many, " ")
	default:
		return "", false
	}
	return oneLine(one), true
}

// Claims decodes the claims of an access token that is a JWT, numbers as json.Number,
// WITHOUT verifying anything: they say what the server meant, not what is true. nil when
// the token is opaque.
func (t *Token) Claims() map[string]any {
	parts := strings.Split(string(t.AccessToken), ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return nil
	}
	var claims map[string]any
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if d.Decode(&claims) != nil {
		return nil
	}
	return claims
}
