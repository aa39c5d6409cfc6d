package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// connections is how many callers there are at once.
const connections = 32

// load sends n requests over keep-alive connections and returns how long that took. It
// writes bytes that were made once and checks each answer against want, so that it costs
// little beside the server and a wrong answer fails the benchmark.
func load(tb testing.TB, addr string, request []byte, n int, want func(status int, body []byte) error) time.Duration {
	tb.Helper()
	return loadOver(tb, connections, addr, request, n, want, nil)
}

// loadOver is load over so many connections. It notes in latencies, unless that is nil, how
// long each answer took.
func loadOver(tb testing.TB, connections int, addr string, request []byte, n int, want func(status int, body []byte) error, latencies []time.Duration) time.Duration {
	tb.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	failed := make(chan error, connections)
	ready := make(chan struct{})
	for range min(connections, n) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			tb.Fatal(err)
		}
		wg.Go(func() {
			defer conn.Close()
			answers := bufio.NewReaderSize(conn, 8<<10)
			body := make([]byte, 0, 4<<10)
			<-ready
			for {
				i := left.Add(-1)
				if i < 0 {
					return
				}
				began := time.Now()
				if _, err := conn.Write(request); err != nil {
					failed <- err
					return
				}
				status, err := readAnswer(answers, &body)
				if latencies != nil {
					latencies[i] = time.Since(began)
				}
				if err == nil {
					err = want(status, body)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	began := time.Now()
	close(ready)
	wg.Wait()
	took := time.Since(began)
	select {
	case err := <-failed:
		tb.Fatal(err)
	default:
	}
	return took
}

// readAnswer reads one answer with a Content-Length.
func readAnswer(r *bufio.Reader, body *[]byte) (status int, err error) {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first:
			if len(line) < 12 {
				return 0, fmt.Errorf("no status line: %q", line)
			}
			status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
		case len(line) == 0:
			if length < 0 {
				return 0, fmt.Errorf("HTTP %d without Content-Length", status)
			}
			*body = (*body)[:0]
			*body = slices.Grow(*body, length)[:length]
			_, err := io.ReadFull(r, *body)
			return status, err
		case len(line) > 16 && bytes.EqualFold(line[:16], []byte("Content-Length: ")):
			length = 0
			for _, c := range line[16:] {
				length = length*10 + int(c-'0')
			}
		}
	}
}

// post writes the bytes of a POST without body.
func post(host, path, token string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", path, host, token)
}

// has returns a check for an answer that is 200 and holds part.
func has(part string) func(int, []byte) error {
	return func(status int, body []byte) error {
		if status != http.StatusOK || !bytes.Contains(body, []byte(part)) {
			return fmt.Errorf("HTTP %d: %.200q, want 200 and %s", status, body, part)
		}
		return nil
	}
}
