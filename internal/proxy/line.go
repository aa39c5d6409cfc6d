package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// lines sends GET and HEAD to APIs that speak HTTP/1.1, each over a connection that it has to
// itself. Reading and writing is done by the goroutine of the caller, where http.Transport has
// two more for each connection and hands every request and answer over: that is a quarter of
// what a short request costs. It dials, verifies and checks addresses as the transport does, and
// reads answers with net/http, so that there is one opinion on where an answer ends.
//
// Nobody reads a connection that is idle. Before it is used again it is looked at, without
// waiting: one that was closed, or on which something came that nobody asked for, is given up.
type lines struct {
	transport *http.Transport
	tls       *tls.Config

	mu     sync.Mutex // guards what follows; never held over I/O
	idle   map[string][]*line
	closed bool
}

// line is one connection to an API.
type line struct {
	net.Conn
	lines  *lines
	origin string
	raw    syscall.RawConn // of the TCP connection
	r      *bufio.Reader
	w      *bufio.Writer
	budget int64       // what the header of the answer may still take
	used   bool        // for a request before this one
	heard  bool        // something of the answer came
	expire *time.Timer // while it is idle
}

func newLines(t *http.Transport) *lines {
	config := t.TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	return &lines{transport: t, tls: config, idle: map[string][]*line{}}
}

// takes tells whether r can be sent over a line, to an API that speaks HTTP/1.1.
func (ls *lines) takes(r *http.Request) bool {
	return canPeek && (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Body == nil && r.Header["Upgrade"] == nil
}

// RoundTrip implements http.RoundTripper for requests that lines takes.
func (ls *lines) RoundTrip(r *http.Request) (*http.Response, error) {
	proxy, err := ls.transport.Proxy(r) // which checks the URL
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		return ls.transport.RoundTrip(r)
	}
	for {
		l, err := ls.get(r.Context(), r.URL)
		if err != nil {
			return nil, err
		}
		resp, err := l.roundTrip(r)
		if err == nil {
			return resp, nil
		}
		l.Close()
		switch {
		case r.Context().Err() != nil:
			return nil, r.Context().Err()
		case !l.used || l.heard:
			return nil, err
		} // else the API closed the connection while it was idle
	}
}

// get returns a connection that is idle, or a new one.
func (ls *lines) get(ctx context.Context, u *url.URL) (*line, error) {
	origin := u.Scheme + "://" + u.Host
	for {
		ls.mu.Lock()
		var l *line
		if list := ls.idle[origin]; len(list) > 0 {
			l = list[len(list)-1]
			list[len(list)-1] = nil
			ls.idle[origin] = list[:len(list)-1]
		}
		ls.mu.Unlock()
		if l == nil {
			return ls.dial(ctx, u, origin)
		}
		if l.expire.Stop() && silent(l.raw) {
			return l, nil
		}
		l.Close()
	}
}

func (ls *lines) dial(ctx context.Context, u *url.URL, origin string) (*line, error) {
	conn, err := ls.transport.DialContext(ctx, "tcp", hostPort(u))
	if err != nil {
		return nil, err
	}
	l := &line{Conn: conn, lines: ls, origin: origin}
	tcp, ok := conn.(syscall.Conn)
	if !ok {
		conn.Close()
		return nil, errors.New("dialled something without a socket")
	}
	if l.raw, err = tcp.SyscallConn(); err != nil {
		conn.Close()
		return nil, err
	}
	if u.Scheme == "https" {
		config := ls.tls.Clone()
		config.ServerName = strings.TrimSuffix(u.Hostname(), ".")
		secure := tls.Client(conn, config)
		handshake, cancel := context.WithTimeout(ctx, ls.transport.TLSHandshakeTimeout)
		defer cancel()
		if err := secure.HandshakeContext(handshake); err != nil {
			conn.Close()
			return nil, err
		}
		l.Conn = secure
	}
	l.r, l.w = bufio.NewReader(l), bufio.NewWriter(l.Conn)
	return l, nil
}

// put keeps a connection for the next request.
func (ls *lines) put(l *line) {
	l.used = true
	if l.expire == nil {
		l.expire = time.AfterFunc(ls.transport.IdleConnTimeout, func() { ls.expire(l) })
	} else {
		l.expire.Reset(ls.transport.IdleConnTimeout)
	}
	ls.mu.Lock()
	keep := !ls.closed && len(ls.idle[l.origin]) < ls.transport.MaxIdleConnsPerHost
	if keep {
		ls.idle[l.origin] = append(ls.idle[l.origin], l)
	}
	ls.mu.Unlock()
	if !keep {
		l.expire.Stop()
		l.Close()
	}
}

// expire gives up a connection that was idle for long.
func (ls *lines) expire(l *line) {
	ls.mu.Lock()
	list := ls.idle[l.origin]
	for i, other := range list {
		if other == l {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if ls.idle[l.origin] = list; len(list) == 0 {
		delete(ls.idle, l.origin)
	}
	ls.mu.Unlock()
	l.Close()
}

// close closes all connections that are idle, and keeps none from then on.
func (ls *lines) close() {
	ls.mu.Lock()
	idle := ls.idle
	ls.idle, ls.closed = map[string][]*line{}, true
	ls.mu.Unlock()
	for _, list := range idle {
		for _, l := range list {
			l.expire.Stop()
			l.Close()
		}
	}
}

// Read reads from the connection, for l.r.
func (l *line) Read(p []byte) (int, error) {
	if l.budget <= 0 {
		return 0, errors.New("the header of the answer is too long")
	}
	n, err := l.Conn.Read(p)
	l.budget -= int64(n)
	l.heard = l.heard || n > 0
	return n, err
}

func (l *line) roundTrip(r *http.Request) (*http.Response, error) {
	l.heard = false
	stop := context.AfterFunc(r.Context(), func() { l.Close() })
	fail := func(err error) (*http.Response, error) {
		stop()
		return nil, err
	}
	l.SetDeadline(time.Now().Add(headerWait))
	if err := r.Write(l.w); err != nil {
		return fail(err)
	}
	if err := l.w.Flush(); err != nil {
		return fail(err)
	}
	l.budget = l.lines.transport.MaxResponseHeaderBytes
	var resp *http.Response
	for interim := 0; resp == nil || resp.StatusCode < 200; interim++ {
		var err error
		if resp, err = http.ReadResponse(l.r, r); err != nil {
			return fail(err)
		}
		if resp.StatusCode == http.StatusSwitchingProtocols || interim == 5 {
			return fail(errors.New("the API answers with something else than was asked for"))
		}
	}
	l.budget = 1<<63 - 1
	l.SetDeadline(time.Time{})
	body := &lineBody{line: l, stop: stop, inner: resp.Body, last: resp.Close || r.Close}
	if resp.Body == http.NoBody {
		body.finish(true)
	} else {
		resp.Body = body
	}
	return resp, nil
}

// lineBody is the body of an answer, at the end of which the connection is free.
type lineBody struct {
	line     *line
	inner    io.Reader
	stop     func() bool
	last     bool // the API closes the connection after it
	finished atomic.Bool
}

// Read implements io.Reader.
func (b *lineBody) Read(p []byte) (int, error) {
	if b.finished.Load() {
		return 0, io.EOF
	}
	n, err := b.inner.Read(p)
	if err != nil {
		b.finish(err == io.EOF)
	}
	return n, err
}

// Close implements io.Closer. Before the end of the body it closes the connection.
func (b *lineBody) Close() error {
	b.finish(false)
	return nil
}

func (b *lineBody) finish(whole bool) {
	if b.finished.Swap(true) {
		return
	}
	if uncut := b.stop(); uncut && whole && !b.last && b.line.r.Buffered() == 0 {
		b.line.lines.put(b.line)
	} else {
		b.line.Close()
	}
}
