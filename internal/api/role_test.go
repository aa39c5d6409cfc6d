package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/api"
)

// allowed says for each operation which roles may do it, in all divisions.
var allowed = map[string]string{
	"listCredentials":       "owner administrator designer auditor application",
	"createCredential":      "owner administrator",
	"validateDraft":         "owner administrator",
	"getCredential":         "owner administrator auditor",
	"replaceCredential":     "owner administrator",
	"changeCredential":      "owner administrator",
	"deleteCredential":      "owner",
	"validateCredential":    "owner administrator",
	"getCredentialStatus":   "owner administrator auditor application",
	"getToken":              "owner administrator application",
	"callEndpoint":          "owner administrator application",
	"invalidateToken":       "owner administrator application",
	"listSecretStores":      "owner administrator auditor",
	"createSecretStore":     "owner administrator",
	"getSecretStore":        "owner administrator auditor",
	"replaceSecretStore":    "owner administrator",
	"deleteSecretStore":     "owner administrator",
	"testSecretStoreDraft":  "owner administrator",
	"testSecretStore":       "owner administrator",
	"listConnectors":        everybodyWithRole,
	"createConnector":       "owner administrator",
	"checkConnector":        everybodyWithRole,
	"previewConnector":      "owner administrator",
	"tryConnector":          "owner administrator",
	"getConnector":          everybodyWithRole,
	"replaceConnector":      "owner administrator",
	"deleteConnector":       "owner administrator",
	"copyConnector":         "owner administrator",
	"listConnectorVersions": everybodyWithRole,
	"getConnectorVersion":   everybodyWithRole,
	"connectorSchema":       everybody,
	"listClients":           "owner administrator auditor",
	"createClient":          "owner administrator",
	"getClient":             "owner administrator auditor",
	"deleteClient":          "owner administrator",
	"resetClientSecret":     "owner administrator",
	"replaceClient":         "owner administrator",
	"changeClient":          "owner administrator",
	"activateClient":        "owner administrator",
	"deactivateClient":      "owner administrator",
	"listClientSecrets":     "owner administrator auditor",
	"addClientSecret":       "owner administrator",
	"revokeClientSecret":    "owner administrator",
	"revokeClientTokens":    "owner administrator",
	"restoreClient":         "owner administrator",
	"listClientUsage":       "owner administrator auditor",
	"listAdviceQuestions":   everybodyWithRole,
	"adviseGrant":           everybodyWithRole,
	"listSigningKeys":       "owner administrator auditor",
	"rotateSigningKeys":     "owner",
	"removeSigningKey":      "owner",
	"getMe":                 "", // people only
	"listPeople":            "owner administrator auditor",
	"invitePerson":          "owner administrator",
	"getPerson":             "owner administrator auditor",
	"updatePerson":          "owner administrator",
	"renewLink":             "owner administrator",
	"activatePerson":        "owner administrator",
	"deactivatePerson":      "owner administrator",
	"listSessions":          "owner administrator auditor",
	"endSessions":           "owner administrator",
	"endSession":            "owner administrator",
	"getSingleSignOn":       "owner administrator auditor",
	"setSingleSignOn":       "owner",
	"deleteSingleSignOn":    "owner",
	"listDivisions":         "owner administrator designer auditor application",
	"createDivision":        "owner administrator",
	"deleteDivision":        "owner administrator",
	"listEvents":            "owner administrator auditor",
	"getHubStatus":          "owner administrator auditor application",
	"rotateKey":             "owner",
	"healthz":               everybody,
	"readyz":                everybody,
	"openapi":               everybody,
	"docs":                  everybody,
	"docsStyle":             everybody,
	"metrics":               "owner administrator auditor application",
}

const everybodyWithRole = "owner administrator designer auditor application"

const everybody = "owner administrator designer auditor application none"

// TestRoles asks for every operation in every role: who may gets the operation's status, who
// may not gets 403 and a line in the audit trail, who is nobody gets 401.
func TestRoles(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		callers := map[string]*caller{"none": h.nobody()}
		for _, role := range strings.Fields(everybody)[:5] {
			callers[role] = h.as(t, role, "*")
		}
		if len(allowed) != len(api.Routes()) {
			t.Errorf("the table has %d operations, the API %d", len(allowed), len(api.Routes()))
		}
		refusals := map[string]int{}
		n := 0 // tells the objects of the requests apart
		for _, route := range api.Routes() {
			t.Run(route.Name, func(t *testing.T) {
				roles, ok := allowed[route.Name]
				if !ok {
					t.Fatalf("the table does not say who may %s %s", route.Method, route.Path)
				}
				for role, who := range callers {
					n++
					path, body := h.request(t, route, fmt.Sprintf("object-%d", n))
					answer := who.do(t, route.Method, path, body)
					switch {
					case slices.Contains(strings.Fields(roles), role):
						if answer.status != route.Status {
							t.Errorf("%s: HTTP %d, want %d: %s", role, answer.status, route.Status, answer.body)
						}
					case role == "none":
						answer.problem(t, grantway.Unauthenticated)
						if got := answer.header.Get("WWW-Authenticate"); got != `Bearer realm="grantway"` {
							t.Errorf("none: WWW-Authenticate %q", got)
						}
					case route.Name == "getMe":
						answer.problem(t, grantway.Forbidden)
					default:
						answer.problem(t, grantway.Forbidden)
						if got := answer.header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer realm="grantway", error="insufficient_scope", scope="`) {
							t.Errorf("%s: WWW-Authenticate %q", role, got)
						}
						refusals[role]++
						if n := h.count(t, `SELECT COUNT(*) FROM audit WHERE caller = $1 AND outcome = 'denied'`, who.id); n != refusals[role] {
							t.Errorf("%s: %d refusals in the audit trail, want %d", role, n, refusals[role])
							refusals[role] = n
						}
					}
				}
			})
		}
	})
}

// request is the path and the body of a request for an operation that works, on an object
// of its own called name.
func (h *hub) request(t *testing.T, route api.Route, name string) (path string, body any) {
	t.Helper()
	id, session, secret := "", "", ""
	switch {
	case route.Name == "callEndpoint":
		h.owner.do(t, "POST", "/v1/connectors", object{"name": name, "title": "Of a test", "extends": "oauth2", "apply": object{"base_url": h.provider.API.URL},
			"endpoints": []object{{"name": "orders", "path": "/orders"}}}).want(t, http.StatusCreated)
		h.provider.Register(grantClient(canary))
		h.owner.do(t, "POST", "/v1/credentials", object{"name": name, "connector": name, "inputs": object{"client_id": "app", "client_secret": canary, "token_endpoint": h.provider.Token.URL}}).want(t, http.StatusCreated)
	case strings.HasPrefix(route.Path, "/v1/signing-keys"):
		made, err := h.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: name, Roles: []grantway.Assignment{{Role: "application", Division: "home"}},
			ClientSettings: grantway.ClientSettings{TokenFormat: grantway.FormatJWT}})
		if err != nil {
			t.Fatal(err)
		}
		h.owner.do(t, "POST", "/v1/clients/"+made.ID+"/deactivate", nil).want(t, http.StatusOK)
		keys, err := h.SigningKeys(t.Context())
		jwts := slices.IndexFunc(keys, func(k grantway.SigningKey) bool { return k.Alg == grantway.AlgES256 }) // without the other the test is signed out
		if err != nil || jwts < 0 {
			t.Fatalf("%v, %v", keys, err)
		}
		id = keys[jwts].ID
	case strings.HasPrefix(route.Path, "/v1/credentials/{name}"):
		h.save(t, h.credential(name, nil))
	case strings.HasPrefix(route.Path, "/v1/clients/{id}"):
		client, err := h.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: name, Roles: []grantway.Assignment{{Role: "application", Division: "home"}}})
		if err != nil {
			t.Fatal(err)
		}
		id = client.ID
		secrets, err := h.OAuthClientSecrets(t.Context(), id)
		if err != nil || len(secrets) != 1 {
			t.Fatalf("%v, %v", secrets, err)
		}
		secret = secrets[0].ID
		if route.Name == "restoreClient" {
			h.owner.do(t, "DELETE", "/v1/clients/"+id, nil).want(t, http.StatusNoContent)
		}
	case strings.HasPrefix(route.Path, "/v1/secret-stores/{name}"):
		h.owner.do(t, "POST", "/v1/secret-stores", storeBody(name)).want(t, http.StatusCreated)
	case strings.HasPrefix(route.Path, "/v1/people/{id}"):
		var invited grantway.Invitation
		h.owner.do(t, "POST", "/v1/people", object{"email": name + "@example.com", "roles": []object{{"role": "designer"}}}).want(t, http.StatusCreated).into(t, &invited)
		id = invited.Person.ID
		if strings.Contains(route.Path, "{session}") {
			session = h.accept(t, invited)
		}
	case route.Path == "/v1/sso" && route.Method != "PUT":
		h.owner.do(t, "PUT", "/v1/sso", singleSignOn).want(t, http.StatusOK)
	case strings.HasPrefix(route.Path, "/v1/connectors/{name}"):
		h.owner.do(t, "POST", "/v1/connectors", definition(name)).want(t, http.StatusCreated)
	case strings.HasPrefix(route.Path, "/v1/divisions/{name}"):
		h.owner.do(t, "POST", "/v1/divisions", object{"name": name}).want(t, http.StatusCreated)
	}
	switch route.Name {
	case "createCredential", "validateDraft", "replaceCredential":
		body = h.credential(name, nil)
	case "changeCredential":
		body = object{"description": "changed"}
	case "createSecretStore", "replaceSecretStore", "testSecretStoreDraft":
		body = storeBody(name)
	case "createConnector", "checkConnector", "replaceConnector":
		body = definition(name)
	case "previewConnector", "tryConnector":
		body = object{"definition": definition(name), "inputs": object{"client_id": "app", "client_secret": "s3cret"}}
	case "copyConnector":
		body = object{"name": name + "-copy"}
	case "changeClient":
		body = object{"description": "changed"}
	case "adviseGrant":
		body = object{"answers": object{"user": "no"}}
	case "createClient", "replaceClient":
		body = object{"name": name, "roles": []object{{"role": "application", "division": "home"}}}
	case "invitePerson":
		body = object{"email": name + "@example.com", "roles": []object{{"role": "designer"}}}
	case "updatePerson":
		body = object{"roles": []object{{"role": "auditor"}}}
	case "setSingleSignOn":
		body = singleSignOn
	case "createDivision":
		body = object{"name": name}
	}
	return strings.NewReplacer("{name}", name, "{version}", "1", "{endpoint}", "orders", "{id}", id, "{kid}", id, "{session}", session, "{secret}", secret).Replace(route.Path), body
}

// definition is that of a connector, as JSON.
func definition(name string) object {
	return object{"name": name, "extends": "oauth2", "title": "Of a test", "defaults": object{"token_endpoint": "https://login.example.com/token"}}
}

var singleSignOn = object{"name": "Contoso", "issuer": "https://login.example.com", "client_id": "hub"}

// accept takes an invitation up as its person does in a browser, and returns the session's id.
func (h *hub) accept(t *testing.T, invited grantway.Invitation) (session string) {
	t.Helper()
	password := "correct horse battery staple"
	resp, err := http.PostForm(invited.Link, url.Values{"name": {"Ann"}, "password": {password}, "repeat": {password}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	var sessions grantway.Page[grantway.Session]
	h.owner.do(t, "GET", "/v1/people/"+invited.Person.ID+"/sessions", nil).want(t, http.StatusOK).into(t, &sessions)
	if len(sessions.Items) != 1 {
		t.Fatalf("%d sessions after HTTP %d, want 1", len(sessions.Items), resp.StatusCode)
	}
	return sessions.Items[0].ID
}
