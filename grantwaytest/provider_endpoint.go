package grantwaytest

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// Endpoint is one scripted endpoint of a provider. Each request is counted and recorded,
// then waits while the endpoint is held, then gets the reply that was first in line when
// it arrived: the next of the queue, else the standing one, else the healthy one.
type Endpoint struct {
	URL string // absolute; of the API, the prefix with its slash at the end

	healthy http.HandlerFunc

	mu       sync.Mutex // guards what follows
	queue    []Reply
	always   Reply // nil: healthy
	requests []*Request
	count    int
	open     int           // requests that have no reply yet
	most     int           // the most that open has been
	arrived  chan struct{} // closed, and replaced, at each arrival
	held     chan struct{} // requests wait until it is closed; nil: not held
}

// Request is a request as it arrived. Its fields are shared; do not change them.
type Request struct {
	Method string
	Path   string
	Query  url.Values
	Header http.Header
	Body   []byte     // at most the first 64 KiB
	Form   url.Values // the decoded body if it is a well-formed application/x-www-form-urlencoded one, else nil

	// Certificate is what the client presented on a TLS connection; nil for none.
	Certificate *x509.Certificate
}

const (
	maxRecordedBody = 64 << 10
	maxRecorded     = 10_000
)

func newEndpoint(healthy http.HandlerFunc) *Endpoint {
	return &Endpoint{healthy: healthy, arrived: make(chan struct{})}
}

// Next queues replies for the next requests, one each, behind those already queued.
func (e *Endpoint) Next(replies ...Reply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, replies...)
}

// Always gives reply to every request that finds the queue empty, until it is called
// again; nil is healthy.
func (e *Endpoint) Always(reply Reply) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.always = reply
}

// Hold makes requests that arrive from now on wait for release, which lets all of them
// go and may be called more than once. A client that gives up, and Provider.Close, end
// the wait as well. Hold, [Endpoint.Await], release is how a test does something at the
// very moment a request is under way.
func (e *Endpoint) Hold() (release func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held == nil {
		e.held = make(chan struct{})
	}
	held := e.held
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.held == held {
			close(held)
			e.held = nil
		}
	}
}

// Await returns when n requests have arrived since the start, or with an error when ctx ends first.
func (e *Endpoint) Await(ctx context.Context, n int) error {
	for {
		e.mu.Lock()
		count, arrived := e.count, e.arrived
		e.mu.Unlock()
		if count >= n {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return fmt.Errorf("await %d requests at %s, have %d: %w", n, e.URL, count, context.Cause(ctx))
		}
	}
}

// Count is the number of requests that have arrived since the start.
func (e *Endpoint) Count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count
}

// MaxConcurrent is the largest number of requests that were open at one moment.
func (e *Endpoint) MaxConcurrent() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.most
}

// Requests are the recorded requests in the order of their arrival. The oldest are
// dropped when there are more than 10,000.
func (e *Endpoint) Requests() []*Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.requests)
}

// ServeHTTP implements http.Handler. The body that replies see is the recorded part.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := record(r)
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	reply, held := e.arrive(request)
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.open--
	}()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			stall(r)
		}
	}
	if reply == nil {
		e.healthy(w, r)
		return
	}
	reply(w, r, e.healthy)
}

// record reads the whole body, so that the server notices when the client hangs up.
func record(r *http.Request) (*Request, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRecordedBody))
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	request := &Request{
		Method: r.Method,
		Path:   r.URL.Path,
		Query:  r.URL.Query(),
		Header: r.Header.Clone(),
		Body:   body,
	}
	if isForm(r.Header) {
		if form, err := url.ParseQuery(string(body)); err == nil {
			request.Form = form
		}
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		request.Certificate = r.TLS.PeerCertificates[0]
	}
	return request, nil
}

// arrive books request and takes its reply; held is what it has to wait for.
func (e *Endpoint) arrive(request *Request) (reply Reply, held chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count++
	e.open++
	e.most = max(e.most, e.open)
	if len(e.requests) == maxRecorded {
		e.requests = slices.Clone(e.requests[maxRecorded/2:])
	}
	e.requests = append(e.requests, request)
	close(e.arrived)
	e.arrived = make(chan struct{})
	reply = e.always
	if len(e.queue) > 0 {
		reply, e.queue = e.queue[0], e.queue[1:]
	}
	return reply, e.held
}
