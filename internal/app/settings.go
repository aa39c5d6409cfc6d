package app

import (
	"cmp"
	"context"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/grantway/grantway/internal/console"
	"github.com/grantway/grantway/internal/store"
)

// settings are o as the console shows them, without what is secret in them.
func (a *App) settings() []console.Setting {
	o := a.o
	database := "SQLite in " + o.databaseFile()
	if o.Database != "" {
		database = maskedURL(o.Database)
	}
	yes := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	return []console.Setting{
		{Name: "--listen", Value: o.Listen, Help: "Address to serve on"},
		{Name: "--external-url", Value: o.ExternalURL, Help: "How people and programs reach the hub; what it listens on when not set"},
		{Name: "--data", Value: o.Data, Help: "Directory of the embedded database, its key and owner.json"},
		{Name: "--database", Value: database, Help: "Where everything is kept"},
		{Name: "--key", Value: maskedURL(o.Key), Help: "Key that seals the data keys; the place, never the key"},
		{Name: "--tls-cert", Value: o.TLSCert, Help: "Certificate to serve https with"},
		{Name: "--client-ca", Value: yes(o.ClientCAs != nil), Help: "Authorities whose certificates OAuth clients may authenticate with"},
		{Name: "--oauth-requests-per-minute", Value: strconv.Itoa(cmp.Or(o.OAuthRequestsPerMinute, 3000)), Help: "Requests of one OAuth client for tokens, introspection and revocation; ten times as many from one address; -1 is no limit"},
		{Name: "--requests-per-minute", Value: strconv.Itoa(cmp.Or(o.RequestsPerMinute, 300)), Help: "Calls of the API with one token, where the OAuth client has no limit of its own; -1 is no limit"},
		{Name: "--trusted-proxies", Value: prefixes(o.TrustedProxies), Help: "Proxies whose X-Forwarded-For and -Proto are believed"},
		{Name: "--allow-networks", Value: prefixes(o.AllowNetworks), Help: "Private or loopback networks that outgoing calls may reach"},
		{Name: "--secret-files", Value: o.SecretFiles, Help: "Directory of the secret store “file”"},
		{Name: "--demo", Value: yes(o.Demo), Help: "Runs the demo provider"},
		{Name: "version", Value: cmp.Or(o.Version, "unknown"), Help: "Of this program"},
	}
}

// maskedURL is a database or key URL without user, password and parameters.
func maskedURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "":
		return "[not shown]"
	case u.Host == "" && u.Opaque != "":
		return u.Scheme + ":" + u.Opaque
	}
	masked := u.Scheme + "://"
	if u.User != nil {
		masked += "••••@"
	}
	return masked + u.Host + u.Path
}

func prefixes(list []netip.Prefix) string {
	var text []string
	for _, p := range list {
		text = append(text, p.String())
	}
	return strings.Join(text, ", ")
}

// contents joins what several nouns have in a division.
func contents(nouns ...func(ctx context.Context, tx *store.Tx, division string) ([]string, error)) func(context.Context, *store.Tx, string) ([]string, error) {
	return func(ctx context.Context, tx *store.Tx, division string) (all []string, err error) {
		for _, noun := range nouns {
			names, err := noun(ctx, tx, division)
			if err != nil {
				return nil, err
			}
			all = append(all, names...)
		}
		return all, nil
	}
}
