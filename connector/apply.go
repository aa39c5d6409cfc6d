package connector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// maxContent is how much of a body is read when it is signed, or looked into.
const (
	maxContent = 10 << 20
	maxPeek    = 64 << 10
)

// peekPause is how long an answer is waited for to be looked into. It may be a stream.
const peekPause = 250 * time.Millisecond

// apply compiles how requests are authorized; kept are the variables that come with a token.
func (c *compiler) apply(kept []string) {
	a := c.Apply
	if a == nil {
		a = &Apply{}
	}
	out := &apply{hosts: a.Hosts, redirects: a.Redirects}
	if !slices.Contains([]string{"", "same_origin", "hosts", "none"}, a.Redirects) {
		c.problem("apply.redirects", "", "must be same_origin, hosts or none")
	}
	for i, host := range a.Hosts {
		if checkAuthority(strings.TrimPrefix(host, "*.")) != nil {
			c.problem(join("apply.hosts", strconv.Itoa(i)), "", "must be a host such as api.example.com, or *.example.com")
		}
	}
	out.base = c.url("apply.base_url", a.BaseURL)
	out.fixed = !slices.ContainsFunc(namesOf(out.base), func(name string) bool { return slices.Contains(kept, name) })
	c.with([]string{"request"}, func() {
		out.vars = c.computed("apply.vars", a.Vars)
		out.headers = c.headers("apply.headers", a.Headers, false)
		out.query = c.pairs("apply.query", a.Query, inText, false)
		out.cookies = c.pairs("apply.cookies", a.Cookies, inCookie, false)
		out.body = c.pairs("apply.body", a.Body, inText, false)
		out.basic = c.basic("apply.basic", a.Basic)
		out.sign = c.signing("apply.sign", a.Sign)
	})
	out.bearer = a.Headers == nil && a.Query == nil && a.Cookies == nil && a.Body == nil && a.Basic == nil && a.Sign == nil
	out.uses = requestUses(out.vars, out.headers, out.query, out.cookies, out.body)
	out.content = out.body != nil || out.sign != nil && out.sign.wsse == nil || slices.Contains(out.uses, "body") || slices.Contains(out.uses, "params")
	c.def.appliesSecrets = c.appliesSecrets(a)
	c.def.certificateInputs = c.certificateInputs()
	c.def.apply = out
}

// certificateInputs are the inputs without which there is no client certificate.
func (c *compiler) certificateInputs() []string {
	var keys []string
	for _, name := range namesOf(c.def.certificate) {
		if _, ok := c.def.Input(name); ok {
			keys = append(keys, name)
		}
	}
	return keys
}

// appliesSecrets looks for secret inputs in everything that apply uses.
func (c *compiler) appliesSecrets(a *Apply) bool {
	secret := c.secretNames()
	secret["token"] = false
	for _, s := range c.Signers {
		secret[s.Name] = true
	}
	found := c.def.certificate != nil && c.certificateInputs() == nil // one that all credentials have
	check := func(t *template) {
		for _, name := range namesOf(t) {
			first, _, _ := strings.Cut(name, ".")
			found = found || secret[first]
		}
	}
	parse := func(texts ...string) {
		for _, text := range texts {
			if t, err := parseTemplate(text); err == nil {
				check(t)
			}
		}
	}
	parse(a.BaseURL)
	for _, list := range []Pairs{a.Headers, a.Query, a.Cookies, a.Body, a.Vars} {
		for _, p := range list {
			parse(p.Value)
		}
	}
	if a.Basic != nil {
		parse(a.Basic.Username, a.Basic.Password)
	}
	return found || a.Sign != nil
}

func (c *compiler) detect() {
	if c.Detect == nil {
		c.def.detect = detect{statuses: []int{http.StatusUnauthorized}}
		return
	}
	c.def.detect = detect{c.Detect.Statuses, c.symptoms("detect.when", c.Detect.When)}
	if c.Detect.Statuses == nil && c.Detect.When == nil {
		c.def.detect.statuses = []int{http.StatusUnauthorized}
	}
}

type detect struct {
	statuses []int
	when     []symptom
}

// NeedsBody tells whether Apply reads the body of requests: the connector signs or changes it.
func (p *Plan) NeedsBody() bool { return p.def.apply.content }

// BaseURL is what the paths of the API are below, which may be known only with a token: absolute,
// without query and fragment, and without a slash at its end. It must not be changed. The error
// tells that there is none.
func (p *Plan) BaseURL(t *grant.Token) (*url.URL, error) {
	if p.base != nil {
		return p.base, nil
	}
	if p.def.apply.base == nil {
		return nil, requestError(errors.New("the connector has no base URL"))
	}
	s := p.scope().inner()
	p.know(s, t)
	text, err := p.def.apply.base.eval(s)
	if err != nil {
		return nil, requestError(fmt.Errorf("the base URL: %w", err))
	}
	u, err := parseBaseURL(text)
	if err != nil {
		return nil, requestError(fmt.Errorf("the base URL %w", err))
	}
	return u, nil
}

// Allows tells whether a request with a token may go to u: to the origin of base, or over https to one
// of the hosts that the definition names.
func (p *Plan) Allows(u, base *url.URL) bool {
	if base != nil && u.Scheme == base.Scheme && strings.EqualFold(u.Host, base.Host) {
		return true
	}
	if u.Scheme != "https" {
		return false
	}
	return slices.ContainsFunc(p.def.apply.hosts, func(host string) bool {
		if suffix, ok := strings.CutPrefix(host, "*"); ok {
			return strings.HasSuffix(strings.ToLower(u.Host), strings.ToLower(suffix))
		}
		return strings.EqualFold(u.Host, host)
	})
}

// FollowsRedirect tells whether a redirect from one URL to another may be followed.
func (p *Plan) FollowsRedirect(from, to *url.URL) bool {
	switch p.def.apply.redirects {
	case "none":
		return false
	case "hosts":
		return p.Allows(to, from)
	}
	return to.Scheme == from.Scheme && strings.EqualFold(to.Host, from.Host)
}

// Apply authorizes a request to the API as the definition says. It changes req and its
// header, so both must be the caller's own. t is nil for a definition without token. A
// connector that NeedsBody reads the body, at most 10 MiB of it, and sets GetBody.
func (p *Plan) Apply(req *http.Request, t *grant.Token) error {
	a := p.def.apply
	if a.bearer {
		if t == nil {
			return requestError(errors.New("there is no token"))
		}
		t.SetAuthHeader(req)
		return nil
	}
	var content []byte
	if a.content && req.Body != nil && req.Body != http.NoBody {
		var err error
		if content, err = readBody(req); err != nil {
			return requestError(err)
		}
	}
	s := p.scope().inner()
	p.know(s, t)
	if err := p.apply(req, content, s); err != nil {
		return requestError(err)
	}
	return nil
}

func readBody(req *http.Request) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(req.Body, maxContent+1))
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	if len(content) > maxContent {
		return nil, grantway.Errorf(grantway.TooLarge, "the body is larger than 10 MiB, and this connector signs or changes it")
	}
	setBody(req, content)
	return content, nil
}

func setBody(req *http.Request, content []byte) {
	req.Body = io.NopCloser(bytes.NewReader(content))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	req.ContentLength = int64(len(content))
}

// apply goes from what is signed to what signs it: fields of the body, the query, headers, the
// signature. The variable request is the request as far as it is made, so that a
// signature can stand after what it signs.
func (p *Plan) apply(req *http.Request, content []byte, s *scope) error {
	a := p.def.apply
	describe := func() {
		v := view{req.Method, req.URL, req.Host, req.Header, content}
		s.set("request", v.members(a.uses), false)
	}
	describe()
	s.compute(a.vars)
	for _, f := range a.body {
		v, there, err := f.json(s)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		if content, err = addField(req, content, f.name, v); err != nil {
			return err
		}
		describe()
	}
	base := p.Undo(req.URL.RawQuery) // nobody but the connector says these
	_, err := evalPairs(a.query, s, func(done []evaluated) {
		u := *req.URL
		u.RawQuery = strings.TrimPrefix(base+"&"+encodePairs(done), "&")
		req.URL = &u
		describe()
	})
	if err != nil {
		return err
	}
	_, err = evalPairs(a.headers, s, func(done []evaluated) {
		one := done[len(done)-1]
		if !slices.ContainsFunc(done[:len(done)-1], func(h evaluated) bool { return strings.EqualFold(h.name, one.name) }) {
			req.Header.Del(one.name)
		}
		req.Header.Add(one.name, one.value)
		describe()
	})
	if err != nil {
		return err
	}
	if a.basic != nil {
		text, err := a.basic.header(s)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", text)
	}
	cookies, err := evalPairs(a.cookies, s, nil)
	if err != nil {
		return err
	}
	if len(cookies) > 0 {
		text := joinCookies(cookies)
		if old := req.Header.Get("Cookie"); old != "" {
			text = old + "; " + text
		}
		req.Header.Set("Cookie", text)
	}
	if a.sign != nil {
		return a.sign.sign(req, content, s)
	}
	return nil
}

// leaveOut is a query or form without the parameters in list, of which the connector's own must be the
// only ones. The others stay as they are.
func leaveOut(query string, list ...string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(query, "&"), func(one string) bool {
		name, _, _ := strings.Cut(one, "=")
		plain, err := url.QueryUnescape(name)
		return err == nil && slices.Contains(list, plain)
	}), "&")
}

// Undo is a query without the parameters that Apply adds, for URLs in answers.
func (p *Plan) Undo(query string) string {
	if query == "" || len(p.def.apply.query) == 0 {
		return query
	}
	own := make([]string, len(p.def.apply.query))
	for i, one := range p.def.apply.query {
		own[i] = one.name
	}
	return leaveOut(query, own...)
}

// addField puts a field into a JSON object, in which dots of its name lead inside, or adds it
// to a form.
func addField(req *http.Request, content []byte, name string, value any) ([]byte, error) {
	media, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	switch {
	case strings.HasSuffix(media, "json"):
		var body any = map[string]any{}
		if len(bytes.TrimSpace(content)) > 0 {
			d := json.NewDecoder(bytes.NewReader(content))
			d.UseNumber()
			if d.Decode(&body) != nil {
				return nil, errors.New("the body is not JSON, and the connector adds a field to it")
			}
		}
		body, err := put(body, strings.Split(name, "."), value)
		if err != nil {
			return nil, fmt.Errorf("the connector cannot add %s to the body: %w", name, err)
		}
		if content, err = marshal(body); err != nil {
			return nil, err
		}
	case media == formType, media == "" && len(content) == 0 && (req.Method == http.MethodPost || req.Method == http.MethodPut):
		text, err := textOf(value)
		if err != nil {
			return nil, err
		}
		content = []byte(strings.TrimPrefix(leaveOut(string(content), name)+"&"+encodePairs([]evaluated{{name, text}}), "&"))
		req.Header.Set("Content-Type", formType)
	default:
		return nil, errors.New("the body is neither a form nor JSON, and the connector adds a field to it")
	}
	setBody(req, content)
	return content, nil
}

// put returns v with value at path: names of members, which are made where they are missing,
// and indexes of lists, of which the one after the last adds an item.
func put(v any, path []string, value any) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	var err error
	switch v := v.(type) {
	case nil:
		return put(map[string]any{}, path, value)
	case map[string]any:
		v[path[0]], err = put(v[path[0]], path[1:], value)
		return v, err
	case []any:
		i, wrong := strconv.Atoi(path[0])
		if wrong != nil || i < 0 || i > len(v) {
			return nil, fmt.Errorf("a list of %d has no %s", len(v), path[0])
		}
		if i == len(v) {
			v = append(v, nil)
		}
		v[i], err = put(v[i], path[1:], value)
		return v, err
	}
	return nil, fmt.Errorf("%s would be inside of a single value", path[0])
}

// ReadsAnswers tells whether Refused looks into bodies, so that it must be able to read them:
// they should not be compressed.
func (p *Plan) ReadsAnswers() bool {
	return slices.ContainsFunc(p.def.detect.when, func(m symptom) bool { return m.Path != "" })
}

// Refused tells whether an answer of the API says that the token is no longer good. It may
// look into the beginning of a body, and puts back what it read. A body that does not end soon
// is not waited for.
func (p *Plan) Refused(resp *http.Response) bool {
	d := &p.def.detect
	if slices.Contains(d.statuses, resp.StatusCode) {
		return true
	}
	if len(d.when) == 0 {
		return false
	}
	var body any
	if slices.ContainsFunc(d.when, func(m symptom) bool { return m.Path != "" && (m.Status == 0 || m.Status == resp.StatusCode) }) && resp.Body != nil {
		body = peek(resp)
	}
	s := p.scope()
	return slices.ContainsFunc(d.when, func(m symptom) bool { return m.holds(resp.StatusCode, resp.Header, body, s) })
}

// peek decodes the body of an answer that is small enough.
func peek(resp *http.Response) any {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.Header.Get("Content-Encoding") != "" || media != "" && !strings.HasSuffix(media, "json") && !strings.HasSuffix(media, "xml") && media != "text/html" && media != "text/plain" {
		return nil // and do not wait for what may be a stream
	}
	start, whole := begin(resp)
	if !whole {
		return nil
	}
	body, err := decodeBody(resp.Header, start, "")
	if err != nil {
		return string(start)
	}
	return body
}

// begin reads the body of an answer until it ends, gets long or pauses, and puts back what it read.
// whole tells whether that is all of it.
func begin(resp *http.Response) (start []byte, whole bool) {
	if resp.ContentLength > maxPeek {
		return nil, false
	}
	body := resp.Body
	pieces := make(chan piece, 1)
	read := func() {
		data := make([]byte, 4<<10)
		n, err := body.Read(data)
		pieces <- piece{data[:n], err}
	}
	back := func(rest ...io.Reader) {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(append([]io.Reader{bytes.NewReader(start)}, rest...)...), body}
	}
	pause := time.NewTimer(peekPause)
	defer pause.Stop()
	for {
		go read()
		select {
		case p := <-pieces:
			start = append(start, p.data...)
			switch {
			case p.err == io.EOF:
				back()
				return start, true
			case p.err != nil:
				back(&late{piece: piece{err: p.err}})
				return nil, false
			case len(start) >= maxPeek:
				back(body)
				return nil, false
			}
		case <-pause.C:
			back(&late{pieces: pieces}, body)
			return nil, false
		}
	}
}

// piece is the outcome of one Read.
type piece struct {
	data []byte
	err  error
}

// late reads the one piece that is, or comes, from somebody else's Read.
type late struct {
	pieces chan piece // nil when it is there
	piece
}

// Read implements io.Reader.
func (l *late) Read(p []byte) (int, error) {
	if l.pieces != nil {
		l.piece, l.pieces = <-l.pieces, nil
	}
	n := copy(p, l.data)
	if l.data = l.data[n:]; n > 0 || len(p) == 0 {
		return n, nil
	}
	if l.err == nil {
		return 0, io.EOF // the next reader goes on
	}
	return 0, l.err
}

// Verify tells what is wrong with the answer to the request "verify", "" if nothing is.
func (p *Plan) Verify(a *grant.Answer) error {
	e := p.def.verify
	r := read(a, "")
	if e == nil || e.accepts(a.Status) && !(p.def.errors != nil && p.refuses(r, p.scope())) {
		return nil
	}
	return p.refusal(r, p.scope())
}

// HasVerify tells whether there is a harmless request, for Request with the name "verify".
func (d *Definition) HasVerify() bool { return d.verify != nil }
