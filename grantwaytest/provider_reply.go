package grantwaytest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
)

// Reply answers one request in place of a healthy endpoint. It may call healthy to get
// the answer that would have been given, and spoil it. Any function of this shape is a
// reply; those of this package cover what token endpoints are known to do.
type Reply func(w http.ResponseWriter, r *http.Request, healthy http.HandlerFunc)

// Healthy is the reply of an endpoint without a script, to put between others.
func Healthy() Reply {
	return func(w http.ResponseWriter, r *http.Request, healthy http.HandlerFunc) { healthy(w, r) }
}

// Body replies with any status, content type and body.
func Body(status int, contentType, body string) Reply {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// Status replies with a bare status and one line of text, as a proxy in between would.
func Status(status int) Reply {
	return Body(status, "text/plain; charset=utf-8", http.StatusText(status)+"\n")
}

// RetryAfter is Status with a Retry-After header: seconds, or a date in http.TimeFormat
// (RFC 9110 section 10.2.3).
func RetryAfter(status int, value string) Reply {
	return header(Status(status), "Retry-After", value)
}

// Redirect replies with a redirect of the given status to location.
func Redirect(status int, location string) Reply {
	return header(Status(status), "Location", location)
}

func header(reply Reply, name, value string) Reply {
	return func(w http.ResponseWriter, r *http.Request, healthy http.HandlerFunc) {
		w.Header().Set(name, value)
		reply(w, r, healthy)
	}
}

// HTML replies with a page, as a login wall or a wrong URL does.
func HTML(status int) Reply {
	return Body(status, "text/html; charset=utf-8", "<!doctype html><title>Sign in</title><h1>Sign in</h1>\n")
}

// JSON replies with v as JSON. It panics if v has no JSON form.
func JSON(status int, v any) Reply {
	return Body(status, "application/json", string(mustJSON(v)))
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// OAuthError replies with an error response (RFC 6749 section 5.2); a description of ""
// is left out. The status may be any: some servers send errors with 200.
func OAuthError(status int, code, description string) Reply {
	members := map[string]string{"error": code}
	if description != "" {
		members["error_description"] = description
	}
	return JSON(status, members)
}

// With is the healthy JSON answer with one member set to another value, such as
// With("expires_in", "3600"). What the provider itself knows about the token does not
// change. It panics if value has no JSON form; json.RawMessage("1e12") sends those digits.
func With(member string, value any) Reply {
	raw := mustJSON(value)
	return edited(func(answer map[string]json.RawMessage) { answer[member] = raw })
}

// Without is the healthy JSON answer without one member.
func Without(member string) Reply {
	return edited(func(answer map[string]json.RawMessage) { delete(answer, member) })
}

// edited changes the healthy answer if it is a success.
func edited(edit func(answer map[string]json.RawMessage)) Reply {
	return func(w http.ResponseWriter, r *http.Request, healthy http.HandlerFunc) {
		recorder := httptest.NewRecorder()
		healthy(recorder, r)
		body := recorder.Body.Bytes()
		answer := map[string]json.RawMessage{}
		if recorder.Code == http.StatusOK && json.Unmarshal(body, &answer) == nil {
			edit(answer)
			body = mustJSON(answer)
		}
		maps.Copy(w.Header(), recorder.Header())
		w.WriteHeader(recorder.Code)
		w.Write(body)
	}
}

// SlowHeaders never answers: it waits until the client gives up or the provider closes.
func SlowHeaders() Reply {
	return func(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { stall(r) }
}

// SlowBody sends the headers and half of the healthy answer, then waits until the client
// gives up or the provider closes.
func SlowBody() Reply {
	return func(w http.ResponseWriter, r *http.Request, healthy http.HandlerFunc) {
		half(w, r, healthy)
		stall(r)
	}
}

// stall waits until the client is gone or the provider closes, and cuts the connection: a
// handler that just returned would still answer, and a client that is only about to give
// up might read it.
func stall(r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Truncated sends half of the healthy answer and closes the connection.
func Truncated() Reply { return half }

// half announces the healthy answer and sends half of it. The server closes the
// connection when a handler returns with less than it announced.
func half(w http.ResponseWriter, r *http.Request, healthy http.HandlerFunc) {
	recorder := httptest.NewRecorder()
	healthy(recorder, r)
	body := recorder.Body.Bytes()
	maps.Copy(w.Header(), recorder.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(recorder.Code)
	w.Write(body[:len(body)/2])
	w.(http.Flusher).Flush()
}

// Reset cuts the connection with a TCP reset before anything is sent.
func Reset() Reply {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
			conn = secure.NetConn()
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// Huge replies with a token answer of about mib MiB, well-formed and chunked, whose
// access token takes nearly all of it. It stops when the client hangs up.
func Huge(mib int) Reply {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Type", "application/json")
		writeHuge(w, mib, []byte(hugeHead), filler(), []byte(hugeTail))
	}
}

// GzipBomb is Huge under Content-Encoding: gzip, a thousandth of the size on the wire.
func GzipBomb(mib int) Reply {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		// Gzip members may be strung together (RFC 1952 section 2.2).
		writeHuge(w, mib, member([]byte(hugeHead)), member(filler()), member([]byte(hugeTail)))
	}
}

const (
	hugeHead = `{"token_type":"Bearer","expires_in":3600,"access_token":"`
	hugeTail = `"}`
)

func filler() []byte { return []byte(strings.Repeat("a", 1<<20)) }

func member(b []byte) []byte {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(b)
	z.Close()
	return packed.Bytes()
}

func writeHuge(w io.Writer, times int, head, middle, tail []byte) {
	w.Write(head)
	for range times {
		if _, err := w.Write(middle); err != nil {
			return
		}
	}
	w.Write(tail)
}
