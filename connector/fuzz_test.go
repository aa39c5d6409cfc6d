package connector_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
)

// FuzzParse takes any text for a definition: it compiles, or there are problems with places.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("catalog/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("name: a\ntitle: &x b\nvars: {a: *x}\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := connector.Parse([]byte(text), connector.Find)
		if (d == nil) == (err == nil) {
			t.Fatal("neither a definition nor problems, or both")
		}
		if d == nil {
			return
		}
		values := connector.Values{Secrets: map[string]grant.Secret{}}
		if p, err := d.Compile(values); err == nil {
			p.Preview(t.Context())
			p.BaseURL(nil)
		}
	})
}

// FuzzTemplate takes any text for a template in a header: what it comes to is one line.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"{{a}}", "x{{lower(a)}}y", "{{", "{{}}", `{{"}}"}}`, "{{a ?? b}}", "{{hmac('sha256', a, b)}}", "{{replace(a, '', b)}}", "{{split(a, '')}}", "{{parse_json(a).b}}", "{{1..1000000}}"} {
		f.Add(text, "v{{b}}\r\n")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		keyed := connector.Source{Name: "a", Title: "x", Inputs: []connector.Input{{Key: "a"}, {Key: "b"}}, Apply: &connector.Apply{Headers: connector.Pairs{{Name: "X-A", Value: text}}}}
		d, err := connector.CompileSource(&keyed, nil)
		if err != nil {
			return
		}
		p, err := plan(t, d, map[string]string{"a": value, "b": "secret"})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest("GET", "https://example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.Apply(req, nil) == nil && strings.ContainsAny(req.Header.Get("X-A"), "\r\n\x00") {
			t.Fatalf("%q", req.Header)
		}
	})
}

// FuzzAnswer takes any body for an answer: there is a token that can stand in a header, or
// an error that does not repeat what was sent.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{tokenAnswer, `{"a":{"0":[{"t":"x"}]}}`, `[[]]`, `<a><t b="c">x</t></a>`, `a=b&t=c`, `"x"`, ``, `{"error":"x"}`} {
		for _, path := range []string{"access_token", "a.0.0.t", "a[0].t", "..t", "$", "a..b", "-1"} {
			f.Add(body, path, "json")
		}
	}
	f.Fuzz(func(t *testing.T, body, path, format string) {
		s := connector.Source{Name: "a", Title: "x", Inputs: []connector.Input{{Key: "s", Type: connector.SecretText}},
			Request: &connector.Request{URL: "https://example.com/", Response: connector.Format(format), Headers: connector.Pairs{{Name: "X-Key", Value: "{{s}}"}}},
			Token:   &connector.TokenRule{Path: path, Expires: &connector.Expiry{Path: "expires_in"}}}
		d, err := connector.CompileSource(&s, nil)
		if err != nil {
			return
		}
		const secret = "canary-5ecret"
		p, err := plan(t, d, map[string]string{"s": secret})
		if err != nil {
			t.Fatal(err)
		}
		token, err := p.Token(t.Context(), &sender{body: body}, nil)
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Fatal(err)
		}
		if err == nil && (token.AccessToken == "" || strings.ContainsAny(string(token.AccessToken), "\r\n") || !token.ExpiresAt.After(time.Now())) {
			t.Fatalf("token %q until %v", string(token.AccessToken), token.ExpiresAt)
		}
	})
}

// FuzzJoin takes any path below a base URL: what comes out is at the same host, and below it.
func FuzzJoin(f *testing.F) {
	for _, path := range []string{"/a/b?c=d", "..", "/%2e%2e/x", "//evil.com/", "/a%2fb", `/\evil`, "/%5c..", "https://evil.com", "/a?b=../..", "/%", "/a#b", "@evil", "/;/../", "/%00"} {
		f.Add(path)
	}
	base, err := url.Parse("https://example.com/api/v1?key=1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := connector.Join(base, path)
		if err != nil {
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != "example.com" || again.Scheme != "https" || !strings.HasPrefix(again.EscapedPath(), "/api/v1") || again.Fragment != "" {
			t.Fatalf("%q: %v %v", path, u, err)
		}
		for segment := range strings.SplitSeq(again.Path, "/") {
			if segment == ".." || segment == "." {
				t.Fatalf("%q: %v", path, u)
			}
		}
	})
}
