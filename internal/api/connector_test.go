package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// acme is the definition of an application whose token endpoint is that of the provider, as
// somebody would write it.
func (h *hub) acme(change ...string) string {
	text := `# What Acme told us by mail.
name: acme
title: Acme CRM   # their spelling
vendor: Acme Inc.
categories: [crm]

inputs:
  - key: client_id
    title: Client ID
    required: true
  # They call it a password.
  - {key: client_secret, type: secret, required: true}
  - {key: scope, title: Scope, default: read}
  - {key: grant, title: Grant type, default: client_credentials}

request:
  url: ` + h.provider.Token.URL + `
  basic: {username: '{{client_id}}', password: '{{client_secret}}'}
  body:
    form: {grant_type: '{{grant}}', scope: '{{scope}}'}
`
	return strings.NewReplacer(change...).Replace(text)
}

func asYAML(c *caller, t *testing.T, method, path, text string, header ...string) *answer {
	t.Helper()
	return c.do(t, method, path, text, append([]string{"Content-Type", "application/yaml"}, header...)...)
}

// instance makes a credential of a connector.
func (h *hub) instance(t *testing.T, name, connector string, inputs object) (saved grantway.Credential) {
	t.Helper()
	all := object{"client_id": "app", "client_secret": canary}
	for key, value := range inputs {
		all[key] = value
	}
	h.owner.do(t, "POST", "/v1/credentials", object{"name": name, "connector": connector, "inputs": all}).want(t, http.StatusCreated).into(t, &saved)
	return saved
}

// token gets a token and returns what the provider was asked with for it, or for one before.
func (h *hub) token(t *testing.T, name string) (token grantway.Token, form url.Values) {
	t.Helper()
	h.owner.do(t, "POST", "/v1/credentials/"+name+"/token", nil).want(t, http.StatusOK).into(t, &token)
	requests := h.provider.Token.Requests()
	return token, requests[len(requests)-1].Form
}

// TestConnectorRoundTrip writes, reads, lists and deletes a definition. Nothing of the text is lost.
func TestConnectorRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		var made, got grantway.Connector
		answer := asYAML(h.owner, t, "POST", "/v1/connectors", h.acme()).want(t, http.StatusCreated)
		answer.into(t, &made)
		if answer.header.Get("Location") != "/v1/connectors/acme" || answer.header.Get("ETag") != `"1"` {
			t.Errorf("header %v", answer.header)
		}
		if made.Source != grantway.OwnConnector || made.Version != 1 || made.Title != "Acme CRM" || made.Broken {
			t.Errorf("made %+v", made)
		}
		h.owner.do(t, "GET", "/v1/connectors/acme", nil).want(t, http.StatusOK).into(t, &got)
		if got.YAML != h.acme() {
			t.Errorf("the text came back as\n%s", got.YAML)
		}
		// JSON of the same definition, as a form sends it: the text stays, but for the title.
		var source map[string]any
		if err := json.Unmarshal(got.OwnDefinition, &source); err != nil {
			t.Fatal(err)
		}
		source["title"] = "Acme"
		h.owner.do(t, "PUT", "/v1/connectors/acme", source, "If-Match", `"1"`).want(t, http.StatusOK).into(t, &got)
		if got.Revision != 2 || got.Version != 1 || got.YAML != h.acme("title: Acme CRM   # their spelling", "title: Acme") {
			t.Errorf("revision %d, version %d, text\n%s", got.Revision, got.Version, got.YAML)
		}
		h.owner.do(t, "PUT", "/v1/connectors/acme", source, "If-Match", `"1"`).problem(t, grantway.PreconditionFailed)
		h.owner.do(t, "GET", "/v1/connectors/acme", nil, "If-None-Match", `"2"`).want(t, http.StatusNotModified)

		for query, want := range map[string]string{
			"source=own": "acme", "category=crm&source=own": "acme", "q=acme+inc": "acme", "q=acme+nothing": "", "category=mail&source=own": "",
		} {
			var page grantway.Page[grantway.Connector]
			h.owner.do(t, "GET", "/v1/connectors?"+query, nil).want(t, http.StatusOK).into(t, &page)
			var names []string
			for _, one := range page.Items {
				names = append(names, one.Name)
			}
			if strings.Join(names, " ") != want {
				t.Errorf("%s lists %v, want %s", query, names, want)
			}
		}
		h.owner.do(t, "GET", "/v1/connectors?source=else", nil).problem(t, grantway.Invalid, "/source")
		var all []string
		for cursor := "?limit=2"; cursor != ""; {
			var page grantway.Page[grantway.Connector]
			h.owner.do(t, "GET", "/v1/connectors"+cursor, nil).want(t, http.StatusOK).into(t, &page)
			for _, one := range page.Items {
				all = append(all, one.Name)
			}
			if cursor = ""; page.Next != "" {
				cursor = "?limit=2&cursor=" + page.Next
			}
		}
		if !slices.IsSorted(all) || !slices.Contains(all, "acme") || !slices.Contains(all, grantway.PlainConnector) || slices.Contains(all, "oauth2") {
			t.Errorf("pages list %v", all)
		}

		h.owner.do(t, "DELETE", "/v1/connectors/acme", nil, "If-Match", `"1"`).problem(t, grantway.PreconditionFailed)
		h.owner.do(t, "DELETE", "/v1/connectors/acme", nil).want(t, http.StatusNoContent)
		h.owner.do(t, "GET", "/v1/connectors/acme", nil).problem(t, grantway.NotFound)
		if n := h.count(t, `SELECT COUNT(*) FROM audit WHERE object = 'connector/acme' AND action = 'connector.update' AND fields = '["title"]'`); n != 1 {
			t.Errorf("%d audit events name the changed section, want 1", n)
		}
	})
}

// TestConnectorCatalog: those that come with the hub are read and copied, not changed.
func TestConnectorCatalog(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		var own, original grantway.Connector
		h.owner.do(t, "GET", "/v1/connectors/"+grantway.PlainConnector, nil).want(t, http.StatusOK).into(t, &original)
		asYAML(h.owner, t, "PUT", "/v1/connectors/"+original.Name, original.YAML).problem(t, grantway.Conflict)
		h.owner.do(t, "DELETE", "/v1/connectors/"+original.Name, nil).problem(t, grantway.Conflict)
		asYAML(h.owner, t, "POST", "/v1/connectors", original.YAML).problem(t, grantway.Conflict, "/name")
		h.owner.do(t, "POST", "/v1/connectors/"+original.Name+"/copy", object{"name": "mine"}).want(t, http.StatusCreated).into(t, &own)
		if own.YAML != strings.Replace(original.YAML, "name: "+original.Name, "name: mine", 1) {
			t.Errorf("the copy is\n%s", own.YAML)
		}
		h.owner.do(t, "POST", "/v1/connectors/"+original.Name+"/copy", object{"name": "mine"}).problem(t, grantway.Conflict, "/name")
		h.owner.do(t, "POST", "/v1/connectors/"+original.Name+"/copy", object{"name": "No name"}).problem(t, grantway.Invalid, "/name")
		asYAML(h.owner, t, "PUT", "/v1/connectors/mine", strings.Replace(own.YAML, "name: mine", "name: other", 1)).problem(t, grantway.Invalid, "/name")
	})
}

// TestConnectorCheck: everything that is wrong is found at once, with its place; P-7: what is
// only suspicious is a warning, and fails the call that needs it by its name.
func TestConnectorCheck(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		wrong := h.acme("title:", "titel:", "{{client_secret}}", "{{client_secret", "type: secret", "type: sekret")
		var check grantway.ConnectorCheck
		asYAML(h.owner, t, "POST", "/v1/connectors/check", wrong).want(t, http.StatusOK).into(t, &check)
		if check.OK || len(check.Findings) == 0 || check.Findings[0].Line == 0 || check.Findings[0].Column == 0 || check.Findings[0].Hint == "" {
			t.Errorf("check %+v", check)
		}
		asYAML(h.owner, t, "POST", "/v1/connectors", wrong).want(t, http.StatusUnprocessableEntity)
		h.owner.do(t, "POST", "/v1/connectors", "name: x", "Content-Type", "text/plain").problem(t, grantway.UnsupportedMedia)

		var made grantway.Connector
		asYAML(h.owner, t, "POST", "/v1/connectors", h.acme("'{{scope}}'", "'{{scoope}}'")).want(t, http.StatusCreated).into(t, &made)
		if len(made.Findings) != 1 || !made.Findings[0].Warning || !strings.Contains(made.Findings[0].String(), "scoope") || !strings.Contains(made.Findings[0].Hint, "scope") {
			t.Errorf("findings %+v", made.Findings)
		}
		h.instance(t, "one", "acme", nil)
		p := h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusBadGateway)
		if !strings.Contains(string(p.body), "scoope") {
			t.Errorf("the call says %s", p.body)
		}
	})
}

// TestConnectorEdits is P-2 and the rules of versions: an edit that breaks no credential counts
// at once, one that does is refused with the reasons or makes a new version, to which
// credentials are moved one by one.
func TestConnectorEdits(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		asYAML(h.owner, t, "POST", "/v1/connectors", h.acme()).want(t, http.StatusCreated)
		one := h.instance(t, "one", "acme", nil)
		if one.ConnectorVersion != 1 {
			t.Errorf("version %d, want 1", one.ConnectorVersion)
		}
		before, form := h.token(t, "one")
		if form.Get("scope") != "read" || form.Get("grant_type") != "client_credentials" {
			t.Errorf("asked with %v", form)
		}

		// Titles only: the token stays.
		asYAML(h.owner, t, "PUT", "/v1/connectors/acme", h.acme("title: Client ID", "title: API key")).want(t, http.StatusOK)
		if same, _ := h.token(t, "one"); same.Fingerprint != before.Fingerprint {
			t.Error("a token was asked for because of a title")
		}
		// Renamed, another default, and one hidden: keys stay, and the next token is asked for anew.
		edited := h.acme("title: Client ID", "title: API key", "default: read", "default: read write", "default: client_credentials", "default: client_credentials, locked: true")
		asYAML(h.owner, t, "PUT", "/v1/connectors/acme", edited).want(t, http.StatusOK)
		after, form := h.token(t, "one")
		if after.Fingerprint == before.Fingerprint || form.Get("scope") != "read write" {
			t.Errorf("after the edit the provider was asked with %v", form)
		}

		for name, test := range map[string]struct {
			change  []string
			pointer string
		}{
			"removed":     {[]string{"  - {key: scope, title: Scope, default: read}\n", ""}, "/inputs/scope"},
			"retyped":     {[]string{"key: scope, title: Scope", "key: scope, type: scopes, title: Scope"}, "/inputs/scope"},
			"required":    {[]string{"  - {key: scope,", "  - {key: tenant, required: true}\n  - {key: scope,"}, "/inputs/tenant"},
			"pattern":     {[]string{"title: Client ID", "pattern: '[0-9]+'"}, "/inputs/client_id"},
			"enum":        {[]string{"title: Client ID", "type: enum\n    enum: [a, b]"}, "/inputs/client_id"},
			"length":      {[]string{"title: Client ID", "max: 2"}, "/inputs/client_id"},
			"not secret":  {[]string{"type: secret,", ""}, "/inputs/client_secret"},
			"of two ways": {[]string{"title: Client ID", "max: 2", "  - {key: scope, title: Scope, default: read}\n", ""}, "/inputs/client_id /inputs/scope"},
		} {
			text := h.acme(test.change...)
			if strings.Contains(text, "{{scope}}") && !strings.Contains(text, "key: scope") {
				text = strings.Replace(text, ", scope: '{{scope}}'", "", 1)
			}
			p := asYAML(h.owner, t, "PUT", "/v1/connectors/acme", text).problem(t, grantway.Conflict, strings.Fields(test.pointer)...)
			if name == "required" && (len(p.Errors) == 0 || !strings.Contains(p.Errors[0].Detail, "credential one")) {
				t.Errorf("%s: %+v", name, p)
			}
		}

		var saved grantway.Connector
		breaking := h.acme("  - {key: scope,", "  - {key: tenant, required: true}\n  - {key: scope,", "scope: '{{scope}}'", "tenant: '{{tenant}}'")
		asYAML(h.owner, t, "PUT", "/v1/connectors/acme?new_version=true", breaking).want(t, http.StatusOK).into(t, &saved)
		if saved.Version != 2 || saved.Newest != 2 {
			t.Errorf("version %d of %d", saved.Version, saved.Newest)
		}
		if same, _ := h.token(t, "one"); same.Fingerprint != after.Fingerprint {
			t.Error("a new version touched the credential of the one before")
		}
		var versions grantway.Page[grantway.Connector]
		h.owner.do(t, "GET", "/v1/connectors/acme/versions", nil).want(t, http.StatusOK).into(t, &versions)
		if len(versions.Items) != 2 || versions.Items[0].Version != 2 {
			t.Errorf("versions %+v", versions.Items)
		}
		var first grantway.Connector
		h.owner.do(t, "GET", "/v1/connectors/acme/versions/1", nil).want(t, http.StatusOK).into(t, &first)
		if first.YAML != edited {
			t.Errorf("version 1 is\n%s", first.YAML)
		}
		h.owner.do(t, "GET", "/v1/connectors/acme/versions/3", nil).problem(t, grantway.NotFound)

		// Moving the credential says what is missing.
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"description": "still on version 1"}).want(t, http.StatusOK)
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"connector_version": 2}).problem(t, grantway.Invalid, "/inputs/tenant")
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"connector_version": 3}).problem(t, grantway.Invalid, "/connector_version")
		var moved grantway.Credential
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"connector_version": 2, "inputs": object{"tenant": "t1"}}).want(t, http.StatusOK).into(t, &moved)
		if moved.ConnectorVersion != 2 {
			t.Errorf("version %d, want 2", moved.ConnectorVersion)
		}
		if _, form := h.token(t, "one"); form.Get("tenant") != "t1" {
			t.Errorf("asked with %v", form)
		}

		// P-12, and names only for those who may see them.
		var used grantway.Connector
		h.owner.do(t, "GET", "/v1/connectors/acme", nil).want(t, http.StatusOK).into(t, &used)
		if len(used.UsedBy) != 1 || used.UsedBy[0] != "credential one" {
			t.Errorf("used by %v", used.UsedBy)
		}
		if p := h.owner.do(t, "DELETE", "/v1/connectors/acme", nil).problem(t, grantway.Conflict); !strings.Contains(p.Detail, "credential one") {
			t.Errorf("deletion is refused with %q", p.Detail)
		}
		var page grantway.Page[grantway.Credential]
		h.save(t, h.credential("plain", nil))
		h.owner.do(t, "GET", "/v1/credentials?connector=acme", nil).want(t, http.StatusOK).into(t, &page)
		if len(page.Items) != 1 || page.Items[0].Name != "one" {
			t.Errorf("credentials of acme: %+v", page.Items)
		}
		h.owner.do(t, "DELETE", "/v1/credentials/one", nil).want(t, http.StatusNoContent)
		h.owner.do(t, "DELETE", "/v1/connectors/acme", nil).want(t, http.StatusNoContent)
	})
}

// TestConnectorFamily: a connector that extends an own one follows its edits, and is protected from them.
func TestConnectorFamily(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		asYAML(h.owner, t, "POST", "/v1/connectors", h.acme()).want(t, http.StatusCreated)
		asYAML(h.owner, t, "POST", "/v1/connectors", "name: acme-eu\nextends: acme\ntitle: Acme in Europe\ndefaults: {scope: eu}\n").want(t, http.StatusCreated)
		h.instance(t, "europe", "acme-eu", nil)
		before, form := h.token(t, "europe")
		if form.Get("scope") != "eu" {
			t.Errorf("asked with %v", form)
		}
		if p := h.owner.do(t, "DELETE", "/v1/connectors/acme", nil).problem(t, grantway.Conflict); !strings.Contains(p.Detail, "connector acme-eu") {
			t.Errorf("deletion is refused with %q", p.Detail)
		}
		p := asYAML(h.owner, t, "PUT", "/v1/connectors/acme", h.acme("title: Client ID", "max: 2")).problem(t, grantway.Conflict, "/inputs/client_id")
		if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Detail, "acme-eu") {
			t.Errorf("refused with %+v", p.Errors)
		}
		asYAML(h.owner, t, "PUT", "/v1/connectors/acme", h.acme("'{{grant}}'", "'{{grant}}', part: '1'")).want(t, http.StatusOK)
		if after, form := h.token(t, "europe"); after.Fingerprint == before.Fingerprint || form.Get("part") != "1" {
			t.Errorf("asked with %v", form)
		}
		asYAML(h.owner, t, "PUT", "/v1/connectors/acme", "name: acme\nextends: acme-eu\ntitle: Round in circles\n").want(t, http.StatusUnprocessableEntity)
	})
}

// TestBrokenConnector: a definition that does not compile any more is listed with the reason,
// its credentials say so, and it can be put right.
func TestBrokenConnector(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		asYAML(h.owner, t, "POST", "/v1/connectors", h.acme()).want(t, http.StatusCreated)
		h.instance(t, "one", "acme", nil)
		h.token(t, "one")
		db, err := store.Open(t.Context(), store.Options{URL: h.database})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = db.Write(t.Context(), func(tx *store.Tx) error { // as if the language had changed
			tx.Changed("connector", "acme")
			_, err := tx.ExecContext(t.Context(), `UPDATE connector_version SET definition = REPLACE(definition, 'basic:', 'bassic:')`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var broken grantway.Connector
		for deadline := time.Now().Add(2 * store.Staleness); !broken.Broken; {
			if time.Now().After(deadline) {
				t.Fatal("the hub did not see the change")
			}
			h.owner.do(t, "GET", "/v1/connectors/acme", nil).want(t, http.StatusOK).into(t, &broken)
		}
		if len(broken.Findings) == 0 || !strings.Contains(broken.Findings[0].String(), "bassic") || broken.Title != "Acme CRM" {
			t.Errorf("broken %+v", broken)
		}
		var page grantway.Page[grantway.Connector]
		h.owner.do(t, "GET", "/v1/connectors?source=own", nil).want(t, http.StatusOK).into(t, &page)
		if len(page.Items) != 1 || !page.Items[0].Broken {
			t.Errorf("list %+v", page.Items)
		}
		if p := h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusServiceUnavailable); !strings.Contains(string(p.body), "acme is broken") {
			t.Errorf("the call says %s", p.body)
		}
		h.owner.do(t, "GET", "/v1/credentials/one", nil).want(t, http.StatusOK)
		asYAML(h.owner, t, "PUT", "/v1/connectors/acme", h.acme()).want(t, http.StatusOK)
		h.token(t, "one")
	})
}

// TestConnectorTrial: preview and try show what goes out and what comes back, and nothing secret.
func TestConnectorTrial(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		var trial grantway.ConnectorTrial
		draft := object{"yaml": h.acme(), "inputs": object{"client_id": "app", "client_secret": canary}}
		h.owner.do(t, "POST", "/v1/connectors/preview", draft).want(t, http.StatusOK).into(t, &trial)
		if len(trial.Requests) != 1 || trial.Requests[0].Method != "POST" || trial.Requests[0].URL != h.provider.Token.URL || !strings.Contains(trial.Requests[0].Body, "scope=read") {
			t.Errorf("preview %+v", trial)
		}
		if h.provider.Token.Count() != 0 {
			t.Error("a preview asked the provider")
		}
		h.owner.do(t, "POST", "/v1/connectors/try", draft).want(t, http.StatusOK).into(t, &trial)
		if trial.Token == nil || trial.Token.Type != "Bearer" || trial.Token.Length == 0 || trial.Error != "" || len(trial.Answers) != 1 {
			t.Fatalf("try %+v", trial)
		}
		if body := trial.Answers[0].Body; !strings.Contains(body, `"access_token": "••••••••`) || !strings.Contains(body, `"token_type": "Bearer"`) {
			t.Errorf("answer %s", body)
		}
		// A token that is looked for in the wrong place stays secret, and the names help.
		leak := "s3ss10n-of-nobody-knows"
		for _, reply := range []grantwaytest.Reply{
			grantwaytest.Body(200, "application/json", `{"result":{"session":"`+leak+`","list":["`+leak+`"]}}`),
			grantwaytest.Body(200, "text/xml", `<a:r xmlns:a="urn:x"><session k="`+leak+`">`+leak+`</session></a:r>`),
			grantwaytest.Body(200, "application/x-www-form-urlencoded", "session="+leak),
			grantwaytest.Body(200, "text/plain", leak),
			grantwaytest.Body(400, "application/json", `{"error":"invalid_client","error_description":"`+canary+` is wrong","x":"`+leak+`"}`),
		} {
			h.provider.Token.Next(reply)
			answer := h.owner.do(t, "POST", "/v1/connectors/try", draft).want(t, http.StatusOK)
			answer.into(t, &trial)
			if trial.Token != nil || trial.Error == "" || len(trial.Answers) != 1 || strings.Contains(string(answer.body), leak) {
				t.Errorf("try %s", answer.body)
			}
		}
		h.owner.do(t, "POST", "/v1/connectors/try", object{"yaml": h.acme(), "inputs": object{"client_id": "app"}}).problem(t, grantway.Invalid, "/inputs/client_secret")
		h.owner.do(t, "POST", "/v1/connectors/try", object{"inputs": object{}}).problem(t, grantway.Invalid, "/yaml")
		h.owner.do(t, "POST", "/v1/connectors/preview", object{"yaml": "name: x\n"}).want(t, http.StatusUnprocessableEntity)
		h.owner.do(t, "POST", "/v1/connectors/preview", object{"connector": "spotify", "inputs": object{"client_id": "app", "client_secret": canary}}).want(t, http.StatusOK).into(t, &trial)
		if len(trial.Requests) != 1 || trial.Requests[0].URL != "https://accounts.spotify.com/api/token" {
			t.Errorf("preview %+v", trial)
		}
	})
}

// TestInstanceDetails: O-3, and what an instance has besides inputs.
func TestInstanceDetails(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		asYAML(h.owner, t, "POST", "/v1/connectors", "name: preset\nextends: oauth2\ntitle: Preset\ndefaults: {token_endpoint: '"+h.provider.Token.URL+"'}\noauth2: {form: {at: '{{now(\"ZZ\")}}'}}\n").want(t, http.StatusCreated)
		h.instance(t, "one", "preset", nil)
		if _, form := h.token(t, "one"); form.Has("scope") || form.Get("at") != "+00:00" { // O-2
			t.Errorf("asked with %v", form)
		}
		other := grantwaytest.NewProvider(t)
		other.Register(grantwaytest.Client{ID: "app", Secret: canary})
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"inputs": object{"token_endpoint": other.Token.URL}}).want(t, http.StatusOK)
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK)
		if other.Token.Count() != 1 {
			t.Error("the token endpoint that was entered was not used")
		}
		var saved grantway.Credential
		details := object{"inputs": object{"token_endpoint": nil}, "time_zone": "Asia/Tokyo", "rate_limit": object{"requests": 10, "per_seconds": 60}}
		h.owner.do(t, "PATCH", "/v1/credentials/one", details).want(t, http.StatusOK).into(t, &saved)
		if saved.TimeZone != "Asia/Tokyo" || saved.RateLimit == nil || *saved.RateLimit != (grantway.RateLimit{Requests: 10, Per: 60}) {
			t.Errorf("saved %+v", saved)
		}
		if _, form := h.token(t, "one"); form.Get("at") != "+09:00" || h.provider.Token.Count() != 2 {
			t.Errorf("asked with %v", form)
		}
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"time_zone": "Mars/Olympus", "rate_limit": object{"requests": 0, "per_seconds": 60}}).problem(t, grantway.Invalid, "/time_zone", "/rate_limit")
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"time_zone": nil, "rate_limit": nil}).want(t, http.StatusOK).into(t, &saved)
		if saved.TimeZone != "" || saved.RateLimit != nil {
			t.Errorf("saved %+v", saved)
		}
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"inputs": object{"token_endpoint": "http://login.example.com/token"}}).problem(t, grantway.Invalid, "/inputs/token_endpoint")
	})
}

// TestDesignerPicks is O-5: a designer may pick connectors and credentials, and no more.
func TestDesignerPicks(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		asYAML(h.owner, t, "POST", "/v1/connectors", h.acme()).want(t, http.StatusCreated)
		h.instance(t, "one", "acme", nil)
		designer, administrator := h.as(t, "designer", "home"), h.as(t, "administrator", "home")
		var page grantway.Page[grantway.Credential]
		designer.do(t, "GET", "/v1/credentials?connector=acme", nil).want(t, http.StatusOK).into(t, &page)
		if len(page.Items) != 1 || page.Items[0].Name != "one" || page.Items[0].Connector != "acme" || len(page.Items[0].Inputs) != 0 {
			t.Errorf("a designer sees %+v", page.Items)
		}
		var one grantway.Connector
		designer.do(t, "GET", "/v1/connectors/acme", nil).want(t, http.StatusOK).into(t, &one)
		if one.UsedBy != nil {
			t.Errorf("a designer sees who uses it: %v", one.UsedBy)
		}
		designer.do(t, "GET", "/v1/credentials/one", nil).problem(t, grantway.Forbidden)
		designer.do(t, "POST", "/v1/credentials/one/token", nil).problem(t, grantway.Forbidden)
		for _, who := range []*caller{designer, administrator} { // of one division: connectors belong to all
			asYAML(who, t, "PUT", "/v1/connectors/acme", h.acme()).problem(t, grantway.Forbidden)
			who.do(t, "DELETE", "/v1/connectors/acme", nil).problem(t, grantway.Forbidden)
			who.do(t, "POST", "/v1/connectors/try", object{"connector": "acme"}).problem(t, grantway.Forbidden)
		}
	})
}

// TestReplicasSeeEdits: an edit on one hub counts on another within a second, tokens included.
func TestReplicasSeeEdits(t *testing.T) {
	database := storetest.Postgres(t)
	h := start(t, database)
	asYAML(h.owner, t, "POST", "/v1/connectors", h.acme()).want(t, http.StatusCreated)
	h.instance(t, "one", "acme", nil)
	other := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database, Data: h.Data, SecretFiles: h.files})
	before, err := other.Token(t.Context(), grantway.Ref{Credential: "one"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		asYAML(h.owner, t, "PUT", "/v1/connectors/acme", h.acme("default: read", fmt.Sprint("default: read", i))).want(t, http.StatusOK)
		for edited := time.Now(); ; {
			after, err := other.Token(t.Context(), grantway.Ref{Credential: "one"})
			if err != nil {
				t.Fatal(err)
			}
			if after.Fingerprint != before.Fingerprint {
				before = after
				break
			}
			if time.Since(edited) > store.Staleness+500*time.Millisecond {
				t.Fatalf("edit %d: the other hub serves the old token after %v", i, time.Since(edited))
			}
		}
		requests := h.provider.Token.Requests()
		if scope := requests[len(requests)-1].Form.Get("scope"); scope != fmt.Sprint("read", i) {
			t.Errorf("edit %d: asked with scope %q", i, scope)
		}
	}
}

// TestConnectorSchema: editors get it without signing in.
func TestConnectorSchema(t *testing.T) {
	h := start(t, "")
	answer := h.nobody().do(t, "GET", "/schema/connector.json", nil).want(t, http.StatusOK)
	if !json.Valid(answer.body) || answer.header.Get("Content-Type") != "application/schema+json" {
		t.Errorf("%v %s", answer.header, answer.body)
	}
}
