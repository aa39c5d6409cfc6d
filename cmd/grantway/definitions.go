package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

// definitionText is a connector in a file: the document without the line that says its kind.
type definitionText struct {
	name     string
	text     []byte
	revision int64 // of the one that is stored
}

// fileConnector is a connector in a file, compiled.
type fileConnector struct {
	def     *connector.Definition
	version int64 // the newest that is stored, which it replaces; 0 when there is none
}

// kindOf is the kind that a document says it is.
func kindOf(body ast.Node) string {
	kind, _ := memberOf(body, "kind")
	return kind
}

// memberOf is a member of a mapping that is a text, and its line in the document.
func memberOf(body ast.Node, name string) (text string, line int) {
	m, ok := body.(ast.MapNode)
	if !ok {
		return "", 0
	}
	for entry := m.MapRange(); entry.Next(); {
		if key := entry.Key().GetToken(); key.Value == name {
			return entry.Value().GetToken().Value, key.Position.Line
		}
	}
	return "", 0
}

// connector reads a document that is a definition. Whatever is wrong with that, the hub says.
func (r *reader) connector(body ast.Node, d document) {
	_, kindLine := memberOf(body, "kind")
	name, nameLine := memberOf(body, "name")
	first := r.line(body)
	if name == "" {
		r.wrong(first, "/name", "is required")
	}
	if m, ok := body.(*ast.MappingNode); ok && m.IsFlowStyle {
		r.wrong(first, "", "must have each field of the connector on lines of its own")
		return
	}
	var text []byte
	line := 0
	for one := range bytes.Lines(d.text) {
		if line++; line != kindLine && !marks(one, "---") && !marks(one, "...") {
			text = append(text, one...)
		}
	}
	o := object{kind: kindConnector, file: r.file, lines: map[string]int{"": r.before + kindLine, "/name": r.before + nameLine}, connector: definitionText{name: name, text: text}}
	id := o.kind + "/" + name
	if other, taken := r.names[id]; taken && name != "" {
		r.wrong(first, "/name", "is also the name of the connector at "+other)
	}
	r.names[id] = o.at("")
	r.objects = append(r.objects, o)
}

// appendConnector is appendCredential for a connector. Its text is not changed.
func appendConnector(b []byte, one grantway.Connector) []byte {
	b = append(b, "kind: connector\n"...)
	for line := range strings.Lines(one.YAML) {
		if !marks([]byte(line), "---") && !marks([]byte(line), "...") {
			b = append(b, line...)
		}
	}
	if !bytes.HasSuffix(b, []byte("\n")) {
		b = append(b, '\n')
	}
	return b
}

// compareConnector says what a save of want would be, and what is wrong with it. What it defines goes into
// connectors, for what comes after it in the file.
func compareConnector(ctx context.Context, hub *grantway.Client, connectors map[string]fileConnector, objects []object, want definitionText) (definitionText, string, []grantway.Field, error) {
	stored, err := hub.Connector(ctx, want.name)
	if known := new(*grantway.Error); errors.As(err, known) && (*known).Code == grantway.NotFound {
		err = nil
	}
	if err != nil {
		return want, "", nil, err
	}
	want.revision = stored.Revision
	def, err := fileDefinition(ctx, hub, connectors, objects, want.text, 0)
	var problems connector.Problems
	if err != nil && !errors.As(err, &problems) {
		return want, "", nil, err
	}
	var wrong []grantway.Field
	for _, p := range problems {
		if !p.Warning {
			wrong = append(wrong, grantway.Field{Pointer: "", Detail: p.String()})
		}
	}
	if def != nil {
		connectors[want.name] = fileConnector{def, stored.Newest}
	}
	switch {
	case stored.Source == grantway.CatalogConnector:
		wrong = append(wrong, grantway.Field{Pointer: "/name", Detail: "is that of a connector that comes with the hub"})
	case stored.Name == "":
		return want, created, wrong, nil
	case stored.YAML == string(want.text):
		return want, unchanged, wrong, nil
	}
	return want, updated, wrong, nil
}

// fileDefinition compiles a definition that may extend others of the file or of the hub.
func fileDefinition(ctx context.Context, hub *grantway.Client, connectors map[string]fileConnector, objects []object, text []byte, depth int) (*connector.Definition, error) {
	if i := slices.IndexFunc(objects, func(o object) bool {
		source, _ := connector.ParseSource(text)
		return o.kind == kindConnector && o.connector.name == source.Extends
	}); i >= 0 && depth < 5 {
		parent, err := fileDefinition(ctx, hub, connectors, objects, objects[i].connector.text, depth+1)
		return connector.Parse(text, func(string) (*connector.Definition, bool) { return parent, err == nil })
	}
	return draftDefinition(ctx, hub, text)
}

// connectorFor is the definition that the inputs of a credential are checked with: that of the
// file, else the version that it has or will have in the hub.
func connectorFor(ctx context.Context, hub *grantway.Client, connectors map[string]fileConnector, want, stored grantway.Credential) (*connector.Definition, error) {
	version := cmp.Or(want.ConnectorVersion, stored.ConnectorVersion)
	if own, ok := connectors[want.Connector]; ok && (version == 0 || version == max(own.version, 1)) {
		return own.def, nil
	}
	if want.ConnectorVersion == 0 {
		want.ConnectorVersion = stored.ConnectorVersion
	}
	return definition(ctx, hub, want)
}
