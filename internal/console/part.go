package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/grantway/grantway/connector"
)

// part is a piece of a tab: one of its pointers is set.
type part struct {
	Name, Title, Help string

	Text      *string
	Choices   []string // of Text
	Wide      bool
	Duration  **connector.Duration
	Pairs     *connector.Pairs
	Body      **connector.Body
	Variables *[]connector.Input

	Error string
	Typed string            // what was entered and cannot be read
	keys  []string          // variables to use
	old   []connector.Input // Variables as they are saved
}

// parts are those of a tab of s. They point into s.
func parts(s *connector.Source, tab, endpoint string) []part {
	switch tab {
	case "variables":
		return []part{
			{Name: "title", Title: "Name", Text: &s.Title}, {Name: "description", Title: "Description", Text: &s.Description, Wide: true},
			{Name: "var", Title: "Variables", Variables: &s.Inputs}}
	case "url":
		if o := s.OAuth2; o != nil {
			return []part{{Name: "url", Title: "URL", Text: &o.TokenURL, Wide: true}, {Name: "query", Title: "Query", Pairs: &o.Query}}
		}
		return []part{{Name: "method", Title: "Method", Text: &s.Request.Method, Choices: []string{"", "POST", "GET", "PUT", "PATCH"}, Help: "Empty is POST with a body, else GET."},
			{Name: "url", Title: "URL", Text: &s.Request.URL, Wide: true}, {Name: "query", Title: "Query", Pairs: &s.Request.Query}}
	case "header":
		if s.OAuth2 != nil {
			return []part{{Name: "header", Title: "Headers", Pairs: &s.OAuth2.Headers}}
		}
		return append([]part{{Name: "header", Title: "Headers", Pairs: &s.Request.Headers}}, basicParts(&s.Request.Basic)...)
	case "body":
		if o := s.OAuth2; o != nil {
			return []part{{Name: "grant_type", Title: "Grant type", Text: &o.GrantType, Help: "Empty is client_credentials."}, {Name: "client_id", Title: "Client identifier", Text: &o.ClientID}, {Name: "client_secret", Title: "Client secret", Text: &o.ClientSecret},
				{Name: "auth", Title: "Authentication method", Text: &o.Auth, Help: "client_secret_basic (also when empty), client_secret_post, private_key_jwt and so on; may be a variable."},
				{Name: "scope", Title: "Scope", Text: &o.Scope}, {Name: "audience", Title: "Audience", Text: &o.Audience}, {Name: "form", Title: "More parameters", Pairs: &o.Form}}
		}
		return []part{{Name: "body", Title: "Body", Body: &s.Request.Body}}
	case "response":
		t := made(&s.Token)
		e := made(&t.Expires)
		return []part{{Name: "path", Title: "Response authentication token key", Text: &t.Path, Help: "Dots lead into nested objects: data.token. $ is the whole body. Empty is access_token. May be a variable."},
			{Name: "in_header", Title: "Or this header", Text: &t.Header}, {Name: "in_cookie", Title: "Or this cookie", Text: &t.Cookie},
			{Name: "type", Title: "Token type", Text: &t.Type, Help: "Empty is that of the answer, else Bearer."},
			{Name: "expires", Title: "Lifetime key", Text: &e.Path, Help: "Empty looks for expires_in and its relatives, then for exp of a JWT."},
			{Name: "unit", Title: "Unit of the lifetime", Text: &e.Unit, Choices: []string{"", "ms", "s", "min", "h", "d"}, Help: "Empty is seconds."},
			{Name: "default_lifetime", Title: "Lifetime when the answer does not say", Duration: &t.Default, Help: "Such as 90s, 20m or 1h. Empty is five minutes."},
			{Name: "renew_before", Title: "Renew before the end", Duration: &t.RenewBefore, Help: "How long before its end a token must no longer be used."}}
	case "api":
		a := made(&s.Apply)
		return append([]part{{Name: "base_url", Title: "Base URL", Text: &a.BaseURL, Wide: true, Help: "Endpoints are below it."},
			{Name: "header", Title: "Headers", Pairs: &a.Headers, Help: "Without anything here: Authorization: {{token_type}} {{token}}."}, {Name: "query", Title: "Query", Pairs: &a.Query}}, basicParts(&a.Basic)...)
	case "verify":
		return endpointParts(made(&s.Verify), false)
	case "endpoints":
		if i := endpointIndex(s, endpoint); i >= 0 {
			return endpointParts(&s.Endpoints[i], true)
		}
	}
	return nil
}

func basicParts(at **connector.Basic) []part {
	b := made(at)
	return []part{{Name: "basic_username", Title: "Basic user name", Text: &b.Username, Help: "HTTP Basic authentication, where it is wanted."}, {Name: "basic_password", Title: "Basic password", Text: &b.Password}}
}

func endpointParts(e *connector.Endpoint, named bool) []part {
	list := []part{{Name: "method", Title: "Method", Text: &e.Method, Choices: []string{"", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"}, Help: "Empty is GET."},
		{Name: "path", Title: "Path", Text: &e.Path, Wide: true, Help: "Below the base URL."}, {Name: "query", Title: "Query", Pairs: &e.Query}, {Name: "header", Title: "Headers", Pairs: &e.Headers}, {Name: "body", Title: "Body", Body: &e.Body}}
	if named {
		list = append([]part{{Name: "name", Title: "Name", Text: &e.Name, Help: "Lower-case letters, digits, dashes and underscores."}, {Name: "title", Title: "Title", Text: &e.Title}}, list...)
		list = append(list, part{Name: "var", Title: "Variables of this endpoint", Variables: &e.Inputs})
	}
	return list
}

func endpointIndex(s *connector.Source, name string) int {
	if name == "" {
		return -1
	}
	if name == "new" {
		s.Endpoints = append(s.Endpoints, connector.Endpoint{})
		return len(s.Endpoints) - 1
	}
	return slices.IndexFunc(s.Endpoints, func(e connector.Endpoint) bool { return e.Name == name })
}

// made is what at points to, made if there is nothing.
func made[T any](at **T) *T {
	if *at == nil {
		*at = new(T)
	}
	return *at
}

// prune takes out the sections that say nothing.
func prune(s *connector.Source) {
	drop := func(at any) {
		if v := reflect.ValueOf(at).Elem(); !v.IsNil() && v.Elem().IsZero() {
			v.SetZero()
		}
	}
	if s.Token != nil {
		drop(&s.Token.Expires)
	}
	if s.Apply != nil {
		drop(&s.Apply.Basic)
	}
	if s.Request != nil {
		drop(&s.Request.Basic)
	}
	if s.Verify != nil && s.Verify.Path == "" {
		s.Verify = nil
	}
	drop(&s.Token)
	drop(&s.Apply)
	s.Endpoints = slices.DeleteFunc(s.Endpoints, func(e connector.Endpoint) bool { return reflect.ValueOf(e).IsZero() })
}

// read fills what p points at with what was sent, and does to rows what a button says: add:NAME,
// remove:NAME:I, up:NAME:I or use:NAME.
func (p *part) read(r *request) {
	switch {
	case p.Text != nil:
		*p.Text = r.form(p.Name)
	case p.Duration != nil:
		p.Error = p.readDuration(r.form(p.Name))
	case p.Pairs != nil:
		*p.Pairs = readPairs(r, p.Name)
	case p.Body != nil:
		p.Error = p.readBody(r)
	case p.Variables != nil:
		p.old = slices.Clone(*p.Variables)
		*p.Variables = readVariables(r, p.Name, p.old)
	}
}

func (p *part) readDuration(text string) string {
	p.Typed = text
	if text == "" {
		*p.Duration = nil
		return ""
	}
	s, err := parsedSection("token", map[string]any{"default_lifetime": text})
	if err != nil {
		return err.Error()
	}
	*p.Duration = s.Token.Default
	return ""
}

// parsedSection is a source with one section, as the language reads it.
func parsedSection(name string, content any) (*connector.Source, error) {
	text, err := json.Marshal(map[string]any{"name": "draft", name: content})
	if err != nil {
		return nil, err
	}
	s, err := connector.ParseSource(text)
	var wrong connector.Problems
	if errors.As(err, &wrong) {
		return nil, errors.New(wrong[0].Message)
	}
	return s, err
}

func (p *part) readBody(r *request) string {
	kind, text := r.form(p.Name+".kind"), strings.ReplaceAll(r.PostFormValue(p.Name+".text"), "\r\n", "\n")
	p.Typed = text
	switch kind {
	case "":
		*p.Body = nil
	case "graphql": // it stays as it is
	case "pairs":
		*p.Body = &connector.Body{Pairs: readPairs(r, p.Name)}
	case "form":
		*p.Body = &connector.Body{Form: readPairs(r, p.Name)}
	case "multipart":
		*p.Body = &connector.Body{Multipart: readPairs(r, p.Name)}
	case "xml":
		*p.Body = &connector.Body{XML: text}
	case "raw":
		*p.Body = &connector.Body{Raw: text}
	case "json":
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil {
			return "is not JSON"
		}
		s, err := parsedSection("request", map[string]any{"url": "https://example.com", "body": map[string]any{"json": json.RawMessage(compact.Bytes())}})
		if err != nil {
			return err.Error()
		}
		*p.Body = s.Request.Body
	}
	return ""
}

func readPairs(r *request, name string) connector.Pairs {
	var list connector.Pairs
	names, values, keep := r.PostForm[name+".name"], r.PostForm[name+".value"], r.PostForm[name+".keep"]
	for i := range min(len(names), len(values), len(keep)) {
		list = append(list, connector.Pair{Name: strings.TrimSpace(names[i]), Value: strings.TrimSpace(values[i]), KeepEmpty: keep[i] != ""})
	}
	list = rows(r, name, list)
	list = slices.DeleteFunc(list, func(p connector.Pair) bool { return p.Name == "" && p.Value == "" })
	switch r.form("do") {
	case "add:" + name:
		list = append(list, connector.Pair{})
	case "use:" + name:
		if key := r.form(name + ".use"); key != "" {
			list = append(list, connector.Pair{Name: key, Value: "{{" + key + "}}"})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// rows removes or moves a row if the button says so.
func rows[T any](r *request, name string, list []T) []T {
	what, at, _ := strings.Cut(r.form("do"), ":"+name+":")
	i, err := strconv.Atoi(at)
	switch {
	case err != nil || i < 0 || i >= len(list):
	case what == "remove":
		return slices.Delete(list, i, i+1)
	case what == "up" && i > 0:
		list[i-1], list[i] = list[i], list[i-1]
	case what == "down" && i < len(list)-1:
		list[i+1], list[i] = list[i], list[i+1]
	}
	return list
}

func readVariables(r *request, name string, old []connector.Input) []connector.Input {
	var list []connector.Input
	at := func(member string, i int) string {
		if values := r.PostForm[name+"."+member]; i < len(values) {
			return strings.TrimSpace(values[i])
		}
		return ""
	}
	for i, key := range r.PostForm[name+".key"] {
		key = strings.TrimSpace(key)
		in := connector.Input{Key: key}
		if n := slices.IndexFunc(old, func(one connector.Input) bool { return one.Key == key }); n >= 0 {
			in = old[n]
		}
		in.Title, in.Help, in.Type, in.Level = at("title", i), at("help", i), connector.Type(at("type", i)), at("level", i)
		in.Required, in.Advanced, in.Locked = at("required", i) != "", at("shown", i) == "advanced", at("shown", i) == "hidden"
		if in.Default = at("default", i); !mayDefault(in) {
			in.Default = ""
		}
		in.Enum = nil
		for one := range strings.SplitSeq(at("enum", i), ",") {
			if one = strings.TrimSpace(one); one != "" {
				in.Enum = append(in.Enum, one)
			}
		}
		list = append(list, in)
	}
	list = rows(r, name, list)
	list = slices.DeleteFunc(list, func(in connector.Input) bool { return in.Key == "" && in.Title == "" })
	if r.form("do") == "add:"+name {
		list = append(list, connector.Input{})
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// mayDefault tells whether a variable may have a default: what is secret, or names the client, is
// of each instance alone.
func mayDefault(in connector.Input) bool {
	return in.Type != connector.SecretText && in.Key != "client_id"
}

// variable is a row of variables.
type variable struct {
	connector.Input
	Row, Count int
	New        bool // its key may be changed
	MayDefault bool // it may have a default
}

// Rows are the variables of the part.
func (p part) Rows() (list []variable) {
	saved := p.old
	if saved == nil {
		saved = *p.Variables
	}
	for i, in := range *p.Variables {
		isNew := in.Key == "" || !slices.ContainsFunc(saved, func(one connector.Input) bool { return one.Key == in.Key })
		list = append(list, variable{in, i, len(*p.Variables), isNew, mayDefault(in)})
	}
	return list
}

// Types are the choices for the type of a variable.
func (v variable) Types() (list []Choice) {
	for _, t := range []connector.Type{connector.String, connector.SecretText, connector.Enum, connector.Boolean, connector.URL, connector.Hostname, connector.Integer, connector.Scopes, connector.Seconds, connector.Date, connector.PEM, connector.URI, connector.Parameters} {
		value := string(t)
		if t == connector.String {
			value = "" // as it is written
		}
		list = append(list, Choice{value, typeTitle(t), t == v.Type || value == string(v.Type)})
	}
	return list
}

func typeTitle(t connector.Type) string {
	switch t {
	case connector.String, "":
		return "Text"
	case connector.SecretText:
		return "Secret"
	case connector.Enum:
		return "Choice"
	case connector.Boolean:
		return "Yes or no"
	case connector.URL:
		return "URL"
	case connector.URI:
		return "URI"
	case connector.PEM:
		return "Certificate (PEM)"
	}
	return strings.ToUpper(string(t[:1])) + string(t[1:])
}

// Value is what the field of the part shows.
func (p part) Value() string {
	switch {
	case p.Typed != "":
		return p.Typed
	case p.Text != nil:
		return *p.Text
	case p.Duration != nil && *p.Duration != nil:
		return strings.TrimSuffix(strings.TrimSuffix((*p.Duration).Duration().String(), "0s"), "0m")
	}
	return ""
}

// Options are the choices of the field, with the current value among them.
func (p part) Options() (list []Choice) {
	all := p.Choices
	if !slices.Contains(all, *p.Text) {
		all = append(slices.Clone(all), *p.Text)
	}
	for _, v := range all {
		list = append(list, Choice{v, cmp.Or(v, "—"), v == *p.Text})
	}
	return list
}

// pairRow is a row of pairs.
type pairRow struct {
	connector.Pair
	Row, Count int
}

// PairRows are the pairs of the part, those of a body among them.
func (p part) PairRows() (list []pairRow) {
	var pairs connector.Pairs
	switch {
	case p.Pairs != nil:
		pairs = *p.Pairs
	case *p.Body != nil:
		b := *p.Body
		pairs = slices.Concat(b.Pairs, b.Form, b.Multipart)
	}
	for i, pair := range pairs {
		list = append(list, pairRow{pair, i, len(pairs)})
	}
	return list
}

// Keys are the variables that can be used in the part.
func (p part) Keys() []string { return p.keys }

// Kinds are the kinds of a body.
func (p part) Kinds() []Choice {
	kind := p.bodyKind()
	list := []Choice{{Value: "", Title: "None"}, {Value: "pairs", Title: "As the content type says"}, {Value: "form", Title: "Form"}, {Value: "json", Title: "JSON"}, {Value: "xml", Title: "XML"}, {Value: "multipart", Title: "Multipart"}, {Value: "raw", Title: "Text"}}
	if kind == "graphql" {
		list = append(list, Choice{Value: "graphql", Title: "GraphQL (edit as YAML)"})
	}
	for i := range list {
		list[i].Selected = list[i].Value == kind
	}
	return list
}

func (p part) bodyKind() string {
	switch b := *p.Body; {
	case b == nil:
		return ""
	case b.GraphQL != nil:
		return "graphql"
	case b.JSON != nil:
		return "json"
	case b.XML != "":
		return "xml"
	case b.Raw != "":
		return "raw"
	case b.Form != nil:
		return "form"
	case b.Multipart != nil:
		return "multipart"
	}
	return "pairs"
}

// BodyText is a body that is one text.
func (p part) BodyText() string {
	switch b := *p.Body; {
	case p.Error != "":
		return p.Typed
	case b == nil:
		return ""
	case b.JSON != nil:
		return indented(b.JSON)
	default:
		return b.XML + b.Raw
	}
}
