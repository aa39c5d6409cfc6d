package broker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// censor shows answers of token endpoints without what may be secret. Nobody can tell a token
// by its looks, so it is the other way round: only values that cannot be one are shown, and the
// others as how long they are. Names are always shown: they are what a definition is made with.
type censor struct{ secrets []string }

// secret is a value that is shown nowhere, as it is or encoded.
func (c *censor) secret(s string) {
	if len(s) < 3 {
		return // it would take every "a" out of a text
	}
	for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), base64.StdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s))} {
		if !slices.Contains(c.secrets, form) {
			c.secrets = append(c.secrets, form)
		}
	}
	slices.SortFunc(c.secrets, func(a, b string) int { return len(b) - len(a) }) // so that no half is left
}

// text is s without secrets.
func (c *censor) text(s string) string {
	for _, secret := range c.secrets {
		s = strings.ReplaceAll(s, secret, Masked)
	}
	return s
}

// shownBytes is how much of a body is shown.
const shownBytes = 16 << 10

// plainHeaders are headers whose values are shown, beside those about limits.
var plainHeaders = []string{"Cache-Control", "Content-Length", "Content-Type", "Date", "Retry-After", "Server", "Www-Authenticate"}

func (c *censor) answer(a *grant.Answer) grantway.ShownAnswer {
	out := grantway.ShownAnswer{Status: a.Status}
	for _, name := range slices.Sorted(maps.Keys(a.Header)) {
		for _, value := range a.Header[name] {
			if cookie, err := http.ParseSetCookie(value); name == "Set-Cookie" && err == nil {
				value = cookie.Name + "=" + hidden(cookie.Value)
			} else if !slices.Contains(plainHeaders, name) && !strings.Contains(strings.ToLower(name), "ratelimit") {
				value = hidden(value)
			}
			out.Headers = append(out.Headers, grantway.Header{Name: name, Value: c.text(value)})
		}
	}
	body := c.body(a)
	if len(body) > shownBytes {
		body = strings.ToValidUTF8(body[:shownBytes], "") + "\n…"
	}
	out.Body = c.text(body)
	return out
}

func (c *censor) body(a *grant.Answer) string {
	body := bytes.TrimSpace(a.Body)
	if len(body) == 0 {
		return ""
	}
	if json.Valid(body) {
		var out bytes.Buffer
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if copyJSON(d, &out, "", 0) == nil {
			return out.String()
		}
	}
	if body[0] == '<' && !bytes.HasPrefix(bytes.ToLower(body), []byte("<!doctype html")) {
		if text, ok := copyXML(body); ok {
			return text
		}
	}
	if form, err := url.ParseQuery(string(body)); err == nil && bytes.IndexByte(body, '=') > 0 && !bytes.ContainsAny(body, " <\n") {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(form)) {
			for _, value := range form[name] {
				parts = append(parts, name+"="+shown(name, value))
			}
		}
		return strings.Join(parts, "&")
	}
	if utf8.Valid(body) && a.Status >= 400 {
		return string(body) // a page that says what is wrong
	}
	return hidden(string(body))
}

// copyJSON copies one value, in the order of its members.
func copyJSON(d *json.Decoder, out *bytes.Buffer, name string, depth int) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	write := func(v any) error {
		text, err := json.Marshal(v)
		out.Write(text)
		return err
	}
	line := func(depth int) { out.WriteString("\n" + strings.Repeat("  ", depth)) }
	delim, ok := t.(json.Delim)
	if !ok {
		if s, ok := t.(string); ok {
			e := json.NewEncoder(out)
			e.SetEscapeHTML(false)
			err := e.Encode(shown(name, s))
			out.Truncate(out.Len() - 1)
			return err
		}
		return write(t)
	}
	out.WriteString(delim.String())
	empty := true
	for d.More() {
		if !empty {
			out.WriteByte(',')
		}
		empty = false
		line(depth + 1)
		if delim == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, _ = key.(string)
			if err := write(name); err != nil {
				return err
			}
			out.WriteString(": ")
		}
		if err := copyJSON(d, out, name, depth+1); err != nil {
			return err
		}
	}
	end, err := d.Token()
	if err != nil {
		return err
	}
	if !empty {
		line(depth)
	}
	out.WriteString(end.(json.Delim).String())
	return nil
}

func copyXML(body []byte) (string, bool) {
	var out bytes.Buffer
	d := xml.NewDecoder(bytes.NewReader(body))
	name := ""
	for {
		t, err := d.RawToken()
		if err == io.EOF {
			return out.String(), true
		}
		if err != nil {
			return "", false
		}
		switch t := t.(type) {
		case xml.StartElement:
			name = t.Name.Local
			out.WriteString("<" + qualified(t.Name))
			for _, a := range t.Attr {
				value := a.Value
				if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					value = shown(a.Name.Local, value)
				}
				fmt.Fprintf(&out, " %s=%q", qualified(a.Name), value)
			}
			out.WriteString(">")
		case xml.EndElement:
			out.WriteString("</" + qualified(t.Name) + ">")
		case xml.CharData:
			text := string(t)
			if strings.TrimSpace(text) != "" {
				text = shown(name, strings.TrimSpace(text))
			}
			xml.EscapeText(&out, []byte(text))
		}
	}
}

func qualified(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

// plainNames are members whose values are shown, in lower case without "_" and "-".
var plainNames = []string{"tokentype", "expiresin", "expires", "expiresat", "expiresutc", "scope", "error", "errordescription", "erroruri", "errorcode", "errorcodes", "errormessage",
	"message", "description", "detail", "title", "code", "status", "statuscode", "success", "type", "reason", "faultcode", "faultstring", "traceid", "correlationid", "timestamp"}

// shown is a value if it cannot be a secret, else how long it is.
func shown(name, value string) string {
	name = strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
	_, timeErr := time.Parse(time.RFC3339, value)
	switch {
	case value == "", value == "true", value == "false", timeErr == nil,
		slices.Contains(plainNames, name),
		len(value) <= 500 && len(strings.Fields(value)) > 2: // a sentence
		return value
	}
	if u, err := url.Parse(value); err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && len(strings.Split(u.Path, "/")) <= 2 && len(u.Path) < 16 {
		return u.Scheme + "://" + u.Host + u.Path
	}
	return hidden(value)
}

func hidden(value string) string {
	return fmt.Sprintf("%s (%d characters)", Masked, utf8.RuneCountInString(value))
}
