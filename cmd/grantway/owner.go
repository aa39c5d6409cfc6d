package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway/internal/app"
)

func (c *cli) ownerCommand() *cobra.Command {
	var o app.Options
	recover := &cobra.Command{
		Use:   "recover",
		Short: "Make a new owner client when owner.json or its secret is lost",
		Long: `Make a new owner client directly in the database, and write owner.json into the data
directory. This needs the database and its key, and no hub. Clients that exist stay: see
"grantway client list" and "grantway client rm" for those to be rid of.`,
		Example: `  grantway owner recover
  grantway owner recover --database postgres://db.example.com/grantway --key file:/etc/grantway/key`,
		Args: cobra.NoArgs,
		RunE: c.run(func(ctx context.Context, _ []string) error {
			if err := c.findDatabase(&o); err != nil {
				return err
			}
			path, err := app.RecoverOwner(ctx, o)
			if err != nil {
				return err
			}
			return c.print(map[string]string{"file": path}, func(p *page) {
				p.row("made a new owner client; " + path + " signs the command line in as it")
			})
		}),
	}
	databaseFlags(recover.Flags(), &o)
	settable(recover.Flags(), "database", "key")
	return group("owner", "Get back in as the owner of a hub", recover)
}
