package grantwaytest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/app"
)

// Hub is a whole hub inside the test's process.
type Hub struct {
	*grantway.Client // signed in as the owner

	URL   string
	Data  string           // its data directory
	Owner grantway.Options // how the owner signs in
}

// HubOptions set up a Hub. The zero value is a hub on SQLite.
type HubOptions struct {
	// Database is a postgres:// URL; "" is SQLite in a temporary directory.
	Database string

	// Data is a directory to use, such as that of a hub before; "" is a temporary one.
	Data string

	// Key is a key-encryption key as for --key; "" is a file in Data.
	Key string

	// SecretFiles is the directory of the secret store "file"; "" is none.
	SecretFiles string

	// RootCAs are trusted in outgoing calls, such as those of Provider.RootCAs; nil are the system's.
	RootCAs *x509.CertPool

	// Log receives the hub's log; nil discards it.
	Log *slog.Logger
}

// Start starts a hub on a free loopback port and stops it when the test ends. Outgoing
// calls may reach loopback addresses, so that it works with a Provider.
func Start(t testing.TB, o HubOptions) *Hub {
	t.Helper()
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	if o.Key == "" {
		o.Key = "file:" + filepath.Join(o.Data, "key")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx := t.Context()
	hub, err := app.New(ctx, app.Options{
		Listen: "127.0.0.1:0", Data: o.Data, Database: o.Database, Key: o.Key, SecretFiles: o.SecretFiles,
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		RootCAs:       o.RootCAs, Version: "test", Log: o.Log,
		RequestsPerMinute: -1, OAuthRequestsPerMinute: -1, // tests make many
	})
	if err != nil {
		t.Fatalf("start a hub: %v", err)
	}
	if err := hub.Start(ctx); err != nil {
		t.Fatalf("start a hub: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := hub.Stop(ctx); err != nil {
			t.Errorf("stop the hub: %v", err)
		}
	})
	h := &Hub{URL: hub.URL(), Data: o.Data}
	text, err := os.ReadFile(filepath.Join(o.Data, "owner.json"))
	if err != nil {
		t.Fatalf("the hub's owner: %v", err)
	}
	var owner app.Owner
	if err := json.Unmarshal(text, &owner); err != nil {
		t.Fatalf("the hub's owner: %v", err)
	}
	h.Owner = grantway.Options{URL: h.URL, ClientID: owner.ClientID, ClientSecret: grantway.Secret(owner.ClientSecret)}
	h.Client = h.SignIn(t, h.Owner)
	return h
}

// SignIn returns a client of the hub for somebody else than the owner; o.URL may be left out.
func (h *Hub) SignIn(t testing.TB, o grantway.Options) *grantway.Client {
	t.Helper()
	o.URL = h.URL
	c, err := grantway.NewClient(o)
	if err != nil {
		t.Fatalf("client of the hub: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close the client of the hub: %v", err)
		}
	})
	return c
}
