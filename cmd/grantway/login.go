package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/zalando/go-keyring"

	"github.com/grantway/grantway"
)

// contexts are the hubs that somebody has logged in to. They are in a file of the user, their
// secrets in the keyring of the operating system where there is one, else in the file too,
// which only its owner can read.
type contexts struct {
	Current string                `json:"current"`
	Hubs    map[string]hubContext `json:"hubs"`

	path string
}

type hubContext struct {
	URL      string `json:"url"`
	ClientID string `json:"client_id"`
	Secret   string `json:"client_secret,omitempty"` // "": in the keyring
}

// keyringService is the name under which the keyring has our secrets, by the name of the context.
const keyringService = "grantway"

func readContexts() (*contexts, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, err
	}
	all := &contexts{path: filepath.Join(dir, "grantway", "contexts.json"), Hubs: map[string]hubContext{}}
	text, err := os.ReadFile(all.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil && json.Unmarshal(text, all) != nil {
		err = fmt.Errorf("%s is not what grantway login writes", all.path)
	}
	return all, err
}

// write replaces the file as a whole.
func (c *contexts) write() error {
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	fresh, err := os.CreateTemp(filepath.Dir(c.path), "contexts-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(fresh.Name())
	if _, err = fresh.Write(append(text, '\n')); err != nil {
		return errors.Join(err, fresh.Close())
	}
	return errors.Join(fresh.Close(), os.Rename(fresh.Name(), c.path))
}

// options is how to sign in to the hub of a context.
func (c *contexts) options(name string) (o grantway.Options, ok bool, err error) {
	hub, ok := c.Hubs[name]
	if !ok {
		return o, false, nil
	}
	if hub.Secret == "" {
		if hub.Secret, err = keyring.Get(keyringService, name); err != nil {
			return o, true, fmt.Errorf("the secret of context %s is not in the keyring: %w; log in again", name, err)
		}
	}
	return grantway.Options{URL: hub.URL, ClientID: hub.ClientID, ClientSecret: grantway.Secret(hub.Secret)}, true, nil
}

func (c *cli) loginCommand() *cobra.Command {
	var id, name string
	cmd := &cobra.Command{
		Use:   "login URL --client-id ID",
		Short: "Sign in to a hub, and keep how for the next commands",
		Long: `Sign in to a hub with a client id and its secret, which is asked for or read from standard
input, and keep both for the next commands: the secret in the keyring of the operating system
where there is one, else in a file that only you can read. Each hub is a context; "context use"
chooses one. GRANTWAY_URL and its like, and --data, go before it.`,
		Example: `  grantway login https://grantway.example.com --client-id client_… --context prod`,
		Args:    cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, args []string) error {
			if id == "" {
				return usagef("login needs --client-id")
			}
			secret, err := c.readSecret("Client secret")
			if err != nil {
				return err
			}
			o := grantway.Options{URL: strings.TrimRight(args[0], "/"), ClientID: id, ClientSecret: secret}
			hub, err := grantway.NewClient(o)
			if err != nil {
				return err
			}
			defer hub.Close(context.WithoutCancel(ctx))
			c.hub = o.URL
			status, err := hub.Hub(ctx)
			if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.Forbidden { // signed in, with a role that sees no status
				status, err = grantway.HubStatus{Caller: id}, nil
			}
			if err != nil {
				return err
			}
			all, err := readContexts()
			if err != nil {
				return err
			}
			one := hubContext{URL: o.URL, ClientID: id}
			if err := keyring.Set(keyringService, name, string(secret)); err != nil {
				one.Secret = string(secret)
				c.note("there is no keyring here, so the secret is in %s, which only you can read", all.path)
			}
			all.Hubs[name], all.Current = one, name
			if err := all.write(); err != nil {
				return err
			}
			return c.print(map[string]string{"context": name, "url": o.URL, "caller": status.Caller}, func(p *page) {
				p.row("you are " + status.Caller + " at " + o.URL + ", in context " + name)
			})
		}),
	}
	cmd.Flags().StringVar(&id, "client-id", "", "of the OAuth client to sign in as")
	cmd.Flags().StringVar(&name, "context", "default", "name to keep it under")
	return cmd
}

func (c *cli) contextCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the hubs you have logged in to", Args: cobra.NoArgs,
		RunE: c.run(func(context.Context, []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			type row struct {
				Name     string `json:"name"`
				URL      string `json:"url"`
				ClientID string `json:"client_id"`
				Current  bool   `json:"current"`
			}
			rows := grantway.Page[row]{Items: []row{}}
			for _, name := range slices.Sorted(maps.Keys(all.Hubs)) {
				rows.Items = append(rows.Items, row{name, all.Hubs[name].URL, all.Hubs[name].ClientID, name == all.Current})
			}
			return c.print(rows, func(p *page) {
				p.row("NAME", "URL", "CLIENT", "")
				for _, r := range rows.Items {
					p.row(r.Name, r.URL, r.ClientID, map[bool]string{true: "current"}[r.Current])
				}
			})
		}),
	}
	use := &cobra.Command{
		Use: "use NAME", Short: "Choose the hub of the next commands", Args: cobra.ExactArgs(1),
		RunE: c.run(func(_ context.Context, args []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			if _, ok := all.Hubs[args[0]]; !ok {
				return usagef("there is no context %s; log in with --context %s", args[0], args[0])
			}
			all.Current = args[0]
			return all.write()
		}),
	}
	remove := &cobra.Command{
		Use: "rm NAME", Aliases: []string{"logout"}, Short: "Forget a hub, and the secret for it", Args: cobra.ExactArgs(1),
		RunE: c.run(func(_ context.Context, args []string) error {
			all, err := readContexts()
			if err != nil {
				return err
			}
			if _, ok := all.Hubs[args[0]]; !ok {
				return usagef("there is no context %s", args[0])
			}
			keyring.Delete(keyringService, args[0]) // it may be in the file
			delete(all.Hubs, args[0])
			if all.Current == args[0] {
				all.Current = ""
			}
			return all.write()
		}),
	}
	return group("context", "Manage the hubs you have logged in to", list, use, remove)
}
