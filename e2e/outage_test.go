package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// TestProviderDown: a valid token is served until it expires, then callers hear why there
// is none and when to come back; nobody has to do anything when the provider is up again.
func TestProviderDown(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, s site) {
		t.Parallel()
		p := grantwaytest.NewProvider(t)
		registerApp(p, 4*time.Second)
		h := start(t, s)
		who := owner(t, s, h)
		who.save(h, "short", p.Token.URL, 1)
		first := who.token(h, "short").token()
		if first.AccessToken == "" {
			t.Fatal("no token")
		}
		p.Down()
		asked := p.Token.Count()

		var refusal answer
		served, degraded := 0, false
		until(t, "the token expires", func() bool {
			before := time.Now()
			a := who.token(h, "short")
			after := time.Now()
			switch a.status {
			case http.StatusOK:
				served++
				if a.token().AccessToken != first.AccessToken || before.After(first.ExpiresAt) {
					t.Fatalf("%v after the expiry: %v", before.Sub(first.ExpiresAt), a)
				}
			default:
				refusal = a
				if left := first.ExpiresAt.Sub(after); left > 50*time.Millisecond {
					t.Fatalf("refused while the token is valid for another %v: %v", left, a)
				}
			}
			degraded = degraded || health(t, who, h, "short") == grantway.Degraded
			return refusal.status != 0
		})
		if served == 0 || !degraded {
			t.Errorf("served %d times while the provider was down, health was degraded: %t", served, degraded)
		}

		var problem grantway.Problem
		if err := refusal.decode(&problem); err != nil || refusal.status != http.StatusServiceUnavailable ||
			refusal.header.Get("Content-Type") != "application/problem+json" || problem.Code != grantway.Unavailable {
			t.Errorf("not the problem of an unavailable provider: %v", refusal)
		}
		if !strings.Contains(problem.Detail, "short") || !strings.Contains(problem.Detail, "refused") {
			t.Errorf("the cause is not told: %s", problem.Detail)
		}
		if seconds, err := strconv.Atoi(refusal.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
			t.Errorf("Retry-After %q", refusal.header.Get("Retry-After"))
		}
		if got := health(t, who, h, "short"); got != grantway.Failing {
			t.Errorf("health is %s", got)
		}

		if err := p.Up(); err != nil {
			t.Fatal(err)
		}
		up := time.Now()
		var renewed answer
		until(t, "a token after the outage", func() bool {
			renewed = who.token(h, "short")
			return renewed.status == http.StatusOK
		})
		t.Logf("served %d times while the provider was down; a new token %v after it was up again; %s", served, time.Since(up).Round(time.Millisecond), problem.Detail)
		if renewed.token().AccessToken == first.AccessToken || p.Token.Count() != asked+1 {
			t.Errorf("%d token requests after the outage, want 1", p.Token.Count()-asked)
		}
		if got := health(t, who, h, "short"); got != grantway.Healthy {
			t.Errorf("health is %s", got)
		}
	})
}

func health(t *testing.T, who *caller, h *hub, name string) grantway.Health {
	t.Helper()
	var status grantway.Status
	if err := who.must(h, http.MethodGet, "/v1/credentials/"+name+"/status", nil).decode(&status); err != nil {
		t.Fatal(err)
	}
	return status.Health
}

// TestDatabaseDown: without their database hubs go on serving and renewing the tokens they
// know; when it is back, all is as before.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	registerApp(p, 4*time.Second)
	db := newServer(t)
	hubs, who := replicas(t, db.url, 2)
	who.save(hubs[0], "short", p.Token.URL, 1)
	who.save(hubs[0], "idle", p.Token.URL, 1)
	known(t, who, "idle", hubs...)
	for _, h := range hubs {
		if a := who.token(h, "short"); a.status != http.StatusOK {
			t.Fatal(a)
		}
	}

	db.run(t, "down")
	down := time.Now()
	for _, h := range hubs {
		// Two lifetimes, so that what is served at the end can only have been renewed meanwhile.
		seen := map[string]bool{}
		until(t, "two renewals without a database", func() bool {
			a := who.token(h, "short")
			if a.status != http.StatusOK {
				t.Fatalf("%v after the database went down: %v", time.Since(down).Round(time.Millisecond), a)
			}
			seen[a.token().AccessToken] = true
			return len(seen) == 3
		})
	}
	t.Logf("renewed twice at each of %d hubs in %v without a database", len(hubs), time.Since(down).Round(time.Millisecond))
	a := hubs[0]
	for path, status := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/healthz": http.StatusOK} {
		if got := who.ask(a, http.MethodGet, path, nil); got.status != status {
			t.Errorf("%s: %v, want %d", path, got, status)
		}
	}
	if got := who.metric(a, "grantway_database_away"); got != 1 {
		t.Errorf("grantway_database_away is %v", got)
	}
	for what, got := range map[string]answer{
		"save":                 who.ask(a, http.MethodPut, "/v1/credentials/short", credential("short", p.Token.URL, 2)),
		"token not in memory":  who.token(a, "idle"),
		"list":                 who.ask(a, http.MethodGet, "/v1/credentials", nil),
		"create":               who.ask(a, http.MethodPost, "/v1/credentials", credential("new", p.Token.URL, 1)),
		"status of credential": who.ask(a, http.MethodGet, "/v1/credentials/short/status", nil),
	} {
		var problem grantway.Problem
		if err := got.decode(&problem); err != nil || got.status != http.StatusServiceUnavailable || problem.Code != grantway.Unavailable {
			t.Errorf("%s without a database: %v, want 503", what, got)
		}
	}

	db.run(t, "up")
	up := time.Now()
	for _, h := range hubs {
		until(t, "ready again", func() bool { return who.ask(h, http.MethodGet, "/readyz", nil).status == http.StatusOK })
	}
	t.Logf("ready %v after the database was up again", time.Since(up).Round(time.Millisecond))
	p.Token.Always(echo)
	who.save(a, "short", p.Token.URL, 2)
	saved := time.Now()
	b := hubs[1]
	until(t, "the other replica has the new version", func() bool { return saveOf(t, who.token(b, "short")) == 2 })
	if stale := time.Since(saved); stale > time.Second {
		t.Errorf("the other replica had the old version for %v", stale)
	}
	asked := p.Token.Count()
	for _, h := range hubs {
		if n := saveOf(t, who.token(h, "idle")); n != 1 {
			t.Errorf("token of save %d", n)
		}
	}
	if n := p.Token.Count() - asked; n != 1 {
		t.Errorf("%d token requests for two replicas, want 1: they do not share again", n)
	}
	until(t, "the alarm ends", func() bool {
		return who.metric(a, "grantway_database_away")+who.metric(b, "grantway_database_away") == 0
	})
}

// server is a PostgreSQL server of its own, which can be stopped and started.
type server struct{ dir, url string }

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	out := s.run(t, "start")
	m := regexp.MustCompile(`GRANTWAY_TEST_POSTGRES='(.*)' GRANTWAY_TEST_POSTGRES_DIR='(.*)'`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("scripts/postgres start: %s", out)
	}
	s.url, s.dir = m[1], m[2]
	t.Cleanup(func() { s.run(t, "stop") })
	return s
}

// run runs a command of scripts/postgres.
func (s *server) run(t *testing.T, command string) string {
	t.Helper()
	cmd := exec.Command("../scripts/postgres", command)
	cmd.Env = append(environ(), "GRANTWAY_TEST_POSTGRES_DIR="+s.dir)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = exit.Stderr
		}
		t.Fatalf("scripts/postgres %s: %v\n%s", command, err, out)
	}
	return string(out)
}

// echo is a reply of the provider that takes any client and any secret. The token tells
// with which of them it was asked for.
func echo(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"access_token": fmt.Sprintf("%s.%d", base64.RawURLEncoding.EncodeToString([]byte(id+" "+secret)), echoes.Add(1)),
		"token_type":   "Bearer", "expires_in": 3600,
	})
}

// echoes makes every token a new one.
var echoes atomic.Int64

// saveOf returns of which save of a credential both the client and the secret are that a
// token of echo was asked for with; 0 when the answer holds no such token.
func saveOf(t *testing.T, a answer) int {
	t.Helper()
	text, _, _ := strings.Cut(a.token().AccessToken, ".")
	plain, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(plain) == 0 {
		return 0
	}
	var id, secret int
	if _, err := fmt.Sscanf(string(plain), "app-%d secret-%d", &id, &secret); err != nil {
		return 0 // a token of the healthy provider
	}
	if id != secret {
		t.Errorf("a token with the client of save %d and the secret of save %d", id, secret)
	}
	return id
}
