package connector

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// functions are those of expressions, besides those of a scope. They take and give text; the digests give bytes, to be
// written with base64 or hex. The table in docs/connectors.md describes them.
var functions = map[string]func(...any) (any, error){
	"base64":        text1(func(s string) (any, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }),
	"base64url":     text1(func(s string) (any, error) { return base64.RawURLEncoding.EncodeToString([]byte(s)), nil }),
	"base64_decode": text1(decodeBase64),
	"hex":           text1(func(s string) (any, error) { return hex.EncodeToString([]byte(s)), nil }),
	"hex_decode": text1(func(s string) (any, error) {
		b, err := hex.DecodeString(s)
		if err != nil {
			return nil, errors.New("hex_decode: not hexadecimal")
		}
		return string(b), nil
	}),
	"md5":         text1(func(s string) (any, error) { sum := md5.Sum([]byte(s)); return string(sum[:]), nil }),
	"sha1":        text1(func(s string) (any, error) { sum := sha1.Sum([]byte(s)); return string(sum[:]), nil }),
	"sha256":      text1(func(s string) (any, error) { sum := sha256.Sum256([]byte(s)); return string(sum[:]), nil }),
	"sha512":      text1(func(s string) (any, error) { sum := sha512.Sum512([]byte(s)); return string(sum[:]), nil }),
	"hmac":        mac,
	"pbkdf2":      derive,
	"signature":   signature,
	"public_key":  text1(publicKey),
	"pem_decode":  text1(decodePEM),
	"rsa_encrypt": encrypt,
	"lower":       text1(func(s string) (any, error) { return strings.ToLower(s), nil }),
	"upper":       text1(func(s string) (any, error) { return strings.ToUpper(s), nil }),
	"trim":        texts("trim", 1, 2, trim),
	"replace":     texts("replace", 3, 3, replace),
	"substring":   substring,
	"split":       texts("split", 2, 2, func(a []string) (any, error) { return anys(strings.Split(a[0], a[1])) }),
	"join":        joinList,
	"sort":        sorted,
	"only":        only("only", true),
	"without":     only("without", false),
	"join_pairs":  joinPairs,
	"fallback":    fallback,
	"length":      length,
	"size":        text1(func(s string) (any, error) { return len(s), nil }),
	"match":       texts("match", 2, 2, match),
	"url_encode":  text1(func(s string) (any, error) { return percent(s), nil }),
	"form_encode": text1(func(s string) (any, error) { return url.QueryEscape(s), nil }),
	"json":        toJSON,
	"parse_json":  text1(parseJSON),
	"parse_xml":   text1(parseXML),
	"parse_query": text1(func(s string) (any, error) { return pairsOf(s), nil }),
	"int":         text1(toInt),
	"bool":        text1(toBool),
	"text":        func(a ...any) (any, error) { return one("text", a) },
}

// scoped are the functions that a scope provides.
var scoped = map[string]bool{"now": true, "uuid": true, "nonce": true, "totp": true}

func one(name string, a []any) (string, error) {
	if len(a) != 1 {
		return "", fmt.Errorf("%s takes one value", name)
	}
	return limited(a[0])
}

func limited(v any) (string, error) {
	s, err := textOf(v)
	if err == nil && len(s) > maxOutput {
		return "", fmt.Errorf("a value is larger than %d KiB", maxOutput>>10)
	}
	return s, err
}

func text1(f func(string) (any, error)) func(...any) (any, error) {
	return func(a ...any) (any, error) {
		s, err := one("the function", a)
		if err != nil {
			return nil, err
		}
		return f(s)
	}
}

func texts(name string, least, most int, f func([]string) (any, error)) func(...any) (any, error) {
	return func(a ...any) (any, error) {
		if len(a) < least || len(a) > most {
			return nil, fmt.Errorf("%s takes %d to %d values", name, least, most)
		}
		list := make([]string, len(a))
		for i, v := range a {
			var err error
			if list[i], err = limited(v); err != nil {
				return nil, err
			}
		}
		return f(list)
	}
}

func anys(list []string) (any, error) {
	if len(list) > maxMemory {
		return nil, errors.New("too many pieces")
	}
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out, nil
}

func decodeBase64(s string) (any, error) {
	s = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/", "\n", "", "\r", "").Replace(s), "=")
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("base64_decode: not base64")
	}
	return string(b), nil
}

func trim(a []string) (any, error) {
	if len(a) == 1 {
		return strings.TrimSpace(a[0]), nil
	}
	return strings.Trim(a[0], a[1]), nil
}

func replace(a []string) (any, error) {
	if grown := len(a[0]) + strings.Count(a[0], a[1])*(len(a[2])-len(a[1])); grown > maxOutput {
		return nil, errors.New("replace: the result is too large")
	}
	return strings.ReplaceAll(a[0], a[1], a[2]), nil
}

// length is length(x): the characters of a text, or the items of a list.
func length(a ...any) (any, error) {
	if len(a) == 1 {
		if list, ok := a[0].([]any); ok {
			return len(list), nil
		}
	}
	s, err := one("length", a)
	return utf8.RuneCountInString(s), err
}

// match is match(x, pattern): the first group of the first match, else all it matches, else empty.
func match(a []string) (any, error) {
	re, err := regexp.Compile(a[1])
	if err != nil {
		return nil, errors.New("match: not a regular expression (RE2)")
	}
	m := re.FindStringSubmatch(a[0])
	if m == nil {
		return "", nil
	}
	return m[min(1, len(m)-1)], nil
}

func substring(a ...any) (any, error) {
	if len(a) != 2 && len(a) != 3 {
		return nil, errors.New("substring takes a text, where to begin, and how many characters")
	}
	s, err := limited(a[0])
	if err != nil {
		return nil, err
	}
	r := []rune(s)
	from, ok := a[1].(int)
	if !ok {
		return nil, errors.New("substring: where to begin must be a number")
	}
	from = max(0, min(from, len(r)))
	if len(a) == 3 {
		n, ok := a[2].(int)
		if !ok {
			return nil, errors.New("substring: how many must be a number")
		}
		return string(r[from:max(from, min(len(r), from+max(0, min(n, len(r)))))]), nil
	}
	return string(r[from:]), nil
}

// joinList joins the items of a list, or all values but the last one, with the last one between.
func joinList(a ...any) (any, error) {
	if len(a) < 2 {
		return nil, errors.New("join takes a list or values, and what goes between")
	}
	items := a[:len(a)-1]
	if list, ok := a[0].([]any); ok && len(a) == 2 {
		items = list
	}
	between, err := limited(a[len(a)-1])
	if err != nil {
		return nil, err
	}
	var parts []string
	total := 0
	for _, item := range items {
		s, err := limited(item)
		if err != nil {
			return nil, err
		}
		if total += len(s) + len(between); total > maxOutput {
			return nil, errors.New("join: the result is too large")
		}
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, between), nil
}

// fallback is the first value that is not empty.
func fallback(a ...any) (any, error) {
	for _, v := range a {
		if s, err := textOf(v); err == nil && s != "" {
			return v, nil
		}
	}
	return "", nil
}

// percent encodes everything but the unreserved characters (RFC 3986 section 2.3).
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func toJSON(a ...any) (any, error) {
	if len(a) != 1 {
		return nil, errors.New("json takes one value")
	}
	b, err := marshal(a[0])
	return string(b), err
}

func parseJSON(s string) (any, error) {
	var v any
	d := json.NewDecoder(strings.NewReader(s))
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("parse_json: not JSON")
	}
	return v, nil
}

func parseXML(s string) (any, error) {
	v, err := decodeXML([]byte(s))
	if err != nil {
		return nil, errors.New("parse_xml: not XML")
	}
	return v, nil
}

func toInt(s string) (any, error) {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return nil, errors.New("int: not a whole number")
	}
	return int(f), nil
}

func toBool(s string) (any, error) {
	switch strings.ToLower(s) {
	case "true", "1", "yes":
		return true, nil
	case "false", "0", "no", "":
		return false, nil
	}
	return nil, errors.New("bool: neither true nor false")
}

// format is now(format, offset): the time, moved by an offset such as -5m. The format is
// rfc3339 (also when empty), unix, unix_ms, iso8601, http or a pattern such as YYYYMMDDTHHmmssZ.
func (c *clock) format(a ...any) (any, error) {
	now, format := c.now().In(c.location()), ""
	if len(a) > 2 {
		return nil, errors.New("now takes a format and an offset")
	}
	if len(a) > 0 {
		format, _ = a[0].(string)
	}
	if len(a) == 2 {
		s, _ := a[1].(string)
		offset, err := time.ParseDuration(s)
		if err != nil {
			return nil, errors.New("now: the offset must be a duration such as -5m")
		}
		now = now.Add(offset)
	}
	return formatTime(now, format), nil
}

// location is the time zone of c.
func (c *clock) location() *time.Location {
	if c.zone == nil {
		return time.UTC
	}
	return c.zone
}

// formatTime writes t in its own time zone, unless the format is one of UTC: that of HTTP, and
// patterns with Z at their end.
func formatTime(t time.Time, format string) string {
	if format == "http" || strings.HasSuffix(format, "Z") && !strings.HasSuffix(format, "ZZ") {
		t = t.UTC()
	}
	switch format {
	case "", "rfc3339":
		return t.Format(time.RFC3339)
	case "iso8601", "iso8601_ms":
		return t.Format("2006-01-02T15:04:05.000Z07:00")
	case "unix":
		return strconv.FormatInt(t.Unix(), 10)
	case "unix_ms":
		return strconv.FormatInt(t.UnixMilli(), 10)
	case "http":
		return t.Format("Mon, 02 Jan 2006 15:04:05 GMT")
	}
	return t.Format(layout(format))
}

// The letters of patterns, and what they are in package time.
var (
	letters = regexp.MustCompile(`\[[^\]]*\]|Y+|M+|D+|d+|H+|h+|m+|s+|S+|A|Z+`)
	layouts = map[string]string{
		"YYYY": "2006", "YY": "06", "MMMM": "January", "MMM": "Jan", "MM": "01", "M": "1", "DD": "02", "D": "2", "dddd": "Monday", "ddd": "Mon",
		"HH": "15", "H": "15", "hh": "03", "h": "3", "mm": "04", "m": "4", "ss": "05", "s": "5", "SSS": "000", "A": "PM", "ZZ": "-07:00", "ZZZ": "-0700",
	}
)

// layout turns a pattern such as YYYY-MM-DD HH:mm:ss into one of package time. What is in
// brackets, and what is no letter of patterns, stands for itself.
func layout(pattern string) string {
	return letters.ReplaceAllStringFunc(pattern, func(run string) string {
		if to, ok := layouts[run]; ok {
			return to
		}
		return strings.Trim(run, "[]")
	})
}

// uuid is uuid(): a random UUID (RFC 9562, version 4).
func (c *clock) uuid(...any) (any, error) {
	b := c.random()
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

// nonce is nonce(): 32 random hexadecimal digits.
func (c *clock) nonce(...any) (any, error) {
	b := c.random()
	return hex.EncodeToString(b[:]), nil
}
