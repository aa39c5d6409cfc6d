package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/secret"
)

func (c *cli) applyCommand() *cobra.Command {
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make credentials, connectors, divisions, secret stores and OAuth clients what a YAML file says",
		Long: `Create or update the credentials, connectors, divisions, secret stores and OAuth clients of a YAML file; what
the file does not name stays as it is. Everything is checked before anything is written. A secret is best a
reference into a secret store; one that is left out keeps its stored value.

  kind: credential
  name: sales
  description: mail of the sales team
  inputs:
    client_id: sales
    client_secret: {store: env, key: SALES_SECRET}
    token_endpoint: https://login.example.com/token
    scopes: mail.read mail.send
    extra_parameters:
      - {in: body, name: tenant, value: t1}
  ---
  kind: division
  name: emea
  ---
  kind: secret_store
  name: bao
  type: vault
  inputs:
    address: https://bao.example.com:8200
    token: {store: env, key: BAO_TOKEN}
  ---
  kind: connector      # the rest of the document is the definition
  name: acme
  title: Acme
  extends: oauth2
  defaults: {token_endpoint: https://login.acme.example/token}
  ---
  kind: client
  name: mailer
  roles:
    - {role: application, division: emea}`,
		Args: cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			if file == "" {
				return usagef("apply needs -f FILE; - is standard input")
			}
			objects, err := c.readObjects(file)
			if err != nil {
				return err
			}
			changes, err := plan(ctx, hub, objects)
			if err != nil {
				return err
			}
			return c.carryOut(ctx, hub, changes, dryRun)
		}),
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML file; - is standard input")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check everything and say what would be done")
	return cmd
}

// change is what becomes of one object.
type change struct {
	object
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Result string `json:"result"` // created, updated, unchanged

	ClientID     string `json:"client_id,omitempty"`     // of a client that was created
	ClientSecret string `json:"client_secret,omitempty"` // shown this once
}

// plan compares objects with the hub and finds everything wrong that can be found without
// writing. What others refer to comes first: credentials refer to secret stores, divisions and
// connectors, and clients to divisions and credentials.
func plan(ctx context.Context, hub *grantway.Client, objects []object) ([]change, error) {
	order := []string{kindStore, kindDivision, kindConnector, kindCredential, kindClient}
	slices.SortStableFunc(objects, func(a, b object) int { return slices.Index(order, a.kind) - slices.Index(order, b.kind) })
	connectors := map[string]fileConnector{}
	divisions := map[string]grantway.Division{}
	for d, err := range hub.Divisions(ctx) {
		if err != nil {
			return nil, err
		}
		divisions[d.Name] = d
	}
	stores := map[string]grantway.SecretStore{}
	if slices.ContainsFunc(objects, func(o object) bool { return o.kind == kindStore }) {
		list, err := hub.SecretStores(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			stores[s.Name] = s
		}
	}
	var changes []change
	var fields []grantway.Field
	for _, o := range objects {
		one := change{object: o, Kind: o.kind, Name: o.name()}
		var wrong []grantway.Field
		switch o.kind {
		case kindStore:
			stored, found := stores[o.store.Name]
			one.store.Version = stored.Version
			one.Result, wrong = compareStore(stored, found, o.store)
		case kindDivision:
			one.Result, wrong = compareDivision(divisions, o.division)
			divisions[o.division.Name] = o.division
		case kindConnector:
			var err error
			if one.connector, one.Result, wrong, err = compareConnector(ctx, hub, connectors, objects, o.connector); err != nil {
				return nil, err
			}
		case kindClient:
			stored, found, err := findStoredClient(ctx, hub, o.client.Name)
			if err != nil {
				return nil, err
			}
			one.client.ID = stored.ID
			one.Result = compareClient(stored, found, o)
		default:
			stored, found, err := find(ctx, hub, o.credential.Name)
			if err != nil {
				return nil, err
			}
			if d := o.credential.Division; d != "" && divisions[d].Name == "" {
				wrong = append(wrong, grantway.Field{Pointer: "/division", Detail: "is not a division of the hub, nor of the file"})
			}
			one.credential.ID, one.credential.Version = stored.ID, stored.Version
			def, err := connectorFor(ctx, hub, connectors, o.credential, stored)
			if err != nil {
				wrong = append(wrong, grantway.Field{Pointer: "/connector", Detail: err.Error()})
				break
			}
			result, more := compareCredential(def, stored, found, o.credential)
			one.Result, wrong = result, append(wrong, more...)
		}
		for _, f := range wrong {
			fields = append(fields, o.field(f))
		}
		changes = append(changes, one)
	}
	if fields != nil {
		return nil, placedError{&grantway.Error{Code: grantway.Invalid, Message: "the file cannot be applied as it is; nothing was changed", Fields: fields}}
	}
	return changes, nil
}

// The results of a change.
const (
	created   = "created"
	updated   = "updated"
	unchanged = "unchanged"
)

func compareDivision(stored map[string]grantway.Division, want grantway.Division) (string, []grantway.Field) {
	old, found := stored[want.Name]
	switch {
	case !found:
		return created, nil
	case want.Description != "" && old.Description != want.Description:
		return "", []grantway.Field{{Pointer: "/description", Detail: "is another one in the hub, and a division's description cannot be changed"}}
	}
	return unchanged, nil
}

// compareStore is compareCredential for a secret store.
func compareStore(stored grantway.SecretStore, found bool, want grantway.SecretStore) (string, []grantway.Field) {
	k, ok := secret.FindKind(want.Kind)
	if !ok {
		return "", []grantway.Field{{Pointer: "/type", Detail: "must be one of " + strings.Join(kindNames(), ", ")}}
	}
	merged := merge(&k.Definition, stored.Inputs, want.Inputs)
	if found && stored.Kind == want.Kind && stored.Description == want.Description && sameInputs(stored.Inputs, merged) {
		return unchanged, nil
	}
	if found {
		return updated, k.Check(merged)
	}
	return created, k.Check(merged)
}

// merge is what the hub would store: inputs in place of the old ones, of which secrets that
// are left out stay.
func merge(def *connector.Definition, old, inputs grantway.Inputs) grantway.Inputs {
	merged := grantway.Inputs{}
	for key, v := range old {
		if v.Set || v.Ref != nil {
			merged[key] = v
		}
	}
	for key, v := range inputs {
		if isEmpty(v) {
			delete(merged, key)
			continue
		}
		if in, _ := def.Input(key); in.Type == connector.Scopes {
			v.Text = strings.Join(strings.Fields(v.Text), " ")
		}
		merged[key] = v // a secret that is given as text is never the same: nobody can look
	}
	return merged
}

func sameInputs(a, b grantway.Inputs) bool {
	return maps.EqualFunc(a, b, func(a, b grantway.Value) bool { return reflect.DeepEqual(a, b) })
}

// find returns the stored credential of that name, if there is one.
func find(ctx context.Context, hub *grantway.Client, name string) (grantway.Credential, bool, error) {
	stored, err := hub.Credential(ctx, name)
	var e *grantway.Error
	if errors.As(err, &e) && e.Code == grantway.NotFound {
		return grantway.Credential{}, false, nil
	}
	return stored, err == nil, err
}

// compareCredential says what a save of want would be, and what is wrong with it.
func compareCredential(def *connector.Definition, stored grantway.Credential, found bool, want grantway.Credential) (string, []grantway.Field) {
	merged := merge(def, stored.Inputs, want.Inputs)
	same := found && stored.Name == want.Name && stored.Description == want.Description &&
		stored.Division == division(want) && stored.Connector == def.Name && (want.ConnectorVersion == 0 || want.ConnectorVersion == stored.ConnectorVersion) &&
		reflect.DeepEqual(stored.RateLimit, want.RateLimit) && stored.TimeZone == want.TimeZone
	if same && sameInputs(stored.Inputs, merged) {
		return unchanged, nil
	}
	if found {
		return updated, def.Check(merged)
	}
	return created, def.Check(merged)
}

func division(c grantway.Credential) string {
	if c.Division == "" {
		return grantway.DefaultDivision
	}
	return c.Division
}

func isEmpty(v grantway.Value) bool {
	return v.Text == "" && v.Ref == nil && !v.Set && len(v.Params) == 0
}

// carryOut makes the changes in order and prints each. It stops at the first that fails.
func (c *cli) carryOut(ctx context.Context, hub *grantway.Client, changes []change, dryRun bool) error {
	var failed error
	done := 0
	for ; done < len(changes) && failed == nil && !dryRun; done++ {
		failed = c.carryOutOne(ctx, hub, &changes[done])
	}
	if failed != nil {
		done--
		if left := len(changes) - done - 1; left > 0 {
			failed = fmt.Errorf("%w (%d more were not tried)", failed, left)
		}
	}
	if dryRun {
		done = len(changes)
	}
	return errors.Join(c.print(grantway.Page[change]{Items: changes[:done]}, func(p *page) {
		for _, one := range changes[:done] {
			result := one.Result
			if dryRun && result != unchanged {
				result = "would be " + result
			}
			p.row(one.Kind, one.Name, result)
			if one.ClientSecret != "" {
				p.row("", "GRANTWAY_CLIENT_ID="+one.ClientID)
				p.row("", "GRANTWAY_CLIENT_SECRET="+one.ClientSecret)
			}
		}
	}), failed)
}

func (c *cli) carryOutOne(ctx context.Context, hub *grantway.Client, one *change) (err error) {
	var saved grantway.Credential
	switch {
	case one.Result == unchanged:
	case one.kind == kindDivision:
		_, err = hub.CreateDivision(ctx, one.division)
	case one.kind == kindConnector:
		var connector grantway.Connector
		if one.Result == created {
			connector, err = hub.CreateConnector(ctx, one.connector.text)
		} else {
			connector, err = hub.UpdateConnector(ctx, one.connector.name, one.connector.text, one.connector.revision, false)
		}
		for _, f := range connector.Findings {
			c.note("warning: connector %s: %s", one.connector.name, f)
		}
	case one.kind == kindStore && one.Result == created:
		_, err = hub.CreateSecretStore(ctx, one.store)
	case one.kind == kindStore:
		_, err = hub.UpdateSecretStore(ctx, one.store.Name, one.store)
	case one.kind == kindClient && one.Result == created:
		var made grantway.OAuthClient
		made, err = hub.CreateOAuthClient(ctx, one.client)
		one.ClientID, one.ClientSecret = made.ID, made.Secret
	case one.kind == kindClient:
		_, err = hub.PatchOAuthClient(ctx, one.client.ID, 0, one.patch)
	case one.Result == created:
		saved, err = hub.CreateCredential(ctx, one.credential)
	default:
		saved, err = hub.UpdateCredential(ctx, one.credential.ID, one.credential)
	}
	if err != nil {
		return one.locate(err)
	}
	for _, w := range saved.Warnings {
		c.note("warning: %s: %s", one.field(w).Pointer, w.Detail)
	}
	return nil
}

func (c *cli) exportCommand() *cobra.Command {
	var clients bool
	cmd := &cobra.Command{
		Use:   "export [NAME…]",
		Short: "Print credentials, connectors, divisions, secret stores and OAuth clients as YAML that apply reads",
		Long: `Print credentials, all of them if none is named, with divisions, secret stores and own connectors then,
as YAML that apply reads again. OAuth clients belong to one hub, so they are there with --clients only.
Secrets in secret stores are there as references. Secrets stored in the hub never leave it;
a comment stands where they would be.`,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, args []string) error {
			list, err := c.chosen(ctx, hub, args)
			if err != nil {
				return err
			}
			if c.json {
				return c.print(list, nil)
			}
			for _, one := range list.Items {
				if one.Version == 0 { // only its name was shown
					return grantway.Errorf(grantway.Forbidden, "this client may not read the settings of credential %s", one.Name)
				}
			}
			var text []byte
			next := func() {
				if text != nil {
					text = append(text, "---\n"...)
				}
			}
			if len(args) == 0 {
				for d, err := range hub.Divisions(ctx) {
					if err != nil {
						return err
					}
					if d.Name != grantway.DefaultDivision {
						next()
						text = appendDivision(text, d)
					}
				}
				stores, err := hub.SecretStores(ctx)
				if err != nil {
					return err
				}
				for _, s := range stores {
					if s.Version != 0 { // env and file are always there
						next()
						text = appendStore(text, s)
					}
				}
				connectors, err := ownConnectors(ctx, hub)
				if err != nil {
					return err
				}
				for _, one := range connectors {
					next()
					text = appendConnector(text, one)
				}
			}
			for _, one := range list.Items {
				next()
				text = appendCredential(text, one)
			}
			if clients {
				for one, err := range hub.OAuthClients(ctx) {
					if err == nil {
						next()
						text, err = appendClient(text, one)
					}
					if err != nil {
						return err
					}
				}
			}
			_, err = c.out.Write(text)
			return err
		}),
		ValidArgsFunction: c.credentialNames(1000),
	}
	cmd.Flags().BoolVar(&clients, "clients", false, "print the OAuth clients of the hub, too")
	return cmd
}

// chosen reads the named credentials, or all if there are no names.
func (c *cli) chosen(ctx context.Context, hub *grantway.Client, names []string) (grantway.Page[grantway.Credential], error) {
	if len(names) == 0 {
		return collect(hub.Credentials(ctx))
	}
	var list grantway.Page[grantway.Credential]
	for _, name := range names {
		one, err := hub.Credential(ctx, name)
		if err != nil {
			return list, err
		}
		list.Items = append(list.Items, one)
	}
	return list, nil
}
