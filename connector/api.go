package connector

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// API is what a connector says about the API of its application, for one credential.
type API struct {
	// Base is the URL that paths are put behind: absolute, without query and fragment, and
	// without a slash at the end of its path.
	Base *url.URL

	// PerMinute is how many requests a minute the API takes; 0 means that nobody said.
	PerMinute int
}

// API returns what is known of the API, nil when the values do not say where it is. They must
// have passed Check.
func (d *Definition) API(values map[string]grantway.Value) *API {
	base, err := parseBaseURL(d.text(values, "base_url"))
	if err != nil {
		return nil
	}
	perMinute, _ := strconv.Atoi(d.text(values, "requests_per_minute"))
	return &API{Base: base, PerMinute: perMinute}
}

// maxCount is the greatest value of an input of type Count.
const maxCount = 1_000_000

// parseBaseURL reads the value of an input of type BaseURL. A request's path is put behind it,
// so it holds nothing that a server may read in two ways.
func parseBaseURL(s string) (*url.URL, error) {
	if err := grant.CheckTokenURL(s); err != nil {
		return nil, err
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	switch {
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("must not have a query (?)")
	case looksNumeric(u.Hostname()):
		return nil, errors.New("must have a name or a plain IP address as its host, not an address in another spelling")
	case strings.Contains(s, "%"):
		return nil, errors.New("must not have an escape (%) in its path")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	for segment := range strings.SplitSeq(strings.TrimPrefix(u.Path, "/"), "/") {
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
