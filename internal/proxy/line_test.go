package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestConnections: connections to an API are used again, but not after the API closed them, nor
// when it said something that nobody asked for.
func TestConnections(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, tt := range []struct {
		name   string
		answer string // to each request
		close  bool   // right after it
		want   string // body, or the status
		conns  int    // for three requests
	}{
		{"kept", answer, false, "ok", 1},
		{"kept after chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, "ok", 1},
		{"kept without a body", "HTTP/1.1 204 No Content\r\n\r\n", false, "", 1},
		{"kept after interim answers", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer, false, "ok", 1},
		{"closed, as it says", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", true, "ok", 3},
		{"closed without a word", answer, true, "ok", 3},
		{"more than asked for", answer + answer, false, "ok", 3},
		{"not HTTP", "hello\r\n\r\n", true, "502", 3},
		{"a header without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", true, "502", 3},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk", false, "502", 3},
		{"interim answers without end", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 50) + answer, false, "502", 3},
		{"a switch", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false, "502", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var done sync.WaitGroup
			t.Cleanup(done.Wait) // once the hub has let go of its connections
			g := start(t, false, nil)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var conns atomic.Int64
			closed := make(chan struct{}, 10) // one for each connection that the API closed
			done.Go(func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					conns.Add(1)
					done.Go(func() {
						defer conn.Close()
						for requests := bufio.NewReader(conn); ; {
							if _, err := http.ReadRequest(requests); err != nil {
								return
							}
							io.WriteString(conn, tt.answer)
							if tt.close {
								conn.Close()
								closed <- struct{}{}
								return
							}
						}
					})
				}
			})
			g.save(t, "raw", "http://"+listener.Addr().String(), nil)
			for range 3 {
				resp := g.get(t, "/proxy/raw/x")
				got := text(t, resp)
				if resp.StatusCode >= 300 {
					got = fmt.Sprint(resp.StatusCode)
				}
				if got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if tt.close {
					<-closed
				}
			}
			listener.Close()
			if n := int(conns.Load()); n != tt.conns {
				t.Errorf("%d connections, want %d", n, tt.conns)
			}
		})
	}
}
