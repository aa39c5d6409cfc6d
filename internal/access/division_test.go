package access_test

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

func names(t *testing.T, d *access.Divisions, who access.Caller) string {
	t.Helper()
	all, err := d.List(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range all {
		names = append(names, one.Name)
	}
	return strings.Join(names, " ")
}

func TestDivisionLifecycle(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l, who := access.NewLog(s, slog.Default()), caller("administrator *")
		d := access.NewDivisions(s, l)
		if got := names(t, d, who); got != "home" {
			t.Fatalf("a new hub has the divisions %s", got)
		}
		for _, name := range []string{"sales", "Berlin"} {
			if err := d.Create(t.Context(), who, grantway.Division{Name: name, Description: "line\nline"}); err != nil {
				t.Fatal(err)
			}
		}
		if got := names(t, d, who); got != "Berlin home sales" {
			t.Errorf("got %s", got)
		}
		if got := names(t, d, caller("designer sales")); got != "sales" {
			t.Errorf("got %s", got)
		}
		if err := d.Create(t.Context(), who, grantway.Division{Name: "SALES"}); !hasCode(err, grantway.Conflict) {
			t.Errorf("got %v", err)
		}

		var contents []string
		d.Contents = func(_ context.Context, _ *store.Tx, division string) ([]string, error) {
			if division != "sales" {
				t.Errorf("asked for %q", division)
			}
			return contents, nil
		}
		contents = []string{"credential a", "client b"}
		if err := d.Delete(t.Context(), who, "sales"); !hasCode(err, grantway.Conflict) || !strings.Contains(err.Error(), "credential a, client b") {
			t.Errorf("got %v", err)
		}
		contents = nil
		if err := d.Delete(t.Context(), who, "sales"); err != nil {
			t.Error(err)
		}
		if err := d.Delete(t.Context(), who, "sales"); !hasCode(err, grantway.NotFound) {
			t.Errorf("got %v", err)
		}
		if err := d.Delete(t.Context(), who, "home"); !hasCode(err, grantway.Conflict) {
			t.Errorf("got %v", err)
		}
		if got := names(t, d, who); got != "Berlin home" {
			t.Errorf("got %s", got)
		}

		var trail []string
		for _, e := range list(t, l, who, access.Filter{}) {
			trail = append(trail, e.Action+" "+e.Object)
		}
		if got := strings.Join(trail, ", "); got != "division.delete division/sales, division.create division/Berlin, division.create division/sales" {
			t.Errorf("trail: %s", got)
		}
	})
}

func TestDivisionRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		l := access.NewLog(s, slog.Default())
		d := access.NewDivisions(s, l)
		for n, who := range []access.Caller{caller("administrator sales"), caller("designer *"), {}} {
			who.ID = strconv.Itoa(n)
			if err := d.Create(t.Context(), who, grantway.Division{Name: "sales"}); !isForbidden(err) {
				t.Errorf("got %v", err)
			}
			if err := d.Delete(t.Context(), who, "home"); !isForbidden(err) {
				t.Errorf("got %v", err)
			}
		}
		if n := len(list(t, l, access.Hub(), access.Filter{Outcome: access.Denied})); n != 6 {
			t.Errorf("%d refusals recorded", n)
		}
		err := d.Create(t.Context(), access.Hub(), grantway.Division{Name: "*", Description: "\x00"})
		if !hasCode(err, grantway.Invalid) || !strings.Contains(err.Error(), "name ") || !strings.Contains(err.Error(), "description ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWrongName(t *testing.T) {
	for _, good := range []string{"a", "9", "sales-email", "A.b_c-d", strings.Repeat("x", 100)} {
		if wrong := access.WrongName(good); wrong != "" {
			t.Errorf("%q: %s", good, wrong)
		}
	}
	for _, bad := range []string{"", ".a", "-a", "_a", "a b", "a/b", "é", "a\x00", "a\n", "*", strings.Repeat("x", 101)} {
		if access.WrongName(bad) == "" {
			t.Errorf("%q is taken for a name", bad)
		}
	}
	for _, bad := range []string{"\xff", "\x00", "\x1b[31m", "\u0085", strings.Repeat("é", 1025)} {
		if access.WrongDescription(bad) == "" {
			t.Errorf("%q is taken for a description", bad)
		}
	}
	if wrong := access.WrongDescription(strings.Repeat("é", 1024)); wrong != "" {
		t.Error(wrong)
	}
}
