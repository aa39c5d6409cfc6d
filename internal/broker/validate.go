package broker

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store"
)

// The results of a step.
const (
	stepOK      = "ok"
	stepWarning = "warning"
	stepFailed  = "failed"
)

// Validate makes one token request with c and reports each step of it. c is a draft when
// it has no ID. With an ID, what it leaves out is that of the saved credential; with no
// inputs at all it is the saved credential, whose health then follows the outcome, and
// which keeps the token. Nothing is saved, and the secret is not in the report.
func (b *Broker) Validate(ctx context.Context, who access.Caller, c grantway.Credential) (grantway.Report, error) {
	saved := c.ID != "" && c.Inputs == nil
	var h *head
	if c.ID != "" {
		p := access.ValidateCredential
		if !saved { // stored secrets go where the caller says, as after a save
			p = access.WriteCredential
		}
		var err error
		if h, err = b.find(ctx, who, c.ID, p); err != nil {
			return grantway.Report{}, err
		}
		old, _, err := b.read(ctx, h.id)
		if err != nil {
			return grantway.Report{}, err
		}
		c.ID = h.id
		c.Name, c.Connector, c.Division = cmp.Or(c.Name, old.Name), old.Connector, cmp.Or(c.Division, old.Division)
		c.Description = cmp.Or(c.Description, old.Description)
		c.ConnectorVersion = cmp.Or(c.ConnectorVersion, old.ConnectorVersion)
		if saved {
			c.Inputs = old.Inputs
		}
	}
	d, err := b.draft(ctx, who, c, access.ValidateCredential)
	if err != nil {
		return grantway.Report{}, err
	}
	v := &validation{b: b, d: d, report: grantway.Report{At: time.Now().UTC().Truncate(time.Millisecond)}}
	token, failure := v.run(ctx)
	v.report.OK = !slices.ContainsFunc(v.report.Steps, func(s grantway.Step) bool { return s.Result == stepFailed })
	if saved {
		b.validated(ctx, h, token, failure)
	}
	outcome := access.Done
	if !v.report.OK {
		outcome = access.Failed
	}
	event := grantway.Event{Action: "credential.validate", Outcome: outcome, Object: object(d.Name)}
	if access.WrongName(d.Division) == "" {
		event.Division = d.Division
	}
	if d.old != nil { // what was tried in place of the stored settings
		event.Object, event.Division, event.Fields = object(d.old.Name), d.old.Division, d.changed()
	}
	ctx = context.WithoutCancel(ctx) // a token was asked for, whether or not somebody waits for the report
	err = b.Store.Write(ctx, func(tx *store.Tx) error {
		return b.Audit.Record(ctx, tx, who, event)
	})
	return v.report, err
}

// validated makes what Validate found out about a saved credential known to all who use it.
func (b *Broker) validated(ctx context.Context, h *head, t *grant.Token, failure error) {
	key := b.key(h, "")
	l := &lending{b: b, key: rowKey(key)}
	if t == nil {
		if failure != nil {
			b.storeFailure(ctx, h, l, failure)
		}
		return
	}
	b.cache.Put(key, t)
	b.storeToken(ctx, h, l, t)
	if err := b.endBackOff(ctx, h); err != nil {
		b.databaseAway(err)
	}
}

// validation is one run of Validate.
type validation struct {
	b      *Broker
	d      *draft
	report grantway.Report
}

// step adds a step that took from began until now.
func (v *validation) step(name, result string, began time.Time, message, hint string) *grantway.Step {
	v.report.Steps = append(v.report.Steps, grantway.Step{Name: name, Result: result, Message: message, Hint: hint, Millis: time.Since(began).Milliseconds()})
	return &v.report.Steps[len(v.report.Steps)-1]
}

// run goes through the steps until one fails. failure is that of a token request.
func (v *validation) run(ctx context.Context) (t *grant.Token, failure error) {
	began := time.Now()
	if fields := v.d.def.Check(v.d.Inputs); fields != nil {
		v.step("settings", stepFailed, began, (&grantway.Error{Message: "a field is wrong", Fields: fields}).Error(), "Correct the fields that are named.")
		return nil, nil
	}
	v.step("settings", stepOK, began, "All required fields are set and well formed.", "")

	values, ok := v.secrets(ctx)
	if !ok {
		return nil, nil
	}
	plan, err := v.d.def.Compile(values)
	if err != nil {
		v.step("settings", stepFailed, began, err.Error(), "Correct the fields that are named.")
		return nil, nil
	}
	if v.d.def.HasToken() {
		if t, failure = v.request(ctx, plan, values); t == nil {
			return nil, failure
		}
		v.claims(t)
	}
	v.verify(ctx, plan, t)
	return t, failure
}

// verify makes the harmless request to the API that the connector names.
func (v *validation) verify(ctx context.Context, plan *connector.Plan, t *grant.Token) {
	if !v.d.def.HasVerify() {
		return
	}
	began := time.Now()
	req, err := plan.Request(ctx, "verify", nil, t)
	if err != nil {
		v.step("verify", stepFailed, began, err.Error(), "")
		return
	}
	answer, err := v.b.provider.Exchange(ctx, &grant.Exchange{Request: req, Certificate: plan.Certificate(), Secrets: sentSecrets(req, t)})
	if err == nil {
		err = plan.Verify(answer)
	}
	if err != nil {
		step := v.step("verify", stepFailed, began, "The API did not accept a request: "+strings.TrimPrefix(err.Error(), "token request: ")+".",
			"The credential gets a token, but the API refuses it. Check what the client may do at the provider.")
		var failed *grant.Error
		if errors.As(err, &failed) {
			step.Code, step.HTTPCode = failed.Code, failed.Status
		}
		return
	}
	v.step("verify", stepOK, began, fmt.Sprintf("%s %s answered %d.", req.Method, req.URL.Path, answer.Status), "")
}

// sentSecrets is what must not be repeated of an authorized request: whatever the connector
// put into it.
func sentSecrets(req *http.Request, t *grant.Token) []string {
	var secrets []string
	if t != nil {
		secrets = append(secrets, string(t.AccessToken))
	}
	for name, values := range req.Header {
		if !slices.Contains([]string{"Accept", "Content-Type", "User-Agent"}, name) {
			secrets = append(secrets, values...)
		}
	}
	for _, values := range req.URL.Query() {
		secrets = append(secrets, values...)
	}
	return secrets
}

func (v *validation) secrets(ctx context.Context) (connector.Values, bool) {
	began := time.Now()
	values := connector.Values{Plain: v.d.Inputs, Secrets: v.d.secrets}
	values.Zone, _ = location(v.d.TimeZone)
	var from, warnings []string
	for _, key := range v.d.def.Secrets() {
		ref := v.d.Inputs[key].Ref
		if ref == nil {
			continue
		}
		resolved, err := v.b.Secrets.Renew(ctx, *ref, 0)
		if err != nil && key == "next_client_secret" { // not needed yet
			warnings = append(warnings, fmt.Sprintf("%s: %v.", key, err))
			continue
		}
		if err != nil {
			v.step("secret", stepFailed, began, fmt.Sprintf("%s: %v.", key, err), secret.Hint(err))
			return values, false
		}
		values.Secrets[key] = resolved
		if trouble := v.b.Secrets.Away(ref.Store); trouble != "" {
			warnings = append(warnings, "It was in memory: "+trouble+". Token requests work until the store's hard limit.")
		}
		from = append(from, fmt.Sprintf("%s from %s/%s", key, ref.Store, v.b.Secrets.Spelling(*ref)))
	}
	if values.Plain["dpop"].Text == "true" && values.Secrets["dpop_key"] == "" {
		key, err := newDPoPKey()
		if err != nil {
			v.step("secret", stepFailed, began, err.Error(), "")
			return values, false
		}
		values.Secrets["dpop_key"] = key
	}
	message := "The secrets are at hand."
	if from != nil {
		message = "Read " + strings.Join(from, ", ") + "."
	}
	if text := string(values.Secrets["client_secret"]); strings.TrimSpace(text) != text {
		warnings = append(warnings, "The client secret begins or ends with a space or a line break, which is usually an accident of copying.")
	}
	result := stepOK
	if warnings != nil {
		result = stepWarning
	}
	v.step("secret", result, began, message, strings.Join(warnings, " "))
	return values, true
}

// request asks for a token over fresh connections, so that name resolution and TLS are seen.
func (v *validation) request(ctx context.Context, plan *connector.Plan, values connector.Values) (*grant.Token, error) {
	transport := v.b.Outbound.Transport().Clone()
	transport.DisableKeepAlives = true
	provider := &grant.Client{Transport: transport, Timeout: providerTimeout}
	defer provider.CloseIdleConnections()

	began := time.Now()
	var noted marks
	t, err := plan.Token(httptrace.WithClientTrace(ctx, noted.trace()), provider, nil)
	at := noted.snapshot()
	var failed *grant.Error
	if err != nil && !errors.As(err, &failed) {
		failed = &grant.Error{Stage: grant.StageRequest, Class: grant.Temporary, Message: err.Error(), Err: err}
	}
	v.connection(ctx, plan, began, at, failed)
	if failed == nil {
		v.accepted(plan.OAuth2(), t, cmp.Or(at.answered, began))
		return t, nil
	}
	text, advice := failed.Error(), hint(failed, values.Secrets)
	if failed.Code == "invalid_client" {
		advice = cmp.Or(v.otherEncoding(ctx, provider, plan.OAuth2()), advice)
	}
	step := v.step(string(failed.Stage), stepFailed, at.since(failed.Stage, began), text, advice)
	step.Code, step.HTTPCode = failed.Code, failed.Status
	return nil, failed
}

// connection reports the steps before the answer, up to the one that failed.
func (v *validation) connection(ctx context.Context, plan *connector.Plan, began time.Time, at *passed, failed *grant.Error) {
	reached := func(stage grant.Stage) bool {
		order := []grant.Stage{grant.StagePrepare, grant.StageAddress, grant.StageTLS, grant.StageRequest, grant.StageResponse}
		return failed == nil || slices.Index(order, failed.Stage) > slices.Index(order, stage)
	}
	requests, err := plan.Preview(ctx)
	if err != nil || len(requests) == 0 || !reached(grant.StageAddress) {
		return
	}
	request := requests[len(requests)-1]
	u, err := url.Parse(request.URL)
	if err != nil {
		return
	}
	add := func(name, message string, from, to time.Time) {
		if from.IsZero() || to.IsZero() {
			from, to = began, began
		}
		v.report.Steps = append(v.report.Steps, grantway.Step{Name: name, Result: stepOK, Message: message, Millis: to.Sub(from).Milliseconds()})
	}
	add("address", fmt.Sprintf("Connected to %s (%s).", u.Host, at.peer), began, at.connected)
	if u.Scheme == "https" && reached(grant.StageTLS) {
		add("tls", at.describeTLS(), at.connected, at.secured)
	}
	if reached(grant.StageRequest) {
		message := fmt.Sprintf("%s %s.", request.Method, u.Path)
		if r := plan.OAuth2(); r != nil {
			message = fmt.Sprintf("POST %s, authenticated by %s.", u.Path, r.Auth.Method())
		} else if len(requests) > 1 {
			message = fmt.Sprintf("%d requests, the last one %s %s.", len(requests), request.Method, u.Path)
		}
		add("request", message, cmp.Or(at.secured, at.connected), at.answered)
	}
}

// accepted reports a token. request is nil if it was not one of RFC 6749.
func (v *validation) accepted(request *grant.Request, t *grant.Token, began time.Time) {
	result, advice := stepOK, []string(nil)
	warn := func(text string) { result, advice = stepWarning, append(advice, text) }
	message := fmt.Sprintf("%s token, valid for %s", t.Type, t.Lifetime().Round(time.Second))
	switch t.ExpirySource {
	case "jwt":
		message += " (from the token's exp claim)"
	case "default":
		warn("The answer does not say how long the token is valid; the default lifetime is used. Set it if you know better.")
	}
	if t.Scope != "" {
		message += ", scope " + t.Scope
	}
	if request == nil { // no scope was asked for in a way that is known here
	} else if missing := grant.MissingScopes(request.Scope, t); missing != nil {
		warn("Not granted: " + strings.Join(missing, " ") + ". Allow the scope for this client at the provider.")
	}
	v.step("response", result, began, message+".", strings.Join(advice, " "))
}

// shownClaims are the claims of an access token that help people; others may be personal.
var shownClaims = []string{"iss", "sub", "aud", "azp", "appid", "client_id", "scope", "scp", "roles", "tid", "iat", "nbf", "exp", "cnf"}

func (v *validation) claims(t *grant.Token) {
	began := time.Now()
	claims := t.Claims()
	if claims == nil {
		return
	}
	v.report.Claims = map[string]any{}
	for _, name := range shownClaims {
		if value, ok := claims[name]; ok {
			v.report.Claims[name] = value
		}
	}
	if text, err := json.Marshal(claims["aud"]); err == nil && claims["aud"] != nil {
		v.step("claims", stepOK, began, "The token is a JWT for "+string(text)+".", "")
		return
	}
	v.step("claims", stepWarning, began, "The token is a JWT without an audience.", "")
}

// otherEncoding tries the other way to write a Basic header. Only here, where somebody is
// watching, is the provider asked twice.
func (v *validation) otherEncoding(ctx context.Context, provider *grant.Client, request *grant.Request) string {
	if request == nil {
		return ""
	}
	basic, ok := request.Auth.(grant.Basic)
	if !ok || (url.QueryEscape(string(basic.Secret)) == string(basic.Secret) && url.QueryEscape(request.ClientID) == request.ClientID) {
		return ""
	}
	other := *request
	other.Auth = grant.Basic{Secret: basic.Secret, Raw: !basic.Raw}
	if _, err := provider.Token(ctx, &other); err != nil {
		return ""
	}
	return fmt.Sprintf("A second request with the other Basic encoding worked: set basic_encoding to %s.", map[bool]string{true: "rfc6749", false: "raw"}[basic.Raw])
}

// marks notes when a request passed its stages. The hooks of a trace may be called from
// several goroutines, and after the request has ended; snapshot is for reading.
type marks struct {
	mu sync.Mutex // guards passed
	passed
}

type passed struct {
	peer                         string
	connected, secured, answered time.Time
	state                        tls.ConnectionState
}

func (m *marks) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		ConnectDone: func(_, addr string, err error) {
			if err == nil {
				m.note(func() { m.peer, m.connected = addr, time.Now() })
			}
		},
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil {
				m.note(func() { m.state, m.secured = state, time.Now() })
			}
		},
		GotFirstResponseByte: func() { m.note(func() { m.answered = time.Now() }) },
	}
}

func (m *marks) note(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *marks) snapshot() *passed {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.passed
	return &p
}

// since is when the given stage began.
func (m *passed) since(stage grant.Stage, began time.Time) time.Time {
	switch stage {
	case grant.StageTLS:
		return cmp.Or(m.connected, began)
	case grant.StageRequest:
		return cmp.Or(m.secured, m.connected, began)
	case grant.StageResponse:
		return cmp.Or(m.answered, began)
	}
	return began
}

func (m *passed) describeTLS() string {
	text := tls.VersionName(m.state.Version)
	if len(m.state.PeerCertificates) > 0 {
		c := m.state.PeerCertificates[0]
		text += fmt.Sprintf(", certificate of %s, valid until %s", cmp.Or(c.Subject.CommonName, strings.Join(c.DNSNames, ", ")), c.NotAfter.Format(time.DateOnly))
	}
	return text + "."
}
