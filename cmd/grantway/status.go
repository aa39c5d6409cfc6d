package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what hub this is and who you are to it",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			s, err := hub.Hub(ctx)
			if err != nil {
				return err
			}
			return c.print(s, func(p *page) {
				p.facts("Hub", c.hub, "Version", s.Version, "You are", s.Caller, "Database", fmt.Sprintf("%s, schema %d", s.Database, s.Schema),
					"Credentials", strconv.Itoa(s.Credentials), "Started", when(s.StartedAt))
			})
		}),
	}
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: c.run(func(context.Context, []string) error {
			return c.print(map[string]string{"version": version()}, func(p *page) { p.row("grantway " + version()) })
		}),
	}
}

// version is that of the module or, in a source tree, of the commit; "(devel)" without either.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
