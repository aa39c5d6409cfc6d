package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/secret"
)

// stopTime is how long requests in flight may take once the hub is told to stop.
const stopTime = 30 * time.Second

func (c *cli) serveCommand() *cobra.Command {
	var o app.Options
	var format string
	var level slog.LevelVar
	var clientCA string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a hub",
		Long: `Run a hub until it is interrupted. Without flags it keeps everything in ./data and serves
this machine only. Replicas share a PostgreSQL database and a key: --database and --key.

An interrupt or SIGTERM lets requests in flight finish; a second one ends the hub at once.`,
		Example: `  grantway serve --demo
  grantway key new /etc/grantway/key
  grantway serve --database postgres://db.example.com/grantway --key file:/etc/grantway/key --listen :8420 --external-url https://grantway.example.com`,
		Args: cobra.NoArgs,
		RunE: c.run(func(ctx context.Context, _ []string) error {
			o.Data, o.Version = c.data, version()
			log, err := newLog(c.errs, format, &level)
			if err != nil {
				return err
			}
			o.Log = log
			if err := checkAddresses(&o); err != nil {
				return err
			}
			if o.ClientCAs, err = readAuthorities(clientCA); err != nil {
				return err
			}
			return c.serve(ctx, o)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Listen, "listen", "127.0.0.1:8420", "address to serve on")
	databaseFlags(flags, &o)
	flags.StringVar(&o.ExternalURL, "external-url", "", "how clients reach the hub (default http(s)://LISTEN)")
	flags.StringVar(&o.TLSCert, "tls-cert", "", "PEM file of the certificate with its chain; serves https")
	flags.StringVar(&o.TLSKey, "tls-key", "", "PEM file of the certificate's key")
	flags.StringVar(&clientCA, "client-ca", "", "PEM file of authorities; asks OAuth clients for a certificate, and takes those")
	flags.IntVar(&o.RequestsPerMinute, "requests-per-minute", 300, "calls of the API with one token, where the client has no limit of its own; -1 is no limit")
	flags.IntVar(&o.OAuthRequestsPerMinute, "oauth-requests-per-minute", 3000, "requests of one OAuth client for tokens, introspection and revocation, and ten times as many from one address; -1 is no limit")
	flags.Var((*networks)(&o.TrustedProxies), "trusted-proxies", "`networks` of proxies whose X-Forwarded-For and -Proto are believed, such as 10.0.0.0/8,::1")
	flags.Var((*networks)(&o.AllowNetworks), "allow-networks", "private or loopback `networks` that outgoing calls may reach")
	flags.StringVar(&o.SecretFiles, "secret-files", "/run/secrets", "directory of the secret store \"file\"")
	flags.StringVar(&format, "log-format", "text", "text or json")
	flags.TextVar(&level, "log-level", &level, "debug, info, warn or error")
	flags.BoolVar(&o.Demo, "demo", false, "start a demo provider too, and make the credential \"demo\" for it")
	flags.VisitAll(func(f *pflag.Flag) { settable(flags, f.Name) })
	cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// readAuthorities reads the certificates in a PEM file; none for "".
func readAuthorities(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--client-ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, usagef("--client-ca %s: holds no certificate in PEM", path)
	}
	return pool, nil
}

// databaseFlags are the flags that say where the database is and how to open it.
func databaseFlags(flags *pflag.FlagSet, o *app.Options) {
	flags.StringVar(&o.Database, "database", "", "postgres://… (default the SQLite file in the data directory)")
	flags.StringVar(&o.Key, "key", "", "key-encryption key: "+secret.KeyForms+" (default file:DATA/key, made on the first start)")
}

// checkAddresses looks at --listen and --external-url, which it brings into the form that
// paths are appended to.
func checkAddresses(o *app.Options) error {
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return usagef("--listen %s: give HOST:PORT, such as 127.0.0.1:9420 or :9420", o.Listen)
	}
	if o.ExternalURL == "" {
		return nil
	}
	u, err := url.Parse(o.ExternalURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || strings.ContainsAny(o.ExternalURL, "?#") { // it may hold a password, so it is not repeated
		return usagef("--external-url must be an absolute http:// or https:// URL without user, query and fragment, such as https://grantway.example.com")
	}
	if address, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !address.IsLoopback()) {
		return usagef("--external-url must begin with https:// unless it is of this machine: nobody else gets tokens over http")
	}
	o.ExternalURL = strings.TrimRight(o.ExternalURL, "/")
	return nil
}

func newLog(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usagef("--log-format must be text or json")
}

// serve runs a hub until ctx ends.
func (c *cli) serve(ctx context.Context, o app.Options) error {
	hub, err := app.New(ctx, o)
	if err != nil {
		return err
	}
	err = hub.Start(ctx)
	if err == nil {
		if terminal(c.out) {
			c.welcome(hub.URL(), o)
		}
		select {
		case err = <-hub.Ended():
		case <-ctx.Done():
			c.unhandle()
			o.Log.Info("stopping; interrupt again to end at once")
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	return errors.Join(err, hub.Stop(stop))
}

// welcome tells a person what runs now and what to do with it.
func (c *cli) welcome(url string, o app.Options) {
	var data string
	if c.data != "./data" {
		data = " --data " + c.data
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nGrantway %s is running at %s\n\n", o.Version, url)
	fmt.Fprintf(&b, "  API          %s/docs\n", url)
	if owner := filepath.Join(c.data, "owner.json"); exists(owner) {
		fmt.Fprintf(&b, "  Owner        %s (the command line on this machine signs in with it)\n", owner)
	}
	if key := filepath.Join(c.data, "key"); o.Key == "" && exists(key) {
		fmt.Fprintf(&b, "  Key          %s (back it up: without it no stored secret can be opened)\n", key)
	}
	fmt.Fprintf(&b, "\nTry in another terminal:\n\n")
	name := "NAME"
	if o.Demo {
		name = "demo"
	} else {
		fmt.Fprintf(&b, "  grantway credential add NAME --client-id ID --token-endpoint URL%s\n", data)
	}
	fmt.Fprintf(&b, "  grantway credential validate %s%s\n  grantway token %s%s\n\n", name, data, name, data)
	io.WriteString(c.out, b.String())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// networks is a flag of networks and single addresses, with commas between.
type networks []netip.Prefix

func (n *networks) String() string {
	var list []string
	for _, p := range *n {
		list = append(list, p.String())
	}
	return strings.Join(list, ",")
}

func (n *networks) Set(text string) error {
	var list networks
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if addr, err := netip.ParseAddr(part); err == nil {
			list = append(list, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return fmt.Errorf("%q is not a network such as 10.0.0.0/8", part)
		}
		list = append(list, p.Masked())
	}
	*n = list
	return nil
}

func (n *networks) Type() string { return "networks" }
