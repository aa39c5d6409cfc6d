package connector_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
)

var update = flag.Bool("update", false, "write the golden requests anew")

// secretsOf resolves the secret inputs of values, all of which are internal here.
func secretsOf(values map[string]grantway.Value) map[string]grant.Secret {
	secrets := map[string]grant.Secret{}
	d, _ := connector.Find(grantway.PlainConnector)
	for _, key := range d.Secrets() {
		if v := values[key]; v.Text != "" {
			secrets[key] = grant.Secret(v.Text)
		}
	}
	return secrets
}

// build is the HTTP request that a credential's inputs come to.
func build(t testing.TB, inputs grantway.Inputs) (*http.Request, error) {
	t.Helper()
	plan, err := plain(t).Compile(connector.Values{Plain: inputs, Secrets: secretsOf(inputs)})
	if err != nil {
		return nil, err
	}
	return plan.OAuth2().Build(t.Context())
}

// TestGoldenRequests compiles the inputs of testdata/*.txtar into the requests beside them. What is
// new in each request (jti, iat, exp, the signature) is left out.
func TestGoldenRequests(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files) != 2 || archive.Files[0].Name != "inputs.json" || archive.Files[1].Name != "request.http" {
				t.Fatal("a case has the files inputs.json and request.http")
			}
			var inputs grantway.Inputs
			if err := json.Unmarshal(archive.Files[0].Data, &inputs); err != nil {
				t.Fatal(err)
			}
			if fields := plain(t).Check(inputs); fields != nil {
				t.Fatal(fields)
			}
			request, err := build(t, inputs)
			if err != nil {
				t.Fatal(err)
			}
			got := dump(t, request)
			if *update {
				archive.Files[1].Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

// dump writes a request with sorted headers, one line per parameter, and JWTs decoded.
func dump(t testing.TB, r *http.Request) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.Method, r.URL)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, readable(t, value))
		}
	}
	b.WriteString("\n")
	for pair := range strings.SplitSeq(string(body), "&") {
		name, value, _ := strings.Cut(pair, "=")
		fmt.Fprintf(&b, "%s=%s\n", name, readable(t, value))
	}
	return b.String()
}

// readable is value, or what is in it if it is a JWT.
func readable(t testing.TB, value string) string {
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return value
	}
	var decoded [2]map[string]any
	for i := range decoded {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, &decoded[i]) != nil {
			return value
		}
	}
	claims := decoded[1]
	if exp, ok := claims["exp"].(float64); ok {
		claims["exp"] = fmt.Sprintf("iat + %g", exp-claims["iat"].(float64))
	}
	for _, name := range []string{"iat", "jti"} {
		if claims[name] == nil {
			t.Errorf("a JWT without %s", name)
		}
		claims[name] = "…"
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	for _, part := range decoded {
		if err := encoder.Encode(part); err != nil {
			t.Fatal(err)
		}
	}
	return "JWT " + strings.ReplaceAll(strings.TrimSpace(b.String()), "\n", " ")
}

// TestCompileFindsWhatIsWrong has inputs that are each well formed but do not go together;
// the error names the one to change.
func TestCompileFindsWhatIsWrong(t *testing.T) {
	text := grantway.Text
	for name, c := range map[string]struct {
		inputs  map[string]grantway.Value
		pointer string
		detail  string
	}{
		"not a key":            {map[string]grantway.Value{"auth_method": text("private_key_jwt"), "signing_key": text("k"), "assertion_audience": text("a")}, "/inputs/signing_key", "PEM"},
		"key of another kind":  {map[string]grantway.Value{"auth_method": text("private_key_jwt"), "signing_key": text(keyPEM), "signing_algorithm": text("RS256"), "assertion_audience": text("a")}, "/inputs", "RS256"},
		"another certificate":  {map[string]grantway.Value{"auth_method": text("private_key_jwt"), "signing_key": text(otherKeyPEM), "signing_certificate": text(certificatePEM), "assertion_audience": text("a")}, "/inputs/signing_certificate", "is not the certificate of signing_key"},
		"another key":          {map[string]grantway.Value{"client_certificate": text(certificatePEM), "client_certificate_key": text(otherKeyPEM)}, "/inputs/client_certificate_key", "is not the private key of client_certificate"},
		"certificate, no key":  {map[string]grantway.Value{"client_certificate": text(certificatePEM)}, "/inputs/client_certificate_key", "is required with client_certificate"},
		"short secret":         {map[string]grantway.Value{"auth_method": text("client_secret_jwt"), "assertion_audience": text("a")}, "/inputs", "at least 32 bytes"},
		"colon and raw":        {map[string]grantway.Value{"client_id": text("a:b"), "basic_encoding": text("raw")}, "/inputs", "colon"},
		"DPoP without key":     {map[string]grantway.Value{"dpop": text("true")}, "/inputs/dpop_key", "PEM"},
		"jwt-bearer alone":     {map[string]grantway.Value{"grant_type": text(grant.JWTBearer)}, "/inputs/signing_key", "PEM"},
		"jwt-bearer, no aud":   {map[string]grantway.Value{"grant_type": text(grant.JWTBearer), "signing_key": text(keyPEM)}, "/inputs/assertion_audience", "is required"},
		"parameter twice":      {map[string]grantway.Value{"extra_parameters": params("body", "fine", "2")}, "/inputs", "more than once"},
		"parameter in the URL": {map[string]grantway.Value{"token_endpoint": text("https://login.example.com/token?fine=2"), "extra_parameters": params("query", "other", "1")}, "/inputs", "more than once"},
	} {
		inputs := complete(c.inputs)
		if fields := plain(t).Check(inputs); fields != nil {
			t.Errorf("%s: Check found it already: %v", name, fields)
		}
		_, err := build(t, inputs)
		var e *grantway.Error
		if !errors.As(err, &e) || e.Code != grantway.Invalid || len(e.Fields) != 1 || e.Fields[0].Pointer != c.pointer || !strings.Contains(e.Fields[0].Detail, c.detail) {
			t.Errorf("%s: %v, want %s %s", name, err, c.pointer, c.detail)
		}
	}
}

// TestValuesDoNotChangeTheStructure takes any values that Check accepts: method, address, headers and
// the names of the parameters are always the same, and each value arrives as it is.
func TestValuesDoNotChangeTheStructure(t *testing.T) {
	text := func(t *rapid.T, name string) string {
		return rapid.OneOf(rapid.StringN(1, 20, 200), rapid.SampledFrom([]string{
			"&scope=admin", "a=b", "a&b", "%26", "a+b", "{{client_secret}}", "$(id)", "\r\nHost: evil", "a\x00b", "é", "\u2028", "../..", "?a=b", "#f", ":", `"`, ";", "client_secret"})).Draw(t, name)
	}
	d := plain(t)
	rapid.Check(t, func(t *rapid.T) {
		values := map[string]string{}
		for _, key := range []string{"client_id", "client_secret", "audience", "scopes", "grant_type"} {
			values[key] = text(t, key)
		}
		extra := []grantway.Param{{In: "body", Name: "b", Value: text(t, "body")}, {In: "query", Name: "q", Value: text(t, "query")}, {In: "header", Name: "X-Tenant", Value: text(t, "header")}}
		method := rapid.SampledFrom([]string{"client_secret_basic", "client_secret_post"}).Draw(t, "method")
		inputs := grantway.Inputs{"token_endpoint": grantway.Text("https://login.example.com/token?tenant=a"), "auth_method": grantway.Text(method), "extra_parameters": {Params: extra}}
		for key, value := range values {
			inputs[key] = grantway.Text(value)
		}
		if d.Check(inputs) != nil {
			t.Skip("refused, which is safe, too")
		}
		plan, err := d.Compile(connector.Values{Plain: inputs, Secrets: secretsOf(inputs)})
		if err != nil {
			t.Skip("refused, which is safe, too")
		}
		r, err := plan.OAuth2().Build(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Fatal(err)
		}

		if r.Method != "POST" || r.URL.Scheme+"://"+r.URL.Host+r.URL.Path != "https://login.example.com/token" || r.Host != "login.example.com" {
			t.Fatalf("%s %s", r.Method, r.URL)
		}
		wantForm := url.Values{"grant_type": {values["grant_type"]}, "audience": {values["audience"]}, "b": {extra[0].Value}}
		if scope := strings.Join(strings.Fields(values["scopes"]), " "); scope != "" {
			wantForm["scope"] = []string{scope}
		}
		headers := []string{"Accept", "Content-Type", "User-Agent", "X-Tenant"}
		if method == "client_secret_post" {
			wantForm["client_id"], wantForm["client_secret"] = []string{values["client_id"]}, []string{values["client_secret"]}
		} else {
			headers = append(headers, "Authorization")
			id, secret, _ := r.BasicAuth()
			for i, half := range []*string{&id, &secret} {
				if *half, err = url.QueryUnescape(*half); err != nil || *half != values[[]string{"client_id", "client_secret"}[i]] {
					t.Fatalf("Basic: %q, %v", *half, err)
				}
			}
		}
		slices.Sort(headers)
		if diff := cmp.Diff(wantForm, form); diff != "" {
			t.Fatalf("form (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(url.Values{"tenant": {"a"}, "q": {extra[1].Value}}, r.URL.Query()); diff != "" {
			t.Fatalf("query (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(headers, slices.Sorted(maps.Keys(r.Header))); diff != "" || r.Header.Get("X-Tenant") != extra[2].Value {
			t.Fatalf("headers (-want +got):\n%s%q", diff, r.Header)
		}
		var wire bytes.Buffer // a header value that breaks the line would show here
		if err := r.Header.Write(&wire); err != nil || strings.Count(wire.String(), "\r\n") != len(headers) {
			t.Fatalf("headers on the wire: %q", wire.String())
		}
	})
}
