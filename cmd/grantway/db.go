package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/store"
)

func (c *cli) dbCommand() *cobra.Command {
	var o app.Options
	var to string
	status := &cobra.Command{
		Use:   "status",
		Short: "Show the version of the database schema",
		Args:  cobra.NoArgs,
		RunE:  c.withStore(&o, beside, c.databaseStatus),
	}
	migrate := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database schema up to date, as the start of a hub does",
		Args:  cobra.NoArgs,
		RunE: c.withStore(&o, beside, func(ctx context.Context, db *store.Store) error {
			if err := db.Migrate(ctx); err != nil {
				return err
			}
			return c.databaseStatus(ctx, db)
		}),
	}
	copyTo := &cobra.Command{
		Use:   "copy --to URL",
		Short: "Copy everything into another, empty database",
		Long: `Copy everything into another, empty database, such as from SQLite to PostgreSQL. Stop the hub
first; then start it with --database URL and the same --key. The new database holds
everything, or, after an error, nothing.`,
		Example: `  grantway db copy --to postgres://db.example.com/grantway
  grantway serve --database postgres://db.example.com/grantway --key file:./data/key`,
		Args: cobra.NoArgs,
		RunE: c.withStore(&o, alone, func(ctx context.Context, from *store.Store) error {
			if to == "" {
				return usagef("copy needs --to and the URL of an empty database")
			}
			return c.copyDatabase(ctx, from, to)
		}),
	}
	copyTo.Flags().StringVar(&to, "to", "", "postgres://… or sqlite:PATH")
	settable(copyTo.Flags(), "to")
	db := group("db", "Work on the database of a hub", status, migrate, copyTo)
	databaseFlags(db.PersistentFlags(), &o)
	settable(db.PersistentFlags(), "database", "key")
	return db
}

// How a command opens the database.
const (
	beside = true  // a hub may be running on it
	alone  = false // no hub may be running on it, if it is embedded
)

// withStore makes the function of a command that works on the database itself.
func (c *cli) withStore(o *app.Options, beside bool, do func(context.Context, *store.Store) error) func(*cobra.Command, []string) error {
	return c.run(func(ctx context.Context, _ []string) error {
		db, err := c.openStore(ctx, o, beside)
		if err != nil {
			return err
		}
		return errors.Join(do(ctx, db), db.Close())
	})
}

// openStore opens the database that o and --data name. It does not make one.
func (c *cli) openStore(ctx context.Context, o *app.Options, beside bool) (*store.Store, error) {
	o.Data = c.data
	if o.Database == "" && !exists(filepath.Join(o.Data, "grantway.db")) {
		return nil, usagef("there is no database in %s; name the data directory of the hub with --data, or its PostgreSQL database with --database", o.Data)
	}
	if beside {
		*o = o.Beside()
	}
	return app.OpenStore(ctx, *o)
}

// schema is the JSON of db status.
type schema struct {
	Database string   `json:"database"`
	Version  int64    `json:"schema"`
	Latest   int64    `json:"latest"`
	Pending  []string `json:"pending,omitempty"`
}

func (c *cli) databaseStatus(ctx context.Context, db *store.Store) error {
	s, err := db.Status(ctx)
	if err != nil {
		return err
	}
	return c.print(schema(s), func(p *page) {
		p.facts("Database", s.Database, "Schema", strconv.FormatInt(s.Version, 10), "Latest", strconv.FormatInt(s.Latest, 10),
			"Pending", strings.Join(s.Pending, ", "))
		if len(s.Pending) > 0 {
			p.row("Run \"grantway db migrate\", or start the hub, to bring it up to date.")
		}
	})
}

func (c *cli) copyDatabase(ctx context.Context, from *store.Store, url string) (err error) {
	to, err := store.Open(ctx, store.Options{URL: url, Exclusive: true})
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := to.Migrate(ctx); err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	copied := map[string]int{}
	live := terminal(c.errs)
	err = store.Copy(ctx, from, to, func(table string, rows int) {
		copied[table] = rows
		if live {
			fmt.Fprintf(c.errs, "\r\x1b[K%s: %d rows", table, rows)
		}
	})
	if live {
		fmt.Fprint(c.errs, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	total := 0
	for _, rows := range copied {
		total += rows
	}
	return c.print(map[string]any{"rows": copied}, func(p *page) {
		p.row(fmt.Sprintf("%d rows of %d tables copied. Start the hub on the copy, with the same --key.", total, len(copied)))
	})
}
