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

	"github.com/rogpeppe/go-internal/lockedfile"
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
	Person   bool   `json:"person,omitempty"` // signed in by the browser: the secret is the text of a session
	Secret   string `json:"secret,omitempty"` // "": in the keyring
}

// keyringService is the name under which the keyring has our secrets, by the name of the context.
const keyringService = "grantway"

func contextsPath() (string, error) {
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "grantway", "contexts.json"), err
}

func readContexts() (*contexts, error) {
	path, err := contextsPath()
	if err != nil {
		return nil, err
	}
	all := &contexts{path: path, Hubs: map[string]hubContext{}}
	text, err := os.ReadFile(all.path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err == nil && json.Unmarshal(text, all) != nil {
		err = fmt.Errorf("%s is not what grantway login writes", all.path)
	}
	return all, err
}

// changeContexts changes the contexts and their secrets. Commands that do so at the same time wait for
// each other; nothing is written when change fails.
func changeContexts(change func(*contexts) error) error {
	path, err := contextsPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	unlock, err := lockedfile.MutexAt(path + ".lock").Lock() // the end of the process gives it up, too
	if err != nil {
		return err
	}
	defer unlock()
	all, err := readContexts()
	if err != nil {
		return err
	}
	if err := change(all); err != nil {
		return err
	}
	return all.write()
}

// write replaces the file as a whole.
func (c *contexts) write() error {
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

// keep puts a context under name, and its secret where secrets go.
func (c *contexts) keep(name string, hub hubContext, secret string) {
	if hub.Secret = ""; keyring.Set(keyringService, name, secret) != nil {
		hub.Secret = secret
	}
	c.Hubs[name] = hub
}

// secret is that of a context of this name, which there is.
func (c *contexts) secret(name string) (string, error) {
	if secret := c.Hubs[name].Secret; secret != "" {
		return secret, nil
	}
	secret, err := keyring.Get(keyringService, name)
	if err != nil {
		return "", fmt.Errorf("the secret of context %s is not in the keyring: %w; log in again", name, err)
	}
	return secret, nil
}

// optionsOf is how to sign in to the hub of a context.
func (c *cli) optionsOf(all *contexts, name string) (o grantway.Options, ok bool, err error) {
	hub, ok := all.Hubs[name]
	if !ok {
		return o, false, nil
	}
	if hub.Person {
		return grantway.Options{URL: hub.URL, SignIn: sessionOf(name)}, true, nil
	}
	secret, err := all.secret(name)
	return grantway.Options{URL: hub.URL, ClientID: hub.ClientID, ClientSecret: grantway.Secret(secret)}, true, err
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
				Person   bool   `json:"person"`
				Current  bool   `json:"current"`
			}
			rows := grantway.Page[row]{Items: []row{}}
			for _, name := range slices.Sorted(maps.Keys(all.Hubs)) {
				hub := all.Hubs[name]
				rows.Items = append(rows.Items, row{name, hub.URL, hub.ClientID, hub.Person, name == all.Current})
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
			return changeContexts(func(all *contexts) error {
				if _, ok := all.Hubs[args[0]]; !ok {
					return usagef("there is no context %s; log in with --context %s", args[0], args[0])
				}
				all.Current = args[0]
				return nil
			})
		}),
	}
	remove := &cobra.Command{
		Use: "rm NAME", Aliases: []string{"logout"}, Short: "Forget a hub and the secret for it; a person's sign-in ends there, too", Args: cobra.ExactArgs(1),
		RunE: c.run(func(ctx context.Context, args []string) error {
			return changeContexts(func(all *contexts) error {
				hub, ok := all.Hubs[args[0]]
				if !ok {
					return usagef("there is no context %s", args[0])
				}
				if hub.Person {
					if err := all.endSession(ctx, args[0]); err != nil {
						c.note("the hub could not be told, so the sign-in stays good until you take it back under Account: %v", err)
					}
				}
				keyring.Delete(keyringService, args[0]) // it may be in the file
				delete(all.Hubs, args[0])
				if all.Current == args[0] {
					all.Current = ""
				}
				return nil
			})
		}),
	}
	return group("context", "Manage the hubs you have logged in to", list, use, remove)
}
