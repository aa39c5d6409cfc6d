package secret

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/grantway/grantway/internal/outbound"
	"github.com/grantway/grantway/internal/seal"
)

// KeyForms are the forms of what OpenKey takes, for people.
const KeyForms = "file:PATH, env:NAME, vault:MOUNT/KEY, aws:KEY, azure:URL or google:NAME"

// OpenKey returns the key-encryption key that spec names: one of seal.ParseKey's, or one that a
// KMS keeps:
//
//	vault:MOUNT/KEY   of the Transit engine of a HashiCorp Vault or an OpenBao
//	aws:KEY           of AWS KMS: an id, an ARN or alias/NAME
//	azure:URL         of an Azure Key Vault, such as https://my-vault.vault.azure.net/keys/KEY
//	google:NAME       of Google Cloud KMS: projects/…/locations/…/keyRings/…/cryptoKeys/KEY
//
// The hub signs in to a KMS with what the vendor's own tools find in the environment, never with
// anything in spec. Its address comes from whoever starts the hub, like the database's, so
// --allow-networks does not apply to it. roots are the authorities whose certificates are
// accepted; nil means the system's. OpenKey itself asks nobody.
func OpenKey(spec string, roots *x509.CertPool) (seal.KEK, error) {
	name, rest, _ := strings.Cut(spec, ":")
	vendor, ok := keyVendors[name]
	switch {
	case name == "file" || name == "env":
		return seal.ParseKey(spec)
	case !ok: // spec is not repeated, it may be the key itself
		return seal.KEK{}, errors.New("key: must be " + KeyForms)
	}
	guard := outbound.New(outbound.Options{
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		RootCAs:       roots,
		Proxy:         http.ProxyFromEnvironment,
	})
	kms, err := vendor.open(rest, setting{name: name, http: guard.Client(readTimeout), machine: guard.MachineTransport()})
	if err != nil {
		return seal.KEK{}, fmt.Errorf("key: %w", err)
	}
	return seal.RemoteKey(spec, remoteKey{kms, spec, vendor.signIn}), nil
}

// keyVendor is one kind of KMS.
type keyVendor struct {
	open      func(key string, s setting) (seal.KMS, error)
	signIn    string   // what to look at when the sign-in does not work
	variables []string // what the names of the environment variables begin with that it signs in with
	files     []string // variables that name files with secrets
}

var keyVendors = map[string]keyVendor{
	"vault":  {openTransit, "VAULT_TOKEN", []string{"VAULT_", "BAO_"}, nil},
	"aws":    {openAWSKey, "AWS_ACCESS_KEY_ID or another source of the AWS default chain, and AWS_REGION", []string{"AWS_"}, []string{"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"}},
	"azure":  {openAzureKey, "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or the managed identity", []string{"AZURE_", "IDENTITY_"}, []string{"AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE"}},
	"google": {openGoogleKey, "GOOGLE_APPLICATION_CREDENTIALS or another source of Google's application default credentials", []string{"GOOGLE_"}, []string{"GOOGLE_APPLICATION_CREDENTIALS"}},
}

// KeySecrets are what the hub signs in with to the KMS of a key-encryption key: what the names of
// environment variables begin with, and files. No store may hand these out.
func KeySecrets(spec string) (variables, files []string) {
	name, _, _ := strings.Cut(spec, ":")
	vendor := keyVendors[name]
	if name == "vault" {
		files = append(files, vaultTokenFile())
	}
	for _, variable := range vendor.files {
		if path := os.Getenv(variable); path != "" {
			files = append(files, path)
		}
	}
	return slices.Clone(vendor.variables), files
}

// remoteKey is a key in a KMS. The errors of a store's sign-in become errors about the key.
type remoteKey struct {
	kms    seal.KMS
	spec   string
	signIn string
}

// NewKey implements seal.KMS.
func (k remoteKey) NewKey(ctx context.Context) (plain, wrapped []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	plain, wrapped, err = k.kms.NewKey(ctx)
	return plain, wrapped, k.explain(err)
}

// Unwrap implements seal.KMS.
func (k remoteKey) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	plain, err := k.kms.Unwrap(ctx, wrapped)
	return plain, k.explain(err)
}

func (k remoteKey) explain(err error) error {
	var t *trouble
	if !errors.As(err, &t) {
		return err
	}
	hint := keyHints[t.reason]
	if t.reason == refused {
		hint += k.signIn
	}
	return fmt.Errorf("key %s: %s; %s", k.spec, t.text, hint)
}

// keyHints say what to do about a key that cannot be used.
var keyHints = map[reason]string{
	unreachable: "the hub needs it to start, and not afterwards: see that it can be reached",
	sealed:      "unseal it",
	throttled:   "start the hub again in a minute",
	refused:     "correct what the hub signs in with: ",
	denied:      "allow the hub's identity to make data keys with it, to encrypt and to decrypt",
	missing:     "make the key, or correct --key",
	deleted:     "enable it again",
	unusable:    "put back the key that sealed this database, or correct --key",
}

// keySetting completes s for a sign-in that a secret store knows, too: texts are its inputs.
func keySetting(s setting, k Kind, texts map[string]string, secret func(ctx context.Context, input string) (string, error)) setting {
	s.text = func(input string) string {
		in, _ := k.Input(input)
		return cmp.Or(texts[input], in.Default)
	}
	s.secret = secret
	return s
}

func noSecret(context.Context, string) (string, error) { return "", nil }
