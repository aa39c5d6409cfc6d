package issuer_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// heard returns a function that waits until h has been told of n more changes of clients, which
// takes store.Staleness at most, and longer on a busy machine.
// Subscribers are told in the order in which they subscribed, so h knows by then.
func (h *hub) heard() (wait func(n int)) { return h.heardOf("client") }

func (h *hub) heardOf(topic string) (wait func(n int)) {
	told := make(chan struct{}, 100)
	cancel := h.store.Subscribe(topic, func(context.Context, string) error { told <- struct{}{}; return nil })
	h.t.Cleanup(cancel)
	return func(n int) {
		h.t.Helper()
		for range n {
			select {
			case <-told:
			case <-time.After(5 * store.Staleness):
				h.t.Fatal("no change heard")
			}
		}
	}
}

// What one replica makes, the other takes at once; what one ends, the other ends within
// store.Staleness.
func TestReplicas(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		c := a.client("app", "application home")
		token := b.token(c) // before b can have heard of it
		for _, h := range []*hub{a, b} {
			if got := h.me("Bearer " + token); got.status != 200 || got.body != c.ID {
				t.Fatalf("%d %s", got.status, got.body)
			}
		}
		wait := b.heard()
		reset, err := a.ResetSecret(t.Context(), owner, c.ID, grantway.SecretReset{})
		ok(t, err)
		for b.post(grantBody, basic(c.ID, c.Secret)).status != 401 { // then b has not heard of it yet
			wait(1)
		}
		c.Secret = reset.Secret
		b.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
		for _, test := range []struct {
			what   string
			change func() error
			want   int
		}{
			{"fewer roles", func() error {
				_, err := a.UpdateClient(t.Context(), owner, grantway.OAuthClient{ID: c.ID, Name: c.Name, Roles: assignments("designer home")})
				return err
			}, 403},
			{"more roles", func() error {
				_, err := a.UpdateClient(t.Context(), owner, grantway.OAuthClient{ID: c.ID, Name: c.Name, Roles: assignments("application *")})
				return err
			}, 200},
			{"off", func() error { return a.SetActive(t.Context(), owner, c.ID, false) }, 401},
			{"on", func() error { return a.SetActive(t.Context(), owner, c.ID, true) }, 200},
			{"deleted", func() error { return a.DeleteClient(t.Context(), owner, c.ID) }, 401},
		} {
			ok(t, test.change())
			for b.me("Bearer "+token).status != test.want { // then b has not heard of it yet
				wait(1)
			}
			if got := a.me("Bearer " + token).status; got != test.want {
				t.Errorf("%s, where it was changed: %d, want %d", test.what, got, test.want)
			}
		}
		b.post(grantBody, basic(c.ID, c.Secret)).want(t, 401, "invalid_client")
	})
}

// A replica that was not told of changes one by one reads all again.
func TestMissedChanges(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		kept, deleted := h.client("kept", "application home"), h.client("deleted", "application home")
		keptToken, deletedToken := h.token(kept), h.token(deleted)
		wait := h.heard()
		ok(t, h.store.Write(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.ExecContext(t.Context(), `DELETE FROM client WHERE id = $1`, deleted.ID); err != nil {
				return err
			}
			tx.Changed("client", "")
			return nil
		}))
		wait(1)
		if got := h.me("Bearer " + keptToken); got.status != 200 {
			t.Errorf("kept: %d", got.status)
		}
		if got := h.me("Bearer " + deletedToken); got.status != 401 {
			t.Errorf("deleted: %d", got.status)
		}
	})
}

// While the database is away, clients that are known get tokens, and tokens are taken, whether they were seen
// before or not; a client that is refused may be a new one, so it is told to come again.
func TestDatabaseAway(t *testing.T) {
	key := newKey(t)
	storetest.EachURL(t, func(t *testing.T, url string) {
		s, err := store.Open(t.Context(), store.Options{URL: url})
		ok(t, err)
		ok(t, s.Start(t.Context()))
		h := start(t, s, key)
		c := h.client("app", "application home")
		token, unseen := h.token(c), h.token(c)
		h.ForgetSessions()
		if got := h.me("Bearer " + token); got.status != 200 {
			t.Fatal(got.status)
		}
		ok(t, s.Close())
		if got := h.me("Bearer " + token); got.status != 200 {
			t.Errorf("known token: %d %s", got.status, got.body)
		}
		if got := h.me("Bearer " + unseen); got.status != 200 {
			t.Errorf("token not seen before: %d %s", got.status, got.body)
		}
		if got := h.me("Bearer gwt_garbage"); got.status != 401 {
			t.Errorf("garbage: %d %s", got.status, got.body)
		}
		if got := h.post(grantBody, basic(c.ID, c.Secret)); got.status != 200 || h.me("Bearer "+got.token()).status != 200 {
			t.Errorf("a client that is known: %d %s", got.status, got.body)
		}
		for name, auth := range map[string]edit{"wrong": basic(c.ID, "x"), "unknown": basic("x", "x")} {
			if got := h.post(grantBody, auth); got.status != 503 || got.header.Get("Retry-After") == "" || got.error() != "temporarily_unavailable" {
				t.Errorf("%s: %d %s", name, got.status, got.body)
			}
		}
	})
}

// After a restart tokens and secrets are good, with the same key of the hashes.
func TestRestart(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		c := a.client("app", "application home")
		token := a.token(c)
		ok(t, b.Stop(t.Context()))
		ok(t, b.Start(t.Context()))
		if got := b.me("Bearer " + token); got.status != 200 {
			t.Errorf("got %d", got.status)
		}
		b.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
	})
}

// The rotation of data keys changes nothing for clients.
func TestReseal(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		key := newKey(t)
		h := start(t, s, key)
		c := h.client("app", "application home")
		token := h.token(c)
		kek, err := seal.ParseKey(key)
		ok(t, err)
		sealer, err := seal.Open(t.Context(), s, kek)
		ok(t, err)
		defer sealer.Close()
		if n, err := sealer.Rotate(t.Context(), nil, h.Reseal); err != nil || n != 2 { // the key of the hashes, and that of opaque tokens
			t.Fatalf("%d, %v", n, err)
		}
		if n, err := h.Reseal(t.Context(), sealer); err != nil || n != 0 {
			t.Errorf("again: %d, %v", n, err)
		}
		other := start(t, s, key)
		if got := other.me("Bearer " + token); got.status != 200 {
			t.Errorf("got %d", got.status)
		}
		other.post(grantBody, basic(c.ID, c.Secret)).want(t, 200, "")
	})
}

// The first client is made once, whatever happens.
func TestEnsureOwner(t *testing.T) {
	pair(t, func(t *testing.T, a, b *hub) {
		full := errors.New("disk full")
		if created, err := a.EnsureOwner(t.Context(), func(grantway.OAuthClient) error { return full }); created || !errors.Is(err, full) {
			t.Fatalf("%t, %v", created, err)
		}
		if n := a.count(`SELECT count(*) FROM client`); n != 0 {
			t.Fatalf("%d clients, and nobody has their secrets", n)
		}

		var kept []grantway.OAuthClient
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, h := range []*hub{a, b, a, b} {
			wg.Go(func() {
				var mine grantway.OAuthClient
				created, err := h.EnsureOwner(t.Context(), func(c grantway.OAuthClient) error { mine = c; return nil })
				if err != nil {
					t.Error(err)
				}
				if created {
					mu.Lock()
					defer mu.Unlock()
					kept = append(kept, mine)
				}
			})
		}
		wg.Wait()
		if len(kept) != 1 {
			t.Fatalf("%d owners", len(kept))
		}
		c := kept[0]
		for _, h := range []*hub{a, b} {
			r := newRequest("")
			r.Header.Set("Authorization", "Bearer "+h.token(c))
			who, err := h.Authenticate(r)
			ok(t, err)
			if err := who.Check(access.RotateKey, access.Everywhere); err != nil {
				t.Error(err)
			}
		}

		a.client("other-owner", "owner *") // the last owner cannot be deleted
		ok(t, a.DeleteClient(t.Context(), owner, c.ID))
		never := func(grantway.OAuthClient) error { t.Error("made again"); return nil }
		if created, err := b.EnsureOwner(t.Context(), never); created || err != nil {
			t.Errorf("%t, %v", created, err)
		}
	})
	each(t, func(t *testing.T, h *hub) { // a hub whose clients came from elsewhere needs none
		h.client("app", "application home")
		never := func(grantway.OAuthClient) error { t.Error("made"); return nil }
		if created, err := h.EnsureOwner(t.Context(), never); created || err != nil {
			t.Errorf("%t, %v", created, err)
		}
	})
}

// A wrong key-encryption key is noticed at the start, not at the first request.
func TestNewWithDamagedKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		key := newKey(t)
		start(t, s, key)
		ok(t, s.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.ExecContext(t.Context(), `UPDATE issuer_state SET value = $1 WHERE name = 'hash_key'`, []byte("damaged"))
			return err
		}))
		kek, err := seal.ParseKey(key)
		ok(t, err)
		sealer, err := seal.Open(t.Context(), s, kek)
		ok(t, err)
		defer sealer.Close()
		_, err = issuer.New(t.Context(), issuer.Options{Store: s, Sealer: sealer, Audit: access.NewLog(s, slog.Default())})
		if err == nil || !strings.Contains(err.Error(), "key for the hashes") {
			t.Errorf("got %v", err)
		}
	})
}

// Requests that race with the deletion of their client get a token or a refusal, and
// others are not harmed.
func TestDeleteUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		stays := h.client("stays", "application home")
		handler := h.Handler()
		for round := range 5 {
			goes := h.client("goes"+string(rune('0'+round)), "application home")
			var wg sync.WaitGroup
			tokens := make(chan string, 80)
			for range 8 {
				wg.Go(func() {
					for range 10 {
						switch got := h.post(grantBody, basic(goes.ID, goes.Secret)); got.status {
						case http.StatusOK:
							tokens <- got.token()
						case http.StatusUnauthorized, http.StatusTooManyRequests:
						default:
							t.Errorf("client that goes: %d", got.status)
						}
						if got := post(handler, "127.0.0.1", stays.ID, stays.Secret); got != http.StatusOK {
							t.Errorf("client that stays: %d", got)
						}
					}
				})
			}
			ok(t, h.DeleteClient(t.Context(), owner, goes.ID))
			wg.Wait()
			_, err := h.RestoreClient(t.Context(), owner, goes.ID) // so that a token would count again
			ok(t, err)
			close(tokens)
			for token := range tokens {
				if got := h.me("Bearer " + token); got.status != 401 {
					t.Errorf("a token outlives its client: %d", got.status)
				}
			}
		}
	})
}

func TestThrottleIsBounded(t *testing.T) {
	if n := issuer.Throttle(3 * issuer.MaxBuckets); n > issuer.MaxBuckets {
		t.Errorf("%d buckets", n)
	}
}
