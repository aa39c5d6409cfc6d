package proxy_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// connect stores a connector and a credential of the same name that is made of it.
func (g *rig) connect(t *testing.T, name, definition string, inputs grantway.Inputs) {
	t.Helper()
	text := "name: " + name + "\ntitle: " + name + "\ninputs:\n  - {key: server, type: url, required: true}\n" + definition
	if _, err := g.CreateConnector(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	all := grantway.Inputs{"server": grantway.Text(g.api.URL)}
	for key, v := range inputs {
		all[key] = v
	}
	if _, err := g.CreateCredential(t.Context(), grantway.Credential{Name: name, Connector: name, Inputs: all}); err != nil {
		t.Fatal(err)
	}
}

// TestKeys: connectors without a token authorize requests with their inputs, of which nothing else
// gets to the API (P-9, P-11).
func TestKeys(t *testing.T) {
	const key = "  - {key: key, type: secret, required: true}\n  - {key: user, default: u53r}\n  - {key: other, default: 0ther}\n"
	for _, tt := range []struct {
		name, definition string
		header           map[string]string // of the request to the API
		uri              string
		body             string // of a POST of {"a":1} or, with form, of a=1&key=mine
		form             bool
	}{
		{name: "header", definition: "apply:\n  base_url: '{{server}}/v1'\n  headers: {X-Key: 'Key {{key}}'}\n",
			header: map[string]string{"X-Key": "Key k3y&=", "Authorization": ""}, uri: "/v1/items?a=1&key=mine&%6bey=mine"},
		{name: "basic", definition: "apply:\n  base_url: '{{server}}'\n  basic: {username: '{{user}}', password: '{{key}}'}\n",
			header: map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("u53r:k3y&="))}},
		{name: "query", definition: "apply:\n  base_url: '{{server}}'\n  query: {key: '{{key}}'}\n", uri: "/items?a=1&key=k3y%26%3D"},
		{name: "cookie", definition: "apply:\n  base_url: '{{server}}'\n  cookies: {sid: '{{base64(key)}}'}\n",
			header: map[string]string{"Cookie": "sid=" + base64.StdEncoding.EncodeToString([]byte("k3y&="))}},
		{name: "json", definition: "apply:\n  base_url: '{{server}}'\n  body: {key: '{{key}}'}\n", body: `{"a":1,"key":"k3y&="}`},
		{name: "form", definition: "apply:\n  base_url: '{{server}}'\n  body: {key: '{{key}}'}\n", body: "a=1&key=k3y%26%3D", form: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := start(t, false, nil)
			g.connect(t, tt.name, key+tt.definition, grantway.Inputs{"key": grantway.Text("k3y&=")})
			var uri, body string
			g.api.handle(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				uri, body = r.RequestURI, string(b)
			})
			sent, kind := `{"a":1}`, "application/json"
			if tt.form {
				sent, kind = "a=1&key=mine", "application/x-www-form-urlencoded"
			}
			r := g.request(t, "POST", "/proxy/"+tt.name+"/items?a=1&key=mine&%6bey=mine", strings.NewReader(sent))
			r.Header.Set("Content-Type", kind)
			r.Header.Set("X-Key", "mine")
			r.Header.Set("Cookie", "sid=mine")
			if resp := g.send(t, r); resp.StatusCode != 200 {
				t.Fatalf("HTTP %d: %s", resp.StatusCode, text(t, resp))
			}
			seen := g.api.last(t)
			for name, want := range tt.header {
				if got := seen.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if tt.uri != "" && uri != tt.uri {
				t.Errorf("it went to %s, want %s", uri, tt.uri)
			}
			if want := tt.body; want != "" && body != want || want == "" && body != sent {
				t.Errorf("the body is %s", body)
			}
			all := fmt.Sprint(uri, body, seen.Header)
			if strings.Contains(all, "0ther") || tt.name != "basic" && strings.Contains(all, "u53r") {
				t.Errorf("an input got to the API: %s", all)
			}
			if tt.name != "header" && tt.name != "json" && strings.Contains(strings.ReplaceAll(all, "X-Key:[mine]", ""), "k3y") && strings.Count(all, "k3y") > 1 {
				t.Errorf("the key got to the API twice: %s", all)
			}
		})
	}
}

// TestSignatures: every request is signed over what is sent, with its body, whose second try is signed anew.
func TestSignatures(t *testing.T) {
	t.Run("own", func(t *testing.T) {
		g := start(t, false, nil)
		g.connect(t, "own", `
  - {key: key, type: secret, required: true}
apply:
  base_url: '{{server}}'
  headers: {X-Signature: '{{hex(hmac("sha256", key, request.method + request.path + request.body))}}'}
`, grantway.Inputs{"key": grantway.Text("k")})
		g.api.handle(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			m := hmac.New(sha256.New, []byte("k"))
			fmt.Fprintf(m, "%s%s%s", r.Method, r.URL.EscapedPath(), body)
			if r.Header.Get("X-Signature") != hex.EncodeToString(m.Sum(nil)) {
				w.WriteHeader(http.StatusForbidden)
			}
			io.WriteString(w, fmt.Sprint(len(body)))
		})
		for _, size := range []int{0, 1, 100 << 10} {
			resp := g.send(t, g.request(t, "PUT", "/proxy/own/a%20b", io.MultiReader(strings.NewReader(strings.Repeat("x", size)))))
			if got := text(t, resp); resp.StatusCode != 200 || got != fmt.Sprint(size) {
				t.Errorf("%d bytes: HTTP %d %s", size, resp.StatusCode, got)
			}
		}
		problem(t, g.send(t, g.request(t, "PUT", "/proxy/own/x", strings.NewReader(strings.Repeat("x", 10<<20+1)))), 413, grantway.TooLarge)
	})
	for name, tt := range map[string]struct{ sign, header, want string }{
		"sigv4":  {"sigv4: {access_key: AK, secret_key: '{{key}}', region: eu-central-1, service: execute-api}", "Authorization", "AWS4-HMAC-SHA256 Credential=AK/"},
		"oauth1": {"oauth1: {consumer_key: ck, consumer_secret: '{{key}}'}", "Authorization", "OAuth "},
		"wsse":   {"wsse: {username: me, password: '{{key}}'}", "X-Wsse", `UsernameToken Username="me", PasswordDigest="`},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, false, nil)
			g.connect(t, name, "  - {key: key, type: secret, required: true}\napply:\n  base_url: '{{server}}'\n  sign: {"+tt.sign+"}\n", grantway.Inputs{"key": grantway.Text("s3cr3t")})
			for range 2 {
				if resp := g.send(t, g.request(t, "POST", "/proxy/"+name+"/x?b=2&a=1", strings.NewReader("body"))); resp.StatusCode != 200 {
					t.Fatalf("HTTP %d: %s", resp.StatusCode, text(t, resp))
				}
			}
			seen := g.api.seen()
			first, second := seen[0].Header.Get(tt.header), seen[1].Header.Get(tt.header)
			if !strings.HasPrefix(first, tt.want) || strings.Contains(fmt.Sprint(seen[0].Header), "s3cr3t") {
				t.Errorf("%s: %s", tt.header, first)
			}
			if name != "sigv4" && first == second { // which has no nonce
				t.Error("two requests have the same signature")
			}
		})
	}
	t.Run("wsse digest", func(t *testing.T) {
		g := start(t, false, nil)
		g.connect(t, "digest", "  - {key: key, type: secret, required: true}\napply:\n  base_url: '{{server}}'\n  sign: {wsse: {username: me, password: '{{key}}'}}\n", grantway.Inputs{"key": grantway.Text("s3cr3t")})
		g.get(t, "/proxy/digest/x")
		fields := map[string]string{}
		for part := range strings.SplitSeq(strings.TrimPrefix(g.api.last(t).Header.Get("X-Wsse"), "UsernameToken "), ", ") {
			name, value, _ := strings.Cut(part, "=")
			fields[name] = strings.Trim(value, `"`)
		}
		nonce, err := base64.StdEncoding.DecodeString(fields["Nonce"])
		sum := sha1.Sum([]byte(string(nonce) + fields["Created"] + "s3cr3t"))
		if err != nil || fields["PasswordDigest"] != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Errorf("%v: %v", fields, err)
		}
	})
}

// session is a vendor with a login in two steps, whose answer says where the API is, and whose API
// says by a body of status 200 that a session is over.
const session = `
  - {key: user, required: true}
  - {key: password, type: secret, required: true}
steps:
  - name: challenge
    request: {url: '{{server}}/challenge', extract: {challenge: data.0.challenge}}
  - name: login
    request: {url: '{{server}}/login', body: {json: {user: '{{user}}', proof: '{{hex(sha256(challenge + password))}}'}}}
token: {path: session.id, lifetime: 10m, keep: {home: session.home}}
apply:
  base_url: '{{home}}'
  headers: {X-Session: '{{token}}'}
detect: {when: [{status: 200, path: error.code, equals: SESSION_OVER}]}
`

func TestSession(t *testing.T) {
	g := start(t, false, nil)
	var logins, calls atomic.Int64
	var current atomic.Value
	current.Store("")
	release := make(chan struct{})
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/challenge":
			io.WriteString(w, `{"data":[{"challenge":"c1"}]}`)
		case "/login":
			var in struct{ User, Proof string }
			sum := sha256.Sum256([]byte("c1" + "p4ss"))
			if json.NewDecoder(r.Body).Decode(&in) != nil || in.User != "me" || in.Proof != hex.EncodeToString(sum[:]) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			id := fmt.Sprintf("s%d", logins.Add(1))
			current.Store(id)
			fmt.Fprintf(w, `{"session":{"id":%q,"home":"%s/tenants/7"}}`, id, g.api.URL)
		case "/tenants/7/watch":
			io.WriteString(w, `{"first":1}`)
			http.NewResponseController(w).Flush()
			<-release
			io.WriteString(w, `{"second":2}`)
		default:
			calls.Add(1)
			body, _ := io.ReadAll(r.Body)
			if r.Header.Get("X-Session") != current.Load() {
				io.WriteString(w, `{"error":{"code":"SESSION_OVER"}}`)
				return
			}
			fmt.Fprintf(w, "%s %s", r.URL.Path, body)
		}
	})
	g.connect(t, "crm", session, grantway.Inputs{"user": grantway.Text("me"), "password": grantway.Text("p4ss")})
	post := func() string {
		r := g.request(t, "POST", "/proxy/crm/orders", strings.NewReader("order"))
		r.Header.Set("Accept-Encoding", "gzip")
		return text(t, g.send(t, r))
	}
	if got := post(); got != "/tenants/7/orders order" {
		t.Errorf("got %q", got)
	}
	current.Store("ended by the vendor")
	if got := post(); got != "/tenants/7/orders order" || logins.Load() != 2 || calls.Load() != 3 {
		t.Errorf("after the session ended: %q, %d logins, %d calls", got, logins.Load(), calls.Load())
	}
	if got := g.api.last(t).Header.Get("Accept-Encoding"); got != "identity" {
		t.Errorf("Accept-Encoding %q: nobody could look into that", got)
	}

	// An answer that is looked into and does not end is passed on as it comes.
	resp := g.get(t, "/proxy/crm/watch")
	buf := make([]byte, 100)
	if n, err := resp.Body.Read(buf); err != nil || string(buf[:n]) != `{"first":1}` {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	close(release)
	if got := text(t, resp); got != `{"second":2}` {
		t.Errorf("then %q", got)
	}
}

// TestRedirectPolicies: a connector says where requests with its token may be led.
func TestRedirectPolicies(t *testing.T) {
	const token = "  - {key: key, type: secret, required: true}\n"
	g := start(t, true, nil)
	regional := &api{}
	regional.Server = httptest.NewTLSServer(regional)
	t.Cleanup(regional.Close)
	regional.handle(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("X-Key"), body)
	})
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/within":
			w.Header().Set("Location", "/moved?"+r.URL.RawQuery)
			w.WriteHeader(302)
		default:
			http.Redirect(w, r, regional.URL+r.URL.Path, http.StatusTemporaryRedirect)
		}
	})
	host := strings.TrimPrefix(regional.URL, "https://")
	apply := "apply:\n  base_url: '{{server}}'\n  headers: {X-Key: '{{key}}'}\n  query: {api_key: '{{key}}'}\n"
	for name, more := range map[string]string{"default": "", "none": "  redirects: none\n", "hosts": "  redirects: hosts\n  hosts: ['" + host + "']\n"} {
		g.connect(t, name, token+apply+more, grantway.Inputs{"key": grantway.Text("k3y")})
	}
	resp := g.get(t, "/proxy/default/within?a=1")
	if at := resp.Header.Get("Location"); resp.StatusCode != 302 || at != "/proxy/default/moved?a=1" {
		t.Errorf("HTTP %d to %s, which must lead back without the key", resp.StatusCode, at)
	}
	problem(t, g.get(t, "/proxy/none/within"), 502, grantway.UpstreamFailed)
	problem(t, g.get(t, "/proxy/default/out"), 502, grantway.UpstreamFailed)
	if n := len(regional.seen()); n != 0 {
		t.Errorf("%d requests left the API", n)
	}
	resp = g.send(t, g.request(t, "PUT", "/proxy/hosts/out", strings.NewReader("body")))
	if got := text(t, resp); resp.StatusCode != 200 || got != "PUT k3y body" {
		t.Errorf("HTTP %d %s", resp.StatusCode, got)
	}
	g.token = g.client(t, "limited", grantway.CredentialUse{Credential: "hosts", Via: grantway.ViaProxy, Paths: []string{"/out"}})
	problem(t, g.get(t, "/proxy/hosts/out"), 502, grantway.UpstreamFailed)
}

// TestClientCertificate: an API that wants the client's certificate gets it, over connections that are used again.
func TestClientCertificate(t *testing.T) {
	g := start(t, true, nil) // whose certificate all servers of httptest have
	pair, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	var connections atomic.Int64
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.PeerCertificates[0].Equal(leaf(t, pair.Certificate[0])) {
			io.WriteString(w, "known")
		}
	}))
	secure.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	secure.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	secure.StartTLS()
	t.Cleanup(secure.Close)
	g.save(t, "certified", secure.URL, grantway.Inputs{"client_certificate": grantway.Text(certificate), "client_certificate_key": grantway.Text(key)})
	for range 3 {
		if got := text(t, g.get(t, "/proxy/certified/x")); got != "known" {
			t.Errorf("the API got another certificate: %s", got)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	g.save(t, "bare", secure.URL, nil)
	problem(t, g.get(t, "/proxy/bare/x"), 502, grantway.UpstreamFailed)
}

func leaf(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Error(err)
	}
	return c
}

// TestEndpoint calls endpoints that the connector names (P-5, P-7, P-9): the caller gives values, and the
// connector says all the rest.
func TestEndpoint(t *testing.T) {
	g := start(t, false, nil)
	g.connect(t, "shop", `  - {key: key, type: secret, required: true}
  - {key: store, required: true}
request:
  url: '{{server}}/login/{{store}}?login=1'
  body: {json: {key: '{{key}}'}}
token: {path: token}
apply: {base_url: '{{server}}/api/{{store}}'}
endpoints:
  - name: orders
    path: /orders/{{id}}
    query: {page: '{{page}}', since: '{{since}}'}
    headers: {X-Store: '{{store}}'}
    inputs:
      - {key: id, required: true}
      - {key: page, type: integer, default: 1}
      - {key: since}
  - name: cancel
    method: POST
    path: /cancel
    body: {json: {order: '{{id}}', why: '{{why}}'}}
    inputs: [{key: id, required: true}, {key: why}]
`, grantway.Inputs{"key": grantway.Text("k3y"), "store": grantway.Text("berlin")})
	var got []string
	refuse := true
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.HasPrefix(r.URL.Path, "/login/") {
			fmt.Fprintf(w, `{"token": "t-%d"}`, len(got))
			got = append(got, r.RequestURI)
			return
		}
		got = append(got, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization")+" "+r.Header.Get("X-Store")+" "+r.Header.Get("X-Mine")+string(b)))
		if refuse { // the token that is sent first
			refuse = false
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-Of-Api", "yes")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, "done")
	})
	call := func(token, endpoint, body string) (int, http.Header, string) {
		r := g.request(t, "POST", "/v1/credentials/shop/endpoints/"+endpoint, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Mine", "no")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp := g.send(t, r)
		return resp.StatusCode, resp.Header, text(t, resp)
	}
	if status, h, body := call("", "orders", `{"inputs": {"id": "a/b?c", "since": "x&{{key}}"}}`); status != 202 || body != "done" || h.Get("X-Of-Api") != "yes" || h.Get("X-Content-Type-Options") != "" {
		t.Errorf("HTTP %d %q %v", status, body, h)
	}
	if status, _, _ := call("", "cancel", `{"inputs": {"id": "7\"}"}}`); status != 202 {
		t.Errorf("cancel: HTTP %d", status)
	}
	want := []string{"/login/berlin?login=1", "GET /api/berlin/orders/a%2Fb%3Fc?page=1&since=x%26%7B%7Bkey%7D%7D Bearer t-0 berlin", "/login/berlin?login=1",
		"GET /api/berlin/orders/a%2Fb%3Fc?page=1&since=x%26%7B%7Bkey%7D%7D Bearer t-2 berlin", `POST /api/berlin/cancel Bearer t-2  {"order":"7\"}"}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("the server got (-want +got)\n", diff)
	}

	n := len(got)
	for _, c := range []struct {
		endpoint, body string
		status         int
		says           string
	}{
		{"orders", `{}`, 422, `"pointer":"/inputs/id","detail":"is required"`},
		{"orders", `{"inputs": {"id": "1", "page": "one"}}`, 422, "/inputs/page"},
		{"orders", `{"inputs": {"id": "1", "key": "mine"}}`, 422, "is no input of this endpoint"},
		{"orders", `{"inputs": {"id": "1"}, "x": 1}`, 422, "/x"},
		{"order", `{}`, 404, "there is no endpoint order"},
	} {
		if status, _, body := call("", c.endpoint, c.body); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: HTTP %d %s", c.endpoint, c.body, status, body)
		}
	}
	reader := g.client(t, "reader", grantway.CredentialUse{Credential: "shop", Via: "proxy", Methods: []string{"GET"}, Paths: []string{"/orders"}})
	if status, _, body := call(reader, "cancel", `{"inputs": {"id": "1"}}`); status != 403 {
		t.Errorf("a client that may only read cancels: HTTP %d %s", status, body)
	}
	if len(got) != n {
		t.Errorf("the API got %v", got[n:])
	}
	if status, _, _ := call(reader, "orders", `{"inputs": {"id": "1"}}`); status != 202 {
		t.Errorf("a client that may read orders: HTTP %d", status)
	}
}

// TestCallEndpoint calls an endpoint from Go: what the API says is an answer, though it looks like a
// problem of the hub's, and what the hub says is an error.
func TestCallEndpoint(t *testing.T) {
	g := start(t, false, nil)
	g.connect(t, "shop", `  - {key: key, type: secret, required: true}
apply: {base_url: '{{server}}', headers: {X-Key: '{{key}}'}}
endpoints: [{name: orders, path: '/orders/{{id}}', inputs: [{key: id, required: true}]}]
`, grantway.Inputs{"key": grantway.Text("k3y")})
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"title": "not you", "code": 7, "path": %q}`, r.URL.Path)
	})
	resp, err := g.CallEndpoint(t.Context(), "shop", "orders", map[string]string{"id": "1/2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := text(t, resp); resp.StatusCode != 401 || got != `{"title": "not you", "code": 7, "path": "/orders/1/2"}` {
		t.Errorf("HTTP %d %s", resp.StatusCode, got)
	}
	if n := len(g.api.seen()); n != 1 {
		t.Errorf("the API was called %d times", n)
	}
	_, err = g.CallEndpoint(t.Context(), "shop", "orders", nil)
	if e, ok := errors.AsType[*grantway.Error](err); !ok || e.Code != grantway.Invalid || len(e.Fields) != 1 || e.Fields[0].Pointer != "/inputs/id" {
		t.Errorf("error %v", err)
	}
}

// TestInstances is P-8: many callers use two instances of one connector at once, and each call has the token of
// its own; a rate limit of one does not slow the other.
func TestInstances(t *testing.T) {
	g := start(t, false, nil)
	names := []string{"berlin", "paris"}
	for _, name := range names {
		g.provider.Register(grantwaytest.Client{ID: name, Secret: "of " + name, Method: grantwaytest.AuthPost})
	}
	definition := `{name: shop, title: Shop, extends: oauth2, oauth2: {auth: client_secret_post}, apply: {base_url: ` + g.provider.API.URL + `}}`
	if _, err := g.CreateConnector(t.Context(), []byte(definition)); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := g.CreateCredential(t.Context(), grantway.Credential{Name: name, Connector: "shop", Inputs: grantway.Inputs{
			"client_id": grantway.Text(name), "client_secret": grantway.Text("of " + name), "token_endpoint": grantway.Text(g.provider.Token.URL)}}); err != nil {
			t.Fatal(err)
		}
	}
	g.limit(t, "paris", grantway.RateLimit{Requests: 1, Per: 3600})
	call := func(name string) (int, string) {
		resp := g.send(t, g.request(t, "GET", "/proxy/"+name+"/who", nil))
		return resp.StatusCode, text(t, resp)
	}
	if status, body := call("paris"); status != 200 || !strings.Contains(body, `"client_id":"paris"`) { // the one that it may have
		t.Fatalf("HTTP %d %s", status, body)
	}
	var calls sync.WaitGroup
	for i := range 200 {
		calls.Go(func() {
			if i%2 == 1 {
				c, err := g.Token(t.Context(), grantway.Ref{Credential: "paris"})
				if err != nil || c.AccessToken == "" {
					t.Error(err)
				}
				return
			}
			if status, body := call("berlin"); status != 200 || !strings.Contains(body, `"client_id":"berlin"`) {
				t.Errorf("HTTP %d %s", status, body)
			}
		})
	}
	calls.Wait()
	if n := g.provider.Token.Count(); n != 2 {
		t.Errorf("%d token requests for two instances", n)
	}
}
