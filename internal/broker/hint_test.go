package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// fault is one way in which a token request fails, and what Validate says about it.
type fault struct {
	name  string
	setup func(p *grantwaytest.Provider) // nil: none
	reply grantwaytest.Reply             // nil: healthy
	edit  map[string]string              // of the credential

	step   string // the one that fails; those before it are ok
	code   string // error member of the answer
	status int
	say    string // part of the message
	hint   string // part of the hint
}

const aGUID = "6f1c9a52-0b7e-4c55-9d0c-2f6f4f1d9a11"

// faults fail on a healthy provider of either kind.
var faults = []fault{
	// No answer.
	{name: "DNS", edit: map[string]string{"token_endpoint": grantwaytest.UnresolvableURL},
		step: "address", say: "token.invalid", hint: "Check the host and the port"},
	{name: "refused", setup: (*grantwaytest.Provider).Down,
		step: "address", say: "refused the connection", hint: "Check the host and the port"},
	{name: "address that is not allowed", edit: map[string]string{"token_endpoint": "https://169.254.169.254/token"},
		step: "address", say: "cloud metadata service", hint: "--allow-networks"},
	{name: "reset", reply: grantwaytest.Reset(),
		step: "request", say: "closed the connection without an answer", hint: "was reached but did not answer"},

	// An answer that is no token.
	{name: "truncated", reply: grantwaytest.Truncated(), step: "response", status: 200, say: "in the middle of its answer", hint: "did not come whole"},
	{name: "HTML", reply: grantwaytest.HTML(200), step: "response", status: 200, say: "web page", hint: "a page for people"},
	{name: "not JSON", reply: grantwaytest.Body(200, "text/plain", "OK, then"), step: "response", status: 200, say: "not JSON", hint: "is not the answer of a token endpoint"},
	{name: "other token_type", reply: grantwaytest.With("token_type", "mac"), step: "response", status: 200, say: `token_type "mac"`},
	{name: "expired", reply: grantwaytest.With("expires_in", -1), step: "response", status: 200, say: "had expired when it arrived", hint: "this machine's clock"},
	{name: "bound to a key", reply: grantwaytest.With("token_type", "DPoP"), step: "response", status: 200, say: "bound to a DPoP key", hint: "Turn DPoP on"},
	{name: "not bound to our key", reply: grantwaytest.With("token_type", "Bearer"), edit: map[string]string{"dpop": "true"}, step: "response", status: 200, say: "not bound to the DPoP key", hint: "Enable DPoP there"},
	{name: "JSON array", reply: grantwaytest.JSON(200, []string{}), step: "response", status: 200, say: "JSON array", hint: "is not the answer of a token endpoint"},
	{name: "no access_token", reply: grantwaytest.Without("access_token"), step: "response", status: 200, say: "it has: expires_in, token_type", hint: "is not the answer of a token endpoint"},
	{name: "no token_type", reply: grantwaytest.Without("token_type"), step: "response", status: 200, say: "no token_type", hint: "token_type_optional"},
	{name: "404", reply: grantwaytest.HTML(404), step: "response", status: 404, say: "Not Found", hint: "nothing at this path"},
	{name: "405", reply: grantwaytest.Status(405), step: "response", status: 405, say: "Method Not Allowed", hint: "does not take POST"},
	{name: "redirect", reply: grantwaytest.Redirect(307, "https://login.example.com/token"), step: "response", status: 307, say: "redirects to https://login.example.com/token", hint: "the address it really has"},
	{name: "401 without JSON", reply: grantwaytest.Status(401), step: "response", status: 401, say: "Unauthorized", hint: "client_secret_post"},
	{name: "403", reply: grantwaytest.Status(403), step: "response", status: 403, say: "Forbidden", hint: "does not let it in"},
	{name: "429", reply: grantwaytest.RetryAfter(429, "7"), step: "response", status: 429, say: "Too Many Requests", hint: "limits how often"},
	{name: "500", reply: grantwaytest.Status(500), step: "response", status: 500, say: "Internal Server Error", hint: "trouble of its own"},
	{name: "503 HTML", reply: grantwaytest.HTML(503), step: "response", status: 503, say: "Service Unavailable", hint: "trouble of its own"},

	// The errors of RFC 6749 section 5.2 and its successors.
	{name: "401 invalid_client", edit: map[string]string{"client_secret": "mistyped"},
		step: "response", code: "invalid_client", status: 401, say: "wrong secret", hint: "Check the client identifier and the secret"},
	{name: "400 invalid_client", reply: grantwaytest.OAuthError(400, "invalid_client", "wrong secret"),
		step: "response", code: "invalid_client", status: 400, say: "wrong secret", hint: "Check the client identifier and the secret"},
	{name: "invalid_client in 200", reply: grantwaytest.OAuthError(200, "invalid_client", ""),
		step: "response", code: "invalid_client", status: 200, say: "invalid_client", hint: "Check the client identifier and the secret"},
	{name: "body instead of Basic", setup: func(p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Method: grantwaytest.AuthPost})
	}, step: "response", code: "invalid_client", status: 401, say: "client_secret_post", hint: "try client_secret_post"},
	{name: "ID of the secret", edit: map[string]string{"client_secret": aGUID},
		step: "response", code: "invalid_client", status: 401, say: "wrong secret", hint: "looks like an ID"},
	{name: "unauthorized_client", reply: grantwaytest.OAuthError(400, "unauthorized_client", "no such grant"),
		step: "response", code: "unauthorized_client", status: 400, say: "no such grant", hint: "Enable Client Credentials on the provider's application"},
	{name: "unsupported_grant_type", edit: map[string]string{"grant_type": "password"},
		step: "response", code: "unsupported_grant_type", status: 400, say: "only client_credentials", hint: "enable Client Credentials"},
	{name: "invalid_scope", setup: func(p *grantwaytest.Provider) {
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret", Scopes: []string{"read"}})
	}, edit: map[string]string{"scopes": "Read"}, step: "response", code: "invalid_scope", status: 400, say: "may not have", hint: "spelling and case"},
	{name: "invalid_target", reply: grantwaytest.OAuthError(400, "invalid_target", ""),
		step: "response", code: "invalid_target", status: 400, say: "invalid_target", hint: "audience and resource"},
	{name: "invalid_request", reply: grantwaytest.OAuthError(400, "invalid_request", "client_secret is missing"),
		step: "response", code: "invalid_request", status: 400, say: "is missing", hint: "client_secret_post"},
	{name: "invalid_grant", reply: grantwaytest.OAuthError(400, "invalid_grant", ""),
		step: "response", code: "invalid_grant", status: 400, say: "invalid_grant", hint: "this machine's clock"},
	{name: "invalid_dpop_proof", reply: grantwaytest.OAuthError(400, "invalid_dpop_proof", ""),
		step: "response", code: "invalid_dpop_proof", status: 400, say: "invalid_dpop_proof", hint: "this machine's clock"},
	{name: "nested error", reply: grantwaytest.JSON(400, map[string]any{"error": map[string]any{"code": "invalid_client", "message": "who?"}}),
		step: "response", code: "invalid_client", status: 400, say: "who?", hint: "Check the client identifier"},
	{name: "error without a description that we know", reply: grantwaytest.OAuthError(400, "e1000", "see the manual"),
		step: "response", code: "e1000", status: 400, say: "see the manual"},

	// Microsoft, whose numbers say more than its codes.
	azure("AADSTS7000215", "invalid_client", "Invalid client secret provided.", "", "not its ID"),
	azure("AADSTS7000215", "invalid_client", "Invalid client secret provided.", aGUID, "This looks like the secret's ID"),
	azure("AADSTS7000222", "invalid_client", "The provided client secret keys are expired.", "", "has expired"),
	azure("AADSTS700016", "unauthorized_client", "Application with identifier was not found in the directory.", "", "tenant does not know this client identifier"),
	azure("AADSTS90002", "invalid_request", "Tenant 'x' not found.", "", "no such tenant"),
	azure("AADSTS900023", "invalid_request", "Specified tenant identifier 'x' is neither a valid DNS name, nor a valid external domain.", "", "no such tenant"),
	azure("AADSTS7000218", "invalid_client", "The request body must contain 'client_assertion' or 'client_secret'.", "", "client_secret_post"),
	azure("AADSTS1002012", "invalid_scope", "The provided value for scope is not valid. Client credential flows must have a scope value with /.default.", "", "/.default"),
	azure("AADSTS70011", "invalid_scope", "The provided request must include a 'scope' input parameter.", "", "/.default"),
	azure("AADSTS500011", "invalid_resource", "The resource principal was not found in the tenant.", "", "resource before /.default"),
	azure("AADSTS700027", "invalid_client", "The certificate with identifier used to sign the client assertion is not registered on application.", "", "certificate"),
	azure("AADSTS53003", "access_denied", "Access has been blocked by Conditional Access policies.", "", "Conditional Access"),
}

func azure(number, code, text, secret, hint string) fault {
	f := fault{name: number + " " + secret, reply: grantwaytest.OAuthError(401, code, number+": "+text+" Trace ID: "+aGUID),
		step: "response", code: code, status: 401, say: number, hint: hint}
	if secret != "" {
		f.edit = map[string]string{"client_secret": secret}
	}
	return f
}

func TestValidateNamesTheFault(t *testing.T) {
	each(t, func(t *testing.T, database string) {
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database})
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				p := grantwaytest.NewProvider(t)
				p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
				f.check(t, hub, p)
			})
		}
	})
}

func TestValidateNamesTheFaultOfTLS(t *testing.T) {
	each(t, func(t *testing.T, database string) {
		p := grantwaytest.NewTLSProvider(t)
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret"})
		hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database, RootCAs: p.RootCAs()})
		present := func(c grantwaytest.Certificate) func(*grantwaytest.Provider) {
			return func(p *grantwaytest.Provider) { p.Present(c) }
		}
		for _, f := range []fault{
			{name: "unknown CA", setup: present(grantwaytest.CertUnknownCA), step: "tls", say: "not signed by an authority that is trusted here", hint: "SSL_CERT_FILE"},
			{name: "wrong host", setup: present(grantwaytest.CertWrongHost), step: "tls", say: "another host: wrong-host.example", hint: "Check the host of the token endpoint"},
			{name: "expired", setup: present(grantwaytest.CertExpired), step: "tls", say: "expired on", hint: "has to renew its certificate"},
			{name: "http for https", setup: present(grantwaytest.CertValid), edit: map[string]string{"token_endpoint": strings.Replace(p.Token.URL, "https:", "http:", 1)},
				step: "response", status: 400, say: "HTTP request to an HTTPS server"},
		} {
			t.Run(f.name, func(t *testing.T) { f.check(t, hub, p) })
		}
		plain := grantwaytest.NewProvider(t)
		t.Run("https for http", func(t *testing.T) {
			fault{step: "tls", say: "does not speak TLS", hint: "Check the host", edit: map[string]string{"token_endpoint": strings.Replace(plain.Token.URL, "http:", "https:", 1)}}.check(t, hub, plain)
		})
	})
}

func (f fault) check(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
	if f.setup != nil {
		f.setup(p)
	}
	p.Token.Always(f.reply)
	r := validateDraft(t, hub, credential(p, "", f.edit))
	last := lastStep(r)
	if r.OK || last.Result != "failed" || last.Name != f.step || last.Code != f.code || last.HTTPCode != f.status {
		t.Errorf("report %s", asJSON(t, r))
	}
	contains(t, last.Message, f.say)
	contains(t, last.Hint, f.hint)
	if f.hint == "" && last.Hint != "" {
		t.Errorf("hint %q", last.Hint)
	}
	for _, s := range r.Steps[:len(r.Steps)-1] {
		if s.Result != "ok" || s.Hint != "" {
			t.Errorf("step %+v before the one that failed", s)
		}
	}
}

// TestValidateSecretWithALineBreak is the accident of copying: told twice, as a step and as
// the reason. A file's own line end is nobody's accident.
func TestValidateSecretWithALineBreak(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		for _, secret := range []string{"s3cret\n", " s3cret", "s3cret\r\n"} {
			r := validateDraft(t, hub, credential(p, "", map[string]string{"client_secret": secret}))
			wantSteps(t, r, "settings ok", "secret warning", "address ok", "request ok", "response failed")
			contains(t, r.Steps[1].Hint, "begins or ends with a space or a line break")
			contains(t, lastStep(r).Hint, "begins or ends with a space or a line break")
		}
		p.Register(grantwaytest.Client{ID: "app", Secret: "s3cret\n"}) // it may be meant
		r := validateDraft(t, hub, credential(p, "", map[string]string{"client_secret": "s3cret\n"}))
		wantSteps(t, r, "settings ok", "secret warning", "address ok", "request ok", "response ok")
		if !r.OK {
			t.Error("not OK")
		}
	})
}

// TestMicrosoftWarnings is C-11: what Microsoft does not like is told when it is saved, and saved all the same.
func TestMicrosoftWarnings(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		const v1, v2 = "https://login.microsoftonline.com/tenant/oauth2/token", "https://LOGIN.microsoftonline.us/tenant/oauth2/v2.0/token"
		for i, c := range []struct {
			inputs map[string]string
			want   string
		}{
			{map[string]string{"token_endpoint": v2}, "/inputs/auth_method /inputs/scopes"},
			{map[string]string{"token_endpoint": v2, "auth_method": "client_secret_post", "scopes": "User.Read"}, "/inputs/scopes"},
			{map[string]string{"token_endpoint": v2, "auth_method": "client_secret_post", "scopes": "https://graph.microsoft.com/.default"}, ""},
			{map[string]string{"token_endpoint": v1, "resource": "https://graph.microsoft.com"}, "/inputs/auth_method"},
			{nil, ""},
		} {
			saved := create(t, hub, credential(p, fmt.Sprint("c", i), c.inputs))
			var got []string
			for _, f := range saved.Warnings {
				got = append(got, f.Pointer)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v: warnings %+v, want %s", c.inputs, saved.Warnings, c.want)
			}
		}
	})
}

// TestStatusTellsTheHint shows that what Validate knows about a failure, a status and a
// refused token tell as well.
func TestStatusTellsTheHint(t *testing.T) {
	eachHub(t, func(t *testing.T, hub *grantwaytest.Hub, p *grantwaytest.Provider) {
		p.Token.Always(grantwaytest.OAuthError(400, "unauthorized_client", "no"))
		create(t, hub, credential(p, "app", nil))
		noToken(t, hub, grantway.Ref{Credential: "app"}, grantway.TokenRefused, "credential app", "unauthorized_client: no (HTTP 400)", "Enable Client Credentials")
		s := status(t, hub, "app")
		if s.Health != grantway.Failing || s.LastError == nil {
			t.Fatalf("status %s", asJSON(t, s))
		}
		want := grantway.Failure{At: s.LastError.At, Class: "permanent", Stage: "response", Code: "unauthorized_client",
			Message: "token request: unauthorized_client: no (HTTP 400)", Hint: "Enable Client Credentials on the provider's application."}
		if *s.LastError != want {
			t.Errorf("last error %+v", *s.LastError)
		}
	})
}
