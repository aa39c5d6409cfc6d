package secret_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// logBuffer is the log of a hub.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// within calls f until it is content.
func within(t *testing.T, d time.Duration, what string, f func() bool) {
	t.Helper()
	for began := time.Now(); !f(); <-time.After(20 * time.Millisecond) {
		if time.Since(began) > d {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// file writes a secret of the store "file".
func (s *scene) file(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.files, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// open opens the hub's database beside it.
func (s *scene) open(t *testing.T) *store.Store {
	t.Helper()
	url := s.database
	if url == "" {
		url = "sqlite:" + filepath.Join(s.Data, "grantway.db")
	}
	db, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// count runs a query for one number.
func (s *scene) count(t *testing.T, query string) (n int) {
	t.Helper()
	db := s.open(t)
	defer db.Close()
	if err := db.Read().QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// nowhere looks for secrets in the hub's log, its files and every text of its database.
func (s *scene) nowhere(t *testing.T, secrets ...string) {
	t.Helper()
	look := func(where string, text []byte) {
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("a secret is in %s", where)
			}
		}
	}
	look("the log", s.log.bytes())
	files, err := filepath.Glob(filepath.Join(s.Data, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if text, err := os.ReadFile(path); err == nil {
			look(path, text)
		}
	}
	db := s.open(t)
	defer db.Close()
	for _, query := range []string{`SELECT inputs FROM credential`, `SELECT inputs FROM secret_store`, `SELECT failure FROM token`,
		`SELECT last_failure FROM credential_health`, `SELECT detail || object FROM audit`, `SELECT sealed FROM secret_store_secret`} {
		rows, err := db.Read().QueryContext(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var text []byte
			if err := rows.Scan(&text); err != nil {
				t.Fatal(err)
			}
			look(query, text)
		}
		rows.Close()
	}
}
