package app_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
)

// TestC40Canaries plants values that nobody must ever see, wherever a hub takes or makes a
// secret, drives everything that a hub does, well and badly, and then looks for them in all
// that it says: answers, log, traces, metrics, and the files and rows of the database.
func TestC40Canaries(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { hunt(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { hunt(t, storetest.Postgres(t)) })
}

func hunt(t *testing.T, database string) {
	collector := newCollector(t)
	a := &aviary{t: t, database: database, data: t.TempDir(), secrets: t.TempDir()}
	t.Run("hub", func(t *testing.T) { // stops at the end, and sends the last traces
		a.t = t
		a.start()
		a.plant()
		a.fill()
		a.use()
		a.misuse()
		a.administrate()
		a.readFiles("while the hub runs")
		a.readTables()
	})
	a.t = t
	a.readFiles("after the hub stopped")
	a.said("log", a.log.Bytes())
	a.said("traces", collector.bytes())
	a.reportSightings()

	// The net has no holes: what may be seen was seen, by the same means.
	for where, want := range map[string]string{
		"log": "credential=basic", "traces": "fetch token", "GET /metrics": `grantway_token_fetches_total{credential="basic"`, "GET /v1/audit": "credential.validate",
		"POST /v1/credentials/validate": `"ok":true`,
	} {
		if !a.heard(where, want) {
			t.Errorf("%s does not hold %q: it was not really read", where, want)
		}
	}
	stored := "file grantway.db after"
	if database != "" {
		stored = "table credential"
	}
	if !a.heard(stored, "oauth2-client-credentials") {
		t.Errorf("%s was not really read", stored)
	}
}

// collector receives traces as an OpenTelemetry collector does, by OTLP over HTTP.
type collector struct{ got syncBuffer }

func newCollector(t *testing.T) *collector {
	c := &collector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Encoding") != "" {
			t.Errorf("a collector got %s, %s", r.URL.Path, r.Header.Get("Content-Encoding"))
		}
		io.Copy(&c.got, r.Body)
	}))
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	return c
}

func (c *collector) bytes() []byte { return c.got.Bytes() }

func (a *aviary) start() {
	a.tls = grantwaytest.NewTLSProvider(a.t)
	a.provider = grantwaytest.NewProvider(a.t)
	a.hub = grantwaytest.Start(a.t, grantwaytest.HubOptions{
		Database: a.database, Data: a.data, SecretFiles: a.secrets, RootCAs: a.tls.RootCAs(),
		Log: slog.New(slog.NewTextHandler(&a.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	key, err := os.ReadFile(filepath.Join(a.data, "key"))
	if err != nil {
		a.t.Fatal(err)
	}
	a.canary("key-encryption key", strings.TrimSpace(string(key)), "file key ")
	a.canary("owner's secret", string(a.hub.Owner.ClientSecret), "file owner.json ")
	a.signIn()
}

// plant makes a canary for every secret input, in the database, in the environment and in files.
func (a *aviary) plant() {
	a.certificate, a.certificateKey = a.newCertificate("client_certificate_key")
	a.signingKey = a.newKey("signing_key")
	a.dpopKey = a.newJWK("dpop_key")
	for _, name := range []string{"client_secret", "next_client_secret", "assertion", "env", "file", "wrong"} {
		a.newSecret(name)
	}
	a.t.Setenv("TEST_CANARY", a.value("env"))
	for name, value := range map[string]string{"secret": a.value("file"), "key.pem": a.newKey("signing_key in a file")} {
		if err := os.WriteFile(filepath.Join(a.secrets, name), []byte(value+"\n"), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

// credential is one with the given inputs in place of the usual ones; nil removes one.
func (a *aviary) credential(name string, inputs map[string]any) map[string]any {
	all := map[string]any{"client_id": name, "client_secret": a.value("client_secret"), "token_endpoint": a.provider.Token.URL}
	for key, value := range inputs {
		if all[key] = value; value == nil {
			delete(all, key)
		}
	}
	return map[string]any{"name": name, "inputs": all}
}

// fill stores a credential of every kind.
func (a *aviary) fill() {
	p, secret := a.provider, a.value("client_secret")
	p.Register(grantwaytest.Client{ID: "basic", Secret: secret, JWT: true})
	p.Register(grantwaytest.Client{ID: "post", Secret: secret, Method: grantwaytest.AuthPost})
	p.Register(grantwaytest.Client{ID: "next", Secret: a.value("next_client_secret")})
	p.Register(grantwaytest.Client{ID: "env", Secret: a.value("env")})
	p.Register(grantwaytest.Client{ID: "file", Secret: a.value("file")})
	p.Register(grantwaytest.Client{ID: "dpop", Secret: secret, DPoP: true})
	a.tls.Register(grantwaytest.Client{ID: "tls", Method: grantwaytest.AuthTLS, Certificate: a.certificate.Leaf})
	type object = map[string]any
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Certificate[0]}))
	for _, c := range []object{
		a.credential("basic", nil),
		a.credential("post", object{"auth_method": "client_secret_post"}),
		a.credential("next", object{"next_client_secret": a.value("next_client_secret")}),
		a.credential("env", object{"client_secret": object{"store": "env", "key": "TEST_CANARY"}}),
		a.credential("file", object{"client_secret": object{"store": "file", "key": "secret"}}),
		a.credential("dpop", object{"dpop": true, "dpop_key": a.dpopKey}),
		a.credential("dpop-own", object{"client_id": "dpop", "dpop": true}),
		a.credential("tls", object{"auth_method": "tls_client_auth", "client_secret": nil, "token_endpoint": a.tls.Token.URL, "client_certificate": chain, "client_certificate_key": a.certificateKey}),
		a.credential("secret-jwt", object{"auth_method": "client_secret_jwt", "assertion_audience": "https://issuer.example.com"}),
		a.credential("key", object{"auth_method": "private_key_jwt", "client_secret": nil, "signing_key": a.signingKey, "assertion_audience": "https://issuer.example.com"}),
		a.credential("key-file", object{"auth_method": "private_key_jwt", "client_secret": nil, "signing_key": object{"store": "file", "key": "key.pem"}, "assertion_audience": "https://issuer.example.com"}),
		a.credential("assertion", object{"auth_method": "private_key_jwt", "client_secret": nil, "assertion": a.value("assertion")}),
		a.credential("bearer", object{"grant_type": grant.JWTBearer, "assertion": a.value("assertion")}),
		a.credential("missing", object{"client_secret": object{"store": "env", "key": "TEST_CANARY_MISSING"}}),
		a.credential("unreachable", object{"token_endpoint": grantwaytest.UnresolvableURL}),
	} {
		if status := a.call("POST", "/v1/credentials", c); status != 201 {
			a.t.Fatalf("create %s: status %d", c["name"], status)
		}
		a.names = append(a.names, c["name"].(string))
	}
	repeated := a.credential("repeated", nil)
	a.call("POST", "/v1/credentials", repeated, "Idempotency-Key", "once")
	a.call("POST", "/v1/credentials", repeated, "Idempotency-Key", "once")
	a.canary("digest of an idempotent create", a.digest(repeated))
}

// digest is what the hub keeps to recognize a create that is repeated. Whoever has it can try
// out which secret was in there.
func (a *aviary) digest(c map[string]any) string {
	var decoded grantway.Credential
	text, err := json.Marshal(c)
	if err == nil {
		err = json.Unmarshal(text, &decoded)
	}
	if err == nil {
		text, err = json.Marshal(decoded)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}

// use does what programs do, and what people do with a credential that works.
func (a *aviary) use() {
	for _, name := range a.names {
		path := "/v1/credentials/" + name
		a.call("POST", path+"/validate", nil)
		a.call("POST", path+"/token", map[string]any{"scope": "read"})
		a.call("POST", path+"/token", nil)
		a.call("POST", path+"/token/invalidate", map[string]any{})
		a.call("POST", path+"/token", map[string]any{"proof": map[string]any{"method": "GET", "url": a.provider.API.URL}})
		a.call("GET", path, nil)
		a.call("GET", path+"/status", nil)
		a.call("PATCH", path, map[string]any{"description": "changed"})
	}
	a.call("POST", "/v1/credentials/validate", a.credential("basic", nil))

	api := &http.Client{Transport: a.hub.Transport(grantway.Ref{Credential: "basic"})}
	for range 2 {
		if response, err := api.Get(a.provider.API.URL + "messages"); err != nil {
			a.said("error of Transport", []byte(err.Error()))
		} else {
			response.Body.Close()
		}
		a.provider.Revoke()
	}
	for _, token := range append(a.provider.Tokens(), a.tls.Tokens()...) {
		a.canary("token of the provider", token, "/token ")
	}
}

// misuse has providers that repeat what they were sent, and callers who put secrets in the
// wrong place.
func (a *aviary) misuse() {
	for _, reply := range repeaters() {
		a.provider.Token.Always(reply)
		for _, name := range a.names {
			if name == "tls" || name == "unreachable" || name == "missing" {
				continue
			}
			path := "/v1/credentials/" + name
			a.call("POST", path+"/validate", nil)
			a.call("POST", path+"/token/invalidate", nil)
			a.call("POST", path+"/token", nil)
			a.call("GET", path+"/status", nil)
		}
		a.call("POST", "/v1/credentials/validate", a.credential("post", map[string]any{"auth_method": "client_secret_post",
			"extra_parameters": []any{map[string]any{"in": "body", "name": "password", "value": a.value("wrong")}}}))
	}
	a.provider.Token.Always(nil)

	wrong := a.value("wrong")
	bad := func(inputs map[string]any) map[string]any { return a.credential("bad", inputs) }
	put := func(member string, value any) map[string]any { c := bad(nil); c[member] = value; return c }
	for _, c := range []any{
		put("name", wrong), put("division", wrong), put("connector", wrong), put("unknown", wrong), put("description", wrong+"\x00"),
		put("inputs", wrong), put("inputs", []string{wrong}), put("version", wrong), put("created_at", wrong), put("used_by", wrong),
		bad(map[string]any{"client_id": []string{wrong}}), bad(map[string]any{"client_id": map[string]any{"value": wrong}}), bad(map[string]any{"client_id": wrong + "\n"}),
		bad(map[string]any{"token_endpoint": "https://app:" + url.QueryEscape(wrong) + "@example.com/token"}),
		bad(map[string]any{"token_endpoint": "https://example.com/token?client_secret=" + url.QueryEscape(wrong)}),
		bad(map[string]any{"token_endpoint": "https://example.com/" + wrong}), bad(map[string]any{"token_endpoint": wrong}),
		bad(map[string]any{"scopes": wrong}), bad(map[string]any{"auth_method": wrong}), bad(map[string]any{"dpop": wrong}), bad(map[string]any{"resource": wrong}),
		bad(map[string]any{"default_lifetime_seconds": wrong}), bad(map[string]any{"client_secret_expires_at": wrong}),
		bad(map[string]any{"client_certificate": a.certificateKey}), bad(map[string]any{"client_certificate": wrong}), bad(map[string]any{"signing_key": wrong, "auth_method": "private_key_jwt", "assertion_audience": "a"}),
		bad(map[string]any{"dpop": true, "dpop_key": wrong}), bad(map[string]any{"signing_key": `{"kty":"EC","d":"` + wrong + `"}`, "auth_method": "private_key_jwt", "assertion_audience": "a"}),
		bad(map[string]any{"client_secret": map[string]any{"store": wrong, "key": "k"}}), bad(map[string]any{"client_secret": map[string]any{"source": wrong, "set": true}}),
		bad(map[string]any{"extra_parameters": []any{map[string]any{"in": "header", "name": "X-A", "value": wrong + "\r\nX-B: c"}}}),
		bad(map[string]any{"extra_parameters": []any{map[string]any{"in": wrong, "name": "a", "value": wrong}}}),
		bad(map[string]any{"extra_parameters": []any{map[string]any{"in": "header", "name": "Authorization", "value": wrong}}}),
		[]byte(`{"name":"bad","inputs":{"client_secret":"` + wrong), []byte(wrong), []byte(`{"name":"` + strings.Repeat("x", 2<<20) + wrong), []string{wrong}, wrong,
	} {
		if status := a.call("POST", "/v1/credentials", c); status < 400 || status >= 500 {
			a.t.Errorf("a bad create: status %d of %.300s", status, fmt.Sprint(c))
		}
		a.call("POST", "/v1/credentials/validate", c)
		a.call("PUT", "/v1/credentials/basic", c)
		a.call("PATCH", "/v1/credentials/basic", c)
	}
	a.call("POST", "/v1/credentials/validate", put("id", wrong))
	a.call("POST", "/v1/credentials", bad(nil), "Content-Type", wrong)
	a.call("PUT", "/v1/credentials/basic", bad(nil), "If-Match", wrong)
	a.call("POST", "/v1/credentials/basic/token", map[string]any{"scope": wrong, "audience": wrong + "\n", "resource": wrong})
	a.call("POST", "/v1/credentials/basic/token", map[string]any{"proof": map[string]any{"method": wrong, "url": wrong}})
	a.call("POST", "/v1/credentials/dpop/token", map[string]any{"proof": map[string]any{"method": wrong, "url": wrong}})
	a.call("POST", "/v1/credentials/basic/token/invalidate", map[string]any{"fingerprint": wrong})
	query := url.QueryEscape(wrong)
	for _, path := range []string{"/v1/audit?since=" + query, "/v1/audit?cursor=" + query, "/v1/credentials?limit=" + query, "/v1/credentials?access_token=" + query, "/oauth/token?client_secret=" + query} {
		a.call("GET", path, nil)
	}
	a.call("GET", "/v1/status", nil, "Authorization", "Bearer "+wrong)
	a.call("GET", "/v1/status", nil, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("x:"+wrong)))
	for _, form := range []url.Values{
		{"grant_type": {"client_credentials"}, "client_id": {a.hub.Owner.ClientID}, "client_secret": {wrong}},
		{"grant_type": {wrong}, "client_id": {wrong}, "client_secret": {wrong}, "scope": {wrong}},
	} {
		a.call("POST", "/oauth/token", []byte(form.Encode()), "Authorization", "", "Content-Type", "application/x-www-form-urlencoded")
	}
}

// administrate looks at everything, makes and deletes clients, and gives the hub a new key.
func (a *aviary) administrate() {
	var client grantway.OAuthClient
	roles := []any{map[string]any{"role": "administrator", "division": "*"}}
	a.call("POST", "/v1/clients", map[string]any{"name": "reporting", "roles": roles}, "", "", &client)
	a.canary("client secret", client.Secret, "POST /v1/clients ")
	var again grantway.OAuthClient
	a.call("POST", "/v1/clients/"+client.ID+"/secret", nil, "", "", &again)
	a.canary("client secret after a reset", again.Secret, "POST /v1/clients/"+client.ID+"/secret ")
	a.call("POST", "/v1/clients", map[string]any{"name": a.value("wrong"), "roles": roles})
	a.call("POST", "/v1/clients", map[string]any{"name": "x", "roles": []any{map[string]any{"role": a.value("wrong"), "division": "*"}}})
	a.call("POST", "/v1/divisions", map[string]any{"name": a.value("wrong")})

	// Somebody who may not, and puts secrets where names belong.
	var designer grantway.OAuthClient
	a.call("POST", "/v1/clients", map[string]any{"name": "designer", "roles": []any{map[string]any{"role": "designer", "division": "home"}}}, "", "", &designer)
	a.canary("designer's secret", designer.Secret, "POST /v1/clients ")
	owner := a.token
	a.signInAs(designer.ID, designer.Secret)
	denied := a.credential(a.value("wrong"), nil)
	denied["division"] = a.value("wrong")
	for _, path := range []string{"/v1/credentials", "/v1/credentials/validate"} {
		if status := a.call("POST", path, denied); status != 403 {
			a.t.Errorf("%s as a designer: status %d", path, status)
		}
	}
	a.call("PUT", "/v1/credentials/basic", denied)
	a.token = owner

	for range 2 {
		if status := a.call("POST", "/v1/key/rotate", nil); status != 200 {
			a.t.Errorf("rotate: status %d", status)
		}
	}
	for _, path := range []string{"/v1/credentials", "/v1/credentials?limit=2", "/v1/clients", "/v1/divisions", "/v1/secret-stores", "/v1/audit?limit=1000", "/v1/status",
		"/metrics", "/openapi.json", "/docs", "/healthz", "/readyz", "/nothing"} {
		a.call("GET", path, nil)
	}
	a.call("DELETE", "/v1/credentials/basic", nil)
	a.call("DELETE", "/v1/clients/"+client.ID, nil)
	_, err := a.hub.Token(a.t.Context(), grantway.Ref{Credential: "post"})
	a.said("error of Client", fmt.Appendf(nil, "%v %+v %#v", err, err, err))
}

// repeaters are providers that say again what they were told, each in another place.
func repeaters() []grantwaytest.Reply {
	repeat := func(say func(text string) grantwaytest.Reply) grantwaytest.Reply {
		return func(w http.ResponseWriter, r *http.Request, healthy http.HandlerFunc) {
			body, _ := io.ReadAll(r.Body)
			form, _ := url.ParseQuery(string(body))
			text := string(body) + " " + r.Header.Get("Authorization") + " " + r.Header.Get("DPoP")
			for _, values := range form {
				text += " " + strings.Join(values, " ")
			}
			if id, secret, ok := r.BasicAuth(); ok {
				plain, _ := url.QueryUnescape(secret)
				text += " " + id + " " + secret + " " + plain
			}
			say(text)(w, r, healthy)
		}
	}
	return []grantwaytest.Reply{
		repeat(func(s string) grantwaytest.Reply { return grantwaytest.OAuthError(400, "invalid_request", s) }),
		repeat(func(s string) grantwaytest.Reply { return grantwaytest.OAuthError(401, "invalid_client", s) }),
		repeat(func(s string) grantwaytest.Reply { return grantwaytest.OAuthError(200, s, "") }),
		repeat(func(s string) grantwaytest.Reply {
			return grantwaytest.JSON(400, map[string]any{"error": map[string]string{"code": s, "message": s}})
		}),
		repeat(func(s string) grantwaytest.Reply { return grantwaytest.Body(500, "text/html", "<p>"+s) }),
		repeat(func(s string) grantwaytest.Reply { return grantwaytest.Body(200, "text/plain", s) }),
		repeat(func(s string) grantwaytest.Reply { return grantwaytest.JSON(200, map[string]string{s: s}) }),
		repeat(func(s string) grantwaytest.Reply {
			return grantwaytest.JSON(200, map[string]string{"access_token": "t", "token_type": s})
		}),
		repeat(func(s string) grantwaytest.Reply {
			return grantwaytest.JSON(200, map[string]string{"access_token": "a b\n" + s, "token_type": "Bearer"})
		}),
		repeat(func(s string) grantwaytest.Reply {
			return grantwaytest.Redirect(307, "https://example.com/"+url.PathEscape(s)+"?"+url.QueryEscape(s))
		}),
		func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { // not even HTTP
			body, _ := io.ReadAll(r.Body)
			plain, _ := url.QueryUnescape(string(body))
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprintf(conn, "%s %s %s\r\n\r\n", body, plain, r.Header.Get("Authorization"))
			conn.Close()
		},
	}
}

// readFiles reads what is on the disk.
func (a *aviary) readFiles(when string) {
	err := filepath.WalkDir(a.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		a.said("file "+filepath.Base(path)+" "+when, text)
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// readTables reads every row of PostgreSQL as text, BYTEA in hex.
func (a *aviary) readTables() {
	if a.database == "" {
		return
	}
	ctx := a.t.Context()
	conn, err := pgx.Connect(ctx, a.database)
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close(ctx)
	text := func(query string) []string {
		rows, err := conn.Query(ctx, query)
		if err != nil {
			a.t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			a.t.Fatal(err)
		}
		return list
	}
	for _, table := range text(`SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public'`) {
		a.said("table "+table, []byte(strings.Join(text(`SELECT t::text FROM `+table+` t`), "\n")))
	}
}

// call makes a request of the API, and notes the answer. body is JSON, or bytes as they are;
// extra is one header, and where to decode the answer.
func (a *aviary) call(method, path string, body any, extra ...any) (status int) {
	a.t.Helper()
	payload, raw := body.([]byte)
	if body != nil && !raw {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			a.t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.hub.URL+path, bytes.NewReader(payload))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	r.Header.Set("Content-Type", "application/json")
	if len(extra) > 1 && extra[0] != "" {
		for i := 0; i+1 < len(extra); i += 2 {
			value := strings.Map(func(c rune) rune { return max(c, ' ') }, extra[i+1].(string))
			if r.Header.Del(extra[i].(string)); value != "" {
				r.Header.Set(extra[i].(string), value)
			}
		}
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		a.t.Fatalf("%s %.100s: %v", method, path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	path, _, _ = strings.Cut(path, "?")
	a.said(method+" "+path, fmt.Appendf(nil, "%v\n%s", response.Header, answer))
	if response.StatusCode == 500 {
		a.t.Errorf("%s %s: %s", method, path, answer)
	}
	if len(extra) == 3 {
		if err := json.Unmarshal(answer, extra[2]); err != nil {
			a.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
	return response.StatusCode
}

func (a *aviary) signIn() { a.signInAs(a.hub.Owner.ClientID, string(a.hub.Owner.ClientSecret)) }

func (a *aviary) signInAs(id, secret string) {
	a.t.Helper()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	a.token = "none"
	a.call("POST", "/oauth/token", []byte(form.Encode()), "Content-Type", "application/x-www-form-urlencoded",
		"Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	if err := json.Unmarshal(a.lastBody(), &answer); err != nil || answer.AccessToken == "" {
		a.t.Fatalf("sign in: %v", err)
	}
	a.token = answer.AccessToken
	a.canary("token of the hub", a.token, "POST /oauth/token ")
}
