package proxy

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/grantway/grantway/internal/broker"
)

// prefix begins the path of every request for the proxy.
const prefix = "/proxy/"

// target is where a request wants to go, taken from its request line as it came.
type target struct {
	credential string // name or id, decoded
	rest       string // what follows the API's base URL, escaped; "" or begins with a slash
	path       string // rest, decoded
	query      string // without the question mark

	// Of an endpoint that a connector names; nil when the caller says where to go:
	whole   *url.URL
	auth    *broker.Authorization // which the URL was made with; the first try has it too
	allowed bool                  // by its name; no list of methods and paths is asked
}

// parseTarget reads a request target (RFC 9112 section 3.2). It takes only what every server on
// the way reads in the same way, so that nobody gets at another path than the one that was
// checked; refused says what is wrong, in a clause for people.
func parseTarget(uri string) (t target, refused string) {
	escaped, ok := strings.CutPrefix(uri, prefix)
	if !ok {
		return t, "the request line must hold a path that begins with /proxy/, not a whole URL"
	}
	escaped, t.query, _ = strings.Cut(escaped, "?")
	name := escaped
	if slash := strings.IndexByte(escaped, '/'); slash >= 0 {
		name, t.rest = escaped[:slash], escaped[slash:]
	}
	if t.credential, refused = decode(name); refused != "" {
		return t, refused
	}
	if strings.ContainsFunc(t.query, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '#' }) {
		return t, "the query holds characters that must be escaped"
	}
	if strings.HasPrefix(t.rest, "//") {
		return t, "the path begins with two slashes"
	}
	t.path, refused = decode(t.rest)
	return t, refused
}

// decode decodes a path and says what, if anything, may be read in two ways in it.
func decode(escaped string) (path, refused string) {
	if strings.IndexByte(escaped, '%') < 0 {
		path = escaped
	} else {
		var err error
		if path, err = url.PathUnescape(escaped); err != nil {
			return "", "the path has an escape (%) that is none"
		}
		if strings.Count(path, "/") != strings.Count(escaped, "/") {
			return "", "the path has an escaped slash"
		}
	}
	for i := 0; i < len(escaped); i++ {
		if c := escaped[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return "", "the path has characters that must be escaped"
		}
	}
	if refused = ambiguous(path); refused != "" {
		return "", refused
	}
	for again := path; strings.IndexByte(again, '%') >= 0; { // somebody may decode it twice
		next, err := url.PathUnescape(again)
		if err != nil || next == again {
			break
		}
		if strings.Count(next, "/") != strings.Count(path, "/") {
			return "", "the path has an escaped slash"
		}
		if refused = ambiguous(next); refused != "" {
			return "", refused
		}
		again = next
	}
	return path, ""
}

func ambiguous(path string) string {
	if !utf8.ValidString(path) {
		return "the path is not UTF-8 text"
	}
	for i := 0; i < len(path); i++ {
		if c := path[i]; c < ' ' || c == 0x7f || c == '\\' {
			return "the path has control characters or backslashes"
		}
	}
	if !strings.Contains(path, ".") {
		return ""
	}
	for segment := range strings.SplitSeq(path, "/") {
		segment, _, _ = strings.Cut(segment, ";") // parameters, which some servers take off first
		if segment == "." || segment == ".." {
			return "the path has a segment . or .."
		}
	}
	return ""
}

// url is the URL of t behind base, with the escapes that the caller chose.
func (t *target) url(base *url.URL) *url.URL {
	if t.whole != nil {
		return t.whole
	}
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + t.path, RawPath: base.EscapedPath() + t.rest, RawQuery: t.query}
}

// through is where callers find to, which an answer named: behind the proxy, if it is of the same
// origin and behind base, else ok is false.
func through(base, to *url.URL, credential string) (path string, ok bool) {
	if to.User != nil || to.Opaque != "" || !strings.EqualFold(to.Scheme, base.Scheme) || !strings.EqualFold(hostPort(to), hostPort(base)) {
		return "", false
	}
	rest, ok := strings.CutPrefix(to.EscapedPath(), base.EscapedPath())
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	path = prefix + url.PathEscape(credential) + rest
	if to.RawQuery != "" {
		path += "?" + to.RawQuery
	}
	if _, refused := parseTarget(path); refused != "" {
		return "", false
	}
	if to.Fragment != "" {
		path += "#" + to.EscapedFragment()
	}
	return path, true
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Hostname() + ":" + u.Port()
	}
	return u.Hostname() + map[string]string{"https": ":443", "http": ":80"}[strings.ToLower(u.Scheme)]
}
