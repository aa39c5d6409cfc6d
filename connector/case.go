package connector

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// Case is a recorded case: inputs of a definition, the token requests they come to and how
// the vendor answers, and what comes of it. It is run without a network.
type Case struct {
	Name      string            `json:"name" doc:"What it shows."`
	Inputs    map[string]string `json:"inputs,omitempty" doc:"Values of the inputs, secrets too: use made-up ones."`
	Now       string            `json:"now,omitempty" doc:"The time, RFC 3339. Empty is 2026-01-02T03:04:05Z."`
	Exchanges []Exchange        `json:"exchanges,omitempty" doc:"Requests and answers, in order."`
	Token     *CaseToken        `json:"token,omitempty" doc:"The token that comes of it."`
	Error     string            `json:"error,omitempty" doc:"What the error says, if there is no token."`
	API       []Call            `json:"api,omitempty" doc:"Requests to the API."`
}

// Exchange is a request and its answer, each as HTTP writes them.
type Exchange struct {
	Request  string `json:"request" doc:"Method and URL, headers, an empty line and the body."`
	Response string `json:"response" doc:"Status, headers, an empty line and the body."`
}

// CaseToken is a token.
type CaseToken struct {
	Value    string            `json:"value,omitempty" doc:"The token. Empty is not compared."`
	Type     string            `json:"type,omitempty" doc:"Its type."`
	Lifetime int               `json:"lifetime,omitempty" doc:"Seconds."`
	Scope    string            `json:"scope,omitempty" doc:"Its scope."`
	Kept     map[string]string `json:"kept,omitempty" doc:"What is kept with it."`
}

// Call is a request to the API.
type Call struct {
	Call    string            `json:"call" doc:"Name of an endpoint, verify, or a method and a path."`
	Inputs  map[string]string `json:"inputs,omitempty" doc:"Values of the endpoint's inputs."`
	Body    string            `json:"body,omitempty" doc:"Body of a call that is a method and a path."`
	Type    string            `json:"type,omitempty" doc:"Its content type. Empty is application/json."`
	Request string            `json:"request" doc:"As in exchanges."`
}

// caseFile is what NAME.cases.yaml holds.
type caseFile struct {
	Cases []Case `json:"cases"`
}

// ParseCases reads the recorded cases of a definition, as strictly as ParseSource.
func ParseCases(text []byte) ([]Case, error) {
	d := &document{places: map[string]place{}}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, Problems{syntaxProblem(err)}
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, Problems{{Line: 1, Column: 1, Message: "must be one YAML document"}}
	}
	var f caseFile
	d.decode(file.Docs[0].Body, reflect.ValueOf(&f).Elem(), "", 0)
	d.problems.sort()
	return f.Cases, d.problems.wrong()
}

// FormatCases writes cases as ParseCases reads them.
func FormatCases(cases []Case) ([]byte, error) {
	text, err := yaml.MarshalWithOptions(caseFile{cases}, yaml.UseJSONMarshaler(), yaml.UseLiteralStyleIfMultiline(true), yaml.Indent(2))
	if err != nil {
		return nil, err
	}
	return blankLine.ReplaceAll(text, nil), nil
}

// blankLine is a line of blanks, which is an empty one of a literal block.
var blankLine = regexp.MustCompile(`(?m)^ +$`)

// Run runs a recorded case and returns it as it came out: with the requests that were made, the
// token and the requests to the API. It differs from c where the definition does something else
// than was recorded. The error says that the case itself makes no sense.
func (d *Definition) Run(ctx context.Context, c Case) (Case, error) {
	now, err := time.Parse(time.RFC3339, "2026-01-02T03:04:05Z")
	if c.Now != "" {
		now, err = time.Parse(time.RFC3339, c.Now)
	}
	if err != nil {
		return c, errors.New("now must be a time such as 2026-01-02T03:04:05Z")
	}
	v := Values{Plain: map[string]grantway.Value{}, Secrets: map[string]grant.Secret{}}
	check := map[string]grantway.Value{}
	for key, text := range c.Inputs {
		in, _ := d.Input(key)
		check[key] = grantway.Text(text)
		if in.Type == SecretText {
			v.Secrets[key] = grant.Secret(text)
		} else {
			v.Plain[key] = grantway.Text(text)
		}
	}
	if fields := d.Check(check); fields != nil {
		return c, &grantway.Error{Code: grantway.Invalid, Message: "the inputs are wrong", Fields: fields}
	}
	out := c
	out.Exchanges, out.Token, out.Error, out.API = nil, nil, "", nil
	plan, err := d.compile(v, recordedClock(now))
	if err != nil {
		out.Error = err.Error()
		return out, nil
	}
	player := &player{recorded: c.Exchanges, now: now}
	var t *grant.Token
	if d.HasToken() {
		t, err = plan.Token(ctx, player, nil)
		out.Exchanges = player.played
		if err != nil {
			out.Error = err.Error()
			return out, nil
		}
		out.Token = &CaseToken{Value: readable(string(t.AccessToken)), Type: t.Type, Lifetime: int(t.Lifetime() / time.Second), Scope: t.Scope}
		for name, value := range t.Kept {
			if out.Token.Kept == nil {
				out.Token.Kept = map[string]string{}
			}
			out.Token.Kept[name] = string(value)
		}
	}
	for _, call := range c.API {
		req, err := plan.call(ctx, call, t)
		if err != nil {
			call.Request = "error: " + err.Error()
		} else {
			call.Request = dump(req)
		}
		out.API = append(out.API, call)
	}
	return out, nil
}

// call makes the request of a Call.
func (p *Plan) call(ctx context.Context, c Call, t *grant.Token) (*http.Request, error) {
	method, path, found := strings.Cut(c.Call, " ")
	if !found {
		return p.Request(ctx, c.Call, c.Inputs, t)
	}
	base, err := p.BaseURL(t)
	if err != nil {
		return nil, err
	}
	u, err := Join(base, path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(c.Body))
	if err != nil {
		return nil, err
	}
	if c.Body != "" {
		req.Header.Set("Content-Type", jsonType)
		if c.Type != "" {
			req.Header.Set("Content-Type", c.Type)
		}
	}
	return req, p.Apply(req, t)
}

// recordedClock stands still, and its chance is no chance.
func recordedClock(now time.Time) *clock {
	n := byte(0)
	return &clock{now: func() time.Time { return now }, random: func() (b [16]byte) {
		n++
		for i := range b {
			b[i] = n
		}
		return b
	}}
}

// player is the Sender that answers with what was recorded.
type player struct {
	recorded, played []Exchange
	now              time.Time
}

// Ask implements Sender.
func (p *player) Ask(ctx context.Context, r *grant.Request) (*grant.Answer, error) {
	req, err := r.Build(ctx)
	if err != nil {
		return nil, err
	}
	return p.Exchange(ctx, &grant.Exchange{Request: req})
}

// Exchange implements Sender.
func (p *player) Exchange(_ context.Context, x *grant.Exchange) (*grant.Answer, error) {
	one := Exchange{Request: dump(x.Request)}
	if i := len(p.played); i < len(p.recorded) {
		one.Response = p.recorded[i].Response
	}
	p.played = append(p.played, one)
	if one.Response == "" {
		return nil, &grant.Error{Stage: grant.StageRequest, Class: grant.Permanent, Message: fmt.Sprintf("no answer is recorded for request %d", len(p.played))}
	}
	head, body, _ := strings.Cut(strings.ReplaceAll(one.Response, "\r\n", "\n"), "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	status, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return nil, &grant.Error{Stage: grant.StageResponse, Class: grant.Permanent, Message: "the recorded answer must begin with its status"}
	}
	header := http.Header{}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return grant.NewAnswer(x, status, header, []byte(strings.TrimSpace(body)), p.now), nil
}

// dump writes a request so that people can compare it: headers by name without those that
// say nothing, and JWTs decoded.
func dump(r *http.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.Method, r.URL)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			if name == "User-Agent" || name == "Accept" && value == "application/json" {
				continue
			}
			if scheme, rest, ok := strings.Cut(value, " "); ok && readable(rest) != rest {
				value = scheme + " " + readable(rest)
			}
			fmt.Fprintf(&b, "%s: %s\n", name, readable(value))
		}
	}
	if r.Body == nil || r.Body == http.NoBody {
		return b.String()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) == 0 {
		return b.String()
	}
	setBody(r, body)
	b.WriteString("\n")
	if strings.HasPrefix(r.Header.Get("Content-Type"), formType) {
		for i, pair := range strings.Split(string(body), "&") {
			if i > 0 {
				b.WriteString("&")
			}
			name, value, _ := strings.Cut(pair, "=")
			b.WriteString(name + "=" + readable(value))
		}
		b.WriteString("\n")
		return b.String()
	}
	b.WriteString(strings.TrimSpace(strings.ReplaceAll(string(body), "\r\n", "\n")) + "\n")
	return b.String()
}

// readable is value, or what is in it if it is a JWT, with times relative to iat.
func readable(value string) string {
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return value
	}
	var decoded [2]map[string]any
	for i := range decoded {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err != nil || d.Decode(&decoded[i]) != nil || decoded[i] == nil {
			return value
		}
	}
	claims := decoded[1]
	number := func(name string) (int64, bool) {
		n, ok := claims[name].(json.Number)
		if !ok {
			return 0, false
		}
		i, err := n.Int64()
		return i, err == nil
	}
	iat, ok := number("iat")
	for _, name := range []string{"exp", "nbf"} {
		if at, is := number(name); is && ok {
			claims[name] = fmt.Sprintf("iat + %d", at-iat)
		}
	}
	if ok {
		claims["iat"] = "iat"
	}
	if _, is := claims["jti"].(string); is {
		claims["jti"] = "…"
	}
	header, err := marshal(decoded[0])
	if err != nil {
		return value
	}
	payload, err := marshal(claims)
	if err != nil {
		return value
	}
	return "JWT " + string(header) + " " + string(payload)
}

// Differences says in words where two cases differ: what was recorded, and what came out.
func (c Case) Differences(got Case) []string {
	var list []string
	say := func(what, want, got string) {
		if want, got = normal(want), normal(got); want != got {
			list = append(list, fmt.Sprintf("%s: recorded\n%s\nbut it is\n%s", what, indent(want), indent(got)))
		}
	}
	for i := range max(len(c.Exchanges), len(got.Exchanges)) {
		var want, is string
		if i < len(c.Exchanges) {
			want = c.Exchanges[i].Request
		}
		if i < len(got.Exchanges) {
			is = got.Exchanges[i].Request
		}
		say(fmt.Sprintf("request %d", i+1), want, is)
	}
	say("error", c.Error, got.Error)
	want, is := CaseToken{}, CaseToken{}
	if c.Token != nil {
		want = *c.Token
	}
	if got.Token != nil {
		is = *got.Token
	}
	if want.Value == "" {
		is.Value = ""
	}
	if want.Scope == "" {
		is.Scope = ""
	}
	if want.Type == "" {
		is.Type = ""
	}
	wantText, _ := marshal(want)
	isText, _ := marshal(is)
	say("token", string(wantText), string(isText))
	for i, call := range c.API {
		made := ""
		if i < len(got.API) { // it ends at an error
			made = got.API[i].Request
		}
		say("call "+call.Call, call.Request, made)
	}
	return list
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ")
}

// normal is a request without differences that make none: the order of headers.
func normal(s string) string {
	head, body, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")), "\n\n")
	lines := strings.Split(head, "\n")
	for i, line := range lines[1:] {
		name, value, found := strings.Cut(line, ":")
		if found {
			lines[i+1] = http.CanonicalHeaderKey(strings.TrimSpace(name)) + ": " + strings.TrimSpace(value)
		}
	}
	slices.Sort(lines[1:])
	return strings.TrimSpace(strings.Join(lines, "\n") + "\n\n" + strings.TrimSpace(body))
}
