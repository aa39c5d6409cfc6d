package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/grantway/grantway"
)

// cli is one run of the program: its streams and its shared flags.
type cli struct {
	in        *os.File
	out, errs io.Writer
	prompt    *term.Terminal // on in and errs; nil before the first prompt
	unhandle  func()         // makes the next interrupt end the process at once

	data      string
	dataGiven bool // on the command line
	json      bool

	running bool   // the command line was understood; errors are no longer about how it was written
	usage   string // of the command, for messages
	hub     string // address of the hub that is asked, for messages
}

const about = `Grantway stores client-credentials credentials once and hands out fresh access tokens.

Start a hub with "grantway serve". The other commands find it by --data, if that is given,
else by GRANTWAY_URL, GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET, else by "grantway login", else in ./data: the
first start of a hub writes an owner.json there. GRANTWAY_URL alone changes the address in it.

Secrets are read from a prompt, from standard input or from a secret store; no flag takes one.`

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:           "grantway COMMAND",
		Short:         "The home for machine-to-machine OAuth 2.0",
		Long:          about + "\n\n" + exitCodes,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			c.dataGiven = cmd.Flags().Changed("data")
			return fromEnvironment(cmd.Flags())
		},
	}
	root.SetVersionTemplate("grantway {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&c.data, "data", "./data", "directory of the embedded hub: database, key and owner.json")
	flags.BoolVar(&c.json, "json", false, "print the JSON of the API instead of text for people")
	settable(flags, "data")

	root.AddGroup(&cobra.Group{ID: "tokens", Title: "Credentials and tokens:"}, &cobra.Group{ID: "hub", Title: "The hub:"})
	for group, commands := range map[string][]*cobra.Command{
		"tokens": {c.credentialCommand(), c.tokenCommand(), c.curlCommand(), c.callCommand(), c.applyCommand(), c.exportCommand(), c.storeCommand(), c.connectorCommand()},
		"hub": {c.serveCommand(), c.statusCommand(), c.clientCommand(), c.personCommand(), c.ssoCommand(), c.divisionCommand(), c.auditCommand(),
			c.dbCommand(), c.keyCommand(), c.ownerCommand(), c.signingKeyCommand(), c.loginCommand(), c.contextCommand()},
	} {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	root.AddCommand(c.versionCommand())
	return root
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	g.AddCommand(commands...)
	return g
}

// run makes the function of a command.
func (c *cli) run(do func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.running = true
		return do(cmd.Context(), args)
	}
}

// ask makes the function of a command that talks to the hub.
func (c *cli) ask(do func(ctx context.Context, hub *grantway.Client, args []string) error) func(*cobra.Command, []string) error {
	return c.run(func(ctx context.Context, args []string) error {
		hub, err := c.connect()
		if err != nil {
			return err
		}
		return errors.Join(do(ctx, hub, args), hub.Close(context.WithoutCancel(ctx)))
	})
}

// connect returns a client of the hub that the command line and the environment name.
func (c *cli) connect() (*grantway.Client, error) {
	o, err := c.findHub()
	if err != nil {
		return nil, err
	}
	c.hub = o.URL
	return grantway.NewClient(o)
}

// findHub looks in GRANTWAY_URL, GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET, unless --data
// is given, then in owner.json in the data directory. Of the three, only GRANTWAY_URL goes with
// the file: it says how this machine reaches the hub of --external-url.
func (c *cli) findHub() (grantway.Options, error) {
	o := grantway.Options{
		URL:          os.Getenv("GRANTWAY_URL"),
		ClientID:     os.Getenv("GRANTWAY_CLIENT_ID"),
		ClientSecret: grantway.Secret(os.Getenv("GRANTWAY_CLIENT_SECRET")),
	}
	path := filepath.Join(c.data, "owner.json")
	address := ""
	client := o.ClientID != "" || o.ClientSecret != ""
	if !c.dataGiven && !client && exists(path) {
		address = o.URL
	} else if !c.dataGiven && (client || o.URL != "") {
		var missing []string
		for _, v := range []string{"GRANTWAY_URL", "GRANTWAY_CLIENT_ID", "GRANTWAY_CLIENT_SECRET"} {
			if os.Getenv(v) == "" {
				missing = append(missing, v)
			}
		}
		if missing != nil {
			return o, usagef("%s not set: set GRANTWAY_URL, GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET together, or, to sign in with owner.json, none of them or GRANTWAY_URL alone", strings.Join(missing, " and "))
		}
		return o, nil
	}
	if !c.dataGiven && address == "" {
		all, err := readContexts()
		if err == nil {
			if kept, ok, err := c.optionsOf(all, all.Current); ok {
				return kept, err
			}
		}
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return o, fmt.Errorf("no hub to talk to: there is no %s and GRANTWAY_URL is not set; start a hub here with \"grantway serve\", name its directory with --data, or set GRANTWAY_URL, GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET", path)
	}
	if err != nil {
		return o, fmt.Errorf("no hub to talk to: %w", err)
	}
	var owner struct {
		URL          string `json:"url"`
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	}
	if json.Unmarshal(text, &owner) != nil || owner.URL == "" || owner.ClientID == "" || owner.ClientSecret == "" {
		return o, fmt.Errorf("%s is not what a hub writes: it must hold url, client_id and client_secret", path)
	}
	return grantway.Options{URL: cmp.Or(address, owner.URL), ClientID: owner.ClientID, ClientSecret: grantway.Secret(owner.ClientSecret)}, nil
}

// settable lets the environment set flags: --log-format is GRANTWAY_LOG_FORMAT, and the command
// line wins.
func settable(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f := flags.Lookup(name)
		variable := "GRANTWAY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		f.Usage += " [$" + variable + "]"
		f.Annotations = map[string][]string{"environment": {variable}}
	}
}

// fromEnvironment sets the flags that the command line leaves out and the environment has.
func fromEnvironment(flags *pflag.FlagSet) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		for _, variable := range f.Annotations["environment"] {
			value := os.Getenv(variable)
			if f.Changed || value == "" {
				continue
			}
			if err := f.Value.Set(value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", variable, err))
			}
		}
	})
	return errors.Join(errs...)
}

// completing bounds how long a shell waits for names.
const completing = 2 * time.Second

// complete offers the names that list yields for the arguments of a command, at most
// most of them. A hub that does not answer offers nothing.
func complete[T any](c *cli, most int, list func(*grantway.Client, context.Context) iter.Seq2[T, error], name func(T) string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= most || cmd.Root().PersistentPreRunE(cmd, args) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		hub, err := c.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completing)
		defer cancel()
		defer hub.Close(context.WithoutCancel(ctx)) // a refresh under way must come to its end
		var names []cobra.Completion
		for item, err := range list(hub, ctx) {
			if err != nil {
				break
			}
			names = append(names, name(item))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// credentialNames completes up to most names of credentials.
func (c *cli) credentialNames(most int) cobra.CompletionFunc {
	return complete(c, most, (*grantway.Client).Credentials, func(one grantway.Credential) string { return one.Name })
}
