package connector_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
)

func parse(t testing.TB, text string) *connector.Definition {
	t.Helper()
	d, err := connector.Parse([]byte(text), connector.Find)
	if err != nil {
		t.Fatalf("%v\nin\n%s", err, text)
	}
	return d
}

// plan puts values into a definition; those of secret inputs are secret.
func plan(t testing.TB, d *connector.Definition, values map[string]string) (*connector.Plan, error) {
	t.Helper()
	v := connector.Values{Plain: map[string]grantway.Value{}, Secrets: map[string]grant.Secret{}}
	for key, text := range values {
		in, _ := d.Input(key)
		if in.Type == connector.SecretText {
			v.Secrets[key] = grant.Secret(text)
		} else {
			v.Plain[key] = grantway.Text(text)
		}
	}
	return d.Compile(v)
}

// sender answers token requests, and keeps them.
type sender struct {
	status  int
	header  http.Header
	body    string
	request *http.Request
	sent    string // its body
}

func (s *sender) Ask(ctx context.Context, r *grant.Request) (*grant.Answer, error) {
	req, err := r.Build(ctx)
	if err != nil {
		return nil, err
	}
	return s.Exchange(ctx, &grant.Exchange{Request: req})
}

func (s *sender) Exchange(_ context.Context, x *grant.Exchange) (*grant.Answer, error) {
	s.request = x.Request
	body, err := io.ReadAll(x.Request.Body)
	s.sent = string(body)
	if err != nil {
		return nil, err
	}
	status := s.status
	if status == 0 {
		status = 200
	}
	return grant.NewAnswer(x, status, s.header, []byte(s.body), time.Now()), nil
}

const tokenAnswer = `{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}`

// TestProblems has definitions in which something is wrong: all of it is found, with line and
// column, and it is said what to do.
func TestProblems(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"several at once": {"name: A b\ntitle: x\ninputs:\n  - {key: a, type: strng}\n  - {key: a}\n  - {key: 9, default: '{{'}\nrequest:\n  url: http://example.com\n  hedaers: {}\n", `
			9:3: request.hedaers: there is no such field (did you mean headers?)`},
		"several more": {"name: A b\ntitle: x\ninputs:\n  - {key: a, type: strng}\n  - {key: a}\nrequest:\n  url: http://example.com\n  accept: [99]\n", `
			1:7: name: must be lower-case letters, digits and dashes, at most 64 characters (such as acme-crm)
			4:20: inputs.0.type: there is no type strng (the types are string, secret, enum, boolean, url, uri, scopes, seconds, date, pem, parameters, hostname, integer, base_url)
			5:5: inputs.1: the key a comes twice (remove one of them)
			7:8: request.url: must be https; plain http is only for a loopback address
			8:12: request.accept.0: must be a status from 200 to 599`},
		"not YAML":            {"name: [", "is not YAML"},
		"twice":               {"name: a\nname: b\ntitle: x\n", `mapping key "name" already defined`},
		"anchors":             {"name: &x a\ntitle: x\n", "anchors and aliases are not part of the language"},
		"two documents":       {"name: a\n---\nname: b\n", "must be one YAML document"},
		"no parent":           {"name: a\ntitle: x\nextends: nobody\n", "there is no definition nobody"},
		"neither token":       {"name: a\ntitle: x\n", "there is neither a token nor an apply"},
		"function":            {"name: a\ntitle: x\napply: {headers: {X: '{{system(\"ls\")}}'}}\n", "there is no function system"},
		"loop":                {"name: a\ntitle: x\napply: {headers: {X: '{{map(1..9, # * 2)}}'}}\n", "apply.headers.0"},
		"let":                 {"name: a\ntitle: x\napply: {headers: {X: '{{let a = \"x\"; a + a}}'}}\n", "let is not part of the language"},
		"XML":                 {"name: a\ntitle: x\nrequest:\n  url: https://example.com\n  body: {xml: '<a><b></a>'}\n", "is not well-formed XML"},
		"value in a name":     {"name: a\ntitle: x\ninputs: [{key: n}]\nrequest:\n  url: https://example.com\n  body: {xml: '<{{n}}>x</{{n}}>'}\n", "where none can be"},
		"value in CDATA":      {"name: a\ntitle: x\ninputs: [{key: n}]\nrequest:\n  url: https://example.com\n  body: {xml: '<a><![CDATA[{{n}}]]></a>'}\n", "where none can be"},
		"secret to endpoints": {"name: a\ntitle: x\nextends: oauth2\nverify: 'GET /x?s={{client_secret}}'\n", "secrets are sent by apply only"},
		"default of a secret": {"name: a\ntitle: x\nextends: oauth2\ndefaults: {client_secret: x}\n", "cannot have a default"},
		"long default":        {"name: a\ntitle: x\nextends: oauth2\ndefaults: {client_id: " + strings.Repeat("x", 1025) + "}\n", "must be at most 1024 bytes"},
		"scheme":              {"name: a\ntitle: x\ninputs: [{key: n}]\nrequest: {url: 'ftp://{{n}}/'}\n", ""},
		"connection header":   {"name: a\ntitle: x\napply: {headers: {Host: x}}\n", "is made by the connection"},
	} {
		_, err := connector.Parse([]byte(c.text), connector.Find)
		if c.want == "" {
			continue
		}
		var problems connector.Problems
		if !errors.As(err, &problems) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := strings.TrimSpace(strings.ReplaceAll(c.want, "\t", "")); strings.Contains(want, "\n") {
			if diff := cmp.Diff(want, problems.Error()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		} else if !strings.Contains(problems.Error(), want) {
			t.Errorf("%s: %v, want %s", name, problems, want)
		}
	}
}

// TestUnknownVariable is P-7: a name that no variable has is a warning, and fails the call with that name.
func TestUnknownVariable(t *testing.T) {
	d := parse(t, "name: a\ntitle: x\ninputs: [{key: url, type: url, required: true}]\nrequest:\n  url: '{{url}}/token'\n  query: {aud: '{{typo}}', b: '{{lower(other)}}'}\n")
	var names []string
	for _, w := range d.Warnings {
		if !w.Warning || w.Line != 6 {
			t.Errorf("%+v", w)
		}
		names = append(names, w.Message)
	}
	if diff := cmp.Diff([]string{"there is no variable typo", "there is no variable other"}, names); diff != "" {
		t.Error(diff)
	}
	p, err := plan(t, d, map[string]string{"url": "https://example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Token(t.Context(), &sender{body: tokenAnswer}, nil); err == nil || !strings.Contains(err.Error(), "there is no variable typo") {
		t.Errorf("error %v", err)
	}
}

// TestPatchworks is P-1 to P-5 and P-10: a method as it starts, and what is changed of it.
func TestPatchworks(t *testing.T) {
	base, _ := connector.Find("patchworks")
	var got []string
	for _, in := range base.Inputs {
		got = append(got, in.Title+"="+in.Default)
	}
	want := []string{"Scope=scope", "Grant type=client_credentials", "Client ID=", "Client secret=", "Response authentication token key=access_token"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("P-1 (-want +got):\n%s", diff)
	}
	values := map[string]string{"client_id": "a&b", "client_secret": "c\"ü+", "token_key": "data.token", "scope": "read write"}
	ask := func(text, answer string) (*grant.Token, *sender, error) {
		p, err := plan(t, parse(t, "name: mine\nextends: patchworks\ntitle: Mine\napply: {base_url: https://api.example.com}\n"+text), values)
		if err != nil {
			t.Fatal(err)
		}
		s := &sender{body: answer}
		token, err := p.Token(t.Context(), s, nil)
		return token, s, err
	}
	token, s, err := ask("", `{"data":{"token":"t0ken"}}`)
	if err != nil || token.AccessToken != "t0ken" || s.sent != "grant_type=client_credentials&scope=read+write&client_id=a%26b&client_secret=c%22%C3%BC%2B" {
		t.Errorf("form: %v, %s", err, s.sent)
	}
	_, s, err = ask("request:\n  method: POST\n  url: https://x.example.com/oauth/{{scope}}/token?a=b\n  query: {audience: '{{client_id}}'}\n  headers: {content-type: application/json}\n  body: {pairs: {grant_type: '{{grant_type}}', client_secret: '{{client_secret}}'}}\n", `{"data":{"other":"t0ken","more":1}}`)
	if s.sent != `{"grant_type":"client_credentials","client_secret":"c\"ü+"}` || s.request.URL.String() != "https://x.example.com/oauth/read%20write/token?a=b&audience=a%26b" {
		t.Errorf("P-4, P-5: %s %s", s.request.URL, s.sent)
	}
	if err == nil || !strings.Contains(err.Error(), "the answer has no data.token; it has: more, other") || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("P-3: %v", err)
	}
}

// TestValuesKeepTheirPlace is P-8, P-9 and P-11: whatever the values are, method, host, path
// segments, names of parameters, headers and members are the same, each value arrives as it is or is
// refused, and none of the secret ones is in a request to the API.
func TestValuesKeepTheirPlace(t *testing.T) {
	d := parse(t, `
name: all
title: Every position
inputs:
  - {key: host, type: hostname, required: true}
  - {key: Store-URL}
  - {key: secret, type: secret}
steps:
  - name: form
    request:
      method: POST
      url: https://{{host}}/a/{{Store-URL}}/b?fixed=1&v={{Store-URL}}
      query: {q: '{{Store-URL}}'}
      headers: {X-Value: 'v {{Store-URL}}'}
      body: {form: {f: '{{Store-URL}}', s: '{{secret}}'}}
token: {path: access_token}
apply: {base_url: 'https://{{host}}/api'}
endpoints:
  - {name: json, method: POST, path: '/x/{{Store-URL}}', body: {json: {a: ['{{Store-URL}}'], b: {c: 'x{{Store-URL}}', n: 1}}}}
  - {name: xml, method: POST, path: /x, body: {xml: '<a b="{{Store-URL}}"><c>{{Store-URL}}</c></a>'}}
  - {name: graphql, method: POST, path: /x, body: {graphql: {query: '{ a(b: "{{Store-URL}}") }', variables: {v: '{{Store-URL}}'}}}}
  - {name: raw, method: POST, path: /x, headers: {Content-Type: application/json}, body: {raw: '{"a": "{{Store-URL}}"}'}}
  - {name: multipart, method: POST, path: /x, body: {multipart: {m: '{{Store-URL}}'}}}
`)
	canary := "s3cr3t-canary"
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.OneOf(rapid.StringN(1, 30, 100), rapid.SampledFrom([]string{
			"{{secret}}", "a&b=c", "a+b ü", "..", ".", "../..", "/etc", "%2e%2e", "?x=y", "#f", "\r\nX-Evil: 1", `"`, `\`, `\"`, "</c>", "]]>", "<!--", "'", ";", "a,b", "\u2028", "{{", "}}", "${x}", "--", "@evil.com", "a:b@c", "\x00"})).Draw(rt, "value")
		p, err := plan(t, d, map[string]string{"host": "api.example.com", "Store-URL": value, "secret": canary})
		if err != nil {
			rt.Fatal(err)
		}
		s := &sender{body: tokenAnswer}
		_, err = p.Token(t.Context(), s, nil)
		if err == nil {
			u := s.request.URL
			if segments := strings.Split(u.EscapedPath(), "/"); u.Host != "api.example.com" || len(segments) != 4 || segments[1] != "a" || segments[3] != "b" || u.Path != "/a/"+value+"/b" {
				rt.Fatalf("URL %s", u)
			}
			if diff := cmp.Diff(url.Values{"fixed": {"1"}, "v": {value}, "q": {value}}, u.Query()); diff != "" {
				rt.Fatal(diff)
			}
			form, err := url.ParseQuery(s.sent)
			if diff := cmp.Diff(url.Values{"f": {value}, "s": {canary}}, form); diff != "" || err != nil {
				rt.Fatal(diff, err)
			}
			if s.request.Header.Get("X-Value") != "v "+value || strings.ContainsAny(value, "\r\n") || len(s.request.Header) != 4 {
				rt.Fatalf("header %q", s.request.Header)
			}
		} else if strings.Contains(err.Error(), canary) {
			rt.Fatal(err)
		}
		token := &grant.Token{AccessToken: "t0ken", Type: "Bearer"}
		for _, name := range []string{"json", "xml", "graphql", "raw", "multipart"} {
			req, err := p.Request(t.Context(), name, nil, token)
			if err != nil {
				continue // refused, which is safe, too
			}
			body, _ := io.ReadAll(req.Body)
			if strings.Contains(fmt.Sprint(req.URL, req.Header, string(body)), canary) {
				rt.Fatal("a secret is in a request to the API")
			}
			var got, want any
			switch name {
			case "xml":
				var x struct {
					B string `xml:"b,attr"`
					C string `xml:"c"`
				}
				if err := xml.Unmarshal(body, &x); err != nil {
					rt.Fatalf("%v in %q", err, body)
				}
				got, want = []string{x.B, x.C}, []string{value, value}
			case "multipart":
				_, params, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
				if err != nil {
					rt.Fatal(err)
				}
				form, err := multipart.NewReader(strings.NewReader(string(body)), params["boundary"]).ReadForm(1 << 20)
				if err != nil {
					rt.Fatal(err)
				}
				got, want = form.Value, map[string][]string{"m": {value}}
			default:
				if err := json.Unmarshal(body, &got); err != nil {
					rt.Fatalf("%v in %q", err, body)
				}
				quoted, _ := json.Marshal(value)
				want = map[string]any{
					"json":    map[string]any{"a": []any{value}, "b": map[string]any{"c": "x" + value, "n": 1.0}},
					"raw":     map[string]any{"a": value},
					"graphql": map[string]any{"query": "", "variables": map[string]any{"v": value}},
				}[name]
				if m := got.(map[string]any); name == "graphql" { // a string of GraphQL is one of JSON
					inside, _ := strings.CutPrefix(m["query"].(string), "{ a(b: ")
					inside, _ = strings.CutSuffix(inside, ") }")
					var text string
					if json.Unmarshal([]byte(inside), &text) != nil || text != value {
						rt.Fatalf("query %q, want %s", m["query"], quoted)
					}
					m["query"] = ""
				}
			}
			if !reflect.DeepEqual(got, want) {
				rt.Fatalf("%s: %q, want %q", name, got, want)
			}
		}
	})
}

// TestHosts has values for places in a host.
func TestHosts(t *testing.T) {
	d := parse(t, "name: a\ntitle: x\ninputs: [{key: h}, {key: r}, {key: u}]\nrequest: {url: 'https://{{h}}/'}\napply: {base_url: 'https://login.{{r}}/x'}\ndiscover: {request: {url: '{{u}}/y'}, extract: {z: z}}\n")
	for _, c := range []struct {
		h, r, u string
		ok      bool
	}{
		{"example.com", "eu.example.com", "https://login.eu.example.com", true},
		{"example.com:8443", "eu.example.com", "https://login.eu.example.com/", true},
		{"example.com/evil", "a.com", "https://login.a.com", false},
		{"a@example.com", "a.com", "https://login.a.com", false},
		{"example.com:99999", "a.com", "https://login.a.com", false},
		{"example.com", "a.com/evil", "https://login.a.com", false},
		{"example.com", "a.com?x", "https://login.a.com", false},
		{"example.com", "", "https://login.a.com", false},
		{"example.com", "a.com", "http://login.a.com", false},
		{"example.com", "a.com", "https://evil.com", false}, // neither the base URL's host nor an allowed one
		{"example.com", "a.com", "https://login.a.com?x=y", false},
		{"example.com", "a.com", "javascript:alert(1)", false},
	} {
		p, err := plan(t, d, map[string]string{"h": c.h, "r": c.r, "u": c.u})
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Token(t.Context(), &sender{body: `{"access_token":"t0ken","z":"1"}`}, nil)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestLifetimes has the ways vendors tell a lifetime.
func TestLifetimes(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		rule, answer string
		want         time.Duration
	}{
		{"{path: t}", `{"t":"x","expires_in":"60"}`, time.Minute},
		{"{path: a.t}", `{"a":{"t":"x","expires_in":60}}`, time.Minute},
		{"{path: t}", `{"t":"x"}`, 5 * time.Minute},
		{"{path: t, default_lifetime: 2h}", `{"t":"x"}`, 2 * time.Hour},
		{"{path: t, lifetime: 20m}", `{"t":"x","expires_in":60}`, 20 * time.Minute},
		{"{path: t, renew_before: 10s}", `{"t":"x","expires_in":60}`, 50 * time.Second},
		{"{path: t, expires: ttl}", `{"t":"x","ttl":90}`, 90 * time.Second},
		{"{path: t, expires: {path: ttl, unit: ms}}", `{"t":"x","ttl":90000}`, 90 * time.Second},
		{"{path: t, expires: {path: ttl, unit: min}}", `{"t":"x","ttl":"30"}`, 30 * time.Minute},
		{"{path: t, expires: {path: ttl, format: 'D:HH:MM'}}", `{"t":"x","ttl":"0:08:00"}`, 8 * time.Hour},
		{"{path: t, expires: {path: ttl, format: 'H:MM:SS'}}", `{"t":"x","ttl":"363:10:57"}`, 363*time.Hour + 10*time.Minute + 57*time.Second},
		{"{path: t, expires: {path: ttl, format: iso8601}}", `{"t":"x","ttl":"P1DT2H"}`, 26 * time.Hour},
		{"{path: t, expires: {path: u, as: at}}", fmt.Sprintf(`{"t":"x","u":%d}`, now.Add(time.Hour).UnixMilli()), time.Hour},
		{"{path: t, expires: {path: u, format: unix}}", fmt.Sprintf(`{"t":"x","u":%d}`, now.Add(time.Hour).Unix()), time.Hour},
		{"{path: t, expires: {path: u, format: unix_ms}}", fmt.Sprintf(`{"t":"x","u":"%d"}`, now.Add(time.Hour).UnixMilli()), time.Hour},
		{"{path: t, expires: {path: u, format: rfc3339}}", `{"t":"x","u":"` + now.Add(time.Hour).Format(time.RFC3339) + `"}`, time.Hour},
		{"{path: t, expires: {path: u, format: dotnet}}", fmt.Sprintf(`{"t":"x","u":"/Date(%d)/"}`, now.Add(time.Hour).UnixMilli()), time.Hour},
		{"{path: t, expires: {path: u, format: 'YYYY-MM-DD HH:mm:ss'}}", `{"t":"x","u":"` + now.UTC().Add(time.Hour).Format(time.DateTime) + `"}`, time.Hour},
		{"{path: 0.tokens.1.t}", `[{"tokens":[{},{"t":"x","expires_in":7}]}]`, 7 * time.Second},
		{"{path: '..t'}", `{"a":[{"b":{"t":"x"}}]}`, 5 * time.Minute},
		{"{path: $}", `"x"`, 5 * time.Minute},
		{"{path: $, match: 'sid=(\\w+)'}", "sid=abc&x=1", 5 * time.Minute},
		{"{header: X-Auth}", ``, 5 * time.Minute},
		{"{cookie: SID}", ``, 5 * time.Minute},
		{"{value: 'a-{{b}}'}", `{"b":"c"}`, 5 * time.Minute},
		{"{path: t, expires: {path: t, match: 'exp=(\\d+)'}}", `{"t":"st=1~exp=77~hmac=x"}`, 77 * time.Second},
		{"{path: t, expires: {value: '{{b}}', unit: min}}", `{"t":"x","b":3}`, 3 * time.Minute},
		{"{path: t, expires: {path: u, match: '\\d+', unit: h}}", `{"t":"x","u":"12 hours"}`, 12 * time.Hour},
		{"{path: t, expires: {path: u, format: 'M/D/YYYY h:mm:ss A'}}", `{"t":"x","u":"` + now.UTC().Add(time.Hour).Format("1/2/2006 3:04:05 PM") + `"}`, time.Hour},
		{"{path: t, expires: {path: u, format: 'ddd, DD MMM YYYY HH:mm:ss [GMT]'}}", `{"t":"x","u":"` + now.UTC().Add(time.Hour).Format(http.TimeFormat) + `"}`, time.Hour},
		{"{path: 'l.[k=main].t'}", `{"l":[{"k":"old"},{"k":"main","t":"x","expires_in":9}]}`, 9 * time.Second},
		{"{path: 'l[on=true].t'}", `{"l":[{"on":false},{"on":true,"t":"x"}]}`, 5 * time.Minute},
		{"{path: '[k=a.b].t'}", `[{"k":"a.b","t":"x"}]`, 5 * time.Minute},
		{"{cookie: '*'}", ``, 5 * time.Minute},
	} {
		d := parse(t, "name: a\ntitle: x\nrequest: {url: https://example.com/token, extract: {b: {path: b, optional: true}}}\ntoken: "+c.rule+"\n")
		p, err := plan(t, d, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, err := p.Token(t.Context(), &sender{body: c.answer, header: http.Header{"X-Auth": {"x"}, "Set-Cookie": {"SID=x; Path=/"}}}, nil)
		if err != nil {
			t.Errorf("%s %s: %v", c.rule, c.answer, err)
			continue
		}
		if got := token.Lifetime(); got < c.want-2*time.Second || got > c.want+time.Second {
			t.Errorf("%s %s: %v, want %v", c.rule, c.answer, got, c.want)
		}
	}
}

// TestErrors200 has good statuses that are errors, and where vendors put their errors.
func TestErrors200(t *testing.T) {
	d := parse(t, "name: a\ntitle: x\ninputs: [{key: s, type: secret}]\nrequest: {url: https://example.com/token, headers: {X-Key: '{{s}}'}}\nerrors:\n  when: [{path: success, equals: 'false'}]\n  code: err.code\n  message: err.text\n  invalid_client: ['1001']\n  temporary: ['busy']\n")
	p, err := plan(t, d, map[string]string{"s": "s3cr3t-value"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status     int
		body, code string
		class      grant.Class
	}{
		{200, `{"success":false,"err":{"code":1001,"text":"bad key s3cr3t-value"}}`, "invalid_client", grant.Permanent},
		{400, `{"err":{"code":"busy","text":"later"}}`, "busy", grant.Temporary},
		{500, `oops`, "", grant.Temporary},
		{429, `{}`, "", grant.Throttled},
	} {
		_, err := p.Token(t.Context(), &sender{status: c.status, body: c.body}, nil)
		var e *grant.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Class != c.class || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v %+v", c.body, err, e)
		}
	}
}

// TestSigV4 compares with the signer of the AWS SDK.
func TestSigV4(t *testing.T) {
	d, _ := connector.Find("aws")
	p, err := plan(t, d, map[string]string{"host": "x.execute-api.eu-central-1.amazonaws.com", "region": "eu-central-1", "access_key": "AKID", "secret_key": "s3cret", "session_token": "tok"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ method, url, body string }{
		{"GET", "https://x.execute-api.eu-central-1.amazonaws.com/", ""},
		{"GET", "https://x.execute-api.eu-central-1.amazonaws.com/a%20b/c%2Fd/(e)?z=1&a=b%20c&a=&k=%2F", ""},
		{"POST", "https://x.execute-api.eu-central-1.amazonaws.com/p", `{"a":1}`},
	} {
		req, err := http.NewRequest(c.method, c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if err := p.Apply(req, nil); err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := http.NewRequest(c.method, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		theirs.Header.Set("Content-Type", "application/json")
		credentials := aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "s3cret", SessionToken: "tok"}
		if err := v4.NewSigner().SignHTTP(t.Context(), credentials, theirs, hashOf(c.body), "execute-api", "eu-central-1", at); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(theirs.Header.Get("Authorization"), req.Header.Get("Authorization")); diff != "" {
			t.Errorf("%s (-theirs +ours):\n%s", c.url, diff)
		}
	}
}

// TestRefused has signs in answers of an API, and leaves their bodies whole.
func TestRefused(t *testing.T) {
	d := parse(t, "name: a\ntitle: x\nextends: oauth2\ndetect:\n  statuses: [401]\n  when: [{status: 200, path: errors.0.code, equals: '601'}, {header: X-Login, equals: required}]\n")
	p, err := plan(t, d, map[string]string{"client_id": "a", "client_secret": "b", "token_endpoint": "https://example.com/token"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status int
		body   string
		header http.Header
		want   bool
	}{
		{401, "", nil, true},
		{403, "", nil, false},
		{200, `{"errors":[{"code":601}]}`, nil, true},
		{200, `{"errors":[{"code":"602"}]}`, nil, false},
		{500, `{"errors":[{"code":601}]}`, nil, false},
		{302, "", http.Header{"X-Login": {"required"}}, true},
		{200, strings.Repeat("x", 1<<17), nil, false},
	} {
		header := c.header
		if header == nil {
			header = http.Header{"Content-Type": {"application/json"}}
		}
		resp := &http.Response{StatusCode: c.status, Header: header, Body: io.NopCloser(strings.NewReader(c.body))}
		if got := p.Refused(resp); got != c.want {
			t.Errorf("%d %.40s: %v", c.status, c.body, got)
		}
		if rest, _ := io.ReadAll(resp.Body); string(rest) != c.body {
			t.Errorf("%d: the body became %d bytes", c.status, len(rest))
		}
	}
}

func hashOf(body string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(body))) }

// TestAnswers has tokens that stand in unusual places: what is asked, what is answered, and the token.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		definition  string
		status      int
		header      http.Header
		body, token string
	}{
		"text in quotes":       {"request: {url: https://a.example.com/}\ntoken: {path: $}", 200, http.Header{"Content-Type": {"text/plain"}}, `"t0ken"`, "t0ken"},
		"text":                 {"request: {url: https://a.example.com/}\ntoken: {path: $}", 200, http.Header{"Content-Type": {"text/html"}}, "t0ken\n", "t0ken"},
		"all cookies":          {"request: {url: https://a.example.com/}\ntoken: {cookie: '*'}", 204, http.Header{"Set-Cookie": {"A=1; Path=/", "B=2", "old=; Max-Age=0"}}, "", "A=1; B=2"},
		"a redirect":           {"request: {url: https://a.example.com/, accept: [302]}\ntoken: {header: Location, match: 'code=(\\w+)'}", 302, http.Header{"Location": {"https://b.example.com/?code=t0ken&x=1"}}, "", "t0ken"},
		"JSON in JSON":         {"request: {url: https://a.example.com/, extract: {inner: body.data}}\ntoken: {value: '{{parse_json(inner).session.id}}'}", 200, nil, `{"body":{"data":"{\"session\":{\"id\":\"t0ken\"}}"}}`, "t0ken"},
		"XML in SOAP":          {"request: {url: https://a.example.com/, extract: {inner: ..LoginResult}}\ntoken: {value: '{{parse_xml(inner).r.sid}}'}", 200, http.Header{"Content-Type": {"application/soap+xml; charset=utf-8"}}, `<s:Envelope xmlns:s="x"><s:Body><LoginResponse><LoginResult>&lt;r&gt;&lt;sid&gt;t0ken&lt;/sid&gt;&lt;/r&gt;</LoginResult></LoginResponse></s:Body></s:Envelope>`, "t0ken"},
		"a form":               {"request: {url: https://a.example.com/, response: text, extract: {page: $}}\ntoken: {value: '{{match(page, \"name=.csrf. value=.(\\\\w+)\")}}'}", 200, http.Header{"Content-Type": {"text/html"}}, `<input name="csrf" value="t0ken">`, "t0ken"},
		"a member of XML":      {"request: {url: https://a.example.com/}\ntoken: {path: 'r.s[@name=sid].v'}", 200, http.Header{"Content-Type": {"text/xml"}}, `<r><s name="sid"><v>t0ken</v></s></r>`, "t0ken"},
		"a signed token query": {"request: {url: https://a.example.com/, query: {b: '2', a: '1', sign: '{{join_pairs(sort(request.params), \"\", \"\")}}'}, headers: {X: '{{request.query}}'}}\ntoken: {path: t}", 200, nil, `{"t":"t0ken"}`, "t0ken"},
		"a signed token body":  {"request: {url: https://a.example.com/, body: {json: {a: b}}, headers: {X: '{{hex(sha256(request.body))}}'}}\ntoken: {path: t}", 200, nil, `{"t":"t0ken"}`, "t0ken"},
	} {
		d := parse(t, "name: a\ntitle: x\n"+c.definition+"\n")
		for _, w := range d.Warnings {
			t.Error(name, w)
		}
		p, err := plan(t, d, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &sender{status: c.status, header: c.header, body: c.body}
		token, err := p.Token(t.Context(), s, nil)
		if err != nil || string(token.AccessToken) != c.token {
			t.Errorf("%s: %v %v", name, token, err)
			continue
		}
		want := map[string]string{"a signed token query": "b=2&a=1&sign=a1b2", "a signed token body": hashOf(`{"a":"b"}`)}[name]
		if got := s.request.Header.Get("X"); got != want {
			t.Errorf("%s: signed %s", name, got)
		}
	}
}
