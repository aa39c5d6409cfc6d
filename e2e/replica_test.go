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

// measure makes a change n times and asks the other replica until it knows. What counts is
// when the last request was made that it answered without knowing: how long it takes to act
// on what it knows is another matter, and so is a machine that is busy with something else.
func measure(t *testing.T, n int, change func(), known func() bool) {
	t.Helper()
	stale := make([]time.Duration, n)
	for i := range stale {
		change()
		changed := time.Now()
		for asked := changed; !known() && stale[i] < patience; asked = time.Now() {
			stale[i] = asked.Sub(changed)
		}
	}
	slices.Sort(stale)
	t.Logf("%d changes; the other replica did not know for %v at the median, %v at the most", n,
		stale[n/2].Round(10*time.Microsecond), stale[n-1].Round(10*time.Microsecond))
	if stale[n-1] > store.Staleness {
		t.Errorf("the other replica did not know of a change for %v, want at most %v", stale[n-1], store.Staleness)
	}
}
