package proxy

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// streams are the WebSockets and event streams that are open, which only one of their sides
// ends, or the hub when it stops.
type streams struct {
	open sync.WaitGroup // of tunnels, for which the server does not wait

	mu     sync.Mutex // guards what follows
	ended  bool
	closes map[*func()]struct{}
}

// enter notes an open stream and how to end it. ok is false once the hub is stopping.
func (s *streams) enter(end func()) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, false
	}
	if s.closes == nil {
		s.closes = make(map[*func()]struct{})
	}
	s.closes[&end] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.closes, &end)
	}, true
}

func (s *streams) end() {
	s.mu.Lock()
	s.ended = true
	var closes []func()
	for end := range s.closes {
		closes = append(closes, *end)
	}
	s.mu.Unlock()
	for _, end := range closes {
		end()
	}
}

// tunnel turns the caller's connection into the WebSocket that the API agreed to, and returns
// when one side has closed it.
func (p *Proxy) tunnel(control *http.ResponseController, resp *http.Response) {
	api, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		resp.Body.Close()
		return
	}
	defer api.Close()
	p.streams.open.Add(1)
	defer p.streams.open.Done()
	caller, buffered, err := control.Hijack()
	if err != nil {
		return
	}
	defer caller.Close()
	leave, ok := p.streams.enter(func() { caller.Close(); api.Close() })
	if !ok {
		return
	}
	defer leave()

	header := make(http.Header, len(resp.Header))
	copyHeader(header, resp.Header, keepsResponse)
	header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	caller.SetWriteDeadline(time.Now().Add(stall))
	io.WriteString(buffered, "HTTP/1.1 101 Switching Protocols\r\n")
	header.Write(buffered)
	io.WriteString(buffered, "\r\n")
	if buffered.Flush() != nil {
		return
	}
	caller.SetWriteDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(api, buffered.Reader)
		api.Close() // ends the other direction
	}()
	io.Copy(caller, api)
	caller.Close()
	<-done
}
