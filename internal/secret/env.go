package secret

import (
	"context"
	"os"
	"strings"

	"github.com/grantway/grantway"
)

// Env is the store "env": environment variables of the process. Variables that belong to
// the hub itself (GRANTWAY_…, which hold its own keys) are not readable through it.
type Env struct{}

// Describe implements Store.
func (Env) Describe() grantway.SecretStore {
	return grantway.SecretStore{Name: "env", Kind: "env", Detail: "environment variables of the hub's process"}
}

// Read implements Store. Versions do not exist here.
func (Env) Read(_ context.Context, key, _ string) ([]byte, error) {
	if strings.HasPrefix(strings.ToUpper(key), "GRANTWAY_") {
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
