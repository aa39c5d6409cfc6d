// Package console is the door for people: pages rendered on the server, for everything that
// the hub keeps.
//
// A page is one template in page/ and one struct here that fills it. A handler returns an
// answer or an error, and one adapter (see serve) signs people in, renders to a buffer, and
// writes. Pages work without JavaScript: forms post, answers redirect. With it, htmx swaps
// parts of a page, and own/console.js adds niceties; neither can do what a form cannot.
//
// The console calls the nouns as the person who is signed in, so what a person may do is
// decided where it is for everybody else.
package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/catalog"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
)

// maxBody bounds request bodies.
const maxBody = 1 << 20

// Options are what a Console works with. All are required.
type Options struct {
	Broker     *broker.Broker
	Issuer     *issuer.Issuer
	People     *access.People
	Audit      *access.Log
	Divisions  *access.Divisions
	Secrets    *secret.Stores
	Connectors *catalog.Connectors
	Store      *store.Store
	Sealer     *seal.Sealer

	Settings []Setting                                                 // what the process runs with
	URL      func() string                                             // how people reach the hub
	Origin   func(r *http.Request) (from netip.Addr, secure bool)      // where a request comes from, and whether over TLS
	Rotate   func(ctx context.Context, who access.Caller) (int, error) // gives the hub a new data key

	Version string
	Started time.Time
	Log     *slog.Logger
}

// Setting is one thing the process runs with, as people may see it.
type Setting struct {
	Name, Value string
	Help        string
}

// Console serves the pages.
type Console struct {
	Options
	assets   *assets
	pages    map[string]*template.Template
	snippets []snippet
	mux      *http.ServeMux
	routes   []route
}

// New returns a Console. Without built assets it works, and says in the log and on every
// page what is missing.
func New(o Options) (*Console, error) { return newConsole(o, embedded) }

func newConsole(o Options, load func() (*assets, error)) (*Console, error) {
	c := &Console{Options: o}
	var err error
	if c.assets, err = load(); err != nil {
		return nil, fmt.Errorf("console assets: %w", err)
	}
	if c.assets.missing {
		o.Log.Warn("the console was built without its style sheets and scripts: run `make assets`, and build again")
	}
	if c.pages, err = c.parse(); err != nil {
		return nil, fmt.Errorf("console pages: %w", err)
	}
	if c.snippets, err = loadSnippets(); err != nil {
		return nil, err
	}
	c.routes = c.table()
	c.mux = http.NewServeMux()
	for _, rt := range c.routes {
		c.mux.Handle(rt.method+" "+rt.path, c.serve(rt))
	}
	c.mux.Handle("GET /static/", c.assets)
	return c, nil
}

// Handler serves the pages. What is none of them goes to other if the caller does not want
// a page either.
func (c *Console) Handler(other http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", c.guarded())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := c.mux.Handler(r); pattern == "" && !strings.Contains(r.Header.Get("Accept"), "text/html") {
			other.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// guarded puts what holds for every request around the pages: headers, and that no other
// site makes people post (forms of other sites are refused by Sec-Fetch-Site and Origin).
func (c *Console) guarded() http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.fail(w, c.request(r), grantway.Errorf(grantway.Forbidden, "this form was sent by another web site, so nothing was done; open the console itself and try there"))
	}))
	return crossOrigin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		_, pattern := c.mux.Handler(r)
		switch {
		case !utf8.ValidString(r.URL.Path) || strings.ContainsRune(r.URL.Path, 0):
			c.fail(w, c.request(r), grantway.Errorf(grantway.NotFound, "there is nothing at this address"))
		case pattern != "":
			c.mux.ServeHTTP(w, r)
		default:
			c.fail(w, c.request(r), grantway.Errorf(grantway.NotFound, "there is nothing at this address"))
		}
	}))
}

// headers are set on every answer. style-src and script-src know no 'unsafe-inline'; the
// style sheet of Tabler draws its check marks with data: images.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
	"X-Frame-Options":              "DENY",
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "same-origin",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
	"Cache-Control":                "no-store",
}

// request is a request and who makes it.
type request struct {
	*http.Request
	who      access.Caller
	session  grantway.Session
	signedIn bool
	token    string // of the session
	htmx     bool   // wants a part of a page
	restored bool   // a form that comes back after its session had ended: show it, do nothing
}

func (c *Console) request(r *http.Request) *request {
	q := &request{Request: r, htmx: r.Header.Get("HX-Request") == "true"}
	if cookie, err := r.Cookie(c.cookieName(r, sessionCookie)); err == nil {
		q.token = cookie.Value
	}
	_, q.restored = r.Context().Value(restoring{}).(bool)
	return q
}

// restoring marks the context of a form that comes back; see restore.
type restoring struct{}

// form is the text of a form field without spaces around it.
func (q *request) form(name string) string { return strings.TrimSpace(q.PostFormValue(name)) }

// answer is what a handler wants to be sent: exactly one of page, redirect, file and again.
type answer struct {
	page     framed // rendered with the template of its name
	part     string // only this template of the page; "" is all
	status   int    // 0 is 200
	redirect string // path to go to
	flash    string // said on the page that is shown next
	file     *file
	cookies  []*http.Cookie
	again    *http.Request // answer this one instead
}

// file is a download.
type file struct {
	name, kind string
	write      func(w http.ResponseWriter) error
}

// handler serves one route.
type handler func(r *request) (answer, error)

// serve adapts the handler of a route to HTTP.
func (c *Console) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := c.request(r)
		if r.Method == http.MethodPost {
			if err := parse(r); err != nil {
				c.fail(w, q, err)
				return
			}
		}
		if q.token != "" {
			who, session, err := c.People.Session(r.Context(), q.token)
			var e *grantway.Error
			switch {
			case err == nil:
				q.who, q.session, q.signedIn = who, session, true
			case errors.As(err, &e) && e.Code == grantway.Unauthenticated:
			default:
				c.fail(w, q, err)
				return
			}
		}
		if rt.need != open && !q.signedIn {
			c.signInFirst(w, q, rt)
			return
		}
		if err := c.allowed(q, rt); err != nil {
			c.fail(w, q, err)
			return
		}
		a, err := rt.handle(q)
		if err != nil {
			c.fail(w, q, err)
			return
		}
		c.write(w, q, a)
	})
}

func parse(r *http.Request) error {
	err := r.ParseForm()
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return grantway.Errorf(grantway.TooLarge, "the form is larger than 1 MiB; shorten what you entered")
	case err != nil:
		return grantway.Errorf(grantway.Malformed, "the form did not arrive whole; send it again")
	}
	for name, values := range r.PostForm {
		if text := strings.Join(values, ""); !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return grantway.Errorf(grantway.Malformed, "the field %s is not text", name)
		}
	}
	return nil
}

// allowed checks what the table of routes says a person needs. The nouns check again, in
// the division of what is touched.
func (c *Console) allowed(q *request, rt route) error {
	p, ok := rt.need.permission()
	if !ok {
		return nil
	}
	return c.Audit.RequireSomewhere(q.Context(), q.who, p, grantway.Event{Action: p.String()})
}

func (c *Console) write(w http.ResponseWriter, q *request, a answer) {
	for _, cookie := range a.cookies {
		http.SetCookie(w, cookie)
	}
	switch {
	case a.again != nil:
		c.mux.ServeHTTP(w, a.again)
	case a.redirect != "":
		if a.flash != "" {
			http.SetCookie(w, c.cookie(q.Request, flashCookie, url.QueryEscape(a.flash), 60))
		}
		if q.htmx {
			w.Header().Set("HX-Redirect", a.redirect)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Location", a.redirect)
		w.WriteHeader(http.StatusSeeOther)
	case a.file != nil:
		w.Header().Set("Content-Type", a.file.kind)
		w.Header().Set("Content-Disposition", `attachment; filename="`+a.file.name+`"`)
		if err := a.file.write(w); err != nil { // the header is out, all that is left is to break off
			c.Log.Error("a download broke off", "path", q.URL.Path, "error", err)
			panic(http.ErrAbortHandler)
		}
	default:
		c.render(w, q, a)
	}
}

// render fills a page, to a buffer first so that an error does not end in half a page.
func (c *Console) render(w http.ResponseWriter, q *request, a answer) {
	f := a.page.frame()
	c.fill(f, q)
	if cookie, err := q.Cookie(c.cookieName(q.Request, flashCookie)); err == nil && a.part == "" {
		f.Flash, _ = url.QueryUnescape(cookie.Value)
		http.SetCookie(w, c.cookie(q.Request, flashCookie, "", -1))
	}
	t, name := c.pages[f.name], "layout"
	if a.part != "" {
		name = a.part
	}
	var b bytes.Buffer
	if t == nil {
		c.Log.Error("there is no page of that name", "page", f.name)
		http.Error(w, "internal error; the hub's log says more", http.StatusInternalServerError)
		return
	}
	if err := t.ExecuteTemplate(&b, name, a.page); err != nil {
		c.Log.Error("a page could not be rendered", "page", f.name, "error", err)
		http.Error(w, "internal error; the hub's log says more", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Vary", "HX-Request, Cookie")
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	w.Write(b.Bytes())
}

// errorPage says what went wrong and what to do.
type errorPage struct {
	Frame
	Status  int
	Heading string
	Message string
	Fields  []grantway.Field
	SignIn  bool // offer to sign in, in another tab
}

// statuses is the table from codes to HTTP and to headings.
var statuses = map[grantway.Code]struct {
	status  int
	heading string
}{
	grantway.Malformed:          {http.StatusBadRequest, "That did not arrive as it should"},
	grantway.Unauthenticated:    {http.StatusUnauthorized, "Sign in first"},
	grantway.Forbidden:          {http.StatusForbidden, "You may not do this"},
	grantway.NotFound:           {http.StatusNotFound, "Not found"},
	grantway.MethodNotAllowed:   {http.StatusMethodNotAllowed, "Not possible here"},
	grantway.Conflict:           {http.StatusConflict, "This is not possible right now"},
	grantway.PreconditionFailed: {http.StatusPreconditionFailed, "Somebody else changed this meanwhile"},
	grantway.TooLarge:           {http.StatusRequestEntityTooLarge, "Too much at once"},
	grantway.Invalid:            {http.StatusUnprocessableEntity, "Something is not right yet"},
	grantway.RateLimited:        {http.StatusTooManyRequests, "Too often"},
	grantway.TokenRefused:       {http.StatusBadGateway, "The provider refused"},
	grantway.Unavailable:        {http.StatusServiceUnavailable, "Not available right now"},
}

// fail writes an error. What is not a *grantway.Error is our fault: it is logged in full
// and shown as such.
func (c *Console) fail(w http.ResponseWriter, q *request, err error) {
	var e *grantway.Error
	if !errors.As(err, &e) {
		if q.Context().Err() != nil {
			return // nobody waits for it any more
		}
		c.Log.Error("internal error", "method", q.Method, "path", q.URL.Path, "error", err)
		e = grantway.Errorf(grantway.Internal, "internal error")
	}
	p := &errorPage{Frame: frame("error", "Error"), Status: http.StatusInternalServerError, Heading: "Something went wrong here",
		Message: "The fault is the hub's, not yours. Its log says more. Try again; if it goes on, tell whoever runs the hub."}
	if s, ok := statuses[e.Code]; ok {
		p.Status, p.Heading, p.Message, p.Fields = s.status, s.heading, sentence(e.Message), e.Fields
	}
	p.Title = p.Heading
	a := answer{page: p, status: p.Status}
	if q.htmx {
		a.part, a.status = "message", 0 // htmx swaps no answer that is an error
	}
	c.render(w, q, a)
}

// sentence makes an error message one.
func sentence(s string) string {
	if s == "" {
		return s
	}
	if word, _, _ := strings.Cut(s, " "); !strings.Contains(word, "_") { // the name of an input stays as it is
		first, size := utf8.DecodeRuneInString(s)
		s = strings.ToUpper(string(first)) + s[size:]
	}
	if !strings.ContainsAny(s[len(s)-1:], ".!?") {
		s += "."
	}
	return s
}
