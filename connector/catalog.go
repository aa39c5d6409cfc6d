package connector

import (
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
)

// The recorded cases beside them, in catalog/cases, are for tests only.
//
//go:embed catalog/*.yaml
var catalogFiles embed.FS

// Catalog is a set of definitions by name. It is immutable.
type Catalog struct {
	byName map[string]*Definition
	names  []string
}

// LoadCatalog compiles the ready-made definitions, of which oauth2-client-credentials is the connector of
// plain credentials. An error is a fault of this program.
func LoadCatalog() (*Catalog, error) {
	entries, err := catalogFiles.ReadDir("catalog")
	if err != nil {
		return nil, err
	}
	var texts [][]byte
	for _, e := range entries {
		text, err := catalogFiles.ReadFile(path.Join("catalog", e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return NewCatalog(texts...)
}

// Load compiles one ready-made definition, for who needs no other. The error is that there is
// none with this name.
func Load(name string) (*Definition, error) {
	text, err := catalogFiles.ReadFile(path.Join("catalog", name+".yaml"))
	if err != nil {
		return nil, fmt.Errorf("there is no connector %s", name)
	}
	return Parse(text, func(parent string) (*Definition, bool) {
		d, err := Load(parent)
		return d, err == nil
	})
}

// NewCatalog compiles definitions that may extend each other, in any order. The error names
// each definition that does not compile and what is wrong with it; the others are in the catalog.
func NewCatalog(texts ...[]byte) (*Catalog, error) {
	c := &Catalog{byName: map[string]*Definition{}}
	documents := map[string]*document{}
	var errs []error
	parsed := make([]*document, len(texts))
	var parsing sync.WaitGroup // most of the time goes into YAML, and a hub starts with all of it
	for i, text := range texts {
		parsing.Go(func() { parsed[i] = parseDocument(text) })
	}
	parsing.Wait()
	for _, d := range parsed {
		if _, twice := documents[d.Name]; twice {
			errs = append(errs, fmt.Errorf("definition %s comes twice", d.Name))
		}
		documents[d.Name] = d
		c.names = append(c.names, d.Name)
	}
	slices.Sort(c.names)
	var load func(name string, depth int) (*Definition, bool)
	load = func(name string, depth int) (*Definition, bool) {
		if d, ok := c.byName[name]; ok || depth > 5 {
			return d, d != nil
		}
		doc, ok := documents[name]
		if !ok {
			return nil, false
		}
		err := doc.problems.wrong()
		var d *Definition
		if err == nil {
			d, err = compile(doc, func(parent string) (*Definition, bool) { return load(parent, depth+1) })
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("definition %s:\n%w", name, err))
			delete(documents, name)
			return nil, false
		}
		c.byName[name] = d
		return d, true
	}
	for _, name := range c.names {
		load(name, 0)
	}
	c.names = slices.DeleteFunc(c.names, func(name string) bool { return c.byName[name] == nil })
	return c, errors.Join(errs...)
}

// Find returns the definition with that name. It is the lookup that Parse, and whoever uses
// definitions, takes.
func (c *Catalog) Find(name string) (*Definition, bool) {
	d, ok := c.byName[name]
	return d, ok
}

// Definitions lists those that a credential can be made of, by name.
func (c *Catalog) Definitions() []*Definition {
	var list []*Definition
	for _, name := range c.names {
		if d := c.byName[name]; !d.Source.Abstract {
			list = append(list, d)
		}
	}
	return list
}
