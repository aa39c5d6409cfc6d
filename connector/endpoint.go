package connector

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
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
