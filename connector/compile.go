package connector

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Parse reads and compiles a definition. find returns the definitions that it may extend; nil
// means there are none. The error is Problems, everything that is wrong with it at once. What is
// only suspicious, such as a name that no variable has, is in the Warnings of the definition.
func Parse(text []byte, find func(name string) (*Definition, bool)) (*Definition, error) {
	d := parseDocument(text)
	if err := d.problems.wrong(); err != nil {
		return nil, err
	}
	return compile(d, find)
}

// CompileSource is Parse for a source that did not come from text: its problems have no line.
func CompileSource(s *Source, find func(name string) (*Definition, bool)) (*Definition, error) {
	return compile(&document{Source: *s, places: map[string]place{}}, find)
}

// The compiled forms of what Source says.
type (
	pair struct {
		name  string
		value *template
		keep  bool
	}
	basic struct {
		username, password *template
		encode             bool
	}
	request struct {
		method                  string
		url                     *template
		query, headers, cookies []pair
		basic                   *basic
		body                    *body
		sign                    *signing
		vars                    []pair
		accept                  []int
		response                Format
		extract                 []extraction
		uses                    []string // members of the variable request
	}
	step struct {
		name    string
		oauth2  *oauth2Step
		request *request
		extract []extraction
	}
	locator struct {
		path, value    *template
		header, cookie string
		match          *regexp.Regexp
		optional       bool
	}
	extraction struct {
		name string
		from locator
	}
	symptom struct {
		Symptom
		path    *template
		matches *regexp.Regexp
	}
	tokenRule struct {
		locator
		typ                             *template
		expires                         *Expiry
		expiresAt                       locator
		zone                            *time.Location
		lifetime, standard, renewBefore time.Duration
		keep                            []extraction
		refresh                         *request
		plain                           bool // token and lifetime stand where RFC 6749 says
	}
	apply struct {
		base                    *template
		fixed                   bool // base is the same with every token
		headers, query, cookies []pair
		body                    []pair
		basic                   *basic
		sign                    *signing
		vars                    []pair
		hosts                   []string
		redirects               string
		uses                    []string // members of the variable request
		bearer                  bool     // Authorization with the token, nothing else
		content                 bool     // needs the body
	}
	endpoint struct {
		Endpoint
		request *request
	}
)

// compiler compiles one document. Its scope are the names that are variables at the moment.
type compiler struct {
	*document
	names map[string]bool
	def   *Definition
}

var definitionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func compile(d *document, find func(string) (*Definition, bool)) (*Definition, error) {
	c := &compiler{document: d, names: map[string]bool{}}
	if !definitionName.MatchString(d.Name) || len(d.Name) > 64 {
		c.problem("name", "such as acme-crm", "must be lower-case letters, digits and dashes, at most 64 characters")
	}
	own := d.Source
	if d.Extends != "" {
		var parent *Definition
		if find != nil {
			parent, _ = find(d.Extends)
		}
		if parent == nil {
			c.problem("extends", "", "there is no definition %s", d.Extends)
			return nil, c.problems
		}
		c.Source = merge(parent.Source, &own)
		c.renumber(&own)
	}
	c.inheritance(&own)
	c.def = &Definition{Name: c.Name, Title: c.Title, Description: c.Description, Source: &c.Source}
	c.about()
	c.inputs()
	c.body()
	c.problems.sort()
	if err := c.problems.wrong(); err != nil {
		return nil, err
	}
	c.def.Warnings = c.problems
	return c.def, nil
}

// about checks what is said about the definition.
func (c *compiler) about() {
	if c.Title == "" {
		c.problem("title", "", "title is missing")
	}
	for path, text := range map[string]string{"title": c.Title, "description": c.Description, "vendor": c.Vendor} {
		if len(text) > 2048 || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
			c.problem(path, "", "must be at most 2,048 bytes without control characters")
		}
	}
	if c.Checked != "" {
		if _, err := time.Parse(time.DateOnly, c.Checked); err != nil {
			c.problem("checked", "", "must be a date such as 2026-11-27")
		}
	}
	if c.Documentation != "" {
		if u, err := parseURL(c.Documentation); (err != nil || u.Scheme != "https") && !strings.Contains(c.Documentation, "#") {
			c.problem("documentation", "", "must be an https link")
		}
	}
}

// MaxDefault is the greatest length of a default, in bytes.
const MaxDefault = 1024

var inputTypes = []Type{String, SecretText, Enum, Boolean, URL, URI, Scopes, Seconds, Date, PEM, Parameters, Hostname, Integer, BaseURL}

// inputs compiles the inputs, and makes them the first variables.
func (c *compiler) inputs() {
	for i := range c.Inputs {
		in := &c.Inputs[i]
		path := join("inputs", strconv.Itoa(i))
		if in.Title == "" {
			in.Title = in.Key
		}
		if in.Type == "" {
			in.Type = String
		}
		if c.names[in.Key] {
			c.problem(path, "remove one of them", "the key %s comes twice", in.Key)
		}
		c.declare(path, in.Key)
		c.input(path, in)
	}
	c.def.Inputs = c.Inputs
	for i := range c.Inputs { // when all of them are known
		in := &c.Inputs[i]
		if !strings.Contains(in.Default, "{{") {
			continue
		}
		path := join(join("inputs", strconv.Itoa(i)), "default")
		t := c.text(path, in.Default)
		if in.Type == URL {
			t = c.url(path, in.Default)
		}
		for _, name := range namesOf(t) {
			other, ok := c.def.Input(name)
			if ok && (other.Type == SecretText || strings.Contains(other.Default, "{{")) {
				c.problem(path, "", "uses %s, which is secret or has a template as default itself", name)
			}
		}
		if c.def.defaults == nil {
			c.def.defaults = map[string]*template{}
		}
		c.def.defaults[in.Key] = t
	}
}

// input checks one input.
func (c *compiler) input(path string, in *Input) {
	if !slices.Contains(inputTypes, in.Type) {
		var names []string
		for _, t := range inputTypes {
			names = append(names, string(t))
		}
		c.problem(join(path, "type"), "the types are "+strings.Join(names, ", "), "there is no type %s", in.Type)
	}
	if (in.Type == Enum) != (len(in.Enum) > 0) {
		c.problem(path, "", "type enum and a list enum go together")
	}
	if len(in.Default) > MaxDefault || !utf8.ValidString(in.Default) {
		c.problem(join(path, "default"), "", "must be at most %d bytes", MaxDefault)
	}
	if in.Default != "" && (in.Type == SecretText || in.Type == Parameters) {
		c.problem(join(path, "default"), "remove it", "an input of type %s cannot have a default", in.Type)
	} else if in.Default != "" && !strings.Contains(in.Default, "{{") {
		if detail := in.checkText(in.Default); detail != "" {
			c.problem(join(path, "default"), "", "%s", detail)
		}
	}
	if in.Pattern != "" {
		re, err := regexp.Compile(`^(?:` + in.Pattern + `)$`)
		if err != nil {
			c.problem(join(path, "pattern"), "", "is not a regular expression (RE2)")
		}
		in.pattern = re
	}
	if in.Locked && in.Default == "" {
		c.problem(path, "give it a default", "a locked input has its default as value")
	}
	if in.Level != "" && !slices.Contains([]string{"connector", "auth", "endpoint"}, in.Level) {
		c.problem(join(path, "level"), "", "must be connector, auth or endpoint")
	}
	if w := in.RequiredWhen; w != nil {
		for _, key := range []string{w.Key, w.Unless} {
			if key != "" && !slices.ContainsFunc(c.Inputs, func(other Input) bool { return other.Key == key }) {
				c.problem(join(path, "required_when"), c.inputHint(key), "there is no input %s", key)
			}
		}
	}
}

// reserved are variables that exist already, or will.
var reserved = []string{"token", "token_type", "request", "true", "false", "nil"}

// declare makes name a variable from here on.
func (c *compiler) declare(path, name string) {
	switch {
	case !variable(name) || strings.Contains(name, "."):
		c.problem(path, "", "%q cannot be the name of a variable: letters, digits, _ and - only, a letter first", name)
	case slices.Contains(reserved, name):
		c.problem(path, "choose another name", "%s is the name of something else", name)
	}
	c.names[name] = true
}

// with runs f with more names, which are gone afterwards.
func (c *compiler) with(names []string, f func()) {
	before := maps.Clone(c.names)
	for _, name := range names {
		c.names[name] = true
	}
	f()
	c.names = before
}

// parse parses a template, and warns of names that no variable has.
func (c *compiler) parse(path, text string) *template {
	if text == "" {
		return nil
	}
	if !utf8.ValidString(text) {
		c.problem(path, "", "must be valid UTF-8")
		return nil
	}
	t, err := parseTemplate(text)
	if err != nil {
		c.problem(path, "", "%v", err)
		return nil
	}
	for _, name := range t.names {
		first, _, _ := strings.Cut(name, ".")
		if !c.names[name] && !c.names[first] {
			known := slices.Sorted(maps.Keys(c.names))
			hint := "the variables here are " + strings.Join(known, ", ")
			if near := nearest(name, known); near != "" {
				hint = "did you mean " + near + "?"
			}
			c.warn(path, hint, "there is no variable %s", name)
		}
	}
	return t
}

func namesOf(t *template) []string {
	if t == nil {
		return nil
	}
	return t.names
}

func (c *compiler) text(path, text string) *template { return c.parse(path, text) }

func (c *compiler) positioned(path, text string, p position) *template {
	t := c.parse(path, text)
	if t == nil {
		return nil
	}
	positionAll(t, p)
	for i := range t.parts {
		if p != inHeader && p != inCookie || t.parts[i].dynamic() {
			continue
		}
		if _, err := p.escape(t.parts[i].literal); err != nil {
			c.problem(path, "", "%v", err)
		}
	}
	return t
}

func (c *compiler) url(path, text string) *template {
	t := c.parse(path, text)
	if t == nil {
		return nil
	}
	if err := positionURL(t); err != nil {
		c.problem(path, "", "%v", err)
	}
	if literal, ok := t.literal(); ok && strings.Contains(literal, "://") {
		if _, err := parseURL(literal); err != nil {
			c.problem(path, "", "%v", err)
		}
	}
	return t
}

// pairs compiles pairs whose values go to p.
func (c *compiler) pairs(path string, list Pairs, p position, keep bool) []pair {
	var out []pair
	for i, one := range list {
		at := join(path, strconv.Itoa(i))
		if one.Name == "" || len(one.Name) > 256 || strings.ContainsFunc(one.Name, unicode.IsControl) || strings.Contains(one.Name, "{{") {
			c.problem(at, "only values are templates", "%q cannot be a name", one.Name)
		}
		t := c.positioned(at, one.Value, p)
		out = append(out, pair{one.Name, t, keep || one.KeepEmpty || !strings.Contains(one.Value, "{{")})
	}
	return out
}

// headers compiles headers.
func (c *compiler) headers(path string, list Pairs, keep bool) []pair {
	for i, one := range list {
		at := join(path, strconv.Itoa(i))
		switch key := http.CanonicalHeaderKey(one.Name); {
		case !headerName(one.Name) || one.Name == "":
			c.problem(at, "", "%q cannot be the name of a header", one.Name)
		case slices.Contains([]string{"Connection", "Content-Length", "Host", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Keep-Alive", "Accept-Encoding"}, key):
			c.problem(at, "remove it", "the header %s is made by the connection", key)
		}
	}
	return c.pairs(path, list, inHeader, keep)
}

// computed compiles vars, each of which is a variable for those after it.
func (c *compiler) computed(path string, list Pairs) []pair {
	var out []pair
	for i, one := range list {
		at := join(path, strconv.Itoa(i))
		out = append(out, pair{name: one.Name, value: c.text(at, one.Value)})
		c.declare(at, one.Name)
	}
	return out
}

func (c *compiler) basic(path string, b *Basic) *basic {
	if b == nil {
		return nil
	}
	if !slices.Contains([]string{"", "raw", "rfc6749"}, b.Encoding) {
		c.problem(join(path, "encoding"), "", "must be rfc6749 or raw")
	}
	return &basic{c.text(join(path, "username"), b.Username), c.text(join(path, "password"), b.Password), b.Encoding == "rfc6749"}
}

func (c *compiler) regexp(path, text string) *regexp.Regexp {
	if text == "" {
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		c.problem(path, "", "is not a regular expression (RE2)")
	}
	return re
}

func (c *compiler) locator(path string, l Locator) locator {
	set := 0
	for _, text := range []string{l.Path, l.Header, l.Cookie, l.Value} {
		if text != "" {
			set++
		}
	}
	if set != 1 {
		c.problem(path, "", "must have one of path, header, cookie and value")
	}
	return locator{c.text(join(path, "path"), l.Path), c.text(join(path, "value"), l.Value), l.Header, l.Cookie, c.regexp(join(path, "match"), l.Match), l.Optional}
}

func (c *compiler) extract(path string, e Extract) []extraction {
	var out []extraction
	for _, name := range slices.Sorted(maps.Keys(e)) {
		out = append(out, extraction{name, c.locator(join(path, name), e[name])})
	}
	for _, one := range out {
		c.declare(join(path, one.name), one.name)
	}
	return out
}

func (c *compiler) symptoms(path string, list []Symptom) []symptom {
	var out []symptom
	for i, s := range list {
		at := join(path, strconv.Itoa(i))
		if s.Path == "" && s.Header == "" && s.Status == 0 {
			c.problem(at, "", "must have a path, a header or a status")
		}
		out = append(out, symptom{s, c.text(join(at, "path"), s.Path), c.regexp(join(at, "matches"), s.Matches)})
	}
	return out
}

var method = regexp.MustCompile(`^[A-Z]{1,16}$`)

// request compiles a request. Relative says that its URL is a path below the base URL.
func (c *compiler) request(path string, r *Request, relative bool) *request {
	out := &request{method: r.Method, accept: r.Accept, response: r.Response}
	if r.Method != "" && !method.MatchString(r.Method) {
		c.problem(join(path, "method"), "such as POST", "must be upper-case letters")
	}
	if out.method == "" {
		if out.method = http.MethodGet; r.Body != nil {
			out.method = http.MethodPost
		}
	}
	for i, status := range r.Accept {
		if status < 200 || status > 599 {
			c.problem(join(join(path, "accept"), strconv.Itoa(i)), "", "must be a status from 200 to 599")
		}
	}
	if !slices.Contains([]Format{"", JSONFormat, XMLFormat, FormFormat, TextFormat}, r.Response) {
		c.problem(join(path, "response"), "", "must be json, xml, form or text")
	}
	var own []string // variables that only this request has
	if !relative {
		own = []string{"request"}
	}
	c.with(own, func() {
		out.vars = c.computed(join(path, "vars"), r.Vars)
		out.url = c.url(join(path, "url"), r.URL)
		if at := join(path, "url"); out.url == nil {
			c.problem(at, "", "url is missing")
		} else if first := out.url.parts[0]; !first.dynamic() && !strings.Contains(r.URL, "://") && (!relative || !strings.HasPrefix(r.URL, "/")) {
			hint := "write https://…"
			if relative {
				hint = "write /…, or an absolute URL"
			}
			c.problem(at, hint, "must be a URL")
		}
		out.query = c.pairs(join(path, "query"), r.Query, inText, r.KeepEmpty)
		out.headers = c.headers(join(path, "headers"), r.Headers, r.KeepEmpty)
		out.cookies = c.pairs(join(path, "cookies"), r.Cookies, inCookie, r.KeepEmpty)
		out.basic = c.basic(join(path, "basic"), r.Basic)
		out.body = c.content(join(path, "body"), r.Body, r.Headers, r.KeepEmpty)
		out.sign = c.signing(join(path, "sign"), r.Sign)
	})
	var inBody []pair
	if out.body != nil {
		out.body.each(func(t *template) { inBody = append(inBody, pair{value: t}) })
	}
	out.uses = requestUses(out.vars, out.query, out.headers, out.cookies, inBody)
	out.extract = c.extract(join(path, "extract"), r.Extract)
	return out
}

// body compiles everything after the inputs.
func (c *compiler) body() {
	d := c.def
	d.vars = c.computed("vars", c.Vars)
	inputs := slices.Sorted(maps.Keys(c.names)) // inputs and vars: what apply sees
	if p := c.Certificate; p != nil {
		d.certificate, d.certificateKey = c.text("certificate.certificate", p.Certificate), c.text("certificate.key", p.Key)
	}
	for i := range c.Signers {
		c.signer(join("signers", strconv.Itoa(i)), &c.Signers[i])
	}
	ways := 0
	for _, there := range []bool{c.OAuth2 != nil, c.Request != nil, c.Steps != nil} {
		if there {
			ways++
		}
	}
	if ways > 1 {
		c.problem("steps", "put all of them into steps", "there must be only one of oauth2, request and steps")
	}
	steps, at := c.Steps, func(i int, kind string) string { return join(join("steps", strconv.Itoa(i)), kind) }
	if c.OAuth2 != nil || c.Request != nil {
		steps, at = []Step{{Name: "token", OAuth2: c.OAuth2, Request: c.Request}}, func(_ int, kind string) string { return kind }
	}
	if len(steps) > 3 {
		c.problem("steps", "", "there can be at most three")
	}
	for i := range steps {
		s := &steps[i]
		one := step{name: s.Name}
		switch {
		case (s.OAuth2 == nil) == (s.Request == nil):
			c.problem(at(i, ""), "", "must have one of oauth2 and request")
		case s.OAuth2 != nil:
			one.oauth2 = c.oauth2(at(i, "oauth2"), s.OAuth2)
			one.extract = c.extract(at(i, "extract"), s.Extract)
		default:
			one.request = c.request(at(i, "request"), s.Request, false)
			one.extract = append(one.request.extract, c.extract(at(i, "extract"), s.Extract)...)
		}
		d.steps = append(d.steps, one)
	}
	c.token()
	c.errors()
	kept := c.discover(inputs)
	for name := range c.names { // what an earlier step extracted is not there any more later
		if !slices.Contains(inputs, name) {
			delete(c.names, name)
		}
	}
	kept = append(kept, "token", "token_type")
	for _, name := range kept {
		c.names[name] = true
	}
	c.apply(kept)
	c.detect()
	c.endpoints()
	if c.Apply == nil && !d.HasToken() && !c.Abstract {
		c.problem("apply", "say how requests are authorized, or how a token is got", "there is neither a token nor an apply")
	}
}

// secretNames are the inputs that are secret, and everything computed from them.
func (c *compiler) secretNames() map[string]bool {
	secret := map[string]bool{"token": true}
	for _, in := range c.Inputs {
		secret[in.Key] = in.Type == SecretText
	}
	for _, v := range c.def.vars {
		secret[v.name] = slices.ContainsFunc(namesOf(v.value), func(name string) bool {
			first, _, _ := strings.Cut(name, ".")
			return secret[first]
		})
	}
	return secret
}
