package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

func (c *cli) connectorList() *cobra.Command {
	var q grantway.ConnectorQuery
	cmd := &cobra.Command{
		Use:   "list [WORD…]",
		Short: "List the connectors that credentials can be made of, or those that have all the words",
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			q.Search = strings.Join(args, " ")
			list, err := collect(hub.Connectors(ctx, q))
			if err != nil {
				return err
			}
			return c.print(list, func(p *page) {
				p.row("NAME", "TITLE", "SOURCE", "VERSION", "CATEGORIES", "STATE")
				for _, one := range list.Items {
					p.row(one.Name, one.Title, one.Source, strconv.FormatInt(one.Version, 10), strings.Join(one.Categories, ", "), connectorState(one))
				}
			})
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&q.Source, "source", "", "catalog: those that come with the hub; own: those made or imported")
	cmd.Flags().StringVar(&q.Category, "category", "", "only those of a category, such as crm")
	cmd.RegisterFlagCompletionFunc("source", cobra.FixedCompletions([]string{grantway.CatalogConnector, grantway.OwnConnector}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func connectorState(one grantway.Connector) string {
	switch {
	case one.Broken:
		return "broken: " + findings(one)[0]
	case one.Unverified:
		return "unverified"
	case one.Findings != nil:
		return "ok, with warnings"
	}
	return "ok"
}

// findings are what was found in a definition, what is wrong first.
func findings(one grantway.Connector) []string {
	wrong, suspicious := []string{}, []string{}
	for _, f := range one.Findings {
		if f.Warning {
			suspicious = append(suspicious, "warning: "+f.String())
		} else {
			wrong = append(wrong, f.String())
		}
	}
	return append(append(wrong, suspicious...), "it does not compile")
}

func (c *cli) connectorShow() *cobra.Command {
	var version int64
	var text bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a connector and what it asks for, or with --yaml its definition",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := getConnector(ctx, hub, args[0], version)
			if err != nil {
				return err
			}
			if text && !c.json {
				_, err := io.WriteString(c.out, one.YAML)
				return err
			}
			return c.print(one, func(p *page) { connectorFacts(p, one) })
		}),
		ValidArgsFunction: c.connectorNames(grantway.ConnectorQuery{}),
	}
	cmd.Flags().Int64Var(&version, "version", 0, "a version other than the newest")
	cmd.Flags().BoolVar(&text, "yaml", false, "print the definition as it was written")
	return cmd
}

func getConnector(ctx context.Context, hub *grantway.Client, name string, version int64) (grantway.Connector, error) {
	if version == 0 {
		return hub.Connector(ctx, name)
	}
	return hub.ConnectorVersion(ctx, name, version)
}

func connectorFacts(p *page, one grantway.Connector) {
	p.facts("Name", one.Name, "Title", one.Title, "Description", one.Description, "Vendor", one.Vendor, "Source", one.Source,
		"Version", fmt.Sprintf("%d of %d", one.Version, one.Newest), "Extends", one.Extends, "Categories", strings.Join(one.Categories, ", "),
		"Documentation", one.Documentation, "Checked", one.Checked, "State", connectorState(one),
		"Created", when(one.CreatedAt), "Changed", when(one.UpdatedAt), "Used by", strings.Join(one.UsedBy, ", "))
	for _, f := range one.Findings {
		p.facts("Finding", f.String())
	}
	def, err := compiled(one)
	if err != nil {
		return
	}
	p.row("Inputs")
	for _, in := range def.Inputs {
		p.row("  "+in.Key, in.Title, string(in.Type), inputState(in))
	}
	if len(def.Source.Endpoints) > 0 {
		p.row("Endpoints")
	}
	for _, e := range def.Source.Endpoints {
		p.row("  "+e.Name, e.Title, cmp.Or(e.Method, http.MethodGet), e.Path)
	}
}

func inputState(in connector.Input) string {
	switch {
	case in.Locked:
		return "fixed: " + in.Default
	case in.Default != "":
		return "default " + in.Default
	case in.Required:
		return "required"
	case in.RequiredWhen != nil:
		return "required at times"
	}
	return "optional"
}

// compiled is the definition of a connector of the hub, ready to check inputs with.
func compiled(one grantway.Connector) (*connector.Definition, error) {
	if one.Definition == nil {
		return nil, fmt.Errorf("the connector %s is broken: %s", one.Name, findings(one)[0])
	}
	source, err := connector.ParseSource(one.Definition)
	if err != nil {
		return nil, fmt.Errorf("the definition of connector %s: %w", one.Name, err)
	}
	whole := *source // with what it inherits already
	whole.Extends, whole.Defaults, whole.Drop = "", nil, nil
	return connector.CompileSource(&whole, nil)
}

// readText reads a file; "-" is standard input.
func (c *cli) readText(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(c.in)
	}
	return os.ReadFile(file)
}

func (c *cli) connectorAdd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "add -f FILE",
		Short: "Add a connector; the file is its definition, in YAML",
		Args:  cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			if file == "" {
				return usagef("add needs -f FILE; - is standard input")
			}
			text, err := c.readText(file)
			if err != nil {
				return err
			}
			saved, err := hub.CreateConnector(ctx, text)
			if err != nil {
				return err
			}
			return c.savedConnector(saved, "created")
		}),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "definition; - is standard input")
	return cmd
}

// savedConnector tells what became of a connector, and what is suspicious about it.
func (c *cli) savedConnector(one grantway.Connector, done string) error {
	for _, f := range one.Findings {
		c.note("warning: %s", f)
	}
	return c.print(one, func(p *page) { p.row(fmt.Sprintf("connector %s version %d %s", one.Name, one.Version, done)) })
}

func (c *cli) connectorEdit() *cobra.Command {
	var file string
	var newVersion bool
	cmd := &cobra.Command{
		Use:   "edit NAME",
		Short: "Change the definition of an own connector, in an editor or from a file",
		Long: `Change the definition of an own connector: with -f from a file, else in $VISUAL or $EDITOR. An edit that
would break credentials is refused with the reasons; with --new-version it becomes the next
version, and credentials stay with the one they have until "credential edit --connector-version" moves them.`,
		Args: cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			one, err := hub.Connector(ctx, args[0])
			if err != nil {
				return err
			}
			if file == "" {
				return c.editConnector(ctx, hub, one, newVersion)
			}
			text, err := c.readText(file)
			if err != nil {
				return err
			}
			saved, err := hub.UpdateConnector(ctx, one.Name, text, one.Revision, newVersion)
			if err != nil {
				return err
			}
			return c.savedConnector(saved, "changed")
		}),
		ValidArgsFunction: c.connectorNames(grantway.ConnectorQuery{Source: grantway.OwnConnector}),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "definition; - is standard input")
	cmd.Flags().BoolVar(&newVersion, "new-version", false, "add the next version instead of changing the newest")
	return cmd
}

// editConnector is inEditor for a definition.
func (c *cli) editConnector(ctx context.Context, hub *grantway.Client, one grantway.Connector, newVersion bool) error {
	if !terminal(c.in) {
		return usagef("edit needs -f FILE, or a terminal for an editor")
	}
	ctx = context.WithoutCancel(ctx)
	var saved grantway.Connector
	changed, err := c.inEditor(ctx, []byte(one.YAML), func(text []byte) (err error) {
		saved, err = hub.UpdateConnector(ctx, one.Name, text, one.Revision, newVersion)
		return err
	})
	switch {
	case err != nil:
		return err
	case !changed:
		return c.savedConnector(one, "unchanged")
	}
	return c.savedConnector(saved, "changed")
}

func (c *cli) connectorCopy() *cobra.Command {
	return &cobra.Command{
		Use:   "copy NAME NEW-NAME",
		Short: "Store a copy of a connector under another name, to change it",
		Args:  cobra.ExactArgs(2),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			saved, err := hub.CopyConnector(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return c.savedConnector(saved, "created")
		}),
		ValidArgsFunction: c.connectorNames(grantway.ConnectorQuery{}),
	}
}

func (c *cli) connectorExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export [NAME…]",
		Short: "Print connectors as YAML that apply reads; all own ones if none is named",
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			var list grantway.Page[grantway.Connector]
			if len(args) == 0 {
				all, err := ownConnectors(ctx, hub)
				if err != nil {
					return err
				}
				list.Items = all
			}
			for _, name := range args {
				one, err := hub.Connector(ctx, name)
				if err != nil {
					return err
				}
				list.Items = append(list.Items, one)
			}
			if c.json {
				return c.print(list, nil)
			}
			var text []byte
			for i, one := range list.Items {
				if i > 0 {
					text = append(text, "---\n"...)
				}
				text = appendConnector(text, one)
			}
			_, err := c.out.Write(text)
			return err
		}),
		ValidArgsFunction: c.connectorNames(grantway.ConnectorQuery{}),
	}
}

// ownConnectors reads the newest version of every own connector, with its definition.
func ownConnectors(ctx context.Context, hub *grantway.Client) ([]grantway.Connector, error) {
	var list []grantway.Connector
	for listed, err := range hub.Connectors(ctx, grantway.ConnectorQuery{Source: grantway.OwnConnector}) {
		if err != nil {
			return nil, err
		}
		one, err := hub.Connector(ctx, listed.Name)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func (c *cli) connectorVersions() *cobra.Command {
	return &cobra.Command{
		Use:   "versions NAME",
		Short: "List the versions of a connector",
		Args:  cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			versions, err := hub.ConnectorVersions(ctx, args[0])
			if err != nil {
				return err
			}
			return c.print(grantway.Page[grantway.Connector]{Items: versions}, func(p *page) {
				p.row("VERSION", "TITLE", "CREATED", "CHANGED", "STATE")
				for _, one := range versions {
					p.row(strconv.FormatInt(one.Version, 10), one.Title, when(one.CreatedAt), when(one.UpdatedAt), connectorState(one))
				}
			})
		}),
		ValidArgsFunction: c.connectorNames(grantway.ConnectorQuery{}),
	}
}

func (c *cli) connectorTry() *cobra.Command {
	var f inputFlags
	var file string
	var preview bool
	var version int64
	cmd := &cobra.Command{
		Use:   "try {NAME | -f FILE}",
		Short: "Ask for a token with a connector and some inputs; nothing is stored; exit code 3 if there is none",
		Long: `Ask for a token with a connector of the hub or a definition in a file, and show the requests, the
answers and what was found in them. Secrets and tokens are masked. With --preview nothing is sent.`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			draft := grantway.ConnectorDraft{Inputs: grantway.Inputs{}}
			if (len(args) == 0) == (file == "") {
				return usagef("try needs the name of a connector, or -f FILE")
			}
			var def *connector.Definition
			if file != "" {
				text, err := c.readText(file)
				if err != nil {
					return err
				}
				draft.YAML = string(text)
				if def, err = draftDefinition(ctx, hub, text); err != nil {
					return err
				}
			} else {
				one, err := getConnector(ctx, hub, args[0], version)
				if err != nil {
					return err
				}
				draft.Connector, draft.ConnectorVersion = one.Name, version
				if def, err = compiled(one); err != nil {
					return err
				}
			}
			for _, assignment := range f.inputs {
				key, value, err := plainInput(def, assignment)
				if err != nil {
					return err
				}
				draft.Inputs[key] = value
			}
			if err := f.setSecrets(c, def, draft.Inputs); err != nil {
				return err
			}
			ask := hub.TryConnector
			if preview {
				ask = hub.PreviewConnector
			}
			trial, err := ask(ctx, draft)
			if err != nil {
				return err
			}
			err = c.print(trial, func(p *page) { trialRows(p, trial) })
			if err == nil && trial.Error != "" {
				return notOK{}
			}
			return err
		}),
		ValidArgsFunction: c.connectorNames(grantway.ConnectorQuery{}),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "definition that is not stored; - is standard input")
	cmd.Flags().Int64Var(&version, "version", 0, "a version other than the newest")
	cmd.Flags().BoolVar(&preview, "preview", false, "only show the requests")
	cmd.Flags().StringArrayVar(&f.inputs, "input", nil, "`KEY=VALUE` sets an input, KEY=@FILE from a file; repeatable")
	cmd.Flags().StringArrayVar(&f.secretInputs, "secret-input", nil, "`KEY` reads a secret input from standard input or a prompt, KEY=@FILE reads it from a file, KEY=STORE:KEY refers to a secret store; repeatable")
	return cmd
}

// draftDefinition compiles a definition that may extend connectors of the hub.
func draftDefinition(ctx context.Context, hub *grantway.Client, text []byte) (*connector.Definition, error) {
	var away error
	def, err := connector.Parse(text, func(name string) (*connector.Definition, bool) {
		one, err := hub.Connector(ctx, name)
		if err != nil {
			away = err
			return nil, false
		}
		parent, err := compiled(one)
		return parent, err == nil
	})
	if known := new(*grantway.Error); away != nil && !(errors.As(away, known) && (*known).Code == grantway.NotFound) {
		return nil, away
	}
	return def, err
}

func trialRows(p *page, trial grantway.ConnectorTrial) {
	for _, f := range trial.Findings {
		p.facts("Finding", f.String())
	}
	for _, r := range trial.Requests {
		p.row(strings.TrimSpace("Request " + r.Step))
		p.row("  " + r.Method + " " + r.URL)
		headerRows(p, r.Headers)
		for _, one := range r.Form {
			p.row("  " + one.Name + "=" + one.Value)
		}
		bodyRows(p, r.Body)
	}
	for _, a := range trial.Answers {
		p.row("Answer " + strconv.Itoa(a.Status))
		headerRows(p, a.Headers)
		bodyRows(p, a.Body)
	}
	if t := trial.Token; t != nil {
		p.row("Token")
		p.facts("  type", t.Type, "  length", strconv.Itoa(t.Length), "  expires", when(t.ExpiresAt), "  scope", t.Scope, "  fingerprint", t.Fingerprint, "  kept", strings.Join(t.Kept, ", "))
	}
	p.facts("Error", trial.Error, "  hint", trial.Hint)
}

func headerRows(p *page, headers []grantway.Header) {
	for _, one := range headers {
		p.row("  " + one.Name + ": " + one.Value)
	}
}

func bodyRows(p *page, body string) {
	if body == "" {
		return
	}
	p.row("")
	for line := range strings.SplitSeq(body, "\n") {
		p.row("  " + line)
	}
}

func (c *cli) connectorRemove() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"delete"},
		Short:   "Delete an own connector with all its versions",
		Args:    cobra.ExactArgs(1),
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			if err := c.confirm(yes, "connector", args[0]); err != nil {
				return err
			}
			if err := hub.DeleteConnector(ctx, args[0]); err != nil {
				return err
			}
			return c.deleted("connector", args[0])
		}),
		ValidArgsFunction: c.connectorNames(grantway.ConnectorQuery{Source: grantway.OwnConnector}),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// connectorNames completes the name of a connector.
func (c *cli) connectorNames(q grantway.ConnectorQuery) cobra.CompletionFunc {
	list := func(hub *grantway.Client, ctx context.Context) iter.Seq2[grantway.Connector, error] {
		return hub.Connectors(ctx, q)
	}
	return complete(c, 1, list, func(one grantway.Connector) string { return one.Name })
}
