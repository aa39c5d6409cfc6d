package broker_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// steps is a report as "name result" lines.
func steps(r grantway.Report) (list []string) {
	for _, s := range r.Steps {
		list = append(list, s.Name+" "+s.Result)
	}
	return list
}

func wantSteps(t testing.TB, r grantway.Report, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, steps(r)); diff != "" {
		t.Errorf("steps (-want +got):\n%s%s", diff, asJSON(t, r))
	}
}

func lastStep(r grantway.Report) grantway.Step { return r.Steps[len(r.Steps)-1] }

func validate(t testing.TB, hub *grantwaytest.Hub, name string) grantway.Report {
	t.Helper()
	r, err := hub.ValidateCredential(t.Context(), name)
	if err != nil {
		t.Fatalf("validate %s: %v", name, err)
	}
	return r
}

func validateDraft(t testing.TB, hub *grantwaytest.Hub, c grantway.Credential) grantway.Report {
	t.Helper()
	r, err := hub.ValidateDraft(t.Context(), c)
	if err != nil {
		t.Fatalf("validate a draft: %v", err)
	}
	return r
}

func TestValidateReportsEachStep(t *testing.T) {
	each(t, func(t *testing.T, database string) {
		plain, secure := grantwaytest.NewProvider(t), grantwaytest.NewTLSProvider(t)
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database, RootCAs: secure.RootCAs()})
		for _, p := range []*grantwaytest.Provider{plain, secure} {
			p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
			p.Register(grantwaytest.Client{ID: "jwt", Secret: "s3cret", JWT: true})
		}

		r := validateDraft(t, hub, credential(plain, "", nil)) // not even a name yet
		wantSteps(t, r, "settings ok", "secret ok", "address ok", "request ok", "response ok")
		if !r.OK || r.Claims != nil || time.Since(r.At) > time.Minute {
			t.Errorf("report %s", asJSON(t, r))
		}
		contains(t, r.Steps[2].Message, "127.0.0.1:")
		contains(t, r.Steps[3].Message, "POST /token", "client_secret_basic")
		contains(t, r.Steps[4].Message, "Bearer", "valid for 1 hour.")

		r = validateDraft(t, hub, credential(secure, "draft", map[string]string{"client_id": "jwt", "scopes": "read write", "audience": "https://api.example.com"}))
		wantSteps(t, r, "settings ok", "secret ok", "address ok", "tls ok", "request ok", "response ok", "claims ok")
		contains(t, r.Steps[3].Message, "TLS 1.3", "grantwaytest provider", "valid until")
		contains(t, r.Steps[5].Message, "scope read write")
		contains(t, r.Steps[6].Message, "https://api.example.com")
		if !r.OK || r.Claims["scope"] != "read write" || r.Claims["client_id"] != "jwt" || r.Claims["exp"] == nil || r.Claims["jti"] != nil {
			t.Errorf("claims %v", r.Claims)
		}
		if diff := cmp.Diff([]any{"https://api.example.com"}, r.Claims["aud"]); diff != "" {
			t.Errorf("aud (-want +got):\n%s", diff)
		}
		for _, s := range r.Steps {
			if s.Message == "" || s.Millis < 0 || s.Millis > 60_000 || s.Hint != "" || s.Code != "" {
				t.Errorf("step %+v", s)
			}
		}
		for credential := range hub.Credentials(t.Context()) {
			t.Errorf("a draft was saved: %+v", credential)
		}
	})
}

// TestValidateShowsRoles is a token as Microsoft and Keycloak make them.
func TestValidateShowsRoles(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Token.Next(grantwaytest.With("access_token", jwtOf(t, map[string]any{
			"aud": "https://graph.microsoft.com", "roles": []string{"Mail.Read", "Mail.Send"}, "scp": "x", "exp": 1893456000, "email": "someone@example.com"})))
		r := validateDraft(t, hub, credential(p, "draft", nil))
		want := map[string]any{"aud": "https://graph.microsoft.com", "roles": []any{"Mail.Read", "Mail.Send"}, "scp": "x", "exp": 1893456000.0}
		if diff := cmp.Diff(want, r.Claims); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
		p.Token.Next(grantwaytest.With("access_token", jwtOf(t, map[string]any{"sub": "app"})))
		wantSteps(t, validateDraft(t, hub, credential(p, "draft", nil)),
			"settings ok", "secret ok", "address ok", "request ok", "response ok", "claims warning")
	})
}

func TestValidateWarnings(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		for name, c := range map[string]struct {
			reply   grantwaytest.Reply
			message string
			hint    []string
		}{
			"C15 no expires_in":      {grantwaytest.Without("expires_in"), "5 minutes", []string{"does not say how long"}},
			"C17 scope dropped":      {grantwaytest.With("scope", "read"), "scope read", []string{"Not granted: write."}},
			"C17 dropped in the JWT": {grantwaytest.With("access_token", jwtOf(t, map[string]any{"aud": "a", "scope": "write"})), "", []string{"Not granted: read."}},
			"both": {func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
				fmt.Fprint(w, `{"access_token":"opaque","token_type":"bearer","scope":""}`)
			}, "5 minutes", []string{"does not say how long", "Not granted: read write."}},
		} {
			p.Token.Next(c.reply)
			r := validateDraft(t, hub, credential(p, "draft", map[string]string{"scopes": "read write"}))
			if !r.OK {
				t.Errorf("%s: not OK", name)
			}
			i := 4 // response
			if r.Steps[i].Name != "response" || r.Steps[i].Result != "warning" {
				t.Errorf("%s: step %+v", name, r.Steps[i])
			}
			contains(t, r.Steps[i].Message, c.message)
			contains(t, r.Steps[i].Hint, c.hint...)
		}
	})
}

// TestValidateFindsTheOtherEncoding has a server that does not undo the encoding of RFC 6749
// appendix B, and one that does. Only Validate asks twice.
func TestValidateFindsTheOtherEncoding(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		secret := "a=b+c%25 é:"
		p.Register(grantwaytest.Client{ID: "raw", Secret: secret, Method: grantwaytest.AuthRawBasic})
		p.Register(grantwaytest.Client{ID: "strict", Secret: secret})
		for id, encodings := range map[string][2]string{"raw": {"rfc6749", "raw"}, "strict": {"raw", "rfc6749"}} {
			c := credential(p, id, map[string]string{"client_id": id, "client_secret": secret, "basic_encoding": encodings[0]})
			before := p.Token.Count()
			r := validateDraft(t, hub, c)
			wantSteps(t, r, "settings ok", "secret ok", "address ok", "request ok", "response failed")
			contains(t, lastStep(r).Hint, "second request", "basic_encoding to "+encodings[1])
			wantRequests(t, p, before+2)

			create(t, hub, c)
			noToken(t, hub, grantway.Ref{Credential: id}, grantway.TokenRefused)
			wantRequests(t, p, before+3)

			if r = validateDraft(t, hub, with(c, map[string]string{"basic_encoding": encodings[1]})); !r.OK {
				t.Errorf("%s: %v", id, steps(r))
			}
		}
		// Where both encodings are the same text, there is nothing to try.
		before := p.Token.Count()
		validateDraft(t, hub, credential(p, "", map[string]string{"client_secret": "plain-wrong"}))
		wantRequests(t, p, before+1)
	})
}

// TestValidateNeverSaves has drafts over a saved credential: its secret need not be typed
// again, and nothing of the saved one changes, health included.
func TestValidateNeverSaves(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		saved := create(t, hub, credential(p, "app", nil))
		draft := grantway.Credential{ID: saved.ID, Name: "renamed", Inputs: saved.Inputs}
		for name, inputs := range map[string]map[string]string{
			"secret marked as set": {"scopes": "a"},
			"secret left out":      {"scopes": "b", "client_secret": ""},
		} {
			if r := validateDraft(t, hub, with(draft, inputs)); !r.OK {
				t.Errorf("%s: %s", name, asJSON(t, r))
			}
			if got := p.Token.Requests()[p.Token.Count()-1].Form.Get("scope"); got != inputs["scopes"] {
				t.Errorf("%s: scope %q was asked for", name, got)
			}
		}
		if r := validateDraft(t, hub, with(draft, map[string]string{"client_secret": "wrong"})); r.OK {
			t.Error("the draft's own secret was not used")
		}
		now, err := hub.Credential(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(saved, now); diff != "" {
			t.Errorf("the saved credential changed (-before +after):\n%s", diff)
		}
		if s := status(t, hub, "app"); s.Health != grantway.NotValidated || s.LastError != nil {
			t.Errorf("a draft changed the health: %+v", s)
		}
		before := p.Token.Count()
		token(t, hub, grantway.Ref{Credential: "app"})
		wantRequests(t, p, before+1) // and none of the drafts' tokens was kept

		// What is wrong in a draft is told as a step; it is not refused.
		r := validateDraft(t, hub, grantway.Credential{Inputs: grantway.Inputs{"token_endpoint": grantway.Text("http://elsewhere.example.com/")}})
		wantSteps(t, r, "settings failed")
		contains(t, r.Steps[0].Message, "client_id is required", "client_secret is required", "token_endpoint must be https")

		var actions []string
		for e, err := range hub.Audit(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			actions = append(actions, e.Action+" "+e.Outcome+" "+e.Object)
		}
		want := []string{"credential.validate failed credential/", "credential.validate failed credential/app",
			"credential.validate done credential/app", "credential.validate done credential/app", "credential.create done credential/app"}
		if diff := cmp.Diff(want, actions[:len(want)]); diff != "" {
			t.Errorf("audit trail (-want +got):\n%s", diff)
		}
	})
}

// TestHealthFollowsValidate is C-4: a credential that does not work is saved all the same,
// and a later Validate works without the secret being typed again.
func TestHealthFollowsValidate(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Down()
		if r := validateDraft(t, hub, credential(p, "app", nil)); r.OK {
			t.Error("nobody was asked")
		}
		c := create(t, hub, credential(p, "app", nil))
		if s := status(t, hub, "app"); s.Health != grantway.NotValidated {
			t.Errorf("health of a new credential: %s", s.Health)
		}
		if r := validate(t, hub, "app"); r.OK {
			t.Error("nobody was asked")
		}
		s := status(t, hub, "app")
		if s.Health != grantway.Failing || s.LastError == nil || s.LastError.Stage != "address" || s.LastError.Class != "temporary" || s.LastError.Hint == "" {
			t.Errorf("status %s", asJSON(t, s))
		}
		if err := p.Up(); err != nil {
			t.Fatal(err)
		}
		if r := validate(t, hub, "app"); !r.OK {
			t.Errorf("report %s", asJSON(t, r))
		}
		s = status(t, hub, "app")
		if s.Health != grantway.Healthy || s.LastSuccess.IsZero() || s.LastError == nil || !s.NextTry.IsZero() || s.TokenFingerprint == "" {
			t.Errorf("status %s", asJSON(t, s))
		}
		// The token that Validate got is not wasted.
		if got := token(t, hub, grantway.Ref{Credential: "app"}); got.Fingerprint != s.TokenFingerprint {
			t.Error("another token than the one of Validate")
		}
		wantRequests(t, p, 1)

		p.Token.Next(grantwaytest.Status(500))
		validate(t, hub, "app")
		if s = status(t, hub, "app"); s.Health != grantway.Degraded || s.LastError.Class != "temporary" {
			t.Errorf("with a valid token left: %s", asJSON(t, s))
		}
		update(t, hub, c, map[string]string{"scopes": "a"})
		if s = status(t, hub, "app"); s.Health != grantway.NotValidated {
			t.Errorf("after a change: %s", asJSON(t, s))
		}
	})
}

// TestValidateEndsBackOff repairs a client at the provider: Validate asks although the
// credential is backing off, and what it finds out counts for everybody at once.
func TestValidateEndsBackOff(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Unregister("app")
		create(t, hub, credential(p, "app", nil))
		own, narrow := grantway.Ref{Credential: "app"}, grantway.Ref{Credential: "app", Scope: "narrow"}
		noToken(t, hub, own, grantway.TokenRefused)
		noToken(t, hub, narrow, grantway.TokenRefused)
		if r := validate(t, hub, "app"); r.OK {
			t.Error("the client is unknown")
		}
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		noToken(t, hub, own, grantway.TokenRefused) // still backing off
		wantRequests(t, p, 3)
		if r := validate(t, hub, "app"); !r.OK {
			t.Errorf("report %s", asJSON(t, r))
		}
		token(t, hub, own)
		wantRequests(t, p, 4)
		token(t, hub, narrow)
		wantRequests(t, p, 5)
	})
}

// TestValidateOfAProviderThatReturnsTheSameToken again and again until it expires, as some do.
func TestValidateOfAProviderThatReturnsTheSameToken(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Token.Always(grantwaytest.With("access_token", "the-one-and-only"))
		create(t, hub, credential(p, "app", nil))
		token(t, hub, grantway.Ref{Credential: "app"})
		validate(t, hub, "app")
		token(t, hub, grantway.Ref{Credential: "app"})
		wantRequests(t, p, 2)
	})
}

// TestValidateExternalSecret names the key that is missing, and what it read.
func TestValidateExternalSecret(t *testing.T) {
	t.Setenv("TEST_BROKER_THERE", "s3cret")
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		c := credential(p, "draft", nil)
		c.Inputs["client_secret"] = external("TEST_BROKER_MISSING", "env")
		r := validateDraft(t, hub, c)
		wantSteps(t, r, "settings ok", "secret failed")
		contains(t, lastStep(r).Message, "client_secret", "secret store env has no key TEST_BROKER_MISSING")
		contains(t, lastStep(r).Hint, "Create the key")

		c.Inputs["client_secret"] = external("TEST_BROKER_THERE", "vault")
		contains(t, lastStep(validateDraft(t, hub, c)).Message, "no such secret store; the stores are env, file")

		c.Inputs["client_secret"] = external("TEST_BROKER_THERE", "env")
		r = validateDraft(t, hub, c)
		wantSteps(t, r, "settings ok", "secret ok", "address ok", "request ok", "response ok")
		contains(t, r.Steps[1].Message, "client_secret from env/TEST_BROKER_THERE")
	})
}

func TestValidateNeedsPermission(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		create(t, hub, credential(p, "app", nil))
		client, err := hub.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "auditor", Roles: []grantway.Assignment{{Role: "auditor", Division: "*"}}})
		if err != nil {
			t.Fatal(err)
		}
		auditor := hub.SignIn(t, grantway.Options{ClientID: client.ID, ClientSecret: grantway.Secret(client.Secret)})
		var e *grantway.Error
		if _, err := auditor.ValidateCredential(t.Context(), "app"); !errors.As(err, &e) || e.Code != grantway.Forbidden {
			t.Errorf("saved: %v", err)
		}
		if _, err := auditor.ValidateDraft(t.Context(), credential(p, "draft", nil)); !errors.As(err, &e) || e.Code != grantway.Forbidden {
			t.Errorf("draft: %v", err)
		}
		if _, err := hub.ValidateCredential(t.Context(), "nothing"); !errors.As(err, &e) || e.Code != grantway.NotFound {
			t.Errorf("unknown: %v", err)
		}
		wantRequests(t, p, 0)
	})
}

// TestValidateNeverShowsTheSecret has providers that repeat what they were sent.
func TestValidateNeverShowsTheSecret(t *testing.T) {
	const secret = `k9/"é +x&Z` // different in every encoding
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		echo := func(status int) grantwaytest.Reply {
			return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
				r.ParseForm()
				said := r.Header.Get("Authorization") + " " + r.PostForm.Encode() + " " + r.PostForm.Get("client_secret")
				grantwaytest.OAuthError(status, "invalid_client", said)(w, r, nil)
			}
		}
		page := func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
			r.ParseForm()
			grantwaytest.Body(500, "text/html", "<p>"+r.PostForm.Get("client_secret")+r.PostForm.Encode()+r.Header.Get("Authorization"))(w, r, nil)
		}
		for _, method := range []string{"client_secret_basic", "client_secret_post"} {
			for i, reply := range []grantwaytest.Reply{echo(400), echo(200), page} {
				c := credential(p, fmt.Sprint(method, i), map[string]string{"auth_method": method, "client_secret": secret})
				create(t, hub, c)
				p.Token.Always(reply)
				text := asJSON(t, validateDraft(t, hub, c)) + asJSON(t, validate(t, hub, c.Name)) + asJSON(t, status(t, hub, c.Name))
				_, err := hub.Token(t.Context(), grantway.Ref{Credential: c.Name})
				text += fmt.Sprint(err)
				for _, form := range spellings(secret) {
					if strings.Contains(text, form) {
						t.Errorf("%s, reply %d: %q is in %s", method, i, form, text)
					}
				}
			}
		}
	})
}
