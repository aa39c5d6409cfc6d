// Package secret resolves references to external secrets. A reference names a store, a
// key in it and perhaps a member of the value; the value itself never enters our database.
//
// Stores are read at every use: the environment does not change, and a mounted file costs
// less than a cache of it would, which could be stale.
package secret

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/grantway/grantway"
)

// Store is one place external secrets come from. Implementations are safe for concurrent use.
type Store interface {
	// Describe tells people what the store is.
	Describe() grantway.SecretStore
	// Read returns the value under key. A key that is not there is a *grantway.Error with
	// code NotFound; any other fault has code Unavailable and names the store.
	Read(ctx context.Context, key, version string) ([]byte, error)
	// Test proves that the store can be read at all.
	Test(ctx context.Context) error
}

// Stores holds the configured stores by name. It does not change after New.
type Stores struct {
	byName map[string]Store
	names  []string
}

// New returns the given stores under their names.
func New(stores ...Store) *Stores {
	s := &Stores{byName: make(map[string]Store)}
	for _, store := range stores {
		name := store.Describe().Name
		s.byName[name] = store
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	return s
}

// List describes every store, by name.
func (s *Stores) List() []grantway.SecretStore {
	list := make([]grantway.SecretStore, 0, len(s.names))
	for _, name := range s.names {
		list = append(list, s.byName[name].Describe())
	}
	return list
}

// Names lists the stores' names.
func (s *Stores) Names() []string { return slices.Clone(s.names) }

// Test proves that the named store can be read.
func (s *Stores) Test(ctx context.Context, name string) error {
	store, err := s.find(name)
	if err != nil {
		return err
	}
	return store.Test(ctx)
}

// Resolve returns the value that ref names. With ref.Field the value must be a JSON
// object and the member's text is the result. Line ends at the end of a value are not part of
// it: files and editors add them, and no client secret has them.
func (s *Stores) Resolve(ctx context.Context, ref grantway.SecretRef) (grantway.Secret, error) {
	store, err := s.find(ref.Store)
	if err != nil {
		return "", err
	}
	value, err := store.Read(ctx, ref.Key, ref.Version)
	if err != nil {
		return "", err
	}
	if ref.Field != "" {
		return member(value, ref)
	}
	text := strings.TrimRight(string(value), "\r\n")
	if text == "" {
		return "", grantway.Errorf(grantway.Unavailable, "secret store %s: key %s is empty", ref.Store, ref.Key)
	}
	return grantway.Secret(text), nil
}

func member(value []byte, ref grantway.SecretRef) (grantway.Secret, error) {
	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) != nil {
		return "", grantway.Errorf(grantway.Unavailable, "secret store %s: key %s is not a JSON object, so it has no field %s", ref.Store, ref.Key, ref.Field)
	}
	raw, ok := object[ref.Field]
	if !ok {
		return "", grantway.Errorf(grantway.NotFound, "secret store %s: key %s has no field %s", ref.Store, ref.Key, ref.Field)
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw) // a number or a nested object: its JSON is the value
	}
	if text == "" {
		return "", grantway.Errorf(grantway.Unavailable, "secret store %s: field %s of key %s is empty", ref.Store, ref.Field, ref.Key)
	}
	return grantway.Secret(text), nil
}

func (s *Stores) find(name string) (Store, error) {
	if store, ok := s.byName[name]; ok {
		return store, nil
	}
	return nil, grantway.Errorf(grantway.NotFound, "there is no such secret store; the stores are %s", strings.Join(s.names, ", "))
}

// notFound says that a store has no such key.
func notFound(store, key string) error {
	return grantway.Errorf(grantway.NotFound, "secret store %s has no key %s", store, key)
}

func unavailable(store, doing string, err error) error {
	return &grantway.Error{Code: grantway.Unavailable, Message: fmt.Sprintf("secret store %s: %s", store, doing), Err: err}
}
