package console_test

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// fillUp writes n credentials with their health and tokens as n saves and fetches would have.
func fillUp(t testing.TB, databaseURL string, n int) { t.Helper(); fillMore(t, databaseURL, 0, n) }

func fillMore(t testing.TB, databaseURL string, from, n int) {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, store.Options{URL: databaseURL})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Now()
	err = db.Write(ctx, func(tx *store.Tx) error {
		for i := from; i < n; i++ {
			id, name, host := fmt.Sprintf("cred_%05d", i), fmt.Sprintf("app-%05d", i), fmt.Sprintf("login-%d.example.com", i%97)
			endpoint := "https://" + host + "/oauth2/token"
			inputs := fmt.Sprintf(`{"client_id":"client-%d","client_secret":{"source":"internal","set":true},"token_endpoint":%q,"scopes":"read write"}`, i, endpoint)
			if _, err := tx.ExecContext(ctx, `INSERT INTO credential (id, name, name_key, description, division, connector, inputs, secret_expires_at, version, created_at, updated_at, token_host, words)
				VALUES ($1, $2, $2, '', 'home', $3, $4, $5, 1, $6, $6, $7, $8)`, id, name, grantway.PlainConnector, inputs, int64(i%7)*now.Add(240*time.Hour).UnixMilli()/6, now.UnixMilli(), host,
				strings.Join([]string{name, id, fmt.Sprintf("client-%d", i), endpoint}, "\n")); err != nil {
				return err
			}
			if i%5 == 4 {
				continue // never asked
			}
			failure := ""
			if i%10 == 0 {
				failure = `{"at":"2026-11-20T10:00:00Z","class":"permanent","stage":"response","message":"invalid_client"}`
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO credential_health (credential_id, version, last_success, last_failure, failing, next_try) VALUES ($1, 1, $2, $3, $4, 0)`,
				id, now.Add(-time.Duration(i)*time.Second).UnixMilli(), failure, failure != ""); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO token (cache_key, credential_id, fingerprint, expires_at, holder, lease_until, failure, retry_at) VALUES ($1, $2, '', $3, '', 0, '', 0)`,
				id+"/1", id, now.Add(time.Duration(i%3)*time.Hour).UnixMilli()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// eachList runs body with a hub of many credentials, on SQLite and on PostgreSQL.
func eachList(t *testing.T, n int, body func(t *testing.T, v *visitor)) {
	eachStore(t, func(t *testing.T, database string) {
		h := startHub(t, grantwaytest.HubOptions{Database: database})
		fillUp(t, h.database, n)
		body(t, owner(t, h))
	})
}

func eachStore(t *testing.T, body func(t *testing.T, database string)) {
	t.Run("SQLite", func(t *testing.T) { body(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { body(t, storetest.Postgres(t)) })
}

var credentialLink = regexp.MustCompile(`<a href="/credentials/cred_[0-9]+">([^<]+)</a>`)

// many is how many credentials there are in a full list.
const many = 1_000

// TestManyCredentials searches, filters, sorts and pages through them.
func TestManyCredentials(t *testing.T) {
	t.Parallel()
	eachList(t, many, func(t *testing.T, v *visitor) {
		last, all := fmt.Sprintf("app-%05d", many-1), strings.TrimLeft(fmt.Sprintf("%d,%03d", many/1000, many%1000), "0,")
		for query, want := range map[string]struct {
			first string
			total string
		}{
			"":                               {"app-00000", all},
			fmt.Sprint("page=", many/50):     {fmt.Sprintf("app-%05d", many-50), all},
			"sort=name&desc=1":               {last, all},
			"sort=host&desc=1":               {"app-00096", all},
			"sort=health":                    {"app-00000", all},
			"sort=last_success&desc=1":       {"app-00000", all},
			"sort=token_expiry":              {"", all},
			"sort=secret_expiry":             {"", all},
			"sort=updated":                   {"", all},
			"q=LOGIN-13.example":             {"app-00013", fmt.Sprint((many-14)/97 + 1)},
			fmt.Sprint("q=client-", many-1):  {last, "1"},
			"q=100%25":                       {"", ""},
			"health=not_validated":           {"app-00004", ""},
			"health=failing&sort=division":   {"app-00000", ""},
			"health=degraded&division=home":  {"", ""},
			"expiring=1&division=operations": {"", ""},
		} {
			r := v.get("/credentials?" + query)
			rows := credentialLink.FindAllStringSubmatch(r.body, -1)
			if r.StatusCode != 200 || want.first != "" && (len(rows) == 0 || rows[0][1] != want.first) {
				t.Errorf("%s: %d, the first of %d rows is %v, want %s", query, r.StatusCode, len(rows), rows[:min(1, len(rows))], want.first)
			}
			if want.total != "" && !strings.Contains(r.body, "of "+want.total+"<") {
				t.Errorf("%s does not say that there are %s", query, want.total)
			}
		}
		if r := v.get("/credentials?page=99999&sort=host"); r.Header.Get("Location") != fmt.Sprintf("/credentials?page=%d&sort=host", many/50) {
			t.Errorf("a page past the end leads to %q (%d)", r.Header.Get("Location"), r.StatusCode)
		}
		if r := v.get("/credentials?q=" + url.QueryEscape(strings.Repeat("x", 300))); r.StatusCode != 422 {
			t.Errorf("a search text of 300 letters: %d", r.StatusCode)
		}
	})
}

// BenchmarkList is the list of 10,000 credentials. The target is 100 ms a page.
func BenchmarkList(b *testing.B) {
	for name, database := range map[string]func() string{"SQLite": func() string { return "" }, "PostgreSQL": func() string { return storetest.Postgres(b) }} {
		b.Run(name, func(b *testing.B) {
			h := startHub(b, grantwaytest.HubOptions{Database: database()})
			fillUp(b, h.database, 10_000)
			v := owner(b, h)
			for _, query := range []string{"", "page=200", "sort=health", "sort=token_expiry&desc=1", "q=login-13.example"} {
				b.Run(cmp.Or(query, "first page"), func(b *testing.B) {
					for b.Loop() {
						if r := v.get("/credentials?" + query); r.StatusCode != 200 || !credentialLink.MatchString(r.body) {
							b.Fatalf("HTTP %d without a credential", r.StatusCode)
						}
					}
					b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/page")
				})
			}
		})
	}
}

// TestListQueries counts on the wire what PostgreSQL is asked for one list page: a handful of
// queries, no more for a full page of fifty rows than for one row.
func TestListQueries(t *testing.T) {
	t.Parallel()
	address := storetest.Postgres(t)
	counter := countQueries(t, address)
	h := startHub(t, grantwaytest.HubOptions{Database: counter.url})
	v := owner(t, h)
	least := func() int64 { // what the hub asks by itself meanwhile is not the page's
		least := int64(1 << 40)
		for range 8 {
			before := counter.n.Load()
			if r := v.get("/credentials"); r.StatusCode != 200 {
				t.Fatal(r.StatusCode)
			}
			least = min(least, counter.n.Load()-before)
		}
		return least
	}
	fillUp(t, address, 1)
	one := least()
	if _, err := h.CreateDivision(t.Context(), grantway.Division{Name: "x"}); err != nil { // the counter works
		t.Fatal(err)
	}
	fillMore(t, address, 1, 200)
	fifty := least()
	if one == 0 || one > 6 || fifty > one {
		t.Errorf("one row takes %d queries, a full page %d; want at most 6, and no more for more rows", one, fifty)
	}
	t.Logf("%d queries", fifty)
}

// queryCounter stands between a hub and PostgreSQL, and counts what the hub executes.
type queryCounter struct {
	url string
	n   atomic.Int64
}

func countQueries(t *testing.T, address string) *queryCounter {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.Addr().String()
	c := &queryCounter{url: u.String()}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			hub, err := l.Accept()
			if err != nil {
				return
			}
			database, err := net.Dial("tcp", server)
			if err != nil {
				hub.Close()
				continue
			}
			all.Go(func() { io.Copy(hub, database); hub.Close() })
			all.Go(func() { c.forward(database, hub); database.Close() })
		}
	})
	return c
}

// forward copies the messages of a client (PostgreSQL, section "Message Formats": a type but
// for the first one, a length, a body). Execute and Query run something.
func (c *queryCounter) forward(to io.Writer, from io.Reader) {
	in := bufio.NewReader(from)
	for first := true; ; first = false {
		head := make([]byte, 5)
		if first {
			head = head[1:]
		}
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		if head[0] == 'E' || head[0] == 'Q' {
			c.n.Add(1)
		}
		if _, err := to.Write(head); err != nil {
			return
		}
		if _, err := io.CopyN(to, in, int64(binary.BigEndian.Uint32(head[len(head)-4:]))-4); err != nil {
			return
		}
	}
}
