package connector

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

var endpointName = regexp.MustCompile(`^[a-z0-9]+([-_][a-z0-9]+)*$`)

func (c *compiler) endpoints() {
	seen := map[string]bool{}
	for i := range c.Endpoints {
		path := join("endpoints", strconv.Itoa(i))
		e := &c.Endpoints[i]
		if !endpointName.MatchString(e.Name) || seen[e.Name] {
			c.problem(join(path, "name"), "such as list-orders", "must be lower-case letters, digits, dashes and underscores, and come once")
		}
		seen[e.Name] = true
		c.def.endpoints = append(c.def.endpoints, c.endpoint(path, e))
	}
	if c.Verify != nil {
		c.def.verify = c.endpoint("verify", c.Verify)
	}
}

func (c *compiler) endpoint(path string, e *Endpoint) *endpoint {
	out := &endpoint{Endpoint: *e}
	c.with(nil, func() {
		for i := range e.Inputs {
			in := &e.Inputs[i]
			at := join(join(path, "inputs"), strconv.Itoa(i))
			if in.Type == "" {
				in.Type = String
			}
			c.declare(at, in.Key)
			c.input(at, in)
		}
		r := &Request{Method: e.Method, URL: e.Path, Query: e.Query, Headers: e.Headers, Body: e.Body, KeepEmpty: e.KeepEmpty, Accept: e.Accept}
		if r.Method == "" {
			r.Method = http.MethodGet
		}
		c.moved(join(path, "path"), join(path, "url"))
		out.request = c.request(path, r, true)
		c.leaks(path, out.request)
	})
	return out
}

// moved lets problems of a field that is called otherwise inside of us be found where it stands.
func (c *compiler) moved(from, to string) {
	if at, ok := c.places[from]; ok {
		c.places[to] = at
	} else {
		c.places[to] = c.at(from)
	}
}

// leaks refuses secrets in what an endpoint sends: they belong into apply.
func (c *compiler) leaks(path string, r *request) {
	secret := c.secretNames()
	check := func(t *template) {
		for _, name := range namesOf(t) {
			if first, _, _ := strings.Cut(name, "."); secret[first] {
				c.problem(path, "secrets are sent by apply only", "uses the secret %s", name)
			}
		}
	}
	check(r.url)
	for _, list := range [][]pair{r.query, r.headers, r.cookies, r.vars} {
		for _, p := range list {
			check(p.value)
		}
	}
	if r.body != nil {
		r.body.each(check)
	}
}

// Accepts tells whether status is one of a good answer to the endpoint.
func (e *endpoint) accepts(status int) bool { return accepts(e.Accept, status) }

// endpoint finds one by name; verify is called that.
func (d *Definition) endpoint(name string) *endpoint {
	if name == "verify" && d.verify != nil {
		return d.verify
	}
	for _, e := range d.endpoints {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// Request makes an authorized request to an endpoint of the definition, or with the name
// "verify" its harmless request. params are the endpoint's own inputs.
func (p *Plan) Request(ctx context.Context, name string, params map[string]string, t *grant.Token) (*http.Request, error) {
	req, err := p.Endpoint(ctx, name, params, t)
	if err == nil {
		err = p.Apply(req, t)
	}
	if err != nil {
		return nil, err
	}
	Introduce(req)
	return req, nil
}

// Introduce says in the header of a request to an endpoint who asks and that JSON is wanted, as far as neither
// the endpoint nor Apply says something else.
func Introduce(r *http.Request) { introduce(r, jsonType) }

// Endpoint is Request without the authorization, which Apply puts on, and without what Introduce says.
func (p *Plan) Endpoint(ctx context.Context, name string, params map[string]string, t *grant.Token) (*http.Request, error) {
	e := p.def.endpoint(name)
	if e == nil {
		return nil, grantway.Errorf(grantway.NotFound, "there is no endpoint %s", name)
	}
	s := p.scope().inner()
	p.know(s, t)
	var fields []grantway.Field
	wrong := func(key, detail string) {
		fields = append(fields, grantway.Field{Pointer: grantway.Pointer("inputs", key), Detail: detail})
	}
	for _, in := range e.Inputs {
		text := params[in.Key]
		if text == "" || in.Locked {
			text = in.Default
		}
		s.set(in.Key, text, in.Type == SecretText)
		if text == "" && in.Required {
			wrong(in.Key, "is required")
		} else if detail := in.checkText(text); text != "" && detail != "" {
			wrong(in.Key, detail)
		}
	}
	for key := range params {
		if !slices.ContainsFunc(e.Inputs, func(in Input) bool { return in.Key == key && !in.Locked }) {
			wrong(key, "is no input of this endpoint")
		}
	}
	if fields != nil {
		slices.SortFunc(fields, func(a, b grantway.Field) int { return strings.Compare(a.Pointer, b.Pointer) })
		return nil, &grantway.Error{Code: grantway.Invalid, Message: "the request cannot be made", Fields: fields}
	}
	return p.request(ctx, e.request, s, t)
}
