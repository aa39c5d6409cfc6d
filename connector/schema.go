package connector

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Schema is the JSON Schema (draft 2020-12) of a definition, made of the types in source.go.
// schema/connector.json is a copy of it.
func Schema() []byte {
	g := schemaMaker{defs: map[string]any{}}
	root := g.structure(reflect.TypeFor[Source]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = "https://grantway.dev/schema/connector.json"
	root["title"] = "Grantway connector"
	root["$defs"] = g.defs
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps of strings
	}
	return append(text, '\n')
}

type schemaMaker struct{ defs map[string]any }

type schema = map[string]any

// text is what a template or a plain text may be written as.
func text() schema { return schema{"type": []string{"string", "number", "boolean"}} }

func (g *schemaMaker) of(t reflect.Type) schema {
	switch t {
	case durationType:
		return schema{"type": []string{"string", "integer"}, "pattern": `^([0-9]+|[0-9]+d|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$`}
	case pairsType:
		return g.ref("pairs", func() schema {
			return schema{"anyOf": []any{
				schema{"type": "object", "additionalProperties": schema{"anyOf": []any{text(), schema{"type": "array", "items": text()}, schema{"type": "null"}}}},
				schema{"type": "array", "items": g.structure(reflect.TypeFor[Pair]())},
			}}
		})
	case treeType:
		return schema{}
	case locatorType, expiryType, tokenType, endpointType:
		return g.ref(strings.ToLower(t.Name()), func() schema { return schema{"anyOf": []any{text(), g.structure(t)}} })
	case reflect.TypeFor[Type]():
		var names []string
		for _, name := range inputTypes {
			names = append(names, string(name))
		}
		return schema{"enum": names}
	case reflect.TypeFor[Format]():
		return schema{"enum": []Format{JSONFormat, XMLFormat, FormFormat, TextFormat}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.Struct:
		return g.ref(strings.ToLower(t.Name()), func() schema { return g.structure(t) })
	case reflect.Slice:
		return schema{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int:
		return schema{"type": "integer"}
	}
	return text()
}

// ref puts a schema that is used more than once into $defs.
func (g *schemaMaker) ref(name string, make func() schema) schema {
	if _, ok := g.defs[name]; !ok {
		g.defs[name] = true // against going round in circles
		g.defs[name] = make()
	}
	return schema{"$ref": "#/$defs/" + name}
}

func (g *schemaMaker) structure(t reflect.Type) schema {
	properties, fields := schema{}, fieldsOf(t)
	for name, i := range fields.index {
		p := g.of(t.Field(i).Type)
		if doc := t.Field(i).Tag.Get("doc"); doc != "" {
			p = schema{"description": doc, "allOf": []any{p}}
		}
		properties[name] = p
	}
	s := schema{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if fields.required != nil {
		s["required"] = fields.required
	}
	return s
}
