package e2e_test

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store/storetest"
)

// TestStopDuringRequests: a hub that is told to stop takes no new connections, ends the
// requests it has, and closes its database.
func TestStopDuringRequests(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, s site) {
		t.Parallel()
		const callers = 50
		p := grantwaytest.NewProvider(t)
		registerApp(p, time.Hour)
		h := start(t, s)
		who := owner(t, s, h)
		who.save(h, "cold", p.Token.URL, 1)

		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		release := p.Token.Hold()
		defer release()
		answers := make(chan answer, callers)
		for range callers {
			go func() {
				a, err := who.try(ctx, h, http.MethodPost, "/v1/credentials/cold/token", nil)
				if err != nil {
					a.body = []byte(err.Error())
				}
				answers <- a
			}()
		}
		until(t, "all callers wait", func() bool { return who.waiters(h, "cold") == callers })
		h.terminate()
		address := strings.TrimPrefix(h.url, "http://")
		until(t, "it takes no new connections", func() bool {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		select {
		case <-h.ended:
			t.Fatal("the hub ended with requests in flight")
		default:
		}
		release()
		for range callers {
			if a := <-answers; a.status != http.StatusOK {
				t.Fatal(a)
			}
		}
		who.http.CloseIdleConnections() // net/http waits 5 seconds for the first request on a connection
		answered := time.Now()
		if code := h.wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		took := time.Since(answered)
		t.Logf("the process was gone %v after the last answer", took.Round(time.Millisecond))
		if took > 5*time.Second {
			t.Errorf("the process was gone %v after the last answer", took)
		}
		for _, path := range glob(t, s.data, "grantway.db-*") { // what SQLite keeps beside an open database
			t.Errorf("%s was left behind", path)
		}

		h = start(t, s)
		if a := who.token(h, "cold"); a.status != http.StatusOK || p.Token.Count() != 1 {
			t.Errorf("after a restart: %d token requests, %v", p.Token.Count(), a)
		}
	})
}

// TestStopDuringRenewal: a hub does not stay for a renewal that nobody waits for, and leaves
// no lease behind that the next one would have to wait for.
func TestStopDuringRenewal(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, s site) {
		t.Parallel()
		p := grantwaytest.NewProvider(t)
		registerApp(p, 3*time.Second)
		h := start(t, s)
		who := owner(t, s, h)
		who.save(h, "short", p.Token.URL, 1)
		first := who.token(h, "short").token()
		release := p.Token.Hold()
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := p.Token.Await(ctx, 2); err != nil {
			t.Fatal(err)
		}
		told := time.Now()
		h.stop()
		if took := time.Since(told); took > 2*time.Second {
			t.Errorf("stopping took %v", took)
		}
		release()
		h = start(t, s)
		asked := time.Now()
		// The first token may have a moment left. Without it the next one is there at once.
		until(t, "another token", func() bool {
			a := who.token(h, "short")
			return a.status == http.StatusOK && a.token().AccessToken != first.AccessToken
		})
		if waited := time.Since(asked) - max(0, first.ExpiresAt.Sub(asked)); waited > time.Second {
			t.Errorf("the next hub had a token after %v", waited)
		}
	})
}

// TestSecondSignal: who cannot wait for requests in flight asks twice.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	registerApp(p, time.Hour)
	s := sqlite(t)
	h := start(t, s)
	who := owner(t, s, h)
	who.save(h, "cold", p.Token.URL, 1)
	release := p.Token.Hold()
	defer release()
	lost := make(chan error, 1)
	go func() {
		_, err := who.try(t.Context(), h, http.MethodPost, "/v1/credentials/cold/token", nil)
		lost <- err
	}()
	until(t, "the caller waits", func() bool { return who.waiters(h, "cold") == 1 })
	told := time.Now()
	until(t, "the hub is gone", func() bool {
		select {
		case <-h.ended:
			return true
		default:
			h.cmd.Process.Signal(syscall.SIGTERM)
			return false
		}
	})
	if took := time.Since(told); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := <-lost; err == nil {
		t.Error("the caller got an answer")
	}
}

// TestStopLeavesNothing: of a hub that ran and was stopped no goroutine is left. It runs in
// this process, where that can be seen.
func TestStopLeavesNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s site) {
		p := grantwaytest.NewProvider(t)
		registerApp(p, 3*time.Second)
		before := goleak.IgnoreCurrent()
		running, err := app.New(t.Context(), app.Options{
			Listen: "127.0.0.1:0", Data: s.data, Database: s.database, Key: s.key,
			AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := running.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		h := &hub{t: t, url: running.URL()}
		who := owner(t, s, h)
		who.save(h, "short", p.Token.URL, 1)
		if a := who.token(h, "short"); a.status != http.StatusOK {
			t.Fatal(a)
		}
		release := p.Token.Hold() // a renewal is under way
		defer release()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := p.Token.Await(ctx, 2); err != nil {
			t.Fatal(err)
		}
		who.http.CloseIdleConnections()
		if err := running.Stop(ctx); err != nil {
			t.Error(err)
		}
		p.Close() // whose side of the connections are goroutines, too
		goleak.VerifyNone(t, before)
	})
}

// TestSecondInstance: two hubs cannot have the same SQLite database. Killing one frees it.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	s := sqlite(t)
	h := start(t, s)
	says(t, refused(t, s), filepath.Join(s.data, "grantway.db"), "in use by another grantway")
	who := owner(t, s, h)
	who.must(h, http.MethodGet, "/readyz", nil)
	h.kill()
	who.must(start(t, s), http.MethodGet, "/readyz", nil)
}

// TestRefusedStart: a hub that cannot open what is in its database says so and leaves
// every file as it was.
func TestRefusedStart(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	registerApp(p, time.Hour)
	s := sqlite(t)
	h := start(t, s)
	who := owner(t, s, h)
	who.save(h, "kept", p.Token.URL, 1)
	token := who.token(h, "kept").token().AccessToken
	h.stop()

	other := s
	keyFile := filepath.Join(t.TempDir(), "other")
	if err := seal.GenerateKeyFile(keyFile); err != nil {
		t.Fatal(err)
	}
	other.key = "file:" + keyFile
	unchanged(t, s, func() { says(t, refused(t, other), "key") })

	key, hidden := filepath.Join(s.data, "key"), filepath.Join(t.TempDir(), "key")
	if err := os.Rename(key, hidden); err != nil {
		t.Fatal(err)
	}
	unchanged(t, s, func() { says(t, refused(t, s), key, "missing", "backup") })
	if err := os.Rename(hidden, key); err != nil {
		t.Fatal(err)
	}

	newer := func(statement string) {
		t.Helper()
		db := open(t, s)
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil { // which moves the write-ahead log into the file
			t.Fatal(err)
		}
	}
	newer(`INSERT INTO schema_version (version_id, is_applied) VALUES (9999, TRUE)`)
	unchanged(t, s, func() { says(t, refused(t, s), "schema version 9999", "newer grantway") })
	newer(`DELETE FROM schema_version WHERE version_id = 9999`)

	h = start(t, s)
	if got := who.token(h, "kept").token().AccessToken; got != token {
		t.Error("after all that, the stored token is another one")
	}
}

// TestRefusedReplica: a hub with another key does not join the replicas of a database.
func TestRefusedReplica(t *testing.T) {
	t.Parallel()
	database := storetest.EmptyPostgres(t)
	hubs, who := replicas(t, database, 1)
	stranger := postgres(t, database) // which makes a key of its own
	says(t, refused(t, stranger), "key")
	if found := glob(t, stranger.data, "*"); len(found) > 0 {
		t.Errorf("it left %v", found)
	}
	who.must(hubs[0], http.MethodGet, "/readyz", nil)
}

func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("it does not say %q:\n%s", part, text)
		}
	}
	t.Log(strings.TrimSpace(text))
}

// unchanged runs f and compares the files of a site before and after.
func unchanged(t *testing.T, s site, f func()) {
	t.Helper()
	before := hashes(t, s.data)
	f()
	if diff := cmp.Diff(before, hashes(t, s.data)); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
}

func hashes(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	all := map[string][sha256.Size]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[path] = sha256.Sum256(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 3 {
		t.Fatalf("only %v in %s", slices.Collect(maps.Keys(all)), dir)
	}
	return all
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}
