package grant

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Grant types with a name of their own. A Request may use any other single-step one.
const (
	ClientCredentials = "client_credentials"                          // RFC 6749 section 4.4
	JWTBearer         = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523 section 2.1
)

const (
	// DefaultLifetime is the lifetime of a token whose reply does not tell one.
	DefaultLifetime = 5 * time.Minute

	// MaxLifetime is the longest lifetime a Token gets, whatever the server says.
	MaxLifetime = 30 * 24 * time.Hour
)

// Request says where and how to ask for a token. It holds no state, so one Request can be
// used again and again, and concurrently, as long as nobody changes it. It prints and
// marshals as its grant type and host, never with its values.
//
// Only TokenURL is always required, and ClientID by all methods of client authentication
// but None and AssertionFile.
type Request struct {
	// TokenURL is the token endpoint: https, no fragment, an existing query is kept
	// (RFC 6749 section 3.2). See CheckTokenURL.
	TokenURL string

	// AllowPlainHTTP permits a TokenURL that is plain http, to a loopback address. To any
	// other address plain http is never permitted.
	AllowPlainHTTP bool

	// GrantType is the grant_type parameter; ClientCredentials when empty.
	GrantType string

	// ClientID is the client identifier, sent exactly as it is.
	ClientID string

	// Auth is how the client authenticates; nil means None.
	Auth Authenticator

	// Certificate is the client certificate of the TLS connection (RFC 8705), beside any
	// Auth. nil means none.
	Certificate *tls.Certificate

	// SendClientID sends client_id in the body with Basic too, for servers that want it
	// there. All other methods send it anyway.
	SendClientID bool

	// Scope is the scope to ask for, space-delimited; runs of spaces are collapsed, and
	// the parameter is left out when nothing is left. See NormalizeScope.
	Scope string

	// Audience and Resource are sent as audience and resource parameters, once for each
	// value. A Resource is an absolute URI without fragment (RFC 8707 section 2).
	Audience, Resource []string

	// Assertion is what the assertion parameter is filled from at every attempt (RFC 7521
	// section 4.1); nil leaves the parameter out. It needs a GrantType such as JWTBearer.
	Assertion AssertionSource

	// DPoP is the key the token is to be bound to (RFC 9449); nil asks for a bearer token.
	// A token that comes back unbound is discarded.
	DPoP *DPoPKey

	// Form, Query and Header are extra parameters of the body, the URL and the header. They
	// cannot replace what the other fields set, and secrets cannot go into the Query
	// (RFC 6749 section 2.3.1). Except for audience and resource a name has one value.
	Form, Query url.Values
	Header      http.Header

	// TokenKey names the member of the reply that holds the token: a name, or a path of
	// names with dots between. Empty means access_token. With another name the reply is not
	// one of RFC 6749, and token_type is optional.
	TokenKey string

	// TokenTypeOptional takes a reply without token_type as one with Bearer, for servers
	// that leave it out although RFC 6749 section 5.1 requires it.
	TokenTypeOptional bool

	// DefaultLifetime is the lifetime of a token when neither the reply nor, in case it is a
	// JWT, the token itself says. 0 means the constant DefaultLifetime, five minutes;
	// over MaxLifetime means MaxLifetime.
	DefaultLifetime time.Duration
}

// Check says what is wrong with r before anything is sent, or nil. Key and assertion
// files are not read. A failure is an *Error of StagePrepare.
func (r *Request) Check() error {
	if err := r.check(); err != nil {
		return &Error{Stage: StagePrepare, Class: Permanent, Message: err.Error(), Err: err}
	}
	return nil
}

func (r *Request) check() error {
	u, err := r.endpoint(r.TokenURL)
	switch {
	case err != nil:
		return fmt.Errorf("token URL: %w", err)
	case r.DefaultLifetime < 0:
		return errors.New("default lifetime must not be negative")
	case r.Assertion != nil && r.grantType() == ClientCredentials:
		return errors.New("an assertion needs a grant type that takes one")
	case r.Assertion == nil && r.GrantType == JWTBearer && !r.Form.Has("assertion"):
		return errors.New("grant type jwt-bearer needs an assertion")
	}
	if _, err := ParseScope(r.Scope); err != nil {
		return err
	}
	for _, s := range r.Resource {
		if err := CheckResource(s); err != nil {
			return fmt.Errorf("resource %w", err)
		}
	}
	if err := r.auth().check(r); err != nil {
		return fmt.Errorf("%s: %w", r.auth().Method(), err)
	}
	if err := r.checkParams(u); err != nil {
		return err
	}
	return r.checkHeader()
}

// endpoint parses a URL that r is to be sent to.
func (r *Request) endpoint(raw string) (*url.URL, error) {
	u, err := parseEndpoint(raw)
	if err == nil && u.Scheme == "http" && !r.AllowPlainHTTP {
		return nil, errors.New("must be https; plain http to a loopback address has to be allowed")
	}
	return u, err
}

// checkParams sees to it that no parameter is sent twice (RFC 6749 section 3.2), none that
// is secret in the URL, and none of a second method of authentication (section 2.3).
func (r *Request) checkParams(u *url.URL) error {
	sent := map[string]bool{"grant_type": true}
	sent["scope"] = strings.TrimSpace(r.Scope) != ""
	sent["audience"] = len(r.Audience) > 0
	sent["resource"] = len(r.Resource) > 0
	sent["assertion"] = r.Assertion != nil
	_, basic := r.auth().(Basic)
	sent["client_id"] = r.ClientID != "" && (!basic || r.SendClientID)
	for name, values := range r.Form {
		switch {
		case sent[name], len(values) > 1 && name != "audience" && name != "resource":
			return fmt.Errorf("parameter %q is given more than once (RFC 6749 section 3.2)", name)
		case slices.Contains(authParams, name) && !r.unauthenticated():
			return fmt.Errorf("parameter %q is a second way of authentication (RFC 6749 section 2.3)", name)
		}
		sent[name] = true
	}
	for _, query := range []url.Values{u.Query(), r.Query} {
		for name, values := range query {
			switch {
			case sent[name], len(values) > 1:
				return fmt.Errorf("query parameter %q is given more than once (RFC 6749 section 3.2)", name)
			case slices.Contains(secretParams, name):
				return fmt.Errorf("parameter %q must not go into the URL (RFC 6749 section 2.3.1)", name)
			}
			sent[name] = true
		}
	}
	return nil
}

var (
	// authParams are the parameters that authenticate a client.
	authParams = []string{"client_secret", "client_assertion", "client_assertion_type"}

	// ownHeaders are the headers that a Request's Header must leave alone.
	ownHeaders = []string{"Accept-Encoding", "Connection", "Content-Length", "Content-Type", "Dpop", "Host", "Transfer-Encoding"}
)

func (r *Request) checkHeader() error {
	for name, values := range r.Header {
		switch key := http.CanonicalHeaderKey(name); {
		case name == "" || strings.ContainsFunc(name, notToken):
			return errors.New("a header has a malformed name")
		case key == "Content-Type" && len(values) == 1 && strings.EqualFold(values[0], formType):
			// Says what is sent anyway.
		case slices.Contains(ownHeaders, key):
			return fmt.Errorf("header %s cannot be set", key)
		case key == "Authorization" && !r.unauthenticated():
			return errors.New("header Authorization is a second way of authentication (RFC 6749 section 2.3)")
		}
		for _, value := range values {
			if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
				return fmt.Errorf("header %s has a control character in its value", name)
			}
		}
	}
	return nil
}

// notToken tells whether c cannot stand in a header's name (RFC 9110 section 5.6.2).
func notToken(c rune) bool {
	return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
}

func (r *Request) auth() Authenticator {
	if r.Auth == nil {
		return None{}
	}
	return r.Auth
}

// unauthenticated tells whether r's own fields leave authentication to the extra parameters.
func (r *Request) unauthenticated() bool {
	_, none := r.auth().(None)
	return none
}

func (r *Request) grantType() string {
	if r.GrantType == "" {
		return ClientCredentials
	}
	return r.GrantType
}

// Build makes the HTTP request of one attempt exactly as Client sends it: with fresh
// assertions and a fresh DPoP proof. It holds secrets and is good for one try.
// A failure is an *Error of StagePrepare.
func (r *Request) Build(ctx context.Context) (*http.Request, error) {
	a, err := r.build(ctx, "")
	if err != nil {
		return nil, err
	}
	return a.req, nil
}

const (
	formType  = "application/x-www-form-urlencoded"
	userAgent = "grantway"
)

// build makes the attempt; its error is an *Error.
func (r *Request) build(ctx context.Context, nonce string) (*attempt, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	form := make(url.Values)
	form.Set("grant_type", r.grantType())
	if scope, _ := NormalizeScope(r.Scope); scope != "" {
		form.Set("scope", scope)
	}
	if len(r.Audience) > 0 {
		form["audience"] = r.Audience
	}
	if len(r.Resource) > 0 {
		form["resource"] = r.Resource
	}
	var secrets []string
	if r.Assertion != nil {
		assertion, err := r.Assertion.Assertion(ctx)
		if err != nil {
			return nil, prepareError("assertion", err)
		}
		form.Set("assertion", string(assertion))
		secrets = append(secrets, string(assertion))
	}
	a, err := r.message(ctx, r.TokenURL, form, r.Form, secrets)
	if err != nil || r.DPoP == nil {
		return a, err
	}
	p, err := r.DPoP.Proof(a.req.Method, r.TokenURL, nonce, "")
	if err != nil {
		return nil, prepareError("request", err)
	}
	a.req.Header.Set("DPoP", p)
	return a, nil
}

// message makes an authenticated POST of form and extra to endpoint.
func (r *Request) message(ctx context.Context, endpoint string, form, extra url.Values, secrets []string) (*attempt, error) {
	m := &proof{clientID: r.ClientID, tokenURL: r.TokenURL, form: form, header: make(http.Header), secrets: secrets}
	if err := r.auth().authenticate(ctx, m); err != nil {
		return nil, prepareError(r.auth().Method(), err)
	}
	if r.SendClientID && r.ClientID != "" {
		form.Set("client_id", r.ClientID)
	}
	for name, values := range extra {
		form[name] = values
		m.secrets = append(m.secrets, values...)
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, prepareError("request", errors.New("malformed URL")) // the cause quotes it
	}
	if len(r.Query) > 0 {
		req.URL.RawQuery = strings.TrimPrefix(req.URL.RawQuery+"&"+r.Query.Encode(), "&")
	}
	for _, values := range req.URL.Query() {
		m.secrets = append(m.secrets, values...)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	for name, values := range r.Header {
		req.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		m.secrets = append(m.secrets, values...)
	}
	for name, values := range m.header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", formType)
	public := strings.Join(append([]string{r.ClientID, r.Scope, req.URL.Host + req.URL.Path}, append(r.Audience, r.Resource...)...), " ")
	return &attempt{req: req, cert: r.Certificate, hide: newRedactor(m.secrets, public)}, nil
}

// attempt is one request on its way out. A retry is a new attempt.
type attempt struct {
	req  *http.Request
	cert *tls.Certificate
	hide *redactor
}

func prepareError(what string, err error) *Error {
	e := &Error{Stage: StagePrepare, Class: Permanent, Message: what + ": " + err.Error(), Err: err}
	if _, ok := errors.AsType[*fileError](err); ok {
		e.Class = Temporary // whoever writes the file may do so at any moment
	}
	return e
}

// String says what r asks for and where, without any of its values.
func (r Request) String() string {
	host := "?"
	if u, err := url.Parse(r.TokenURL); err == nil {
		host = u.Host
	}
	return r.grantType() + " at " + host
}

// Format implements fmt.Formatter: every verb prints String.
func (r Request) Format(f fmt.State, _ rune) { io.WriteString(f, r.String()) }

// MarshalText implements encoding.TextMarshaler, and so covers JSON and slog.
func (r Request) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
