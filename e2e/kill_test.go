package e2e_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// TestTokensOutliveKill: an opaque token that was issued is good although the hub was killed right after, and one that was
// revoked is not.
func TestTokensOutliveKill(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s site) {
		h := start(t, s)
		who := owner(t, s, h)
		client := who.must(h, http.MethodPost, "/v1/clients", grantway.OAuthClient{Name: "app", Roles: []grantway.Assignment{{Role: "auditor", Division: "*"}}})
		var app grantway.OAuthClient
		if err := client.decode(&app); err != nil {
			t.Fatal(err)
		}
		revoked := signIn(t, h, app.ID, app.Secret)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/oauth/revoke", strings.NewReader("token="+revoked.bearer))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(app.ID, app.Secret)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if a, err := who.send(req); err != nil || a.status != http.StatusOK {
			t.Fatalf("revoke: %v %v", a, err)
		}
		issued := signIn(t, h, app.ID, app.Secret)
		h.kill()
		h = start(t, s)
		for name, test := range map[string]struct {
			who  *caller
			want int
		}{"issued": {issued, http.StatusOK}, "revoked": {revoked, http.StatusUnauthorized}} {
			if a := test.who.ask(h, http.MethodGet, "/v1/clients", nil); a.status != test.want {
				t.Errorf("%s: %v", name, a)
			}
		}
	})
}

// TestKillWhileSaving: a hub that is killed again and again while it saves loses nothing
// that it acknowledged, leaves nothing half-written, and starts again.
func TestKillWhileSaving(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s site) {
		const saves, perKill, writers = 200, 8, 4
		p := grantwaytest.NewProvider(t)
		p.Token.Always(echo)
		h := start(t, s)
		who := owner(t, s, h)
		desks := make([]*desk, writers)
		for i := range desks {
			desks[i] = &desk{name: string(rune('a' + i)), endpoint: p.Token.URL}
		}

		kills, done, unanswered, kept := 0, 0, 0, 0
		for done < saves {
			acknowledged := new(atomic.Int64)
			fatal := 1 + rand.N[int64](2*perKill) // the save after which the hub is killed
			fall := make(chan struct{})
			var working sync.WaitGroup
			for _, d := range desks {
				working.Go(func() {
					for d.save(t, who, h) {
						if acknowledged.Add(1) == fatal {
							close(fall)
						}
					}
				})
			}
			idle := make(chan struct{})
			go func() { working.Wait(); close(idle) }()
			select {
			case <-fall:
			case <-idle: // nobody could save
			}
			<-time.After(rand.N(5 * time.Millisecond)) // about as long as a save: any moment of one may be the last
			h.kill()
			<-idle
			if t.Failed() {
				return
			}
			kills++
			done += int(acknowledged.Load())

			h = start(t, s)
			for _, d := range desks {
				lost, there := d.check(t, who, h)
				unanswered += lost
				kept += there
			}
		}
		h.stop()
		t.Logf("%d kills during %d acknowledged saves; of %d that were under way, %d took place", kills, done, unanswered, kept)
		if unanswered == 0 {
			t.Error("no kill hit a save")
		}
		checkRows(t, s)
	})
}

// desk is where one writer keeps its credentials and knows what the hub said of them.
type desk struct {
	name     string
	endpoint string
	accounts []*account
}

// account is one credential. Its n-th save makes version n and writes n into every field.
type account struct {
	name  string
	id    string // "" before the creation was acknowledged
	saved int    // the last acknowledged save
	tried int    // the save that was under way when the hub was killed; 0 is none
}

// save creates a credential or changes one, and reports whether the hub acknowledged it.
func (d *desk) save(t *testing.T, who *caller, h *hub) bool {
	var a *account
	if len(d.accounts) == 0 || rand.N(4) == 0 {
		a = &account{name: fmt.Sprintf("%s-%d", d.name, len(d.accounts))}
		d.accounts = append(d.accounts, a)
	} else {
		a = d.accounts[rand.N(len(d.accounts))]
	}
	a.tried = a.saved + 1
	got, err := d.send(t, who, h, a)
	if err != nil {
		return false // killed
	}
	return d.acknowledge(t, a, got)
}

// send sends the save that a wants to try. A creation may be repeated.
func (d *desk) send(t *testing.T, who *caller, h *hub, a *account) (answer, error) {
	c := credential(a.name, d.endpoint, a.tried)
	if a.saved == 0 {
		return who.try(t.Context(), h, http.MethodPost, "/v1/credentials", c, "Idempotency-Key", a.name)
	}
	return who.try(t.Context(), h, http.MethodPut, "/v1/credentials/"+a.name, c, "If-Match", strconv.Quote(strconv.Itoa(a.saved)))
}

func (d *desk) acknowledge(t *testing.T, a *account, got answer) bool {
	var c grantway.Credential
	if err := got.decode(&c); err != nil || got.status/100 != 2 || c.Version != int64(a.tried) {
		t.Errorf("save %d of %s: %v", a.tried, a.name, got)
		return false
	}
	if a.id != "" && a.id != c.ID {
		t.Errorf("save %d of %s: made another credential", a.tried, a.name)
	}
	a.id, a.saved, a.tried = c.ID, a.tried, 0
	return true
}

// check compares what the hub has, after it was killed and started again, with what it
// acknowledged. It returns how many saves had been under way and how many of them took place.
func (d *desk) check(t *testing.T, who *caller, h *hub) (underWay, tookPlace int) {
	t.Helper()
	for _, a := range d.accounts {
		var c grantway.Credential
		got := who.ask(h, http.MethodGet, "/v1/credentials/"+a.name, nil)
		if got.status == http.StatusNotFound {
			if a.saved > 0 {
				t.Fatalf("%s is lost: save %d was acknowledged", a.name, a.saved)
			}
		} else if err := got.decode(&c); err != nil || got.status != http.StatusOK {
			t.Fatalf("%s: %v", a.name, got)
		}
		n := int(c.Version)
		if n != a.saved && (a.tried == 0 || n != a.tried) {
			t.Fatalf("%s is at save %d; acknowledged was %d, under way %d", a.name, n, a.saved, a.tried)
		}
		if n > 0 {
			want := credential(a.name, d.endpoint, n)
			if c.Description != want.Description || c.Inputs["client_id"].Text != want.Inputs["client_id"].Text || !c.Inputs["client_secret"].Set {
				t.Fatalf("%s is half-written at save %d: %v", a.name, n, got)
			}
			if used := saveOf(t, who.token(h, a.name)); used != n {
				t.Fatalf("%s is at save %d, and its token was asked for with that of save %d", a.name, n, used)
			}
		}
		if a.tried == 0 {
			continue
		}
		underWay++
		if n == a.tried {
			tookPlace++
		}
		switch {
		case a.saved == 0: // repeated, whether it took place or not
			again, err := d.send(t, who, h, a)
			if err != nil {
				t.Fatal(err)
			}
			before := c.ID
			if d.acknowledge(t, a, again) && before != "" && a.id != before {
				t.Errorf("%s: the repeated creation made another credential", a.name)
			}
		case n == a.tried:
			a.saved, a.tried = n, 0
		default:
			a.tried = 0
		}
	}
	return underWay, tookPlace
}

// checkRows looks for damage, and for credentials, secrets and audit rows without one another.
func checkRows(t *testing.T, s site) {
	t.Helper()
	queries := map[string]string{
		`SELECT count(*) FROM credential WHERE id NOT IN (SELECT credential_id FROM credential_secret)`:                                                               "0",
		`SELECT (SELECT sum(version) FROM credential) - (SELECT count(*) FROM audit WHERE outcome = 'done' AND action IN ('credential.create', 'credential.update'))`: "0",
	}
	if s.database == "" {
		queries[`PRAGMA integrity_check`] = "ok"
		queries[`SELECT count(*) FROM pragma_foreign_key_check`] = "0"
	}
	db := open(t, s)
	for query, want := range queries {
		var got string
		if err := db.QueryRowContext(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", query, got, err, want)
		}
	}
}

// open opens the database of a site behind the back of its hubs.
func open(t *testing.T, s site) *sql.DB {
	t.Helper()
	driver, source := "sqlite", "file:"+filepath.Join(s.data, "grantway.db")
	if s.database != "" {
		driver, source = "pgx", s.database
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
