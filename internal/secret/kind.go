package secret

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

// Kind is one kind of secret store that can be added: its inputs, and how one is opened.
type Kind struct {
	connector.Definition

	// SignIn says with which ways to sign in, values of the input "auth", an input is of use.
	// What is not here always is.
	SignIn map[string][]string

	objects bool // every value is a JSON object
	open    func(setting) Store
	spell   func(key string) string // the key as the store spells it
}

// setting is what a store is opened with. Opening does no I/O.
type setting struct {
	name    string
	text    func(input string) string                               // a plain input, or its default
	secret  func(ctx context.Context, input string) (string, error) // a secret input, opened or resolved for this use; "" when not set
	http    *http.Client                                            // guarded
	machine *http.Transport                                         // guarded too, but reaches the cloud's metadata service for the machine's own identity
}

// The defaults of what every kind has.
const (
	defaultTTL   = 5 * time.Minute
	defaultStale = 24 * time.Hour
)

// Kinds lists the kinds of secret stores that can be added, in the order a menu shows them.
func Kinds() []Kind { return []Kind{vaultKind(), awsKind(), azureKind(), googleKind()} }

// FindKind returns the kind of that name.
func FindKind(name string) (Kind, bool) {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}

// kind completes a definition with the inputs that every kind has.
func kind(name, title, description string, inputs ...connector.Input) connector.Definition {
	return connector.Definition{Name: name, Title: title, Description: description, Inputs: append(inputs,
		connector.Input{Key: "ttl_seconds", Title: "Time to live", Type: connector.Seconds, Default: fmt.Sprint(int(defaultTTL / time.Second)), Advanced: true,
			Help: "How long a value is used before it is read again. When a provider refuses it, it is read again at once."},
		connector.Input{Key: "hard_limit_seconds", Title: "Hard limit", Type: connector.Seconds, Default: fmt.Sprint(int(defaultStale / time.Second)), Advanced: true,
			Help: "How long a value that was read is used while the store cannot be read."})}
}

func kindNames() string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// check finds everything wrong with the inputs of a store of kind k.
func (k Kind) check(in grantway.SecretStore) []grantway.Field {
	known := grantway.Inputs{}
	var fields []grantway.Field
	for key, v := range in.Inputs {
		input, ok := k.Input(key)
		switch {
		case !ok:
			fields = append(fields, grantway.Field{Pointer: grantway.Pointer("inputs", key), Detail: "is not an input of a store of kind " + k.Name})
			continue
		case input.Type == connector.SecretText && v.Ref != nil && !builtIn(v.Ref.Store):
			fields = append(fields, grantway.Field{Pointer: grantway.Pointer("inputs", key, "store"), Detail: "must be env or file: a store signs in with what the hub has at hand"})
		}
		known[key] = v
	}
	fields = append(fields, k.Check(known)...)
	slices.SortFunc(fields, func(a, b grantway.Field) int { return strings.Compare(a.Pointer, b.Pointer) })
	return fields
}

func builtIn(name string) bool { return name == "env" || name == "file" }
