// Package grantwaytest holds the real counterparts that tests of OAuth programs need.
//
// [Provider] is an authorization server with a protected API on a loopback socket. It is
// strict when healthy, and every fault a token endpoint is known for is one value of its
// script: see [Reply].
package grantwaytest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Provider is an OAuth 2.0 authorization server with a small protected API, on a real
// loopback socket, that tells what it was asked and fails on command.
//
// Left alone it is healthy and strict: it serves the client_credentials grant to
// registered clients that authenticate by exactly their registered method, and its API
// takes only tokens that it issued, that have not expired, and that come with the proof
// they are bound to. A test scripts the exceptions:
//
//	p := grantwaytest.NewProvider(t)
//	p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
//	p.Token.Next(grantwaytest.Status(503))   // the first request fails, the next is healthy
//	p.API.Next(grantwaytest.Status(401))     // the API wants a new token, once
//
// Faults of the connection are states of the provider: [Provider.Down] refuses
// connections, [Provider.Present] shows a bad certificate. [UnresolvableURL] is an
// address that no resolver knows. All methods may be called at any time from any goroutine,
// but Down and Close not from a Reply, for which they wait.
type Provider struct {
	// URL is the base, such as "http://127.0.0.1:41234", without a slash at the end. It
	// stays the same over Down and Up.
	URL string

	// Token is the token endpoint, at /token.
	Token *Endpoint

	// API is the protected API: every path under /api/. A healthy answer is the JSON
	// object {"client_id", "scope", "method", "path"} of the request.
	API *Endpoint

	tls    *identities // nil when plain http
	issuer *issuer

	mu      sync.Mutex // guards what follows
	address string     // where Up listens
	stop    func()     // nil when down

	running sync.WaitGroup // the running server's Serve and its connections
}

// UnresolvableURL is a token URL whose host never resolves: the top-level domain invalid
// is reserved for that (RFC 6761 section 6.4).
const UnresolvableURL = "https://token.invalid/token"

// ProviderOptions are the settings of a provider that cannot change while it runs.
type ProviderOptions struct {
	// Addr is where to listen; "" is "127.0.0.1:0", any free port on loopback.
	Addr string

	// TLS serves https with a certificate for localhost, 127.0.0.1 and ::1 from an
	// authority made for this provider: see Provider.RootCAs.
	TLS bool
}

// NewProvider starts a provider on plain http and closes it when the test ends.
func NewProvider(t testing.TB) *Provider {
	t.Helper()
	return newProvider(t, ProviderOptions{})
}

// NewTLSProvider starts a provider on https and closes it when the test ends.
func NewTLSProvider(t testing.TB) *Provider {
	t.Helper()
	return newProvider(t, ProviderOptions{TLS: true})
}

func newProvider(t testing.TB, o ProviderOptions) *Provider {
	t.Helper()
	p, err := StartProvider(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// StartProvider starts a provider outside a test. The caller closes it.
func StartProvider(o ProviderOptions) (*Provider, error) {
	p := &Provider{address: o.Addr}
	if p.address == "" {
		p.address = "127.0.0.1:0"
	}
	scheme := "http"
	if o.TLS {
		scheme = "https"
		var err error
		if p.tls, err = newIdentities(); err != nil {
			return nil, fmt.Errorf("provider certificates: %w", err)
		}
	}
	var err error
	if p.issuer, err = newIssuer(); err != nil {
		return nil, fmt.Errorf("provider signing key: %w", err)
	}
	p.Token = newEndpoint(p.issuer.serveToken)
	p.API = newEndpoint(p.issuer.serveAPI)
	if err := p.Up(); err != nil {
		return nil, err
	}
	p.URL = scheme + "://" + p.address
	p.Token.URL, p.API.URL = p.URL+"/token", p.URL+"/api/"
	return p, nil
}

// Close stops the provider: it cuts every connection, ends held and stalled replies, and
// returns when nothing of it runs any more. Closing twice is fine.
func (p *Provider) Close() { p.Down() }

// Down makes the provider refuse connections until Up. Open connections are cut, so
// requests under way fail. Clients, tokens, scripts and records stay.
func (p *Provider) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

// Up undoes Down, on the same port. It fails if another program has taken the port.
func (p *Provider) Up() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		return nil
	}
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("provider: %w", err)
	}
	p.address = listener.Addr().String()
	if p.tls != nil {
		listener = p.tls.listener(listener)
	}
	down := new(atomic.Bool)
	server := &http.Server{
		Handler:  http.HandlerFunc(p.route),
		ErrorLog: log.New(panicsOnly{}, "", log.LstdFlags),
		// New comes before the connection's goroutine starts, and one of the other two is
		// the last thing it says: so Down can wait for all of them.
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				p.running.Add(1)
				if down.Load() {
					c.Close() // it was accepted too late for the server's Close to see it
				}
			case http.StateClosed, http.StateHijacked:
				p.running.Done()
			}
		},
	}
	p.stop = func() {
		down.Store(true)
		server.Close()
		p.running.Wait()
	}
	p.running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // a listener that breaks by itself makes every later result worthless
		}
	})
	return nil
}

// route sends r where its path says, untouched: a ServeMux would clean it.
func (p *Provider) route(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token":
		p.Token.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, "/api/"):
		p.API.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

// panicsOnly is where the server logs. Broken connections and handshakes were asked for;
// a panic is a mistake in a test's own Reply.
type panicsOnly struct{}

func (panicsOnly) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("panic serving")) {
		return os.Stderr.Write(line)
	}
	return len(line), nil
}

// Present makes a TLS provider show c on every new connection. It panics on plain http.
func (p *Provider) Present(c Certificate) { p.tls.shown.Store(int32(c)) }

// RootCAs is a new pool with just the authority of a TLS provider; it is empty on plain http.
func (p *Provider) RootCAs() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.RootPEM())
	return pool
}

// RootPEM is the same authority in PEM, for other programs (SSL_CERT_FILE); nil on plain http.
func (p *Provider) RootPEM() []byte {
	if p.tls == nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.tls.root})
}
