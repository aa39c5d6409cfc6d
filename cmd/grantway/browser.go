package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/oauth2"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

const (
	// callbackPath is where the browser comes back to, on a free port of 127.0.0.1.
	callbackPath = "/callback"

	// browserTime is how long a person may take.
	browserTime = 10 * time.Minute
)

// signInByBrowser lets a person sign in to the hub in a browser and allow this program to act for
// them: the authorization code grant with PKCE, and a redirect to this machine (RFC 8252 section 7.3).
// The address is printed always, and opened if open is true. Refusals are of code Forbidden.
func (c *cli) signInByBrowser(ctx context.Context, hub, clientID string, open bool) (session, error) {
	var client grant.Client
	defer client.CloseIdleConnections()
	m, err := client.Discover(ctx, hub)
	if err != nil {
		return session{}, err
	}
	if err := grant.CheckTokenURL(m.AuthorizeEndpoint); err != nil { // it is handed to another program
		return session{}, errors.New("this hub lets no program act for people")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return session{}, fmt.Errorf("wait for the browser: %w", err)
	}
	back := &callback{state: rand.Text(), issuer: m.Issuer, answers: make(chan answered, 1)}
	server := &http.Server{Handler: back, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go server.Serve(listener) // until the end of this function
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		server.Shutdown(ctx) // lets the browser have its page
	}()

	redirect, verifier := "http://"+listener.Addr().String()+callbackPath, oauth2.GenerateVerifier()
	request := oauth2.Config{ClientID: clientID, RedirectURL: redirect, Endpoint: oauth2.Endpoint{AuthURL: m.AuthorizeEndpoint}}
	address := request.AuthCodeURL(back.state, oauth2.S256ChallengeOption(verifier))
	c.note("sign in with a browser on this machine, at\n%s", address)
	if open {
		openBrowser(ctx, address)
	}
	waiting, cancel := context.WithTimeoutCause(ctx, browserTime, fmt.Errorf("nobody signed in within %s", browserTime))
	defer cancel()
	select {
	case <-waiting.Done():
		return session{}, context.Cause(waiting)
	case got := <-back.answers:
		if got.err != nil {
			return session{}, got.err
		}
		form := url.Values{"code": {got.code}, "redirect_uri": {redirect}, "code_verifier": {verifier}}
		return newSession(ctx, requestOf(hub, clientID, "authorization_code", form), "")
	}
}

// openBrowser does what it can: whoever has no browser here has the address.
func openBrowser(ctx context.Context, address string) {
	var cmd *exec.Cmd
	switch runtime.GOOS {
	case "darwin":
		cmd = exec.CommandContext(ctx, "open", address)
	case "windows":
		cmd = exec.CommandContext(ctx, "rundll32", "url.dll,FileProtocolHandler", address)
	default:
		cmd = exec.CommandContext(ctx, "xdg-open", address)
	}
	cmd.Cancel = func() error { return nil } // it may have become the browser, which is not ours to end
	if cmd.Start() == nil {
		go cmd.Wait()
	}
}

// callback is the page that the browser comes back to. Anything on this machine can call it, so what
// does not know the state changes nothing.
type callback struct {
	state, issuer string
	answers       chan answered // has room for the first; later ones are dropped
}

// answered is what the browser brought: a code, or why there is none.
type answered struct {
	code string
	err  error
}

// ServeHTTP implements http.Handler.
func (b *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	q := r.URL.Query()
	if r.Method != http.MethodGet || r.URL.Path != callbackPath || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(b.state)) != 1 {
		http.Error(w, "This is not the answer that grantway login waits for.", http.StatusBadRequest)
		return
	}
	got := answered{code: q.Get("code")}
	switch {
	case q.Get("iss") != b.issuer: // another server's code would go to the hub (RFC 9207)
		got.err = fmt.Errorf("the answer in the browser is of %q, not of the hub", q.Get("iss"))
	case q.Get("error") == "access_denied":
		got.err = grantway.Errorf(grantway.Forbidden, "you did not allow it")
	case got.code == "":
		got.err = fmt.Errorf("the hub refuses the sign-in: %q", cmp.Or(q.Get("error"), "no code"))
	}
	select {
	case b.answers <- got:
	default:
	}
	io.WriteString(w, "Grantway: go back to the command line. You can close this window.\n")
}
