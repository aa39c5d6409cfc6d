package proxy

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// How much of a request's body is kept in memory, to send it once more.
const (
	keepBody   = 64 << 10
	keepSigned = 10 << 20 // where the connector reads all of it anyway
)

// body is the body of a caller's request, on its way to the API. Its beginning is kept while it
// is read, so that a second try can send it again; once it turns out to be longer than that,
// nothing is.
type body struct {
	src     io.Reader
	control *http.ResponseController // of the caller's connection
	keep    int

	mu   sync.Mutex // held while src is read: the first try may still do so when the second begins
	kept []byte
	lost bool  // not all that was read is kept
	err  error // how src ended

	current *try
}

func newBody(r *http.Request, control *http.ResponseController, keep int) *body {
	return &body{src: r.Body, control: control, keep: keep, lost: r.ContentLength > int64(keep)}
}

// whole tells whether all that was read is kept.
func (b *body) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.lost
}

// try is the body of one request to the API.
type try struct {
	b      *body
	offset int // in kept
	closed bool
}

// again returns the body for one more request, or false when it cannot be sent again. The one
// before reads no more.
func (b *body) again() (io.ReadCloser, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil {
		if b.lost {
			return nil, false
		}
		b.current.closed = true
	}
	b.current = &try{b: b}
	return b.current, true
}

// failed is how reading from the caller ended, if not well.
func (b *body) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == io.EOF {
		return nil
	}
	return b.err
}

// Read implements io.Reader.
func (t *try) Read(p []byte) (int, error) {
	b := t.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.closed:
		return 0, http.ErrBodyReadAfterClose
	case t.offset < len(b.kept):
		n := copy(p, b.kept[t.offset:])
		t.offset += n
		return n, nil
	case b.err != nil:
		return 0, b.err
	}
	b.control.SetReadDeadline(time.Now().Add(stall))
	n, err := b.src.Read(p)
	if err != nil {
		b.control.SetReadDeadline(time.Time{}) // from here on, reading only finds out that the caller goes away
		b.err = err
	}
	if b.lost = b.lost || len(b.kept)+n > b.keep; b.lost {
		b.kept = nil
	} else {
		b.kept = append(b.kept, p[:n]...)
		t.offset += n
	}
	return n, err
}

// Close implements io.Closer. It does not wait for a Read.
func (t *try) Close() error { return nil }

// Sizes of the buffers for bodies of answers. A stream that says little at a time holds a small
// one; once an answer fills that, it goes on with a large one.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// buffers keeps buffers of one size for those who come next.
type buffers struct {
	size int
	pool sync.Pool
}

func (b *buffers) get() *[]byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, b.size)
	return &buf
}

func (b *buffers) put(buf *[]byte) { b.pool.Put(buf) }
