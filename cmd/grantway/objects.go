package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/grantway/grantway"
)

// object is one document of a YAML file:
//
//	kind: credential
//	name: sales
//	division: home                              # optional, like description and connector
//	inputs:
//	  client_id: 0123                           # a scalar is its text: no number, no boolean
//	  client_secret: {store: env, key: SALES}   # or a text; null removes it, leaving it out keeps it
//	  extra_parameters:
//	    - {in: body, name: tenant, value: t1}
//	---
//	kind: division
//	name: emea
//	description: Europe
//	---
//	kind: secret_store
//	name: bao
//	type: vault
//	inputs:
//	  address: https://bao.example.com:8200
//	  token: {store: env, key: BAO_TOKEN}
//
//	---
//	kind: connector                             # the rest of the document is the definition, as it is
//	name: acme
//	extends: oauth2
//
// The file is read strictly: unknown and repeated keys, anchors, aliases and tags are errors.
type object struct {
	kind       string
	credential grantway.Credential  // for kindCredential
	division   grantway.Division    // for kindDivision
	store      grantway.SecretStore // for kindStore
	connector  definitionText       // for kindConnector
	client     grantway.OAuthClient // for kindClient
	patch      json.RawMessage      // for kindClient: the members that stand in the file

	file  string         // "" for the text of an editor
	lines map[string]int // by JSON pointer, where things stand in the file
}

const (
	kindCredential = "credential"
	kindDivision   = "division"
	kindStore      = "secret_store"
	kindConnector  = "connector"
)

// membersOf are the keys that a document of a kind may have.
var membersOf = map[string][]string{
	kindCredential: {"kind", "name", "description", "division", "connector", "connector_version", "rate_limit", "time_zone", "inputs"},
	kindDivision:   {"kind", "name", "description"},
	kindStore:      {"kind", "name", "type", "description", "inputs"},
	kindClient:     clientMembers(),
}

func (o object) name() string {
	switch o.kind {
	case kindDivision:
		return o.division.Name
	case kindStore:
		return o.store.Name
	case kindConnector:
		return o.connector.name
	case kindClient:
		return o.client.Name
	}
	return o.credential.Name
}

// at is the place of a JSON pointer in the file: of the thing itself or of what should hold it.
func (o object) at(pointer string) string {
	for {
		if line, ok := o.lines[pointer]; ok {
			return place(o.file, line)
		}
		pointer = pointer[:strings.LastIndexByte(pointer, '/')]
	}
}

// place names a line of a file; without a name, of the text that a person has before them.
func place(file string, line int) string {
	if file == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// placedError is an error whose fields begin with their place in a file and are no pointers.
type placedError struct{ cause *grantway.Error }

func (e placedError) Error() string { return e.cause.Error() }
func (e placedError) Unwrap() error { return e.cause }

// locate gives the fields of an error of the hub their places in the file.
func (o object) locate(err error) error {
	var e *grantway.Error
	if !errors.As(err, &e) || e.Fields == nil {
		return fmt.Errorf("%s: %s %s: %w", o.at(""), o.kind, o.name(), err)
	}
	placed := *e
	placed.Fields = make([]grantway.Field, len(e.Fields))
	for i, f := range e.Fields {
		placed.Fields[i] = o.field(f)
	}
	return placedError{&placed}
}

func (o object) field(f grantway.Field) grantway.Field {
	pointer := "/" + strings.TrimPrefix(f.Pointer, "/")
	return grantway.Field{Pointer: o.at(pointer) + ": " + fieldName(f), Detail: f.Detail}
}

// readObjects reads the YAML file at path; "-" is standard input.
func (c *cli) readObjects(path string) ([]object, error) {
	var text []byte
	var err error
	if path == "-" {
		path = "stdin"
		text, err = io.ReadAll(c.in)
	} else {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	return parseObjects(path, text)
}

// parseObjects reads the documents of a file and reports all that is wrong in one error,
// each with its line. file is its name, "" if it has none. Values are not repeated in it: they may be secrets.
func parseObjects(file string, text []byte) ([]object, error) {
	r := reader{file: file, names: map[string]string{}}
	for _, d := range splitDocuments(bytes.TrimPrefix(text, []byte("\ufeff"))) {
		r.before = d.before
		if !utf8.Valid(d.text) { // JSON would replace what is wrong, and so change a secret
			r.wrong(r.before+1, "", "is not UTF-8 text")
			continue
		}
		tree, err := parser.ParseBytes(d.text, 0, parser.AllowDuplicateMapKey()) // we look for them ourselves
		var syntax yaml.Error
		switch {
		case errors.As(err, &syntax) && syntax.GetToken() != nil:
			r.wrong(r.before+syntax.GetToken().Position.Line, "", "is not YAML: "+syntax.GetMessage())
			continue
		case err != nil:
			r.wrong(r.before+1, "", "is not YAML")
			continue
		}
		for _, one := range tree.Docs {
			switch {
			case one.Body == nil || one.Body.Type() == ast.CommentType:
			case kindOf(one.Body) == kindConnector:
				r.connector(one.Body, d)
			default:
				r.object(one.Body)
			}
		}
	}
	if r.fields != nil {
		return nil, placedError{&grantway.Error{Code: grantway.Invalid, Message: "the file cannot be used as it is; nothing was changed", Fields: r.fields}}
	}
	return r.objects, nil
}

// document is one document of a file and how many lines are before it.
type document struct {
	text   []byte
	before int
}

// splitDocuments cuts a file where a document begins (---) or ends (...). The parser could do
// so too, but loses a document that comes after an empty one.
func splitDocuments(text []byte) []document {
	documents := []document{{}}
	n := 0
	for line := range bytes.Lines(text) {
		if marks(line, "---") {
			documents = append(documents, document{before: n})
		}
		n++
		last := &documents[len(documents)-1]
		last.text = append(last.text, line...)
		if marks(line, "...") {
			documents = append(documents, document{before: n})
		}
	}
	return documents
}

// marks says whether line is marker, perhaps with something behind it.
func marks(line []byte, marker string) bool {
	rest, found := bytes.CutPrefix(line, []byte(marker))
	return found && (len(rest) == 0 || bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0])))
}

// reader turns syntax trees into objects and gathers what is wrong.
type reader struct {
	file    string
	before  int // lines before the document that is being read
	objects []object
	names   map[string]string // where the names that are taken stand, by kind and name
	fields  []grantway.Field
	lines   map[string]int // of the document that is being read
}

func (r *reader) wrong(line int, pointer, detail string) {
	at := place(r.file, line) + ":"
	if name := fieldName(grantway.Field{Pointer: pointer}); name != "" {
		at += " " + name
	}
	r.fields = append(r.fields, grantway.Field{Pointer: at, Detail: detail})
}

// object reads one document.
func (r *reader) object(body ast.Node) {
	r.lines = map[string]int{}
	before := len(r.fields)
	members, ok := r.value("", body).(map[string]any)
	line := r.lines[""]
	if !ok {
		r.wrong(line, "", "must be a mapping that begins with kind and name")
		return
	}
	if len(r.fields) > before {
		return
	}
	text := func(key string) string {
		value, ok := members[key].(string)
		if !ok && members[key] != nil {
			r.wrong(r.lines["/"+key], "/"+key, "must be a text")
		}
		return value
	}
	o := object{kind: text("kind"), file: r.file, lines: r.lines}
	allowed, known := membersOf[o.kind]
	if !known {
		r.wrong(line, "/kind", "must be credential, connector, division, secret_store or client")
		return
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(allowed, key) {
			r.wrong(r.lines["/"+escape(key)], "/"+key, "is not a member of a "+o.kind+"; it has "+strings.Join(allowed, ", "))
		}
	}
	name, description := text("name"), text("description")
	if name == "" {
		r.wrong(line, "/name", "is required")
	}
	switch o.kind {
	case kindDivision:
		o.division = grantway.Division{Name: name, Description: description}
	case kindStore:
		o.store = grantway.SecretStore{Name: name, Kind: text("type"), Description: description, Inputs: r.inputs(members["inputs"])}
	case kindClient:
		o.client, o.patch = r.client(members)
	default:
		o.credential = grantway.Credential{Name: name, Description: description, Division: text("division"), Connector: text("connector"), TimeZone: text("time_zone"), Inputs: r.inputs(members["inputs"])}
		if version := text("connector_version"); version != "" {
			n, err := strconv.ParseInt(version, 10, 64)
			if err != nil || n < 1 {
				r.wrong(r.lines["/connector_version"], "/connector_version", "must be a whole number from 1 on")
			}
			o.credential.ConnectorVersion = n
		}
		if limit := text("rate_limit"); limit != "" {
			var err error
			if o.credential.RateLimit, err = parseRateLimit(limit); err != nil {
				r.wrong(r.lines["/rate_limit"], "/rate_limit", "must be requests and a time, such as 100/1m")
			}
		}
	}
	id := o.kind + "/" + strings.ToLower(name)
	if other, taken := r.names[id]; taken && name != "" {
		r.wrong(line, "/name", "is also the name of the "+o.kind+" at "+other)
	}
	r.names[id] = o.at("")
	r.objects = append(r.objects, o)
}

func (r *reader) inputs(v any) grantway.Inputs {
	inputs := grantway.Inputs{}
	if v == nil {
		return inputs
	}
	members, ok := v.(map[string]any)
	if !ok {
		r.wrong(r.lines["/inputs"], "/inputs", "must be a mapping")
		return inputs
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		var value grantway.Value
		text, err := json.Marshal(members[key])
		if err == nil {
			err = value.UnmarshalJSON(text)
		}
		if err == nil && value.Ref != nil && (value.Ref.Store == "" || value.Ref.Key == "") {
			err = errors.New("needs both store and key")
		}
		if err != nil {
			pointer := "/inputs/" + escape(key)
			r.wrong(r.lines[pointer], pointer, err.Error())
		}
		inputs[key] = value
	}
	return inputs
}

// line is the line of the file on which a node begins.
func (r *reader) line(node ast.Node) int { return r.before + node.GetToken().Position.Line }

// value reads a node and all below it: mappings as map[string]any, sequences as []any,
// null as nil, and every other scalar as the text that stands in the file.
func (r *reader) value(pointer string, node ast.Node) any {
	line := r.line(node)
	if _, seen := r.lines[pointer]; !seen {
		r.lines[pointer] = line
	}
	switch node := node.(type) {
	case ast.MapNode:
		members := map[string]any{}
		for entry := node.MapRange(); entry.Next(); {
			key, ok := entry.Key().(*ast.StringNode)
			if !ok {
				r.wrong(r.line(entry.Key()), pointer, "has a key that is not plain text")
				continue
			}
			at := pointer + "/" + escape(key.Value)
			line := r.line(key)
			if _, repeated := members[key.Value]; repeated {
				r.wrong(line, at, "stands here twice")
			}
			r.lines[at] = line
			members[key.Value] = r.value(at, entry.Value())
		}
		return members
	case *ast.SequenceNode:
		items := []any{}
		for i, item := range node.Values {
			items = append(items, r.value(fmt.Sprintf("%s/%d", pointer, i), item))
		}
		return items
	case *ast.StringNode:
		if node.Token.Type == token.StringType && strings.Contains(strings.TrimSpace(node.Token.Origin), "\t") {
			r.wrong(line, pointer, "holds a tab, so it must be in quotes") // the parser would drop it
		}
		return node.Value
	case *ast.LiteralNode:
		return node.Value.Value
	case *ast.NullNode:
		return nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return node.GetToken().Value
	}
	r.wrong(line, pointer, "uses a part of YAML that is not supported here: an anchor, an alias, a tag or a directive")
	return nil
}

// escape makes a key a part of a JSON pointer (RFC 6901 section 3).
func escape(key string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(key) }

// appendCredential appends one as a document that parseObjects reads. Secrets that the hub
// stores are not in it, only a comment in their place.
func appendCredential(b []byte, one grantway.Credential) []byte {
	b = appendMembers(b, "", "kind", kindCredential, "name", one.Name, "description", one.Description, "division", one.Division, "connector", one.Connector)
	if one.Connector != grantway.PlainConnector && one.ConnectorVersion > 0 {
		b = appendMembers(b, "", "connector_version", strconv.FormatInt(one.ConnectorVersion, 10))
	}
	if l := one.RateLimit; l != nil {
		b = appendMembers(b, "", "rate_limit", fmt.Sprintf("%d/%s", l.Requests, l.Per.Duration()))
	}
	b = appendMembers(b, "", "time_zone", one.TimeZone)
	return appendInputs(b, one.Inputs)
}

// appendStore is appendCredential for a secret store.
func appendStore(b []byte, one grantway.SecretStore) []byte {
	b = appendMembers(b, "", "kind", kindStore, "name", one.Name, "type", one.Kind, "description", one.Description)
	return appendInputs(b, one.Inputs)
}

func appendInputs(b []byte, inputs grantway.Inputs) []byte {
	b = append(b, "inputs:\n"...)
	for _, key := range slices.Sorted(maps.Keys(inputs)) {
		switch v := inputs[key]; {
		case v.Set:
			b = fmt.Appendf(b, "  # %s is stored in the hub; leaving it out keeps it\n", printable(key))
		case v.Ref != nil:
			b = append(b, "  "+scalar(key)+":\n"...)
			b = appendMembers(b, "    ", "store", v.Ref.Store, "key", v.Ref.Key, "field", v.Ref.Field, "version", v.Ref.Version)
		case v.Params != nil && len(v.Params) == 0:
			b = append(b, "  "+scalar(key)+": []\n"...)
		case v.Params != nil:
			b = append(b, "  "+scalar(key)+":\n"...)
			for _, p := range v.Params {
				b = fmt.Appendf(b, "    - in: %s\n      name: %s\n      value: %s\n", scalar(p.In), scalar(p.Name), scalar(p.Value))
			}
		default:
			b = appendText(b, "  ", key, v.Text)
		}
	}
	return b
}

func appendDivision(b []byte, d grantway.Division) []byte {
	return appendMembers(b, "", "kind", kindDivision, "name", d.Name, "description", d.Description)
}

// appendMembers appends keys and their values, two by two, without the empty ones.
func appendMembers(b []byte, indent string, pairs ...string) []byte {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			b = appendText(b, indent, pairs[i], pairs[i+1])
		}
	}
	return b
}

// appendText appends a key and a text, which is a literal block if it has lines, as PEM has.
func appendText(b []byte, indent, key, text string) []byte {
	b = append(b, indent+scalar(key)+":"...)
	body, ok := strings.CutSuffix(text, "\n")
	if !ok || body == "" || strings.ContainsFunc(body, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }) ||
		slices.ContainsFunc(strings.Split(body, "\n"), func(line string) bool { return line == "" || strings.TrimSpace(line) != line }) {
		return append(b, " "+scalar(text)+"\n"...)
	}
	return append(b, " |\n"+indent+"  "+strings.ReplaceAll(body, "\n", "\n"+indent+"  ")+"\n"...)
}

// scalar writes a text on one line: as it is where every YAML reader takes it for a text or a
// number, else in double quotes, where the escapes of JSON are those of YAML.
func scalar(s string) string {
	plain := s != "" && !slices.Contains([]string{"null", "true", "false", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(s))
	for i, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '_', r == '/':
		case i == 0 && '1' <= r && r <= '9' && strings.Trim(s, "0123456789") == "":
		case i > 0 && ('0' <= r && r <= '9' || strings.ContainsRune("-._~@+", r)):
		case i > 0 && i < len(s)-1 && r == ':' && s[i+1] != ' ':
		case i > 0 && i < len(s)-1 && r == ' ':
		default:
			plain = false
		}
	}
	if plain {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(s) // a string always encodes
	return strings.TrimSuffix(b.String(), "\n")
}
