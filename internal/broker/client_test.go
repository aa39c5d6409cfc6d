package broker_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/outbound"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// newBroker makes a Broker by hand, for what a hub does not offer at its front yet.
func newBroker(t *testing.T, s *store.Store) *broker.Broker {
	t.Helper()
	return newBrokerWith(t, s, func(name string) (*connector.Definition, bool) {
		d, err := connector.Load(name)
		return d, err == nil
	})
}

// newBrokerWith is newBroker with definitions of the test's own.
func newBrokerWith(t *testing.T, s *store.Store, find func(string) (*connector.Definition, bool)) *broker.Broker {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := seal.GenerateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	key, err := seal.ParseKey("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.Open(t.Context(), s, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sealer.Close)
	quiet := slog.New(slog.DiscardHandler)
	audit := access.NewLog(s, quiet)
	guard := outbound.New(outbound.Options{AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	secrets, err := secret.New(t.Context(), secret.Options{Store: s, Sealer: sealer, Audit: audit, Outbound: guard, BuiltIn: []secret.Store{secret.Env{}}})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(broker.Options{
		Store: s, Sealer: sealer, Secrets: secrets, Audit: audit, Reads: access.NewReads(s, quiet),
		Outbound:   guard,
		Tracer:     noop.NewTracerProvider().Tracer(""),
		Definition: find,
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return b
}

// eachClient runs body with both clients that authorize requests: that of the hub's own
// parts, and that of other programs. The credential "app" is there.
func eachClient(t *testing.T, body func(t *testing.T, client *http.Client, p *grantwaytest.Provider)) {
	t.Run("Broker.Client", func(t *testing.T) {
		storetest.Each(t, func(t *testing.T, s *store.Store) {
			p := grantwaytest.NewProvider(t)
			p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
			b := newBroker(t, s)
			if _, err := b.Save(t.Context(), access.Hub(), credential(p, "app", nil)); err != nil {
				t.Fatal(err)
			}
			body(t, b.Client(access.Hub(), grantway.Ref{Credential: "app"}), p)
		})
	})
	t.Run("grantway.Transport", func(t *testing.T) {
		eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
			create(t, hub, credential(p, "app", nil))
			body(t, &http.Client{Transport: hub.Transport(grantway.Ref{Credential: "app"})}, p)
		})
	})
}

func call(t *testing.T, client *http.Client, method, url string, body io.Reader) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// TestC25Unauthorized drops a token that the API refuses, fetches one other and asks once more.
func TestC25Unauthorized(t *testing.T) {
	eachClient(t, func(t *testing.T, client *http.Client, p *grantwaytest.Provider) {
		url := p.API.URL + "messages"
		for range 3 {
			if r := call(t, client, "GET", url, nil); r.StatusCode != 200 {
				t.Fatalf("status %d", r.StatusCode)
			}
		}
		wantRequests(t, p, 1)

		p.Revoke()
		if r := call(t, client, "POST", url, strings.NewReader("message")); r.StatusCode != 200 {
			t.Errorf("after the token was revoked: status %d", r.StatusCode)
		}
		wantRequests(t, p, 2)
		calls := p.API.Requests()
		if n := len(calls); n != 5 || string(calls[3].Body) != "message" || string(calls[4].Body) != "message" {
			t.Errorf("%d calls, the last with body %q", n, calls[n-1].Body)
		}

		// A body that cannot be sent again is not, but the token is gone all the same.
		p.Revoke()
		if r := call(t, client, "POST", url, io.MultiReader(strings.NewReader("once"))); r.StatusCode != 401 {
			t.Errorf("status %d for a body that can be sent once", r.StatusCode)
		}
		if r := call(t, client, "GET", url, nil); r.StatusCode != 200 {
			t.Errorf("status %d with a new token", r.StatusCode)
		}
		wantRequests(t, p, 3)

		// An API that refuses every token gets two of them, and then no more.
		p.API.Always(grantwaytest.Status(401))
		for range 5 {
			if r := call(t, client, "GET", url, nil); r.StatusCode != 401 {
				t.Errorf("status %d", r.StatusCode)
			}
		}
		wantRequests(t, p, 4)
		p.API.Always(grantwaytest.Status(403)) // is about rights, and a new token has no others
		call(t, client, "GET", url, nil)
		wantRequests(t, p, 4)
	})
}

// TestC25OneTokenForManyRefused calls has many calls refused at once: one new token.
func TestC25OneTokenForManyRefused(t *testing.T) {
	eachClient(t, func(t *testing.T, client *http.Client, p *grantwaytest.Provider) {
		call(t, client, "GET", p.API.URL, nil)
		p.Revoke()
		results := make(chan int)
		const callers = 20
		for range callers {
			go func() {
				response, err := client.Get(p.API.URL)
				if err != nil {
					t.Error(err)
					results <- 0
					return
				}
				response.Body.Close()
				results <- response.StatusCode
			}()
		}
		for range callers {
			if status := <-results; status != 200 {
				t.Errorf("status %d", status)
			}
		}
		wantRequests(t, p, 2)
	})
}

// TestClientKeepsTheTokenAtHome does not follow a redirect to another origin with it.
func TestClientKeepsTheTokenAtHome(t *testing.T) {
	eachClient(t, func(t *testing.T, client *http.Client, p *grantwaytest.Provider) {
		elsewhere := grantwaytest.NewProvider(t)
		p.API.Next(grantwaytest.Redirect(307, p.API.URL+"moved"))
		if r := call(t, client, "GET", p.API.URL+"messages", nil); r.StatusCode != 200 || r.Request.URL.Path != "/api/moved" {
			t.Errorf("within the origin: status %d at %s", r.StatusCode, r.Request.URL)
		}
		p.API.Next(grantwaytest.Redirect(307, elsewhere.API.URL+"stolen"))
		call(t, client, "GET", p.API.URL+"messages", nil)
		for _, r := range elsewhere.API.Requests() {
			if r.Header.Get("Authorization") != "" {
				t.Error("the token went to another origin")
			}
		}
	})
}
