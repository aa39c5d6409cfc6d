package app_test

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/grantway/grantway/grantwaytest"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// As long as there is nobody, each start says how the first person gets in, by a link of its own.
func TestSetupLink(t *testing.T) {
	data := t.TempDir()
	link := regexp.MustCompile(`link=(http://127\.0\.0\.1:\d+/setup/\S{43})\n`)
	links := map[string]bool{}
	for range 2 {
		t.Run("start", func(t *testing.T) {
			log := &lines{}
			hub := grantwaytest.Start(t, grantwaytest.HubOptions{Data: data, Log: slog.New(slog.NewTextHandler(log, nil))})
			log.mu.Lock()
			defer log.mu.Unlock()
			found := link.FindStringSubmatch(log.text.String())
			if found == nil || !strings.HasPrefix(found[1], hub.URL) {
				t.Fatalf("no link: %s", log.text.String())
			}
			links[found[1]] = true
		})
	}
	if len(links) != 2 {
		t.Errorf("%d links", len(links))
	}
}
