// Package api is the REST door of a hub: JSON under /v1, errors as problem details (RFC
// 9457), and an OpenAPI 3.1 description that is made from the same table as the routes.
package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	pathlib "path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/catalog"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
)

// maxBody bounds request bodies.
const maxBody = 1 << 20

// API serves the routes of table. Its fields are set once, before Handler is called.
type API struct {
	Broker     *broker.Broker
	Issuer     *issuer.Issuer
	Audit      *access.Log
	Divisions  *access.Divisions
	People     *access.People
	Secrets    *secret.Stores
	Connectors *catalog.Connectors
	Store      *store.Store
	Rotate     func(ctx context.Context, who access.Caller) (resealed int, err error) // gives the hub a new data key
	Metrics    http.Handler
	Endpoint   func(w http.ResponseWriter, r *http.Request, who access.Caller, credential, endpoint string, inputs map[string]string) error // proxy.Proxy.ServeEndpoint
	Version    string
	URL        func() string // how clients reach the hub
	Started    time.Time
	Log        *slog.Logger
}

// route is one operation.
type route struct {
	method, path string
	name         string // operationId
	summary      string
	tag          string
	in           any    // zero value of the body; nil without body
	optional     bool   // the body may be left out
	query        string // names of query parameters
	header       string // names of header parameters
	status       int    // of success
	out          any    // zero value of the answer; nil is no content
	open         bool   // needs no caller
	handle       handler
}

// handler serves one request. It returns the value to send as JSON (bytes are sent as
// they are, nil is no content), or an error for Problem. Headers it sets on w are kept.
type handler func(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error)

// Handler returns the handler of all routes.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, rt := range a.routes() {
		mux.Handle(rt.method+" "+rt.path, a.serve(rt))
		methods[rt.path] = append(methods[rt.path], rt.method)
	}
	for path, allowed := range methods {
		if methods[pathlib.Dir(path)+"/{name}"] != nil && !strings.HasSuffix(path, "}") {
			continue // other methods belong to the object with that name
		}
		if slices.Contains(allowed, http.MethodGet) {
			allowed = append(allowed, http.MethodHead)
		}
		slices.Sort(allowed)
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			a.Problem(w, r, grantway.Errorf(grantway.MethodNotAllowed, "%s is not possible here; use %s", r.Method, strings.Join(allowed, ", ")))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.Problem(w, r, grantway.Errorf(grantway.NotFound, "there is nothing at this path; the API is described at /docs"))
	})
	return mux
}

func (a *API) serve(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Cache-Control"], h["Pragma"], h["X-Content-Type-Options"] = noStore, noCache, noSniff
		var who access.Caller
		if !rt.open {
			var err error
			if who, err = a.Issuer.Authenticate(r); err != nil {
				a.Problem(w, r, err)
				return
			}
		}
		if err := checkURL(r.URL); err != nil {
			a.Problem(w, r, err)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		out, err := rt.handle(w, r, who)
		if err != nil {
			a.Problem(w, r, err)
			return
		}
		if out == (handled{}) {
			return
		}
		if out == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		text, ok := out.([]byte)
		if !ok {
			if text, err = json.Marshal(out); err != nil {
				a.Problem(w, r, fmt.Errorf("encode answer: %w", err))
				return
			}
		}
		if h.Get("Content-Type") == "" {
			h["Content-Type"] = jsonType
		}
		h["Content-Length"] = []string{strconv.Itoa(len(text))}
		w.WriteHeader(rt.status)
		w.Write(text)
	})
}

// Header values that are the same for every answer, made once.
var (
	noStore  = []string{"no-store"}
	noCache  = []string{"no-cache"} // for HTTP/1.0 (RFC 6749 section 5.1)
	noSniff  = []string{"nosniff"}
	jsonType = []string{"application/json"}
)

// statuses is the one table from codes to HTTP.
var statuses = map[grantway.Code]int{
	grantway.Malformed:          http.StatusBadRequest,
	grantway.Unauthenticated:    http.StatusUnauthorized,
	grantway.Forbidden:          http.StatusForbidden,
	grantway.NotFound:           http.StatusNotFound,
	grantway.MethodNotAllowed:   http.StatusMethodNotAllowed,
	grantway.Conflict:           http.StatusConflict,
	grantway.PreconditionFailed: http.StatusPreconditionFailed,
	grantway.TooLarge:           http.StatusRequestEntityTooLarge,
	grantway.UnsupportedMedia:   http.StatusUnsupportedMediaType,
	grantway.Invalid:            http.StatusUnprocessableEntity,
	grantway.RateLimited:        http.StatusTooManyRequests,
	grantway.Internal:           http.StatusInternalServerError,
	grantway.TokenRefused:       http.StatusBadGateway,
	grantway.UpstreamFailed:     http.StatusBadGateway,
	grantway.UpstreamTimeout:    http.StatusGatewayTimeout,
	grantway.Unavailable:        http.StatusServiceUnavailable,
}

// Problem writes err as problem details (RFC 9457), for other doors too. What is not a *grantway.Error is our
// own fault, or that of a database that is away: it is logged in full and not shown.
func (a *API) Problem(w http.ResponseWriter, r *http.Request, err error) {
	var e *grantway.Error
	if !errors.As(err, &e) {
		if r.Context().Err() != nil {
			return // the caller has gone away
		}
		a.Log.Error("internal error", "method", r.Method, "path", r.URL.Path, "error", err)
		e = grantway.Errorf(grantway.Internal, "internal error; the hub's log says more")
		if store.Away(err) {
			e = grantway.Errorf(grantway.Unavailable, "the database does not answer; tokens in memory are still served")
		}
	}
	status := cmp.Or(statuses[e.Code], http.StatusInternalServerError)
	p := grantway.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Message, Code: e.Code, Errors: e.Fields, RetryAt: e.RetryAt.UTC().Truncate(time.Second)}
	h := w.Header()
	if !e.RetryAt.IsZero() {
		seconds := int64(time.Until(e.RetryAt)/time.Second) + 1
		h.Set("Retry-After", strconv.FormatInt(max(seconds, 1), 10))
	} else {
		p.RetryAt = time.Time{}
	}
	if challenge := issuer.Challenge(err); challenge != "" {
		h.Set("WWW-Authenticate", challenge)
	}
	if nonce := issuer.Nonce(err); nonce != "" {
		h.Set("DPoP-Nonce", nonce)
	}
	h.Set("Content-Type", "application/problem+json")
	h["Cache-Control"], h["Pragma"] = noStore, noCache
	h["X-Content-Type-Options"] = noSniff
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(p)
}

// checkURL refuses what is not text, which no database would store or look for: bytes
// that are not UTF-8, and NUL.
func checkURL(u *url.URL) error {
	if !isText(u.Path) {
		return grantway.Errorf(grantway.NotFound, "there is nothing at this path")
	}
	if u.RawQuery == "" {
		return nil
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return grantway.Errorf(grantway.Malformed, "the query of the URL is not well-formed")
	}
	for _, values := range query {
		if !isText(strings.Join(values, "")) {
			return grantway.Errorf(grantway.Malformed, "the query of the URL is not UTF-8 text")
		}
	}
	return nil
}

func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// wrong is the error of one wrong field.
func wrong(pointer, format string, args ...any) error {
	return &grantway.Error{Code: grantway.Invalid, Message: "a field is wrong", Fields: []grantway.Field{{Pointer: pointer, Detail: fmt.Sprintf(format, args...)}}}
}

// decode reads a JSON body strictly into v: one value, known fields only. An empty body
// leaves v as it is when optional.
func decode(r *http.Request, v any, optional bool) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if optional && len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	return decodeJSON(body, v)
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" && kind != "application/merge-patch+json" {
		return nil, grantway.Errorf(grantway.UnsupportedMedia, "the body must be JSON, with Content-Type: application/json")
	}
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, grantway.Errorf(grantway.TooLarge, "the body is larger than 1 MiB")
	}
	if err != nil {
		return nil, &grantway.Error{Code: grantway.Malformed, Message: "the body ended early", Err: err}
	}
	return body, nil
}

func decodeJSON(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return grantway.Errorf(grantway.Malformed, "the body is empty; it must be a JSON object")
	}
	if !utf8.Valid(body) {
		return grantway.Errorf(grantway.Malformed, "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			return grantway.Errorf(grantway.Malformed, "the body holds more than one JSON value")
		}
		return nil
	}
	var known *grantway.Error
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &kind):
		var names []string
		if kind.Field != "" {
			names = strings.Split(kind.Field, ".")
		}
		got, _, _ := strings.Cut(kind.Value, " ") // a number is followed by its digits
		return wrong(grantway.Pointer(names...), "must be %s, not %s", describeType(kind.Type.Kind()), got)
	case errors.As(err, &syntax): // its text repeats one character of the body at most
		return grantway.Errorf(grantway.Malformed, "the body is not JSON: %v", syntax)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return grantway.Errorf(grantway.Malformed, "the body is not JSON: it ends too early")
	}
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if name, err := strconv.Unquote(quoted); err == nil {
			return wrong(grantway.Pointer(name), "is not a known field")
		}
	}
	// What is left are the errors of time.Time, which repeat the value.
	return grantway.Errorf(grantway.Malformed, "a time in the body is not one such as 2027-01-31T12:00:00Z")
}

func describeType(kind reflect.Kind) string {
	switch kind {
	case reflect.String:
		return "a string"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Slice:
		return "a list"
	}
	return "a whole number"
}

// limitOf reads the query parameter limit: 100 when absent, at most 1,000.
func limitOf(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return 100, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1000 {
		return 0, wrong("/limit", "must be a whole number from 1 to 1000")
	}
	return n, nil
}

func etag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

// ifMatch returns the version that If-Match names, 0 when any will do.
func ifMatch(r *http.Request) (int64, error) {
	text := strings.TrimSpace(r.Header.Get("If-Match"))
	if text == "" || text == "*" {
		return 0, nil
	}
	quoted := strings.TrimPrefix(text, "W/") // a proxy that compresses puts it there
	version, err := strconv.ParseInt(strings.Trim(quoted, `"`), 10, 64)
	if err != nil || version <= 0 || quoted != etag(version) {
		return 0, grantway.Errorf(grantway.PreconditionFailed, "If-Match is not an ETag that this hub made")
	}
	return version, nil
}

// notModified says whether If-None-Match names the version, by weak comparison (RFC 9110 section 13.1.2).
func notModified(r *http.Request, version int64) bool {
	for tag := range strings.SplitSeq(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag(version) {
			return true
		}
	}
	return false
}
