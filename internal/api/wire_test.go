package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
)

// TestWireShape pins the JSON of a credential that other programs rely on.
func TestWireShape(t *testing.T) {
	const sent = `{"name":"sales-email","description":"Reads the sales mailbox","division":"home","connector":"oauth2-client-credentials",
		"inputs":{"client_id":"app","client_secret":"` + canary + `","token_endpoint":"https://login.example.com/oauth2/token",
		"scopes":"a b","auth_method":"client_secret_basic","basic_encoding":"rfc6749"}}`
	const want = `{"name":"sales-email","description":"Reads the sales mailbox","division":"home","connector":"oauth2-client-credentials","connector_version":1,
		"inputs":{"client_id":"app","client_secret":{"source":"internal","set":true},"token_endpoint":"https://login.example.com/oauth2/token",
		"scopes":"a b","auth_method":"client_secret_basic","basic_encoding":"rfc6749"},"version":1}`
	each(t, func(t *testing.T, h *hub) {
		created := h.owner.do(t, "POST", "/v1/credentials", sent).want(t, http.StatusCreated)
		if created.header.Get("ETag") != `"1"` || created.header.Get("Location") != "/v1/credentials/sales-email" {
			t.Errorf("headers of a created credential: %v", created.header)
		}
		got := decode(t, created.body)
		id, _ := got["id"].(string)
		if !regexp.MustCompile(`^cred_[0-9a-z]{21}$`).MatchString(id) {
			t.Errorf("id %q", id)
		}
		for _, member := range []string{"created_at", "updated_at"} {
			text, _ := got[member].(string)
			if at, err := time.Parse(time.RFC3339, text); err != nil || time.Since(at).Abs() > time.Minute || at.Location() != time.UTC {
				t.Errorf("%s is %q: %v", member, text, err)
			}
		}
		for _, member := range []string{"id", "created_at", "updated_at"} {
			delete(got, member)
		}
		if diff := cmp.Diff(decode(t, []byte(want)), got); diff != "" {
			t.Errorf("created (-want +got):\n%s", diff)
		}

		for _, path := range []string{"/v1/credentials/sales-email", "/v1/credentials/SALES-EMAIL", "/v1/credentials/" + id} {
			read := h.owner.do(t, "GET", path, nil).want(t, http.StatusOK)
			if string(read.body) != string(created.body) || read.header.Get("ETag") != `"1"` {
				t.Errorf("GET %s: ETag %s, %s", path, read.header.Get("ETag"), read.body)
			}
		}
		list := h.owner.do(t, "GET", "/v1/credentials", nil).want(t, http.StatusOK)
		if got := string(list.body); got != `{"items":[`+string(created.body)+`]}` {
			t.Errorf("list: %s", got)
		}
	})
}

func decode(t *testing.T, text []byte) (v object) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// TestEmptyLists are lists, not null.
func TestEmptyLists(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		for _, path := range []string{"/v1/credentials", "/v1/audit?action=nothing"} {
			if got := string(h.owner.do(t, "GET", path, nil).want(t, http.StatusOK).body); got != `{"items":[]}` {
				t.Errorf("GET %s: %s", path, got)
			}
		}
	})
}

// TestInputForms writes each form an input can take, and reads how it comes back.
func TestInputForms(t *testing.T) {
	rows := []struct{ name, input, sent, answered string }{ // null: the input is not there
		{"text", "audience", `"https://api.example.com"`, `"https://api.example.com"`},
		{"number", "default_lifetime_seconds", `900`, `"900"`},
		{"number as text", "default_lifetime_seconds", `"900"`, `"900"`},
		{"boolean", "client_id_in_body", `true`, `"true"`},
		{"boolean as text", "client_id_in_body", `"false"`, `"false"`},
		{"null", "audience", `null`, `null`},
		{"empty", "audience", `""`, `null`},
		{"scopes keep order and case, spaces collapse", "scopes", `"B a  A"`, `"B a A"`},
		{"scope of Microsoft", "scopes", `"https://outlook.office365.com/.default"`, `"https://outlook.office365.com/.default"`},
		{"date", "client_secret_expires_at", `"2031-01-31"`, `"2031-01-31"`},
		{"time", "client_secret_expires_at", `"2031-01-31T12:00:00Z"`, `"2031-01-31T12:00:00Z"`},
		{"internal secret", "next_client_secret", `"` + canary + `"`, `{"source":"internal","set":true}`},
		{"external secret", "next_client_secret", `{"store":"env","key":"NAME"}`, `{"store":"env","key":"NAME"}`},
		{"external secret, all members", "next_client_secret", `{"store":"env","key":"NAME","field":"f","version":"3"}`, `{"store":"env","key":"NAME","field":"f","version":"3"}`},
		{"secret to be kept where there is none", "next_client_secret", `{"source":"internal","set":true}`, `null`},
		{"parameters", "extra_parameters",
			`[{"in":"body","name":"tenant","value":"a&b=ü"},{"in":"query","name":"v","value":""},{"in":"header","name":"X-Env","value":"test"}]`,
			`[{"in":"body","name":"tenant","value":"a&b=ü"},{"in":"query","name":"v","value":""},{"in":"header","name":"X-Env","value":"test"}]`},
		{"no parameters", "extra_parameters", `[]`, `null`},
	}
	each(t, func(t *testing.T, h *hub) {
		for i, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				name := fmt.Sprintf("form-%d", i)
				h.owner.do(t, "POST", "/v1/credentials", h.credential(name, object{row.input: json.RawMessage(row.sent)})).want(t, http.StatusCreated)
				read := decode(t, h.owner.do(t, "GET", "/v1/credentials/"+name, nil).want(t, http.StatusOK).body)
				var want any
				if err := json.Unmarshal([]byte(row.answered), &want); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, read["inputs"].(object)[row.input]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", row.input, diff)
				}
			})
		}
	})
}

// TestReadOnlyMembers sends what only the hub may set: on a create it has no effect.
func TestReadOnlyMembers(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		body := h.credential("own", nil)
		body["id"], body["version"], body["used_by"] = "cred_mine", 17, []string{"flow mine"}
		body["warnings"] = []object{{"pointer": "/name", "detail": "mine"}}
		body["created_at"], body["updated_at"] = "2001-01-01T00:00:00Z", "2001-01-01T00:00:00Z"
		got := h.save(t, body)
		if got.ID == "cred_mine" || got.Version != 1 || got.UsedBy != nil || got.Warnings != nil || got.CreatedAt.Year() == 2001 || got.UpdatedAt.Year() == 2001 {
			t.Errorf("created with the caller's members: %+v", got)
		}
	})
}

// TestPutWhatWasRead sends an answer back as it is: nothing but the version and the time changes,
// and the secret is kept.
func TestPutWhatWasRead(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		h.save(t, h.credential("round", object{
			"scopes": "a b", "extra_parameters": []object{{"in": "body", "name": "n", "value": "v"}},
			"next_client_secret": object{"store": "file", "key": "next"},
		}))
		read := h.owner.do(t, "GET", "/v1/credentials/round", nil).want(t, http.StatusOK)
		written := h.owner.do(t, "PUT", "/v1/credentials/round", string(read.body)).want(t, http.StatusOK)
		again := h.owner.do(t, "GET", "/v1/credentials/round", nil).want(t, http.StatusOK)
		if again.header.Get("ETag") != `"2"` || written.header.Get("ETag") != `"2"` {
			t.Errorf("ETag %s, then %s, want \"2\"", written.header.Get("ETag"), again.header.Get("ETag"))
		}
		before, answered, after := decode(t, read.body), decode(t, written.body), decode(t, again.body)
		if answered["warnings"] == nil { // the key "next" is not there yet
			t.Error("the answer to the PUT has no warnings")
		}
		delete(answered, "warnings")
		if diff := cmp.Diff(after, answered); diff != "" {
			t.Errorf("GET after PUT differs from the PUT's answer (-GET +PUT):\n%s", diff)
		}
		before["version"], before["updated_at"] = 2.0, after["updated_at"]
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("PUT of what was read changed something (-before +after):\n%s", diff)
		}
		var token grantway.Token
		h.owner.do(t, "POST", "/v1/credentials/round/token", nil).want(t, http.StatusOK).into(t, &token)
	})
}

// TestLargestBody sends bodies of 1 MiB and of one byte more, with and without their length.
func TestLargestBody(t *testing.T) {
	h := start(t, "")
	for _, length := range []bool{true, false} {
		for extra, status := range map[int]int{0: http.StatusOK, 1: http.StatusRequestEntityTooLarge} {
			h.owner.do(t, "DELETE", "/v1/credentials/large", nil)
			h.save(t, h.credential("large", nil))
			text := `{"description":"changed"}`
			text += strings.Repeat(" ", 1<<20+extra-len(text))
			var body any = text
			if !length {
				body = io.MultiReader(strings.NewReader(text))
			}
			if got := h.owner.do(t, "PATCH", "/v1/credentials/large", body).status; got != status {
				t.Errorf("%d bytes over 1 MiB, length given: %t: HTTP %d, want %d", extra, length, got, status)
			}
		}
	}
}
