package grant_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// TestMain fails the package if a test leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const faultSecret = "s3cret/canary+of the fault table"

// echo is a server that repeats the request in its error page.
func echo(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(w, "cannot handle %s with %s, secret %s", r.URL, r.Header.Get("Authorization"), faultSecret)
}

// TestFaults is the fault table: what a token endpoint can do to us, and what the caller
// is told. Each row makes one token request.
func TestFaults(t *testing.T) {
	date := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for _, c := range []struct {
		name  string
		setup func(p *grantwaytest.Provider, r *grant.Request)
		reply grantwaytest.Reply

		stage   grant.Stage // "" for a request that works
		class   grant.Class
		status  int
		code    string
		message string        // a part of the error's text
		retry   time.Duration // RetryAt, from the answer; 0 for none
		at      time.Time     // RetryAt, exactly
		life    time.Duration // of the token, when it works
		source  string        // its ExpirySource

		timeout time.Duration
		asked   int // requests that must have arrived
	}{
		// No connection.
		{name: "connection refused", setup: func(p *grantwaytest.Provider, _ *grant.Request) { p.Down() },
			stage: grant.StageAddress, class: grant.Temporary, message: "refused the connection"},
		{name: "DNS failure", setup: func(_ *grantwaytest.Provider, r *grant.Request) { r.TokenURL = grantwaytest.UnresolvableURL },
			stage: grant.StageAddress, class: grant.Temporary, message: "token.invalid does not exist"},
		{name: "TLS wrong host", setup: present(grantwaytest.CertWrongHost),
			stage: grant.StageTLS, class: grant.Permanent, message: "another host: wrong-host.example"},
		{name: "TLS expired", setup: present(grantwaytest.CertExpired),
			stage: grant.StageTLS, class: grant.Permanent, message: "expired on"},
		{name: "TLS unknown CA", setup: present(grantwaytest.CertUnknownCA),
			stage: grant.StageTLS, class: grant.Permanent, message: "not signed by an authority that is trusted"},

		// No answer, or half of one.
		{name: "slow headers", reply: grantwaytest.SlowHeaders(), timeout: time.Second,
			stage: grant.StageRequest, class: grant.Temporary, message: "did not answer within", asked: 1},
		{name: "slow body", reply: grantwaytest.SlowBody(), timeout: time.Second,
			stage: grant.StageResponse, class: grant.Temporary, status: 200, message: "did not end within", asked: 1},
		{name: "connection reset", reply: grantwaytest.Reset(),
			stage: grant.StageRequest, class: grant.Temporary, message: "closed the connection without an answer", asked: 1},
		{name: "truncated body", reply: grantwaytest.Truncated(),
			stage: grant.StageResponse, class: grant.Temporary, status: 200, message: "closed the connection in the middle of its answer", asked: 1},

		// An answer that is no token.
		{name: "1 GiB body", reply: grantwaytest.Huge(1024),
			stage: grant.StageResponse, class: grant.Permanent, status: 200, message: "larger than 1 MiB", asked: 1},
		{name: "gzip bomb", reply: grantwaytest.GzipBomb(1024),
			stage: grant.StageResponse, class: grant.Permanent, status: 200, message: "larger than 1 MiB", asked: 1},
		{name: "HTML 200", reply: grantwaytest.HTML(200),
			stage: grant.StageResponse, class: grant.Permanent, status: 200, message: "web page", asked: 1},
		{name: "JSON array", reply: grantwaytest.JSON(200, []string{"token"}),
			stage: grant.StageResponse, class: grant.Permanent, status: 200, message: "JSON array", asked: 1},
		{name: "missing access_token", reply: grantwaytest.Without("access_token"),
			stage: grant.StageResponse, class: grant.Permanent, status: 200, message: "no access_token", asked: 1},
		{name: "wrong token_type", reply: grantwaytest.With("token_type", "mac"),
			stage: grant.StageResponse, class: grant.Permanent, status: 200, message: `token_type "mac"`, asked: 1},
		{name: "error in 200", reply: grantwaytest.OAuthError(200, "invalid_scope", "no such scope"),
			stage: grant.StageResponse, class: grant.Permanent, status: 200, code: "invalid_scope", message: "no such scope", asked: 1},

		// Lifetimes. A token is never used after its expiry, so one without any life is a fault.
		{name: "expires_in 0", reply: grantwaytest.With("expires_in", 0),
			stage: grant.StageResponse, class: grant.Temporary, status: 200, message: "expired when it arrived", asked: 1},
		{name: "expires_in -1", reply: grantwaytest.With("expires_in", -1),
			stage: grant.StageResponse, class: grant.Temporary, status: 200, message: "expired when it arrived", asked: 1},
		{name: "expires_in string", reply: grantwaytest.With("expires_in", "3600"), life: time.Hour, source: "response", asked: 1},
		{name: "expires_in fraction", reply: grantwaytest.With("expires_in", 3600.5), life: time.Hour + time.Second/2, source: "response", asked: 1},
		{name: "expires_in 1e12", reply: grantwaytest.With("expires_in", json.RawMessage("1e12")), life: grant.MaxLifetime, source: "response", asked: 1},
		{name: "expires_in absent", reply: grantwaytest.Without("expires_in"), life: 5 * time.Minute, source: "default", asked: 1},

		// Refusals.
		{name: "400", reply: grantwaytest.OAuthError(400, "invalid_scope", "scope x is unknown"),
			stage: grant.StageResponse, class: grant.Permanent, status: 400, code: "invalid_scope", message: "scope x is unknown", asked: 1},
		{name: "400 invalid_client", reply: grantwaytest.OAuthError(400, "invalid_client", ""),
			stage: grant.StageResponse, class: grant.Permanent, status: 400, code: "invalid_client", message: "invalid_client", asked: 1},
		{name: "401", reply: grantwaytest.OAuthError(401, "invalid_client", "wrong secret"),
			stage: grant.StageResponse, class: grant.Permanent, status: 401, code: "invalid_client", message: "wrong secret", asked: 1},
		{name: "403", reply: grantwaytest.Status(403),
			stage: grant.StageResponse, class: grant.Permanent, status: 403, message: "403", asked: 1},
		{name: "429 seconds", reply: grantwaytest.RetryAfter(429, "120"),
			stage: grant.StageResponse, class: grant.Throttled, status: 429, message: "429", retry: 2 * time.Minute, asked: 1},
		{name: "429 date", reply: grantwaytest.RetryAfter(429, date.Format(http.TimeFormat)),
			stage: grant.StageResponse, class: grant.Throttled, status: 429, message: "429", at: date, asked: 1},
		{name: "429 silent", reply: grantwaytest.Status(429),
			stage: grant.StageResponse, class: grant.Throttled, status: 429, message: "429", asked: 1},
		{name: "500", reply: grantwaytest.Status(500),
			stage: grant.StageResponse, class: grant.Temporary, status: 500, message: "500", asked: 1},
		{name: "500 that repeats the request", reply: echo,
			stage: grant.StageResponse, class: grant.Temporary, status: 500, message: "500", asked: 1},
		{name: "503", reply: grantwaytest.Status(503),
			stage: grant.StageResponse, class: grant.Temporary, status: 503, message: "503", asked: 1},
		{name: "503 seconds", reply: grantwaytest.RetryAfter(503, "30"),
			stage: grant.StageResponse, class: grant.Throttled, status: 503, message: "503", retry: 30 * time.Second, asked: 1},
		{name: "redirect 302", setup: redirect(302),
			stage: grant.StageResponse, class: grant.Permanent, status: 302, message: "redirect", asked: 1},
		{name: "redirect 307", setup: redirect(307),
			stage: grant.StageResponse, class: grant.Permanent, status: 307, message: "redirect", asked: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := grantwaytest.NewTLSProvider(t)
			others := goleak.IgnoreCurrent()
			p.Register(grantwaytest.Client{ID: "app", Secret: faultSecret})
			var received atomic.Int64
			client := &grant.Client{Timeout: c.timeout, Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: p.RootCAs()},
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					return countedConn{conn, &received}, err
				},
			}}
			request := &grant.Request{
				TokenURL: p.Token.URL + "?tenant=" + url.QueryEscape("canary of the query"),
				ClientID: "app",
				Auth:     grant.Basic{Secret: faultSecret},
			}
			p.Token.Always(c.reply)
			if c.setup != nil {
				c.setup(p, request)
			}

			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			sent := time.Now()
			token, err := client.Token(t.Context(), request)
			runtime.ReadMemStats(&after)

			if c.stage == "" {
				checkLifetime(t, token, err, c.life, c.source)
			} else {
				checkFault(t, err, &grant.Error{Stage: c.stage, Class: c.class, Status: c.status, Code: c.code}, c.message)
				checkNoSecret(t, err, append(p.Tokens(), faultSecret, url.QueryEscape(faultSecret), "canary",
					base64.StdEncoding.EncodeToString([]byte("app:"+url.QueryEscape(faultSecret)))))
				checkRetryAt(t, err, sent, c.retry, c.at)
			}
			if got := p.Token.Count(); got != c.asked {
				t.Errorf("%d token requests, want %d", got, c.asked)
			}
			if p.API.Count() != 0 {
				t.Error("the redirect was followed")
			}
			// Of whatever comes, little more than the body limit is read, and a small multiple of it
			// allocated; that counts in the provider, which runs in this process.
			if n := received.Load(); n > 2<<20 {
				t.Errorf("received %d bytes", n)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
				t.Errorf("allocated %d bytes", n)
			}
			// The provider still runs: a connection left open would show on both its ends.
			client.CloseIdleConnections()
			goleak.VerifyNone(t, others)
		})
	}
}

func present(c grantwaytest.Certificate) func(*grantwaytest.Provider, *grant.Request) {
	return func(p *grantwaytest.Provider, _ *grant.Request) { p.Present(c) }
}

func redirect(status int) func(*grantwaytest.Provider, *grant.Request) {
	return func(p *grantwaytest.Provider, _ *grant.Request) {
		p.Token.Always(grantwaytest.Redirect(status, p.API.URL+"stolen?canary"))
	}
}

func checkLifetime(t *testing.T, token *grant.Token, err error, life time.Duration, source string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if token.Lifetime() != life || token.ExpirySource != source {
		t.Errorf("lifetime %v from %q, want %v from %q", token.Lifetime(), token.ExpirySource, life, source)
	}
}

func checkFault(t *testing.T, err error, want *grant.Error, message string) {
	t.Helper()
	var got *grant.Error
	if !errors.As(err, &got) {
		t.Fatalf("got %T %v, want a *grant.Error", err, err)
	}
	if got.Stage != want.Stage || got.Class != want.Class || got.Status != want.Status || got.Code != want.Code {
		t.Errorf("got stage %q, class %q, status %d, code %q; want %q, %q, %d, %q\n%v",
			got.Stage, got.Class, got.Status, got.Code, want.Stage, want.Class, want.Status, want.Code, err)
	}
	if !strings.Contains(err.Error(), message) {
		t.Errorf("%q does not tell %q", err, message)
	}
	if len(err.Error()) > 500 {
		t.Errorf("a message of %d bytes", len(err.Error()))
	}
}

// checkNoSecret looks for secrets in every way that err, and each error below it, can be printed.
func checkNoSecret(t *testing.T, err error, secrets []string) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		asJSON, _ := json.Marshal(err)
		text := fmt.Sprintf("%v\n%+v\n%#v\n%s", err, err, err, asJSON)
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %T: %s", secret, err, text)
			}
		}
	}
}

// checkRetryAt wants at if it is set, else the time of the answer plus retry, else no time at all.
func checkRetryAt(t *testing.T, err error, sent time.Time, retry time.Duration, at time.Time) {
	t.Helper()
	earliest, latest := at, at
	if retry != 0 {
		earliest, latest = sent.Add(retry), time.Now().Add(retry)
	}
	var got *grant.Error
	if errors.As(err, &got) && (got.RetryAt.Before(earliest) || got.RetryAt.After(latest)) {
		t.Errorf("retry at %v, want %v to %v", got.RetryAt, earliest, latest)
	}
}

// countedConn counts what is read from the network.
type countedConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(int64(n))
	return n, err
}
