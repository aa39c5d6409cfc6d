package connector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// YAML writes s so that ParseSource reads the same again. Each thing takes its short form.
func (s *Source) YAML() []byte {
	for _, blocks := range []bool{true, false} {
		if text, err := marshalYAML(written(reflect.ValueOf(*s)), blocks); err == nil && says(text, s) {
			return text
		}
	}
	// A text that the YAML library writes in a way that it reads otherwise. JSON is YAML too,
	// and leaves no choice.
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // it is made of texts and numbers
	}
	return append(text, '\n')
}

// marshalYAML writes v. With blocks, texts of several lines are written as such, which the
// library gets wrong when they begin with blanks.
func marshalYAML(v any, blocks bool) ([]byte, error) {
	return yaml.MarshalWithOptions(v, yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(blocks))
}

// says tells whether text is a definition that is the same as s.
func says(text []byte, s *Source) bool {
	back, err := ParseSource(text)
	return err == nil && same(back, s)
}

func same(a, b any) bool {
	left, err := json.Marshal(a)
	right, otherErr := json.Marshal(b)
	return err == nil && otherErr == nil && bytes.Equal(left, right)
}

// Edit changes text, a definition, so that it says s. The sections of which s says nothing
// new stay as they are written, with their comments and in their order; the others are written anew.
func Edit(text []byte, s *Source) []byte {
	sections, err := sectionsOf(text)
	old, parseErr := ParseSource(text)
	if err != nil || parseErr != nil {
		return s.YAML()
	}
	for _, blocks := range []bool{true, false} {
		if edited := edit(sections, old, s, blocks); says(edited, s) {
			return edited
		}
	}
	return s.YAML()
}

func edit(sections []section, old, s *Source, blocks bool) []byte {
	was, is := reflect.ValueOf(*old), reflect.ValueOf(*s)
	fields := fieldsOf(is.Type())
	var out bytes.Buffer
	write := func(name string) {
		part := yaml.MapSlice{{Key: name, Value: written(is.Field(fields.index[name]))}}
		if text, err := marshalYAML(part, blocks); err == nil { // else something is missing, which Edit sees
			out.Write(text)
		}
	}
	there := map[string]bool{}
	for _, one := range sections {
		i, known := fields.index[one.name]
		there[one.name] = true
		switch {
		case one.name == "", known && same(was.Field(i).Interface(), is.Field(i).Interface()):
			out.Write(one.text)
		case known && !is.Field(i).IsZero():
			out.Write(one.comment)
			write(one.name)
		}
	}
	for _, name := range fields.names {
		if !there[name] && !is.Field(fields.index[name]).IsZero() {
			if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
				out.WriteByte('\n')
			}
			write(name)
		}
	}
	return out.Bytes()
}

// section is what a document says of one field, with the comment before it. The one without name
// is what stands before the first.
type section struct {
	name          string
	comment, text []byte // text has the comment too
}

// sectionsOf cuts a document at the fields of its first level.
func sectionsOf(text []byte) ([]section, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, err
	}
	if len(file.Docs) != 1 {
		return nil, errors.New("is not one document")
	}
	body, ok := file.Docs[0].Body.(*ast.MappingNode)
	if !ok || body.IsFlowStyle {
		return nil, errors.New("is not a mapping in lines")
	}
	lines := slices.Collect(bytes.Lines(text))
	var cuts []int // the line of each field, from 0
	for _, e := range body.Values {
		line := e.Key.GetToken().Position.Line - 1
		if line >= len(lines) || len(cuts) > 0 && line <= cuts[len(cuts)-1] {
			return nil, errors.New("has two fields on one line")
		}
		cuts = append(cuts, line)
	}
	list := []section{{}}
	begin := 0
	for i, line := range cuts {
		comment := line // a comment or an empty line right before a field belongs to it
		for comment > begin && beside(lines[comment-1]) {
			comment--
		}
		if i == 0 {
			comment = line
		}
		last := &list[len(list)-1]
		last.text = append(last.text, bytes.Join(lines[begin:comment], nil)...)
		before := bytes.Join(lines[comment:line], nil)
		list = append(list, section{name: keyOf(body.Values[i]), comment: before, text: bytes.Clone(before)})
		begin = line
	}
	last := &list[len(list)-1]
	last.text = append(last.text, bytes.Join(lines[begin:], nil)...)
	return list, nil
}

func beside(line []byte) bool {
	return line[0] == '#' || len(bytes.TrimSpace(line)) == 0
}

// Rename is text, a definition, under another name.
func Rename(text []byte, name string) ([]byte, error) {
	s, err := ParseSource(text)
	if err != nil {
		return nil, err
	}
	renamed := *s
	renamed.Name = name
	return Edit(text, &renamed), nil
}

// written is v as the YAML library takes it.
func written(v reflect.Value) any {
	switch v.Type() {
	case durationType:
		return duration(time.Duration(v.Int()))
	case pairsType:
		return writtenPairs(v.Interface().(Pairs))
	case treeType:
		return writtenTree(v.Interface().(Tree).value)
	case locatorType, expiryType, tokenType:
		if text := v.FieldByName("Path").String(); text != "" && onlySet(v, "Path") {
			return text
		}
	case endpointType:
		if e := v.Interface().(Endpoint); e.Path != "" && !strings.Contains(e.Path, " ") && onlySet(v, "Method", "Path") {
			return strings.TrimPrefix(e.Method+" "+e.Path, " ")
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		return written(v.Elem())
	case reflect.Struct:
		m := yaml.MapSlice{}
		fields := fieldsOf(v.Type())
		for _, name := range fields.names {
			if f := v.Field(fields.index[name]); !f.IsZero() || slices.Contains(fields.required, name) {
				m = append(m, yaml.MapItem{Key: name, Value: written(f)})
			}
		}
		return m
	case reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, written(v.Index(i)))
		}
		return list
	case reflect.Map:
		m := yaml.MapSlice{}
		keys := slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			m = append(m, yaml.MapItem{Key: key.String(), Value: written(v.MapIndex(key))})
		}
		return m
	case reflect.String:
		return v.String()
	}
	return v.Interface()
}

// onlySet tells whether no other fields of a struct are set.
func onlySet(v reflect.Value, names ...string) bool {
	for i := range v.NumField() {
		if !slices.Contains(names, v.Type().Field(i).Name) && !v.Field(i).IsZero() {
			return false
		}
	}
	return true
}

func writtenPairs(pairs Pairs) any {
	m, seen := yaml.MapSlice{}, map[string]int{}
	for _, p := range pairs {
		i, again := seen[p.Name]
		if p.KeepEmpty || again && i != len(m)-1 { // a mapping cannot say so
			list := []any{}
			for _, p := range pairs {
				one := yaml.MapSlice{{Key: "name", Value: p.Name}, {Key: "value", Value: p.Value}}
				if p.KeepEmpty {
					one = append(one, yaml.MapItem{Key: "keep_empty", Value: true})
				}
				list = append(list, one)
			}
			return list
		}
		if !again {
			seen[p.Name] = len(m)
			m = append(m, yaml.MapItem{Key: p.Name, Value: p.Value})
			continue
		}
		values, several := m[i].Value.([]any)
		if !several {
			values = []any{m[i].Value}
		}
		m[i].Value = append(values, p.Value)
	}
	return m
}

func writtenTree(v any) any {
	switch v := v.(type) {
	case object:
		m := yaml.MapSlice{}
		for _, one := range v {
			m = append(m, yaml.MapItem{Key: one.name, Value: writtenTree(one.value)})
		}
		return m
	case []any:
		list := []any{}
		for _, one := range v {
			list = append(list, writtenTree(one))
		}
		return list
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	}
	return v
}

// duration writes d as people do: 20m, 1h30m, 7d.
func duration(d time.Duration) string {
	if day := 24 * time.Hour; d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// Sections names the fields of the first level in which two sources differ, in order.
func Sections(a, b *Source) []string {
	left, right := reflect.ValueOf(*a), reflect.ValueOf(*b)
	var names []string
	for name, i := range maps.All(fieldsOf(left.Type()).index) {
		if !same(left.Field(i).Interface(), right.Field(i).Interface()) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
