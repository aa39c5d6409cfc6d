package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

// inputFlags are the flags that set the members of a credential. Flags that are not given
// change nothing.
type inputFlags struct {
	flags *pflag.FlagSet

	description, division      string
	secretStore, secretKey     string
	secretField, secretVersion string
	secretStdin                bool
	inputs, secretInputs       []string
}

// ownFlags are the inputs that have a flag of their own: client_id is --client-id. None of
// them is a secret.
var ownFlags = []string{"client_id", "token_endpoint", "scopes", "auth_method", "basic_encoding", "audience", "resource"}

const clientSecret = "client_secret"

func (f *inputFlags) register(cmd *cobra.Command) {
	f.flags = cmd.Flags()
	f.flags.StringVar(&f.description, "description", "", "what the credential is for")
	f.flags.StringVar(&f.division, "division", "", "division it belongs to")
	plain, err := connector.Load(grantway.PlainConnector)
	if err != nil {
		panic(err) // it is a part of this program
	}
	for _, key := range ownFlags {
		in, _ := plain.Input(key)
		name := flagName(key)
		f.flags.String(name, "", usage(in))
		if in.Enum != nil {
			cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(in.Enum, cobra.ShellCompDirectiveNoFileComp))
		}
	}
	f.flags.BoolVar(&f.secretStdin, "secret-stdin", false, "read the client secret from standard input; on a terminal, from a prompt")
	f.flags.StringVar(&f.secretStore, "secret-store", "", "the client secret stays in this secret store, under --secret-key")
	f.flags.StringVar(&f.secretKey, "secret-key", "", "key of the client secret in --secret-store")
	f.flags.StringVar(&f.secretField, "secret-field", "", "member of it, when the secret in the store is a JSON object")
	f.flags.StringVar(&f.secretVersion, "secret-version", "", "version of it; the newest if left out")
	f.flags.StringArrayVar(&f.inputs, "input", nil, "`KEY=VALUE` sets another input, KEY=@FILE from a file, KEY= removes it; repeatable")
	f.flags.StringArrayVar(&f.secretInputs, "secret-input", nil, "`KEY` reads another secret input like --secret-stdin, KEY=@FILE reads it from a file, KEY=STORE:KEY refers to a secret store, KEY= removes it; repeatable")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if strings.HasSuffix(err.Error(), "--client-secret") {
			return usagef("no flag takes a secret, since other programs can see it: use --secret-stdin, or --secret-store and --secret-key")
		}
		return err
	})
	cmd.RegisterFlagCompletionFunc("input", completeKeys(plain, false))
	cmd.RegisterFlagCompletionFunc("secret-input", completeKeys(plain, true))
}

func flagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

func usage(in connector.Input) string {
	if in.Enum != nil {
		return fmt.Sprintf("%s: %s (default %s)", strings.ToLower(in.Title), strings.Join(in.Enum, ", "), in.Default)
	}
	return strings.ToLower(in.Title)
}

func completeKeys(def *connector.Definition, secret bool) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var keys []cobra.Completion
		for _, in := range def.Inputs {
			if (in.Type == connector.SecretText) != secret || slices.Contains(ownFlags, in.Key) {
				continue
			}
			key := in.Key
			if !secret {
				key += "="
			}
			keys = append(keys, cobra.CompletionWithDesc(key, in.Title))
		}
		return keys, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	}
}

// given says whether any flag that changes the credential was given.
func (f *inputFlags) given() (given bool) {
	f.flags.Visit(func(flag *pflag.Flag) {
		given = given || !slices.Contains([]string{"data", "json", "validate"}, flag.Name)
	})
	return given
}

// set changes what the flags name in one.
func (f *inputFlags) set(c *cli, one *grantway.Credential) error {
	def, err := definition(*one)
	if err != nil {
		return err
	}
	if f.flags.Changed("description") {
		one.Description = f.description
	}
	if f.flags.Changed("division") {
		one.Division = f.division
	}
	if one.Inputs == nil {
		one.Inputs = grantway.Inputs{}
	}
	for _, key := range ownFlags {
		if flag := f.flags.Lookup(flagName(key)); flag.Changed {
			one.Inputs[key] = grantway.Text(flag.Value.String())
		}
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

// plainInput reads one --input.
func plainInput(def *connector.Definition, assignment string) (string, grantway.Value, error) {
	key, text, ok := strings.Cut(assignment, "=")
	in, known := def.Input(key)
	switch {
	case !known:
		return "", grantway.Value{}, usagef("--input: %s has no input of that name; it has %s", def.Name, keys(def, false))
	case in.Type == connector.SecretText: // its value, if one was given, is not repeated
		return "", grantway.Value{}, usagef("--input: %s is a secret and must not be an argument, which other programs can see; use --secret-input %s=@FILE", key, key)
	case !ok:
		return "", grantway.Value{}, usagef("--input %s: a value is missing: %s=VALUE", key, key)
	}
	if path, isFile := strings.CutPrefix(text, "@"); isFile {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", grantway.Value{}, fmt.Errorf("--input %s: %w", key, err)
		}
		text = string(content)
		if in.Type != connector.PEM {
			text = strings.TrimRight(text, "\r\n")
		}
	}
	value := grantway.Text(text)
	if in.Type == connector.Parameters && text != "" {
		if json.Unmarshal([]byte(text), &value) != nil || value.Params == nil {
			return "", value, usagef(`--input %s: must be a list such as [{"in": "body", "name": "tenant", "value": "t1"}]`, key)
		}
	}
	return key, value, nil
}

// setSecrets sets the secret inputs. At most one can come from standard input, since
// nothing tells where one ends and the next begins; a prompt can ask for many.
func (f *inputFlags) setSecrets(c *cli, def *connector.Definition, inputs grantway.Inputs) error {
	assignments := slices.Clone(f.secretInputs)
	byKey := f.secretStore != "" && f.secretKey != ""
	switch {
	case !byKey && (f.secretField != "" || f.secretVersion != ""):
		return usagef("--secret-field and --secret-version go with --secret-store and --secret-key")
	case !byKey && (f.secretStore != "" || f.secretKey != ""):
		return usagef("--secret-store and --secret-key go together")
	case byKey && f.secretStdin:
		return usagef("the client secret comes from --secret-stdin or from --secret-store, not from both")
	case byKey:
		assignments = append(assignments, clientSecret+"="+f.secretStore+":"+f.secretKey)
	case f.secretStdin:
		assignments = append(assignments, clientSecret)
	}
	var read []connector.Input
	for _, assignment := range assignments {
		key, reference, refers := strings.Cut(assignment, "=")
		in, known := def.Input(key)
		if !known || in.Type != connector.SecretText {
			return usagef("--secret-input: %s has no secret input of that name; it has %s", def.Name, keys(def, true))
		}
		store, name, ok := strings.Cut(reference, ":")
		switch {
		case !refers:
			read = append(read, in)
		case reference == "":
			inputs[key] = grantway.Text("")
		case strings.HasPrefix(reference, "@"):
			secret, err := secretFile(in.Title, reference[1:])
			if err != nil {
				return err
			}
			inputs[key] = grantway.Text(string(secret))
		case !ok || store == "" || name == "": // it may be a secret, so it is not repeated
			return usagef("--secret-input %s: after the = comes @FILE or STORE:KEY, the place of the secret; the secret itself must not be an argument", key)
		default:
			inputs[key] = grantway.Value{Ref: &grantway.SecretRef{Store: store, Key: name}}
		}
	}
	if len(read) > 1 && !terminal(c.in) {
		return usagef("only one secret can come from standard input; use --secret-input KEY=@FILE, a terminal or secret stores")
	}
	if byKey {
		ref := inputs[clientSecret].Ref
		ref.Field, ref.Version = f.secretField, f.secretVersion
	}
	for _, in := range read {
		secret, err := c.readSecret(in.Title)
		if err != nil {
			return err
		}
		inputs[in.Key] = grantway.Text(string(secret))
	}
	return nil
}

// askMissing asks for the client secret of a new credential if it needs one and no flag
// said where it comes from.
func askMissing(c *cli, one *grantway.Credential) error {
	def, err := definition(*one)
	if err != nil {
		return err
	}
	in, _ := def.Input(clientSecret)
	var missing []string // besides the client secret, which nobody should type in vain
	needed := false
	for _, field := range def.Check(one.Inputs) {
		switch key := fieldName(field); {
		case key == clientSecret:
			needed = isEmpty(one.Inputs[key])
		case isEmpty(one.Inputs[key]):
			missing = append(missing, flagOf(def, key))
		}
	}
	if _, given := one.Inputs[clientSecret]; given || !needed {
		return nil
	}
	if missing != nil {
		return usagef("a new credential also needs %s", strings.Join(missing, " and "))
	}
	if !terminal(c.in) {
		return usagef("where is the client secret? give it on standard input with --secret-stdin, or name its place with --secret-store and --secret-key")
	}
	secret, err := c.readSecret(in.Title)
	one.Inputs[clientSecret] = grantway.Text(string(secret))
	return err
}

// flagOf is how a command line gives an input.
func flagOf(def *connector.Definition, key string) string {
	switch in, _ := def.Input(key); {
	case slices.Contains(ownFlags, key):
		return "--" + flagName(key)
	case in.Type == connector.SecretText:
		return "--secret-input " + key + "=@FILE"
	}
	return "--input " + key + "=VALUE"
}

// definition finds the connector of a credential.
func definition(one grantway.Credential) (*connector.Definition, error) {
	name := cmp.Or(one.Connector, grantway.PlainConnector)
	def, err := connector.Load(name)
	if err != nil {
		return nil, errors.New("this grantway does not know the connector " + name + "; use the version that the hub has")
	}
	return def, nil
}

// keys lists the inputs of def, the secret ones or the others.
func keys(def *connector.Definition, secret bool) string {
	var list []string
	for _, in := range def.Inputs {
		if (in.Type == connector.SecretText) == secret {
			list = append(list, in.Key)
		}
	}
	return strings.Join(list, ", ")
}
