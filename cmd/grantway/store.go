package main

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/secret"
)

func (c *cli) storeCommand() *cobra.Command {
	return group("store", "Manage the secret stores", c.storeAdd(), c.storeList(), c.storeShow(), c.storeEdit(), c.storeTest(), c.storeRemove())
}

func (c *cli) storeList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the secret stores and whether they could be read when they were last asked",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			stores, err := hub.SecretStores(ctx)
			if err != nil {
				return err
			}
			return c.print(grantway.Page[grantway.SecretStore]{Items: stores}, func(p *page) {
				p.row("NAME", "KIND", "STATE", "WHAT IT IS")
				for _, s := range stores {
					p.row(s.Name, s.Kind, storeState(s), s.Detail)
				}
			})
		}),
	}
}

// storeState is how a store is doing, in words.
func storeState(s grantway.SecretStore) string {
	if s.Error == "" && s.Version != 0 && s.LastSuccess.IsZero() {
		return "not used yet"
	}
	return cmp.Or(s.Error, "ok")
}

func (c *cli) storeShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a secret store without what it signs in with, and who uses it",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.SecretStore(ctx, args[0])
			if err != nil {
				return err
			}
			return c.print(one, func(p *page) {
				p.facts("Name", one.Name, "Kind", one.Kind, "Description", one.Description, "What it is", one.Detail, "State", storeState(one))
				if one.Version != 0 {
					p.facts("Version", strconv.FormatInt(one.Version, 10), "Created", when(one.CreatedAt), "Changed", when(one.UpdatedAt), "Last success", when(one.LastSuccess))
				}
				if one.LastError != nil {
					p.facts("Last error", when(one.LastError.At)+": "+one.LastError.Message)
				}
				p.facts("Used by", strings.Join(one.UsedBy, ", "))
				for _, key := range slices.Sorted(maps.Keys(one.Inputs)) {
					p.facts("  "+key, inputText(one.Inputs[key]))
				}
			})
		}),
		ValidArgsFunction: c.storeNames(),
	}
}

func (c *cli) storeAdd() *cobra.Command {
	var kind string
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "add NAME --kind KIND",
		Short: "Add a secret store",
		Long: "Add a secret store. What it signs in with is asked for on a terminal; a script gives it on\n" +
			"standard input, or names its place in the environment or a file.\n" + storeInputs(),
		Example: `  grantway store add bao --kind vault --input address=https://bao.example.com:8200 --secret-input token <token.txt
  grantway store add bao --kind vault --input address=https://bao.example.com:8200 --input auth=kubernetes --input role=grantway
  grantway store add aws --kind aws --input region=eu-central-1`,
		Args: cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			k, ok := secret.FindKind(kind)
			if !ok {
				return usagef("--kind: must be one of %s", strings.Join(kindNames(), ", "))
			}
			one := grantway.SecretStore{Name: args[0], Kind: kind, Inputs: grantway.Inputs{}}
			if err := f.set(c, &k.Definition, &one); err != nil {
				return err
			}
			for _, in := range k.Inputs {
				missing := func(field grantway.Field) bool { return field.Pointer == "/inputs/"+in.Key }
				if in.Type != connector.SecretText || !slices.ContainsFunc(k.Check(one.Inputs), missing) {
					continue
				}
				if !terminal(c.in) {
					return usagef("where is the %s? give it on standard input with --secret-input %s, or name its place with --secret-input %s=env:NAME or =file:NAME", in.Key, in.Key, in.Key)
				}
				text, err := c.readSecret(in.Title)
				if err != nil {
					return err
				}
				one.Inputs[in.Key] = grantway.Text(string(text))
			}
			saved, err := hub.CreateSecretStore(ctx, one)
			if err != nil {
				return err
			}
			return c.print(saved, func(p *page) { p.row("secret store " + saved.Name + " added") })
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&kind, "kind", "", strings.Join(kindNames(), ", "))
	cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(kindNames(), cobra.ShellCompDirectiveNoFileComp))
	f.register(cmd)
	return cmd
}

func (c *cli) storeEdit() *cobra.Command {
	var f storeFlags
	cmd := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change what the flags name; everything else stays as it is, secrets among it",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.SecretStore(ctx, args[0])
			if err != nil {
				return err
			}
			k, ok := secret.FindKind(one.Kind)
			if !ok {
				return usagef("secret store %s: this grantway does not know how to change the kind %s", one.Name, one.Kind)
			}
			if err := f.set(c, &k.Definition, &one); err != nil {
				return err
			}
			saved, err := hub.UpdateSecretStore(ctx, one.Name, one)
			if err != nil {
				return err
			}
			return c.print(saved, func(p *page) { p.row("secret store " + saved.Name + " changed") })
		}),
		ValidArgsFunction: c.storeNames(),
	}
	f.register(cmd)
	return cmd
}

func (c *cli) storeTest() *cobra.Command {
	var key grantway.SecretRef
	var file string
	cmd := &cobra.Command{
		Use:   "test NAME | test -f FILE",
		Short: "Try to reach a secret store, to sign in and to read; exit code 3 if that fails",
		Long: `Try to reach a secret store, to sign in and to read, with the saved settings or with those of
a YAML file, which are not saved. Secrets that the file leaves out are those of the saved
store of that name. The exit code is 3 when a step failed.`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			switch {
			case (file == "") == (len(args) == 0):
				return usagef("test takes either the NAME of a saved store or -f FILE")
			case file != "":
				return c.testFile(ctx, hub, file, key)
			}
			report, err := hub.TestSecretStore(ctx, args[0], key)
			if err != nil {
				return err
			}
			return c.report(report)
		}),
		ValidArgsFunction: c.storeNames(),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML file, like that of apply; - is standard input")
	cmd.Flags().StringVar(&key.Key, "key", "", "secret to read; its value is not shown")
	cmd.Flags().StringVar(&key.Field, "field", "", "member of it")
	cmd.Flags().StringVar(&key.Version, "version", "", "version of it")
	return cmd
}

// testFile tries the secret stores of a file, each as it would be after apply.
func (c *cli) testFile(ctx context.Context, hub *grantway.Client, file string, key grantway.SecretRef) error {
	objects, err := c.readObjects(file)
	if err != nil {
		return err
	}
	stores, err := plan(ctx, hub, slices.DeleteFunc(objects, func(o object) bool { return o.kind != kindStore }))
	if err != nil {
		return err
	}
	var failed []error
	for _, one := range stores {
		report, err := hub.TestSecretStoreDraft(ctx, one.store, key)
		if err != nil {
			return one.locate(err)
		}
		if !c.json && len(stores) > 1 {
			c.note("secret store %s", one.Name)
		}
		failed = append(failed, c.report(report))
	}
	return errors.Join(failed...)
}

func (c *cli) storeRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"delete"},
		Short:   "Remove a secret store from the hub; nothing in it is touched",
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			if err := c.confirm(yes, "secret store", args[0]); err != nil {
				return err
			}
			if err := hub.DeleteSecretStore(ctx, args[0]); err != nil {
				return err
			}
			return c.deleted("secret store", args[0])
		}),
		ValidArgsFunction: c.storeNames(),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// storeFlags are the flags that set the members of a secret store.
type storeFlags struct {
	inputFlags
	cmd *cobra.Command
}

func (f *storeFlags) register(cmd *cobra.Command) {
	f.cmd = cmd
	cmd.Flags().StringVar(&f.description, "description", "", "what the store is for")
	cmd.Flags().StringArrayVar(&f.inputs, "input", nil, "`KEY=VALUE` sets an input, KEY=@FILE from a file, KEY= removes it; repeatable")
	cmd.Flags().StringArrayVar(&f.secretInputs, "secret-input", nil, "`KEY` reads a secret input from standard input or a prompt, KEY=env:NAME or KEY=file:NAME says where it is, KEY= removes it; repeatable")
}

func (f *storeFlags) set(c *cli, def *connector.Definition, one *grantway.SecretStore) error {
	if f.cmd.Flags().Changed("description") {
		one.Description = f.description
	}
	for _, assignment := range f.inputs {
		key, value, err := plainInput(def, assignment)
		if err != nil {
			return err
		}
		one.Inputs[key] = value
	}
	return f.setSecrets(c, def, one.Inputs)
}

func kindNames() (names []string) {
	for _, k := range secret.Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// storeInputs lists the inputs of every kind, for help.
func storeInputs() string {
	var b strings.Builder
	for _, k := range secret.Kinds() {
		b.WriteString("\n" + k.Title + " (--kind " + k.Name + "): ")
		for i, in := range k.Inputs {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(in.Key)
		}
	}
	return b.String()
}

// storeNames completes the name of a secret store.
func (c *cli) storeNames() cobra.CompletionFunc {
	list := func(hub *grantway.Client, ctx context.Context) iter.Seq2[grantway.SecretStore, error] {
		return func(yield func(grantway.SecretStore, error) bool) {
			stores, err := hub.SecretStores(ctx)
			for _, one := range stores {
				if !yield(one, nil) {
					return
				}
			}
			if err != nil {
				yield(grantway.SecretStore{}, err)
			}
		}
	}
	return complete(c, 1, list, func(s grantway.SecretStore) string { return s.Name })
}
