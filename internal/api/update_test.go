package api_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
)

// TestETag reads and changes a credential under conditions.
func TestETag(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		saved := h.save(t, h.credential("one", nil))
		const path = "/v1/credentials/one"
		for _, row := range []struct {
			tag    string
			status int
		}{
			{`"1"`, http.StatusNotModified},
			{`W/"1"`, http.StatusNotModified},
			{`"7", "1"`, http.StatusNotModified},
			{`*`, http.StatusNotModified},
			{`"2"`, http.StatusOK},
			{`1`, http.StatusOK},
			{``, http.StatusOK},
		} {
			answer := h.owner.do(t, "GET", path, nil, "If-None-Match", row.tag).want(t, row.status)
			if answer.header.Get("ETag") != `"1"` || (row.status == http.StatusNotModified) != (len(answer.body) == 0) {
				t.Errorf("If-None-Match %s: ETag %q, body %q", row.tag, answer.header.Get("ETag"), answer.body)
			}
		}

		version := 1
		for _, row := range []struct {
			name, method string
			body         any
			tag          string
			changes      bool
		}{
			{"PUT, current", "PUT", saved, `"1"`, true},
			{"PUT, old", "PUT", with(h.credential("one", nil), "version", 2), `"1"`, false}, // the header counts
			{"PUT, old in the body", "PUT", saved, "", false},
			{"PUT, any", "PUT", h.credential("one", nil), "*", true},
			{"PUT, no condition", "PUT", h.credential("one", nil), "", true},
			{"PATCH, weak", "PATCH", object{"description": "a"}, `W/"4"`, true},
			{"PATCH, old", "PATCH", object{"description": "b"}, `"4"`, false},
			{"PATCH, old in the body", "PATCH", object{"description": "b", "version": 4}, "", false},
			{"PATCH, no condition", "PATCH", object{"description": "b"}, "", true},
			{"DELETE, old", "DELETE", nil, `"1"`, false},
		} {
			answer := h.owner.do(t, row.method, path, row.body, "If-Match", row.tag)
			if row.changes {
				version++
				answer.want(t, http.StatusOK)
				if tag := answer.header.Get("ETag"); tag != fmt.Sprintf("%q", fmt.Sprint(version)) {
					t.Errorf("%s: ETag %s, want version %d", row.name, tag, version)
				}
			} else {
				answer.problem(t, grantway.PreconditionFailed)
			}
			var now grantway.Credential
			h.owner.do(t, "GET", path, nil).want(t, http.StatusOK).into(t, &now)
			if now.Version != int64(version) {
				t.Fatalf("%s: version %d, want %d", row.name, now.Version, version)
			}
		}

		gone := h.owner.do(t, "DELETE", path, nil, "If-Match", fmt.Sprintf("%q", fmt.Sprint(version))).want(t, http.StatusNoContent)
		if len(gone.body) != 0 {
			t.Errorf("DELETE answered %q", gone.body)
		}
		h.owner.do(t, "DELETE", path, nil).problem(t, grantway.NotFound)
		h.owner.do(t, "GET", path, nil).problem(t, grantway.NotFound)
		if n := h.count(t, `SELECT COUNT(*) FROM credential_secret`); n != 0 {
			t.Errorf("%d secrets are left of a deleted credential", n)
		}
	})
}

// TestUpdateKeepsSecrets changes everything but the secret, in each way that leaves it out (C-5).
func TestUpdateKeepsSecrets(t *testing.T) {
	rows := []struct {
		name, method string
		body         func(h *hub) any
	}{
		{"PUT without it", "PUT", func(h *hub) any { return h.credential("one", object{"client_secret": nil, "scopes": "b"}) }},
		{"PUT with its mark", "PUT", func(h *hub) any {
			return h.credential("one", object{"client_secret": object{"source": "internal", "set": true}})
		}},
		{"PATCH of another member", "PATCH", func(*hub) any { return object{"description": "changed"} }},
		{"PATCH of another input", "PATCH", func(*hub) any { return object{"inputs": object{"scopes": "c"}} }},
		{"PATCH of nothing", "PATCH", func(*hub) any { return object{} }},
	}
	each(t, func(t *testing.T, h *hub) {
		h.save(t, h.credential("one", nil))
		for _, row := range rows {
			h.owner.do(t, row.method, "/v1/credentials/one", row.body(h)).want(t, http.StatusOK)
			h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK) // the provider knows the secret
			event := h.lastEvent(t, "credential.update")
			if slices.Contains(event.Fields, "client_secret") {
				t.Errorf("%s: the audit trail says that the secret was changed: %v", row.name, event.Fields)
			}
		}
		if n := h.provider.Token.Count(); n != len(rows) {
			t.Errorf("%d token requests, want %d", n, len(rows))
		}
	})
}

// lastEvent is the newest event of an action.
func (h *hub) lastEvent(t *testing.T, action string) grantway.Event {
	t.Helper()
	var page grantway.Page[grantway.Event]
	h.owner.do(t, "GET", "/v1/audit?limit=1&action="+action, nil).want(t, http.StatusOK).into(t, &page)
	if len(page.Items) != 1 {
		t.Fatalf("no event %s", action)
	}
	return page.Items[0]
}

// TestUpdateSecret gives new secrets: the next token is asked for with them, and the audit
// trail says so, also when a secret is the same as before.
func TestUpdateSecret(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.save(t, h.credential("one", nil))
		for i, secret := range []string{canary + "-2", canary + "-2", canary} {
			h.provider.Register(grantClient(secret))
			h.owner.do(t, "PATCH", "/v1/credentials/one", object{"inputs": object{"client_secret": secret}}).want(t, http.StatusOK)
			h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK)
			if diff := cmp.Diff([]string{"client_secret"}, h.lastEvent(t, "credential.update").Fields); diff != "" {
				t.Errorf("update %d, fields in the audit trail (-want +got):\n%s", i, diff)
			}
		}
	})
}

// TestPatch changes single members and inputs; null removes.
func TestPatch(t *testing.T) {
	rows := []struct {
		name  string
		patch any
		kind  string // content type
		want  func(c *grantway.Credential)
	}{
		{"member", object{"description": "new"}, "application/merge-patch+json", func(c *grantway.Credential) { c.Description = "new" }},
		{"null removes a member", object{"description": nil}, "application/json", func(c *grantway.Credential) { c.Description = "" }},
		{"input", object{"inputs": object{"scopes": "x y"}}, "application/merge-patch+json; charset=utf-8", func(c *grantway.Credential) { c.Inputs["scopes"] = grantway.Text("x y") }},
		{"null removes an input", object{"inputs": object{"scopes": nil, "audience": nil}}, "application/json", func(c *grantway.Credential) { delete(c.Inputs, "scopes"); delete(c.Inputs, "audience") }},
		{"empty removes an input", object{"inputs": object{"extra_parameters": []object{}}}, "application/json", func(c *grantway.Credential) { delete(c.Inputs, "extra_parameters") }},
		{"null removes a secret", object{"inputs": object{"next_client_secret": nil}}, "application/json", func(c *grantway.Credential) { delete(c.Inputs, "next_client_secret") }},
		{"name and inputs", object{"name": "two", "inputs": object{"audience": "a"}}, "application/json", func(c *grantway.Credential) { c.Name = "two"; c.Inputs["audience"] = grantway.Text("a") }},
		{"read-only members", object{"id": "cred_x", "created_at": "2001-01-01T00:00:00Z", "used_by": []string{"x"}, "version": nil}, "application/json", func(*grantway.Credential) {}},
	}
	each(t, func(t *testing.T, h *hub) {
		body := h.credential("one", object{
			"scopes": "a b", "audience": "https://api.example.com", "next_client_secret": canary,
			"extra_parameters": []object{{"in": "body", "name": "n", "value": "v"}},
		})
		body["description"] = "old"
		want := h.save(t, body)
		path := "/v1/credentials/" + want.ID
		for _, row := range rows {
			var answered, read grantway.Credential
			h.owner.do(t, "PATCH", path, row.patch, "Content-Type", row.kind).want(t, http.StatusOK).into(t, &answered)
			row.want(&want)
			want.Version++
			want.UpdatedAt = answered.UpdatedAt
			if diff := cmp.Diff(want, answered); diff != "" {
				t.Errorf("%s (-want +got):\n%s", row.name, diff)
			}
			h.owner.do(t, "GET", path, nil).want(t, http.StatusOK).into(t, &read)
			if diff := cmp.Diff(answered, read); diff != "" {
				t.Errorf("%s, read again (-answered +read):\n%s", row.name, diff)
			}
		}
		if n := h.count(t, `SELECT COUNT(*) FROM credential_secret WHERE input = 'next_client_secret'`); n != 0 {
			t.Error("a removed secret is still in the database")
		}
	})
}

// TestExternalSecret moves the secret into a store, where it does not exist yet, makes it,
// rotates it, and takes it back (C-6).
func TestExternalSecret(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.save(t, h.credential("one", nil))
		sealed := func() int { return h.count(t, `SELECT COUNT(*) FROM credential_secret WHERE input = 'client_secret'`) }
		token := func() *answer {
			h.owner.do(t, "POST", "/v1/credentials/one/token/invalidate", nil).want(t, http.StatusNoContent)
			return h.owner.do(t, "POST", "/v1/credentials/one/token", nil)
		}
		token().want(t, http.StatusOK)
		if sealed() != 1 {
			t.Fatal("the internal secret is not in the database")
		}

		reference := object{"store": "file", "key": "mail/secret"}
		var saved grantway.Credential
		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"inputs": object{"client_secret": reference}}).want(t, http.StatusOK).into(t, &saved)
		if len(saved.Warnings) != 1 || saved.Warnings[0].Pointer != "/inputs/client_secret" {
			t.Errorf("no warning of a key that is not there: %+v", saved.Warnings)
		}
		if want := (&grantway.SecretRef{Store: "file", Key: "mail/secret"}); !cmp.Equal(want, saved.Inputs["client_secret"].Ref) {
			t.Errorf("the reference came back as %+v", saved.Inputs["client_secret"])
		}
		if sealed() != 0 {
			t.Error("the internal secret is still in the database")
		}
		token().problem(t, grantway.Unavailable)

		write := func(secret string) {
			path := filepath.Join(h.files, "mail", "secret")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(canary)
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK) // no edit, no invalidation

		h.provider.Register(grantClient(canary + "-rotated"))
		write(canary + "-rotated")
		token().want(t, http.StatusOK)

		h.owner.do(t, "PATCH", "/v1/credentials/one", object{"inputs": object{"client_secret": canary + "-rotated"}}).want(t, http.StatusOK).into(t, &saved)
		if saved.Warnings != nil || !saved.Inputs["client_secret"].Set || sealed() != 1 {
			t.Errorf("back to internal: %+v, %d rows", saved, sealed())
		}
		token().want(t, http.StatusOK)
	})
}

// TestRename keeps the id and goes on serving tokens under the new name (C-10).
func TestRename(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		before := h.save(t, h.credential("before", nil))
		h.owner.do(t, "POST", "/v1/credentials/before/token", nil).want(t, http.StatusOK)
		var after grantway.Credential
		h.owner.do(t, "PATCH", "/v1/credentials/before", object{"name": "After"}).want(t, http.StatusOK).into(t, &after)
		if after.ID != before.ID || after.Name != "After" {
			t.Errorf("renamed to %s %s, was %s", after.ID, after.Name, before.ID)
		}
		for _, ref := range []string{"After", "after", before.ID} {
			h.owner.do(t, "POST", "/v1/credentials/"+ref+"/token", nil).want(t, http.StatusOK)
		}
		h.owner.do(t, "POST", "/v1/credentials/before/token", nil).problem(t, grantway.NotFound)
		h.owner.do(t, "PATCH", "/v1/credentials/after", object{"name": "AFTER"}).want(t, http.StatusOK) // its own name in another case
		h.save(t, h.credential("before", nil))                                                          // the old name is free
	})
}

// TestNameLikeAnID gives a credential the id of another one as its name: ids win.
func TestNameLikeAnID(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		victim := h.save(t, h.credential("victim", nil))
		thief := h.save(t, h.credential(victim.ID, nil))
		var got grantway.Credential
		h.owner.do(t, "GET", "/v1/credentials/"+victim.ID, nil).want(t, http.StatusOK).into(t, &got)
		if got.Name != "victim" {
			t.Errorf("the id leads to the credential %s", got.Name)
		}
		h.owner.do(t, "PATCH", "/v1/credentials/victim", object{"description": "changed"}).want(t, http.StatusOK).into(t, &got)
		if got.ID != victim.ID || got.Description != "changed" {
			t.Errorf("changed the wrong credential: %+v", got)
		}
		h.owner.do(t, "POST", "/v1/credentials/victim/token", nil).want(t, http.StatusOK)
		h.owner.do(t, "DELETE", "/v1/credentials/"+thief.ID, nil).want(t, http.StatusNoContent)
	})
}

// TestConcurrentPUTs sends updates of one version at once: exactly one of them wins.
func TestConcurrentPUTs(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		const n = 8
		h.save(t, h.credential("one", nil))
		answers := make([]*answer, n)
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				body := h.credential("one", nil)
				body["description"] = fmt.Sprint("by ", i)
				answers[i] = h.owner.do(t, "PUT", "/v1/credentials/one", body, "If-Match", `"1"`)
			})
		}
		all.Wait()
		var won, now grantway.Credential
		wins := 0
		for _, answer := range answers {
			if answer.status == http.StatusOK {
				wins++
				answer.into(t, &won)
				continue
			}
			answer.problem(t, grantway.PreconditionFailed)
		}
		h.owner.do(t, "GET", "/v1/credentials/one", nil).want(t, http.StatusOK).into(t, &now)
		if diff := cmp.Diff(won, now); wins != 1 || now.Version != 2 || diff != "" {
			t.Errorf("%d updates won; the winner and what is stored (-won +stored):\n%s", wins, diff)
		}
		if n := h.count(t, `SELECT COUNT(*) FROM audit WHERE action = 'credential.update' AND outcome = 'done'`); n != 1 {
			t.Errorf("%d updates in the audit trail, want 1", n)
		}
	})
}

// TestIdempotentCreate repeats creates, one after the other and all at once.
func TestIdempotentCreate(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		create := func(who *caller, key string, body object) *answer {
			return who.do(t, "POST", "/v1/credentials", body, "Idempotency-Key", key)
		}
		first := create(h.owner, "k1", h.credential("one", nil)).want(t, http.StatusCreated)
		again := create(h.owner, "k1", h.credential("one", nil)).want(t, http.StatusCreated)
		if string(first.body) != string(again.body) || again.header.Get("ETag") != `"1"` || again.header.Get("Location") != first.header.Get("Location") {
			t.Errorf("repeated: %s, first: %s", again.body, first.body)
		}
		create(h.owner, "k1", h.credential("one", object{"client_secret": canary + "-other"})).problem(t, grantway.Conflict)
		create(h.owner, "k1", h.credential("two", nil)).problem(t, grantway.Conflict)
		create(h.owner, "k2", h.credential("one", nil)).problem(t, grantway.Conflict, "/name")
		create(h.owner, "k2", h.credential("two", nil)).want(t, http.StatusCreated) // a failed create does not use up its key
		create(h.as(t, "administrator", "*"), "k1", h.credential("three", nil)).want(t, http.StatusCreated)

		h.owner.do(t, "DELETE", "/v1/credentials/one", nil).want(t, http.StatusNoContent)
		create(h.owner, "k1", h.credential("one", nil)).problem(t, grantway.Conflict)

		for _, name := range []string{"a", "b", "c", "d"} { // a race is not lost every time
			answers := make([]*answer, 8)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() { answers[i] = create(h.owner, "at once "+name, h.credential(name, nil)) })
			}
			all.Wait()
			for _, answer := range answers {
				if answer.want(t, http.StatusCreated); string(answer.body) != string(answers[0].body) {
					t.Errorf("creates at once differ: %s and %s", answers[0].body, answer.body)
				}
			}
			if n := h.count(t, `SELECT COUNT(*) FROM audit WHERE action = 'credential.create' AND object = $1`, "credential/"+name); n != 1 {
				t.Errorf("%d creates in the audit trail, want 1", n)
			}
		}
	})
}
