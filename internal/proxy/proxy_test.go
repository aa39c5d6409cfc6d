package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
)

// TestForward: what goes on, and what stays.
func TestForward(t *testing.T) {
	g := start(t, false, nil)
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := w.Header()
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("X-Kept", "kept")
		h["X-Twice"] = []string{"a", "b"}
		h.Set("Set-Cookie", "grantway=theirs")
		h.Set("Alt-Svc", `h3=":443"`)
		h.Set("Strict-Transport-Security", "max-age=1")
		h.Set("Keep-Alive", "timeout=1")
		h["Content-Type"] = nil
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	})
	r := g.request(t, "PUT", "/proxy/api/a%20b/c;d=1/%E2%82%AC?q=1&q=%2f%0d%0a&x", strings.NewReader("body"))
	for name, value := range map[string]string{
		"Cookie": "session=1", "X-Forwarded-For": "10.0.0.1", "X-Forwarded-Host": "hub", "Forwarded": "for=10.0.0.1", "Via": "1.1 me", "X-Real-Ip": "10.0.0.1",
		"Proxy-Authorization": "Basic eDp5", "Keep-Alive": "timeout=5", "Connection": "X-Mine, Keep-Alive", "X-Mine": "1", "Dpop": "proof",
		"Te": "gzip", "Content-Type": "text/x-test", "X-Custom": "yes", "Accept-Encoding": "br", "Upgrade": "h2c", "Http2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
	} {
		r.Header.Set(name, value)
	}
	resp := g.send(t, r)
	if got, want := text(t, resp), "PUT /base/a%20b/c;d=1/%E2%82%AC?q=1&q=%2f%0d%0a&x body"; got != want || resp.StatusCode != http.StatusTeapot {
		t.Errorf("HTTP %d %q, want %q", resp.StatusCode, got, want)
	}
	for name := range resp.Header {
		if !slices.Contains([]string{"X-Kept", "X-Twice", "Date", "Content-Length"}, name) {
			t.Errorf("the answer has the header %s: %q", name, resp.Header[name])
		}
	}
	if diff := cmp.Diff([]string{"a", "b"}, resp.Header["X-Twice"]); diff != "" {
		t.Error(diff)
	}

	seen := g.api.last(t)
	token, err := g.Token(t.Context(), grantway.Ref{Credential: "api"})
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Authorization": {"Bearer " + token.AccessToken}, "Content-Type": {"text/x-test"}, "X-Custom": {"yes"},
		"Accept-Encoding": {"br"}, "Content-Length": {"4"}, "User-Agent": {"Go-http-client/1.1"},
	}
	if diff := cmp.Diff(want, seen.Header); diff != "" {
		t.Errorf("the API got (-want +got):\n%s", diff)
	}
	if want := strings.TrimPrefix(g.api.URL, "http://"); seen.Host != want {
		t.Errorf("Host %q, want %q", seen.Host, want)
	}
	if strings.Contains(fmt.Sprint(resp.Header), token.AccessToken) {
		t.Error("the answer holds the token")
	}

	for path, want := range map[string]string{"/proxy/api": "/base", "/proxy/api/": "/base/", "/proxy/API/x//y/": "/base/x//y/", "/proxy/api?q": "/base?q"} {
		if g.get(t, path); g.api.last(t).RequestURI != want {
			t.Errorf("%s went to %s, want %s", path, g.api.last(t).RequestURI, want)
		}
	}
	head := g.send(t, g.request(t, "HEAD", "/proxy/api/x", nil))
	if body := text(t, head); body != "" || head.StatusCode != http.StatusTeapot {
		t.Errorf("HEAD: HTTP %d %q", head.StatusCode, body)
	}
}

// TestCallers: nobody gets through without a token of the hub and the permission.
func TestCallers(t *testing.T) {
	g := start(t, false, nil)
	r := g.request(t, "GET", "/proxy/api/x", nil)
	r.Header.Del("Authorization")
	resp := g.send(t, r)
	problem(t, resp, 401, grantway.Unauthenticated)
	if resp.Header.Get("WWW-Authenticate") == "" {
		t.Error("no challenge")
	}
	problem(t, g.get(t, "/proxy/api/x?access_token=t"), 400, grantway.Malformed)
	problem(t, g.get(t, "/proxy/other/x"), 404, grantway.NotFound)
	problem(t, g.get(t, "/proxy/"), 404, grantway.NotFound)

	designer, err := g.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "designer", Roles: []grantway.Assignment{{Role: "designer", Division: "home"}}})
	if err != nil {
		t.Fatal(err)
	}
	g.token = g.signIn(t, designer.ID, designer.Secret)
	problem(t, g.get(t, "/proxy/api/x"), 403, grantway.Forbidden)
	if n := len(g.denied(t, "credential.use", "api")); n != 1 {
		t.Errorf("%d refusals in the audit trail, want 1", n)
	}
	if n := len(g.api.seen()); n != 0 {
		t.Errorf("%d requests reached the API", n)
	}
}

func TestNoBaseURL(t *testing.T) {
	g := start(t, false, nil)
	g.save(t, "plain", "", nil)
	problem(t, g.get(t, "/proxy/plain/x"), 409, grantway.Conflict)
}

// TestList: a client with a list uses what is on it, as it is on it.
func TestList(t *testing.T) {
	g := start(t, false, nil)
	other := g.save(t, "other", g.api.URL, nil)
	owner := g.token
	g.token = g.client(t, "limited",
		grantway.CredentialUse{Credential: "api", Via: grantway.ViaProxy, Methods: []string{"get"}, Paths: []string{"/v1/messages"}},
		grantway.CredentialUse{Credential: "api", Via: grantway.ViaProxy, Methods: []string{"POST"}, Paths: []string{"/v1/send", "/v2/"}},
	)
	for _, tt := range []struct {
		method, path string
		ok           bool
	}{
		{"GET", "/proxy/api/v1/messages", true}, {"HEAD", "/proxy/api/v1/messages/1", true}, {"GET", "/proxy/api/v1/%6dessages?x=/v1/send", true},
		{"POST", "/proxy/api/v1/send", true}, {"POST", "/proxy/api/v2", true}, {"POST", "/proxy/api/v2/x", true},
		{"GET", "/proxy/api/v1/messages2", false}, {"GET", "/proxy/api/v1", false}, {"GET", "/proxy/api", false}, {"GET", "/proxy/api/V1/messages", false},
		{"POST", "/proxy/api/v1/messages", false}, {"DELETE", "/proxy/api/v1/messages", false}, {"GET", "/proxy/api/v1/send", false}, {"GET", "/proxy/api/x//v1/messages", false},
		{"GET", "/proxy/other/v1/messages", false},
	} {
		before := len(g.api.seen())
		resp := g.send(t, g.request(t, tt.method, tt.path, nil))
		if tt.ok && (resp.StatusCode != 200 || len(g.api.seen()) != before+1) {
			t.Errorf("%s %s: HTTP %d, want it let through", tt.method, tt.path, resp.StatusCode)
		}
		if !tt.ok {
			problem(t, resp, 403, grantway.Forbidden)
			if len(g.api.seen()) != before {
				t.Errorf("%s %s reached the API", tt.method, tt.path)
			}
		}
	}
	r := g.request(t, "GET", "/proxy/api/v1/messages", nil)
	r.Header.Set("X-HTTP-Method-Override", "DELETE")
	problem(t, g.send(t, r), 403, grantway.Forbidden)
	problem(t, g.send(t, g.request(t, "POST", "/v1/credentials/api/token", nil)), 403, grantway.Forbidden)
	problem(t, g.send(t, g.request(t, "POST", "/v1/credentials/other/token", nil)), 403, grantway.Forbidden)
	g.wantDenied(t, "proxy.request", "api")
	g.wantDenied(t, "proxy.request", "other")
	if len(g.denied(t, "token.read", "api")) != 1 {
		t.Error("the refused token is not in the audit trail")
	}

	reader := g.client(t, "reader", grantway.CredentialUse{Credential: "other"})
	g.token = reader
	if resp := g.send(t, g.request(t, "POST", "/v1/credentials/other/token", nil)); resp.StatusCode != 200 {
		t.Errorf("a token of a listed credential: HTTP %d", resp.StatusCode)
	}
	if resp := g.get(t, "/proxy/other/anything"); resp.StatusCode != 200 {
		t.Errorf("a request with a listed credential: HTTP %d", resp.StatusCode)
	}
	problem(t, g.get(t, "/proxy/api/v1/messages"), 403, grantway.Forbidden)

	// A list is of credentials, not of names, and is not lifted when they are gone.
	renamed := other
	renamed.Name = "renamed"
	if _, err := g.UpdateCredential(t.Context(), "other", renamed); err != nil {
		t.Fatal(err)
	}
	if resp := g.get(t, "/proxy/renamed/x"); resp.StatusCode != 200 {
		t.Errorf("after a rename: HTTP %d", resp.StatusCode)
	}
	g.token = owner
	for c, err := range g.OAuthClients(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := []grantway.CredentialUse{{Credential: "renamed", Via: "token"}}; c.Name == "reader" && !cmp.Equal(want, c.Credentials) {
			t.Errorf("the client reads as %+v", c.Credentials)
		}
	}
	if err := g.DeleteCredential(t.Context(), "renamed"); err != nil {
		t.Fatal(err)
	}
	g.token = reader
	problem(t, g.get(t, "/proxy/api/x"), 403, grantway.Forbidden)
}

func TestListInvalid(t *testing.T) {
	g := start(t, false, nil)
	_, err := g.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "x", Roles: []grantway.Assignment{{Role: "application"}}, Credentials: []grantway.CredentialUse{
		{Credential: "nothing"},
		{Credential: "api", Via: "mail"},
		{Credential: "api", Methods: []string{"GET"}},
		{Credential: "api", Via: "proxy", Methods: []string{"GET /x"}, Paths: []string{"v1", "/a/../b", "/a?b", "/ok"}},
	}})
	invalid, ok := errors.AsType[*grantway.Error](err)
	if !ok || invalid.Code != grantway.Invalid {
		t.Fatal(err)
	}
	var got []string
	for _, f := range invalid.Fields {
		got = append(got, f.Pointer)
	}
	want := []string{"/credentials/0/credential", "/credentials/1/via", "/credentials/2/via", "/credentials/3/methods/0", "/credentials/3/paths/0", "/credentials/3/paths/1", "/credentials/3/paths/2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestStreaming: parts of a body get through in both directions before its end is known.
func TestStreaming(t *testing.T) {
	for name, secure := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			g := start(t, secure, nil)
			g.api.handle(func(w http.ResponseWriter, r *http.Request) {
				control := http.NewResponseController(w)
				control.EnableFullDuplex() // HTTP/2 has it anyway
				lines := bufio.NewReader(r.Body)
				for {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					io.WriteString(w, strings.ToUpper(line))
					control.Flush()
				}
			})
			body, write := io.Pipe()
			answer := make(chan *http.Response, 1)
			go func() {
				resp, err := g.http.Do(g.request(t, "POST", "/proxy/api/echo", body))
				if err != nil {
					t.Error(err)
				}
				answer <- resp
			}()
			io.WriteString(write, "one\n")
			resp := <-answer
			if resp == nil {
				return
			}
			defer resp.Body.Close()
			lines := bufio.NewReader(resp.Body)
			for _, line := range []string{"one", "two", "three"} {
				if line != "one" {
					io.WriteString(write, line+"\n")
				}
				if got, err := lines.ReadString('\n'); got != strings.ToUpper(line)+"\n" {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			write.Close()
			if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
				t.Errorf("at the end: %q, %v", rest, err)
			}
			if want := map[bool]int{false: 1, true: 2}[secure]; g.api.last(t).ProtoMajor != want {
				t.Errorf("the API was asked by %s", g.api.last(t).Proto)
			}
		})
	}
}

// TestLarge: bodies of many sizes arrive whole, with a length and without one.
func TestLarge(t *testing.T) {
	g := start(t, false, nil)
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", r.URL.Query().Get("length"))
		}
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})
	for _, size := range []int{0, 1, 4095, 4096, 4097, 64 << 10, 64<<10 + 1, 3 << 20} {
		payload := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for _, query := range []string{"", fmt.Sprintf("?length=%d", size)} {
			for _, reader := range []io.Reader{bytes.NewReader(payload), io.MultiReader(bytes.NewReader(payload))} { // the second has no length
				resp := g.send(t, g.request(t, "POST", "/proxy/api/echo"+query, reader))
				if got := text(t, resp); got != string(payload) {
					t.Errorf("%d bytes%s: HTTP %d, got %d others", size, query, resp.StatusCode, len(got))
				}
			}
		}
	}
}

// TestEvents: an event gets through before the next one exists.
func TestEvents(t *testing.T) {
	g := start(t, false, nil)
	next := make(chan string)
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		http.NewResponseController(w).Flush()
		for event := range next {
			fmt.Fprintf(w, "data: %s\n\n", event)
			http.NewResponseController(w).Flush()
		}
	})
	resp := g.get(t, "/proxy/api/events") // the header is there before any event
	lines := bufio.NewScanner(resp.Body)
	for _, event := range []string{"one", "two"} {
		next <- event
		if lines.Scan(); lines.Text() != "data: "+event {
			t.Errorf("got %q, want %s", lines.Text(), event)
		}
		lines.Scan()
	}
	close(next)
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the end: %q, %v", lines.Text(), lines.Err())
	}
}

// TestCallerLeaves: the API hears of it.
func TestCallerLeaves(t *testing.T) {
	g := start(t, false, nil)
	arrived, left := make(chan struct{}), make(chan struct{})
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(left)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if resp, err := g.http.Do(g.request(t, "GET", "/proxy/api/x", nil).WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Error("an answer, although the caller left")
	}
	<-left
}

// TestBrokenAnswer: a part of an answer is not taken for the whole.
func TestBrokenAnswer(t *testing.T) {
	g := start(t, false, nil)
	for name, length := range map[string]string{"with a length": "100", "without": ""} {
		g.api.handle(func(w http.ResponseWriter, r *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			io.WriteString(w, "part")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		resp, err := g.http.Do(g.request(t, "GET", "/proxy/api/x", nil))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	g.api.handle(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	problem(t, g.get(t, "/proxy/api/x"), 502, grantway.UpstreamFailed)
	g.api.Close()
	problem(t, g.get(t, "/proxy/api/x"), 502, grantway.UpstreamFailed)
}

func TestTrailers(t *testing.T) {
	for name, secure := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			g := start(t, secure, nil)
			g.api.handle(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Trailer", "X-Sum")
				w.Write(body)
				w.Header().Set("X-Sum", r.Trailer.Get("X-Sum")+" and "+r.Header.Get("Te"))
				w.Header().Set(http.TrailerPrefix+"X-Late", "late")
			})
			r := g.request(t, "POST", "/proxy/api/x", io.MultiReader(strings.NewReader("body")))
			r.Header.Set("Te", "trailers")
			r.Trailer = http.Header{"X-Sum": {"4"}}
			resp := g.send(t, r)
			if got := text(t, resp); got != "body" {
				t.Errorf("body %q", got)
			}
			if diff := cmp.Diff(http.Header{"X-Sum": {"4 and trailers"}, "X-Late": {"late"}}, resp.Trailer); diff != "" {
				t.Errorf("trailers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefusedToken: another token is fetched, once, and the body sent again, if it can be.
func TestRefusedToken(t *testing.T) {
	g := start(t, false, nil)
	g.get(t, "/proxy/api/x")
	var refuse atomic.Int64
	var bodies [2]string
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies[0], bodies[1] = bodies[1], string(body)
		if refuse.Add(-1) >= 0 {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, "refused")
			return
		}
		io.WriteString(w, r.Header.Get("Authorization"))
	})
	small, large := strings.Repeat("x", 64<<10), strings.Repeat("x", 64<<10+1)
	first := g.api.last(t).Header.Get("Authorization")
	for _, tt := range []struct {
		name    string
		refuse  int64
		body    io.Reader
		want    int // status
		fetched int
	}{
		{"no body", 1, nil, 200, 1},
		{"a small body", 1, strings.NewReader(small), 200, 1},
		{"a small body without length", 1, io.MultiReader(strings.NewReader(small)), 200, 1},
		{"a large body", 1, strings.NewReader(large), 401, 1}, // the next request gets the new token
		{"a large body without length", 1, io.MultiReader(strings.NewReader(large)), 401, 1},
		{"twice", 2, strings.NewReader("x"), 401, 1},
		{"after that, for a while", 1, strings.NewReader("x"), 401, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := g.provider.Token.Count()
			refuse.Store(tt.refuse)
			bodies = [2]string{}
			resp := g.send(t, g.request(t, "POST", "/proxy/api/x", tt.body))
			got := text(t, resp)
			if resp.StatusCode != tt.want || tt.want == 200 && (got == first || bodies[0] != bodies[1]) || tt.want == 401 && got != "refused" {
				t.Errorf("HTTP %d, want %d; bodies of %d and %d bytes", resp.StatusCode, tt.want, len(bodies[0]), len(bodies[1]))
			}
			g.get(t, "/proxy/api/x")
			if n := g.provider.Token.Count() - before; n != tt.fetched {
				t.Errorf("%d tokens were fetched, want %d", n, tt.fetched)
			}
		})
	}
}

// TestBusyAPI: a 429 with Retry-After is heeded, by the request that got it and by the others.
func TestBusyAPI(t *testing.T) {
	g := start(t, false, nil)
	var answers atomic.Int64
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		if answers.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		io.WriteString(w, "ok")
	})
	began := time.Now()
	if got := text(t, g.send(t, g.request(t, "POST", "/proxy/api/x", strings.NewReader("x")))); got != "ok" || time.Since(began) < time.Second {
		t.Errorf("%q after %v, want it sent again after a second", got, time.Since(began))
	}

	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, "slow down")
	})
	resp := g.get(t, "/proxy/api/x")
	if got := text(t, resp); resp.StatusCode != 429 || got != "slow down" || resp.Header.Get("Retry-After") != "60" {
		t.Errorf("HTTP %d %q, want the API's own answer", resp.StatusCode, got)
	}
	before := len(g.api.seen())
	if p := problem(t, g.get(t, "/proxy/api/x"), 429, grantway.RateLimited); time.Until(p.RetryAt) < 50*time.Second {
		t.Errorf("retry at %v", p.RetryAt)
	}
	if len(g.api.seen()) != before {
		t.Error("the API was asked again before its time")
	}
}

// TestPace: requests wait for their turn, as long as that is near.
func TestPace(t *testing.T) {
	g := start(t, false, nil)
	g.limit(t, "api", grantway.RateLimit{Requests: 120, Per: 60})
	began := time.Now()
	for range 4 { // two at once, then one each half second
		if resp := g.get(t, "/proxy/api/x"); resp.StatusCode != 200 {
			t.Errorf("HTTP %d", resp.StatusCode)
		}
	}
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("four requests went through in %v", took)
	}
	g.save(t, "slow", g.api.URL, nil)
	g.limit(t, "slow", grantway.RateLimit{Requests: 1, Per: 60})
	if resp := g.get(t, "/proxy/slow/x"); resp.StatusCode != 200 {
		t.Errorf("HTTP %d", resp.StatusCode)
	}
	resp := g.get(t, "/proxy/slow/x")
	problem(t, resp, 429, grantway.RateLimited)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestMetrics(t *testing.T) {
	g := start(t, false, nil)
	g.get(t, "/proxy/api/x")
	g.api.handle(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) })
	g.get(t, "/proxy/api/x")
	got := text(t, g.get(t, "/metrics"))
	for _, want := range []string{
		`grantway_proxy_requests_total{credential="api",status="200"} 1`, `grantway_proxy_requests_total{credential="api",status="404"} 1`,
		`grantway_proxy_seconds_count{credential="api"} 2`, `grantway_proxy_open 0`, `grantway_token_reads_total{credential="api"} 2`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}
