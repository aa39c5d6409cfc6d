package console

import "github.com/grantway/grantway/internal/access"

// need is what a route asks of whoever uses it. There is no zero value on purpose: a route
// without a rule is refused by the tests.
type need uint16

const (
	open     need = iota + 1 // anybody
	signedIn                 // somebody who is signed in
	permissions
)

// has is the need of a permission, somewhere.
func has(p access.Permission) need { return permissions + need(p) }

// permission is the permission of a need that is one.
func (n need) permission() (p access.Permission, ok bool) {
	return access.Permission(n - permissions), n >= permissions
}

// route is one address of the console.
type route struct {
	method, path string
	need         need
	handle       handler
	restore      bool // its form comes back when the session had ended
}

// table is every address there is.
func (c *Console) table() []route {
	return []route{
		{"GET", "/{$}", signedIn, c.home, false},
		{"GET", "/sign-in", open, c.signInPage, false},
		{"POST", "/sign-in", open, c.signIn, false},
		{"POST", "/sign-in/continue", open, c.signInContinue, false},
		{"GET", "/sign-in/sso", open, c.ssoStart, false},
		{"GET", access.SSOPath, open, c.ssoFinish, false},
		{"POST", "/sign-out", signedIn, c.signOut, false},
		{"GET", access.SetupPath + "{token}", open, c.setupPage, false},
		{"POST", access.SetupPath + "{token}", open, c.setup, false},
		{"GET", access.InvitationPath + "{token}", open, c.invitationPage, false},
		{"POST", access.InvitationPath + "{token}", open, c.acceptInvitation, false},
		{"POST", "/theme", open, c.setTheme, false},

		{"GET", "/account", signedIn, c.account, false},
		{"POST", "/account/password", signedIn, c.changePassword, false},
		{"POST", "/account/sessions/end", signedIn, c.endOwnSession, false},
		{"POST", "/account/programs/end", signedIn, c.takeBack, false},

		{"GET", "/credentials", has(access.ReadCredential), c.credentials, false},
		{"GET", "/credentials/add", has(access.WriteCredential), c.addCredentialPage, false},
		{"POST", "/credentials/add", has(access.WriteCredential), c.saveCredential, true},
		{"POST", "/credentials/validate", has(access.ValidateCredential), c.validateDraft, true},
		{"POST", "/credentials/validate-many", has(access.ValidateCredential), c.validateMany, false},
		{"GET", "/credentials/hint", has(access.WriteCredential), c.endpointHint, false},
		{"GET", "/credentials/{id}", has(access.ReadCredential), c.credential, false},
		{"GET", "/credentials/{id}/edit", has(access.WriteCredential), c.editCredentialPage, false},
		{"POST", "/credentials/{id}/edit", has(access.WriteCredential), c.saveCredential, true},
		{"POST", "/credentials/{id}/validate", has(access.ValidateCredential), c.validateCredential, false},
		{"GET", "/credentials/{id}/delete", has(access.DeleteCredential), deleting(c.credentialDeletion), false},
		{"POST", "/credentials/{id}/delete", has(access.DeleteCredential), deleted(c.credentialDeletion), false},
		{"POST", "/credentials/{id}/secret", has(access.WriteCredential), c.nextSecret, true},
		{"POST", "/credentials/{id}/secret/promote", has(access.WriteCredential), c.promoteSecret, false},
		{"POST", "/credentials/{id}/secret/retire", has(access.WriteCredential), c.retireSecret, false},

		{"GET", "/integrations", has(access.ReadConnector), c.integrations, false},
		{"GET", "/integrations/{name}", has(access.WriteCredential), c.addCredentialPage, false},
		{"POST", "/integrations/{name}", has(access.WriteCredential), c.saveCredential, true},
		{"GET", "/instances", has(access.ReadCredential), c.instances, false},
		{"GET", "/connectors", has(access.ReadConnector), c.connectors, false},
		{"GET", "/connectors/add", has(access.WriteConnector), c.addConnectorPage, false},
		{"POST", "/connectors/add", has(access.WriteConnector), c.addConnector, false},
		{"GET", "/connectors/import", has(access.WriteConnector), c.importConnectorPage, false},
		{"POST", "/connectors/import", has(access.WriteConnector), c.importConnector, true},
		{"GET", "/connectors/{name}/details", has(access.ReadConnector), c.connector, false},
		{"GET", "/connectors/{name}/export", has(access.ReadConnector), c.exportConnector, false},
		{"GET", "/connectors/{name}/copy", has(access.WriteConnector), c.copyConnectorPage, false},
		{"POST", "/connectors/{name}/copy", has(access.WriteConnector), c.copyConnector, false},
		{"GET", "/connectors/{name}/yaml", has(access.WriteConnector), c.yamlConnectorPage, false},
		{"POST", "/connectors/{name}/yaml", has(access.WriteConnector), c.yamlConnector, true},
		{"GET", "/connectors/{name}/build/{tab}", has(access.WriteConnector), c.builder, false},
		{"POST", "/connectors/{name}/build/{tab}", has(access.WriteConnector), c.saveBuilder, true},
		{"POST", "/connectors/{name}/build/{tab}/preview", has(access.WriteConnector), c.previewBuilder, false},
		{"GET", "/connectors/{name}/try", has(access.WriteConnector), c.tryConnectorPage, false},
		{"POST", "/connectors/{name}/try", has(access.WriteConnector), c.tryConnector, true},
		{"GET", "/connectors/{name}/delete", has(access.WriteConnector), deleting(c.connectorDeletion), false},
		{"POST", "/connectors/{name}/delete", has(access.WriteConnector), deleted(c.connectorDeletion), false},

		{"GET", "/stores", has(access.ReadStore), c.stores, false},
		{"GET", "/stores/add", has(access.WriteStore), c.addStorePage, false},
		{"POST", "/stores/add", has(access.WriteStore), c.saveStore, true},
		{"POST", "/stores/test", has(access.WriteStore), c.testStoreDraft, true},
		{"GET", "/stores/{name}/details", has(access.ReadStore), c.store, false},
		{"GET", "/stores/{name}/edit", has(access.WriteStore), c.editStorePage, false},
		{"POST", "/stores/{name}/edit", has(access.WriteStore), c.saveStore, true},
		{"POST", "/stores/{name}/test", has(access.WriteStore), c.testStore, false},
		{"GET", "/stores/{name}/delete", has(access.WriteStore), deleting(c.storeDeletion), false},
		{"POST", "/stores/{name}/delete", has(access.WriteStore), deleted(c.storeDeletion), false},
		{"GET", "/divisions", has(access.PickCredential), c.divisions, false},
		{"POST", "/divisions", has(access.WriteDivision), c.createDivision, true},
		{"GET", "/divisions/{name}/delete", has(access.WriteDivision), deleting(c.divisionDeletion), false},
		{"POST", "/divisions/{name}/delete", has(access.WriteDivision), deleted(c.divisionDeletion), false},

		{"GET", "/people", has(access.ReadPerson), c.people, false},
		{"GET", "/people/invite", has(access.WritePerson), c.invitePage, false},
		{"POST", "/people/invite", has(access.WritePerson), c.invite, true},
		{"GET", "/people/{id}", has(access.ReadPerson), c.person, false},
		{"POST", "/people/{id}", has(access.WritePerson), c.changePerson, true},
		{"POST", "/people/{id}/deactivate", has(access.WritePerson), c.deactivatePerson, false},
		{"POST", "/people/{id}/activate", has(access.WritePerson), c.activatePerson, false},
		{"POST", "/people/{id}/link", has(access.WritePerson), c.renewInvitation, false},
		{"POST", "/people/{id}/sessions/end", has(access.WritePerson), c.endSession, false},
		{"GET", "/single-sign-on", has(access.ReadPerson), c.sso, false},
		{"POST", "/single-sign-on", has(access.WriteSSO), c.saveSSO, true},
		{"POST", "/single-sign-on/test", has(access.WriteSSO), c.testSSO, true},
		{"GET", "/single-sign-on/delete", has(access.WriteSSO), deleting(c.ssoDeletion), false},
		{"POST", "/single-sign-on/delete", has(access.WriteSSO), deleted(c.ssoDeletion), false},
		{"GET", "/clients", has(access.ReadClient), c.clients, false},
		{"GET", "/clients/advice", has(access.ReadClient), c.advice, false},
		{"GET", "/clients/add", has(access.WriteClient), c.addClientPage, false},
		{"POST", "/clients/add", has(access.WriteClient), c.saveClient, true},
		{"GET", "/clients/{id}/details", has(access.ReadClient), c.client, false},
		{"GET", "/clients/{id}/edit", has(access.WriteClient), c.editClientPage, false},
		{"POST", "/clients/{id}/edit", has(access.WriteClient), c.saveClient, true},
		{"POST", "/clients/{id}/activate", has(access.WriteClient), c.activateClient, false},
		{"POST", "/clients/{id}/deactivate", has(access.WriteClient), c.deactivateClient, false},
		{"POST", "/clients/{id}/restore", has(access.WriteClient), c.restoreClient, false},
		{"POST", "/clients/{id}/secrets/add", has(access.WriteClient), c.addClientSecret, false},
		{"POST", "/clients/{id}/secrets/reset", has(access.WriteClient), c.resetClientSecret, false},
		{"POST", "/clients/{id}/secrets/revoke", has(access.WriteClient), c.revokeClientSecret, false},
		{"POST", "/clients/{id}/tokens/revoke", has(access.WriteClient), c.revokeClientTokens, false},
		{"GET", "/clients/{id}/delete", has(access.WriteClient), deleting(c.clientDeletion), false},
		{"POST", "/clients/{id}/delete", has(access.WriteClient), deleted(c.clientDeletion), false},

		{"GET", "/audit", has(access.ReadAudit), c.audit, false},
		{"GET", "/audit/export", has(access.ReadAudit), c.exportAudit, false},
		{"GET", "/settings", has(access.ReadStore), c.settings, false},
		{"POST", "/settings/rotate-key", has(access.RotateKey), c.rotateKey, false},
		{"GET", "/status", has(access.ReadStatus), c.status, false},
	}
}

func (c *Console) home(r *request) (answer, error) {
	for _, s := range c.menu(r.who, "/") {
		return answer{redirect: s.Items[0].Path}, nil
	}
	return answer{redirect: "/account"}, nil
}
