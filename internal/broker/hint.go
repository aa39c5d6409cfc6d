package broker

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// advice is what to do about one kind of failure. Every condition that is set must hold.
type advice struct {
	stage  grant.Stage
	code   string // error member of the answer
	status int    // of the answer; serverError is all of 5xx
	text   string // part of the message or error_description, in lower case
	secret *regexp.Regexp
	say    string
}

// serverError as an advice.status stands for every status from 500 on.
const serverError = 500

var (
	guid  = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	blank = regexp.MustCompile(`^\s|\s$`)
)

// advices is searched from the top, so the particular stands before the general. The AADSTS
// numbers are those of Microsoft's documentation of its error codes.
var advices = []advice{
	{text: "aadsts7000215:", secret: guid, say: "This looks like the secret's ID. Paste the secret's Value, which Microsoft shows only once, when the secret is made."},
	{text: "aadsts7000215:", say: "The secret is wrong. Paste the secret's Value, not its ID."},
	{text: "aadsts7000222:", say: "The secret has expired. Make a new one at the provider and enter it here."},
	{text: "aadsts700016:", say: "The tenant does not know this client identifier. Compare it, and the tenant in the token endpoint, with the application's registration."},
	{text: "aadsts90002:", say: noTenant},
	{text: "aadsts900023:", say: noTenant},
	{text: "aadsts7000218:", say: "The provider wants the secret in the body: set the authentication method to client_secret_post."},
	{text: "aadsts1002012:", say: defaultScope},
	{text: "aadsts70011:", say: defaultScope},
	{text: "aadsts500011:", say: "The tenant does not know the resource before /.default in the scope. Check its spelling, and that the tenant is the right one."},
	{text: "aadsts501051:", say: "The application has no role at this resource. Assign one to it in the tenant, and let an administrator consent."},
	{text: "aadsts700027:", say: "The certificate or key that signs the assertion is not registered on the application. Upload the certificate there, and set signing_certificate to the same one."},
	{text: "aadsts700024:", say: "The assertion is not valid at this time. Check this machine's clock."},
	{text: "aadsts70021:", say: "No federated credential of the application fits the assertion. Compare issuer, subject and audience with the application's registration."},
	{text: "aadsts53003:", say: "A Conditional Access policy of the tenant blocks the application. Ask the tenant's administrator."},

	{code: "invalid_client", secret: blank, say: "The secret begins or ends with a space or a line break; paste it again without."},
	{code: "invalid_client", secret: guid, say: "Check the client identifier and the secret. The secret looks like an ID: some providers show an ID beside the secret's value."},
	{code: "invalid_client", say: "Check the client identifier and the secret, and that both belong to this token endpoint. Some providers want the secret in the body instead of HTTP Basic: try client_secret_post."},
	{code: "unauthorized_client", say: "Enable Client Credentials on the provider's application."},
	{code: "unsupported_grant_type", say: "The provider does not know this grant type. Check the token endpoint, and enable Client Credentials on the provider's application."},
	{code: "invalid_scope", say: "Check the scopes: their spelling and case, and that the provider allows them for this client. Microsoft wants the resource followed by /.default."},
	{code: "invalid_target", say: "Check audience and resource against what the provider knows."},
	{code: "invalid_grant", say: "The provider did not accept the assertion: check its key, issuer, subject and audience, and this machine's clock."},
	{code: "invalid_request", say: "The provider misses something or got it twice. Some want the secret in the body (client_secret_post), or an audience or resource."},
	{code: "use_dpop_nonce", say: "The provider did not accept its own DPoP nonce."},
	{code: "invalid_dpop_proof", say: "Check this machine's clock; a DPoP proof is only valid for a short time."},

	{stage: grant.StageAddress, text: "--allow-networks", say: "Start the hub with --allow-networks for this network if calls into it are intended."},
	{stage: grant.StageAddress, say: "Check the host and the port of the token endpoint, and that this machine may reach it."},
	{stage: grant.StageTLS, text: "expired on", say: "The provider has to renew its certificate. If it is good, check this machine's clock."},
	{stage: grant.StageTLS, text: "client certificate", say: "The provider does not accept the client certificate. Compare client_certificate with what is registered there."},
	{stage: grant.StageTLS, say: "Check the host of the token endpoint. A private certificate authority must be trusted by the machine that the hub runs on (SSL_CERT_FILE)."},
	{stage: grant.StageRequest, say: "The provider was reached but did not answer. Try again; if it goes on, ask its operator."},

	{status: 404, say: "There is nothing at this path. Compare the token endpoint with the provider's documentation."},
	{status: 405, say: "This path does not take POST. Compare the token endpoint with the provider's documentation."},
	{status: 429, say: "The provider limits how often it may be asked. The hub waits as long as the provider says."},
	{status: 401, say: "Check the client identifier and the secret. Some providers want the secret in the body instead of HTTP Basic: try client_secret_post."},
	{status: 403, say: "The provider knows the client but does not let it in. Check its permissions and address restrictions there."},
	{text: "redirect", say: "The token endpoint sends requests elsewhere. Enter the address it really has."},
	{status: serverError, say: "The provider has trouble of its own. The hub tries again by itself."},
	{text: "a web page, not json", say: "That is a page for people, not a token endpoint. Compare the token endpoint with the provider's documentation."},
	{text: "the answer has no token_type", say: "If the provider never sends it, set token_type_optional."},
	{text: "the answer has no ", say: noTokenAnswer},
	{status: 200, text: "the answer is ", say: noTokenAnswer},
	{text: "had expired when it arrived", say: "Check this machine's clock, and the lifetime of tokens at the provider."},
	{text: "is not bound to the dpop key", say: "The provider does not bind the tokens of this client. Enable DPoP there, or turn it off here."},
	{text: "is bound to a dpop key", say: "The provider binds the tokens of this client. Turn DPoP on."},
	{stage: grant.StageResponse, text: "closed the connection", say: brokenAnswer},
	{stage: grant.StageResponse, text: "did not end within", say: brokenAnswer},
}

// What more than one kind of failure has as its advice.
const (
	noTenant      = "There is no such tenant. Correct the tenant in the token endpoint."
	defaultScope  = "With client credentials Microsoft takes only one scope, the resource followed by /.default, such as https://graph.microsoft.com/.default."
	noTokenAnswer = "That is not the answer of a token endpoint. Compare the token endpoint with the provider's documentation."
	brokenAnswer  = "The answer did not come whole. Try again; if it goes on, ask the provider's operator."
)

// microsoft are the hosts of Microsoft's token endpoints, of its national clouds among them.
var microsoft = []string{"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"}

// dislikes warns of what the provider at the token endpoint is known not to like.
func dislikes(inputs map[string]grantway.Value) (warnings []grantway.Field) {
	u, err := url.Parse(inputs["token_endpoint"].Text)
	if err != nil || !slices.Contains(microsoft, strings.ToLower(u.Hostname())) {
		return nil
	}
	if m := inputs["auth_method"].Text; m == "" || m == "client_secret_basic" {
		warnings = append(warnings, grantway.Field{Pointer: "/inputs/auth_method", Detail: "Microsoft recommends to send the secret in the body: client_secret_post"})
	}
	scopes := strings.Fields(inputs["scopes"].Text)
	if strings.Contains(u.Path, "/v2.0/") && (len(scopes) != 1 || !strings.HasSuffix(scopes[0], "/.default")) {
		warnings = append(warnings, grantway.Field{Pointer: "/inputs/scopes", Detail: "Microsoft wants one scope, the resource followed by /.default, such as https://graph.microsoft.com/.default"})
	}
	return warnings
}

// hint says what to do about e; "" when nothing is known. secrets may be nil.
func hint(e *grant.Error, secrets map[string]grant.Secret) string {
	text := strings.ToLower(e.Error())
	for _, a := range advices {
		if (a.stage == "" || a.stage == e.Stage) && (a.code == "" || a.code == e.Code) &&
			(a.status == 0 || a.status == e.Status || a.status == serverError && e.Status > serverError) &&
			strings.Contains(text, a.text) && (a.secret == nil || a.secret.MatchString(string(secrets["client_secret"]))) {
			return a.say
		}
	}
	return ""
}
