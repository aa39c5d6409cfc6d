package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
)

func (c *cli) divisionCommand() *cobra.Command {
	var description string
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a division",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.CreateDivision(ctx, grantway.Division{Name: args[0], Description: description})
			if err != nil {
				return err
			}
			return c.print(one, func(p *page) { p.row("division " + one.Name + " created") })
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	add.Flags().StringVar(&description, "description", "", "what belongs into it")

	list := &cobra.Command{
		Use:   "list",
		Short: "List divisions",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			list, err := collect(hub.Divisions(ctx))
			if err != nil {
				return err
			}
			return c.print(list, func(p *page) {
				p.row("NAME", "DESCRIPTION")
				for _, one := range list.Items {
					p.row(one.Name, one.Description)
				}
			})
		}),
	}

	var yes bool
	remove := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"delete"},
		Short:   "Delete an empty division",
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			if err := c.confirm(yes, "division", args[0]); err != nil {
				return err
			}
			if err := hub.DeleteDivision(ctx, args[0]); err != nil {
				return err
			}
			return c.deleted("division", args[0])
		}),
		ValidArgsFunction: complete(c, 1, (*grantway.Client).Divisions, func(one grantway.Division) string { return one.Name }),
	}
	remove.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return group("division", "Manage the divisions that group objects", add, list, remove)
}
