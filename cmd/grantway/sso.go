package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
)

func (c *cli) ssoCommand() *cobra.Command {
	show := &cobra.Command{
		Use:   "show",
		Short: "Show the settings, without the secret",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			s, err := hub.SingleSignOn(ctx)
			if err != nil {
				return err
			}
			return c.printSSO(s)
		}),
	}
	var yes bool
	remove := &cobra.Command{
		Use:     "rm",
		Aliases: []string{"delete"},
		Short:   "End single sign-on; sessions go on",
		Args:    cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			s, err := hub.SingleSignOn(ctx)
			if err != nil {
				return err
			}
			if err := c.confirm(yes, "single sign-on by", s.Name); err != nil {
				return err
			}
			if err := hub.DeleteSingleSignOn(ctx); err != nil {
				return err
			}
			return c.deleted("single sign-on by", s.Name)
		}),
	}
	remove.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return group("sso", "Let people sign in by way of an OpenID provider", c.ssoSet(), show, remove)
}

func (c *cli) ssoSet() *cobra.Command {
	var given grantway.SingleSignOn
	var secret bool
	var rules []string
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Change the settings; what is not given stays",
		Long: `Change the settings of single sign-on; what is not given stays. The client secret is read
from a prompt or from standard input with --client-secret, and must be given again when
issuer or client change. The redirect URI to register at the provider is in the answer.

A rule gives a role to those whose claim has a value: groups=admins:administrator@*. The
value * is any. With rules, roles follow the claims at each sign-in, and whom no rule fits
may not sign in; without, roles are given by hand. --rule "" removes all rules.`,
		Example: `  grantway sso set --name Contoso --issuer https://login.example.com --client-id hub --client-secret \
    --scopes "openid email profile groups" --rule groups=admins:administrator@* <secret.txt`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	cmd.RunE = c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
		s, err := hub.SingleSignOn(ctx)
		var e *grantway.Error
		if err != nil && !(errors.As(err, &e) && e.Code == grantway.NotFound) {
			return err
		}
		s.ClientSecret, s.RedirectURI = grantway.Value{}, "" // what is left out is kept
		for name, change := range map[string]func(){
			"name":          func() { s.Name = given.Name },
			"issuer":        func() { s.Issuer = given.Issuer },
			"client-id":     func() { s.ClientID = given.ClientID },
			"scopes":        func() { s.Scopes = given.Scopes },
			"create-people": func() { s.CreatePeople = given.CreatePeople },
			"trust-email":   func() { s.TrustEmail = given.TrustEmail },
		} {
			if flags.Changed(name) {
				change()
			}
		}
		if flags.Changed("rule") {
			if s.Rules, err = parseRules(rules); err != nil {
				return err
			}
		}
		if secret {
			text, err := c.readSecret("Client secret")
			if err != nil {
				return err
			}
			s.ClientSecret = grantway.Text(string(text))
		}
		if s, err = hub.SetSingleSignOn(ctx, s); err != nil {
			return err
		}
		return c.printSSO(s)
	})
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	flags.StringVar(&given.Name, "name", "", "what the button on the sign-in page says")
	flags.StringVar(&given.Issuer, "issuer", "", "`URL` where the provider describes itself")
	flags.StringVar(&given.ClientID, "client-id", "", "what the provider knows the hub as")
	flags.BoolVar(&secret, "client-secret", false, "read the client secret")
	flags.StringVar(&given.Scopes, "scopes", "", "what to ask for (default \"openid email profile\")")
	flags.StringArrayVar(&rules, "rule", nil, "`CLAIM=VALUE:ROLE[@DIVISION]`; repeatable; these replace all")
	flags.BoolVar(&given.CreatePeople, "create-people", false, "let in whom nobody has invited, if a rule fits")
	flags.BoolVar(&given.TrustEmail, "trust-email", false, "believe e-mail addresses that are not called verified")
	return cmd
}

// parseRules reads the values of --rule. A value may hold colons, a role does not.
func parseRules(texts []string) (rules []grantway.RoleRule, err error) {
	for _, text := range texts {
		if text == "" {
			continue
		}
		claim, rest, ok := strings.Cut(text, "=")
		at := strings.LastIndexByte(rest, ':')
		if !ok || at < 0 {
			return nil, usagef("--rule %q is not CLAIM=VALUE:ROLE[@DIVISION]", text)
		}
		a := parseRoles([]string{rest[at+1:]})[0]
		rules = append(rules, grantway.RoleRule{Claim: claim, Value: rest[:at], Role: a.Role, Division: a.Division})
	}
	return rules, nil
}

func (c *cli) printSSO(s grantway.SingleSignOn) error {
	return c.print(s, func(p *page) {
		p.row("Name", s.Name)
		p.row("Issuer", s.Issuer)
		p.row("Client", s.ClientID)
		p.row("Client secret", map[bool]string{true: "set", false: "none"}[s.ClientSecret.Set])
		p.row("Scopes", s.Scopes)
		for _, r := range s.Rules {
			p.row("Rule", r.Claim+"="+r.Value+":"+r.Role+"@"+r.Division)
		}
		p.row("Without an invitation", map[bool]string{true: "may come in", false: "may not"}[s.CreatePeople])
		p.row("Email addresses", map[bool]string{true: "all believed", false: "only verified ones"}[s.TrustEmail])
		p.row("Redirect URI", s.RedirectURI)
	})
}
