package console_test

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// fillUp writes n credentials with their health and tokens as n saves and fetches would have.
func fillUp(t testing.TB, databaseURL string, n int) {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, store.Options{URL: databaseURL})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Now()
	err = db.Write(ctx, func(tx *store.Tx) error {
		for i := range n {
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

// TestTenThousand wants the list of 10,000 credentials within 100 ms of server time, however
// it is searched and sorted, and right.
func TestTenThousand(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) (string, string){
		"SQLite":     func(*testing.T) (string, string) { return "", "" },
		"PostgreSQL": func(t *testing.T) (string, string) { u := storetest.Postgres(t); return u, u },
	} {
		t.Run(name, func(t *testing.T) {
			o := grantwaytest.HubOptions{}
			var address string
			o.Database, address = database(t)
			h := startHub(t, o)
			if address == "" {
				address = "sqlite:" + filepath.Join(h.Data, "grantway.db")
			}
			fillUp(t, address, 10_000)
			v := owner(t, h)
			names := regexp.MustCompile(`<a href="/credentials/cred_[0-9]+">([^<]+)</a>`)
			for query, want := range map[string]struct {
				first string
				total string
			}{
				"":                               {"app-00000", "10,000"},
				"page=200":                       {"app-09950", "10,000"},
				"sort=name&desc=1":               {"app-09999", "10,000"},
				"sort=host&desc=1":               {"app-00096", "10,000"},
				"sort=health":                    {"app-00000", "10,000"},
				"sort=last_success&desc=1":       {"app-00000", "10,000"},
				"sort=token_expiry":              {"", "10,000"},
				"sort=secret_expiry":             {"", "10,000"},
				"sort=updated":                   {"", "10,000"},
				"q=LOGIN-13.example":             {"app-00013", "103"},
				"q=client-9999":                  {"app-09999", "1"},
				"q=100%25":                       {"", ""},
				"health=not_validated":           {"app-00004", "2,000"},
				"health=failing&sort=division":   {"app-00000", ""},
				"health=degraded&division=home":  {"", ""},
				"expiring=1&division=operations": {"", ""},
			} {
				var took []time.Duration
				var r reply
				for range 3 {
					began := time.Now()
					r = v.get("/credentials?" + query)
					took = append(took, time.Since(began))
				}
				if best := slices.Min(took); best > 100*time.Millisecond*slower {
					t.Errorf("%s took %v", query, took)
				}
				rows := names.FindAllStringSubmatch(r.body, -1)
				if r.StatusCode != 200 || want.first != "" && (len(rows) == 0 || rows[0][1] != want.first) {
					t.Errorf("%s: %d, the first of %d rows is %v, want %s", query, r.StatusCode, len(rows), rows[:min(1, len(rows))], want.first)
				}
				if want.total != "" && !strings.Contains(r.body, "of "+want.total+"<") {
					t.Errorf("%s does not say that there are %s", query, want.total)
				}
			}
			if r := v.get("/credentials?q=" + url.QueryEscape(strings.Repeat("x", 300))); r.StatusCode != 422 {
				t.Errorf("a search text of 300 letters: %d", r.StatusCode)
			}
		})
	}
}
