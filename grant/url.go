package grant

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckTokenURL says what is wrong with a token endpoint's URL, or nil. It must be
// absolute, with a host, without fragment (RFC 6749 section 3.2) and user info; https,
// or http to a loopback address; and it must not carry a client secret or assertion,
// which belong in the body or a header (RFC 6749 section 2.3.1).
// The error does not repeat the URL.
func CheckTokenURL(raw string) error {
	_, err := parseEndpoint(raw)
	return err
}

// CheckResource says why raw cannot be sent as resource, which is an absolute URI without
// fragment (RFC 8707 section 2); nil when it can.
func CheckResource(raw string) error {
	if u, err := url.Parse(raw); err != nil || !u.IsAbs() || strings.Contains(raw, "#") {
		return errors.New("must be an absolute URI without fragment (RFC 8707 section 2)")
	}
	return nil
}

// secretParams are the parameters that never go into a URL.
var secretParams = []string{"client_secret", "client_assertion", "assertion", "access_token", "password"}

func parseEndpoint(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, errors.New("is missing")
	}
	if !utf8.ValidString(raw) || strings.ContainsFunc(raw, func(c rune) bool {
		return unicode.IsSpace(c) || !unicode.IsPrint(c) || c == '\\'
	}) {
		return nil, errors.New("must not contain spaces, control characters or backslashes")
	}
	if strings.Contains(raw, "#") {
		return nil, errors.New("must not have a fragment (#)")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http", u.Opaque != "":
		return nil, errors.New("must start with https://")
	case u.User != nil:
		return nil, errors.New("must not have a user name or password before the host")
	case u.Hostname() == "":
		return nil, errors.New("must name a host")
	case strings.Contains(u.Host, "%"):
		return nil, errors.New("must not have an address zone or an escape in the host")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("must be https; plain http is only for a loopback address")
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("must have a port between 1 and 65535")
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("has a malformed query")
	}
	for _, name := range secretParams {
		if query.Has(name) {
			return nil, errors.New("must not carry " + name + " in its query")
		}
	}
	return u, nil
}

// isLoopback tells whether host is this machine by name or by address. What a name
// resolves to is the dialer's business.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// origin is scheme, host and port of u in one spelling (RFC 6454 section 4): what is said
// to one server stays with that server.
func origin(u *url.URL) string {
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return scheme + "://" + host
}
