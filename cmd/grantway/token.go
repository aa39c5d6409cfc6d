package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/grantway/grantway"
)

// refFlags are the flags that say which token of a credential is wanted.
type refFlags struct {
	scope, audience, resource string
	minLifetime               time.Duration
}

func (f *refFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.scope, "scope", "", "scopes of this token instead of the credential's")
	flags.StringVar(&f.audience, "audience", "", "audience of this token instead of the credential's")
	flags.StringVar(&f.resource, "resource", "", "resource of this token instead of the credential's")
	flags.DurationVar(&f.minLifetime, "min-lifetime", 0, "how long the token must stay valid, such as 10m; counts for at most half of the lifetime that the provider issues")
}

func (f *refFlags) ref(credential string) (grantway.Ref, error) {
	if f.minLifetime < 0 {
		return grantway.Ref{}, usagef("--min-lifetime must not be negative")
	}
	return grantway.Ref{
		Credential: credential, Scope: f.scope, Audience: f.audience, Resource: f.resource,
		MinLifetime: grantway.Seconds((f.minLifetime + time.Second - 1) / time.Second),
	}, nil
}

func (c *cli) tokenCommand() *cobra.Command {
	var f refFlags
	var header, renew bool
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Print a token that is valid now",
		Long: `Print a token that is valid now, and nothing else. With --json comes what else is known of
it. To use a token in a request, "grantway curl" keeps it off the command line, where
other users of the machine could see it.`,
		Example: `  grantway token sales
  grantway token sales --header | curl -H @- https://api.example.com/v1/mail`,
		Args: cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			if header && c.json {
				return usagef("--header and --json are two forms of one answer; choose one")
			}
			ref, err := f.ref(args[0])
			if err != nil {
				return err
			}
			if renew {
				if err := hub.Invalidate(ctx, ref.Credential, ""); err != nil {
					return err
				}
			}
			t, err := hub.Token(ctx, ref)
			if err != nil {
				return err
			}
			if t.ExpiresIn < ref.MinLifetime {
				c.note("warning: the token is valid for %s, less than --min-lifetime asks for: that counts for at most half of the lifetime that the provider issues", t.ExpiresIn.Duration())
			}
			return c.print(t, func(p *page) {
				if header {
					p.row(fmt.Sprintf("%s: %s", t.Header.Name, t.Header.Value))
				} else {
					p.row(t.AccessToken)
				}
			})
		}),
		ValidArgsFunction: c.credentialNames(1),
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&renew, "renew", false, "drop the credential's tokens that the hub keeps, and its back-off, and request a new one")
	cmd.Flags().BoolVar(&header, "header", false, "print the header line of a request instead of the token")
	return cmd
}
