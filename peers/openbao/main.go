// Command openbao is an OpenBao server, the fork of HashiCorp Vault, for tests: the real
// peer of the secret stores. It is in memory and unsealed, with the root token "root" and a
// KV engine of version 2 at "secret". It prints {"url"} when it is ready, and ends when its
// standard input does, so that it does not outlive the test that started it.
//
// The core, the HTTP API and the plugins are OpenBao's own, set up as "bao server -dev" does
// it. They are not started by OpenBao's command line, because that links every plugin and
// storage there is and takes minutes to compile; for the same reason the modules in stub
// stand in for clouds and clusters.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/openbao/openbao/builtin/credential/approle"
	jwt "github.com/openbao/openbao/builtin/credential/jwt"
	kubernetes "github.com/openbao/openbao/builtin/credential/kubernetes"
	"github.com/openbao/openbao/builtin/logical/kv"
	"github.com/openbao/openbao/builtin/logical/transit"
	"github.com/openbao/openbao/command/server"
	"github.com/openbao/openbao/helper/namespace"
	vaulthttp "github.com/openbao/openbao/http"
	"github.com/openbao/openbao/sdk/v2/helper/consts"
	"github.com/openbao/openbao/sdk/v2/logical"
	"github.com/openbao/openbao/sdk/v2/physical/inmem"
	"github.com/openbao/openbao/vault"
)

func main() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve runs the server on a free port of loopback.
func serve() error {
	config, err := server.DevConfig("inmem")
	if err != nil {
		return err
	}
	logger := hclog.Default()
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		RawConfig:        config,
		StorageType:      "inmem",
		Physical:         storage,
		LogicalBackends:  map[string]logical.Factory{"kv": kv.Factory}, // from the registry it would be version 1, whatever is asked for
		BuiltinRegistry:  plugins,
		Logger:           logger,
		DisableSSCTokens: true, // as the command line has it
	})
	if err != nil {
		return err
	}
	if err := prepare(core); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("{\"url\": \"http://%s\"}\n", listener.Addr())
	return http.Serve(listener, vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: config.Listeners[0]}))
}

// prepare unseals a new core, and makes the root token and the mount that tests start from.
func prepare(core *vault.Core) error {
	ctx := namespace.RootContext(context.Background())
	made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}})
	if err != nil {
		return err
	}
	if unsealed, err := core.Unseal(made.SecretShares[0]); err != nil || !unsealed {
		return errors.Join(errors.New("not unsealed"), err)
	}
	for _, r := range []struct {
		path, token string
		data        map[string]any
	}{
		{"auth/token/create", made.RootToken, map[string]any{"id": "root", "policies": []string{"root"}, "no_parent": true, "no_default_policy": true}},
		{"auth/token/revoke-self", made.RootToken, nil},
		{"sys/mounts/secret", "root", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}},
	} {
		answer, err := core.HandleRequest(ctx, &logical.Request{Operation: logical.UpdateOperation, Path: r.path, ClientToken: r.token, Data: r.data})
		if err == nil && answer.IsError() {
			err = answer.Error()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.path, err)
		}
	}
	return nil
}

// registry is a vault.BuiltinRegistry: the plugins of the server by their type and name.
type registry map[consts.PluginType]map[string]logical.Factory

// plugins are those that the tests use; OpenBao's registry has them all.
var plugins = registry{
	consts.PluginTypeSecrets:    {"kv": kv.Factory, "transit": transit.Factory},
	consts.PluginTypeCredential: {"approle": approle.Factory, "jwt": jwt.Factory, "kubernetes": kubernetes.Factory},
}

func (r registry) Get(name string, t consts.PluginType) (func() (any, error), bool) {
	f, ok := r[t][name]
	return func() (any, error) { return f, nil }, ok
}

func (r registry) Contains(name string, t consts.PluginType) bool {
	_, ok := r[t][name]
	return ok
}

func (r registry) Keys(t consts.PluginType) []string {
	return slices.Collect(maps.Keys(r[t]))
}

func (r registry) DeprecationStatus(name string, t consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, t)
}
