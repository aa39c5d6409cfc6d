package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
)

func (c *cli) storeCommand() *cobra.Command {
	return group("store", "Look at the secret stores", &cobra.Command{
		Use:   "list",
		Short: "List the secret stores and whether they can be read",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			stores, err := hub.SecretStores(ctx)
			if err != nil {
				return err
			}
			return c.print(grantway.Page[grantway.SecretStore]{Items: stores}, func(p *page) {
				p.row("NAME", "KIND", "STATE", "WHAT IT IS")
				for _, s := range stores {
					p.row(s.Name, s.Kind, cmp.Or(s.Error, "ok"), s.Detail)
				}
			})
		}),
	})
}
