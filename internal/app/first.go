package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/demo"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// Owner is the content of owner.json: how the command line on the same machine signs in.
type Owner struct {
	URL          string `json:"url"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// welcome makes the owner client of a new hub and writes owner.json. Later starts only
// correct the address in it. As long as there is nobody, each start also logs a link with
// which the first person makes an account.
func (a *App) welcome(ctx context.Context, tokens *issuer.Issuer, people *access.People) error {
	link, nobody, err := people.SetupLink(ctx)
	if err != nil {
		return fmt.Errorf("set-up link: %w", err)
	}
	if nobody {
		a.log.Warn("nobody can sign in to the console yet; open this link once, within 24 hours, to make the owner account", "link", link)
	}
	path := filepath.Join(a.o.Data, "owner.json")
	created, err := tokens.EnsureOwner(ctx, func(c grantway.OAuthClient) error {
		return writeOwner(path, Owner{a.localURL(), c.ID, c.Secret})
	})
	if err != nil {
		return err
	}
	if created {
		a.log.Info("first start: made the owner client; the command line on this machine finds it by itself", "file", path)
		return nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // made on another machine, or put away; see RecoverOwner
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	var owner Owner
	if err := json.Unmarshal(text, &owner); err != nil {
		return fmt.Errorf("read %s: it is not what a hub writes: %w", path, err)
	}
	if owner.URL == a.localURL() {
		return nil
	}
	owner.URL = a.localURL()
	return writeOwner(path, owner)
}

// RecoverOwner makes a new owner client directly in the database, for somebody who has lost
// all the others, and writes owner.json, whose path it returns. It wants the key, like the
// server: who has both the database and the key has everything anyway.
func RecoverOwner(ctx context.Context, o Options) (path string, err error) {
	o = o.withDefaults()
	db, err := OpenStore(ctx, o.Beside())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	sealer, err := OpenSealer(ctx, o, db)
	if err != nil {
		return "", err
	}
	defer sealer.Close()
	tokens, err := issuer.New(ctx, issuer.Options{Store: db, Sealer: sealer, Audit: access.NewLog(db, o.Log), Log: o.Log})
	if err != nil {
		return "", err
	}
	client, err := tokens.CreateClient(ctx, access.Hub(), grantway.OAuthClient{
		Name: "owner-" + time.Now().UTC().Format("20060102-150405.000000"), Description: "Made by grantway owner recover",
		Roles: []grantway.Assignment{{Role: access.Owner, Division: access.Everywhere}},
	})
	if err != nil {
		return "", err
	}
	path = filepath.Join(o.Data, "owner.json")
	a := &App{o: o}
	return path, writeOwner(path, Owner{a.localURL(), client.ID, client.Secret})
}

// writeOwner replaces the file at once, so that nobody reads half of it.
func writeOwner(path string, owner Owner) error {
	text, err := json.MarshalIndent(owner, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := replaceFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// replaceFile gives a file of mode 0600 new content at once. When it returns, that survives
// a crash of the machine.
func replaceFile(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	next, err := os.CreateTemp(dir, filepath.Base(path)+".*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(next.Name())
		}
	}()
	_, err = next.Write(content)
	if err == nil {
		err = next.Sync()
	}
	if err = errors.Join(err, next.Close()); err != nil {
		return err
	}
	if err := os.Rename(next.Name(), path); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// loopback is what the demo provider needs outgoing calls to reach.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// saveDemo makes the credential "demo" fit the provider, whose secret is new at each start.
func saveDemo(ctx context.Context, credentials *broker.Broker, p *demo.Provider) error {
	c := grantway.Credential{
		Name: "demo", Description: "Ready to use: the demo provider inside this hub",
		Inputs: grantway.Inputs{
			"client_id": grantway.Text(p.Client), "client_secret": grantway.Text(p.Secret),
			"token_endpoint": grantway.Text(p.TokenEndpoint()), "scopes": grantway.Text("messages.read"),
		},
	}
	var e *grantway.Error
	old, err := credentials.Get(ctx, access.Hub(), c.Name)
	switch {
	case err == nil:
		c.ID, c.Division = old.ID, old.Division
	case !errors.As(err, &e) || e.Code != grantway.NotFound:
		return err
	}
	_, err = credentials.Save(ctx, access.Hub(), c)
	return err
}

// rotate gives the hub a new data key and seals everything with it. Each change of the keyset
// is in the audit trail, and how it ended.
func rotate(ctx context.Context, who access.Caller, audit *access.Log, db *store.Store, sealer *seal.Sealer, nouns ...seal.Reseal) (int, error) {
	event := grantway.Event{Action: "key.rotate"}
	if err := audit.Require(ctx, who, access.RotateKey, access.Everywhere, event); err != nil {
		return 0, err
	}
	n, err := sealer.Rotate(ctx, func(tx *store.Tx) error {
		return audit.Record(ctx, tx, who, grantway.Event{Action: event.Action, Detail: "data keys changed"})
	}, nouns...)
	event.Detail = fmt.Sprintf("%d values sealed again", n)
	if err != nil {
		event.Outcome = access.Failed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second) // the caller may have gone away
	defer cancel()
	recorded := db.Write(ctx, func(tx *store.Tx) error { return audit.Record(ctx, tx, who, event) })
	return n, errors.Join(err, recorded)
}
