package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
)

func (c *cli) credentialValidate() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "validate NAME | validate -f FILE",
		Short: "Make one token request and report each step",
		Long: `Make one token request with a stored credential, or with the credentials of a YAML file,
which are not stored, and report each step. Secrets that the file leaves out are those of
the stored credential of that name. The exit code is 3 when a step failed.`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			switch {
			case (file == "") == (len(args) == 0):
				return usagef("validate takes either the NAME of a stored credential or -f FILE")
			case file == "":
				return c.validate(ctx, hub, args[0])
			}
			return c.validateFile(ctx, hub, file)
		}),
		ValidArgsFunction: c.credentialNames(1),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML file, like that of apply; - is standard input")
	return cmd
}

func (c *cli) validate(ctx context.Context, hub *grantway.Client, name string) error {
	report, err := hub.ValidateCredential(ctx, name)
	if err != nil {
		return err
	}
	return c.report(report)
}

func (c *cli) validateFile(ctx context.Context, hub *grantway.Client, file string) error {
	objects, err := c.readObjects(file)
	if err != nil {
		return err
	}
	var failed []error
	for _, o := range objects {
		if o.kind != kindCredential {
			continue
		}
		stored, found, err := find(ctx, hub, o.credential.Name)
		if err != nil {
			return err
		}
		if found {
			o.credential.ID = stored.ID
		}
		report, err := hub.ValidateDraft(ctx, o.credential)
		if err != nil {
			return o.locate(err)
		}
		if !c.json && len(objects) > 1 {
			c.note("credential %s", o.credential.Name)
		}
		failed = append(failed, c.report(report))
	}
	return errors.Join(failed...)
}

// report prints what a validation found; the error is notOK if that is a failure.
func (c *cli) report(r grantway.Report) error {
	err := c.print(r, func(p *page) {
		for _, s := range r.Steps {
			sign := map[string]string{"ok": "✓", "warning": "!"}[s.Result]
			if sign == "" {
				sign = "✗"
			}
			p.mark(sign, sign != "✗")
			p.row(s.Name, fmt.Sprintf("%d ms", s.Millis), s.Message)
			if s.Hint != "" {
				p.row("", "", "→ "+s.Hint)
			}
		}
		if len(r.Claims) > 0 {
			p.row("claims of the token (signature not verified)")
		}
		for _, name := range slices.Sorted(maps.Keys(r.Claims)) {
			p.facts("  "+name, claim(r.Claims[name]))
		}
	})
	if err == nil && !r.OK {
		return notOK{}
	}
	return err
}

// claim is a claim as text: a string as it is, times readable, all else as JSON.
func claim(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		if v > 1e9 && v < 1e11 { // exp, iat, nbf: seconds since 1970 (RFC 7519 section 2)
			return when(time.Unix(int64(v), 0))
		}
	}
	text, _ := json.Marshal(v) // what was JSON once
	return string(text)
}
