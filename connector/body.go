package connector

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"mime/multipart"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// body is a Body with its templates compiled.
type body struct {
	pairs       []pair
	tree        *node
	text        *template
	kind        string // form, json, text, multipart, or pairs: as the content type says
	contentType string // of its own
	keepEmpty   bool
	operation   string // of GraphQL
	variables   *node
}

const (
	formType      = "application/x-www-form-urlencoded"
	jsonType      = "application/json"
	xmlType       = "text/xml; charset=utf-8"
	multipartType = "multipart/form-data"
)

func (c *compiler) content(path string, b *Body, headers Pairs, keep bool) *body {
	if b == nil {
		return nil
	}
	out := &body{keepEmpty: keep}
	set := 0
	choose := func(there bool, kind, contentType string) bool {
		if there {
			out.kind, out.contentType = kind, contentType
			set++
		}
		return there
	}
	if choose(b.Form != nil, "form", formType) {
		out.pairs = c.pairs(join(path, "form"), b.Form, inText, keep)
	}
	if choose(b.Multipart != nil, "multipart", "") {
		out.pairs = c.pairs(join(path, "multipart"), b.Multipart, inText, keep)
	}
	if choose(b.Pairs != nil, "pairs", "") {
		out.pairs = c.pairs(join(path, "pairs"), b.Pairs, inText, keep)
	}
	if choose(b.JSON != nil, "json", jsonType) {
		out.tree = c.node(join(path, "json"), b.JSON.value)
	}
	if choose(b.XML != "", "text", xmlType) {
		if out.text = c.text(join(path, "xml"), b.XML); out.text != nil {
			if err := positionXML(out.text); err != nil {
				c.problem(join(path, "xml"), "", "%v", err)
			}
		}
	}
	if choose(b.Raw != "", "text", "text/plain; charset=utf-8") {
		out.text = c.text(join(path, "raw"), b.Raw)
		c.raw(join(path, "raw"), out.text, headers)
	}
	if g := b.GraphQL; choose(g != nil, "graphql", jsonType) {
		if out.text = c.text(join(path, "graphql.query"), g.Query); out.text != nil {
			positionQuoted(out.text)
		}
		if out.operation = g.Operation; g.Variables != nil {
			out.variables = c.node(join(path, "graphql.variables"), g.Variables.value)
		}
	}
	if set > 1 || set == 0 && b.Pairs == nil {
		c.problem(path, "", "must have one of form, json, xml, graphql, multipart, pairs and raw")
	}
	return out
}

// raw gives the parts of a raw body the positions that its content type asks for.
func (c *compiler) raw(path string, t *template, headers Pairs) {
	if t == nil {
		return
	}
	for _, h := range headers {
		if !strings.EqualFold(h.Name, "Content-Type") {
			continue
		}
		switch media, _, _ := mime.ParseMediaType(h.Value); {
		case strings.Contains(h.Value, "{{"):
			c.problem(path, "use pairs", "a raw body needs a fixed content type")
		case media == formType:
			positionAll(t, inQuery)
		case strings.HasSuffix(media, "json"):
			positionQuoted(t)
		case strings.HasSuffix(media, "xml"):
			if err := positionXML(t); err != nil {
				c.problem(path, "", "%v", err)
			}
		}
	}
}

// each calls f with all templates.
func (b *body) each(f func(*template)) {
	for _, p := range b.pairs {
		f(p.value)
	}
	f(b.text)
	b.tree.each(f)
	b.variables.each(f)
}

// node is a JSON value with its templates compiled.
type node struct {
	fixed   json.RawMessage // a value without templates
	text    *template
	members []namedNode
	items   []*node
	kind    byte // 'o' object, 'a' array, 't' text, 'f' fixed
}

type namedNode struct {
	name string
	node *node
}

func (c *compiler) node(path string, v any) *node {
	switch v := v.(type) {
	case object:
		n := &node{kind: 'o'}
		for _, m := range v {
			n.members = append(n.members, namedNode{m.name, c.node(join(path, m.name), m.value)})
		}
		return n
	case []any:
		n := &node{kind: 'a'}
		for i, item := range v {
			n.items = append(n.items, c.node(join(path, strconv.Itoa(i)), item))
		}
		return n
	case string:
		if strings.Contains(v, "{{") {
			return &node{kind: 't', text: c.text(path, v)}
		}
	}
	fixed, err := marshal(v)
	if err != nil {
		c.problem(path, "", "is not JSON")
	}
	return &node{kind: 'f', fixed: fixed}
}

func (n *node) each(f func(*template)) {
	if n == nil {
		return
	}
	f(n.text)
	for _, m := range n.members {
		m.node.each(f)
	}
	for _, item := range n.items {
		item.each(f)
	}
}

// value is what n comes to; there is false when its template comes out empty and is to be left out.
func (n *node) value(s *scope, keep bool) (v any, there bool, err error) {
	switch n.kind {
	case 'f':
		return n.fixed, true, nil
	case 'o':
		o := object{}
		for _, m := range n.members {
			v, there, err := m.node.value(s, keep)
			if err != nil {
				return nil, false, fmt.Errorf("%s: %w", m.name, err)
			}
			if there {
				o = append(o, member{m.name, v})
			}
		}
		return o, true, nil
	case 'a':
		list := []any{}
		for _, item := range n.items {
			v, there, err := item.value(s, keep)
			if err != nil {
				return nil, false, err
			}
			if there {
				list = append(list, v)
			}
		}
		return list, true, nil
	}
	if p := n.text.single(); p != nil && p.program != nil {
		v, err := s.value(p)
		return v, err == nil && v != nil && (keep || v != ""), err
	}
	text, err := n.text.eval(s)
	return text, keep || text != "", err
}

// evaluated is a name and what its template came to.
type evaluated struct{ name, value string }

// evalPairs evaluates the templates of list in order. after, if not nil, is told what there is so far
// after each one, so that a later one can depend on it.
func evalPairs(list []pair, s *scope, after func([]evaluated)) ([]evaluated, error) {
	var out []evaluated
	for _, p := range list {
		text, err := p.value.eval(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if text == "" && !p.keep {
			continue
		}
		out = append(out, evaluated{p.name, text})
		if after != nil {
			after(out)
		}
	}
	return out, nil
}

// json is what p comes to as a member of JSON, which an expression on its own may make a number
// or a list; there is false when it is to be left out.
func (p pair) json(s *scope) (v any, there bool, err error) {
	n := &node{kind: 't', text: p.value}
	if p.value == nil {
		return "", p.keep, nil
	}
	if v, there, err = n.value(s, p.keep); err != nil {
		err = fmt.Errorf("%s: %w", p.name, err)
	}
	return v, there, err
}

// encodePairs is a query or form in the order of the definition.
func encodePairs(list []evaluated) string {
	var b strings.Builder
	for i, p := range list {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p.value))
	}
	return b.String()
}

// encode makes the body. contentType is the header's, "" when there is none; what is
// returned for it is to be set. after is told of a form as far as it is made.
func (b *body) encode(s *scope, contentType string, after func(form string)) ([]byte, string, error) {
	kind := b.kind
	media, _, _ := mime.ParseMediaType(contentType)
	if kind == "pairs" {
		switch {
		case strings.HasSuffix(media, "json"):
			kind = "json"
		case media == multipartType:
			kind = "multipart"
		case media == "" || media == formType:
			kind = "form"
		default:
			return nil, "", fmt.Errorf("pairs cannot be encoded as %s", media)
		}
	}
	fixed := contentType
	if fixed == "" {
		fixed = b.contentType
	}
	switch kind {
	case "text":
		text, err := b.text.eval(s)
		return []byte(text), fixed, err
	case "graphql":
		query, err := b.text.eval(s)
		if err != nil {
			return nil, "", err
		}
		o := object{{"query", query}}
		if b.operation != "" {
			o = append(o, member{"operationName", b.operation})
		}
		if b.variables != nil {
			v, _, err := b.variables.value(s, b.keepEmpty)
			if err != nil {
				return nil, "", err
			}
			o = append(o, member{"variables", v})
		}
		text, err := marshal(o)
		return text, fixed, err
	}
	if b.tree != nil {
		v, _, err := b.tree.value(s, b.keepEmpty)
		if err != nil {
			return nil, "", err
		}
		text, err := marshal(v)
		return text, fixed, err
	}
	list, err := evalPairs(b.pairs, s, func(done []evaluated) {
		if kind == "form" {
			after(encodePairs(done))
		}
	})
	if err != nil {
		return nil, "", err
	}
	switch kind {
	case "json":
		o := object{}
		for _, p := range list {
			i := slices.IndexFunc(o, func(m member) bool { return m.name == p.name })
			if i < 0 {
				o = append(o, member{p.name, p.value})
			} else if many, ok := o[i].value.([]any); ok { // a name that comes twice is a list
				o[i].value = append(many, p.value)
			} else {
				o[i].value = []any{o[i].value, p.value}
			}
		}
		text, err := marshal(o)
		return text, fixed, err
	case "multipart":
		return encodeMultipart(list)
	}
	if fixed == "" {
		fixed = formType
	}
	return []byte(encodePairs(list)), fixed, nil
}

// encodeMultipart takes its boundary from the content, so that no value can hold it by
// chance or on purpose.
func encodeMultipart(list []evaluated) ([]byte, string, error) {
	hash := sha256.New()
	for _, p := range list {
		fmt.Fprintf(hash, "%d %s%d %s", len(p.name), p.name, len(p.value), p.value)
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.SetBoundary(hex.EncodeToString(hash.Sum(nil))[:32]); err != nil {
		return nil, "", err
	}
	for _, p := range list {
		header := textproto.MIMEHeader{"Content-Disposition": {mime.FormatMediaType("form-data", map[string]string{"name": p.name})}}
		part, err := w.CreatePart(header)
		if err != nil {
			return nil, "", err
		}
		if _, err := part.Write([]byte(p.value)); err != nil {
			return nil, "", err
		}
	}
	err := w.Close()
	return b.Bytes(), w.FormDataContentType(), err
}
