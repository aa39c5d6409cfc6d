package connector

import (
	"fmt"
	"reflect"
	"strings"
)

// OAuth1Base is the signature base string of OAuth 1.0a, of which nothing else can be seen from outside.
var OAuth1Base = oauth1Base

// FieldTables are the tables of docs/connectors.md: one for each type of the language.
func FieldTables() string {
	var b strings.Builder
	seen := map[reflect.Type]bool{}
	var walk func(title string, t reflect.Type)
	walk = func(title string, t reflect.Type) {
		if seen[t] {
			return
		}
		seen[t] = true
		fmt.Fprintf(&b, "\n### %s\n\n| field | type | what it is |\n|---|---|---|\n", title)
		type inside struct {
			name string
			t    reflect.Type
		}
		var more []inside
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			kind, inner := kindOf(f.Type)
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, kind, f.Tag.Get("doc"))
			if inner != nil {
				more = append(more, inside{inner.Name(), inner})
			}
		}
		for _, m := range more {
			walk(strings.ToLower(m.name), m.t)
		}
	}
	walk("definition", reflect.TypeFor[Source]())
	walk("pair", reflect.TypeFor[Pair]())
	return b.String() + "\n"
}

func kindOf(t reflect.Type) (string, reflect.Type) {
	switch t {
	case durationType:
		return "duration", nil
	case pairsType:
		return "pairs", nil
	case treeType:
		return "JSON", nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.Slice:
		kind, inner := kindOf(t.Elem())
		return "list of " + kind, inner
	case reflect.Map:
		kind, inner := kindOf(t.Elem())
		return "names → " + kind, inner
	case reflect.Struct:
		return "[" + strings.ToLower(t.Name()) + "](#" + strings.ToLower(t.Name()) + ")", t
	case reflect.Bool:
		return "true or false", nil
	case reflect.Int:
		return "number", nil
	}
	return "text", nil
}
