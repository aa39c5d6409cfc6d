package issuer

import (
	"slices"
	"strings"

	"github.com/grantway/grantway"
)

// The grant type advisor: a few questions, and which grant fits the answers. It is data and one
// pure function, so the console, the API and the command line give the same advice.

// Questions are what the advisor wants to know, in the order in which it is asked.
func Questions() []grantway.Question {
	yesNo := []grantway.Choice{{Key: "yes", Text: "Yes"}, {Key: "no", Text: "No"}}
	return []grantway.Question{
		{Key: "user", Text: "Is a person there when the program calls?", Answers: yesNo},
		{Key: "data", Text: "Whose data or rights does it use?", Answers: []grantway.Choice{
			{Key: "own", Text: "Those of the program itself, or of the whole organization"}, {Key: "user", Text: "Those of the person, such as his or her own mailbox"}}},
		{Key: "runs", Text: "Does it also run later, when nobody is signed in, such as at night?", Answers: yesNo},
		{Key: "place", Text: "Where does the program run?", Answers: []grantway.Choice{
			{Key: "server", Text: "On a server, where it can keep a secret"}, {Key: "browser", Text: "In a browser only"}, {Key: "device", Text: "On somebody's computer or phone"}}},
		{Key: "saml", Text: "Do people already sign in to the program by SAML?", Answers: yesNo},
	}
}

// The grants that the advisor knows beside those of clients.
const (
	adviceRefresh = "refresh_token" // the authorization code grant, with refresh tokens
	adviceSAML    = "saml2-bearer"
)

// Advise says which grant fits the answers, by the key of the question; one that is missing
// counts as the first answer that asks for less.
func Advise(answers map[string]string) (grantway.Advice, error) {
	for key, answer := range answers {
		q := slices.IndexFunc(Questions(), func(q grantway.Question) bool { return q.Key == key })
		if q < 0 {
			return grantway.Advice{}, wrongField(grantway.Pointer("answers", key), "is not a question of the advisor")
		}
		if !slices.ContainsFunc(Questions()[q].Answers, func(c grantway.Choice) bool { return c.Key == answer }) {
			return grantway.Advice{}, wrongField(grantway.Pointer("answers", key), "is not one of the answers")
		}
	}
	is := func(key, answer string) bool { return answers[key] == answer }
	a := grantway.Advice{Answers: answers}
	switch forUser := is("data", "user") || is("user", "yes"); {
	case forUser && is("saml", "yes"):
		a.Grant = adviceSAML
		a.For = []string{"People have signed in already, and the assertion says so: they are not asked again",
			"The token acts for the person, within the person's roles"}
		a.Against = []string{"Authorization code would ask people to sign in a second time",
			"Client credentials know no person, so nobody could tell afterwards who did what",
			"This hub does not take SAML assertions; the system that you call has to, or use the authorization code grant with single sign-on"}
		a.Request = []string{"identity provider → program: SAML response, in the browser",
			"program → token endpoint: grant_type=urn:ietf:params:oauth:grant-type:saml2-bearer, assertion", "token endpoint → program: access token"}
	case forUser:
		a.Grant, a.PKCE = grantway.GrantAuthorizationCode, true
		a.For = []string{"The person signs in here and says yes: the program never sees the password",
			"The token acts for the person, within the person's roles, and the audit trail names the person",
			"The person, or an administrator, can take it back"}
		a.Against = []string{"Client credentials know no person: the program would need rights on everybody's data"}
		a.Request = []string{"program → hub: /oauth/authorize with client_id, redirect_uri, scope, code_challenge (S256), in the browser", "hub → person: sign in, and allow it?", "person → hub: yes",
			"hub → program: code, at the redirect_uri", "program → hub: /oauth/token with grant_type=authorization_code, code, code_verifier", "hub → program: access token"}
		if is("place", "browser") || is("place", "device") {
			a.For = append(a.For, "PKCE protects the code of a program that cannot keep a secret; register it with the authentication method none")
		}
		if is("runs", "yes") {
			a.Grant = adviceRefresh
			a.For = append(a.For, "The refresh token lets it go on at night, when the person is not there")
			a.Request = append(a.Request, "program → hub: at night, /oauth/token with grant_type=refresh_token", "hub → program: access token, and the next refresh token")
		}
	default:
		a.Grant = grantway.GrantClientCredentials
		a.For = []string{"No person is there who could sign in or allow anything", "The program uses its own rights, which are roles in divisions, and no more",
			"One request gives the token; there is nothing to renew and nothing that runs out at night", "It goes on working when people leave or change passwords",
			"It can be turned off alone, and the audit trail names the program"}
		a.Against = []string{"Authorization code needs a browser and a person, for the first time and again when the refresh token ends",
			"A token of a person would let the program do all that this person may"}
		a.Request = []string{"program → hub: /oauth/token with grant_type=client_credentials, and proof of who it is", "hub → program: access token",
			"program → API: Authorization: Bearer"}
		if is("place", "browser") || is("place", "device") {
			a.Against = append(a.Against, "But it runs where it cannot keep a secret: put a server between, or let a person sign in")
		}
	}
	return a, nil
}

// checkAdvice brings the advice that is recorded with a client to what the advisor says.
func checkAdvice(c *grantway.OAuthClient, wrong func(pointer, detail string)) {
	advice, err := Advise(c.Advice.Answers)
	if err != nil {
		wrong("/advice/answers", "are not answers to the advisor's questions: "+strings.TrimPrefix(err.Error(), "a field is wrong: "))
		return
	}
	taken := advice.Grant
	if taken == adviceRefresh {
		taken = grantway.GrantAuthorizationCode
	}
	kept := grantway.Advice{Answers: advice.Answers, Grant: advice.Grant, PKCE: advice.PKCE}
	if taken != c.GrantType {
		kept.Chosen = c.GrantType
	}
	c.Advice = &kept
}
