package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
)

func (c *cli) keyCommand() *cobra.Command {
	var o app.Options
	var newKey string
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Give the running hub a new data key and seal every secret again",
		Long: `Give the running hub a new data key, seal every stored secret with it and remove the old
one. The hub and its replicas go on serving meanwhile. The key-encryption key stays: see wrap.`,
		Args: cobra.NoArgs,
		RunE: c.ask(func(ctx context.Context, hub *grantway.Client, _ []string) error {
			n, err := hub.RotateKey(ctx)
			if err != nil {
				return err
			}
			return c.print(grantway.KeyRotation{Resealed: n}, func(p *page) {
				p.row(fmt.Sprintf("%d values are sealed with a new data key", n))
			})
		}),
	}
	generate := &cobra.Command{
		Use:   "new FILE",
		Short: "Write a new key-encryption key to a file",
		Args:  cobra.ExactArgs(1),
		RunE: c.run(func(_ context.Context, args []string) error {
			if err := seal.GenerateKeyFile(args[0]); err != nil {
				return err
			}
			key, err := seal.ParseKey("file:" + args[0])
			if err != nil {
				return err
			}
			return c.print(wrap{ID: key.ID}, func(p *page) {
				p.row("key " + key.ID + " is in " + args[0] + "; back it up, apart from the database")
			})
		}),
	}
	wraps := &cobra.Command{
		Use:   "wrap --new-key KEY",
		Short: "Let a new key-encryption key open the database too",
		Long: `Let a new key-encryption key open the database too. To change the key without downtime: wrap
with the new one, start every replica with it, then unwrap the old one, then rotate. A key in a
KMS is tried first: it must encrypt and decrypt.`,
		Example: `  grantway key new ./new-key
  grantway key wrap --new-key file:./new-key
  grantway serve --key file:./new-key
  grantway key unwrap --key file:./new-key OLD-ID
  grantway key wrap --new-key vault:transit/grantway`,
		Args: cobra.NoArgs,
		RunE: c.withSealer(&o, func(ctx context.Context, db *store.Store, s *seal.Sealer, _ []string) error {
			if newKey == "" {
				return usagef("wrap needs --new-key " + secret.KeyForms)
			}
			key, err := secret.OpenKey(newKey, nil)
			if err != nil {
				return fmt.Errorf("--new-key: %w", err)
			}
			if err := s.AddWrap(ctx, key, recordKey(ctx, db, "key.wrap", key.ID)); err != nil {
				return err
			}
			return c.keyStatus(ctx, s)
		}),
	}
	wraps.Flags().StringVar(&newKey, "new-key", "", secret.KeyForms)
	unwrap := &cobra.Command{
		Use:   "unwrap ID",
		Short: "End that a key-encryption key opens the database",
		Args:  cobra.ExactArgs(1),
		RunE: c.withSealer(&o, func(ctx context.Context, db *store.Store, s *seal.Sealer, args []string) error {
			if err := s.RemoveWrap(ctx, args[0], recordKey(ctx, db, "key.unwrap", args[0])); err != nil {
				return err
			}
			return c.keyStatus(ctx, s)
		}),
	}
	status := &cobra.Command{
		Use:   "status",
		Short: "List the key-encryption keys that open the database",
		Args:  cobra.NoArgs,
		RunE: c.withSealer(&o, func(ctx context.Context, _ *store.Store, s *seal.Sealer, _ []string) error {
			return c.keyStatus(ctx, s)
		}),
	}
	for _, cmd := range []*cobra.Command{wraps, unwrap, status} {
		databaseFlags(cmd.Flags(), &o)
		settable(cmd.Flags(), "database", "key")
	}
	return group("key", "Manage the keys that seal the database", rotate, generate, wraps, unwrap, status)
}

// withSealer makes the function of a command that works on the keys in the database.
func (c *cli) withSealer(o *app.Options, do func(context.Context, *store.Store, *seal.Sealer, []string) error) func(*cobra.Command, []string) error {
	return c.run(func(ctx context.Context, args []string) (err error) {
		db, err := c.openStore(ctx, o, beside)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		sealer, err := app.OpenSealer(ctx, *o, db)
		if err != nil {
			return err
		}
		defer sealer.Close()
		return do(ctx, db, sealer, args)
	})
}

// recordKey puts a change of the keys into the audit trail, in the transaction that makes it. Who
// has the database and the key is nobody that the hub knows.
func recordKey(ctx context.Context, db *store.Store, action, id string) seal.Record {
	return func(tx *store.Tx) error {
		return access.NewLog(db, slog.Default()).Record(ctx, tx, access.Hub(),
			grantway.Event{Action: action, Object: access.Object("key", id), Detail: "command line"})
	}
}

// wrap is the JSON of one key-encryption key.
type wrap struct {
	ID    string `json:"id"`
	InUse bool   `json:"in_use"` // it is the one that --key names
}

func (c *cli) keyStatus(ctx context.Context, s *seal.Sealer) error {
	list, err := s.Wraps(ctx)
	if err != nil {
		return err
	}
	all := grantway.Page[wrap]{Items: []wrap{}}
	for _, w := range list {
		all.Items = append(all.Items, wrap{w.KEK, w.InUse})
	}
	return c.print(all, func(p *page) {
		p.row("ID", "IN USE")
		for _, w := range all.Items {
			p.row(w.ID, map[bool]string{true: "by --key"}[w.InUse])
		}
	})
}
