package secret

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/grantway/grantway/internal/seal"
)

// transitKey is a key of the Transit engine of a Vault or an OpenBao.
type transitKey struct {
	*vault
	mount, key string // escaped for a path
}

func openTransit(key string, s setting) (seal.KMS, error) {
	segments := strings.Split(key, "/")
	for i, one := range segments {
		if one == "" || one == "." || one == ".." || len(segments) < 2 {
			return nil, errors.New("must be vault:MOUNT/KEY, such as vault:transit/grantway")
		}
		segments[i] = url.PathEscape(one)
	}
	address := vaultVariable("ADDR")
	if address == "" {
		return nil, errors.New("VAULT_ADDR is not set, so where is the Vault?")
	}
	if u, err := url.Parse(address); err != nil || u.Host == "" || u.User != nil {
		return nil, errors.New("VAULT_ADDR is not a URL such as https://vault.example.com:8200")
	}
	texts := map[string]string{"address": address, "namespace": vaultVariable("NAMESPACE")}
	last := len(segments) - 1
	return &transitKey{
		vault: openVault(keySetting(s, vaultKind(), texts, vaultToken)).(*vault),
		mount: strings.Join(segments[:last], "/"), key: segments[last],
	}, nil
}

// vaultVariable reads what OpenBao calls BAO_name and Vault VAULT_name.
func vaultVariable(name string) string {
	return cmp.Or(os.Getenv("BAO_"+name), os.Getenv("VAULT_"+name))
}

// vaultToken is the token in the environment or, as with the vendor's own command, in a file where
// an agent may keep it fresh. There need be none: an agent may add its own to each request.
func vaultToken(context.Context, string) (string, error) {
	if token := vaultVariable("TOKEN"); token != "" {
		return token, nil
	}
	text, err := os.ReadFile(vaultTokenFile())
	if err != nil { // none
		return "", nil
	}
	return strings.TrimSpace(string(text)), nil
}

func vaultTokenFile() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".vault-token")
}

// NewKey implements seal.KMS. Unlike encrypt, datakey never makes a key that is not there.
func (k *transitKey) NewKey(ctx context.Context) (plain, wrapped []byte, err error) {
	data, err := k.ask(ctx, "datakey/plaintext", map[string]string{})
	return data.Plaintext, []byte(data.Ciphertext), err
}

// Unwrap implements seal.KMS.
func (k *transitKey) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	data, err := k.ask(ctx, "decrypt", map[string]string{"ciphertext": string(wrapped)})
	return data.Plaintext, err
}

type transitData struct {
	Plaintext  []byte `json:"plaintext"`
	Ciphertext string `json:"ciphertext"`
}

func (k *transitKey) ask(ctx context.Context, verb string, form map[string]string) (transitData, error) {
	var none transitData
	token, err := k.secret(ctx, "token")
	if err != nil {
		return none, err
	}
	path := k.mount + "/" + verb + "/" + k.key
	a, err := k.call(ctx, token, http.MethodPost, path, form)
	if err != nil {
		return none, err
	}
	var body struct {
		Data   transitData `json:"data"`
		Errors []string    `json:"errors"`
	}
	err = json.Unmarshal(a.body, &body)
	said := strings.Join(body.Errors, " ")
	switch {
	case a.status == http.StatusOK && err == nil:
		return body.Data, nil
	case a.status == http.StatusForbidden && token == "":
		return none, fault(k.name, refused, nil, "the hub has no token")
	case a.status == http.StatusForbidden:
		// A token that is no longer good and a key that is not ours to use look the same.
		if err := k.lookUp(ctx, token, nil); err != nil {
			return none, err
		}
		return none, fault(k.name, denied, nil, "permission denied: the policies of the hub's token do not allow %s", path)
	case a.status == http.StatusNotFound:
		return none, fault(k.name, missing, nil, "there is no Transit engine at %s", k.mount)
	case strings.Contains(said, "not found"):
		return none, fault(k.name, missing, nil, "there is no such key")
	case strings.Contains(said, "disallowed by policy"):
		return none, fault(k.name, deleted, nil, "the version of the key that sealed this database is no longer allowed to decrypt (min_decryption_version)")
	case a.status == http.StatusBadRequest && verb == "decrypt":
		return none, fault(k.name, unusable, nil, "it does not open the keyset, so it is another key than the one that sealed it")
	}
	return none, fault(k.name, unreachable, nil, "it answered HTTP %d", a.status)
}
