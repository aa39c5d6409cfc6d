package connector_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

func plain(t testing.TB) *connector.Definition {
	t.Helper()
	d, err := connector.Load(grantway.PlainConnector)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// complete are inputs in which nothing is wrong, with changes; a zero value removes an input.
func complete(changes map[string]grantway.Value) map[string]grantway.Value {
	inputs := map[string]grantway.Value{
		"client_id":      grantway.Text("app"),
		"client_secret":  grantway.Text("s3cret"),
		"token_endpoint": grantway.Text("https://login.example.com/token"),
	}
	maps.Copy(inputs, changes)
	return inputs
}

func params(in, name, value string) grantway.Value {
	return grantway.Value{Params: []grantway.Param{{In: "body", Name: "fine", Value: "1"}, {In: in, Name: name, Value: value}}}
}

// TestCheck has values of each type of input, and what is wrong with them: "" when nothing is.
func TestCheck(t *testing.T) {
	text, set := grantway.Text, grantway.Value{Set: true}
	ref := func(store, key string) grantway.Value {
		return grantway.Value{Ref: &grantway.SecretRef{Store: store, Key: key}}
	}
	list := grantway.Value{Params: []grantway.Param{}}
	for _, c := range []struct {
		key   string
		value grantway.Value
		wrong string
	}{
		// string
		{"client_id", text("app"), ""},
		{"client_id", text("a b:ü/%+&="), ""},
		{"client_id", text(strings.Repeat("x", 1024)), ""},
		{"client_id", text(strings.Repeat("x", 1025)), "must be at most 1024 bytes"},
		{"client_id", text("app "), "must not begin or end with a space"},
		{"client_id", text("a\nb"), "must not contain control characters such as line breaks"},
		{"client_id", text("a\x7fb"), "must not contain control characters such as line breaks"},
		{"client_id", text("a\xffb"), "must be valid UTF-8"},
		{"client_id", text(""), "is required"},
		{"client_id", set, "is not a secret, so it must be given as its value"},
		{"client_id", ref("env", "ID"), "is not a secret, so it must be given as its value"},
		{"client_id", params("body", "a", "b"), "must be a string"},

		// secret
		{"client_secret", text("s3cret"), ""},
		{"client_secret", text(" s3\ncret\n"), ""}, // Validate warns
		{"client_secret", text("   "), "must not be blank"},
		{"client_secret", text("a\x00b"), "must not contain a NUL character"},
		{"client_secret", text("a\xffb"), "must be valid UTF-8"},
		{"client_secret", text(strings.Repeat("x", 8193)), "must be at most 8192 bytes"},
		{"client_secret", text(""), "is required"},
		{"client_secret", set, ""},
		{"client_secret", ref("env", "SECRET"), ""},
		{"client_secret", ref("env", ""), `needs both "store" and "key"`},
		{"client_secret", ref("", "SECRET"), `needs both "store" and "key"`},
		{"client_secret", params("body", "a", "b"), `must be a string, or {"store", "key"} for an external secret`},

		// url
		{"token_endpoint", text("https://login.example.com/token?tenant=a"), ""},
		{"token_endpoint", text("http://127.0.0.1:8080/token"), ""},
		{"token_endpoint", text("http://login.example.com/token"), "must be https; plain http is only for a loopback address"},
		{"token_endpoint", text("https://login.example.com/token#top"), "must not have a fragment (#)"},
		{"token_endpoint", text("https://app:s3cret@login.example.com/token"), "must not have a user name or password before the host"},
		{"token_endpoint", text("https://login.example.com/?client_secret=s3cret"), "must not carry client_secret in its query"},
		{"token_endpoint", text("login.example.com/token"), "must start with https://"},
		{"token_endpoint", text("https:///token"), "must name a host"},
		{"token_endpoint", text("https://login.example.com/to ken"), "must not contain spaces, control characters or backslashes"},
		{"token_endpoint", text(""), "is required"},

		// uri
		{"resource", text("https://api.example.com/"), ""},
		{"resource", text("urn:example:api"), ""},
		{"resource", text("/api"), "must be an absolute URI without fragment (RFC 8707 section 2)"},
		{"resource", text("https://api.example.com/#a"), "must be an absolute URI without fragment (RFC 8707 section 2)"},

		// scopes
		{"scopes", text("B a  A"), ""},
		{"scopes", text("https://outlook.office365.com/.default"), ""},
		{"scopes", text("  "), ""},
		{"scopes", text(`a"b`), "character 2 of the scope (0x22) is not allowed in one (RFC 6749 appendix A.4)"},
		{"scopes", text("lesen schreibän"), "character 14 of the scope (0xc3) is not allowed in one (RFC 6749 appendix A.4)"},
		{"scopes", text("a\tb"), "must not contain control characters such as line breaks"},

		// enum
		{"auth_method", text("client_secret_post"), ""},
		{"auth_method", text("Client_Secret_Post"), "must be one of client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth, self_signed_tls_client_auth, none"},
		{"basic_encoding", text("raw"), ""},
		{"basic_encoding", text("base64"), "must be one of rfc6749, raw"},

		// boolean
		{"dpop", text("true"), ""},
		{"dpop", text("false"), ""},
		{"dpop", text("yes"), "must be true or false"},

		// seconds
		{"default_lifetime_seconds", text("1"), ""},
		{"default_lifetime_seconds", text("2592000"), ""},
		{"default_lifetime_seconds", text("0"), "must be a whole number of seconds from 1 to 2592000"},
		{"default_lifetime_seconds", text("2592001"), "must be a whole number of seconds from 1 to 2592000"},
		{"default_lifetime_seconds", text("1.5"), "must be a whole number of seconds from 1 to 2592000"},
		{"default_lifetime_seconds", text("99999999999999999999"), "must be a whole number of seconds from 1 to 2592000"},

		// date
		{"client_secret_expires_at", text("2027-01-31"), ""},
		{"client_secret_expires_at", text("2027-01-31T12:00:00+02:00"), ""},
		{"client_secret_expires_at", text("31.1.2027"), "must be a date such as 2027-01-31, or a date and time such as 2027-01-31T12:00:00Z"},
		{"client_secret_expires_at", text("2027-02-30"), "must be a date such as 2027-01-31, or a date and time such as 2027-01-31T12:00:00Z"},

		// pem
		{"client_certificate", text(certificatePEM), ""},
		{"client_certificate", text(certificatePEM + certificatePEM), ""},
		{"client_certificate", text(certificatePEM + keyPEM), "contains a private key; put that into the input for the key, which is stored as a secret"},
		{"client_certificate", text("MIIB"), "must be a PEM certificate (-----BEGIN CERTIFICATE-----)"},
		{"client_certificate", text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "holds a PEM block that is not a certificate"},

		// parameters
		{"extra_parameters", list, ""},
		{"extra_parameters", params("body", "tenant", "a\nb"), ""},
		{"extra_parameters", params("query", "tenant", "ü&="), ""},
		{"extra_parameters", params("header", "X-Tenant", "a"), ""},
		{"extra_parameters", text("tenant=a"), `must be a list of {"in", "name", "value"}`},
		{"extra_parameters", params("path", "tenant", "a"), `item 1: "in" must be body, query or header`},
		{"extra_parameters", params("body", "", "a"), `item 1: "name" is required`},
		{"extra_parameters", params("body", "a\nb", ""), "item 1: must not contain control characters such as line breaks"},
		{"extra_parameters", params("header", "X-Tenant", "a\r\nHost: b"), "item 1: must not contain control characters such as line breaks"},
		{"extra_parameters", params("header", "X Tenant", "a"), `item 1: "name" is not that of a header`},
		{"extra_parameters", params("header", "authorization", "a"), "item 1: the header authorization is set by the token request itself"},
		{"extra_parameters", params("header", "DPoP", "a"), "item 1: the header DPoP is set by the token request itself"},
		{"extra_parameters", params("body", "client_secret", "a"), "item 1: client_secret has an input of its own, or is set by the authentication method"},
		{"extra_parameters", params("query", "scope", "a"), "item 1: scope has an input of its own, or is set by the authentication method"},
		{"extra_parameters", params("body", "a", strings.Repeat("x", 8192)), "item 1: must be at most 8,192 bytes"},

		// What there is no input for.
		{"Client_ID", text("app"), "is not an input of connector oauth2-client-credentials"},
		{"client/id~", text("app"), "is not an input of connector oauth2-client-credentials"},
	} {
		got := plain(t).Check(complete(map[string]grantway.Value{c.key: c.value}))
		var want []grantway.Field
		if c.wrong != "" {
			want = []grantway.Field{{Pointer: grantway.Pointer("inputs", c.key), Detail: c.wrong}}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %.60q (-want +got):\n%s", c.key, fmt.Sprint(c.value), diff)
		}
	}
}

// TestCheckRequired shows which inputs each method of authentication needs.
func TestCheckRequired(t *testing.T) {
	for method, needs := range map[string]string{
		"":                            "/inputs/client_id /inputs/client_secret /inputs/token_endpoint",
		"client_secret_basic":         "/inputs/client_id /inputs/client_secret /inputs/token_endpoint",
		"client_secret_post":          "/inputs/client_id /inputs/client_secret /inputs/token_endpoint",
		"client_secret_jwt":           "/inputs/assertion_audience /inputs/client_id /inputs/client_secret /inputs/token_endpoint",
		"private_key_jwt":             "/inputs/assertion_audience /inputs/client_id /inputs/signing_key /inputs/token_endpoint",
		"tls_client_auth":             "/inputs/client_certificate /inputs/client_certificate_key /inputs/client_id /inputs/token_endpoint",
		"self_signed_tls_client_auth": "/inputs/client_certificate /inputs/client_certificate_key /inputs/client_id /inputs/token_endpoint",
		"none":                        "/inputs/client_id /inputs/token_endpoint",
	} {
		var got []string
		for _, f := range plain(t).Check(map[string]grantway.Value{"auth_method": grantway.Text(method)}) {
			if f.Detail != "is required" {
				t.Errorf("%s: %+v", method, f)
			}
			got = append(got, f.Pointer)
		}
		if diff := cmp.Diff(needs, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
	// A ready-made assertion needs neither key nor audience.
	ready := map[string]grantway.Value{"auth_method": grantway.Text("private_key_jwt"), "client_secret": {}, "assertion": {Ref: &grantway.SecretRef{Store: "file", Key: "token"}}}
	if fields := plain(t).Check(complete(ready)); fields != nil {
		t.Errorf("with an assertion: %v", fields)
	}
}

// TestErrorsDoNotRepeatSecrets checks what a field says when a secret got into the wrong one.
func TestErrorsDoNotRepeatSecrets(t *testing.T) {
	const canary = "canary\n\"äZ9"
	for _, in := range plain(t).Inputs {
		for _, v := range []grantway.Value{
			grantway.Text(canary), grantway.Text("https://user:" + canary + "@example.com"), grantway.Text("-----BEGIN PRIVATE KEY-----\n" + canary),
			params("header", canary, canary), params("body", canary, canary), params(canary, "a", canary), {Ref: &grantway.SecretRef{Store: canary}},
		} {
			values := complete(map[string]grantway.Value{in.Key: v})
			text := fmt.Sprint(plain(t).Check(values))
			if _, err := plain(t).Compile(connector.Values{Plain: values, Secrets: secretsOf(values)}); err != nil {
				text += err.Error()
			}
			if strings.Contains(text, "canary") {
				t.Errorf("%s: %s", in.Key, text)
			}
		}
	}
}

func TestFind(t *testing.T) {
	if d, ok := connector.Find("Oauth2-Client-Credentials"); ok {
		t.Errorf("found %s", d.Name)
	}
	keys := map[string]bool{}
	for _, in := range plain(t).Inputs {
		if keys[in.Key] || in.Key == "" || in.Title == "" || in.Type == "" {
			t.Errorf("input %+v", in)
		}
		keys[in.Key] = true
		if c := in.RequiredWhen; c != nil {
			if _, ok := plain(t).Input(c.Key); !ok {
				t.Errorf("%s: no input %s", in.Key, c.Key)
			}
		}
	}
	want := []string{"client_secret", "next_client_secret", "client_certificate_key", "signing_key", "assertion", "dpop_key"}
	if diff := cmp.Diff(want, plain(t).Secrets()); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}
