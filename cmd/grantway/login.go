package main

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

func (c *cli) loginCommand() *cobra.Command {
	var id, name string
	var withSecret, noBrowser bool
	cmd := &cobra.Command{
		Use:   "login URL --client-id ID",
		Short: "Sign in to a hub, and keep how for the next commands",
		Long: `Sign in to a hub in the browser, and keep that for the next commands. They act for you, within
your roles and what the client may do, until the sign-in was not used for 30 days or ends under
Account in the console.

--client-id is a client that has no secret, comes back to this machine, and has the permissions
that people may use here. One does for everybody; whoever may make clients makes it by

  grantway client add command-line --grant authorization_code --auth-method none \
    --redirect-uri http://127.0.0.1/callback \
    --scope "credential.pick credential.status credential.read credential.use"

With --with-secret a program signs in as itself: the client has a secret, which is asked for or read
from standard input.

What is secret goes to the keyring of the operating system where there is one, else to a file that only
you can read. Each hub is a context; "context use" chooses one, "context rm" signs out.
GRANTWAY_URL and its like, and --data, go before it.`,
		Example: `  grantway login https://grantway.example.com --client-id client_…
  grantway login https://grantway.example.com --client-id client_… --with-secret --context prod <secret`,
		Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, args []string) error {
			switch {
			case id == "":
				return usagef("login needs --client-id; \"grantway login --help\" says how to get one")
			case withSecret && noBrowser:
				return usagef("--with-secret needs no browser anyway")
			}
			hub := hubContext{URL: strings.TrimRight(args[0], "/"), ClientID: id, Person: !withSecret}
			c.hub = hub.URL
			if withSecret {
				secret, err := c.readSecret("Client secret")
				if err != nil {
					return err
				}
				o := grantway.Options{URL: hub.URL, ClientID: id, ClientSecret: secret}
				return c.loggedIn(ctx, name, hub, string(secret), o)
			}
			s, err := c.signInByBrowser(ctx, hub.URL, id, !noBrowser)
			if err != nil {
				return err
			}
			text, err := s.text()
			if err != nil {
				return err
			}
			o := grantway.Options{URL: hub.URL, SignIn: func(context.Context, string) (*grant.Token, error) { return s.token, nil }}
			return c.loggedIn(ctx, name, hub, text, o)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&id, "client-id", "", "of the OAuth client to sign in with")
	flags.StringVar(&name, "context", "default", "name to keep it under")
	flags.BoolVar(&withSecret, "with-secret", false, "sign in as a client that has a secret")
	flags.BoolVar(&noBrowser, "no-browser", false, "print the address for the browser, and do not open it")
	return cmd
}

// loggedIn tries o, and keeps the context under name.
func (c *cli) loggedIn(ctx context.Context, name string, one hubContext, secret string, o grantway.Options) error {
	hub, err := grantway.NewClient(o)
	if err != nil {
		return err
	}
	defer hub.Close(context.WithoutCancel(ctx))
	status, err := hub.Hub(ctx)
	if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.Forbidden { // signed in, with a role or a scope that sees no status
		if status, err = (grantway.HubStatus{}), nil; !one.Person {
			status.Caller = one.ClientID
		}
	}
	if err != nil {
		return err
	}
	err = changeContexts(func(all *contexts) error {
		if all.Hubs[name].Person && all.endSession(ctx, name) != nil {
			c.note("the sign-in before this one could not be ended; it stays good until you take it back under Account")
		}
		all.keep(name, one, secret)
		if all.Hubs[name].Secret != "" {
			c.note("there is no keyring here, so the secret is in %s, which only you can read", all.path)
		}
		all.Current = name
		return nil
	})
	if err != nil {
		return err
	}
	return c.print(map[string]string{"context": name, "url": one.URL, "caller": status.Caller}, func(p *page) {
		p.row("you are " + cmp.Or(status.Caller, "signed in") + " at " + one.URL + ", in context " + name)
	})
}
