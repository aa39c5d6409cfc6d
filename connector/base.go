package connector

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
)

// parseBaseURL parses what paths are put below, which must not hold anything that servers read in
// two ways.
func parseBaseURL(s string) (*url.URL, error) {
	u, err := parseURL(s)
	switch {
	case err != nil:
		return nil, err
	case strings.Contains(s, "?"):
		return nil, errors.New("must not have a query (?)")
	case looksNumeric(u.Hostname()):
		return nil, errors.New("must have a name or a plain IP address as its host, not an address in another spelling")
	case strings.ContainsAny(u.Path, `%\`) || strings.Count(u.Path, "/") != strings.Count(u.EscapedPath(), "/"):
		return nil, errors.New("must not have an escaped slash, backslash or percent sign in its path")
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	for segment := range strings.SplitSeq(strings.TrimPrefix(u.Path, "/"), "/") {
		segment, _, _ = strings.Cut(segment, ";") // parameters, which some servers take off first
		if segment == "." || segment == ".." || segment == "" && u.Path != "" {
			return nil, errors.New("must not have empty segments, . or .. in its path")
		}
	}
	return u, nil
}

// looksNumeric tells whether some resolver may take host for an address although it is not
// written like one: 2130706433, 0x7f.1, 0177.0.0.1 (WHATWG URL, "ends in a number").
func looksNumeric(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	host = strings.TrimSuffix(host, ".")
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	hex, isHex := strings.CutPrefix(last, "0x")
	if isHex {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}
