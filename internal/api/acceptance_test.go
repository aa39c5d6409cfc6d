package api_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// TestAuthenticationMethods looks at the request that reaches a provider which takes only
// one method (C-2, C-7, O-2).
func TestAuthenticationMethods(t *testing.T) {
	rows := []struct {
		name   string
		method grantwaytest.Method
		inputs object
		header string // scheme of Authorization
		form   url.Values
	}{
		{"Basic", grantwaytest.AuthBasic, object{"scopes": "B a  A"}, "Basic",
			url.Values{"grant_type": {"client_credentials"}, "scope": {"B a A"}}},
		{"Basic without scopes", grantwaytest.AuthBasic, object{}, "Basic",
			url.Values{"grant_type": {"client_credentials"}}},
		{"body", grantwaytest.AuthPost, object{"auth_method": "client_secret_post", "scopes": "https://outlook.office365.com/.default"}, "",
			url.Values{"grant_type": {"client_credentials"}, "scope": {"https://outlook.office365.com/.default"}, "client_id": {"app"}, "client_secret": {canary}}},
		{"body without scopes", grantwaytest.AuthPost, object{"auth_method": "client_secret_post", "scopes": " "}, "",
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"app"}, "client_secret": {canary}}},
		{"extra parameters", grantwaytest.AuthBasic, object{"client_id_in_body": true, "audience": "aud", "resource": "urn:res", "extra_parameters": []object{{"in": "body", "name": "n", "value": "a&b"}, {"in": "query", "name": "q", "value": "ü"}, {"in": "header", "name": "X-H", "value": "h"}}}, "Basic",
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"app"}, "audience": {"aud"}, "resource": {"urn:res"}, "n": {"a&b"}}},
	}
	each(t, func(t *testing.T, h *hub) {
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				h.provider.Register(grantwaytest.Client{ID: "app", Secret: canary, Method: row.method})
				body := h.credential(strings.ReplaceAll(row.name, " ", "-"), row.inputs)
				h.save(t, body)
				for _, ask := range []func() *answer{
					func() *answer { return h.owner.do(t, "POST", "/v1/credentials/validate", body) },
					func() *answer {
						return h.owner.do(t, "POST", "/v1/credentials/"+body["name"].(string)+"/validate", nil)
					},
				} {
					var report grantway.Report
					ask().want(t, http.StatusOK).into(t, &report)
					if !report.OK {
						t.Errorf("validation failed: %+v", report.Steps)
					}
					requests := h.provider.Token.Requests()
					got := requests[len(requests)-1]
					if scheme, _, _ := strings.Cut(got.Header.Get("Authorization"), " "); scheme != row.header {
						t.Errorf("Authorization %q, want %q", scheme, row.header)
					}
					if diff := cmp.Diff(row.form, got.Form); diff != "" {
						t.Errorf("body (-want +got):\n%s", diff)
					}
					if row.name == "extra parameters" && (got.Query.Get("q") != "ü" || got.Header.Get("X-H") != "h") {
						t.Errorf("query %v, header %q", got.Query, got.Header.Get("X-H"))
					}
				}
			})
		}
	})
}

// TestAwkwardSecrets fetches tokens with secrets that need every escape there is (C-3).
func TestAwkwardSecrets(t *testing.T) {
	secrets := []string{"jhyun/ku[ojubbj]/jhgfdrg^7*dfg&jkiu#bjshdm,ktttdg", "a=b+c%25 é:", `"\<>` + "\u2028"}
	methods := map[grantwaytest.Method]object{
		grantwaytest.AuthBasic:    {"auth_method": "client_secret_basic"},
		grantwaytest.AuthRawBasic: {"auth_method": "client_secret_basic", "basic_encoding": "raw"},
		grantwaytest.AuthPost:     {"auth_method": "client_secret_post"},
	}
	each(t, func(t *testing.T, h *hub) {
		h.save(t, h.credential("one", nil))
		for _, secret := range secrets {
			for method, inputs := range methods {
				h.provider.Register(grantwaytest.Client{ID: "app", Secret: secret, Method: method})
				saved := h.owner.do(t, "PUT", "/v1/credentials/one", h.credential("one", with(inputs, "client_secret", secret))).want(t, http.StatusOK)
				if token := h.owner.do(t, "POST", "/v1/credentials/one/token", nil); token.status != http.StatusOK {
					t.Errorf("%s, secret %q: %s", method, secret, token.body)
				}
				if strings.Contains(string(saved.body), secret) {
					t.Errorf("the answer holds the secret %q", secret)
				}
			}
		}
	})
}

// TestValidateNeverBlocksSaving validates a draft that does not work, saves it all the same,
// and validates what was saved once it does work (C-4).
func TestValidateNeverBlocksSaving(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		health := func() grantway.Health {
			var s grantway.Status
			h.owner.do(t, "GET", "/v1/credentials/one/status", nil).want(t, http.StatusOK).into(t, &s)
			return s.Health
		}
		h.provider.Register(grantClient(canary + "-another"))
		var report grantway.Report
		h.owner.do(t, "POST", "/v1/credentials/validate", h.credential("one", nil)).want(t, http.StatusOK).into(t, &report)
		last := report.Steps[len(report.Steps)-1]
		if report.OK || last.Result != "failed" || last.Code != "invalid_client" || last.HTTPCode != 401 || last.Hint == "" || last.Message == "" {
			t.Errorf("report of a wrong secret: %+v", report)
		}
		h.owner.do(t, "GET", "/v1/credentials/one", nil).problem(t, grantway.NotFound) // a draft is not saved

		h.save(t, h.credential("one", nil))
		if got := health(); got != grantway.NotValidated {
			t.Errorf("saved and not validated: health %s", got)
		}
		h.owner.do(t, "POST", "/v1/credentials/one/validate", nil).want(t, http.StatusOK).into(t, &report)
		if got := health(); report.OK || got != grantway.Failing {
			t.Errorf("validated with a wrong secret: %t, health %s", report.OK, got)
		}
		h.provider.Register(grantClient(canary))
		h.owner.do(t, "POST", "/v1/credentials/one/validate", nil).want(t, http.StatusOK).into(t, &report) // nothing is typed again
		if got := health(); !report.OK || got != grantway.Healthy {
			t.Errorf("validated with the right secret: %+v, health %s", report, got)
		}
		asked := h.provider.Token.Count()
		h.owner.do(t, "POST", "/v1/credentials/one/token", nil).want(t, http.StatusOK)
		if h.provider.Token.Count() != asked {
			t.Error("the token of the validation was not kept")
		}

		h.owner.do(t, "POST", "/v1/credentials/one/validate", object{"name": "one", "inputs": object{"client_id": "unknown", "token_endpoint": h.provider.Token.URL}}).
			want(t, http.StatusOK).into(t, &report)
		if got := health(); report.OK || got != grantway.Healthy {
			t.Errorf("changes that are not saved: %t, health %s", report.OK, got)
		}
	})
}

// TestAuditTrail reads who did what, when, and never a value (O-9).
func TestAuditTrail(t *testing.T) {
	each(t, func(t *testing.T, h *hub) {
		began := time.Now().UTC().Truncate(time.Millisecond)
		admin := h.as(t, "administrator", "*")
		body := h.credential("one", object{"scopes": "a"})
		body["description"] = "confidential"
		admin.do(t, "POST", "/v1/credentials", body).want(t, http.StatusCreated)
		admin.do(t, "PATCH", "/v1/credentials/one", object{"name": "two", "inputs": object{"scopes": "b", "audience": "c"}}).want(t, http.StatusOK)
		admin.do(t, "POST", "/v1/credentials/two/validate", nil).want(t, http.StatusOK)
		admin.do(t, "POST", "/v1/credentials/validate", with(h.credential("draft", nil), "inputs", object{})).want(t, http.StatusOK)
		admin.do(t, "DELETE", "/v1/credentials/two", nil).problem(t, grantway.Forbidden)
		h.owner.do(t, "DELETE", "/v1/credentials/two", nil).want(t, http.StatusNoContent)

		event := func(who *caller, name, action, outcome, object string, fields ...string) grantway.Event {
			return grantway.Event{Caller: who.id, Name: name, Action: action, Outcome: outcome, Object: object, Division: "home", Fields: fields}
		}
		const name = "administrator-in-all"
		want := []grantway.Event{ // newest first
			event(h.owner, "owner", "credential.delete", "done", "credential/two"),
			event(admin, name, "credential.delete", "denied", "credential/two"),
			event(admin, name, "credential.validate", "failed", "credential/draft"),
			event(admin, name, "credential.validate", "done", "credential/two"),
			event(admin, name, "credential.update", "done", "credential/two", "audience", "name", "scopes"),
			event(admin, name, "credential.create", "done", "credential/one", "client_id", "client_secret", "description", "division", "name", "scopes", "token_endpoint"),
		}
		var got grantway.Page[grantway.Event]
		answer := h.owner.do(t, "GET", "/v1/audit?action=credential.", nil).want(t, http.StatusOK)
		answer.into(t, &got)
		if diff := cmp.Diff(want, got.Items, cmpopts.IgnoreFields(grantway.Event{}, "ID", "At")); diff != "" {
			t.Errorf("audit trail (-want +got):\n%s", diff)
		}
		for _, value := range []string{"confidential", h.provider.URL, `"app"`} {
			if strings.Contains(string(answer.body), value) {
				t.Errorf("the audit trail holds the value %s", value)
			}
		}
		for _, e := range got.Items {
			if e.At.Before(began) || e.At.After(time.Now()) {
				t.Errorf("%s at %s, began %s", e.Action, e.At, began)
			}
		}

		for query, n := range map[string]int{
			"action=credential.create": 1, "action=credential.&outcome=denied": 1, "action=credential.&caller=" + h.owner.id: 1,
			"object=credential/two": 4, "action=credential.&since=" + began.Format(time.RFC3339Nano): 6,
			"action=credential.&until=" + began.Format(time.RFC3339Nano): 0, "action=credential.&until=2100-01-01T00:00:00%2B01:00": 6,
			"action=credential.&caller=nobody": 0, "object=credential/two&limit=3": 3,
		} {
			h.owner.do(t, "GET", "/v1/audit?"+query, nil).want(t, http.StatusOK).into(t, &got)
			if len(got.Items) != n {
				t.Errorf("%s: %d events, want %d", query, len(got.Items), n)
			}
		}

		var all []string
		for cursor := ""; ; cursor = "&cursor=" + got.Next {
			h.owner.do(t, "GET", "/v1/audit?action=credential.&limit=4"+cursor, nil).want(t, http.StatusOK).into(t, &got)
			for _, e := range got.Items {
				all = append(all, e.ID)
			}
			if got.Next == "" {
				break
			}
		}
		if slices.Sort(all); len(all) != len(want) || len(slices.Compact(all)) != len(want) {
			t.Errorf("paging through the trail: %d events, want %d", len(all), len(want))
		}
	})
}
