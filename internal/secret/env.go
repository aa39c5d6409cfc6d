package secret

import (
	"context"
	"os"

	"github.com/grantway/grantway"
)

// Env is the store "env": environment variables of the process.
type Env struct {
	// Reserved says which variables belong to the hub itself, such as those that hold its
	// own keys; these are not readable. nil: none.
	Reserved func(name string) bool
}

// Describe implements Store.
func (Env) Describe() grantway.SecretStore {
	return grantway.SecretStore{Name: "env", Kind: "env", Detail: "environment variables of the hub's process"}
}

// Read implements Store. Versions do not exist here.
func (e Env) Read(_ context.Context, key, _ string) ([]byte, error) {
	if e.Reserved != nil && e.Reserved(key) {
		return nil, fault("env", missing, nil, "%s belongs to the hub itself and is not readable as a secret", key)
	}
	value, ok := os.LookupEnv(key)
	if !ok {
		return nil, notFound("env", key, key)
	}
	return []byte(value), nil
}

// SignIn implements Store.
func (Env) SignIn(context.Context) error { return nil }
