package proxy_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/app"
)

const handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// echo is a server that agrees to a WebSocket and sends back whatever comes.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Sec-WebSocket-Key") == "" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: a=b\r\n\r\nready")
	io.Copy(conn, buffered)
}

// open sends a handshake and some bytes at once, and checks what comes back.
func open(t *testing.T, address, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, request+handshake+"\r\nearly")
	answer := bufio.NewReader(conn)
	resp, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") == "" || resp.Header.Get("Upgrade") != "websocket" || resp.Header.Get("Set-Cookie") != "" {
		t.Fatalf("HTTP %d %v", resp.StatusCode, resp.Header)
	}
	expect(t, answer, "readyearly")
	return conn, answer
}

func expect(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func TestWebSocket(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS, where HTTP/2 is usual": true} {
		t.Run(name, func(t *testing.T) {
			g := start(t, secure, nil)
			g.api.handle(echo)
			conn, answer := open(t, strings.TrimPrefix(g.URL, "http://"), g.line("GET /proxy/api/socket"))
			for _, word := range []string{"one", "two", strings.Repeat("x", 100_000)} {
				go io.WriteString(conn, word)
				expect(t, answer, word)
			}
			conn.(*net.TCPConn).CloseWrite()
			if rest, err := io.ReadAll(answer); len(rest) > 0 || err != nil {
				t.Errorf("after the end: %q, %v", rest, err)
			}
			if got := g.api.last(t).Header.Get("Authorization"); strings.Contains(got, g.token) {
				t.Error("the API got the caller's token")
			}
		})
	}
}

// TestOtherProtocols: no other protocol is switched to, asked for or not.
func TestOtherProtocols(t *testing.T) {
	g := start(t, false, nil)
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			t.Error("the API was asked to switch")
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	})
	resp := g.raw(t, g.line("GET /proxy/api/x")+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
	if resp == nil || resp.StatusCode != 502 {
		t.Errorf("got %v, want 502", resp)
	}
}

// TestStop: WebSockets and event streams end when the hub stops, and keep it from nothing.
func TestStop(t *testing.T) {
	ctx := t.Context()
	g := start(t, false, nil)
	o := app.Options{
		Listen: "127.0.0.1:0", Data: t.TempDir(), AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: slog.New(slog.DiscardHandler),
	}
	hub, err := app.New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Start(ctx); err != nil {
		t.Fatal(err)
	}
	g.Hub = &grantwaytest.Hub{URL: hub.URL()}
	g.Owner = ownerIn(t, o.Data)
	g.Client = g.SignIn(t, g.Owner)
	g.token = g.signIn(t, g.Owner.ClientID, string(g.Owner.ClientSecret))
	g.save(t, "api", g.api.URL, nil)

	g.api.handle(echo)
	conn, answer := open(t, strings.TrimPrefix(g.URL, "http://"), g.line("GET /proxy/api/socket"))
	defer conn.Close()
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	events := g.get(t, "/proxy/api/events")
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := g.Client.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := hub.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := answer.ReadByte(); err == nil {
		t.Error("the WebSocket goes on")
	}
	if _, err := events.Body.Read(make([]byte, 1)); err == nil {
		t.Error("the event stream goes on")
	}
}
