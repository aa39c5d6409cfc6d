package connector

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// Plan is a definition with the values of one credential: everything that is needed to get
// its tokens and to authorize its requests. It holds secrets. It is immutable, and safe for
// concurrent use.
type Plan struct {
	def         *Definition
	source      *Definition // what Compile was called on
	values      map[string]any
	secret      map[string]bool
	parameters  map[string][]grantway.Param
	certificate *tls.Certificate
	clock       *clock
	static      *grant.Request // the token request, if it is one of RFC 6749 that never changes
	base        *url.URL       // of the API, if it is the same with every token
}

// Sender sends the requests of a Plan. A *grant.Client is one; recorded cases have another.
type Sender interface {
	Ask(context.Context, *grant.Request) (*grant.Answer, error)
	Exchange(context.Context, *grant.Exchange) (*grant.Answer, error)
}

// wallClock is the clock of real requests.
func wallClock() *clock {
	return &clock{now: time.Now, random: func() (b [16]byte) { rand.Read(b[:]); return b }}
}

// Compile puts values into the definition. Errors are *grantway.Error with the fields that
// are wrong: of the secrets, which Check could not see, among others.
func (d *Definition) Compile(v Values) (*Plan, error) { return d.compile(v, wallClock()) }

// CompileApply is Compile for who has the token already: the plan authorizes requests and
// cannot ask for tokens. It needs no secrets, unless the definition AppliesSecrets of such values.
func (d *Definition) CompileApply(v Values) (*Plan, error) {
	only := *d
	only.steps = nil
	p, err := only.compile(v, wallClock())
	if err != nil {
		return nil, err
	}
	p.source = d
	return p, nil
}

// Made tells whether p was made of d, and not of another definition or another version of it.
func (p *Plan) Made(d *Definition) bool { return p.source == d }

// AppliesSecrets tells whether secret inputs are sent with, or sign, requests to the API, or are
// the key of a client certificate. given tells whether an input has a value.
func (d *Definition) AppliesSecrets(given func(key string) bool) bool {
	return d.appliesSecrets || slices.ContainsFunc(d.certificateInputs, given)
}

func (d *Definition) compile(v Values, c *clock) (*Plan, error) {
	if v.Zone != nil {
		c = &clock{c.now, c.random, v.Zone}
	}
	p := &Plan{def: d, source: d, values: make(map[string]any, len(d.Inputs)), secret: map[string]bool{}, clock: c}
	for _, in := range d.Inputs {
		switch value := v.Plain[in.Key]; in.Type {
		case SecretText:
			p.values[in.Key], p.secret[in.Key] = string(v.Secrets[in.Key]), true
		case Parameters:
			if p.parameters == nil {
				p.parameters = map[string][]grantway.Param{}
			}
			p.values[in.Key], p.parameters[in.Key] = "", value.Params
		default:
			text := value.Text
			if text == "" || in.Locked {
				text = in.Default
			}
			p.values[in.Key] = text
		}
	}
	s := p.scope()
	for _, in := range d.Inputs {
		t := d.defaults[in.Key]
		if t == nil || v.Plain[in.Key].Text != "" {
			continue
		}
		text, err := t.eval(s)
		if err != nil {
			return nil, fieldError(in.Key, fmt.Errorf("its default: %w", err))
		}
		p.values[in.Key] = text
	}
	if d.apply != nil && d.apply.fixed {
		p.base, _ = p.BaseURL(nil) // whoever needs it gets the error
	}
	var err error
	if p.certificate, err = p.clientCertificate(s); err != nil {
		return nil, err
	}
	if len(d.steps) > 0 && d.steps[0].oauth2 != nil {
		r, err := p.grantRequest(d.steps[0].oauth2, s)
		if err != nil {
			return nil, err
		}
		if len(d.vars) == 0 && len(d.signers) == 0 {
			p.static = r
		}
	}
	return p, nil
}

func (p *Plan) params(key string) []grantway.Param { return p.parameters[key] }

// OAuth2 is the token request, if it is a single one of RFC 6749 that is always the same; nil otherwise.
func (p *Plan) OAuth2() *grant.Request {
	if len(p.def.steps) != 1 {
		return nil
	}
	return p.static
}

// Certificate is the client certificate for connections to the API; nil when there is none.
func (p *Plan) Certificate() *tls.Certificate { return p.certificate }

// scope has the inputs, vars and signers.
func (p *Plan) scope() *scope {
	root := &scope{values: p.values, secret: p.secret, clock: p.clock}
	s := root.inner()
	s.compute(p.def.vars)
	for i := range p.def.signers {
		g := &p.def.signers[i]
		s.later(g.name, true, func() (string, error) { return g.sign(s) })
	}
	return s
}

// message is a request before it is one of net/http.
type message struct {
	method, url string
	header      http.Header
	body        []byte
}

// message evaluates r. What it returns as URL may be a path below the base URL. The variable
// request is the message as far as it is made: URL, query, body, headers.
func (r *request) message(s *scope) (*message, *scope, error) {
	s = s.inner()
	m := &message{method: r.method, header: http.Header{}}
	describe := func() {
		u, err := url.Parse(m.url)
		if r.uses == nil || err != nil { // an error is reported when the request is built
			return
		}
		s.set("request", view{m.method, u, "", m.header, m.body}.members(r.uses), false)
	}
	s.compute(r.vars)
	base, err := r.url.eval(s)
	if err != nil {
		return nil, nil, fmt.Errorf("the URL: %w", err)
	}
	m.url = base
	describe()
	_, err = evalPairs(r.query, s, func(done []evaluated) {
		m.url = addQuery(base, done)
		describe()
	})
	if err != nil {
		return nil, nil, fmt.Errorf("the query: %w", err)
	}
	isType := func(h pair) bool { return strings.EqualFold(h.name, "Content-Type") }
	for _, isFirst := range []bool{true, false} { // the body needs its content type
		for _, h := range r.headers {
			if isType(h) != isFirst {
				continue
			}
			text, err := h.value.eval(s)
			if err != nil {
				return nil, nil, fmt.Errorf("the header %s: %w", h.name, err)
			}
			if text != "" || h.keep {
				m.header.Add(h.name, text)
				describe()
			}
		}
		if !isFirst || r.body == nil {
			continue
		}
		form := func(text string) {
			m.body = []byte(text)
			if m.header.Get("Content-Type") == "" {
				m.header.Set("Content-Type", formType)
			}
			describe()
		}
		var contentType string
		if m.body, contentType, err = r.body.encode(s, m.header.Get("Content-Type"), form); err != nil {
			return nil, nil, fmt.Errorf("the body: %w", err)
		}
		if contentType != "" {
			m.header.Set("Content-Type", contentType)
		}
		describe()
	}
	if r.basic != nil {
		text, err := r.basic.header(s)
		if err != nil {
			return nil, nil, err
		}
		m.header.Add("Authorization", text)
	}
	cookies, err := evalPairs(r.cookies, s, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("the cookie %w", err)
	}
	if len(cookies) > 0 {
		m.header.Add("Cookie", joinCookies(cookies))
	}
	return m, s, nil
}

func addQuery(raw string, query []evaluated) string {
	if len(query) == 0 {
		return raw
	}
	sep := "?"
	if strings.Contains(raw, "?") {
		sep = "&"
		if strings.HasSuffix(raw, "?") || strings.HasSuffix(raw, "&") {
			sep = ""
		}
	}
	return raw + sep + encodePairs(query)
}

func joinCookies(list []evaluated) string {
	var parts []string
	for _, c := range list {
		parts = append(parts, c.name+"="+c.value)
	}
	return strings.Join(parts, "; ")
}

func (b *basic) header(s *scope) (string, error) {
	username, err := b.username.eval(s)
	if err != nil {
		return "", fmt.Errorf("the user name: %w", err)
	}
	password, err := b.password.eval(s)
	if err != nil {
		return "", fmt.Errorf("the password: %w", err)
	}
	if b.encode {
		username, password = url.QueryEscape(username), url.QueryEscape(password)
	}
	if s.mask {
		return "Basic " + masked, nil
	}
	if strings.Contains(username, ":") {
		return "", errors.New("a user name with a colon cannot be sent (RFC 7617 section 2)")
	}
	encoded, _ := functions["base64"](username + ":" + password)
	return "Basic " + encoded.(string), nil
}

// build makes the HTTP request, below base if its URL is a path.
func (r *request) build(ctx context.Context, s *scope, base *url.URL) (*http.Request, error) {
	m, s, err := r.message(s)
	if err != nil {
		return nil, err
	}
	var u *url.URL
	if strings.HasPrefix(m.url, "/") {
		if base == nil {
			return nil, errors.New("the URL: there is no base URL")
		}
		u, err = Join(base, m.url)
	} else {
		u, err = parseURL(m.url)
	}
	if err != nil {
		return nil, fmt.Errorf("the URL %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, m.method, u.String(), bytes.NewReader(m.body))
	if err != nil {
		return nil, errors.New("the URL is malformed")
	}
	req.URL = u
	if r.body == nil {
		req.Body, req.GetBody, req.ContentLength = http.NoBody, func() (io.ReadCloser, error) { return http.NoBody, nil }, 0
	}
	req.Header = m.header
	if r.sign != nil {
		if err := r.sign.sign(req, m.body, s); err != nil {
			return nil, err
		}
	}
	return req, nil
}

// introduce says who asks and what for, where req does not say so itself.
func (r *request) introduce(req *http.Request) {
	introduce(req, map[Format]string{"": "application/json", JSONFormat: "application/json", XMLFormat: "application/xml, text/xml", FormFormat: formType, TextFormat: "text/plain"}[r.response])
}

func introduce(req *http.Request, accept string) {
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", accept)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "grantway")
	}
}

// accepts tells whether an answer has one of the statuses that are good.
func accepts(accept []int, status int) bool {
	if len(accept) == 0 {
		return status >= 200 && status < 300
	}
	return slices.Contains(accept, status)
}

// request makes a request to the API, below the base URL if it begins with a slash, still without authorization.
func (p *Plan) request(ctx context.Context, r *request, s *scope, t *grant.Token) (*http.Request, error) {
	base, err := p.BaseURL(t)
	if err != nil && strings.HasPrefix(first(r.url), "/") {
		return nil, err
	}
	req, err := r.build(ctx, s, base)
	if err != nil {
		return nil, requestError(err)
	}
	if !p.Allows(req.URL, base) {
		return nil, requestError(fmt.Errorf("the host %s is none that the connector allows", req.URL.Host))
	}
	return req, nil
}

func first(t *template) string {
	if t == nil || len(t.parts) == 0 {
		return ""
	}
	return t.parts[0].literal
}

func requestError(err error) error {
	var e *grantway.Error
	if errors.As(err, &e) {
		return err
	}
	return &grantway.Error{Code: grantway.Invalid, Message: "the request cannot be made: " + err.Error(), Err: err}
}
