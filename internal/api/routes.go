package api

import (
	"github.com/grantway/grantway"
)

// routes is the table of all operations. The OpenAPI description is made from it.
func (a *API) routes() []route {
	return []route{
		{method: "GET", path: "/v1/credentials", name: "listCredentials", tag: "Credentials", summary: "List credentials by name, or those of one connector", query: "limit cursor connector", status: 200, out: grantway.Page[grantway.Credential]{}, handle: a.listCredentials},
		{method: "POST", path: "/v1/credentials", name: "createCredential", tag: "Credentials", summary: "Store a credential; repeatable with an Idempotency-Key header", in: grantway.Credential{}, header: "Idempotency-Key", status: 201, out: grantway.Credential{}, handle: a.createCredential},
		{method: "POST", path: "/v1/credentials/validate", name: "validateDraft", tag: "Credentials", summary: "Make one token request with a credential that is not saved and report each step", in: grantway.Credential{}, status: 200, out: grantway.Report{}, handle: a.validateDraft},
		{method: "GET", path: "/v1/credentials/{name}", name: "getCredential", tag: "Credentials", summary: "Read a credential, without its secrets", header: "If-None-Match", status: 200, out: grantway.Credential{}, handle: a.getCredential},
		{method: "PUT", path: "/v1/credentials/{name}", name: "replaceCredential", tag: "Credentials", summary: "Replace a credential; secrets that are left out are kept", in: grantway.Credential{}, header: "If-Match", status: 200, out: grantway.Credential{}, handle: a.replaceCredential},
		{method: "PATCH", path: "/v1/credentials/{name}", name: "changeCredential", tag: "Credentials", summary: "Change single members (JSON merge patch; an input is replaced whole, null removes it)", in: grantway.Credential{}, header: "If-Match", status: 200, out: grantway.Credential{}, handle: a.changeCredential},
		{method: "DELETE", path: "/v1/credentials/{name}", name: "deleteCredential", tag: "Credentials", summary: "Delete a credential; refused while something uses it", header: "If-Match", status: 204, handle: a.deleteCredential},
		{method: "POST", path: "/v1/credentials/{name}/validate", name: "validateCredential", tag: "Credentials", summary: "Make one token request with a saved credential, optionally with unsaved changes, and report each step", in: grantway.Credential{}, optional: true, status: 200, out: grantway.Report{}, handle: a.validateCredential},
		{method: "GET", path: "/v1/credentials/{name}/status", name: "getCredentialStatus", tag: "Credentials", summary: "Health, last success, last error, next try, expiry", status: 200, out: grantway.Status{}, handle: a.credentialStatus},

		{method: "POST", path: "/v1/credentials/{name}/token", name: "getToken", tag: "Tokens", summary: "Get a token that is valid now", in: grantway.Ref{}, optional: true, status: 200, out: grantway.Token{}, handle: a.token},
		{method: "POST", path: "/v1/credentials/{name}/token/invalidate", name: "invalidateToken", tag: "Tokens", summary: "Forget a token that an API refused, by its fingerprint; without one, renew now", in: invalidation{}, optional: true, status: 204, handle: a.invalidate},
		{method: "POST", path: "/v1/credentials/{name}/endpoints/{endpoint}", name: "callEndpoint", tag: "Tokens", summary: "Call an endpoint that the credential's connector names, with values for its inputs; the answer is the API's own", in: grantway.EndpointCall{}, optional: true, status: 200, out: map[string]any{}, handle: a.callEndpoint},

		{method: "GET", path: "/v1/connectors", name: "listConnectors", tag: "Connectors", summary: "List or search the connectors that credentials can be made of: those that come with the hub, and own ones", query: "limit cursor q category source", status: 200, out: grantway.Page[grantway.Connector]{}, handle: a.listConnectors},
		{method: "POST", path: "/v1/connectors", name: "createConnector", tag: "Connectors", summary: "Add a connector; the body is its definition, in YAML or JSON", in: definition{}, status: 201, out: grantway.Connector{}, handle: a.createConnector},
		{method: "POST", path: "/v1/connectors/check", name: "checkConnector", tag: "Connectors", summary: "Compile a definition and list all that is wrong or suspicious, without saving it", in: definition{}, status: 200, out: grantway.ConnectorCheck{}, handle: a.checkConnector},
		{method: "POST", path: "/v1/connectors/preview", name: "previewConnector", tag: "Connectors", summary: "Show the token requests that a connector makes with some inputs, secrets masked; nothing is sent", in: grantway.ConnectorDraft{}, status: 200, out: grantway.ConnectorTrial{}, handle: a.previewConnector},
		{method: "POST", path: "/v1/connectors/try", name: "tryConnector", tag: "Connectors", summary: "Ask for a token with a connector and some inputs, and show the answers, redacted, and what was found in them", in: grantway.ConnectorDraft{}, status: 200, out: grantway.ConnectorTrial{}, handle: a.tryConnector},
		{method: "GET", path: "/v1/connectors/{name}", name: "getConnector", tag: "Connectors", summary: "Read the newest version of a connector", header: "If-None-Match", status: 200, out: grantway.Connector{}, handle: a.getConnector},
		{method: "PUT", path: "/v1/connectors/{name}", name: "replaceConnector", tag: "Connectors", summary: "Replace the definition of an own connector; refused if credentials break by it, unless new_version=true adds the next version", in: definition{}, query: "new_version", header: "If-Match", status: 200, out: grantway.Connector{}, handle: a.replaceConnector},
		{method: "DELETE", path: "/v1/connectors/{name}", name: "deleteConnector", tag: "Connectors", summary: "Delete an own connector with its versions; refused while something uses it", header: "If-Match", status: 204, handle: a.deleteConnector},
		{method: "POST", path: "/v1/connectors/{name}/copy", name: "copyConnector", tag: "Connectors", summary: "Store a copy under another name, which can be changed", in: newName{}, status: 201, out: grantway.Connector{}, handle: a.copyConnector},
		{method: "GET", path: "/v1/connectors/{name}/versions", name: "listConnectorVersions", tag: "Connectors", summary: "List the versions of a connector, the newest first", status: 200, out: grantway.Page[grantway.Connector]{}, handle: a.listConnectorVersions},
		{method: "GET", path: "/v1/connectors/{name}/versions/{version}", name: "getConnectorVersion", tag: "Connectors", summary: "Read a version of a connector", status: 200, out: grantway.Connector{}, handle: a.getConnectorVersion},

		{method: "GET", path: "/v1/secret-stores", name: "listSecretStores", tag: "Secret stores", summary: "List the places external secrets come from", status: 200, out: grantway.Page[grantway.SecretStore]{}, handle: a.listStores},
		{method: "POST", path: "/v1/secret-stores", name: "createSecretStore", tag: "Secret stores", summary: "Add a secret store", in: grantway.SecretStore{}, status: 201, out: grantway.SecretStore{}, handle: a.createStore},
		{method: "POST", path: "/v1/secret-stores/test", name: "testSecretStoreDraft", tag: "Secret stores", summary: "Try to reach, sign in and read with settings that are not saved; with a version, secrets that are left out are those of the saved store", in: storeTest{}, status: 200, out: grantway.Report{}, handle: a.testStoreDraft},
		{method: "GET", path: "/v1/secret-stores/{name}", name: "getSecretStore", tag: "Secret stores", summary: "Read a secret store's settings, without its secrets, and who refers to it", status: 200, out: grantway.SecretStore{}, handle: a.getStore},
		{method: "PUT", path: "/v1/secret-stores/{name}", name: "replaceSecretStore", tag: "Secret stores", summary: "Replace a secret store's settings; secrets that are left out are kept", in: grantway.SecretStore{}, status: 200, out: grantway.SecretStore{}, handle: a.replaceStore},
		{method: "DELETE", path: "/v1/secret-stores/{name}", name: "deleteSecretStore", tag: "Secret stores", summary: "Delete a secret store; refused while credentials refer to it", status: 204, handle: a.deleteStore},
		{method: "POST", path: "/v1/secret-stores/{name}/test", name: "testSecretStore", tag: "Secret stores", summary: "Try to reach, sign in and read; with a key, that one", in: grantway.SecretRef{}, status: 200, out: grantway.Report{}, handle: a.testStore},

		{method: "GET", path: "/v1/clients", name: "listClients", tag: "OAuth clients", summary: "List the clients of this hub, or with deleted=true those that can be restored", query: "deleted limit cursor", status: 200, out: grantway.Page[grantway.OAuthClient]{}, handle: a.listClients},
		{method: "POST", path: "/v1/clients", name: "createClient", tag: "OAuth clients", summary: "Register a client; the answer holds its secret, once", in: grantway.OAuthClient{}, status: 201, out: grantway.OAuthClient{}, handle: a.createClient},
		{method: "GET", path: "/v1/clients/{id}", name: "getClient", tag: "OAuth clients", summary: "Read a client", status: 200, out: grantway.OAuthClient{}, handle: a.getClient},
		{method: "PUT", path: "/v1/clients/{id}", name: "replaceClient", tag: "OAuth clients", summary: "Replace a client; its secrets stay, and its state when that is left out", in: grantway.OAuthClient{}, header: "If-Match", status: 200, out: grantway.OAuthClient{}, handle: a.replaceClient},
		{method: "PATCH", path: "/v1/clients/{id}", name: "changeClient", tag: "OAuth clients", summary: "Change single members (JSON merge patch; a list is replaced whole)", in: grantway.OAuthClient{}, header: "If-Match", status: 200, out: grantway.OAuthClient{}, handle: a.changeClient},
		{method: "DELETE", path: "/v1/clients/{id}", name: "deleteClient", tag: "OAuth clients", summary: "Delete a client; its tokens stop working. For a week it can be restored", status: 204, handle: a.deleteClient},
		{method: "POST", path: "/v1/clients/{id}/restore", name: "restoreClient", tag: "OAuth clients", summary: "Bring back a client that was deleted, with its secrets", status: 200, out: grantway.OAuthClient{}, handle: a.restoreClient},
		{method: "POST", path: "/v1/clients/{id}/activate", name: "activateClient", tag: "OAuth clients", summary: "Let a client get tokens again; those it had that have not expired count again", status: 200, out: grantway.OAuthClient{}, handle: a.activateClient},
		{method: "POST", path: "/v1/clients/{id}/deactivate", name: "deactivateClient", tag: "OAuth clients", summary: "Turn a client off; it gets no tokens, and those it has do not count", status: 200, out: grantway.OAuthClient{}, handle: a.deactivateClient},
		{method: "POST", path: "/v1/clients/{id}/secret", name: "resetClientSecret", tag: "OAuth clients", summary: "Make a new secret; all old ones stop working, and the tokens too if that is asked for", in: grantway.SecretReset{}, optional: true, status: 200, out: grantway.OAuthClient{}, handle: a.resetClient},
		{method: "GET", path: "/v1/clients/{id}/secrets", name: "listClientSecrets", tag: "OAuth clients", summary: "List the secrets of a client: when each was made, expires and was last used", status: 200, out: grantway.Page[grantway.ClientSecret]{}, handle: a.listClientSecrets},
		{method: "POST", path: "/v1/clients/{id}/secrets", name: "addClientSecret", tag: "OAuth clients", summary: "Make one more secret, in the answer, once; the others go on, or for as long as is asked for", in: grantway.NewSecret{}, optional: true, status: 201, out: grantway.ClientSecret{}, handle: a.addClientSecret},
		{method: "DELETE", path: "/v1/clients/{id}/secrets/{secret}", name: "revokeClientSecret", tag: "OAuth clients", summary: "End one secret of a client", status: 204, handle: a.revokeClientSecret},
		{method: "POST", path: "/v1/clients/{id}/revoke-tokens", name: "revokeClientTokens", tag: "OAuth clients", summary: "End all tokens that a client has", status: 204, handle: a.revokeClientTokens},
		{method: "GET", path: "/v1/client-usage", name: "listClientUsage", tag: "OAuth clients", summary: "What each client did since a time (30 days ago), and when it was last used; unused=true lists those that did nothing", query: "since unused", status: 200, out: grantway.Page[grantway.ClientUsage]{}, handle: a.clientUsage},
		{method: "GET", path: "/v1/grant-advice", name: "listAdviceQuestions", tag: "OAuth clients", summary: "What the grant type advisor asks", status: 200, out: grantway.Page[grantway.Question]{}, handle: a.listQuestions},
		{method: "POST", path: "/v1/grant-advice", name: "adviseGrant", tag: "OAuth clients", summary: "Which grant fits the answers, and why", in: grantway.Advice{}, status: 200, out: grantway.Advice{}, handle: a.adviseGrant},

		{method: "GET", path: "/v1/signing-keys", name: "listSigningKeys", tag: "Signing keys", summary: "List the keys that tokens of this hub are signed or sealed with", status: 200, out: grantway.Page[grantway.SigningKey]{}, handle: a.listSigningKeys},
		{method: "POST", path: "/v1/signing-keys", name: "rotateSigningKeys", tag: "Signing keys", summary: "Publish the next keys now; they sign from tomorrow", status: 200, out: grantway.Page[grantway.SigningKey]{}, handle: a.rotateSigningKeys},
		{method: "DELETE", path: "/v1/signing-keys/{kid}", name: "removeSigningKey", tag: "Signing keys", summary: "Take a key away that is no longer secret: what it signed is refused at once", status: 204, handle: a.removeSigningKey},

		{method: "GET", path: "/v1/me", name: "getMe", tag: "Me", summary: "The person who asks; a client's own token gets 403", status: 200, out: grantway.Person{}, handle: a.me},

		{method: "GET", path: "/v1/divisions", name: "listDivisions", tag: "Divisions", summary: "List divisions", status: 200, out: grantway.Page[grantway.Division]{}, handle: a.listDivisions},
		{method: "POST", path: "/v1/divisions", name: "createDivision", tag: "Divisions", summary: "Add a division", in: grantway.Division{}, status: 201, out: grantway.Division{}, handle: a.createDivision},
		{method: "DELETE", path: "/v1/divisions/{name}", name: "deleteDivision", tag: "Divisions", summary: "Delete an empty division", status: 204, handle: a.deleteDivision},

		{method: "GET", path: "/v1/people", name: "listPeople", tag: "People", summary: "List the people who sign in to the console", query: "limit cursor", status: 200, out: grantway.Page[grantway.Person]{}, handle: a.listPeople},
		{method: "POST", path: "/v1/people", name: "invitePerson", tag: "People", summary: "Add a person and make a link to choose a password with, once", in: grantway.Person{}, status: 201, out: grantway.Invitation{}, handle: a.invitePerson},
		{method: "GET", path: "/v1/people/{id}", name: "getPerson", tag: "People", summary: "Read a person, by id or email", status: 200, out: grantway.Person{}, handle: a.getPerson},
		{method: "PUT", path: "/v1/people/{id}", name: "updatePerson", tag: "People", summary: "Change the name and the roles of a person; sessions follow within a second", in: grantway.Person{}, status: 200, out: grantway.Person{}, handle: a.updatePerson},
		{method: "POST", path: "/v1/people/{id}/link", name: "renewLink", tag: "People", summary: "Make another link to choose a password with; older ones stop working", status: 200, out: grantway.Invitation{}, handle: a.renewLink},
		{method: "POST", path: "/v1/people/{id}/activate", name: "activatePerson", tag: "People", summary: "Let a person in again", status: 200, out: grantway.Person{}, handle: a.activatePerson},
		{method: "POST", path: "/v1/people/{id}/deactivate", name: "deactivatePerson", tag: "People", summary: "Keep a person out, and end all sessions of the person", status: 200, out: grantway.Person{}, handle: a.deactivatePerson},
		{method: "GET", path: "/v1/people/{id}/sessions", name: "listSessions", tag: "People", summary: "List the browsers in which a person is signed in", status: 200, out: grantway.Page[grantway.Session]{}, handle: a.listSessions},
		{method: "DELETE", path: "/v1/people/{id}/sessions", name: "endSessions", tag: "People", summary: "End all sessions of a person", status: 204, handle: a.endSession},
		{method: "DELETE", path: "/v1/people/{id}/sessions/{session}", name: "endSession", tag: "People", summary: "End one session of a person", status: 204, handle: a.endSession},

		{method: "GET", path: "/v1/sso", name: "getSingleSignOn", tag: "Single sign-on", summary: "Read the settings of single sign-on, without the secret", status: 200, out: grantway.SingleSignOn{}, handle: a.getSSO},
		{method: "PUT", path: "/v1/sso", name: "setSingleSignOn", tag: "Single sign-on", summary: "Replace the settings of single sign-on; a secret that is left out is kept", in: grantway.SingleSignOn{}, status: 200, out: grantway.SingleSignOn{}, handle: a.setSSO},
		{method: "DELETE", path: "/v1/sso", name: "deleteSingleSignOn", tag: "Single sign-on", summary: "End single sign-on", status: 204, handle: a.deleteSSO},

		{method: "GET", path: "/v1/audit", name: "listEvents", tag: "Audit", summary: "Read the audit trail, newest first", query: "limit cursor action caller object outcome since until", status: 200, out: grantway.Page[grantway.Event]{}, handle: a.listEvents},

		{method: "GET", path: "/v1/status", name: "getHubStatus", tag: "Hub", summary: "What this hub is", status: 200, out: grantway.HubStatus{}, handle: a.hubStatus},
		{method: "POST", path: "/v1/key/rotate", name: "rotateKey", tag: "Hub", summary: "Seal everything with a new data key", status: 200, out: grantway.KeyRotation{}, handle: a.rotateKey},

		{method: "GET", path: "/healthz", name: "healthz", tag: "Hub", summary: "Is the process alive?", status: 200, out: condition{}, open: true, handle: a.healthz},
		{method: "GET", path: "/readyz", name: "readyz", tag: "Hub", summary: "Is the database reachable?", status: 200, out: condition{}, open: true, handle: a.readyz},
		{method: "GET", path: "/openapi.json", name: "openapi", tag: "Hub", summary: "This description", status: 200, out: map[string]any{}, open: true, handle: a.openAPI},
		{method: "GET", path: "/docs", name: "docs", tag: "Hub", summary: "This description as a page", status: 200, open: true, handle: a.docs},
		{method: "GET", path: "/docs.css", name: "docsStyle", tag: "Hub", summary: "Style of the page", status: 200, open: true, handle: a.docsStyle},
		{method: "GET", path: "/schema/connector.json", name: "connectorSchema", tag: "Hub", summary: "JSON Schema of the definitions of connectors, for editors", status: 200, out: map[string]any{}, open: true, handle: a.connectorSchema},
		{method: "GET", path: "/metrics", name: "metrics", tag: "Hub", summary: "Metrics for Prometheus", status: 200, handle: a.metrics},
	}
}

// condition is the answer of the probes.
type condition struct {
	Status string `json:"status"`
}

// definition is a body that is the definition of a connector.
type definition struct{}
