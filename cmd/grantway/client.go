package main

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
)

func (c *cli) clientCommand() *cobra.Command {
	return group("client", "Manage the OAuth clients that may call the hub", c.clientAdd(), c.clientList(), c.clientShow(), c.clientEdit(), c.clientActive(true), c.clientActive(false),
		c.clientRenew(), c.clientSecrets(), c.clientRevoke(), c.clientUsage(), c.clientAdvise(), c.clientRemove(), c.clientRestore())
}

func (c *cli) clientAdd() *cobra.Command {
	var roles []string
	var description string
	var s clientFlags
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE[@DIVISION]",
		Short: "Register a client and print how it signs in, once",
		Long: `Register a client and print the environment it signs in with. The secret is shown this once.

Roles: owner (all), administrator (all but deleting credentials and managing keys), designer
(picks credentials by name), auditor (reads all but tokens), application (gets tokens).
A role counts in one division, or in all: application@sales, application@*.

With --credential the client may use only those named, out of those that its roles allow. With
--proxy-only it sends requests with them through the hub's proxy and never sees a token, and
--method and --path say which requests these may be. With --endpoint it calls these endpoints of
the connector by name, and can do nothing else.`,
		Example: `  grantway client add mailer --role application@sales >mailer.env
  grantway client add reports --role application --credential sales --proxy-only --method GET --path /v1/reports
  grantway client add shop --role application --credential sales --endpoint send-order`,
		Args: cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			settings, err := s.read()
			if err != nil {
				return err
			}
			one := grantway.OAuthClient{Name: args[0], Description: description, Roles: parseRoles(roles), ClientSettings: settings}
			if one.Roles == nil && one.GrantType != grantway.GrantAuthorizationCode {
				return usagef("a client needs at least one --role, or --grant authorization_code")
			}
			if one.Credentials, err = s.uses(); err != nil {
				return err
			}
			return c.newSecret(ctx, hub, "created", func() (grantway.OAuthClient, error) { return hub.CreateOAuthClient(ctx, one) })
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	roleFlag(cmd, &roles)
	cmd.Flags().StringVar(&description, "description", "", "what the client is")
	s.add(c, cmd)
	return cmd
}

func (c *cli) clientRenew() *cobra.Command {
	var how grantway.SecretReset
	cmd := &cobra.Command{
		Use:   "renew NAME|ID",
		Short: "Give a client a new secret and print how it signs in, once",
		Long: `Give a client a new secret and print the environment it signs in with. The old secrets stop
working at once; tokens it has go on until they expire, unless --revoke-tokens is there. The new
secret is shown this once. For two secrets side by side see "client secret add".`,
		Example: `  grantway client renew mailer >mailer.env`,
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := findClient(hub.OAuthClients(ctx), args[0])
			if err != nil {
				return err
			}
			return c.newSecret(ctx, hub, "renewed", func() (grantway.OAuthClient, error) { return hub.ResetOAuthClientSecret(ctx, one.ID, how) })
		}),
		ValidArgsFunction: c.clientNames(),
	}
	cmd.Flags().BoolVar(&how.RevokeTokens, "revoke-tokens", false, "end the tokens that the client has, too")
	return cmd
}

// newSecret prints the environment of a client whose secret was just made. It asks for the
// address of the hub first: once the secret is made, nothing may fail before it is shown.
func (c *cli) newSecret(ctx context.Context, hub *grantway.Client, done string, secret func() (grantway.OAuthClient, error)) error {
	status, err := hub.Hub(ctx)
	if err != nil {
		return err
	}
	one, err := secret()
	if err != nil {
		return err
	}
	if one.Secret == "" {
		c.note("client %s %s; it signs in by %s", one.Name, done, one.AuthMethod)
		return c.print(one, func(p *page) {
			p.row("GRANTWAY_URL=" + cmp.Or(status.URL, c.hub))
			p.row("GRANTWAY_CLIENT_ID=" + one.ID)
		})
	}
	c.note("client %s %s; its secret is shown this once", one.Name, done)
	if one.LiveTokens != "" {
		c.note("the tokens it has are %s", map[string]string{"kept": "good until they expire", "revoked": "revoked"}[one.LiveTokens])
	}
	return c.print(one, func(p *page) {
		p.row("GRANTWAY_URL=" + cmp.Or(status.URL, c.hub))
		p.row("GRANTWAY_CLIENT_ID=" + one.ID)
		p.row("GRANTWAY_CLIENT_SECRET=" + one.Secret)
	})
}

func (c *cli) clientNames() cobra.CompletionFunc {
	return complete(c, 1, (*grantway.Client).OAuthClients, func(one grantway.OAuthClient) string { return one.Name })
}

func (c *cli) clientList() *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List clients",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			clients := hub.OAuthClients(ctx)
			if deleted {
				clients = hub.DeletedOAuthClients(ctx)
			}
			list, err := collect(clients)
			if err != nil {
				return err
			}
			return c.print(list, func(p *page) {
				p.row("NAME", "ID", "ROLES", "STATE", "CREATED", "DESCRIPTION")
				for _, one := range list.Items {
					var roles []string
					for _, a := range one.Roles {
						roles = append(roles, a.Role+"@"+a.Division)
					}
					p.row(one.Name, one.ID, cmp.Or(strings.Join(roles, ", "), "people: "+strings.Join(one.Scopes, " ")), one.State, when(one.CreatedAt), one.Description)
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "those that were deleted and can be restored")
	return cmd
}

func (c *cli) clientRestore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore NAME|ID",
		Short: "Bring back a client that was deleted in the last week, with its secrets",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := findClient(hub.DeletedOAuthClients(ctx), args[0])
			if err == nil {
				one, err = hub.RestoreOAuthClient(ctx, one.ID)
			}
			if err != nil {
				return err
			}
			return c.print(one, func(p *page) { p.row("client " + one.Name + " is restored") })
		}),
		ValidArgsFunction: complete(c, 1, (*grantway.Client).DeletedOAuthClients, func(one grantway.OAuthClient) string { return one.Name }),
	}
}

func (c *cli) clientRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm NAME|ID",
		Aliases: []string{"delete"},
		Short:   "Delete a client; its tokens stop working, and for a week it can be restored",
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := findClient(hub.OAuthClients(ctx), args[0])
			if err != nil {
				return err
			}
			if err := c.confirm(yes, "client", one.Name); err != nil {
				return err
			}
			if err := hub.DeleteOAuthClient(ctx, one.ID); err != nil {
				return err
			}
			return c.deleted("client", one.Name)
		}),
		ValidArgsFunction: c.clientNames(),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// findClient finds a client by id, else by name, which more than one may have.
func findClient(clients iter.Seq2[grantway.OAuthClient, error], ref string) (grantway.OAuthClient, error) {
	var named []grantway.OAuthClient
	for one, err := range clients {
		switch {
		case err != nil:
			return one, err
		case one.ID == ref:
			return one, nil
		case one.Name == ref:
			named = append(named, one)
		}
	}
	switch len(named) {
	case 0:
		return grantway.OAuthClient{}, grantway.Errorf(grantway.NotFound, "there is no client %s", ref)
	case 1:
		return named[0], nil
	}
	return grantway.OAuthClient{}, errors.New("more than one client has the name " + ref + "; give the ID, which list shows")
}
