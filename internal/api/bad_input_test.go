package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
)

// bad is one wrong request and what the hub says to it.
type bad struct {
	name   string
	ask    string // method and path
	body   any
	header []string
	code   grantway.Code
	fields []string
}

// plain is the body of a credential that is never used.
func plain(inputs object) object {
	all := object{"client_id": "app", "client_secret": canary, "token_endpoint": "https://login.example.com/token"}
	maps.Copy(all, inputs)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return object{"name": "new", "inputs": all}
}

// with is body with one member replaced.
func with(body object, member string, value any) object {
	body = maps.Clone(body)
	body[member] = value
	return body
}

// TestBadInput sends every kind of wrong request: the answer names each wrong field and
// repeats no secret, and nothing is saved.
func TestBadInput(t *testing.T) {
	rows := []bad{}
	add := func(name, ask string, body any, code grantway.Code, fields ...string) {
		rows = append(rows, bad{name: name, ask: ask, body: body, code: code, fields: fields})
	}
	addHeader := func(name, ask string, body any, code grantway.Code, header ...string) {
		rows = append(rows, bad{name: name, ask: ask, body: body, code: code, header: header})
	}
	const create, kept, token = "POST /v1/credentials", "/v1/credentials/kept", "POST /v1/credentials/kept/token"

	// Required fields. Each that is empty is named, all at once.
	add("all fields empty", create, `{"name":"","inputs":{}}`, grantway.Invalid, "/name", "/inputs/client_id", "/inputs/client_secret", "/inputs/token_endpoint")
	add("no fields", create, `{}`, grantway.Invalid, "/name", "/inputs/client_id", "/inputs/client_secret", "/inputs/token_endpoint")
	add("null", create, `null`, grantway.Invalid, "/name", "/inputs/client_id", "/inputs/client_secret", "/inputs/token_endpoint")
	for _, input := range []string{"client_id", "client_secret", "token_endpoint"} {
		add(input+" missing", create, plain(object{input: nil}), grantway.Invalid, "/inputs/"+input)
		add(input+" empty", create, plain(object{input: ""}), grantway.Invalid, "/inputs/"+input)
	}
	add("secret blank", create, plain(object{"client_secret": " \t"}), grantway.Invalid, "/inputs/client_secret")
	add("PUT without fields", "PUT "+kept, `{}`, grantway.Invalid, "/name", "/inputs/client_id", "/inputs/token_endpoint")
	add("PATCH removes required fields", "PATCH "+kept, `{"name":null,"inputs":{"client_id":null,"client_secret":"","token_endpoint":null}}`,
		grantway.Invalid, "/name", "/inputs/client_id", "/inputs/client_secret", "/inputs/token_endpoint")
	add("PATCH removes all inputs", "PATCH "+kept, `{"inputs":null}`, grantway.Invalid, "/inputs/client_id", "/inputs/token_endpoint")
	add("signing key missing", create, plain(object{"auth_method": "private_key_jwt", "client_secret": nil}), grantway.Invalid, "/inputs/signing_key", "/inputs/assertion_audience")
	add("certificate missing", create, plain(object{"auth_method": "tls_client_auth", "client_secret": nil}), grantway.Invalid, "/inputs/client_certificate", "/inputs/client_certificate_key")

	// Names, descriptions, divisions.
	for _, name := range []string{" a", "a b", "a/b", ".a", "-a", "ä", "a\nb", "a\x00", strings.Repeat("a", 101), "a\u202e"} {
		add(fmt.Sprintf("name %.12q", name), create, with(plain(nil), "name", name), grantway.Invalid, "/name")
	}
	add("name in another case", create, with(plain(nil), "name", "KEPT"), grantway.Conflict, "/name")
	add("rename to a name in another case", "PATCH /v1/credentials/other", `{"name":"Kept"}`, grantway.Conflict, "/name")
	add("rename to nothing", "PATCH "+kept, `{"name":""}`, grantway.Invalid, "/name")
	add("description too long", create, with(plain(nil), "description", strings.Repeat("ä", 1025)), grantway.Invalid, "/description")
	add("description with a control character", create, with(plain(nil), "description", "a\x1bb"), grantway.Invalid, "/description")
	add("unknown division", create, with(plain(nil), "division", "moon"), grantway.Invalid, "/division")
	add("division with a control character", create, with(plain(nil), "division", "a\x00"), grantway.Invalid, "/division")
	add("unknown connector", create, with(plain(nil), "connector", "no-such-connector"), grantway.Invalid, "/connector")
	add("another connector", "PATCH "+kept, `{"connector":"salesforce"}`, grantway.Invalid, "/connector")

	// URLs.
	for name, url := range map[string]string{
		"fragment":          "https://login.example.com/token#a",
		"empty fragment":    "https://login.example.com/token#",
		"user info":         "https://user:" + canary + "@login.example.com/token",
		"http off loopback": "http://login.example.com/token",
		"ftp":               "ftp://login.example.com/token",
		"no scheme":         "login.example.com/token",
		"no host":           "https:///token",
		"space":             "https://login.example.com/to ken",
		"line break":        "https://login.example.com/token\n",
		"port":              "https://login.example.com:99999/token",
		"too long":          "https://login.example.com/" + strings.Repeat("a", 2048),
	} {
		add("URL: "+name, create, plain(object{"token_endpoint": url}), grantway.Invalid, "/inputs/token_endpoint")
	}
	add("resource with a fragment", create, plain(object{"resource": "https://api.example.com/#a"}), grantway.Invalid, "/inputs/resource")
	add("resource not absolute", create, plain(object{"resource": "api"}), grantway.Invalid, "/inputs/resource")

	// Scopes and other texts.
	for _, scope := range []string{`a"b`, `a\b`, "a\tb", "a\nb", "ä", "a\x7f"} {
		add(fmt.Sprintf("scope %q", scope), create, plain(object{"scopes": scope}), grantway.Invalid, "/inputs/scopes")
	}
	for _, input := range []string{"client_id", "audience", "assertion_issuer"} {
		add("control character in "+input, create, plain(object{input: "a\nb"}), grantway.Invalid, "/inputs/"+input)
		add("space at the end of "+input, create, plain(object{input: "a "}), grantway.Invalid, "/inputs/"+input)
	}
	add("NUL in the secret", create, plain(object{"client_secret": canary + "\x00"}), grantway.Invalid, "/inputs/client_secret")
	add("secret too long", create, plain(object{"client_secret": canary + strings.Repeat("a", 8192)}), grantway.Invalid, "/inputs/client_secret")
	add("unknown method", create, plain(object{"auth_method": "hmac"}), grantway.Invalid, "/inputs/auth_method")
	add("unknown encoding", create, plain(object{"basic_encoding": "utf8"}), grantway.Invalid, "/inputs/basic_encoding")
	add("not a boolean", create, plain(object{"dpop": "yes"}), grantway.Invalid, "/inputs/dpop")
	for _, seconds := range []any{0, -1, 1.5, "soon", 1e12} {
		add(fmt.Sprintf("lifetime %v", seconds), create, plain(object{"default_lifetime_seconds": seconds}), grantway.Invalid, "/inputs/default_lifetime_seconds")
	}
	for _, date := range []string{"31.1.2027", "2027-02-30", "2027-01-31T25:00:00Z"} {
		add("date "+date, create, plain(object{"client_secret_expires_at": date}), grantway.Invalid, "/inputs/client_secret_expires_at")
	}

	// Keys and certificates.
	certificate, key := selfSigned(t)
	canary64 := base64.StdEncoding.EncodeToString([]byte(canary))
	_, otherKey := selfSigned(t)
	mutual := object{"auth_method": "tls_client_auth", "client_secret": nil, "client_certificate": certificate, "client_certificate_key": key}
	signed := object{"auth_method": "private_key_jwt", "client_secret": nil, "assertion_audience": "https://login.example.com"}
	add("certificate is not PEM", create, plain(with(mutual, "client_certificate", canary)), grantway.Invalid, "/inputs/client_certificate")
	add("certificate is broken", create, plain(with(mutual, "client_certificate", "-----BEGIN CERTIFICATE-----\n"+canary64+"\n-----END CERTIFICATE-----\n")), grantway.Invalid, "/inputs/client_certificate")
	add("key in the certificate", create, plain(with(mutual, "client_certificate", certificate+key)), grantway.Invalid, "/inputs/client_certificate")
	add("key of another certificate", create, plain(with(mutual, "client_certificate_key", otherKey)), grantway.Invalid, "/inputs/client_certificate_key")
	add("key is not PEM", create, plain(with(mutual, "client_certificate_key", canary)), grantway.Invalid, "/inputs/client_certificate_key")
	for name, key := range map[string]string{
		"text": canary, "PEM": "-----BEGIN PRIVATE KEY-----\n" + canary + "\n-----END PRIVATE KEY-----\n",
		"certificate": certificate, "JWK": `{"kty":"EC","crv":"P-256","x":"` + canary + `"}`,
		"public JWK": `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`,
	} {
		add("signing key: "+name, create, plain(with(signed, "signing_key", key)), grantway.Invalid, "/inputs/signing_key")
	}
	add("DPoP key", create, plain(object{"dpop": true, "dpop_key": canary}), grantway.Invalid, "/inputs/dpop_key")

	// References to secret stores, and parameters.
	add("unknown store", create, plain(object{"client_secret": object{"store": "vault", "key": "k"}}), grantway.Invalid, "/inputs/client_secret/store")
	add("reference without key", create, plain(object{"client_secret": object{"store": "env"}}), grantway.Invalid, "/inputs/client_secret")
	add("reference with an unknown member", create, plain(object{"client_secret": object{"store": "env", "key": "k", "value": canary}}), grantway.Invalid, "/inputs/client_secret")
	add("reference for what is no secret", create, plain(object{"client_id": object{"store": "env", "key": "k"}}), grantway.Invalid, "/inputs/client_id")
	add("parameters for what has none", create, plain(object{"client_id": []object{}}), grantway.Invalid, "/inputs/client_id")
	for name, list := range map[string]any{
		"not a list": "a=b", "unknown place": []object{{"in": "cookie", "name": "n"}}, "no name": []object{{"in": "body", "value": "v"}},
		"unknown member": []object{{"in": "body", "name": "n", "values": canary}}, "not objects": []string{canary},
		"own parameter": []object{{"in": "body", "name": "client_secret", "value": canary}}, "own header": []object{{"in": "header", "name": "authorization", "value": canary}},
		"header with a line break": []object{{"in": "header", "name": "X-A", "value": canary + "\r\nX-B: c"}}, "header name": []object{{"in": "header", "name": "X A", "value": canary}},
	} {
		add("parameters: "+name, create, plain(object{"extra_parameters": list}), grantway.Invalid, "/inputs/extra_parameters")
	}

	// Shape of the JSON.
	add("unknown member", create, with(plain(nil), "secret", canary), grantway.Invalid, "/secret")
	add("unknown member, name to be escaped", create, with(plain(nil), `a/b~"c`, canary), grantway.Invalid, `/a~1b~0"c`)
	add("unknown member in a PATCH", "PATCH "+kept, `{"secret":"`+canary+`"}`, grantway.Invalid, "/secret")
	add("unknown inputs", create, plain(object{"password": canary, "Client_ID": "b", "a/b~c": "d"}), grantway.Invalid, "/inputs/password", "/inputs/Client_ID", "/inputs/a~1b~0c")
	add("name is a number", create, with(plain(nil), "name", 5), grantway.Invalid, "/name")
	add("inputs is a list", create, with(plain(nil), "inputs", []string{canary}), grantway.Invalid, "/inputs")
	add("inputs of wrong types", create, plain(object{"client_id": object{"a": canary}, "client_secret": []int{1}}), grantway.Invalid, "/inputs/client_id", "/inputs/client_secret")
	add("version is a text", "PATCH "+kept, `{"version":"1"}`, grantway.Invalid, "/version")
	add("version is a fraction", "PATCH "+kept, `{"version":1.5}`, grantway.Invalid, "/version")
	add("time is no time", create, with(plain(nil), "created_at", canary), grantway.Malformed)
	add("a list", create, `["`+canary+`"]`, grantway.Invalid, "")
	add("a string", create, `"`+canary+`"`, grantway.Invalid, "")
	add("a list as a PATCH", "PATCH "+kept, `[]`, grantway.Invalid, "")
	add("null as a PATCH", "PATCH "+kept, `null`, grantway.Invalid, "")
	add("not JSON", create, `{"name":"`+canary, grantway.Malformed)
	add("a form", create, "name="+canary, grantway.Malformed)
	add("two values", create, `{"name":"new"} {"name":"`+canary+`"}`, grantway.Malformed)
	add("something behind", create, `{"name":"new"}}`, grantway.Malformed)
	add("not UTF-8", create, "{\"name\":\"new\",\"inputs\":{\"client_secret\":\""+canary+"\xe9\"}}", grantway.Malformed)
	add("deep", create, strings.Repeat("[", 20_000), grantway.Malformed)
	add("empty body", create, "", grantway.Malformed)
	add("blank body", create, " \n", grantway.Malformed)
	add("no body", create, nil, grantway.Malformed)
	add("no body of a PUT", "PUT "+kept, nil, grantway.Malformed)
	add("no body of a draft", "POST /v1/credentials/validate", nil, grantway.Malformed)
	large := `{"name":"new","description":"` + strings.Repeat("a", 1<<20) + `"}`
	for _, ask := range []string{create, "PUT " + kept, "PATCH " + kept, "POST /v1/credentials/validate", "POST " + kept + "/validate", token, token + "/invalidate", "POST /v1/clients", "POST /v1/divisions"} {
		add(ask+" with a body over 1 MiB", ask, large, grantway.TooLarge)
	}

	// Headers.
	body := plain(nil)
	addHeader("no content type", create, body, grantway.UnsupportedMedia, "Content-Type", "")
	addHeader("form", create, "name=new", grantway.UnsupportedMedia, "Content-Type", "application/x-www-form-urlencoded")
	addHeader("text", create, body, grantway.UnsupportedMedia, "Content-Type", "text/plain")
	addHeader("broken content type", create, body, grantway.UnsupportedMedia, "Content-Type", "application/json; charset")
	addHeader("form to the token", token, "scope=a", grantway.UnsupportedMedia, "Content-Type", "application/x-www-form-urlencoded")
	for _, tag := range []string{"1", `"9"`, `"one"`, `"-1"`, `"0"`, `"1`, `'1'`, "\"99999999999\"", "\"99999999999999999999\""} {
		for _, method := range []string{"PUT", "PATCH", "DELETE"} {
			sent := any(with(body, "name", "kept"))
			if method == "DELETE" {
				sent = nil
			}
			addHeader(method+" If-Match "+tag, method+" "+kept, sent, grantway.PreconditionFailed, "If-Match", tag)
		}
	}
	addHeader("long Idempotency-Key", create, body, grantway.Malformed, "Idempotency-Key", strings.Repeat("k", 256))
	addHeader("Idempotency-Key that is not text", create, body, grantway.Malformed, "Idempotency-Key", "k\xff")

	// Queries and paths.
	for _, list := range []string{"/v1/credentials", "/v1/clients", "/v1/audit"} {
		for _, limit := range []string{"0", "-1", "1001", "x", "1.5"} {
			add("limit "+limit+" of "+list, "GET "+list+"?limit="+limit, nil, grantway.Invalid, "/limit")
		}
		add("cursor of "+list, "GET "+list+"?cursor=%25%25", nil, grantway.Malformed)
		add("cursor of "+list+" that is not text", "GET "+list+"?cursor=%ff", nil, grantway.Malformed)
	}
	add("since", "GET /v1/audit?since=yesterday", nil, grantway.Invalid, "/since")
	add("until and since", "GET /v1/audit?since=1&until=2027-01-31", nil, grantway.Invalid, "/since", "/until")
	add("query that is not text", "GET /v1/audit?object=%00", nil, grantway.Malformed)
	add("query that is not encoded", "GET /v1/audit?object=%zz", nil, grantway.Malformed)
	for _, ask := range []string{"GET /v1/credentials/%00", "DELETE /v1/credentials/%ff", "DELETE /v1/clients/%00", "POST /v1/clients/%ff/secret", "DELETE /v1/divisions/%00"} {
		add(ask, ask, nil, grantway.NotFound)
	}

	// Token requests.
	add("unknown member of a token request", token, `{"scopes":"a"}`, grantway.Invalid, "/scopes")
	add("scope of a token request", token, `{"scope":"a\"b"}`, grantway.Invalid, "/scope")
	add("resource with a fragment in a token request", token, `{"resource":"https://api.example.com/#a"}`, grantway.Invalid, "/resource")
	add("resource that is not absolute in a token request", token, `{"resource":"api"}`, grantway.Invalid, "/resource")
	add("min_lifetime_seconds negative", token, `{"min_lifetime_seconds":-1}`, grantway.Invalid, "/min_lifetime_seconds")
	add("min_lifetime_seconds over a day", token, `{"min_lifetime_seconds":86401}`, grantway.Invalid, "/min_lifetime_seconds")
	add("min_lifetime_seconds beyond nanoseconds", token, `{"min_lifetime_seconds":18446744074}`, grantway.Invalid, "/min_lifetime_seconds")
	add("min_lifetime_seconds as text", token, `{"min_lifetime_seconds":"60"}`, grantway.Invalid, "/min_lifetime_seconds")
	add("proof is a text", token, `{"proof":"`+canary+`"}`, grantway.Invalid, "/proof")
	add("fingerprint", token+"/invalidate", `{"fingerprint":"abc"}`, grantway.Invalid, "/fingerprint")
	add("fingerprint with a NUL", token+"/invalidate", `{"fingerprint":"\u0000"}`, grantway.Invalid, "/fingerprint")

	// Clients and divisions.
	add("client without fields", "POST /v1/clients", `{}`, grantway.Invalid, "/name", "/roles")
	add("client with wrong roles", "POST /v1/clients", `{"name":"new","roles":[{"role":"king","division":"home"},{"role":"owner","division":"moon"}]}`, grantway.Invalid, "/roles/0/role", "/roles/1/division")
	add("client with an unknown member", "POST /v1/clients", `{"name":"new","grant_types":[]}`, grantway.Invalid, "/grant_types")
	add("client whose name is taken", "POST /v1/clients", `{"name":"OWNER","roles":[{"role":"auditor","division":"home"}]}`, grantway.Conflict, "/name")
	add("division without name", "POST /v1/divisions", `{}`, grantway.Invalid, "/name")
	add("division with wrong fields", "POST /v1/divisions", `{"name":"*","description":"\u001b"}`, grantway.Invalid, "/name", "/description")
	add("division that is there", "POST /v1/divisions", `{"name":"HOME"}`, grantway.Conflict, "/name")

	each(t, func(t *testing.T, h *hub) {
		h.save(t, with(plain(nil), "name", "kept"))
		h.save(t, with(plain(nil), "name", "other"))
		state := func() (all []object) {
			for _, path := range []string{"/v1/credentials", "/v1/clients", "/v1/divisions"} {
				all = append(all, decode(t, h.owner.do(t, "GET", path, nil).want(t, http.StatusOK).body))
			}
			return all
		}
		before := state()
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				method, path, _ := strings.Cut(row.ask, " ")
				answer := h.owner.do(t, method, path, row.body, row.header...)
				answer.problem(t, row.code, row.fields...)
				after := state()
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("something was saved (-before +after):\n%s", diff)
				}
				before = after
			})
		}
		if n := h.provider.Token.Count(); n != 0 {
			t.Errorf("the provider was asked %d times", n)
		}
		if n := h.count(t, `SELECT COUNT(*) FROM credential_secret`); n != 2 {
			t.Errorf("%d secrets are stored, want 2", n)
		}
	})
}

// selfSigned returns a certificate and its private key, PEM.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
