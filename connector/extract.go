package connector

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/grantway/grantway/grant"
)

// reply is an answer whose body was understood. Body is the value in it: maps, lists, text,
// json.Number, bool, nil.
type reply struct {
	*grant.Answer
	body any
	err  error // the body is not what it should be
}

// read understands an answer as format, "" for what its content type says, else JSON.
func read(a *grant.Answer, format Format) *reply {
	r := &reply{Answer: a}
	r.body, r.err = decodeBody(a.Header, a.Body, format)
	return r
}

func decodeBody(header http.Header, body []byte, format Format) (any, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if format == "" {
		media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
		trimmed := bytes.TrimSpace(body)
		switch {
		case strings.HasSuffix(media, "json"), media == "text/plain" && bytes.HasPrefix(trimmed, []byte(`"`)) && json.Valid(trimmed):
			format = JSONFormat
		case strings.HasSuffix(media, "xml"), bytes.HasPrefix(trimmed, []byte("<?xml")):
			format = XMLFormat
		case media == formType:
			format = FormFormat
		case media == "text/plain" && !bytes.HasPrefix(trimmed, []byte("{")) && !bytes.HasPrefix(trimmed, []byte("[")):
			format = TextFormat
		default:
			format = JSONFormat
		}
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	switch format {
	case TextFormat:
		return strings.TrimSpace(string(body)), nil
	case FormFormat:
		values, err := url.ParseQuery(strings.TrimSpace(string(body)))
		if err != nil {
			return nil, errors.New("is not a form")
		}
		m := map[string]any{}
		for name := range values {
			m[name] = values.Get(name)
		}
		return m, nil
	case XMLFormat:
		return decodeXML(body)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("is not JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("is not JSON")
	}
	return v, nil
}

// decodeXML makes of each element its text, or a map of its attributes (@name), its children
// by local name (a list when one comes twice) and its text (#text) when it has both.
func decodeXML(body []byte) (any, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	type element struct {
		name string
		m    map[string]any
		text strings.Builder
	}
	stack := []*element{{m: map[string]any{}}}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, errors.New("is not XML")
		}
		switch token := token.(type) {
		case xml.StartElement:
			if len(stack) > 100 {
				return nil, errors.New("is XML that is nested too deeply")
			}
			e := &element{name: token.Name.Local, m: map[string]any{}}
			for _, a := range token.Attr {
				if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					e.m["@"+a.Name.Local] = a.Value
				}
			}
			stack = append(stack, e)
		case xml.CharData:
			stack[len(stack)-1].text.Write(token)
		case xml.EndElement:
			e := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			text := strings.TrimSpace(e.text.String())
			var v any = e.m
			if len(e.m) == 0 {
				v = text
			} else if text != "" {
				e.m["#text"] = text
			}
			parent := stack[len(stack)-1].m
			switch old := parent[e.name].(type) {
			case nil:
				parent[e.name] = v
			case []any:
				parent[e.name] = append(old, v)
			default:
				parent[e.name] = []any{old, v}
			}
		}
	}
	if len(stack[0].m) == 0 {
		return nil, errors.New("is not XML")
	}
	return stack[0].m, nil
}

// find follows a path: a name as it is, else names and indexes with dots between, or
// [name=value] for the first item of a list whose member has that value. names are those that
// stand where the path went wrong.
func find(v any, path string) (found any, names []string, ok bool) {
	if path == "$" {
		return v, nil, v != nil
	}
	if name, ok := strings.CutPrefix(path, ".."); ok {
		first, rest, more := strings.Cut(name, ".")
		at, ok := anywhere(v, first, 0)
		if !ok {
			return nil, namesIn(v), false
		}
		if more {
			return find(at, rest)
		}
		return at, nil, true
	}
	path = strings.TrimPrefix(path, "$.")
	switch v := v.(type) {
	case map[string]any:
		if at, ok := v[path]; ok {
			return at, nil, true
		}
		if strings.HasPrefix(path, "[") { // XML does not tell a list of one
			return find([]any{v}, path)
		}
		names = namesIn(v)
		for i, c := range path {
			if c != '.' && c != '[' || i == 0 {
				continue
			}
			at, ok := v[path[:i]]
			if !ok {
				continue
			}
			rest := path[i:]
			if c == '.' {
				rest = path[i+1:]
			}
			found, deeper, ok := find(at, rest)
			if ok {
				return found, nil, true
			}
			names = deeper
		}
		return nil, names, false
	case []any:
		index, rest, more := strings.Cut(path, ".")
		if strings.HasPrefix(path, "[") {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return nil, namesIn(v), false
			}
			index, rest = path[1:end], strings.TrimPrefix(path[end+1:], ".")
			more = rest != ""
		}
		i, err := strconv.Atoi(index)
		if err == nil && i < 0 {
			i += len(v)
		}
		if name, value, filter := strings.Cut(index, "="); filter && err != nil {
			i = slices.IndexFunc(v, func(item any) bool {
				at, _, _ := find(item, name)
				text, ok := scalar(at)
				return ok && text == value
			})
			err = nil
		}
		if err != nil || i < 0 || i >= len(v) {
			if len(v) == 1 && err != nil && !strings.HasPrefix(path, "[") { // XML does not tell a list of one
				return find(v[0], path)
			}
			return nil, namesIn(v), false
		}
		if !more {
			return v[i], nil, true
		}
		return find(v[i], rest)
	}
	// XML does not tell a list of one: x.0 is x itself.
	if index, rest, more := strings.Cut(path, "."); index == "0" {
		if !more {
			return v, nil, v != nil
		}
		return find(v, rest)
	}
	return nil, namesIn(v), false
}

// anywhere finds the first member with that name, in the order of names, outside before inside.
func anywhere(v any, name string, depth int) (any, bool) {
	if depth > 100 {
		return nil, false
	}
	switch v := v.(type) {
	case map[string]any:
		if at, ok := v[name]; ok {
			return at, true
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if at, ok := anywhere(v[key], name, depth+1); ok {
				return at, true
			}
		}
	case []any:
		for _, item := range v {
			if at, ok := anywhere(item, name, depth+1); ok {
				return at, true
			}
		}
	}
	return nil, false
}

// namesIn are the names of the members of v.
func namesIn(v any) []string {
	switch v := v.(type) {
	case map[string]any:
		return slices.Sorted(maps.Keys(v))
	case []any:
		return []string{fmt.Sprintf("a list of %d", len(v))}
	case nil:
		return nil
	}
	return []string{"a single value"}
}

// scalar is the text of a value that is one.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	case map[string]any: // of XML, an element with attributes
		text, ok := v["#text"].(string)
		return text, ok
	}
	return "", false
}

// get takes a value out of an answer. The error names what is missing and the names that are
// there, never values.
func (l *locator) get(r *reply, s *scope) (string, error) {
	text, what, err := l.raw(r, s)
	if err != nil {
		if l.optional {
			return "", nil
		}
		return "", err
	}
	if l.match == nil {
		return text, nil
	}
	m := l.match.FindStringSubmatch(text)
	switch {
	case m == nil && l.optional:
		return "", nil
	case m == nil:
		return "", r.Fail("%s of the answer does not match %s", what, l.match)
	}
	return m[min(1, len(m)-1)], nil
}

func (l *locator) raw(r *reply, s *scope) (text, what string, err error) {
	switch {
	case l.value != nil:
		text, err = l.value.eval(s)
		return text, "the value", err
	case l.header != "":
		text, what = r.Header.Get(l.header), "the header "+l.header
		if text == "" {
			return "", what, r.Fail("the answer has no header %s; it has: %s", l.header, nothing(slices.Sorted(maps.Keys(r.Header))))
		}
		return text, what, nil
	case l.cookie != "":
		var names, all []string
		for _, c := range (&http.Response{Header: r.Header}).Cookies() {
			if c.Value == "" || c.MaxAge < 0 { // it is taken away
				continue
			}
			if c.Name == l.cookie {
				return c.Value, "the cookie " + l.cookie, nil
			}
			names, all = append(names, c.Name), append(all, c.Name+"="+c.Value)
		}
		if l.cookie == "*" && all != nil {
			return strings.Join(all, "; "), "the cookies", nil
		}
		return "", "", r.Fail("the answer sets no cookie %s; it sets: %s", l.cookie, nothing(names))
	}
	path, err := l.path.eval(s)
	if err != nil {
		return "", "", err
	}
	if r.err != nil && path == "$" {
		return strings.TrimSpace(string(r.Body)), "the body", nil
	}
	if r.err != nil {
		return "", path, r.Fail("the body of the answer %s", r.err)
	}
	v, names, ok := find(r.body, path)
	if !ok {
		return "", path, r.Fail("the answer has no %s; it has: %s", path, nothing(names))
	}
	text, ok = scalar(v)
	if !ok && path == "$" {
		return strings.TrimSpace(string(r.Body)), "the body", nil
	}
	if !ok {
		return "", path, r.Fail("%s in the answer is not a single value; it has: %s", path, nothing(namesIn(v)))
	}
	return text, path, nil
}

func nothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// holds tells whether an answer has the symptom.
func (m *symptom) holds(status int, header http.Header, body any, s *scope) bool {
	if m.Status != 0 && m.Status != status {
		return false
	}
	text, there := "", true
	switch {
	case m.Header != "":
		text = header.Get(m.Header)
		there = text != ""
	case m.Symptom.Path != "":
		path, err := m.path.eval(s)
		if err != nil {
			return false
		}
		v, _, ok := find(body, path)
		if there = ok && v != nil; there {
			var single bool
			if text, single = scalar(v); !single {
				b, err := marshal(v)
				text, there = string(b), err == nil
			}
		}
	default:
		return true
	}
	switch {
	case m.Missing:
		return !there
	case !there:
		return false
	case m.Equals != "":
		return text == m.Equals
	case m.Contains != "":
		return strings.Contains(text, m.Contains)
	case m.matches != nil:
		return m.matches.MatchString(text)
	}
	return text != "" && text != "false" && text != "0" && text != "{}" && text != "[]" && text != "null"
}
