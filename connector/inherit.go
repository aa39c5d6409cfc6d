package connector

import (
	"cmp"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// merge is child with what it does not say taken from parent.
func merge(parent, child *Source) Source {
	m := *child
	m.Inputs = nil
	for _, in := range parent.Inputs {
		if i := slices.IndexFunc(child.Inputs, func(own Input) bool { return own.Key == in.Key }); i >= 0 {
			in = mergeInput(in, child.Inputs[i])
		}
		if !slices.Contains(child.Drop, in.Key) {
			m.Inputs = append(m.Inputs, in)
		}
	}
	known := func(key string) bool {
		return slices.ContainsFunc(parent.Inputs, func(in Input) bool { return in.Key == key })
	}
	var first []Input // new ones come first: they are what makes the vendor different
	for _, in := range child.Inputs {
		if !known(in.Key) {
			first = append(first, in)
		}
	}
	m.Inputs = append(first, m.Inputs...)
	for i := range m.Inputs {
		if text, ok := child.Defaults[m.Inputs[i].Key]; ok {
			m.Inputs[i].Default = text
		}
	}
	if child.OAuth2 == nil && child.Request == nil && child.Steps == nil {
		m.OAuth2, m.Request, m.Steps = parent.OAuth2, parent.Request, parent.Steps
	} else if child.OAuth2 != nil && parent.OAuth2 != nil {
		o := *parent.OAuth2
		mergeFields(&o, child.OAuth2)
		m.OAuth2 = &o
	}
	if m.OAuth2 != nil && parent.OAuth2 != nil && child.Drop != nil {
		m.OAuth2 = without(m.OAuth2, child.OAuth2, child.Drop)
	}
	m.Vendor = cmp.Or(child.Vendor, parent.Vendor)
	m.Documentation = cmp.Or(child.Documentation, parent.Documentation)
	m.Checked = cmp.Or(child.Checked, parent.Checked)
	inherit(&m.Vars, parent.Vars)
	inherit(&m.Signers, parent.Signers)
	inherit(&m.Categories, parent.Categories)
	inherit(&m.Regions, parent.Regions)
	inherit(&m.Endpoints, parent.Endpoints)
	inheritPointer(&m.Certificate, parent.Certificate)
	inheritPointer(&m.Token, parent.Token)
	inheritPointer(&m.Errors, parent.Errors)
	inheritPointer(&m.Discover, parent.Discover)
	inheritPointer(&m.Apply, parent.Apply)
	inheritPointer(&m.Detect, parent.Detect)
	inheritPointer(&m.Verify, parent.Verify)
	inheritPointer(&m.Hints, parent.Hints)
	return m
}

// without is o without the inherited fields that use a dropped input.
func without(o, own *OAuth2, dropped []string) *OAuth2 {
	out := *o
	v := reflect.ValueOf(&out).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() != reflect.String || own != nil && !reflect.ValueOf(own).Elem().Field(i).IsZero() {
			continue
		}
		t, err := parseTemplate(f.String())
		if err == nil && slices.ContainsFunc(t.names, func(name string) bool { return slices.Contains(dropped, name) }) {
			f.SetString("")
		}
	}
	return &out
}

// renumber makes the places of the inputs those of the merged list.
func (c *compiler) renumber(own *Source) {
	places := map[string]place{}
	for path, at := range c.places {
		rest, ok := strings.CutPrefix(path, "inputs.")
		number, field, _ := strings.Cut(rest, ".")
		i, err := strconv.Atoi(number)
		if !ok || err != nil {
			places[path] = at
			continue
		}
		for j, in := range c.Inputs {
			if in.Key == own.Inputs[i].Key {
				places[strings.TrimSuffix(join(join("inputs", strconv.Itoa(j)), field), ".")] = at
			}
		}
	}
	c.places = places
}

// mergeFields sets the fields of a struct that are set in the other one.
func mergeFields(into, from any) {
	to, of := reflect.ValueOf(into).Elem(), reflect.ValueOf(from).Elem()
	for i := range of.NumField() {
		if !of.Field(i).IsZero() {
			to.Field(i).Set(of.Field(i))
		}
	}
}

func mergeInput(parent, child Input) Input {
	mergeFields(&parent, &child)
	return parent
}

func inherit[S ~[]E, E any](own *S, parent S) {
	if *own == nil {
		*own = parent
	}
}

func inheritPointer[T any](own **T, parent *T) {
	if *own == nil {
		*own = parent
	}
}

// inheritance checks what only makes sense together with extends.
func (c *compiler) inheritance(own *Source) {
	for key := range own.Defaults {
		if !slices.ContainsFunc(c.Inputs, func(in Input) bool { return in.Key == key }) {
			c.problem(join("defaults", key), "defaults are for inherited inputs; "+c.inputHint(key), "there is no input %s", key)
		}
	}
	if own.Extends == "" {
		for i := range c.Inputs {
			if text, ok := own.Defaults[c.Inputs[i].Key]; ok {
				c.Inputs[i].Default = text
			}
		}
	}
	if own.Extends == "" && own.Drop != nil {
		c.problem("drop", "remove it", "makes sense only with extends")
	}
}

func (c *compiler) inputHint(key string) string {
	var keys []string
	for _, in := range c.Inputs {
		keys = append(keys, in.Key)
	}
	if near := nearest(key, keys); near != "" {
		return "did you mean " + near + "?"
	}
	return "the inputs are " + strings.Join(keys, ", ")
}
