package main

import (
	"context"
	"iter"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

func (c *cli) callCommand() *cobra.Command {
	var f answerFlags
	var assignments []string
	cmd := &cobra.Command{
		Use:   "call NAME ENDPOINT",
		Short: "Call an endpoint that a credential's connector names",
		Long: `Call an endpoint of the connector of the credential NAME, with values for the endpoint's own
inputs, and print the answer of the API. The connector says the rest: method, address, headers and
body. "grantway connector show" lists the endpoints.`,
		Example: `  grantway call shop orders --input page=2
  grantway call shop cancel --input id=4711 --input why=@reason.txt --fail`,
		Args: cobra.ExactArgs(2),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			inputs := map[string]string{}
			for _, assignment := range assignments {
				key, value, ok := strings.Cut(assignment, "=")
				if !ok || key == "" {
					return usagef("--input wants KEY=VALUE")
				}
				if path, isFile := strings.CutPrefix(value, "@"); isFile {
					content, err := os.ReadFile(path)
					if err != nil {
						return err
					}
					value = strings.TrimRight(string(content), "\r\n")
				}
				inputs[key] = value
			}
			resp, err := hub.CallEndpoint(ctx, args[0], args[1], inputs)
			if err != nil {
				return err
			}
			return c.answer(resp, f)
		}),
		ValidArgsFunction: c.endpointNames,
	}
	cmd.Flags().StringArrayVar(&assignments, "input", nil, "`KEY=VALUE` is the value of an input of the endpoint, KEY=@FILE from a file; repeatable")
	f.register(cmd.Flags())
	return cmd
}

// endpointNames completes the name of a credential, and then that of an endpoint of its connector.
func (c *cli) endpointNames(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.credentialNames(1)(cmd, args, begun)
	}
	endpoints := func(hub *grantway.Client, ctx context.Context) iter.Seq2[connector.Endpoint, error] {
		return func(yield func(connector.Endpoint, error) bool) {
			one, err := hub.Credential(ctx, args[0])
			if err != nil {
				return
			}
			def, err := definition(ctx, hub, one)
			if err != nil {
				return
			}
			for _, e := range def.Source.Endpoints {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	return complete(c, 2, endpoints, func(e connector.Endpoint) string { return cobra.CompletionWithDesc(e.Name, e.Title) })(cmd, args, begun)
}
