package broker_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/outbound"
	"github.com/grantway/grantway/internal/store"
)

// TestDeleteWhileInUse refers to a credential as a listener and a flow do: it cannot be
// deleted, the refusal names both, and a rename does them no harm (C-10).
func TestDeleteWhileInUse(t *testing.T) {
	each(t, func(t *testing.T, database string) {
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database})
		db := open(t, hub, database)
		b, err := broker.New(t.Context(), broker.Options{Store: db, Outbound: outbound.New(outbound.Options{})})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Stop(t.Context())
		write := func(f func(tx *store.Tx) error) {
			t.Helper()
			if err := db.Write(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		refused := func(name string, users ...string) {
			t.Helper()
			err := hub.DeleteCredential(t.Context(), name)
			var e *grantway.Error
			if !errors.As(err, &e) || e.Code != grantway.Conflict || !strings.Contains(e.Message, strings.Join(users, ", ")) {
				t.Errorf("delete %s: %v, want a conflict that names %q", name, err, users)
			}
			c, err := hub.Credential(t.Context(), name)
			if diff := cmp.Diff(users, c.UsedBy); err != nil || diff != "" {
				t.Errorf("used_by of %s, %v (-want +got):\n%s", name, err, diff)
			}
		}

		c, err := hub.CreateCredential(t.Context(), grantway.Credential{Name: "mail", Inputs: grantway.Inputs{
			"client_id": grantway.Text("app"), "client_secret": grantway.Text("s3cret"), "token_endpoint": grantway.Text("https://login.example.com/token"),
		}})
		if err != nil {
			t.Fatal(err)
		}
		write(func(tx *store.Tx) error {
			return errors.Join(
				b.Refer(t.Context(), tx, c.ID, "listener", "inbox"),
				b.Refer(t.Context(), tx, c.ID, "listener", "inbox"), // twice is once
				b.Refer(t.Context(), tx, c.ID, "flow", "send invoices"))
		})
		refused("mail", "flow send invoices", "listener inbox")

		c.Name = "post"
		renamed, err := hub.UpdateCredential(t.Context(), "mail", c)
		if diff := cmp.Diff([]string{"flow send invoices", "listener inbox"}, renamed.UsedBy); err != nil || diff != "" {
			t.Errorf("renamed, %v: used_by (-want +got):\n%s", err, diff)
		}
		write(func(tx *store.Tx) error { return b.Release(t.Context(), tx, c.ID, "flow", "send invoices") })
		refused("post", "listener inbox")
		write(func(tx *store.Tx) error { return b.Release(t.Context(), tx, c.ID, "listener", "inbox") })
		if err := hub.DeleteCredential(t.Context(), "post"); err != nil {
			t.Errorf("delete when nothing uses it any more: %v", err)
		}
		if err := db.Write(t.Context(), func(tx *store.Tx) error { return b.Refer(t.Context(), tx, c.ID, "listener", "inbox") }); err == nil {
			t.Error("a credential that is gone can be referred to")
		}
	})
}
