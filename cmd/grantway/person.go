package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
)

func (c *cli) personCommand() *cobra.Command {
	return group("person", "Manage the people who sign in to the console",
		c.personInvite(), c.personList(), c.personEdit(), c.personLink(), c.personActive(true), c.personActive(false), c.personSessions(), c.personSignOut())
}

// roleFlag adds --role.
func roleFlag(cmd *cobra.Command, roles *[]string) {
	cmd.Flags().StringArrayVar(roles, "role", nil, "`ROLE[@DIVISION]`, without a division in home; repeatable")
	cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"owner@*", "administrator@*", "designer@*", "auditor@*", "application@*"}, cobra.ShellCompDirectiveNoFileComp))
}

// parseRoles reads the values of --role.
func parseRoles(roles []string) (all []grantway.Assignment) {
	for _, text := range roles {
		role, division, found := strings.Cut(text, "@")
		if !found {
			division = grantway.DefaultDivision
		}
		all = append(all, grantway.Assignment{Role: role, Division: division})
	}
	return all
}

func (c *cli) personInvite() *cobra.Command {
	var roles []string
	var name string
	cmd := &cobra.Command{
		Use:   "invite EMAIL --role ROLE[@DIVISION]",
		Short: "Add a person and print the link to choose a password with, once",
		Long: `Add a person and print the link with which he or she chooses a password, within 7 days.
Whoever has the link is that person: hand it over like a password. No mail is sent.

Roles: owner (all), administrator (all but deleting credentials, managing keys and single
sign-on), designer (picks credentials by name), auditor (reads all but tokens),
application (gets tokens). A role counts in one division, or in all: auditor@sales, auditor@*.`,
		Example: `  grantway person invite ann@example.com --name Ann --role administrator@*`,
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one := grantway.Person{Email: args[0], Name: name, Roles: parseRoles(roles)}
			if one.Roles == nil {
				return usagef("a person needs at least one --role")
			}
			invited, err := hub.InvitePerson(ctx, one)
			if err != nil {
				return err
			}
			c.note("person %s added; its link works once and expires %s", invited.Person.Email, when(invited.ExpiresAt))
			return c.print(invited, func(p *page) { p.row(invited.Link) })
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	roleFlag(cmd, &roles)
	cmd.Flags().StringVar(&name, "name", "", "what the person is called")
	return cmd
}

func (c *cli) personList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List people",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			list, err := collect(hub.People(ctx))
			if err != nil {
				return err
			}
			return c.print(list, func(p *page) {
				p.row("EMAIL", "NAME", "STATE", "ROLES", "LAST SIGN-IN", "ID")
				for _, one := range list.Items {
					var roles []string
					for _, a := range one.Roles {
						roles = append(roles, a.Role+"@"+a.Division)
					}
					p.row(one.Email, one.Name, string(one.State), strings.Join(roles, ", "), when(one.LastSignIn), one.ID)
				}
			})
		}),
	}
}

func (c *cli) personEdit() *cobra.Command {
	var roles []string
	var name string
	cmd := &cobra.Command{
		Use:   "edit EMAIL|ID",
		Short: "Change the name or the roles of a person",
		Args:  cobra.ExactArgs(1),
	}
	cmd.RunE = c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
		one, err := hub.Person(ctx, args[0])
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("name") {
			one.Name = name
		}
		if roles != nil {
			one.Roles = parseRoles(roles)
		}
		// What is only in answers is not sent back.
		one, err = hub.UpdatePerson(ctx, grantway.Person{ID: one.ID, Email: one.Email, Name: one.Name, Roles: one.Roles})
		if err != nil {
			return err
		}
		return c.print(one, func(p *page) { p.row("person " + one.Email + " changed") })
	})
	cmd.ValidArgsFunction = completePerson(c)
	roleFlag(cmd, &roles)
	cmd.Flags().Lookup("role").Usage += "; these replace all"
	cmd.Flags().StringVar(&name, "name", "", "what the person is called")
	return cmd
}

func (c *cli) personLink() *cobra.Command {
	return &cobra.Command{
		Use:   "link EMAIL|ID",
		Short: "Make another link to choose a password with; older ones stop working",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.Person(ctx, args[0])
			if err != nil {
				return err
			}
			renewed, err := hub.RenewInvitation(ctx, one.ID)
			if err != nil {
				return err
			}
			c.note("the link for %s works once and expires %s", one.Email, when(renewed.ExpiresAt))
			return c.print(renewed, func(p *page) { p.row(renewed.Link) })
		}),
		ValidArgsFunction: completePerson(c),
	}
}

func (c *cli) personActive(active bool) *cobra.Command {
	use, short, change := "deactivate", "Keep a person out, and end its sessions", (*grantway.Client).DeactivatePerson
	if active {
		use, short, change = "activate", "Let a person in again", (*grantway.Client).ActivatePerson
	}
	return &cobra.Command{
		Use:   use + " EMAIL|ID",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.Person(ctx, args[0])
			if err != nil {
				return err
			}
			if one, err = change(hub, ctx, one.ID); err != nil {
				return err
			}
			return c.print(one, func(p *page) { p.row("person " + one.Email + " is " + string(one.State)) })
		}),
		ValidArgsFunction: completePerson(c),
	}
}

func (c *cli) personSessions() *cobra.Command {
	return &cobra.Command{
		Use:   "sessions EMAIL|ID",
		Short: "List the browsers in which a person is signed in",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.Person(ctx, args[0])
			if err != nil {
				return err
			}
			sessions, err := hub.PersonSessions(ctx, one.ID)
			if err != nil {
				return err
			}
			return c.print(grantway.Page[grantway.Session]{Items: sessions}, func(p *page) {
				p.row("SINCE", "LAST USED", "FROM", "METHOD", "BROWSER", "ID")
				for _, s := range sessions {
					p.row(when(s.CreatedAt), when(s.SeenAt), s.From, s.Method, s.UserAgent, s.ID)
				}
			})
		}),
		ValidArgsFunction: completePerson(c),
	}
}

func (c *cli) personSignOut() *cobra.Command {
	return &cobra.Command{
		Use:   "sign-out EMAIL|ID",
		Short: "End all sessions of a person, who may sign in again",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.Person(ctx, args[0])
			if err != nil {
				return err
			}
			if err := hub.EndSessions(ctx, one.ID, ""); err != nil {
				return err
			}
			return c.print(one, func(p *page) { p.row("person " + one.Email + " is signed out") })
		}),
		ValidArgsFunction: completePerson(c),
	}
}

func completePerson(c *cli) cobra.CompletionFunc {
	return complete(c, 1, (*grantway.Client).People, func(one grantway.Person) string { return one.Email })
}
