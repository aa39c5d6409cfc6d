package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/grantway/grantway"
)

func (c *cli) credentialCommand() *cobra.Command {
	return group("credential", "Manage credentials",
		c.credentialAdd(), c.credentialList(), c.credentialShow(), c.credentialEdit(),
		c.credentialValidate(), c.credentialStatus(), c.credentialRemove())
}

func (c *cli) credentialAdd() *cobra.Command {
	var f inputFlags
	var validate bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Store a new credential",
		Long: `Store a new credential. The client secret is asked for on a terminal; a script gives it
on standard input with --secret-stdin, or names its place in a secret store.`,
		Example: `  grantway credential add sales --client-id sales --token-endpoint https://login.example.com/token
  grantway credential add sales --client-id sales --token-endpoint https://login.example.com/token --secret-stdin <secret.txt
  grantway credential add sales --client-id sales --token-endpoint https://login.example.com/token --secret-store env --secret-key SALES_SECRET
  grantway credential add sales --client-id sales --token-endpoint https://login.example.com/token --auth-method private_key_jwt --secret-input signing_key=@key.pem --input assertion_audience=https://login.example.com`,
		Args: cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one := grantway.Credential{Name: args[0]}
			if err := f.set(c, &one); err != nil {
				return err
			}
			if err := askMissing(c, &one); err != nil {
				return err
			}
			saved, err := hub.CreateCredential(ctx, one)
			if err != nil {
				return err
			}
			return c.saved(ctx, hub, saved, "created", validate)
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&validate, "validate", false, "validate the credential once it is stored; it stays stored if that fails")
	return cmd
}

// saved tells what became of a credential, and validates it if asked to. With --json the
// result is the report then.
func (c *cli) saved(ctx context.Context, hub *grantway.Client, one grantway.Credential, done string, validate bool) error {
	for _, w := range one.Warnings {
		c.note("warning: %s: %s", fieldName(w), w.Detail)
	}
	if validate && c.json {
		return c.validate(ctx, hub, one.Name)
	}
	err := c.print(one, func(p *page) { p.row("credential " + one.Name + " " + done) })
	if err != nil || !validate {
		return err
	}
	return c.validate(ctx, hub, one.Name)
}

func (c *cli) credentialList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List credentials and how they are doing",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			list, err := collect(hub.Credentials(ctx))
			if err != nil {
				return err
			}
			states := make([]grantway.Status, len(list.Items))
			if !c.json {
				if states, err = statuses(ctx, hub, names(list.Items)); err != nil {
					return err
				}
			}
			return c.print(list, func(p *page) {
				if len(list.Items) == 0 {
					p.row("There are no credentials. Store one with: grantway credential add NAME")
					return
				}
				p.row("NAME", "DIVISION", "HEALTH", "CLIENT ID", "TOKEN ENDPOINT", "DESCRIPTION")
				for i, one := range list.Items {
					p.row(one.Name, one.Division, health(states[i]), one.Inputs["client_id"].Text, one.Inputs["token_endpoint"].Text, one.Description)
				}
			})
		}),
	}
}

func names(list []grantway.Credential) []string {
	var names []string
	for _, one := range list {
		names = append(names, one.Name)
	}
	return names
}

// statuses asks for the states of several credentials, a few at a time. The state of one that
// is gone by now, or that this client may not see, is left empty.
func statuses(ctx context.Context, hub *grantway.Client, names []string) ([]grantway.Status, error) {
	states := make([]grantway.Status, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, name := range names {
		g.Go(func() (err error) {
			states[i], err = hub.Status(ctx, name)
			var refused *grantway.Error
			if errors.As(err, &refused) && exitOf[refused.Code] == exitRefused {
				return nil
			}
			return err
		})
	}
	return states, g.Wait()
}

// health is a Health in words; "" when it is not known.
func health(s grantway.Status) string { return strings.ReplaceAll(string(s.Health), "_", " ") }

func (c *cli) credentialShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a credential without its secrets",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.Credential(ctx, args[0])
			if err != nil {
				return err
			}
			return c.print(one, func(p *page) {
				p.facts("Name", one.Name, "Description", one.Description, "Division", one.Division, "Connector", one.Connector,
					"ID", one.ID, "Version", strconv.FormatInt(one.Version, 10), "Created", when(one.CreatedAt), "Changed", when(one.UpdatedAt),
					"Used by", strings.Join(one.UsedBy, ", "))
				for _, key := range slices.Sorted(maps.Keys(one.Inputs)) {
					p.facts("  "+key, inputText(one.Inputs[key]))
				}
				for _, w := range one.Warnings {
					p.facts("Warning", fieldName(w)+": "+w.Detail)
				}
			})
		}),
		ValidArgsFunction: c.credentialNames(1),
	}
}

// inputText is the value of an input in words.
func inputText(v grantway.Value) string {
	switch {
	case v.Set:
		return "(stored in the hub)"
	case v.Ref != nil:
		text := v.Ref.Key + " in secret store " + v.Ref.Store
		if v.Ref.Field != "" {
			text += ", field " + v.Ref.Field
		}
		if v.Ref.Version != "" {
			text += ", version " + v.Ref.Version
		}
		return text
	case v.Params != nil:
		text, _ := json.Marshal(v.Params) // a struct of strings always marshals
		return string(text)
	}
	first, rest, more := strings.Cut(strings.TrimSpace(v.Text), "\n")
	if more {
		return fmt.Sprintf("%s … and %d more lines", first, strings.Count(rest, "\n")+1)
	}
	return v.Text
}

func (c *cli) credentialEdit() *cobra.Command {
	var f inputFlags
	var name string
	var validate bool
	cmd := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change what the flags name, or edit the whole credential as YAML",
		Long: `Change a credential. What no flag names stays as it is, secrets among it; a rename breaks
nothing. Without such flags, on a terminal, $VISUAL or $EDITOR opens the credential as YAML.`,
		Example: `  grantway credential edit sales --scopes "mail.read mail.send" --validate
  grantway credential edit sales --secret-stdin <new-secret.txt
  grantway credential edit sales --name sales-emea`,
		Args: cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.Credential(ctx, args[0])
			if err != nil {
				return err
			}
			if !f.given() {
				return c.editText(ctx, hub, one, validate)
			}
			before := one.Name
			if f.flags.Changed("name") {
				one.Name = name
			}
			if err := f.set(c, &one); err != nil {
				return err
			}
			saved, err := hub.UpdateCredential(ctx, before, one)
			if err != nil {
				return err
			}
			return c.saved(ctx, hub, saved, "changed", validate)
		}),
		ValidArgsFunction: c.credentialNames(1),
	}
	f.register(cmd)
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().BoolVar(&validate, "validate", false, "validate the credential once it is changed")
	return cmd
}

func (c *cli) credentialRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"delete"},
		Short:   "Delete a credential and its tokens",
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			if err := c.confirm(yes, "credential", args[0]); err != nil {
				return err
			}
			if err := hub.DeleteCredential(ctx, args[0]); err != nil {
				return err
			}
			return c.deleted("credential", args[0])
		}),
		ValidArgsFunction: c.credentialNames(1),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// deleted tells that a thing is gone; the API says nothing then.
func (c *cli) deleted(kind, name string) error {
	if c.json {
		return nil
	}
	return c.print(nil, func(p *page) { p.row(kind + " " + name + " deleted") })
}

func (c *cli) credentialStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status [NAME…]",
		Short: "Show health, last success, last error and expiry; of all credentials if none is named",
		Long: `Show how credentials are doing, all of them if none is named. The exit code is 3 when one is
degraded (the last token request failed, a valid token is still served) or failing.`,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			if len(args) == 1 {
				s, err := hub.Status(ctx, args[0])
				if err != nil {
					return err
				}
				return errors.Join(c.print(s, func(p *page) { statusFacts(p, args[0], s) }), unhealthy(s))
			}
			if len(args) == 0 {
				list, err := collect(hub.Credentials(ctx))
				if err != nil {
					return err
				}
				args = names(list.Items)
			}
			states, err := statuses(ctx, hub, args)
			if err != nil {
				return err
			}
			err = c.print(grantway.Page[grantway.Status]{Items: states}, func(p *page) {
				p.row("NAME", "HEALTH", "TOKEN EXPIRES", "LAST SUCCESS", "LAST ERROR")
				for i, s := range states {
					p.row(args[i], health(s), when(s.TokenExpiresAt), when(s.LastSuccess), failureText(s.LastError))
				}
			})
			return errors.Join(err, unhealthy(states...))
		}),
		ValidArgsFunction: c.credentialNames(1000),
	}
}

func statusFacts(p *page, name string, s grantway.Status) {
	expires := when(s.TokenExpiresAt)
	if expires != "" && s.ExpirySource != "" {
		expires += ", by " + map[string]string{"response": "the provider's answer", "jwt": "the token's exp claim", "connector": "what the connector knows", "default": "default: the provider did not say"}[s.ExpirySource]
	}
	p.facts("Credential", name, "Health", health(s), "Last success", when(s.LastSuccess), "Last error", failureText(s.LastError))
	if s.LastError != nil {
		p.facts("  hint", s.LastError.Hint)
	}
	p.facts("Next try", when(s.NextTry), "Token expires", expires, "Token fingerprint", s.TokenFingerprint, "Secret expires", when(s.SecretExpiresAt))
	for _, w := range s.Warnings {
		p.facts("Warning", w)
	}
}

func failureText(f *grantway.Failure) string {
	if f == nil {
		return ""
	}
	return when(f.At) + ": " + f.Message
}

// unhealthy is nil when every state is good enough.
func unhealthy(states ...grantway.Status) error {
	bad := func(s grantway.Status) bool { return s.Health == grantway.Degraded || s.Health == grantway.Failing }
	if slices.ContainsFunc(states, bad) {
		return notOK{}
	}
	return nil
}
