package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// aboutProvider is what a provider says of itself (OpenID Connect Discovery 1.0 section 3).
type aboutProvider struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Challenges    []string `json:"code_challenge_methods_supported"`
	Scopes        []string `json:"scopes_supported"`
}

// TestSSO reads what a provider says of itself, and reports whether the hub could sign people in
// by it with the settings s, which are not saved. Whether the provider knows the client shows the
// first sign-in only. It takes the permission WriteSSO; wrong settings are an error of code Invalid.
func (p *People) TestSSO(ctx context.Context, who Caller, s grantway.SingleSignOn) (grantway.Report, error) {
	event := grantway.Event{Action: "sso.test", Object: "sso", Detail: s.Issuer}
	if err := p.Audit.Require(ctx, who, WriteSSO, Everywhere, event); err != nil {
		return grantway.Report{}, err
	}
	old, err := readSSO(ctx, p.Store.Read())
	if err != nil {
		return grantway.Report{}, err
	}
	draft := &sso{SingleSignOn: s}
	draft.Rules = slices.Clone(s.Rules)
	if err := draft.check(ctx, p.Store.Read(), old); err != nil {
		return grantway.Report{}, err
	}
	if p.HTTP == nil {
		return grantway.Report{}, grantway.Errorf(grantway.Unavailable, "this hub makes no outgoing calls")
	}
	report := grantway.Report{OK: true, At: time.Now().UTC().Truncate(time.Millisecond)}
	p.tryProvider(ctx, draft, &report)
	event.Outcome = Done
	if !report.OK {
		event.Outcome = Failed
	}
	return report, p.Store.Write(ctx, func(tx *store.Tx) error { return p.Audit.Record(ctx, tx, who, event) })
}

func (p *People) tryProvider(ctx context.Context, s *sso, report *grantway.Report) {
	began := time.Now()
	step := func(name, result, message, hint string) {
		report.OK = report.OK && result != "failed"
		report.Steps = append(report.Steps, grantway.Step{Name: name, Result: result, Message: message, Hint: hint, Millis: time.Since(began).Milliseconds()})
		began = time.Now()
	}
	var about aboutProvider
	if err := p.readJSON(ctx, strings.TrimSuffix(s.Issuer, "/")+"/.well-known/openid-configuration", &about); err != nil {
		step("discovery", "failed", "The provider does not describe itself: "+err.Error()+".", "Check the issuer: what follows it is /.well-known/openid-configuration. A private address also needs --allow-networks.")
		return
	}
	if about.Issuer != s.Issuer {
		step("discovery", "failed", fmt.Sprintf("The provider calls itself %q.", about.Issuer), "Enter the issuer exactly so.")
		return
	}
	step("discovery", "ok", "The provider describes itself at this address.", "")
	for _, one := range [][2]string{{"authorization_endpoint", about.Authorization}, {"token_endpoint", about.Token}, {"jwks_uri", about.Keys}} {
		if u, err := url.Parse(one[1]); err != nil || u.Host == "" {
			step("endpoints", "failed", "The provider names no "+one[0]+".", "It cannot sign people in by the authorization code flow.")
			return
		}
	}
	step("endpoints", "ok", "It names where to sign in and where to get tokens.", "")
	var keys struct {
		Keys []json.RawMessage `json:"keys"`
	}
	switch err := p.readJSON(ctx, about.Keys, &keys); {
	case err != nil:
		step("keys", "failed", "Its keys cannot be read: "+err.Error()+".", "Without them nobody can tell whether an answer is the provider's.")
		return
	case len(keys.Keys) == 0:
		step("keys", "failed", "It has no keys.", "Without them nobody can tell whether an answer is the provider's.")
		return
	}
	step("keys", "ok", "Its keys can be read.", "")
	if slices.Contains(about.Challenges, "S256") {
		step("pkce", "ok", "It supports PKCE (S256).", "")
	} else {
		step("pkce", "warning", "It does not say that it supports PKCE (S256).", "The hub uses it all the same; most providers ignore what they do not know.")
	}
	var unknown []string
	for _, scope := range strings.Fields(s.Scopes) {
		if about.Scopes != nil && !slices.Contains(about.Scopes, scope) {
			unknown = append(unknown, scope)
		}
	}
	if unknown != nil {
		step("scopes", "warning", "It does not list the scopes "+strings.Join(unknown, ", ")+".", "A provider need not list all that it knows.")
	} else {
		step("scopes", "ok", "It does not object to the scopes.", "")
	}
}

// readJSON reads a document of a provider. Its errors are for people, and hold nothing of what
// was answered.
func (p *People) readJSON(ctx context.Context, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("that is no address")
	}
	r.Header.Set("Accept", "application/json")
	answer, err := bounded(p.HTTP).Do(r)
	if err != nil {
		var wrapped *url.Error
		var dns *net.DNSError
		switch {
		case errors.As(err, &dns):
			return fmt.Errorf("the name %s is not known", dns.Name)
		case errors.As(err, &wrapped):
			return wrapped.Err
		}
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the answer has status %d", answer.StatusCode)
	}
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		return errors.New("the answer is not JSON")
	}
	return nil
}
