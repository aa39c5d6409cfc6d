package connector

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// position is where the value of an expression goes. A value that cannot stand there without
// changing what is around it is escaped, or refused.
type position uint8

const (
	inText      position = iota // on its own: nothing can go wrong
	inURL                       // all of a URL
	inBase                      // the beginning of a URL: scheme, host and perhaps a path
	inAuthority                 // host, or host and port, all of it
	inHost                      // a part of a host
	inPath                      // a part of a segment of a path
	inQuery                     // a part of a name or value of a query
	inHeader                    // a part of a header's value
	inCookie                    // a part of a cookie's value
	inString                    // a part of a JSON or GraphQL string
	inXML                       // a part of text or of an attribute's value in XML
	inWord                      // a number or name in JSON or GraphQL, outside of quotes
)

// escape makes text fit for its position. The error goes on after "the value of x".
func (p position) escape(text string) (string, error) {
	if p != inText && !utf8.ValidString(text) {
		return "", errors.New("is not valid UTF-8")
	}
	switch p {
	case inURL:
		if _, err := parseURL(text); err != nil {
			return "", fmt.Errorf("as URL %w", err)
		}
	case inBase:
		if _, err := parseURL(text); err != nil {
			return "", fmt.Errorf("as URL %w", err)
		}
		if strings.Contains(text, "?") {
			return "", errors.New("must be a URL without query")
		}
		return strings.TrimSuffix(text, "/"), nil
	case inAuthority:
		return text, checkAuthority(text)
	case inHost:
		if text == "" || strings.ContainsFunc(text, notHost) {
			return "", errors.New("may have letters, digits, dots and dashes only: it is a part of a host")
		}
	case inPath:
		if text == "" {
			return "", errors.New("is empty, and a part of a path")
		}
		return escapePath(text), nil
	case inQuery:
		return url.QueryEscape(text), nil
	case inHeader:
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return "", errors.New("has a control character such as a line break, and is a part of a header")
		}
	case inCookie:
		if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`",;\`, c) }) {
			return "", errors.New("has a character that a cookie cannot have")
		}
	case inString:
		return escapeString(text)
	case inXML:
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xFFFE || c == 0xFFFF }) {
			return "", errors.New("has a control character, which XML cannot have")
		}
		var b bytes.Buffer
		err := xml.EscapeText(&b, []byte(text))
		return b.String(), err
	case inWord:
		if text == "" || strings.ContainsFunc(text, func(c rune) bool {
			return c > unicode.MaxASCII || !(unicode.IsLetter(c) || unicode.IsDigit(c) || c == '_' || c == '-' || c == '.')
		}) {
			return "", errors.New("stands outside of quotes, where only numbers and names may; put the expression into quotes")
		}
	}
	return text, nil
}

func escapeString(text string) (string, error) {
	b, err := marshal(text)
	if err != nil {
		return "", err
	}
	return string(b[1 : len(b)-1]), nil
}

// marshal is JSON without the escapes that only HTML needs.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// escapePath escapes text for a segment of a path, and leaves alone what RFC 3986 section 3.3 lets stand.
func escapePath(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(text) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~!$'()*+,=:@", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

func notHost(c rune) bool {
	return c > unicode.MaxASCII || !(unicode.IsLetter(c) || unicode.IsDigit(c) || c == '.' || c == '-')
}

// checkAuthority says what is wrong with a host, with or without port.
func checkAuthority(s string) error {
	wrong := errors.New("must be a host such as api.example.com, with or without a port")
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return wrong
		}
		if a, err := netip.ParseAddr(s[1:end]); err != nil || a.Zone() != "" {
			return wrong
		}
		host, port = "v6", s[end+1:]
	} else if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i:]
	}
	if port != "" {
		if n, err := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16); err != nil || n == 0 || port[0] != ':' {
			return wrong
		}
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, notHost) || strings.HasPrefix(host, ".") || strings.Contains(host, "..") {
		return wrong
	}
	return nil
}

// parseURL parses the URL of a request: absolute, https or http to a loopback address,
// without user info and fragment. Errors do not repeat it.
func parseURL(raw string) (*url.URL, error) {
	if !utf8.ValidString(raw) || strings.ContainsFunc(raw, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) || c == '\\' }) {
		return nil, errors.New("must not contain spaces, control characters or backslashes")
	}
	if strings.Contains(raw, "#") {
		return nil, errors.New("must not have a fragment (#)")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("is not a URL")
	case u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "":
		return nil, errors.New("must start with https://")
	case u.User != nil:
		return nil, errors.New("must not have a user name or password before the host")
	}
	if err := checkAuthority(u.Host); err != nil {
		return nil, err
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, errors.New("must be https; plain http is only for a loopback address")
	}
	if err := checkPath(u.EscapedPath()); err != nil {
		return nil, err
	}
	return u, nil
}

// checkPath refuses segments that servers and proxies take for a step up or for nothing.
func checkPath(escaped string) error {
	for segment := range strings.SplitSeq(escaped, "/") {
		plain, err := url.PathUnescape(segment)
		if err != nil {
			return errors.New("has a malformed escape in its path")
		}
		if plain == "." || plain == ".." {
			return errors.New("must not have . or .. in its path")
		}
	}
	return nil
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Join is the URL of path, which may have a query and is escaped already, below base. Paths that lead
// elsewhere are refused: ones with . or .. segments, also escaped, with a backslash, or with a
// control character.
func Join(base *url.URL, path string) (*url.URL, error) {
	path, query, _ := strings.Cut(path, "?")
	if strings.ContainsFunc(path+query, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '\\' || c == '#' }) {
		return nil, errors.New("the path has a character that must be escaped")
	}
	path = "/" + strings.TrimPrefix(path, "/")
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("the URL %w", err)
	}
	if unescaped, err := url.PathUnescape(path); err != nil || strings.ContainsFunc(unescaped, unicode.IsControl) || strings.Contains(unescaped, "\\") {
		return nil, errors.New("the path has an escape that must not be")
	}
	u := *base
	u.RawQuery = strings.TrimPrefix(strings.Join([]string{base.RawQuery, query}, "&"), "&")
	if query == "" {
		u.RawQuery = base.RawQuery
	}
	escaped := strings.TrimSuffix(base.EscapedPath(), "/") + path
	if path == "/" && base.Path != "" && base.Path != "/" {
		escaped = base.EscapedPath()
	}
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, errors.New("the path has a malformed escape")
	}
	u.Path, u.RawPath = plain, escaped
	return &u, nil
}

// positionURL gives the parts of a URL template their positions. The literal text in front of
// a part decides; an expression at the very beginning is the base.
func positionURL(t *template) error {
	state := inText // of the URL before a part
	var before strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		if !p.dynamic() {
			if strings.Contains(p.literal, "#") {
				return errors.New("must not have a fragment (#)")
			}
			before.WriteString(p.literal)
		}
		text := before.String()
		_, rest, absolute := strings.Cut(text, "://")
		switch {
		case strings.Contains(text, "?"):
			state = inQuery
		case absolute && strings.Contains(rest, "/"), !absolute && strings.HasPrefix(text, "/"), state == inBase, state == inPath:
			state = inPath
		case absolute:
			state = inHost
		default:
			state = inText
		}
		if !p.dynamic() {
			continue
		}
		switch state {
		case inText:
			if i > 0 {
				return errors.New("must begin with https://, or with an expression that is a whole URL")
			}
			p.position, state = inBase, inBase
			if len(t.parts) == 1 {
				p.position = inURL
			}
			before.WriteString("https://base")
		case inHost:
			p.position = inHost
			next := ""
			if i+1 < len(t.parts) {
				next = t.parts[i+1].literal
			}
			if rest == "" && (i+1 == len(t.parts) || strings.HasPrefix(next, "/") || strings.HasPrefix(next, "?")) {
				p.position = inAuthority
			}
			before.WriteString("x")
		default:
			p.position = state
		}
	}
	return nil
}

// positionQuoted gives the parts of a JSON or GraphQL text their positions: inside of quotes or not.
func positionQuoted(t *template) {
	quoted := false
	for i := range t.parts {
		p := &t.parts[i]
		if p.dynamic() {
			if p.position = inWord; quoted {
				p.position = inString
			}
			continue
		}
		for j := 0; j < len(p.literal); j++ {
			switch p.literal[j] {
			case '\\':
				j++
			case '"':
				quoted = !quoted
			}
		}
	}
}

// positionXML checks that the document is well formed, whatever the values are, and that
// they stand where they can be escaped.
func positionXML(t *template) error {
	const mark = "grantway-value"
	var b strings.Builder
	dynamic := 0
	for i := range t.parts {
		p := &t.parts[i]
		if p.dynamic() {
			p.position = inXML
			b.WriteString(mark)
			dynamic++
			continue
		}
		b.WriteString(p.literal)
	}
	text := b.String()
	found := 0
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.RawToken()
		if token == nil {
			if err != nil && err.Error() != "EOF" {
				return errors.New("is not well-formed XML: " + err.Error())
			}
			break
		}
		switch token := token.(type) {
		case xml.CharData:
			found += strings.Count(string(token), mark)
		case xml.StartElement:
			for _, a := range token.Attr {
				found += strings.Count(a.Value, mark)
			}
		case xml.Directive:
			return errors.New("must not have a document type")
		}
	}
	if found != dynamic || strings.Contains(text, "<![CDATA[") && strings.Contains(text[strings.Index(text, "<![CDATA["):], mark) {
		return errors.New("has an expression where none can be: it may stand in text and in attributes, not in names, comments or CDATA")
	}
	if err := xml.Unmarshal([]byte(text), new(struct{})); err != nil {
		return errors.New("is not well-formed XML: " + err.Error())
	}
	return nil
}

// positionAll gives every part the same position.
func positionAll(t *template, p position) {
	for i := range t.parts {
		t.parts[i].position = p
	}
}
