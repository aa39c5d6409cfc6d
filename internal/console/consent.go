package console

import (
	"maps"
	"net/http"
	"strings"

	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
)

// consentPage asks a person whether a program may act for it.
type consentPage struct {
	Frame
	issuer.Consent
	Action string
}

// Consent answers with the page of an authorization request.
func (c *Console) Consent(w http.ResponseWriter, r *http.Request, status int, ask issuer.Consent) {
	set := maps.Clone(headers)
	// Browsers apply form-action to where the answer leads as well.
	set["Content-Security-Policy"] = strings.Replace(set["Content-Security-Policy"], "form-action 'self'", strings.TrimSpace("form-action 'self' "+ask.Back), 1)
	set["Referrer-Policy"] = "no-referrer"
	for name, value := range set {
		w.Header().Set(name, value)
	}
	title := "Allow " + ask.Client.Name + " to act for you?"
	if ask.Error != "" {
		title, ask.Error = "This does not work", sentence(ask.Error)
	}
	c.render(w, c.request(r), answer{page: &consentPage{Frame: frame("consent", title), Consent: ask, Action: issuer.AuthorizePath}, status: status})
}

// SignedIn returns who is signed in in the browser that r comes from.
func (c *Console) SignedIn(r *http.Request) (access.Caller, bool) {
	q := c.request(r)
	if q.token == "" {
		return access.Caller{}, false
	}
	who, _, err := c.People.Session(r.Context(), q.token)
	return who, err == nil
}

// permissionTexts say what a program does with a permission.
var permissionTexts = map[string]string{
	"credential.pick":     "see which credentials there are",
	"credential.status":   "see whether credentials work",
	"credential.read":     "see the settings of credentials; secrets are never shown",
	"credential.write":    "add and change credentials",
	"credential.delete":   "delete credentials",
	"credential.validate": "validate credentials",
	"credential.use":      "get tokens of credentials, and call APIs with them",
	"store.read":          "see which secret stores there are",
	"store.write":         "add, change and delete secret stores",
	"client.read":         "see OAuth clients",
	"client.write":        "add, change and delete OAuth clients, and make secrets for them",
	"division.write":      "add and delete divisions",
	"audit.read":          "see the audit trail",
	"key.rotate":          "manage the keys that seal the database",
	"person.read":         "see the people who sign in here",
	"person.write":        "invite, change and deactivate people",
	"sso.write":           "set up single sign-on",
	"connector.read":      "see connectors",
	"connector.write":     "add, change and delete connectors",
}
