package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// TestStaleness: what one replica changes, the other one knows within a second, also when the
// connection on which it would have heard of it is cut.
func TestStaleness(t *testing.T) {
	p := grantwaytest.NewProvider(t)
	p.Token.Always(echo)
	database := storetest.EmptyPostgres(t)
	hubs, who := replicas(t, database, 2)
	a, b := hubs[0], hubs[1]
	version := 1
	who.save(a, "shared", p.Token.URL, version)
	known(t, who, "shared", b)

	save := func() {
		version++
		who.save(a, "shared", p.Token.URL, version)
	}
	renewed := func() bool { return saveOf(t, who.token(b, "shared")) == version }
	t.Run("change", func(t *testing.T) {
		measure(t, 50, save, renewed)
	})

	db := open(t, site{database: database})
	t.Run("change without notification", func(t *testing.T) {
		measure(t, 10, func() {
			var cut int
			err := db.QueryRowContext(t.Context(), `
				SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'grantway listen'`).Scan(&cut)
			if err != nil {
				t.Fatal(err)
			}
			save()
		}, renewed)
	})

	t.Run("deleted client", func(t *testing.T) {
		var guest *caller
		var id string
		measure(t, 10, func() {
			var c grantway.OAuthClient
			who.must(a, http.MethodPost, "/v1/clients", grantway.OAuthClient{
				Name: fmt.Sprint("guest-", time.Now().UnixNano()), Roles: []grantway.Assignment{{Role: "application", Division: grantway.DefaultDivision}},
			}).decode(&c)
			guest, id = signIn(t, b, c.ID, c.Secret), c.ID
			if got := guest.token(b, "shared"); got.status != http.StatusOK {
				t.Fatal(got)
			}
			who.must(a, http.MethodDelete, "/v1/clients/"+id, nil)
		}, func() bool { return guest.token(b, "shared").status == http.StatusUnauthorized })
	})
}

// measure makes a change n times and sees how long after it the other replica does not know.
func measure(t *testing.T, n int, change func(), known func() bool) {
	t.Helper()
	delays := make([]time.Duration, n)
	for i := range delays {
		change()
		changed := time.Now()
		for !known() && time.Since(changed) < patience {
		}
		delays[i] = time.Since(changed)
	}
	slices.Sort(delays)
	t.Logf("%d changes, seen by the other replica after %v at the median, %v at the most", n,
		delays[n/2].Round(10*time.Microsecond), delays[n-1].Round(10*time.Microsecond))
	if delays[n-1] > store.Staleness {
		t.Errorf("a change was not seen for %v, want at most %v", delays[n-1], store.Staleness)
	}
}
