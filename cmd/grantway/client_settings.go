package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/grantway/grantway"
)

// clientFlags are the settings of a client on the command line. What is rarer is for apply -f.
type clientFlags struct {
	grantway.ClientSettings
	flags   *pflag.FlagSet
	keyFile string

	credentials []string
	proxyOnly   bool
	use         grantway.CredentialUse // of each of them
}

// flagMembers are the members of the API that flags set.
var flagMembers = map[string]string{
	"grant": "grant_type", "auth-method": "token_endpoint_auth_method", "token-seconds": "token_seconds", "format": "token_format", "alg": "token_signing_alg", "typ": "token_typ",
	"requests-per-minute": "requests_per_minute", "network": "allowed_networks", "resource": "resources", "redirect-uri": "redirect_uris", "scope": "scopes",
	"jwks": "jwks", "jwks-uri": "jwks_uri", "tls-dns": "tls_client_auth_san_dns", "tls-subject": "tls_client_auth_subject_dn",
	"certificate-bound": "tls_client_certificate_bound_access_tokens", "dpop-bound": "dpop_bound_access_tokens",
}

func (s *clientFlags) add(c *cli, cmd *cobra.Command) {
	f := cmd.Flags()
	s.flags = f
	f.StringVar(&s.GrantType, "grant", "", "client_credentials (default), or authorization_code for programs that act for people")
	f.StringVar(&s.AuthMethod, "auth-method", "", "how it proves who it is (default client_secret_basic)")
	f.Int64Var((*int64)(&s.TokenSeconds), "token-seconds", 0, "lifetime of its tokens, 300 to 172800 (default 86400)")
	f.StringVar(&s.TokenFormat, "format", "", "of its tokens: opaque (default) or jwt")
	f.StringVar(&s.TokenAlg, "alg", "", "of JWTs: ES256 (default), RS256 or EdDSA")
	f.StringVar(&s.TokenTyp, "typ", "", "in the header of JWTs for its resources: at+jwt (default), or JWT for servers that know no other, such as Dovecot 2.3")
	f.IntVar(&s.RequestsPerMinute, "requests-per-minute", 0, "calls of the API with one token (default what the hub sets)")
	f.StringArrayVar(&s.AllowedNetworks, "network", nil, "`CIDR` or address it may come from; repeatable")
	f.StringArrayVar(&s.Resources, "resource", nil, "`URI` of another API that its tokens may be for; repeatable")
	f.StringArrayVar(&s.RedirectURIs, "redirect-uri", nil, "`URI` to send people back to, with --grant authorization_code; repeatable")
	f.StringArrayVar(&s.Scopes, "scope", nil, "`PERMISSIONS` that people may let it use, with blanks between, with --grant authorization_code; repeatable")
	f.StringVar(&s.keyFile, "jwks", "", "`FILE` with its public keys, a JWK set")
	f.StringVar(&s.JWKSURI, "jwks-uri", "", "https `URL` of its public keys")
	f.StringVar(&s.TLSDNS, "tls-dns", "", "`NAME` in its certificate")
	f.StringVar(&s.TLSSubject, "tls-subject", "", "`DN` of its certificate, such as CN=app,O=Example")
	f.BoolVar(&s.CertificateBound, "certificate-bound", false, "its tokens are of no use without its certificate")
	f.BoolVar(&s.DPoPBound, "dpop-bound", false, "its tokens are of no use without a DPoP key")
	f.StringArrayVar(&s.credentials, "credential", nil, "credential that the client may use; repeatable; without it, all that its roles allow")
	cmd.RegisterFlagCompletionFunc("credential", c.credentialNames(1))
	f.BoolVar(&s.proxyOnly, "proxy-only", false, "give the client no tokens of these credentials, only the proxy")
	f.StringArrayVar(&s.use.Endpoints, "endpoint", nil, "`NAME` of an endpoint that the client may call, and then nothing else of these credentials; * is all of them; repeatable")
	f.StringArrayVar(&s.use.Methods, "method", nil, "method of requests through the proxy; repeatable; without it, all")
	f.StringArrayVar(&s.use.Paths, "path", nil, "`PATH` behind the API base URL, with all below it; repeatable; without it, all")
}

// uses is the list of credentials that the flags make; nil if they are not there.
func (s *clientFlags) uses() (list []grantway.CredentialUse, err error) {
	narrow := s.use.Methods != nil || s.use.Paths != nil
	switch {
	case len(s.credentials) == 0 && (s.proxyOnly || narrow || s.use.Endpoints != nil):
		return nil, usagef("--proxy-only, --method, --path and --endpoint are about a --credential")
	case s.proxyOnly && s.use.Endpoints != nil:
		return nil, usagef("--endpoint and --proxy-only are two ways; choose one")
	case !s.proxyOnly && narrow:
		return nil, usagef("--method and --path need --proxy-only: a token works with all of them")
	}
	use := s.use
	if use.Via = grantway.ViaToken; s.proxyOnly {
		use.Via = grantway.ViaProxy
	}
	if s.use.Endpoints != nil {
		use.Via = grantway.ViaEndpoint
		use.Endpoints = slices.DeleteFunc(slices.Clone(s.use.Endpoints), func(name string) bool { return name == "*" })
	}
	for _, use.Credential = range s.credentials {
		list = append(list, use)
	}
	return list, nil
}

func (s *clientFlags) read() (grantway.ClientSettings, error) {
	if s.keyFile != "" {
		text, err := os.ReadFile(s.keyFile)
		if err != nil {
			return s.ClientSettings, err
		}
		if !json.Valid(text) {
			return s.ClientSettings, usagef("--jwks %s: is not JSON", s.keyFile)
		}
		s.JWKS = text
	}
	if s.Scopes != nil {
		s.Scopes = strings.Fields(strings.Join(s.Scopes, " "))
	}
	return s.ClientSettings, nil
}

// patch is the change of the members whose flags were given.
func (s *clientFlags) patch() (map[string]json.RawMessage, error) {
	settings, err := s.read()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	patch := map[string]json.RawMessage{}
	for flag, member := range flagMembers {
		if s.flags.Changed(flag) {
			if patch[member] = all[member]; patch[member] == nil {
				patch[member] = []byte("null")
			}
		}
	}
	return patch, nil
}

func (c *cli) clientShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME|ID",
		Short: "Show a client",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.OAuthClient(ctx, args[0])
			if err != nil {
				return err
			}
			return c.print(one, func(p *page) {
				text, err := appendClient(nil, one)
				if err != nil {
					text = []byte(err.Error())
				}
				p.row("id: " + one.ID)
				for line := range strings.Lines(string(text)) {
					p.row(strings.TrimRight(line, "\n"))
				}
			})
		}),
		ValidArgsFunction: c.clientNames(),
	}
}

func (c *cli) clientEdit() *cobra.Command {
	var s clientFlags
	var roles []string
	var name, description string
	var anyCredential bool
	cmd := &cobra.Command{
		Use:     "edit NAME|ID",
		Short:   "Change settings of a client; what no flag names stays",
		Example: `  grantway client edit mailer --format jwt --network 10.0.0.0/8`,
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			patch, err := s.patch()
			if err != nil {
				return err
			}
			for _, f := range []struct {
				flag, member string
				value        any
			}{{"role", "roles", parseRoles(roles)}, {"name", "name", name}, {"description", "description", description}} {
				if s.flags.Changed(f.flag) {
					if patch[f.member], err = json.Marshal(f.value); err != nil {
						return err
					}
				}
			}
			uses, err := s.uses()
			if err != nil {
				return err
			}
			if uses != nil || anyCredential {
				if patch["credentials"], err = json.Marshal(uses); err != nil {
					return err
				}
			}
			if len(patch) == 0 {
				return usagef("nothing to change: give at least one flag")
			}
			one, err := hub.OAuthClient(ctx, args[0])
			if err != nil {
				return err
			}
			text, err := json.Marshal(patch)
			if err != nil {
				return err
			}
			if one, err = hub.PatchOAuthClient(ctx, one.ID, one.Version, text); err != nil {
				return err
			}
			return c.print(one, func(p *page) {
				p.row("client " + one.Name + " changed: " + strings.Join(slices.Sorted(maps.Keys(patch)), ", "))
			})
		}),
		ValidArgsFunction: c.clientNames(),
	}
	s.add(c, cmd)
	roleFlag(cmd, &roles)
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().BoolVar(&anyCredential, "any-credential", false, "let the client use all credentials that its roles allow")
	cmd.MarkFlagsMutuallyExclusive("credential", "any-credential")
	cmd.Flags().StringVar(&description, "description", "", "what the client is")
	return cmd
}

func (c *cli) clientActive(active bool) *cobra.Command {
	use, short, done, change := "activate", "Let a client get tokens again", "active", (*grantway.Client).ActivateOAuthClient
	if !active {
		use, short, done, change = "deactivate", "Turn a client off, and its tokens with it", "inactive", (*grantway.Client).DeactivateOAuthClient
	}
	return &cobra.Command{
		Use:   use + " NAME|ID",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.OAuthClient(ctx, args[0])
			if err == nil {
				one, err = change(hub, ctx, one.ID)
			}
			if err != nil {
				return err
			}
			return c.print(one, func(p *page) { p.row("client " + one.Name + " is " + done) })
		}),
		ValidArgsFunction: c.clientNames(),
	}
}

func (c *cli) clientSecrets() *cobra.Command {
	list := &cobra.Command{
		Use:   "list NAME|ID",
		Short: "List the secrets of a client: when each was made, expires and was used",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.OAuthClient(ctx, args[0])
			if err != nil {
				return err
			}
			all, err := hub.OAuthClientSecrets(ctx, one.ID)
			if err != nil {
				return err
			}
			return c.print(grantway.Page[grantway.ClientSecret]{Items: all}, func(p *page) {
				p.row("ID", "CREATED", "EXPIRES", "LAST USED")
				for _, s := range all {
					p.row(s.ID, when(s.CreatedAt), orNever(s.ExpiresAt), orNever(s.LastUsed))
				}
			})
		}),
		ValidArgsFunction: c.clientNames(),
	}
	var life, overlap time.Duration
	add := &cobra.Command{
		Use:   "add NAME|ID",
		Short: "Give a client one more secret and print how it signs in, once",
		Long: `Give a client one more secret and print the environment it signs in with. The other secrets
go on, or with --old-expire-in for so long: time to hand the new one out.`,
		Example: `  grantway client secret add mailer --old-expire-in 24h >mailer.env`,
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.OAuthClient(ctx, args[0])
			if err != nil {
				return err
			}
			var n grantway.NewSecret
			if life > 0 {
				n.ExpiresAt = time.Now().Add(life).UTC().Truncate(time.Second)
			}
			if overlap >= 0 {
				seconds := grantway.Seconds(overlap / time.Second)
				n.OldExpireIn = &seconds
			}
			return c.newSecret(ctx, hub, "has a new secret", func() (grantway.OAuthClient, error) {
				made, err := hub.AddOAuthClientSecret(ctx, one.ID, n)
				one.Secret, one.SecretExpiresAt = made.Secret, made.SecretExpiresAt
				return one, err
			})
		}),
		ValidArgsFunction: c.clientNames(),
	}
	add.Flags().DurationVar(&life, "expire-in", 0, "how long the new secret is good (default for ever)")
	add.Flags().DurationVar(&overlap, "old-expire-in", -1, "how long the other secrets stay good; 0 ends them now (default as they are)")
	add.Flags().Lookup("old-expire-in").DefValue = ""
	remove := &cobra.Command{
		Use:   "rm NAME|ID SECRET-ID",
		Short: "End one secret of a client",
		Args:  cobra.ExactArgs(2),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.OAuthClient(ctx, args[0])
			if err != nil {
				return err
			}
			if err := hub.RevokeOAuthClientSecret(ctx, one.ID, args[1]); err != nil {
				return err
			}
			return c.deleted("secret", args[1])
		}),
		ValidArgsFunction: c.clientNames(),
	}
	return group("secret", "Manage the secrets of a client", list, add, remove)
}

func orNever(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return when(t)
}

func (c *cli) clientRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke-tokens NAME|ID",
		Short: "End all tokens that a client has",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.OAuthClient(ctx, args[0])
			if err == nil {
				err = hub.RevokeOAuthClientTokens(ctx, one.ID)
			}
			if err != nil {
				return err
			}
			return c.deleted("tokens of client", one.Name)
		}),
		ValidArgsFunction: c.clientNames(),
	}
}

func (c *cli) clientUsage() *cobra.Command {
	var days int
	var unused bool
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "Say what each client did lately, or with --unused which did nothing",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			all, err := hub.OAuthClientUsage(ctx, time.Now().AddDate(0, 0, -days), unused)
			if err != nil {
				return err
			}
			return c.print(grantway.Page[grantway.ClientUsage]{Items: all}, func(p *page) {
				p.row("NAME", "STATE", "LAST USED", "TOKENS", "CALLS", "FAILURES")
				for _, u := range all {
					p.row(u.Name, u.State, orNever(u.LastUsed), fmt.Sprint(u.Tokens), fmt.Sprint(u.Calls), fmt.Sprint(u.Failures))
				}
			})
		}),
	}
	cmd.Flags().IntVar(&days, "days", 30, "how far to look back")
	cmd.Flags().BoolVar(&unused, "unused", false, "only those that did nothing")
	return cmd
}

func (c *cli) clientAdvise() *cobra.Command {
	var answers []string
	cmd := &cobra.Command{
		Use:   "advise [--answer QUESTION=ANSWER]…",
		Short: "Say which grant type fits a program, and why",
		Long:  `Say which grant type fits a program, and why. Without answers, print the questions.`,
		Example: `  grantway client advise
  grantway client advise --answer user=no --answer data=own`,
		Args: cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			if answers == nil {
				all, err := hub.AdviceQuestions(ctx)
				if err != nil {
					return err
				}
				return c.print(grantway.Page[grantway.Question]{Items: all}, func(p *page) {
					for _, q := range all {
						p.row(q.Text)
						for _, a := range q.Answers {
							p.row("  "+q.Key+"="+a.Key, a.Text)
						}
					}
				})
			}
			given := map[string]string{}
			for _, text := range answers {
				key, value, ok := strings.Cut(text, "=")
				if !ok {
					return usagef("--answer %s: give QUESTION=ANSWER", text)
				}
				given[key] = value
			}
			advice, err := hub.AdviseGrant(ctx, given)
			if err != nil {
				return err
			}
			return c.print(advice, func(p *page) {
				p.row("Use " + advice.Grant + map[bool]string{true: " with PKCE"}[advice.PKCE])
				for _, part := range []struct {
					title string
					lines []string
				}{{"Why:", advice.For}, {"Why not another:", advice.Against}, {"What is sent:", advice.Request}} {
					p.row(part.title)
					for _, line := range part.lines {
						p.row("  " + line)
					}
				}
			})
		}),
	}
	cmd.Flags().StringArrayVar(&answers, "answer", nil, "`QUESTION=ANSWER`; repeatable")
	return cmd
}

func (c *cli) signingKeyCommand() *cobra.Command {
	show := func(all []grantway.SigningKey) error {
		return c.print(grantway.Page[grantway.SigningKey]{Items: all}, func(p *page) {
			p.row("KID", "ALG", "SIGNS FROM", "SIGNS UNTIL", "REMOVED")
			for _, k := range all {
				p.row(k.ID, k.Alg, when(k.SignsFrom), orNever(k.SignsUntil), orNever(k.RemovedAt))
			}
		})
	}
	list := &cobra.Command{
		Use: "list", Short: "List the keys that tokens are signed or sealed with", Args: cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			all, err := hub.SigningKeys(ctx)
			if err != nil {
				return err
			}
			return show(all)
		}),
	}
	rotate := &cobra.Command{
		Use: "rotate", Short: "Publish the next keys now; they sign from tomorrow", Args: cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			all, err := hub.RotateSigningKeys(ctx)
			if err != nil {
				return err
			}
			return show(all)
		}),
	}
	var yes bool
	remove := &cobra.Command{
		Use: "rm KID", Short: "Take a key away that is no longer secret: what it signed is refused at once", Args: cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			if err := c.confirm(yes, "signing key", args[0]); err != nil {
				return err
			}
			if err := hub.RemoveSigningKey(ctx, args[0]); err != nil {
				return err
			}
			return c.deleted("signing key", args[0])
		}),
	}
	remove.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return group("signing-key", "Manage the keys that tokens of the hub are signed or sealed with", list, rotate, remove)
}
