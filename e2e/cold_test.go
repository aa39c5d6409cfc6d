package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
)

// replicas starts n hubs on one PostgreSQL database, and signs in as their owner.
func replicas(t *testing.T, database string, n int) ([]*hub, *caller) {
	t.Helper()
	first := postgres(t, database)
	hubs := []*hub{start(t, first)}
	for range n - 1 {
		hubs = append(hubs, start(t, first.replica(t)))
	}
	return hubs, owner(t, first, hubs[0])
}

// registerApp makes the provider's side of version 1 of a credential.
func registerApp(p *grantwaytest.Provider, lifetime time.Duration) {
	p.Register(grantwaytest.Client{ID: "app-1", Secret: "secret-1", Lifetime: lifetime})
}

// known waits until each hub knows a credential.
func known(t *testing.T, who *caller, name string, hubs ...*hub) {
	t.Helper()
	for _, h := range hubs {
		until(t, "a replica hears of "+name, func() bool {
			return who.ask(h, http.MethodGet, "/v1/credentials/"+name, nil).status == http.StatusOK
		})
	}
}

// TestColdCredential: however many want the first token of a credential at once, and from
// however many replicas, the provider is asked once.
func TestColdCredential(t *testing.T) {
	const callers = 10_000
	p := grantwaytest.NewProvider(t)
	registerApp(p, time.Hour)
	hubs, who := replicas(t, storetest.EmptyPostgres(t), 3)
	who.save(hubs[0], "cold", p.Token.URL, 1)
	known(t, who, "cold", hubs...)

	crowd := gather(t, hubs, callers, who.bearer)
	release := p.Token.Hold()
	defer release()
	began := time.Now()
	crowd.ask(t, "cold")
	until(t, "all callers wait", func() bool {
		waiting := 0
		for _, h := range hubs {
			waiting += who.waiters(h, "cold")
		}
		return waiting >= callers
	})
	t.Logf("%d callers wait at %d hubs after %v", callers, len(hubs), time.Since(began).Round(time.Millisecond))
	release()
	released := time.Now()
	first := crowd.tokens(t)
	t.Logf("all have the token %v later", time.Since(released).Round(time.Millisecond))
	if n := p.Token.Count(); n != 1 || len(first) != 1 {
		t.Errorf("%d token requests, %d different tokens", n, len(first))
	}

	hot := time.Now()
	crowd.ask(t, "cold")
	again := crowd.tokens(t)
	t.Logf("asked again, all have it after %v", time.Since(hot).Round(time.Millisecond))
	if n := p.Token.Count(); n != 1 || len(again) != 1 || again[0] != first[0] {
		t.Errorf("asked again: %d token requests, %d different tokens", n, len(again))
	}
}

// TestColdCredentials: the same for many credentials, each wanted at once at every replica,
// and a provider that answers so soon that one replica may have the token before the next
// one has found out that there is none.
func TestColdCredentials(t *testing.T) {
	const credentials = 200
	p := grantwaytest.NewProvider(t)
	registerApp(p, time.Hour)
	hubs, who := replicas(t, storetest.EmptyPostgres(t), 3)
	name := func(i int) string { return fmt.Sprint("cold-", i) }
	for i := range credentials {
		who.save(hubs[0], name(i), p.Token.URL, 1)
	}
	known(t, who, name(credentials-1), hubs...)

	var wanting sync.WaitGroup
	for i := range credentials {
		tokens := make([]string, len(hubs))
		for k, h := range hubs {
			wanting.Go(func() {
				a, err := who.try(t.Context(), h, http.MethodPost, "/v1/credentials/"+name(i)+"/token", nil)
				if err != nil || a.status != http.StatusOK {
					t.Errorf("%s: %v %v", name(i), a, err)
				}
				tokens[k] = a.token().AccessToken
			})
		}
		if i%4 == 3 { // a few at a time: closer together than what they do takes
			wanting.Wait()
		}
		t.Cleanup(func() {
			if tokens[0] != tokens[1] || tokens[0] != tokens[2] {
				t.Errorf("%s: the replicas have different tokens", name(i))
			}
		})
	}
	wanting.Wait()
	if n := p.Token.Count(); n != credentials {
		t.Errorf("%d token requests for %d credentials", n, credentials)
	}
}

// TestRenewalIsShared: of the replicas that hold a token, one renews it.
func TestRenewalIsShared(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	registerApp(p, 4*time.Second)
	hubs, who := replicas(t, storetest.EmptyPostgres(t), 3)
	who.save(hubs[0], "short", p.Token.URL, 1)
	known(t, who, "short", hubs...)
	all := map[string]bool{}
	each := make([]map[string]bool, len(hubs))
	until(t, "three tokens at each replica", func() bool {
		enough := true
		for i, h := range hubs {
			if each[i] == nil {
				each[i] = map[string]bool{}
			}
			a := who.token(h, "short")
			if a.status != http.StatusOK {
				t.Fatal(a)
			}
			each[i][a.token().AccessToken], all[a.token().AccessToken] = true, true
			enough = enough && len(each[i]) >= 3
		}
		return enough
	})
	if n := p.Token.Count(); n != len(all) || n > 4 {
		t.Errorf("%d token requests for %d tokens in three lifetimes", n, len(all))
	}
}

// crowd is many callers, each with a connection of its own that stays open. A goroutine
// serves many of them, since the race detector allows for 8,128 goroutines only: first it
// sends the requests of all, then it reads their answers.
type crowd struct {
	bearer string
	share  [100][]*member
}

type member struct {
	conn net.Conn
	in   *bufio.Reader
}

// gather connects n callers, spread over hubs, and lets each make a request.
func gather(t *testing.T, hubs []*hub, n int, bearer string) *crowd {
	t.Helper()
	c := &crowd{bearer: bearer}
	var dialer net.Dialer
	for i := range c.share {
		c.share[i] = make([]*member, n/len(c.share))
	}
	t.Cleanup(func() {
		for _, share := range c.share {
			for _, m := range share {
				if m != nil {
					m.conn.Close()
				}
			}
		}
	})
	c.each(t, func(i, k int) error {
		h := hubs[(i+k)%len(hubs)]
		conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			return fmt.Errorf("connect: %w (are enough open files allowed?)", err)
		}
		conn.SetDeadline(time.Now().Add(2 * patience))
		m := &member{conn, bufio.NewReaderSize(conn, 1024)}
		c.share[i][k] = m
		if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n"); err != nil {
			return err
		}
		_, err = m.read(http.StatusOK)
		return err
	})
	return c
}

// each calls f for every member, with as many goroutines as there are shares.
func (c *crowd) each(t *testing.T, f func(i, k int) error) {
	t.Helper()
	errs := make(chan error, len(c.share))
	for i := range c.share {
		go func() {
			for k := range c.share[i] {
				if err := f(i, k); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range c.share {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func (m *member) read(status int) ([]byte, error) {
	resp, err := http.ReadResponse(m.in, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("HTTP %d %s", resp.StatusCode, body)
	}
	return body, err
}

// ask sends a request for a token from every member.
func (c *crowd) ask(t *testing.T, name string) {
	t.Helper()
	request := "POST /v1/credentials/" + name + "/token HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer " + c.bearer + "\r\nContent-Length: 0\r\n\r\n"
	c.each(t, func(i, k int) error {
		_, err := io.WriteString(c.share[i][k].conn, request)
		return err
	})
}

// tokens reads the answers to ask, and returns the different tokens in them.
func (c *crowd) tokens(t *testing.T) []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	seen := map[string]bool{}
	c.each(t, func(i, k int) error {
		body, err := c.share[i][k].read(http.StatusOK)
		if err != nil {
			return err
		}
		var token grantway.Token
		if err := json.Unmarshal(body, &token); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if !seen[token.AccessToken] {
			seen[token.AccessToken] = true
			all = append(all, token.AccessToken)
		}
		return nil
	})
	return all
}

// TestLeaseHolderKilled: the replica that asks the provider for all dies before the answer
// comes. Another one takes over.
func TestLeaseHolderKilled(t *testing.T) {
	t.Parallel()
	const callers = 50 // at each of the others
	p := grantwaytest.NewProvider(t)
	registerApp(p, time.Hour)
	hubs, who := replicas(t, storetest.EmptyPostgres(t), 3)
	who.save(hubs[0], "cold", p.Token.URL, 1)
	known(t, who, "cold", hubs...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	release := p.Token.Hold()
	defer release()
	holder := hubs[0]
	lost := make(chan error, 1)
	go func() {
		_, err := who.try(ctx, holder, http.MethodPost, "/v1/credentials/cold/token", nil)
		lost <- err
	}()
	if err := p.Token.Await(ctx, 1); err != nil {
		t.Fatal(err)
	}
	answers := make(chan answer, 2*callers)
	for _, h := range hubs[1:] {
		for range callers {
			go func() {
				a, err := who.try(ctx, h, http.MethodPost, "/v1/credentials/cold/token", nil)
				if err != nil {
					a.body = []byte(err.Error())
				}
				answers <- a
			}()
		}
	}
	for _, h := range hubs[1:] {
		until(t, "all callers wait", func() bool { return who.waiters(h, "cold") == callers })
	}
	if n := p.Token.Count(); n != 1 {
		t.Errorf("%d token requests while the lease is held", n)
	}
	holder.kill()
	killed := time.Now()
	release()
	if err := <-lost; err == nil {
		t.Error("the caller of a killed hub got an answer")
	}
	tokens := map[string]bool{}
	for range 2 * callers {
		a := <-answers
		if a.status != http.StatusOK {
			t.Fatal(a)
		}
		tokens[a.token().AccessToken] = true
	}
	took := time.Since(killed)
	t.Logf("the others have a token %v after the kill", took.Round(time.Millisecond))
	if n := p.Token.Count(); n > 2 || len(tokens) != 1 {
		t.Errorf("%d token requests, %d different tokens", n, len(tokens))
	}
	if took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	for token := range tokens {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.API.URL+"mail", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if a, err := who.send(req); err != nil || a.status != http.StatusOK {
			t.Errorf("the API says %v %v", a, err)
		}
	}
}
