package grant_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// source keeps one token of a provider until it is dropped.
type source struct {
	fetch func(ctx context.Context) (*grant.Token, error)

	mu      sync.Mutex
	token   *grant.Token
	dropped []string
}

func (s *source) Token(ctx context.Context) (*grant.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.token == nil {
		s.token, err = s.fetch(ctx)
	}
	return s.token, err
}

func (s *source) Drop(fingerprint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = append(s.dropped, fingerprint)
	if s.token != nil && s.token.Fingerprint() == fingerprint {
		s.token = nil
	}
}

// newTransport authorizes requests to p with tokens that c gets for r.
func newTransport(t *testing.T, p *grantwaytest.Provider, c *grant.Client, r *grant.Request) (*grant.Transport, *http.Transport) {
	t.Helper()
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.RootCAs()}}
	t.Cleanup(base.CloseIdleConnections)
	s := &source{fetch: func(ctx context.Context) (*grant.Token, error) { return c.Token(ctx, r) }}
	return &grant.Transport{Source: s.Token, Drop: s.Drop, Base: base}, base
}

func do(t *testing.T, rt http.RoundTripper, method, url string, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

// TestTransportRenews has its token revoked behind its back.
func TestTransportRenews(t *testing.T) {
	p, c := start(t)
	transport, _ := newTransport(t, p, c, newRequest(p))
	for range 2 {
		if resp := do(t, transport, "GET", p.API.URL, nil); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	if p.Token.Count() != 1 {
		t.Errorf("%d tokens for 2 requests", p.Token.Count())
	}
	p.Revoke()
	if resp := do(t, transport, "POST", p.API.URL, strings.NewReader("a body")); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	requests := p.API.Requests()
	if len(requests) != 4 || p.Token.Count() != 2 {
		t.Fatalf("%d requests, %d tokens", len(requests), p.Token.Count())
	}
	for _, r := range requests[2:] {
		if string(r.Body) != "a body" {
			t.Errorf("body %q", r.Body)
		}
	}

	// A body that cannot be sent twice: the 401 is the answer, and the next request works.
	p.Revoke()
	if resp := do(t, transport, "POST", p.API.URL, io.MultiReader(strings.NewReader("once"))); resp.StatusCode != 401 {
		t.Error(resp.Status)
	}
	if resp := do(t, transport, "GET", p.API.URL, nil); resp.StatusCode != 200 || p.API.Count() != 6 || p.Token.Count() != 3 {
		t.Errorf("%s, %d requests, %d tokens", resp.Status, p.API.Count(), p.Token.Count())
	}

	// No new token to be had: the 401 is the answer.
	p.Revoke()
	p.Token.Always(grantwaytest.Status(503))
	if resp := do(t, transport, "GET", p.API.URL, nil); resp.StatusCode != 401 {
		t.Error(resp.Status)
	}
	if _, err := (&http.Client{Transport: transport}).Get(p.API.URL); err == nil {
		t.Error("no error without a token")
	} else if failed(t, err).Status != 503 {
		t.Error(err)
	}
}

// TestTransportStorm meets an API that refuses every token.
func TestTransportStorm(t *testing.T) {
	p, c := start(t)
	transport, _ := newTransport(t, p, c, newRequest(p))
	p.API.Always(grantwaytest.Status(401))
	for range 20 {
		if resp := do(t, transport, "GET", p.API.URL, nil); resp.StatusCode != 401 {
			t.Error(resp.Status)
		}
	}
	if p.Token.Count() != 2 || p.API.Count() != 21 {
		t.Errorf("%d tokens, %d requests", p.Token.Count(), p.API.Count())
	}
}

// TestTransportStormEnds is the same, on a clock of its own, until the pause is over.
func TestTransportStormEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched := 0
		s := &source{fetch: func(context.Context) (*grant.Token, error) {
			fetched++
			return &grant.Token{AccessToken: grant.Secret(strings.Repeat("t", fetched)), Type: "Bearer"}, nil
		}}
		transport := &grant.Transport{Source: s.Token, Drop: s.Drop, Base: roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 401, Header: http.Header{}, Body: http.NoBody}, nil
		})}
		for _, want := range []int{2, 2, 3} {
			do(t, transport, "GET", "https://api.example", nil)
			if fetched != want {
				t.Errorf("%d tokens after %v, want %d", fetched, time.Now(), want)
			}
			time.Sleep(35 * time.Second)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTransportDPoPNonce(t *testing.T) {
	p, c := start(t)
	r := newRequest(p)
	r.DPoP = newDPoPKey(t)
	transport, _ := newTransport(t, p, c, r)
	demand := func(nonce string) grantwaytest.Reply {
		return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
			w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce", error_description="needs a nonce"`)
			w.Header().Set("DPoP-Nonce", nonce)
			w.WriteHeader(401)
		}
	}
	p.API.Next(demand("n1"), withNonce("n2", grantwaytest.Healthy()), grantwaytest.Healthy(), demand("n3"), demand("n4"))
	for _, want := range []int{200, 200, 401} {
		if resp := do(t, transport, "POST", p.API.URL, strings.NewReader("a body")); resp.StatusCode != want {
			t.Errorf("got %s, want %d", resp.Status, want)
		}
	}
	var got []any
	for _, request := range p.API.Requests() {
		_, claims := proofOf(t, request)
		got = append(got, claims["nonce"])
		if string(request.Body) != "a body" {
			t.Errorf("body %q", request.Body)
		}
	}
	if d := cmp.Diff([]any{nil, "n1", "n2", "n2", "n3"}, got); d != "" {
		t.Error(d)
	}
	if p.Token.Count() != 1 {
		t.Errorf("%d tokens", p.Token.Count())
	}
	// After the nonce, the token itself may turn out to be refused.
	p.Revoke()
	p.API.Next(demand("n5"))
	if resp := do(t, transport, "GET", p.API.URL, nil); resp.StatusCode != 200 || p.Token.Count() != 2 {
		t.Errorf("%s, %d tokens", resp.Status, p.Token.Count())
	}
}

// TestTransportRedirects follows redirects with the standard client.
func TestTransportRedirects(t *testing.T) {
	p, c := start(t)
	transport, base := newTransport(t, p, c, newRequest(p))
	p.API.Next(grantwaytest.Redirect(307, "/api/moved"))
	if resp := do(t, transport, "GET", p.API.URL, nil); resp.StatusCode != 200 || resp.Request.URL.Path != "/api/moved" {
		t.Errorf("%s at %s", resp.Status, resp.Request.URL)
	}

	other, _ := start(t)
	base.CloseIdleConnections()
	transport.Base = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.Base.(*http.Transport).CloseIdleConnections)
	home := strings.Replace(p.API.URL, "https://127.0.0.1", "https://localhost", 1) + "home"
	p.API.Next(grantwaytest.Redirect(307, other.API.URL))
	other.API.Next(grantwaytest.Redirect(307, other.API.URL+"deeper"), grantwaytest.Redirect(307, home))
	if resp := do(t, transport, "POST", p.API.URL, strings.NewReader("x")); resp.StatusCode != 401 {
		t.Error(resp.Status)
	}
	seen := append(other.API.Requests(), p.API.Requests()[3:]...)
	if len(seen) != 3 {
		t.Fatalf("%d requests", len(seen))
	}
	for _, r := range seen {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("the token went to %s", r.Path)
		}
	}
	if p.Token.Count() != 1 {
		t.Errorf("%d tokens", p.Token.Count())
	}
}

// TestTransportKeepsTheRequest checks what a RoundTripper owes its caller.
func TestTransportKeepsTheRequest(t *testing.T) {
	p, c := start(t)
	transport, _ := newTransport(t, p, c, newRequest(p))
	req, err := http.NewRequestWithContext(t.Context(), "GET", p.API.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic of-the-caller")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Request != req || !cmp.Equal(req.Header, http.Header{"Authorization": {"Basic of-the-caller"}}) {
		t.Errorf("%s, header %v", resp.Status, resp.Request.Header)
	}

	// The body is closed when nothing is sent.
	errNone := errors.New("none")
	none := &grant.Transport{Source: func(context.Context) (*grant.Token, error) { return nil, errNone }}
	for _, c := range []struct {
		transport *grant.Transport
		url       string
		want      string
	}{
		{none, p.API.URL, "none"},
		{transport, "http://api.example/", "plain http"},
		{transport, p.API.URL + "?access_token=x", "access_token"},
	} {
		b := &closed{Reader: strings.NewReader("x")}
		req, err := http.NewRequestWithContext(t.Context(), "POST", c.url, b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.transport.RoundTrip(req); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.url, err)
		}
		if !b.closed {
			t.Errorf("%s: the body is still open", c.url)
		}
	}
}

type closed struct {
	io.Reader
	closed bool
}

func (c *closed) Close() error { c.closed = true; return nil }

func TestTransportConcurrently(t *testing.T) {
	p, c := start(t)
	r := newRequest(p)
	r.DPoP = newDPoPKey(t)
	transport, _ := newTransport(t, p, c, r)
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				resp, err := client.Post(p.API.URL, "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Error(err)
					return
				}
				if resp.Body.Close(); resp.StatusCode != 200 {
					t.Error(resp.Status)
				}
			}
		})
	}
	wg.Wait()
	if p.Token.Count() != 1 {
		t.Errorf("%d tokens", p.Token.Count())
	}
}

func TestOAuth2TokenSource(t *testing.T) {
	p, c := start(t)
	r := newRequest(p)
	r.Scope = "read"
	ts := oauth2.ReuseTokenSource(nil, grant.TokenSource(t.Context(), c, r))
	for range 2 {
		token, err := ts.Token()
		if err != nil {
			t.Fatal(err)
		}
		if token.AccessToken != p.Tokens()[0] || token.Type() != "Bearer" || !token.Valid() || token.Extra("scope") != "read" {
			t.Errorf("got %+v", token)
		}
	}
	r.DPoP = newDPoPKey(t)
	if _, err := grant.TokenSource(t.Context(), c, r).Token(); err == nil || p.Token.Count() != 1 {
		t.Errorf("%v, %d tokens", err, p.Token.Count())
	}
}
