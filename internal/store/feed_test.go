package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// changed commits a change of keys.
func changed(t *testing.T, s *store.Store, topic string, keys ...string) {
	t.Helper()
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		for _, key := range keys {
			tx.Changed(topic, key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// subscribe returns what a subscriber of topic hears.
func subscribe(t *testing.T, s *store.Store, topic string) <-chan string {
	t.Helper()
	heard := make(chan string, 10_000)
	t.Cleanup(s.Subscribe(topic, func(_ context.Context, key string) error { heard <- key; return nil }))
	return heard
}

// hear waits for the keys.
func hear(t *testing.T, heard <-chan string, want ...string) {
	t.Helper()
	for _, want := range want {
		select {
		case got := <-heard:
			if got != want {
				t.Fatalf("heard %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("did not hear %q", want)
		}
	}
}

func TestChangeReachesReplicas(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		a, b := storetest.Open(t, url), storetest.Open(t, url)
		heardA, heardB := subscribe(t, a, "credential"), subscribe(t, b, "credential")
		other := subscribe(t, b, "client")

		changed(t, a, "credential", "one", "two", "one")
		hear(t, heardA, "one", "two")
		if strings.HasSuffix(t.Name(), "SQLite") {
			hear(t, heardB, "") // the two Stores share nothing but the file
		} else {
			hear(t, heardB, "one", "two")
		}
		changed(t, b, "client", "c")
		hear(t, other, "c")

		// What is rolled back is not told.
		if err := b.Write(t.Context(), func(tx *store.Tx) error { tx.Changed("client", "x"); return errors.New("no") }); err == nil {
			t.Error("no error")
		}
		changed(t, b, "client", "d")
		hear(t, other, "d")
	})
}

func TestChangesComeInOrder(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		heard := subscribe(t, s, "credential")
		var want []string
		for i := range 300 {
			want = append(want, fmt.Sprint(i))
			changed(t, s, "credential", want[i])
		}
		hear(t, heard, want...)
	})
}

func TestManyKeysBecomeAll(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		heard := subscribe(t, s, "credential")
		keys := make([]string, 2000)
		for i := range keys {
			keys[i] = fmt.Sprint("a-rather-long-key-", i)
		}
		changed(t, s, "credential", keys...)
		hear(t, heard, "")
	})
}

func TestSubscribeBeforeStart(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		s := open(t, store.Options{URL: url})
		heard := subscribe(t, s, "credential")
		changed(t, s, "credential", "early")
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		hear(t, heard, "")
		changed(t, s, "credential", "late")
		hear(t, heard, "late")
	})
}

func TestCanceledSubscriptionIsSilent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		cancel := s.Subscribe("credential", func(context.Context, string) error { t.Error("called"); return nil })
		heard := subscribe(t, s, "credential")
		cancel()
		changed(t, s, "credential", "one")
		hear(t, heard, "one")
	})
}

func TestFailedSubscriberIsCalledAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		calls := make(chan string, 10)
		failures := 2
		cancel := s.Subscribe("credential", func(_ context.Context, key string) error {
			calls <- key
			if failures--; failures >= 0 {
				return errors.New("away")
			}
			return nil
		})
		defer cancel()
		changed(t, s, "credential", "one")
		hear(t, calls, "one", "", "")
		changed(t, s, "credential", "two")
		hear(t, calls, "two")
	})
}

func TestCloseWaitsForSubscribers(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		s := open(t, store.Options{URL: url})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		called, ended := make(chan bool), false
		s.Subscribe("credential", func(ctx context.Context, _ string) error {
			close(called)
			<-ctx.Done()
			ended = true
			return ctx.Err()
		})
		changed(t, s, "credential", "one")
		<-called
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if !ended {
			t.Error("Close did not wait")
		}
	})
}

// TestListeningConnectionIsCut cuts the connection that listens: a change that happens before
// it is back is still heard in time, and afterwards keys are told by name again.
func TestListeningConnectionIsCut(t *testing.T) {
	url := storetest.Postgres(t)
	a, b := storetest.Open(t, url), storetest.Open(t, url)
	heard := subscribe(t, b, "credential")
	const listening = `FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'grantway listen' AND state = 'idle' AND query <> ''`

	if n := number(t, a, `SELECT count(pg_terminate_backend(pid)) `+listening); n != 2 {
		t.Fatalf("cut %d connections, want 2", n)
	}
	changed(t, a, "credential", "lost")
	committed := time.Now()
	hear(t, heard, "")
	if took := time.Since(committed); took > store.Staleness {
		t.Errorf("heard after %v, want at most %v", took, store.Staleness)
	}

	for number(t, a, `SELECT count(*) `+listening) < 2 { // until they are back
	}
	changed(t, a, "credential", "found")
	hear(t, heard, "found")
}
