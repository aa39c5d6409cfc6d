package connector_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/connector"
)

// applied is a request to an API, authorized as the section apply says, as lines.
func applied(t *testing.T, apply, method, url, contentType, body string) (string, error) {
	t.Helper()
	d := parse(t, "name: a\ntitle: x\ninputs: [{key: key, type: secret}]\napply:\n"+apply)
	for _, w := range d.Warnings {
		t.Error(w)
	}
	p, err := plan(t, d, map[string]string{"key": "k"})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Caller", "caller")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if err := p.Apply(req, nil); err != nil {
		return "", err
	}
	content, err := io.ReadAll(req.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{req.URL.String()}
	for _, name := range []string{"Accept", "X-Caller", "X-Sign", "Authorization"} {
		for _, value := range req.Header[name] {
			lines = append(lines, name+": "+value)
		}
	}
	return strings.TrimSpace(strings.Join(append(lines, string(content)), "\n")), nil
}

// TestApply has what is put onto requests, and what of a request can be looked at.
func TestApply(t *testing.T) {
	const api = "https://api.example.com/v1/x"
	for name, c := range map[string]struct{ apply, method, url, contentType, body, want string }{
		"a default that is not there": {"  headers: {Accept: '{{request.headers.accept ?? \"application/json\"}}', X-Caller: '{{request.headers[\"x-caller\"] ?? \"none\"}}'}",
			"GET", api, "", "", api + "\nAccept: application/json\nX-Caller: caller"},
		"a header that is not there":    {"  headers: {Authorization: 'k{{request.headers.accept}}'}", "GET", api, "", "", api + "\nX-Caller: caller\nAuthorization: k"},
		"a header of the caller":        {"  headers: {X-Caller: mine}", "GET", api, "", "", api + "\nX-Caller: mine"},
		"a query signs what is before":  {"  query: {key: '{{key}}', sign: '{{request.query}}!'}", "GET", api + "?b=1", "", "", api + "?b=1&key=k&sign=b%3D1%26key%3Dk%21\nX-Caller: caller"},
		"a header signs query and body": {"  query: {a: '1'}\n  body: {t: now}\n  headers: {X-Sign: '{{request.query}}|{{request.body}}|{{request.content_type}}'}", "POST", api, "", "", api + "?a=1\nX-Caller: caller\nX-Sign: a=1|t=now|application/x-www-form-urlencoded\nt=now"},
		"a member of JSON":              {"  body: {auth: '{{key}}', n: '{{int(\"7\")}}'}", "POST", api, "application/json", `{"a":12345678901234567890}`, api + "\nX-Caller: caller\n" + `{"a":12345678901234567890,"auth":"k","n":7}`},
		"a member inside":               {"  body: {params.credentials.id: '{{key}}', params.args.0: '{{key}}', params.args.1: b}", "POST", api, "application/json", `{"params":{"x":1,"args":["a"]}}`, api + "\nX-Caller: caller\n" + `{"params":{"args":["k","b"],"credentials":{"id":"k"},"x":1}}`},
		"no body yet":                   {"  body: {a.b: '{{key}}'}", "POST", api, "application/json", "", api + "\nX-Caller: caller\n" + `{"a":{"b":"k"}}`},
		"a field of a form":             {"  body: {a.b: '{{key}}'}", "POST", api, "application/x-www-form-urlencoded", "c=d", api + "\nX-Caller: caller\nc=d&a.b=k"},
		"inside of a text":              {"  body: {a.b: '{{key}}'}", "POST", api, "application/json", `{"a":"text"}`, "inside of a single value"},
		"a list has no such place":      {"  body: {a.b: '{{key}}'}", "POST", api, "application/json", `{"a":[]}`, "a list of 0 has no b"},
		"not JSON":                      {"  body: {a: '{{key}}'}", "POST", api, "application/json", `{"a`, "is not JSON"},
		"neither":                       {"  body: {a: '{{key}}'}", "POST", api, "text/plain", `x`, "neither a form nor JSON"},
	} {
		got, err := applied(t, c.apply, c.method, c.url, c.contentType, c.body)
		if err != nil && strings.HasPrefix(c.want, "https:") || err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

// TestNeedsBody shows that a connector reads bodies only if it must.
func TestNeedsBody(t *testing.T) {
	for apply, want := range map[string]bool{
		`headers: {X: '{{request.headers.accept ?? "a"}}'}`:           false,
		`headers: {X: '{{request.path + request.query}}'}`:            false,
		`vars: {v: '{{sha256(request.body)}}'}`:                       true,
		`headers: {X: '{{request[lower("BODY")]}}'}`:                  true,
		`query: {X: '{{request.params}}'}`:                            true,
		`body: {X: a}`:                                                true,
		`sign: {wsse: {username: a, password: b}}`:                    false,
		`sign: {oauth1: {consumer_key: a, consumer_secret: b}}`:       true,
		`headers: {Authorization: 'Bearer {{request.content_type}}'}`: false,
	} {
		p, err := plan(t, parse(t, "name: a\ntitle: x\napply: {"+apply+"}\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.NeedsBody(); got != want {
			t.Errorf("%s: %v", apply, got)
		}
	}
}

// TestWSSE has both ways of writing the digest: the second one is that of Emarsys, whose sample code has the nonce as it is.
func TestWSSE(t *testing.T) {
	for digest, want := range map[string]string{
		"":              `UsernameToken Username="u", PasswordDigest="9ZyTjQBqnXFYOjIK3r4jz10Sw3o=", Nonce="MDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDEwMTAxMDE=", Created="2026-01-02T03:04:05Z"`,
		", digest: hex": `UsernameToken Username="u", PasswordDigest="ZjU5YzkzOGQwMDZhOWQ3MTU4M2EzMjBhZGViZTIzY2Y1ZDEyYzM3YQ==", Nonce="01010101010101010101010101010101", Created="2026-01-02T03:04:05Z"`,
	} {
		d := parse(t, "name: a\ntitle: x\ninputs: [{key: key, type: secret}]\napply: {base_url: 'https://a.example.com', sign: {wsse: {username: u, password: '{{key}}'"+digest+"}}}\n")
		got, err := d.Run(t.Context(), connector.Case{Inputs: map[string]string{"key": "s3cret"}, API: []connector.Call{{Call: "GET /"}}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("GET https://a.example.com/\nX-Wsse: "+want+"\n", got.API[0].Request); diff != "" {
			t.Error(diff)
		}
	}
}

// TestDrop has an inherited input that is not wanted: what used it goes with it.
func TestDrop(t *testing.T) {
	d := parse(t, "name: a\ntitle: x\nextends: oauth2\ndrop: [scopes]\ndefaults: {token_endpoint: https://a.example.com/token}\napply: {base_url: https://a.example.com}\n")
	if d.Warnings != nil || d.Source.OAuth2.Scope != "" {
		t.Error(d.Warnings, d.Source.OAuth2.Scope)
	}
	p, err := plan(t, d, map[string]string{"client_id": "a", "client_secret": "b"})
	if err != nil {
		t.Fatal(err)
	}
	s := &sender{body: tokenAnswer}
	if _, err := p.Token(t.Context(), s, nil); err != nil || s.sent != "grant_type=client_credentials" {
		t.Error(err, s.sent)
	}
}

// TestCaseOfAnError compares a case that was to go on with one that ends at an error.
func TestCaseOfAnError(t *testing.T) {
	d := parse(t, "name: a\ntitle: x\nrequest: {url: https://a.example.com/token}\napply: {base_url: https://a.example.com}\n")
	c := connector.Case{Exchanges: []connector.Exchange{{Request: "GET https://a.example.com/token", Response: "401\n\n{}"}}, API: []connector.Call{{Call: "GET /", Request: "GET https://a.example.com/"}}}
	got, err := d.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if list := c.Differences(got); len(list) != 2 || !strings.HasPrefix(list[0], "error") || !strings.HasPrefix(list[1], "call GET /") {
		t.Errorf("%q", list)
	}
	text, err := connector.FormatCases([]connector.Case{{Name: "a", Exchanges: []connector.Exchange{{Request: "GET /\n\nbody", Response: "200"}}}})
	if err != nil || strings.Contains(string(text), " \n") {
		t.Errorf("%v %q", err, text)
	}
	again, err := connector.ParseCases(text)
	if err != nil || again[0].Exchanges[0].Request != "GET /\n\nbody" {
		t.Errorf("%v %+v", err, again)
	}
}

func request(t *testing.T, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}
