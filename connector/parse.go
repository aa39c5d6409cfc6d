package connector

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/grantway/grantway"
)

// Problem is something wrong, or with Warning something suspicious, in a definition.
type Problem = grantway.Finding

// Problems is the error of a definition that does not compile. It lists everything that is wrong, in
// the order of the document, and warnings too.
type Problems []Problem

// Error implements error.
func (p Problems) Error() string {
	var lines []string
	for _, one := range p {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// wrong is p as an error if something in it is more than a warning.
func (p Problems) wrong() error {
	if slices.ContainsFunc(p, func(one Problem) bool { return !one.Warning }) {
		return p
	}
	return nil
}

func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
}

const (
	maxSource = 256 << 10 // bytes of a document
	maxDepth  = 40        // of what is nested in it
)

// place is where something stands in the document.
type place struct{ line, column int }

// document is a Source with the places of its fields.
type document struct {
	Source
	places   map[string]place
	problems Problems
}

// ParseSource reads a definition strictly: an unknown field, a value of the wrong type, a key
// that comes twice are errors, all of which are returned at once as Problems. It does not
// look at what the fields say; Compile does.
func ParseSource(text []byte) (*Source, error) {
	d := parseDocument(text)
	return &d.Source, d.problems.wrong()
}

func parseDocument(text []byte) *document {
	d := &document{places: map[string]place{}}
	if len(text) > maxSource {
		d.problems = Problems{{Message: fmt.Sprintf("the definition is larger than %d KiB", maxSource>>10)}}
		return d
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		d.problems = Problems{syntaxProblem(err)}
		return d
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) != 1 {
		d.problems = Problems{{Line: 1, Column: 1, Message: "must be one YAML document", Hint: "a file holds one definition"}}
		return d
	}
	d.decode(bodies[0], reflect.ValueOf(&d.Source).Elem(), "", 0)
	d.problems.sort()
	return d
}

func syntaxProblem(err error) Problem {
	p := Problem{Message: "is not YAML", Hint: "check indentation and quotes; a value that begins with {{ needs quotes"}
	var at yaml.Error
	if errors.As(err, &at) {
		p.Message += ": " + at.GetMessage()
		if t := at.GetToken(); t != nil && t.Position != nil {
			p.Line, p.Column = t.Position.Line, t.Position.Column
		}
	}
	return p
}

func (d *document) note(path string, n ast.Node) {
	if t := n.GetToken(); t != nil && t.Position != nil {
		d.places[path] = place{t.Position.Line, t.Position.Column}
	}
}

// at is the place of path, or of the nearest thing around it.
func (d *document) at(path string) place {
	for {
		if p, ok := d.places[path]; ok {
			return p
		}
		i := strings.LastIndexByte(path, '.')
		if i < 0 {
			return place{}
		}
		path = path[:i]
	}
}

func (d *document) problem(path, hint, format string, args ...any) {
	at := d.at(path)
	d.problems = append(d.problems, Problem{Path: path, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (d *document) warn(path, hint, format string, args ...any) {
	d.problem(path, hint, format, args...)
	d.problems[len(d.problems)-1].Warning = true
}

var (
	durationType = reflect.TypeFor[Duration]()
	pairsType    = reflect.TypeFor[Pairs]()
	treeType     = reflect.TypeFor[Tree]()
	locatorType  = reflect.TypeFor[Locator]()
	expiryType   = reflect.TypeFor[Expiry]()
	tokenType    = reflect.TypeFor[TokenRule]()
	endpointType = reflect.TypeFor[Endpoint]()
)

// decode puts node into v, which can be set, and notes what is wrong.
func (d *document) decode(n ast.Node, v reflect.Value, path string, depth int) {
	d.note(path, n)
	if depth > maxDepth {
		d.problem(path, "", "is nested too deeply")
		return
	}
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		d.problem(path, "write it out", "anchors and aliases are not part of the language")
		return
	case *ast.TagNode:
		d.problem(path, "remove the tag", "YAML tags are not part of the language")
		return
	case *ast.NullNode:
		if v.Type() != treeType {
			if v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem() != treeType {
				v.Set(reflect.New(v.Type().Elem())) // an empty section
				return
			}
			if v.Kind() != reflect.Pointer {
				return // as if it were not there
			}
		}
	default:
		_ = n
	}
	switch v.Type() {
	case durationType:
		if text, ok := d.scalar(n, path); ok {
			parsed, err := parseDuration(text)
			if err != nil {
				d.problem(path, "", "%v", err)
			}
			v.SetInt(int64(parsed))
		}
		return
	case pairsType:
		v.Set(reflect.ValueOf(d.pairs(n, path, depth)))
		return
	case treeType:
		v.Set(reflect.ValueOf(Tree{d.tree(n, path, depth)}))
		return
	case locatorType, expiryType, tokenType, endpointType:
		if _, mapping := n.(*ast.MappingNode); !mapping { // short for a path
			if text, ok := d.scalar(n, path); ok {
				if v.Type() == endpointType {
					method, rest, found := strings.Cut(text, " ")
					if !found {
						method, rest = "", text
					}
					v.Set(reflect.ValueOf(Endpoint{Method: method, Path: rest}))
				} else {
					v.FieldByName("Path").SetString(text)
				}
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path, depth)
	case reflect.Struct:
		d.structure(n, v, path, depth)
	case reflect.Slice:
		d.list(n, v, path, depth)
	case reflect.Map:
		d.mapping(n, v, path, depth)
	case reflect.String:
		if text, ok := d.scalar(n, path); ok {
			v.SetString(text)
		}
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.problem(path, "", "must be true or false")
			return
		}
		v.SetBool(b.Value)
	case reflect.Int:
		text, ok := d.scalar(n, path)
		i, err := strconv.Atoi(text)
		if ok && err != nil {
			d.problem(path, "", "must be a whole number")
		}
		v.SetInt(int64(i))
	}
}

// entries are the members of a mapping, with duplicates reported.
func (d *document) entries(n ast.Node, path string) ([]*ast.MappingValueNode, bool) {
	m, ok := n.(*ast.MappingNode)
	if one, single := n.(*ast.MappingValueNode); single {
		m, ok = &ast.MappingNode{Values: []*ast.MappingValueNode{one}}, true
	}
	if !ok {
		d.problem(path, "write name: value", "must be a mapping")
		return nil, false
	}
	seen := map[string]bool{}
	var list []*ast.MappingValueNode
	for _, e := range m.Values {
		name := keyOf(e)
		if _, merge := e.Key.(*ast.MergeKeyNode); merge {
			d.problem(path, "write it out", "merge keys are not part of the language")
			continue
		}
		if seen[name] {
			d.note(join(path, name), e.Key)
			d.problem(join(path, name), "remove one of them", "comes twice")
			continue
		}
		seen[name] = true
		list = append(list, e)
	}
	return list, true
}

func keyOf(e *ast.MappingValueNode) string {
	switch k := e.Key.(type) {
	case *ast.StringNode:
		return k.Value
	case *ast.MappingKeyNode:
		return k.Value.String()
	}
	if t := e.Key.GetToken(); t != nil {
		return t.Value
	}
	return e.Key.String()
}

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

func (d *document) structure(n ast.Node, v reflect.Value, path string, depth int) {
	entries, ok := d.entries(n, path)
	if !ok {
		return
	}
	fields := fieldsOf(v.Type())
	present := map[string]bool{}
	for _, e := range entries {
		name := keyOf(e)
		present[name] = true
		i, ok := fields.index[name]
		if !ok {
			d.note(join(path, name), e.Key)
			hint := "the fields here are " + strings.Join(fields.names, ", ")
			if near := nearest(name, fields.names); near != "" {
				hint = "did you mean " + near + "?"
			}
			d.problem(join(path, name), hint, "there is no such field")
			continue
		}
		d.note(join(path, name), e.Key)
		d.decode(e.Value, v.Field(i), join(path, name), depth+1)
	}
	for _, name := range fields.required {
		if !present[name] {
			d.problem(path, "", "%s is missing", name)
		}
	}
}

func (d *document) list(n ast.Node, v reflect.Value, path string, depth int) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.problem(path, "begin each item with a dash", "must be a list")
		return
	}
	items := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	for i, item := range s.Values {
		d.decode(item, items.Index(i), join(path, strconv.Itoa(i)), depth+1)
	}
	v.Set(items)
}

func (d *document) mapping(n ast.Node, v reflect.Value, path string, depth int) {
	entries, ok := d.entries(n, path)
	if !ok {
		return
	}
	m := reflect.MakeMap(v.Type())
	for _, e := range entries {
		item := reflect.New(v.Type().Elem()).Elem()
		d.decode(e.Value, item, join(path, keyOf(e)), depth+1)
		m.SetMapIndex(reflect.ValueOf(keyOf(e)), item)
	}
	v.Set(m)
}

// scalar is the text of a scalar as it is written.
func (d *document) scalar(n ast.Node, path string) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.NullNode:
		return "", true
	case *ast.MappingNode:
		if n.IsFlowStyle {
			d.problem(path, "put the value into quotes", "must be a text; YAML reads {…} as a mapping")
			return "", false
		}
	}
	d.problem(path, "", "must be a text")
	return "", false
}

func (d *document) pairs(n ast.Node, path string, depth int) Pairs {
	var pairs Pairs
	if s, ok := n.(*ast.SequenceNode); ok {
		for i, item := range s.Values {
			var p Pair
			d.decode(item, reflect.ValueOf(&p).Elem(), join(path, strconv.Itoa(i)), depth+1)
			pairs = append(pairs, p)
			if at, ok := d.places[join(join(path, strconv.Itoa(i)), "value")]; ok {
				d.places[join(path, strconv.Itoa(i))] = at
			}
		}
		return pairs
	}
	entries, _ := d.entries(n, path)
	for _, e := range entries {
		at := func() string { return join(path, strconv.Itoa(len(pairs))) }
		values := []ast.Node{e.Value}
		if s, ok := e.Value.(*ast.SequenceNode); ok {
			values = s.Values
		}
		for _, value := range values {
			d.note(at(), value)
			text, _ := d.scalar(value, at())
			pairs = append(pairs, Pair{Name: keyOf(e), Value: text})
		}
	}
	return pairs
}

func (d *document) tree(n ast.Node, path string, depth int) any {
	d.note(path, n)
	if depth > maxDepth {
		d.problem(path, "", "is nested too deeply")
		return nil
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		entries, _ := d.entries(n, path)
		o := object{}
		for _, e := range entries {
			o = append(o, member{keyOf(e), d.tree(e.Value, join(path, keyOf(e)), depth+1)})
		}
		return o
	case *ast.SequenceNode:
		list := []any{}
		for i, item := range n.Values {
			list = append(list, d.tree(item, join(path, strconv.Itoa(i)), depth+1))
		}
		return list
	case *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode, *ast.FloatNode:
		text := n.GetToken().Value
		if json.Valid([]byte(text)) {
			return json.Number(text)
		}
		d.problem(path, "put it into quotes if it is a text", "is not a JSON number")
		return nil
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.problem(path, "write it out", "anchors, aliases and tags are not part of the language")
		return nil
	}
	text, _ := d.scalar(n, path)
	return text
}

func parseDuration(s string) (Duration, error) {
	wrong := errors.New("must be a duration such as 90s, 5m, 1h30m or 7d, or a number of seconds")
	if n, err := strconv.Atoi(s); err == nil {
		s = strconv.Itoa(n) + "s"
	} else if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, wrong
		}
		return Duration(time.Duration(n) * 24 * time.Hour), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, wrong
	}
	return Duration(d), nil
}

// fieldSet are the fields of a struct by the names they have in a document.
type fieldSet struct {
	names    []string
	required []string
	index    map[string]int
}

// known are the fieldSets of types that were needed before.
var known sync.Map

func fieldsOf(t reflect.Type) fieldSet {
	if s, ok := known.Load(t); ok {
		return s.(fieldSet)
	}
	s := readFields(t)
	known.Store(t, s)
	return s
}

func readFields(t reflect.Type) fieldSet {
	s := fieldSet{index: make(map[string]int, t.NumField())}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		s.names = append(s.names, name)
		s.index[name] = i
		if options == "" {
			s.required = append(s.required, name)
		}
	}
	return s
}

// nearest is the name that was probably meant, "" if none is near.
func nearest(name string, names []string) string {
	best, least := "", 3
	for _, other := range slices.Sorted(slices.Values(names)) {
		if d := distance(name, other); d < least {
			best, least = other, d
		}
	}
	return best
}

// distance is how many letters have to be changed, added or left out (Levenshtein).
func distance(a, b string) int {
	if max(len(a), len(b))-min(len(a), len(b)) > 2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(b)]
}
