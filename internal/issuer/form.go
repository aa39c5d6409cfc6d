package issuer

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// form is the body of a token request (RFC 6749 section 3.2 and Appendix B). A parameter
// without a value is left out, as if it had not been sent.
type form struct {
	values map[string]string
	many   map[string][]string // the parameters that may come more than once
}

func (f form) get(name string) string { return f.values[name] }

// repeatable are the parameters that may come more than once (RFC 8707 section 2, RFC 8693
// section 2.1).
func repeatable(name string) bool { return name == "resource" || name == "audience" }

// parseForm reads an application/x-www-form-urlencoded body. It is stricter than net/url:
// what it does not understand it refuses, because two readers of one request must not differ.
func parseForm(body string) (form, *oauthError) {
	f := form{values: map[string]string{}, many: map[string][]string{}}
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		if err1 != nil || err2 != nil || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return form{}, invalidRequest("the body is not a form in UTF-8")
		}
		switch _, repeated := f.values[name]; {
		case value == "":
		case repeatable(name):
			f.many[name] = append(f.many[name], value)
		case repeated:
			return form{}, invalidRequest("a parameter is there twice")
		default:
			f.values[name] = value
		}
	}
	return f, nil
}

// secretParams are the parameters that must not be in a URL, where they end up in logs.
var secretParams = []string{"client_secret", "client_assertion", "assertion", "password", "code",
	"code_verifier", "refresh_token", "access_token", "subject_token", "actor_token", "token"}

// secretIn says whether a query, well-formed or not, holds a secret parameter.
func secretIn(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if slices.Contains(secretParams, name) {
			return true
		}
	}
	return false
}

// parseBasic reads the value of an Authorization header of the scheme Basic. Id and secret
// are form-encoded each, within the encoding of the scheme (RFC 6749 section 2.3.1); ok is
// false if they are not.
func parseBasic(header string) (id, secret string, ok bool) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	pair, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", false
	}
	id, secret, ok = strings.Cut(string(pair), ":")
	if !ok {
		return "", "", false
	}
	id, err1 := url.QueryUnescape(id)
	secret, err2 := url.QueryUnescape(secret)
	return id, secret, err1 == nil && err2 == nil
}
