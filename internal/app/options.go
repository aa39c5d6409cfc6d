package app

import (
	"crypto/x509"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/secret"
)

// Options are the settings of a hub's process. Everything else is data in the hub.
// The zero value of a field means its default.
type Options struct {
	Listen      string // address to serve on; "127.0.0.1:8420"
	Data        string // directory of the embedded database, its key and owner.json; "./data"
	Database    string // postgres://… ; "" is SQLite in Data
	Key         string // key-encryption key, as for secret.OpenKey; "" is file:<Data>/key, made on the first start of the embedded database
	ExternalURL string // how clients reach the hub; "" is http(s)://<Listen>

	TLSCert, TLSKey string // PEM files; both or neither

	// ClientCAs issue the certificates that OAuth clients may authenticate with (RFC 8705). nil: no
	// client is asked for one, and proxies are not believed in this.
	ClientCAs *x509.CertPool

	// RequestsPerMinute limits the calls of the API with one token, where the client has no limit of
	// its own; 0 is 300, -1 no limit. Each replica counts for itself.
	RequestsPerMinute int

	// OAuthRequestsPerMinute limits the requests of one client for tokens, introspection and revocation
	// together; 0 is 3,000, -1 no limit. Each replica counts for itself.
	OAuthRequestsPerMinute int

	TrustedProxies []netip.Prefix // peers whose X-Forwarded-For and X-Forwarded-Proto are believed
	AllowNetworks  []netip.Prefix // private or loopback addresses that outgoing calls may reach
	RootCAs        *x509.CertPool // that outgoing TLS trusts; nil are the system's
	SecretFiles    string         // directory of the secret store "file"; "/run/secrets"

	Demo    bool // start the demo provider and make the credential "demo"
	Version string
	Log     *slog.Logger // nil is slog.Default()

	beside bool // a tool that runs beside a server, which may have the database open
}

// Beside returns o for a tool that opens the database while a server may be running on it.
func (o Options) Beside() Options {
	o.beside = true
	return o
}

func (o Options) databaseFile() string { return filepath.Join(o.Data, "grantway.db") }

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8420"
	}
	if o.Data == "" {
		o.Data = "./data"
	}
	if o.Key == "" && o.Database == "" {
		o.Key = "file:" + filepath.Join(o.Data, "key")
	}
	if o.SecretFiles == "" {
		o.SecretFiles = "/run/secrets"
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// reservedVariable says whether an environment variable holds, or may hold, secrets of the hub
// itself: its settings and key, the password of its database, its account at a trace collector,
// what it signs in with to the KMS of its key.
func (o Options) reservedVariable(name string) bool {
	upper := strings.ToUpper(name)
	kms, _ := secret.KeySecrets(o.Key)
	for _, prefix := range append(kms, "GRANTWAY_", "PG", "OTEL_") {
		if strings.HasPrefix(upper, prefix) {
			return true
		}
	}
	key, ok := strings.CutPrefix(o.Key, "env:")
	return ok && strings.EqualFold(name, key)
}

// reservedFiles are the files that hold secrets of the hub itself.
func (o Options) reservedFiles() []string {
	_, files := secret.KeySecrets(o.Key)
	files = append(files, filepath.Join(o.Data, "owner.json"))
	if key, ok := strings.CutPrefix(o.Key, "file:"); ok {
		files = append(files, key)
	}
	if o.TLSKey != "" {
		files = append(files, o.TLSKey)
	}
	return files
}

func (o Options) validate() error {
	var fields []grantway.Field
	if o.Database != "" && o.Key == "" {
		fields = append(fields, grantway.Field{Pointer: "--key", Detail: "is required with --database: every replica needs the same key (" + secret.KeyForms + ")"})
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		fields = append(fields, grantway.Field{Pointer: "--tls-cert", Detail: "and --tls-key go together"})
	}
	if fields != nil {
		return &grantway.Error{Code: grantway.Invalid, Message: "the settings do not fit together", Fields: fields}
	}
	return nil
}
