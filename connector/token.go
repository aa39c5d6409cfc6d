package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway/grant"
)

func (c *compiler) token() {
	d := c.def
	if c.Token == nil {
		d.token = &tokenRule{plain: true}
		return
	}
	rule := *c.Token // may be the parent's
	t := &rule
	out := &tokenRule{lifetime: t.Lifetime.Duration(), standard: t.Default.Duration(), renewBefore: t.RenewBefore.Duration(), expires: t.Expires}
	set := 0
	for _, text := range []string{t.Path, t.Header, t.Cookie, t.Value} {
		if text != "" {
			set++
		}
	}
	switch {
	case set > 1:
		c.problem("token", "", "must have only one of path, header, cookie and value")
	case len(d.steps) == 0 && t.Value == "":
		c.problem("token", "give it a value, or add a request", "there is no request whose answer could have it")
	}
	out.plain = set == 0 && t.Match == "" && t.Type == "" && t.Expires == nil && t.Lifetime == nil
	if t.Path == "" && set == 0 {
		t.Path = "access_token"
	}
	out.locator = locator{path: c.text("token.path", t.Path), header: t.Header, cookie: t.Cookie, match: c.regexp("token.match", t.Match)}
	out.value = c.text("token.value", t.Value)
	out.typ = c.positioned("token.type", t.Type, inHeader)
	if e := t.Expires; e != nil {
		out.expiresAt = c.locator("token.expires", Locator{Path: e.Path, Header: e.Header, Value: e.Value, Match: e.Match})
		out.expiresAt.optional = true
		c.expiry(e, out)
	}
	before := maps.Clone(c.names)
	out.keep = c.extract("token.keep", t.Keep)
	if t.Refresh != nil {
		c.with([]string{"token", "token_type"}, func() { out.refresh = c.request("token.refresh", t.Refresh, false) })
	}
	c.names = before
	d.token = out
}

func (c *compiler) expiry(e *Expiry, out *tokenRule) {
	if !slices.Contains([]string{"", "in", "at", "duration"}, e.As) {
		c.problem("token.expires.as", "", "must be in, at or duration")
	}
	if _, ok := units[e.Unit]; !ok {
		c.problem("token.expires.unit", "", "must be ms, s, min, h or d")
	}
	out.zone = time.UTC
	if e.Zone != "" {
		zone, err := time.LoadLocation(e.Zone)
		if err != nil {
			c.problem("token.expires.zone", "such as Europe/Paris", "there is no time zone %s", e.Zone)
		} else {
			out.zone = zone
		}
	}
}

func (c *compiler) errors() {
	e := c.Errors
	if e == nil {
		return
	}
	c.def.errors = &errorRule{when: c.symptoms("errors.when", e.When), code: c.text("errors.code", e.Code), message: c.text("errors.message", e.Message),
		invalidClient: e.InvalidClient, temporary: e.Temporary}
}

type errorRule struct {
	when                     []symptom
	code, message            *template
	invalidClient, temporary []string
}

// discover returns the names of everything that is kept with a token.
func (c *compiler) discover(inputs []string) []string {
	var kept []string
	for _, one := range c.def.token.keep {
		kept = append(kept, one.name)
	}
	if c.Discover == nil {
		return kept
	}
	c.with(append(kept, "token", "token_type"), func() {
		c.def.discover = c.request("discover.request", &c.Discover.Request, true)
		c.def.discover.extract = append(c.def.discover.extract, c.extract("discover.extract", c.Discover.Extract)...)
	})
	for _, one := range c.def.discover.extract {
		kept = append(kept, one.name)
	}
	return kept
}

// ErrNoToken is the error of Token for a definition that has none: its requests are
// authorized by Apply alone.
var ErrNoToken = errors.New("this connector has no token: requests are authorized with its inputs")

// Token gets a token. With before, the last token, a definition that knows how refreshes
// that one, and starts anew when it cannot. The error of a request is a *grant.Error.
func (p *Plan) Token(ctx context.Context, send Sender, before *grant.Token) (*grant.Token, error) {
	if !p.def.HasToken() {
		return nil, &grant.Error{Stage: grant.StagePrepare, Class: grant.Permanent, Message: ErrNoToken.Error(), Err: ErrNoToken}
	}
	if before != nil && p.def.token.refresh != nil {
		if t, err := p.refresh(ctx, send, before); err == nil {
			return t, nil
		}
	}
	seen := []string{}
	s := p.scope()
	s.seen = &seen
	s = s.inner()
	var last *reply
	var request *grant.Request
	for i := range p.def.steps {
		st := &p.def.steps[i]
		var err error
		last, request, err = p.step(ctx, send, st, s)
		if err != nil {
			return nil, p.during(st, err)
		}
		for _, one := range st.extract {
			text, err := one.from.get(last, s)
			if err != nil {
				return nil, p.during(st, err)
			}
			s.set(one.name, text, true)
			seen = append(seen, text)
		}
	}
	t, err := p.tokenOf(last, request, s)
	if err != nil {
		return nil, prepared(err)
	}
	return t, p.look(ctx, send, t, s)
}

// Refreshes tells whether Token makes use of the token before.
func (d *Definition) Refreshes() bool { return d.token != nil && d.token.refresh != nil }

// during says in which of several steps err was.
func (p *Plan) during(st *step, err error) error {
	var e *grant.Error
	if !errors.As(err, &e) {
		return prepared(err)
	}
	if len(p.def.steps) > 1 {
		c := *e
		if c.Code == "" {
			c.Message = "step " + st.name + ": " + c.Message
		} else {
			c.Description = strings.TrimSuffix("step "+st.name+": "+c.Description, ": ")
		}
		return &c
	}
	return e
}

// prepared makes an *grant.Error of an error that came before a request.
func prepared(err error) error {
	var e *grant.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &grant.Error{Stage: grant.StagePrepare, Class: grant.Permanent, Message: err.Error(), Err: err}
}

// step sends one request. request is what was asked, when it was one of RFC 6749.
func (p *Plan) step(ctx context.Context, send Sender, st *step, s *scope) (*reply, *grant.Request, error) {
	if st.oauth2 == nil {
		r, err := p.exchange(ctx, send, st.request, s)
		return r, nil, err
	}
	request := p.static
	if request == nil || st != &p.def.steps[0] {
		var err error
		if request, err = p.grantRequest(st.oauth2, s); err != nil {
			return nil, nil, err
		}
	}
	a, err := send.Ask(ctx, request)
	if err != nil {
		return nil, nil, err
	}
	r := read(a, "")
	if a.Status < 200 || a.Status > 299 || p.refuses(r, s) {
		return nil, nil, p.refusal(r, s)
	}
	return r, request, nil
}

// exchange sends a request that is not one of RFC 6749.
func (p *Plan) exchange(ctx context.Context, send Sender, r *request, s *scope) (*reply, error) {
	req, err := r.build(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	r.introduce(req)
	return p.sent(ctx, send, r, req, s)
}

func (p *Plan) sent(ctx context.Context, send Sender, r *request, req *http.Request, s *scope) (*reply, error) {
	x := &grant.Exchange{Request: req, Certificate: p.certificate, Public: p.public()}
	if s.seen != nil {
		x.Secrets = slices.Clone(*s.seen)
	}
	for _, name := range []string{"Authorization", "Cookie", "X-Wsse"} {
		if v := req.Header.Get(name); v != "" {
			_, value, _ := strings.Cut(v, " ")
			x.Secrets = append(x.Secrets, v, value)
		}
	}
	a, err := send.Exchange(ctx, x)
	if err != nil {
		return nil, err
	}
	answer := read(a, r.response)
	if !accepts(r.accept, a.Status) || p.refuses(answer, s) {
		return nil, p.refusal(answer, s)
	}
	return answer, nil
}

// public are the inputs that are no secret, so that errors may repeat them.
func (p *Plan) public() string {
	var b strings.Builder
	for _, in := range p.def.Inputs {
		if text, ok := p.values[in.Key].(string); ok && in.Type != SecretText {
			b.WriteString(text + " ")
		}
	}
	return b.String()
}

// refuses tells whether an answer with a good status is an error.
func (p *Plan) refuses(r *reply, s *scope) bool {
	if p.def.errors == nil || p.def.errors.when == nil {
		m, ok := r.body.(map[string]any)
		if !ok {
			return false
		}
		e := symptom{Symptom: Symptom{Path: "error"}, path: &template{parts: []part{{literal: "error"}}}}
		return e.holds(r.Status, r.Header, m, s)
	}
	return slices.ContainsFunc(p.def.errors.when, func(m symptom) bool { return m.holds(r.Status, r.Header, r.body, s) })
}

// refusal makes an error of an answer, with code and text from where the vendor puts them.
func (p *Plan) refusal(r *reply, s *scope) error {
	e := p.def.errors
	if e == nil {
		return r.Refusal("", "")
	}
	text := func(t *template) string {
		path, err := t.eval(s)
		if err != nil || path == "" {
			return ""
		}
		v, _, _ := find(r.body, path)
		out, _ := scalar(v)
		return out
	}
	code, message := text(e.code), text(e.message)
	refused := r.Refusal(code, message)
	if slices.Contains(e.invalidClient, code) {
		refused.Code, refused.Class = "invalid_client", grant.Permanent
	}
	if slices.Contains(e.temporary, code) {
		refused.Class = grant.Temporary
	}
	return refused
}

// tokenOf makes the token of the last answer.
func (p *Plan) tokenOf(r *reply, request *grant.Request, s *scope) (*grant.Token, error) {
	rule := p.def.token
	var t *grant.Token
	var err error
	switch {
	case r == nil:
		t, err = p.made(s)
	case rule.plain && request != nil:
		ask := *request
		if rule.standard > 0 {
			ask.DefaultLifetime = rule.standard
		}
		t, err = r.Token(&ask)
	default:
		t, err = p.extracted(r, request, s)
	}
	if err != nil {
		return nil, err
	}
	for _, one := range rule.keep {
		text, err := one.from.get(r, s)
		if err != nil {
			return nil, err
		}
		keep(t, one.name, text)
	}
	if rule.renewBefore > 0 {
		t.ExpiresAt = t.ExpiresAt.Add(-min(rule.renewBefore, t.Lifetime()/2))
	}
	return t, nil
}

func keep(t *grant.Token, name, text string) {
	if t.Kept == nil {
		t.Kept = map[string]grant.Secret{}
	}
	t.Kept[name] = grant.Secret(text)
}

// made is a token that nobody was asked for.
func (p *Plan) made(s *scope) (*grant.Token, error) {
	rule := p.def.token
	now := p.clock.now()
	r := &reply{Answer: &grant.Answer{Sent: now, Received: now}}
	text, err := rule.value.eval(s)
	if err != nil {
		return nil, err
	}
	t := &grant.Token{AccessToken: grant.Secret(text), IssuedAt: now.Round(0)}
	if t.Type, err = rule.typ.eval(s); err != nil {
		return nil, err
	}
	t.Type = grant.TokenType(t.Type)
	if rule.lifetime > 0 {
		return t, r.ExpireIn(t, rule.lifetime.Seconds(), "the connector", "connector")
	}
	return t, r.Expire(t, func(string) string { return "" }, rule.standard)
}

// extracted is a token that stands where the definition says.
func (p *Plan) extracted(r *reply, request *grant.Request, s *scope) (*grant.Token, error) {
	rule := p.def.token
	var text string
	var err error
	from := rule.locator
	if rule.plain {
		from = locator{path: &template{parts: []part{{literal: "access_token"}}}}
	}
	if text, err = from.get(r, s); err != nil {
		return nil, err
	}
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
		return nil, r.Fail("what stands where the token should be is not a token: it must be a text of printable ASCII characters")
	}
	t := &grant.Token{AccessToken: grant.Secret(text), IssuedAt: r.Sent}
	beside := r.body
	if path, err := from.path.eval(s); err == nil && rule.value == nil {
		if i := strings.LastIndexByte(path, '.'); i > 0 {
			if v, _, ok := find(r.body, path[:i]); ok {
				beside = v
			}
		}
	}
	member := func(name string) string {
		for _, v := range []any{beside, r.body} {
			if m, ok := v.(map[string]any); ok {
				if text, ok := scalar(m[name]); ok {
					return text
				}
			}
		}
		return ""
	}
	typ, err := rule.typ.eval(s)
	if err != nil {
		return nil, err
	}
	if typ == "" {
		typ = member("token_type")
	}
	if t.Type = grant.TokenType(typ); strings.ContainsFunc(t.Type, notTokenType) {
		t.Type = "Bearer"
	}
	t.Scope = member("scope")
	if request != nil {
		t.DPoP = request.DPoP
		if t.Scope == "" {
			t.Scope, _ = grant.NormalizeScope(request.Scope)
		}
	}
	return t, p.expire(t, r, member, s)
}

func notTokenType(c rune) bool { return c <= ' ' || c > '~' || c == ',' || c == ';' || c == '"' }

// expire fills in when t expires.
func (p *Plan) expire(t *grant.Token, r *reply, member func(string) string, s *scope) error {
	rule := p.def.token
	if rule.lifetime > 0 {
		return r.ExpireIn(t, rule.lifetime.Seconds(), "the connector", "connector")
	}
	standard := rule.standard
	if rule.expires == nil {
		return r.Expire(t, member, standard)
	}
	text, err := rule.expiresAt.get(r, s)
	if err != nil {
		return err
	}
	if text == "" {
		return r.Expire(t, func(string) string { return "" }, standard)
	}
	seconds, err := rule.seconds(text, r.Sent)
	if err != nil {
		return r.Fail("the lifetime in the answer %v", err)
	}
	name := rule.expires.Path
	if name == "" {
		name = cmp.Or(rule.expires.Header, "the token")
	}
	return r.ExpireIn(t, seconds, name, "response")
}

// units are those of lifetimes, in seconds.
var units = map[string]float64{"": 1, "s": 1, "ms": 0.001, "min": 60, "h": 3600, "d": 86400}

// seconds is how long the token lives by what the answer says.
func (t *tokenRule) seconds(text string, sent time.Time) (float64, error) {
	e := t.expires
	as := e.As
	if as == "" {
		switch {
		case slices.Contains([]string{"unix", "unix_ms", "rfc3339", "http", "dotnet"}, e.Format), strings.Contains(e.Format, "YY"):
			as = "at"
		case e.Format != "":
			as = "duration"
		default:
			as = "in"
		}
	}
	switch as {
	case "in":
		n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || math.IsNaN(n) {
			return 0, errors.New("is not a number")
		}
		return n * units[e.Unit], nil
	case "duration":
		return parseLifetime(text, e.Format)
	}
	at, err := parseMoment(text, e.Format, t.zone)
	return at.Sub(sent).Seconds(), err
}

var dotnetDate = regexp.MustCompile(`^/?Date\((-?\d+)([+-]\d{4})?\)/?$`)

// parseMoment reads a time. Without format it takes RFC 3339, Unix time in seconds or
// milliseconds, or that of HTTP.
func parseMoment(text, format string, zone *time.Location) (time.Time, error) {
	wrong := fmt.Errorf("is not a time of format %s", format)
	number, numberErr := strconv.ParseFloat(strings.TrimSpace(text), 64)
	switch format {
	case "unix", "unix_ms":
		if numberErr != nil {
			return time.Time{}, wrong
		}
		if format == "unix" {
			number *= 1000
		}
		return time.UnixMilli(int64(number)), nil
	case "rfc3339":
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return at, wrong
		}
		return at, nil
	case "http":
		at, err := http.ParseTime(text)
		if err != nil {
			return at, wrong
		}
		return at, nil
	case "dotnet":
		m := dotnetDate.FindStringSubmatch(strings.Trim(text, `\`))
		if m == nil {
			return time.Time{}, wrong
		}
		ms, err := strconv.ParseInt(m[1], 10, 64)
		return time.UnixMilli(ms), err
	case "":
		if numberErr == nil && number > 1e11 {
			return time.UnixMilli(int64(number)), nil
		} else if numberErr == nil {
			return time.Unix(int64(number), 0), nil
		}
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05", http.TimeFormat} {
			if at, err := time.ParseInLocation(layout, text, zone); err == nil {
				return at, nil
			}
		}
		return time.Time{}, errors.New("is not a time")
	}
	at, err := time.ParseInLocation(layout(format), text, zone)
	if err != nil {
		return at, wrong
	}
	return at, nil
}

var iso8601 = regexp.MustCompile(`^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// parseLifetime reads a duration: ISO 8601, that of Go, or numbers in the order of the
// letters D, H, M and S of the format.
func parseLifetime(text, format string) (float64, error) {
	wrong := fmt.Errorf("is not a duration of format %s", format)
	if format == "" || format == "iso8601" {
		if m := iso8601.FindStringSubmatch(text); m != nil && text != "P" {
			total := 0.0
			for i, unit := range []float64{86400, 3600, 60, 1} {
				n, _ := strconv.ParseFloat(m[i+1], 64)
				total += n * unit
			}
			return total, nil
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, wrong
		}
		return d.Seconds(), nil
	}
	of := map[byte]float64{'D': 86400, 'H': 3600, 'M': 60, 'S': 1}
	separator := func(c rune) bool { return !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') }
	numbers, letters := strings.FieldsFunc(text, separator), strings.FieldsFunc(strings.ToUpper(format), separator)
	if len(numbers) != len(letters) {
		return 0, wrong
	}
	total := 0.0
	for i, n := range numbers {
		v, err := strconv.ParseFloat(n, 64)
		if err != nil || of[letters[i][0]] == 0 {
			return 0, wrong
		}
		total += v * of[letters[i][0]]
	}
	return total, nil
}

// refresh gets the next token from the one before.
func (p *Plan) refresh(ctx context.Context, send Sender, before *grant.Token) (*grant.Token, error) {
	seen := []string{}
	s := p.scope()
	s.seen = &seen
	s = s.inner()
	p.know(s, before)
	r, err := p.exchange(ctx, send, p.def.token.refresh, s)
	if err != nil {
		return nil, err
	}
	t, err := p.tokenOf(r, nil, s)
	if err != nil {
		return nil, err
	}
	for name, value := range before.Kept { // what the new answer does not repeat
		if t.Kept[name] == "" {
			keep(t, name, string(value))
		}
	}
	return t, nil
}

// know sets the variables that come with a token.
func (p *Plan) know(s *scope, t *grant.Token) {
	if t == nil {
		return
	}
	s.set("token", string(t.AccessToken), true)
	s.set("token_type", t.Type, false)
	for name, value := range t.Kept {
		s.set(name, string(value), true)
	}
}

// look makes the request that goes with every new token.
func (p *Plan) look(ctx context.Context, send Sender, t *grant.Token, s *scope) error {
	d := p.def.discover
	if d == nil {
		return nil
	}
	s = s.inner()
	p.know(s, t)
	req, err := p.request(ctx, d, s, t)
	if err == nil {
		err = p.Apply(req, t)
	}
	if err != nil {
		return prepared(err)
	}
	d.introduce(req)
	r, err := p.sent(ctx, send, d, req, s)
	if err != nil {
		return prepared(err)
	}
	for _, one := range d.extract {
		text, err := one.from.get(r, s)
		if err != nil {
			return err
		}
		keep(t, one.name, text)
	}
	return nil
}
