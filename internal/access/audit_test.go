package access_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

func record(t *testing.T, s *store.Store, l *access.Log, who access.Caller, events ...grantway.Event) {
	t.Helper()
	for _, e := range events {
		if err := s.Write(t.Context(), func(tx *store.Tx) error { return l.Record(t.Context(), tx, who, e) }); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, l *access.Log, who access.Caller, f access.Filter) []grantway.Event {
	t.Helper()
	page, err := l.List(t.Context(), who, f, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	return page.Items
}

func TestRecord(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l, who := access.NewLog(s, slog.Default()), caller("owner *")
		start := time.Now().Truncate(time.Millisecond)
		record(t, s, l, who, grantway.Event{Action: "credential.create", Object: "credential/a", Division: "home",
			Fields: []string{"name", "inputs.client_secret"}, Detail: "d", ID: "mine", Caller: "someone", Name: "else"})
		got := list(t, l, who, access.Filter{})
		want := []grantway.Event{{Caller: "client_1", Name: "tester", Action: "credential.create", Outcome: "done",
			Object: "credential/a", Division: "home", Fields: []string{"name", "inputs.client_secret"}, Detail: "d"}}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(grantway.Event{}, "ID", "At")); diff != "" {
			t.Error(diff)
		}
		if got[0].ID == "mine" || got[0].At.Before(start) || got[0].At.After(time.Now()) {
			t.Errorf("id %q, time %v", got[0].ID, got[0].At)
		}
	})
}

// A change that is not made leaves no row.
func TestRecordInTransaction(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l, who := access.NewLog(s, slog.Default()), caller("owner *")
		broken := errors.New("broken")
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			return errors.Join(l.Record(t.Context(), tx, who, grantway.Event{Action: "x"}), broken)
		})
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if got := list(t, l, who, access.Filter{}); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestRequire(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l, who := access.NewLog(s, slog.Default()), caller("designer home")
		event := grantway.Event{Action: "credential.read", Object: "credential/a"}
		if err := l.Require(t.Context(), who, access.PickCredential, "home", event); err != nil {
			t.Fatal(err)
		}
		gone, leave := context.WithCancel(t.Context())
		leave() // a caller that goes away leaves its row all the same
		if err := l.Require(gone, who, access.ReadCredential, "home", event); !isForbidden(err) {
			t.Fatalf("got %v", err)
		}
		got := list(t, l, access.Hub(), access.Filter{})
		want := []grantway.Event{{Caller: "client_1", Name: "tester", Action: "credential.read", Outcome: "denied",
			Object: "credential/a", Division: "home"}}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(grantway.Event{}, "ID", "At")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDeniedWithoutDatabase(t *testing.T) {
	url := storetest.SQLite(t)
	s, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	l := access.NewLog(s, slog.New(slog.NewTextHandler(&out, nil)))
	if err := l.Require(t.Context(), caller(), access.UseCredential, "home", grantway.Event{Action: "token.read"}); !isForbidden(err) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out.String(), "token.read") {
		t.Errorf("log: %s", out.String())
	}
}

func TestListFilters(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l, ann, bob := access.NewLog(s, slog.Default()), caller("owner *"), caller("owner *")
		bob.ID = "client_2"
		record(t, s, l, ann, grantway.Event{Action: "credential.create", Object: "credential/a", Division: "home"})
		record(t, s, l, bob, grantway.Event{Action: "credential.update", Object: "credential/a", Division: "home", Outcome: access.Failed})
		between := time.Now()
		record(t, s, l, ann, grantway.Event{Action: "credential.update", Object: "credential/b", Division: "sales"})
		record(t, s, l, ann, grantway.Event{Action: "key.rotate"})
		for _, test := range []struct {
			f    access.Filter
			want string
		}{
			{access.Filter{}, "key.rotate credential.update credential.update credential.create"},
			{access.Filter{Action: "credential.update"}, "credential.update credential.update"},
			{access.Filter{Action: "credential."}, "credential.update credential.update credential.create"},
			{access.Filter{Action: "credential"}, ""},
			{access.Filter{Action: "%."}, ""},
			{access.Filter{Caller: "client_2"}, "credential.update"},
			{access.Filter{Object: "credential/a"}, "credential.update credential.create"},
			{access.Filter{Outcome: access.Failed}, "credential.update"},
			{access.Filter{Since: between}, "key.rotate credential.update"},
			{access.Filter{Until: between}, "credential.update credential.create"},
			{access.Filter{Since: between, Until: between}, ""},
			{access.Filter{Object: "credential/a", Action: "credential.create", Caller: "client_1"}, "credential.create"},
		} {
			var actions []string
			for _, e := range list(t, l, ann, test.f) {
				actions = append(actions, e.Action)
			}
			if got := strings.Join(actions, " "); got != test.want {
				t.Errorf("%+v: %s, want %s", test.f, got, test.want)
			}
		}
	})
}

// Who reads the trail in some divisions sees what belongs to these, and nothing of the hub.
func TestListDivisions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l, who := access.NewLog(s, slog.Default()), caller("owner *")
		for n := range 9 {
			record(t, s, l, who, grantway.Event{Action: "x", Object: fmt.Sprint(n), Division: []string{"home", "sales", ""}[n%3]})
		}
		objects := func(who access.Caller, limit int) string {
			var all []string
			for cursor, more := "", true; more; more = cursor != "" {
				page, err := l.List(t.Context(), who, access.Filter{}, cursor, limit)
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Items) > limit || len(page.Items) < limit && page.Next != "" {
					t.Fatalf("%d items, next %q", len(page.Items), page.Next)
				}
				for _, e := range page.Items {
					all = append(all, e.Object)
				}
				cursor = page.Next
			}
			return strings.Join(all, "")
		}
		for limit := 1; limit <= 10; limit++ {
			if got := objects(caller("auditor *"), limit); got != "876543210" {
				t.Errorf("auditor of all: %s", got)
			}
			if got := objects(caller("auditor home", "auditor sales", "administrator home"), limit); got != "764310" {
				t.Errorf("auditor of two: %s", got)
			}
			if got := objects(caller("auditor home", "application *"), limit); got != "630" {
				t.Errorf("auditor of one: %s", got)
			}
		}
		if _, err := l.List(t.Context(), caller("application *"), access.Filter{}, "", 0); !isForbidden(err) {
			t.Errorf("got %v", err)
		}
		for _, cursor := range []string{"1", "not a cursor", strings.Repeat("z", 26), strings.Repeat("0", 25)} {
			if _, err := l.List(t.Context(), who, access.Filter{}, cursor, 0); !hasCode(err, grantway.Malformed) {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
	})
}
