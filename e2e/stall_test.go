package e2e_test

import (
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
)

// TestDatabaseStalls: a database that neither answers nor refuses, as when packets get lost,
// holds up nobody whose token is in memory, and a renewal not for long.
func TestDatabaseStalls(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	registerApp(p, 4*time.Second)
	p.Register(grantwaytest.Client{ID: "app-2", Secret: "secret-2", Lifetime: time.Hour})
	database, wire := newWire(t, storetest.EmptyPostgres(t))
	hubs, who := replicas(t, database, 1)
	h := hubs[0]
	who.save(h, "short", p.Token.URL, 1)
	who.save(h, "long", p.Token.URL, 1)
	who.save(h, "long", p.Token.URL, 2)
	for _, name := range []string{"short", "long"} {
		if a := who.token(h, name); a.status != http.StatusOK {
			t.Fatal(a)
		}
	}

	wire.stall()
	defer wire.resume()
	stalled := time.Now()
	var slowest, slowestHot time.Duration
	seen := map[string]bool{}
	until(t, "two renewals without a database", func() bool {
		asked := time.Now()
		hot := who.token(h, "long")
		slowestHot = max(slowestHot, time.Since(asked))
		asked = time.Now()
		a := who.token(h, "short")
		slowest = max(slowest, time.Since(asked))
		if a.status != http.StatusOK || hot.status != http.StatusOK {
			t.Fatalf("%v after the database stalled: %v, %v", time.Since(stalled).Round(time.Millisecond), a, hot)
		}
		seen[a.token().AccessToken] = true
		return len(seen) == 3
	})
	t.Logf("renewed twice in %v; who had a token in memory waited %v at the most, who needed a new one %v",
		time.Since(stalled).Round(time.Millisecond), slowestHot.Round(time.Millisecond), slowest.Round(time.Millisecond))
	if slowestHot > time.Second {
		t.Errorf("a token in memory took %v", slowestHot)
	}
	if slowest > 5*time.Second {
		t.Errorf("a renewal took %v", slowest)
	}
	if a := who.ask(h, http.MethodGet, "/readyz", nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %v", a)
	}

	wire.resume()
	until(t, "ready again", func() bool { return who.ask(h, http.MethodGet, "/readyz", nil).status == http.StatusOK })
	p.Token.Always(echo)
	who.save(h, "short", p.Token.URL, 2)
	until(t, "the new version", func() bool { return saveOf(t, who.token(h, "short")) == 2 })
	until(t, "the alarm ends", func() bool { return who.metric(h, "grantway_database_away") == 0 })
}

// wire passes bytes between hubs and a database, or holds them back.
type wire struct {
	passing sync.RWMutex
	once    func() // ends the stall
}

// newWire returns the URL of a database over a new wire.
func newWire(t *testing.T, database string) (string, *wire) {
	t.Helper()
	address, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	target := address.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address.Host = listener.Addr().String()
	w := &wire{once: func() {}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			running.Go(func() { w.pass(near, far) })
			running.Go(func() { w.pass(far, near) })
		}
	})
	t.Cleanup(func() { // the hubs are gone, and so are their connections
		listener.Close()
		running.Wait()
	})
	return address.String(), w
}

func (w *wire) pass(from, to net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.passing.RLock()
		_, failed := to.Write(buf[:n])
		w.passing.RUnlock()
		if err != nil || failed != nil {
			return
		}
	}
}

func (w *wire) stall() {
	w.passing.Lock()
	w.once = sync.OnceFunc(w.passing.Unlock)
}

func (w *wire) resume() { w.once() }
