package access_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// Refusals that repeat are one row when the minute ends, or the hub.
func TestRefusalsRepeat(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l, who := access.NewLog(s, slog.Default()), caller("application home")
		denied := access.Filter{Outcome: access.Denied}
		for range 500 {
			l.Denied(t.Context(), who, grantway.Event{Action: "audit.list"})
		}
		if got := list(t, l, access.Hub(), denied); len(got) != 1 || got[0].Detail != "" {
			t.Fatalf("at once: %v", got)
		}
		if err := l.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := list(t, l, access.Hub(), denied); len(got) != 2 || got[0].Detail != "refused 499 more times" || got[0].Caller != who.ID || got[0].Action != "audit.list" {
			t.Fatalf("when it ends: %v", got)
		}

		// Another name each time does not help.
		for n := range 300 {
			l.Denied(t.Context(), who, grantway.Event{Action: "division.create", Object: fmt.Sprintf("division/d%d", n)})
		}
		if err := l.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		page, err := l.List(t.Context(), access.Hub(), access.Filter{Action: "division.create"}, "", 1000)
		if err != nil || len(page.Items) != 101 || page.Items[0].Detail != "refused 200 more times" || page.Items[0].Object != "" {
			t.Errorf("%d rows, %v, %v", len(page.Items), page.Items[:1], err)
		}
	})
}

// Every minute the counts are written, and the first refusal is a row of its own again.
func TestRefusalsByMinute(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	synctest.Test(t, func(t *testing.T) {
		l, who := access.NewLog(s, slog.Default()), caller("application home")
		l.Start()
		for range 3 {
			for range 10 {
				l.Denied(t.Context(), who, grantway.Event{Action: "audit.list"})
			}
			time.Sleep(time.Minute + time.Second)
			synctest.Wait()
		}
		if err := l.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		var rows []string
		for _, e := range list(t, l, access.Hub(), access.Filter{}) {
			rows = append(rows, e.Detail)
		}
		if got := strings.Join(rows, "|"); strings.Count(got, "refused 9 more times") != 3 || len(rows) != 6 {
			t.Errorf("rows: %s", got)
		}
	})
}

func TestObject(t *testing.T) {
	for name, want := range map[string]string{"sales": "division/sales", "": "division/?", "a b": "division/?", "gws_x": "division/?", "x-gwt_y": "division/?"} {
		if got := access.Object("division", name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}
