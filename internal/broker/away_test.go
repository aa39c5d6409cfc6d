package broker_test

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
)

// cable is between a hub and its PostgreSQL, to be cut.
type cable struct {
	t      testing.TB
	target string
	held   sync.RWMutex // locked while nothing gets through

	mu    sync.Mutex // guards what follows
	cut   bool
	conns []net.Conn
}

// newCable returns a cable to database and the URL of its near end.
func newCable(t testing.TB, database string) (*cable, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{t: t, target: u.Host}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			accepting.Go(func() { c.carry(near) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		c.Cut()
		accepting.Wait()
	})
	u.Host = listener.Addr().String()
	return c, u.String()
}

func (c *cable) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", c.target)
	if err != nil {
		c.t.Error(err)
		return
	}
	defer far.Close()
	c.mu.Lock()
	if c.cut {
		c.mu.Unlock()
		return
	}
	c.conns = append(c.conns, near, far)
	c.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			io.Copy(gated{way[1], &c.held}, way[0])
			near.Close()
			far.Close()
		})
	}
	both.Wait()
}

// gated writes when nobody holds the gate.
type gated struct {
	io.Writer
	held *sync.RWMutex
}

func (g gated) Write(b []byte) (int, error) {
	g.held.RLock()
	defer g.held.RUnlock()
	return g.Writer.Write(b)
}

// Cut ends every connection, and lets none through until Mend.
func (c *cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// Mend undoes Cut.
func (c *cable) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
}

// Hold lets nothing through any more, without anybody noticing, until release.
func (c *cable) Hold() (release func()) {
	c.held.Lock()
	return sync.OnceFunc(c.held.Unlock)
}

func ready(t testing.TB, hub *grantwaytest.Hub) bool {
	t.Helper()
	response, err := http.Get(hub.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode == 200
}

// TestDatabaseAway goes on with the tokens in memory, and renews them; an alarm says so.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Lifetime: 4 * time.Second})
	cable, database := newCable(t, storetest.Postgres(t))
	options := grantwaytest.HubOptions{Database: database, Data: t.TempDir()}
	away := "grantway_database_away"
	var last grantway.Token
	t.Run("before", func(t *testing.T) {
		hub := grantwaytest.Start(t, options)
		create(t, hub, credential(p, "app", nil))
		create(t, hub, credential(p, "cold", nil))
		ref := grantway.Ref{Credential: "app"}
		first := token(t, hub, ref)
		cable.Cut()
		if got := token(t, hub, ref); got.Fingerprint != first.Fingerprint {
			t.Error("not the token in memory")
		}
		if ready(t, hub) {
			t.Error("ready without a database")
		}
		// Over the next lifetimes there is always a token.
		eventually(t, 30*time.Second, "renewals", func() bool {
			before := time.Now()
			if got := token(t, hub, ref); !got.ExpiresAt.After(before) {
				t.Fatalf("token %+v", got)
			}
			return p.Token.Count() >= 4
		})
		if metric(t, hub, away) != 1 {
			t.Error("no alarm")
		}
		// Another scope needs no database either, and API calls can drop a token.
		narrow := token(t, hub, grantway.Ref{Credential: "app", Scope: "narrow"})
		if err := hub.Invalidate(t.Context(), "app", narrow.Fingerprint); err == nil {
			t.Error("not forgotten everywhere, and nobody is told")
		}
		if got := token(t, hub, grantway.Ref{Credential: "app", Scope: "narrow"}); got.Fingerprint == narrow.Fingerprint {
			t.Error("a token that was dropped")
		}
		noToken(t, hub, grantway.Ref{Credential: "cold"}, grantway.Unavailable, "the database is not reachable")

		cable.Mend()
		eventually(t, 10*time.Second, "no alarm", func() bool { return metric(t, hub, away) == 0 })
		eventually(t, 10*time.Second, "ready", func() bool { return ready(t, hub) })
		eventually(t, 10*time.Second, "the cold one", func() bool {
			_, err := hub.Token(t.Context(), grantway.Ref{Credential: "cold"})
			return err == nil
		})
		create(t, hub, credential(p, "new", nil))
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		if err := hub.Invalidate(t.Context(), "app", ""); err != nil {
			t.Fatal(err)
		}
		last = token(t, hub, ref)
	})
	// All is as before: tokens outlive the process again.
	hub := grantwaytest.Start(t, options)
	if got := token(t, hub, grantway.Ref{Credential: "app"}); got.Fingerprint != last.Fingerprint {
		t.Error("the token was not stored")
	}
}

// TestDatabaseHangs gets a token although the database neither answers nor refuses.
func TestDatabaseHangs(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
	cable, database := newCable(t, storetest.Postgres(t))
	hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database})
	create(t, hub, credential(p, "app", nil))
	token(t, hub, grantway.Ref{Credential: "app"})
	release := cable.Hold()
	defer release()
	began := time.Now()
	token(t, hub, grantway.Ref{Credential: "app"})
	if took := time.Since(began); took > time.Second {
		t.Errorf("a token in memory took %v", took)
	}
	token(t, hub, grantway.Ref{Credential: "app", Scope: "other"})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a token that was not there took %v", took)
	}
	release()
	eventually(t, 20*time.Second, "no alarm", func() bool { return metric(t, hub, "grantway_database_away") == 0 })
}

// TestMissedInvalidation cuts one hub off while the other one drops a token: when it is back,
// it does not go on with the old one.
func TestMissedInvalidation(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
	direct := storetest.Postgres(t)
	cable, database := newCable(t, direct)
	data := t.TempDir()
	a := grantwaytest.Start(t, grantwaytest.HubOptions{Database: direct, Data: data})
	b := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database, Data: data})
	ref, kept := grantway.Ref{Credential: "app"}, grantway.Ref{Credential: "kept"}
	c := create(t, a, credential(p, "app", nil))
	create(t, a, credential(p, "kept", nil))
	known(t, b, "kept")
	old := token(t, b, ref)
	other := token(t, b, kept)

	cable.Cut()
	if err := a.Invalidate(t.Context(), "app", old.Fingerprint); err != nil {
		t.Fatal(err)
	}
	if got := token(t, b, ref); got.Fingerprint != old.Fingerprint {
		t.Error("how could it know?")
	}
	cable.Mend()
	eventually(t, 10*time.Second, "the token is dropped", func() bool { return token(t, b, ref).Fingerprint != old.Fingerprint })
	if got := token(t, b, kept); got.Fingerprint != other.Fingerprint {
		t.Error("a token that nobody dropped is gone")
	}
	wantRequests(t, p, 3)

	cable.Cut()
	update(t, a, c, map[string]string{"scopes": "later"})
	cable.Mend()
	eventually(t, 10*time.Second, "the new version", func() bool { return token(t, b, ref).Scope == "later" })
}
