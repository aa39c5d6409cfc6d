package connector

import (
	"embed"
	"fmt"
	"path"
	"strings"
	"sync"
)

// The recorded cases beside them, in catalog/cases, are for tests only.
//
//go:embed catalog/*.yaml
var catalogFiles embed.FS

// Names lists the ready-made definitions in order, those among them that are only there to be
// extended. That of plain credentials is oauth2-client-credentials.
func Names() []string {
	files, err := catalogFiles.ReadDir("catalog")
	if err != nil {
		panic(err) // they are part of the program
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = strings.TrimSuffix(f.Name(), ".yaml")
	}
	return names
}

// Text is a ready-made definition as it is written; ok is false when there is none of that name.
func Text(name string) (text []byte, ok bool) {
	if !definitionName.MatchString(name) {
		return nil, false
	}
	text, err := catalogFiles.ReadFile(path.Join("catalog", name+".yaml"))
	return text, err == nil
}

// loaded has the definitions that Load compiled: of a few hundred, a hub uses some.
var loaded sync.Map // of *Definition, by name

// Load compiles a ready-made definition when it is first asked for. The error is that there is none with this
// name, or a fault of this program.
func Load(name string) (*Definition, error) {
	if d, ok := loaded.Load(name); ok {
		return d.(*Definition), nil
	}
	text, ok := Text(name)
	if !ok {
		return nil, fmt.Errorf("there is no connector %s", name)
	}
	d, err := Parse(text, Find)
	if err != nil {
		return nil, fmt.Errorf("definition %s: %w", name, err)
	}
	first, _ := loaded.LoadOrStore(name, d) // so that everybody has the same one
	return first.(*Definition), nil
}

// Find is Load in the form that Parse takes.
func Find(name string) (*Definition, bool) {
	d, err := Load(name)
	return d, err == nil
}
