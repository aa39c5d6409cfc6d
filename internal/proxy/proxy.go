// Package proxy is the authorizing reverse proxy of a hub: whatever is sent to
// /proxy/{credential}/{path} goes to the API of that credential with its token, and the answer
// comes back as a stream. The caller shows the hub who it is, and never sees the token.
//
//	caller ─▶ who? ─▶ path unambiguous? ─▶ may it? ─▶ its turn? ─▶ token on ─▶ API
//	          issuer   path.go              access    lane.go      broker      outbound
//
// A request that is refused on this way is in the audit trail. An answer that refuses the token
// leads to one more try with another one, if the body can be sent again; so does one that says
// when to come back. The hub follows no redirect: those within the API are rewritten, so that
// the caller comes back through here, and those that lead elsewhere are refused.
package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/outbound"
)

const (
	stall      = time.Minute     // a caller that neither sends nor takes anything for so long is gone
	headerWait = 2 * time.Minute // from the end of a request to the header of its answer
	maxHops    = 3               // redirects to other hosts that one request follows
)

// Options are what a Proxy works with. All are required.
type Options struct {
	Broker   *broker.Broker
	Issuer   *issuer.Issuer
	Audit    *access.Log
	Outbound *outbound.Guard
	Problem  func(w http.ResponseWriter, r *http.Request, err error) // writes an error as the API does
	Tracer   trace.Tracer                                            // of requests to APIs
	Log      *slog.Logger
}

// Proxy serves the paths that begin with /proxy/. Safe for concurrent use.
type Proxy struct {
	Options
	transport *http.Transport // for all that lines does not take
	lines     *lines
	certified outbound.Certified // for APIs that want a client certificate
	metrics   metrics
	lanes     sync.Map // credential id → *lane
	small     buffers
	large     buffers
	streams   streams
}

// New returns a Proxy that is ready to serve.
func New(o Options) *Proxy {
	t := o.Outbound.Transport().Clone()
	t.DisableCompression = true // what callers did not ask for they must not get
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 4096, 512
	t.ResponseHeaderTimeout = headerWait
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second} // finds out that an API is gone
	return &Proxy{Options: o, transport: t, lines: newLines(t), certified: outbound.Certified{Base: t}, metrics: newMetrics(), small: buffers{size: smallBuffer}, large: buffers{size: largeBuffer}}
}

// EndStreams ends WebSockets and event streams, which would go on for as long as both sides
// like, and lets no more begin. Other requests go on.
func (p *Proxy) EndStreams() { p.streams.end() }

// Stop ends streams, waits for WebSockets to be gone, and closes connections to APIs. There must
// be no more requests.
func (p *Proxy) Stop(context.Context) error {
	p.streams.end()
	p.streams.open.Wait()
	p.transport.CloseIdleConnections()
	p.lines.close()
	p.certified.Close()
	return nil
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Pattern = prefix + "{credential}/{path...}"
	who, err := p.Issuer.Authenticate(r)
	if err != nil {
		p.Problem(w, r, err)
		return
	}
	t, refused := parseTarget(r.RequestURI)
	if refused != "" {
		p.Problem(w, r, p.deny(r.Context(), who, "proxy.path", t.credential, "", grantway.Errorf(grantway.Malformed, "%s", refused)))
		return
	}
	u, err := p.Broker.Upstream(r.Context(), who, t.credential)
	if err == nil {
		err = p.check(r, who, u, &t)
	}
	if err != nil {
		p.Problem(w, r, err)
		return
	}
	p.metrics.open.Inc()
	defer p.metrics.open.Dec()
	p.forward(w, r, who, u, &t)
}

// deny puts a refusal into the audit trail and returns it. What is not a name is left out:
// people paste secrets into the wrong place.
func (p *Proxy) deny(ctx context.Context, who access.Caller, action, credential, division string, err *grantway.Error) error {
	event := grantway.Event{Action: action, Object: "credential/", Division: division, Detail: err.Message}
	if access.WrongName(credential) == "" {
		event.Object += credential
	}
	p.Audit.Denied(ctx, who, event)
	return err
}

// check refuses what the caller may not do with a credential that it may use.
func (p *Proxy) check(r *http.Request, who access.Caller, u *broker.Upstream, t *target) error {
	if r.Method == http.MethodTrace { // whoever answers it repeats the token
		return p.deny(r.Context(), who, "proxy.request", u.Name, u.Division, grantway.Errorf(grantway.MethodNotAllowed, "TRACE does not go through the proxy"))
	}
	if who.Uses == nil || t.allowed {
		return nil
	}
	path := t.path
	if path == "" {
		path = "/"
	}
	if err := who.CheckRequest(u.ID, r.Method, path); err != nil {
		refused, _ := errors.AsType[*grantway.Error](err)
		return p.deny(r.Context(), who, "proxy.request", u.Name, u.Division, refused)
	}
	for _, name := range overrides {
		if r.Header[name] != nil {
			return p.deny(r.Context(), who, "proxy.request", u.Name, u.Division,
				grantway.Errorf(grantway.Forbidden, "this client may use listed methods and paths only, and so not the header %s", name))
		}
	}
	return nil
}

// forward sends the request on and its answer back.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, who access.Caller, u *broker.Upstream, t *target) {
	began := time.Now()
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{}) // the server's is for requests that end soon
	resp, err := p.exchange(r, control, who, u, t)
	switch {
	case err != nil:
	case resp.StatusCode != http.StatusSwitchingProtocols:
		err = p.checkRedirect(r, who, u, t, resp)
	case !isWebSocket(r.Header) || !isWebSocket(resp.Header):
		resp.Body.Close()
		err = grantway.Errorf(grantway.UpstreamFailed, "the API switched to a protocol that was not asked for")
	default:
		p.metrics.answered(u.Name, resp.StatusCode, time.Since(began))
		p.tunnel(control, resp.Response)
		return
	}
	if err != nil {
		counted := &statusWriter{ResponseWriter: w}
		p.Problem(counted, r, err)
		p.metrics.answered(u.Name, counted.status, time.Since(began))
		return
	}
	defer resp.Body.Close()
	p.metrics.answered(u.Name, resp.StatusCode, time.Since(began))
	if err := p.reply(w, control, resp.Response); err != nil {
		p.Log.Info("an answer broke off", "credential", u.Name, "error", err)
		panic(http.ErrAbortHandler) // the caller must not take a part for the whole
	}
}

// statusWriter notes the status of a problem.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (p *Proxy) lane(id string) *lane {
	if l, ok := p.lanes.Load(id); ok {
		return l.(*lane)
	}
	l, _ := p.lanes.LoadOrStore(id, &lane{})
	return l.(*lane)
}

// answer is what the API answered, to a request to at: behind base, or where it redirected to.
type answer struct {
	*http.Response
	base, at *url.URL
}

// call is one request of a caller, on its way to the API.
type call struct {
	r       *http.Request         // as it came
	ours    bool                  // r is a connector's, not a caller's
	auth    *broker.Authorization // for the first try; nil is still to be got
	who     access.Caller
	u       *broker.Upstream
	lane    *lane
	payload *body // nil when there is none
}

// exchange gets the answer of the API. It follows redirects to other hosts that the connector allows,
// where the caller cannot go.
func (p *Proxy) exchange(r *http.Request, control *http.ResponseController, who access.Caller, u *broker.Upstream, t *target) (answer, error) {
	c := &call{r: r, ours: t.whole != nil, auth: t.auth, who: who, u: u, lane: p.lane(u.ID)}
	if err := c.lane.enter(r.Context(), u.Name, u.Limit); err != nil {
		return answer{}, err
	}
	ctx, span := p.Tracer.Start(r.Context(), "call API", trace.WithSpanKind(trace.SpanKindClient))
	defer span.End()
	if r.ContentLength != 0 && r.Body != http.NoBody {
		keep := keepBody
		if u.NeedsBody() {
			keep = keepSigned
		}
		c.payload = newBody(r, control, keep)
		control.EnableFullDuplex() // an answer may begin before the end of the request; HTTP/2 has it anyway
	}
	where := t.url
	for hop := 0; ; hop++ {
		a, err := p.ask(ctx, c, where)
		if err != nil {
			span.SetStatus(codes.Error, "no answer")
			return a, err
		}
		if span.IsRecording() {
			span.SetAttributes(attribute.String("credential", u.Name), attribute.String("http.request.method", r.Method),
				attribute.String("server.address", a.at.Host), attribute.Int("http.response.status_code", a.StatusCode))
		}
		next := c.elsewhere(a)
		if next == nil || hop == maxHops {
			return a, nil
		}
		a.Body.Close()
		where = func(*url.URL) *url.URL { return next }
	}
}

// authorize gets an authorization, each of which counts as one use of the credential.
func (c *call) authorize(ctx context.Context) (broker.Authorization, error) {
	if a := c.auth; a != nil {
		c.auth = nil
		return *a, nil
	}
	return c.u.Authorize(ctx, c.who)
}

// header is what goes to the API of the header of the request.
func (c *call) header() http.Header {
	if c.ours {
		return c.r.Header.Clone()
	}
	return outgoing(c.r.Header)
}

// elsewhere is where an answer redirects to, if that is on another host and may be followed with
// authorization, else nil. A caller with a list of paths gets no further than that.
func (c *call) elsewhere(a answer) *url.URL {
	switch a.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
			return nil
		}
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if c.payload != nil && !c.payload.whole() {
			return nil
		}
	default:
		return nil
	}
	at := a.Header["Location"]
	if len(at) != 1 || c.who.Uses != nil {
		return nil
	}
	next, err := a.at.Parse(at[0])
	if err != nil || next.User != nil || strings.EqualFold(next.Host, a.base.Host) || !c.u.Follows(a.at, next) {
		return nil
	}
	next.Fragment, next.RawFragment = "", ""
	return next
}

// ask sends a request to where its base URL makes it go. It does so twice when the first answer says
// that another try makes sense, and the body can be sent again: if not, that answer is the caller's.
func (p *Proxy) ask(ctx context.Context, c *call, where func(base *url.URL) *url.URL) (answer, error) {
	u, lane, payload := c.u, c.lane, c.payload
	var first answer
	for {
		auth, err := c.authorize(ctx)
		switch {
		case err != nil && first.Response != nil:
			return first, nil // it tells more
		case err != nil:
			return first, err
		}
		at := where(auth.Base)
		out := c.r.WithContext(ctx)
		out.URL, out.Host, out.RequestURI, out.Header = at, at.Host, "", c.header()
		out.Body, out.GetBody, out.TransferEncoding, out.Close = nil, nil, nil, false
		if u.ReadsAnswers() {
			out.Header["Accept-Encoding"] = []string{"identity"}
		}
		if payload != nil {
			again, ok := payload.again()
			if !ok {
				return first, nil
			}
			out.Body = again
			out.GetBody = func() (io.ReadCloser, error) { // for a connection that the API had closed
				if again, ok := payload.again(); ok {
					return again, nil
				}
				return nil, errLost
			}
		}
		err = auth.Apply(out)
		switch {
		case err != nil && first.Response != nil:
			return first, nil
		case err != nil && payload != nil && payload.failed() != nil:
			return first, endedEarly(payload.failed())
		case err != nil:
			return first, err
		}
		if c.ours {
			connector.Introduce(out)
		}
		if first.Response != nil {
			io.CopyN(io.Discard, first.Body, 4<<10) // lets the connection be used again
			first.Body.Close()
		}
		resp, err := p.sender(c, out).RoundTrip(out)
		if err != nil {
			return first, p.explain(c, at, err)
		}
		if http1 := resp.ProtoMajor == 1; http1 != lane.http1.Load() {
			lane.http1.Store(http1)
		}
		a := answer{resp, auth.Base, at}
		again := auth.Refused(ctx, resp, first.Response != nil)
		wait, paused := lane.pause(resp)
		if first.Response != nil {
			return a, nil
		}
		if paused && wait <= maxWait {
			again = lane.enter(ctx, u.Name, u.Limit) == nil
		}
		if !again {
			return a, nil
		}
		first = a
	}
}

// sender is who sends a request.
func (p *Proxy) sender(c *call, out *http.Request) http.RoundTripper {
	if cert := c.u.Certificate(); cert != nil {
		return p.certified.Transport(c.u.ID, cert)
	}
	if (out.URL.Scheme == "http" || c.lane.http1.Load()) && p.lines.takes(out) {
		return p.lines
	}
	return p.transport
}

// explain makes of a failure to get an answer what the caller may know.
func (p *Proxy) explain(c *call, at *url.URL, err error) error {
	if refused, ok := errors.AsType[*outbound.Refused](err); ok {
		return p.deny(c.r.Context(), c.who, "proxy.address", c.u.Name, c.u.Division,
			&grantway.Error{Code: grantway.Forbidden, Message: "the API is at an address that the hub must not call: " + refused.Reason, Err: err})
	}
	if c.r.Context().Err() != nil {
		return c.r.Context().Err()
	}
	if c.payload != nil && c.payload.failed() != nil {
		return endedEarly(c.payload.failed())
	}
	p.Log.Warn("no answer from an API", "credential", c.u.Name, "host", at.Host, "error", err)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return &grantway.Error{Code: grantway.UpstreamTimeout, Message: "the API at " + at.Host + " did not answer in time", Err: err}
	}
	return &grantway.Error{Code: grantway.UpstreamFailed, Message: "the API at " + at.Host + " did not answer; the hub's log says more", Err: err}
}

func endedEarly(err error) error {
	return &grantway.Error{Code: grantway.Malformed, Message: "the body of the request ended early", Err: err}
}

// checkRedirect brings a Location that is within the API to where callers find it, without what the
// connector added to the query, and refuses a redirect to anywhere else.
func (p *Proxy) checkRedirect(r *http.Request, who access.Caller, u *broker.Upstream, t *target, a answer) error {
	for _, name := range []string{"Location", "Content-Location"} {
		redirects := name == "Location" && a.StatusCode/100 == 3
		if at := a.Header[name]; len(at) == 1 {
			to, err := a.at.Parse(at[0])
			if err == nil {
				to.RawQuery = u.Undo(to.RawQuery)
				if path, ok := through(a.base, to, t.credential); ok && (!redirects || u.Follows(a.at, to)) {
					a.Header[name] = []string{path}
					continue
				}
			}
		}
		if redirects && a.Header[name] != nil {
			a.Body.Close()
			return p.deny(r.Context(), who, "proxy.redirect", u.Name, u.Division,
				grantway.Errorf(grantway.UpstreamFailed, "the API redirects to an address outside of its base URL, where the token must not go"))
		}
	}
	return nil
}

// reply sends the answer of the API on as it comes.
func (p *Proxy) reply(w http.ResponseWriter, control *http.ResponseController, resp *http.Response) error {
	h := w.Header()
	copyHeader(h, resp.Header, keepsResponse)
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // nobody guesses one
	}
	announced := make([]string, 0, len(resp.Trailer))
	for name := range resp.Trailer {
		if keepsResponse(name) {
			announced = append(announced, name)
		}
	}
	if len(announced) > 0 {
		slices.Sort(announced)
		h["Trailer"] = []string{strings.Join(announced, ", ")}
		h.Del("Content-Length") // or HTTP/1.1 has no place for them
	}
	w.WriteHeader(resp.StatusCode)

	flowing := resp.ContentLength < 0 || len(announced) > 0
	if flowing {
		if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/event-stream" {
			leave, ok := p.streams.enter(func() { resp.Body.Close() })
			if !ok {
				return errStopping
			}
			defer leave()
		}
		if err := control.Flush(); err != nil {
			return nil // the caller went away
		}
	}
	if err := p.copyBody(w, control, resp, flowing); err != nil {
		return err
	}
	for name, values := range resp.Trailer {
		switch {
		case !keepsResponse(name):
		case slices.Contains(announced, name):
			h[name] = values
		default:
			h[http.TrailerPrefix+name] = values
		}
	}
	return nil
}

var (
	errStopping = errors.New("the hub is stopping")
	errLost     = errors.New("the body was too long to be kept")
)

// copyBody copies the body of an answer, of which parts are sent at once when it is flowing.
// The error is the API's: a caller that goes away is none.
func (p *Proxy) copyBody(w http.ResponseWriter, control *http.ResponseController, resp *http.Response, flowing bool) error {
	pool := &p.small
	buf := pool.get()
	defer func() { pool.put(buf) }()
	long := flowing || resp.ContentLength > largeBuffer
	if long {
		defer control.SetWriteDeadline(time.Time{}) // the next request on this connection has none
	}
	for {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			if long {
				control.SetWriteDeadline(time.Now().Add(stall))
			}
			if _, err := w.Write((*buf)[:n]); err != nil {
				return nil
			}
			if flowing && control.Flush() != nil {
				return nil
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if n == len(*buf) && pool == &p.small {
			pool.put(buf)
			pool = &p.large
			buf = pool.get()
		}
	}
}
