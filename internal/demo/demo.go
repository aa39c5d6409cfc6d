// Package demo is a small authorization server with an API behind it, so that somebody can
// try a hub without an account anywhere. It runs inside the hub's process, on loopback, and
// only when the hub is started with --demo.
package demo

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Lifetime of the tokens: short enough to watch one being renewed.
const Lifetime = 2 * time.Minute

// The client that the tour in the README adds by hand. Everybody knows its secret, which
// opens nothing but the demonstration API of the machine it runs on.
const (
	TourClient = "tour"
	TourSecret = "tour-secret"
)

// Provider is the running server.
type Provider struct {
	URL    string
	Client string // client id of the ready-made credential
	Secret string // its secret, new at each start

	server *http.Server
	ended  chan struct{}

	mu     sync.Mutex // guards tokens
	tokens map[string]time.Time
}

// Start listens on addr, or on any free loopback port when addr is taken.
func Start(addr string) (*Provider, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("start the demo provider: %w", err)
		}
	}
	p := &Provider{
		URL: "http://" + listener.Addr().String(), Client: "demo", Secret: rand.Text(),
		ended: make(chan struct{}), tokens: map[string]time.Time{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth/token", p.token)
	mux.HandleFunc("GET /api/messages", p.messages)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(p.ended)
		p.server.Serve(listener)
	}()
	return p, nil
}

// Stop ends the server.
func (p *Provider) Stop(ctx context.Context) error {
	err := p.server.Shutdown(ctx)
	<-p.ended
	return err
}

// TokenEndpoint is where tokens are asked for.
func (p *Provider) TokenEndpoint() string { return p.URL + "/oauth/token" }

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	id, secret, basic := r.BasicAuth()
	if basic { // RFC 6749 section 2.3.1: both halves are form-encoded
		var first, second error
		id, first = url.QueryUnescape(id)
		secret, second = url.QueryUnescape(secret)
		if errors.Join(first, second) != nil {
			fail(w, http.StatusUnauthorized, "invalid_client", "the Basic header is not form-encoded")
			return
		}
	} else {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	known := map[string]string{p.Client: p.Secret, TourClient: TourSecret}[id]
	switch {
	case known == "" || subtle.ConstantTimeCompare([]byte(known), []byte(secret)) != 1:
		w.Header().Set("WWW-Authenticate", `Basic realm="demo"`)
		fail(w, http.StatusUnauthorized, "invalid_client", "unknown client or wrong secret")
		return
	case r.PostFormValue("grant_type") != "client_credentials":
		fail(w, http.StatusBadRequest, "unsupported_grant_type", "only client_credentials is offered")
		return
	}
	token := rand.Text() + rand.Text()
	p.mu.Lock()
	for old, expires := range p.tokens {
		if time.Now().After(expires) {
			delete(p.tokens, old)
		}
	}
	p.tokens[token] = time.Now().Add(Lifetime)
	p.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int(Lifetime.Seconds()), "scope": r.PostFormValue("scope"),
	})
}

func (p *Provider) messages(w http.ResponseWriter, r *http.Request) {
	token := ""
	fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &token)
	p.mu.Lock()
	expires, ok := p.tokens[token]
	p.mu.Unlock()
	if !ok || time.Now().After(expires) {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		fail(w, http.StatusUnauthorized, "invalid_token", "the token is missing, unknown or expired")
		return
	}
	answer(w, http.StatusOK, map[string]any{"messages": []map[string]string{
		{"from": "ada@example.com", "subject": "Your token works"},
		{"from": "grace@example.com", "subject": "And nobody saw the secret"},
	}})
}

func fail(w http.ResponseWriter, status int, code, description string) {
	answer(w, status, map[string]any{"error": code, "error_description": description})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
