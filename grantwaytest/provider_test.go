package grantwaytest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/grantway/grantway/grantwaytest"
)

// newHTTP is an HTTP client that trusts p, follows no redirect and keeps no connection.
func newHTTP(p *grantwaytest.Provider, own *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: p.RootCAs()}
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any // nil if the body is no JSON object
}

func do(t *testing.T, c *http.Client, r *http.Request) answer {
	t.Helper()
	a, err := try(c, r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(c *http.Client, r *http.Request) (answer, error) {
	response, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a := answer{status: response.StatusCode, header: response.Header, body: body}
	json.Unmarshal(body, &a.json)
	return a, err
}

func form(pairs ...string) url.Values {
	v := url.Values{"grant_type": {"client_credentials"}}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func tokenRequest(t *testing.T, p *grantwaytest.Provider, form url.Values) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", p.Token.URL, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// postForm is the token request of a client registered for the method post.
func postForm(t *testing.T, p *grantwaytest.Provider, pairs ...string) answer {
	t.Helper()
	pairs = append(pairs, "client_id", "poster", "client_secret", "s3cret")
	return do(t, newHTTP(p, nil), tokenRequest(t, p, form(pairs...)))
}

func newPoster(t *testing.T) *grantwaytest.Provider {
	t.Helper()
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "poster", Secret: "s3cret", Method: grantwaytest.AuthPost})
	return p
}

func callAPI(t *testing.T, p *grantwaytest.Provider, authorization string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", p.API.URL+"things/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return do(t, newHTTP(p, nil), r)
}

func TestProviderClientAuthentication(t *testing.T) {
	p := grantwaytest.NewTLSProvider(t)
	own, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	other, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	const secret = "z/t é+%25"
	encoded := url.QueryEscape(secret)
	p.Register(grantwaytest.Client{ID: "basic 1", Secret: secret})
	p.Register(grantwaytest.Client{ID: "raw", Secret: secret, Method: grantwaytest.AuthRawBasic})
	p.Register(grantwaytest.Client{ID: "post", Secret: secret, Method: grantwaytest.AuthPost})
	p.Register(grantwaytest.Client{ID: "tls", Method: grantwaytest.AuthTLS, Certificate: own.Leaf})
	p.Register(grantwaytest.Client{ID: "none", Method: grantwaytest.AuthNone})

	for _, c := range []struct {
		name     string
		id, pass string // of the Authorization header, as is; "" for none
		form     url.Values
		own      *tls.Certificate
		status   int
		code     string
	}{
		{name: "basic", id: "basic+1", pass: encoded, form: form(), status: 200},
		{name: "basic and its own client_id", id: "basic+1", pass: encoded, form: form("client_id", "basic 1"), status: 200},
		{name: "basic and another client_id", id: "basic+1", pass: encoded, form: form("client_id", "raw"), status: 400, code: "invalid_request"},
		{name: "basic unencoded", id: "basic 1", pass: secret, form: form(), status: 401, code: "invalid_client"},
		{name: "basic wrong secret", id: "basic+1", pass: "wrong", form: form(), status: 401, code: "invalid_client"},
		{name: "basic and secret in the body", id: "basic+1", pass: encoded, form: form("client_secret", secret), status: 400, code: "invalid_request"},
		{name: "basic client by post", form: form("client_id", "basic 1", "client_secret", secret), status: 401, code: "invalid_client"},
		{name: "raw", id: "raw", pass: secret, form: form(), status: 200},
		{name: "raw encoded", id: "raw", pass: encoded, form: form(), status: 401, code: "invalid_client"},
		{name: "post", form: form("client_id", "post", "client_secret", secret), status: 200},
		{name: "post client by basic", id: "post", pass: encoded, form: form(), status: 401, code: "invalid_client"},
		{name: "tls", form: form("client_id", "tls"), own: own, status: 200},
		{name: "tls other certificate", form: form("client_id", "tls"), own: other, status: 401, code: "invalid_client"},
		{name: "tls no certificate", form: form("client_id", "tls"), status: 401, code: "invalid_client"},
		{name: "none", form: form("client_id", "none"), status: 200},
		{name: "unknown", form: form("client_id", "nobody"), status: 401, code: "invalid_client"},
		{name: "nobody", form: form(), status: 401, code: "invalid_client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := tokenRequest(t, p, c.form)
			if c.id != "" {
				r.SetBasicAuth(c.id, c.pass)
			}
			a := do(t, newHTTP(p, c.own), r)
			code, _ := a.json["error"].(string)
			if a.status != c.status || code != c.code {
				t.Errorf("got %d %s, want %d %q", a.status, a.body, c.status, c.code)
			}
			if challenged := a.header.Get("WWW-Authenticate") != ""; challenged != (a.status == 401 && c.id != "") {
				t.Errorf("WWW-Authenticate: %q", a.header.Get("WWW-Authenticate"))
			}
			if a.header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
			}
		})
	}
}

func TestProviderRefusesMalformedTokenRequests(t *testing.T) {
	p := newPoster(t)
	ok := form("client_id", "poster", "client_secret", "s3cret").Encode()
	for _, c := range []struct {
		name, method, query, kind, body string
		status                          int
		code                            string
	}{
		{"get", "GET", "", "", "", 405, "invalid_request"},
		{"json", "POST", "", "application/json", "{}", 400, "invalid_request"},
		{"secret in the URL", "POST", "?client_secret=s3cret", "application/x-www-form-urlencoded", ok, 400, "invalid_request"},
		{"twice", "POST", "", "application/x-www-form-urlencoded", ok + "&scope=a&scope=b", 400, "invalid_request"},
		{"resource twice", "POST", "", "application/x-www-form-urlencoded; charset=utf-8", ok + "&resource=a&resource=b", 200, ""},
		{"bad escape", "POST", "", "application/x-www-form-urlencoded", ok + "&a=%zz", 400, "invalid_request"},
		{"no grant", "POST", "", "application/x-www-form-urlencoded", strings.ReplaceAll(ok, "grant_type", "grant"), 400, "invalid_request"},
		{"other grant", "POST", "", "application/x-www-form-urlencoded", strings.ReplaceAll(ok, "client_credentials", "password"), 400, "unsupported_grant_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, p.Token.URL+c.query, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", c.kind)
			a := do(t, newHTTP(p, nil), r)
			if code, _ := a.json["error"].(string); a.status != c.status || code != c.code {
				t.Errorf("got %d %s, want %d %q", a.status, a.body, c.status, c.code)
			}
		})
	}
}

func TestProviderScopes(t *testing.T) {
	p := newPoster(t)
	if a := postForm(t, p, "scope", "x y"); a.json["scope"] != "x y" {
		t.Errorf("any scope: %s", a.body)
	}
	if a := postForm(t, p); a.json["scope"] != nil {
		t.Errorf("no scope: %s", a.body)
	}
	p.Register(grantwaytest.Client{ID: "poster", Secret: "s3cret", Method: grantwaytest.AuthPost, Scopes: []string{"a", "b"}})
	if a := postForm(t, p); a.json["scope"] != "a b" {
		t.Errorf("default scope: %s", a.body)
	}
	if a := postForm(t, p, "scope", "a c"); a.status != 400 || a.json["error"] != "invalid_scope" {
		t.Errorf("scope over the grant: %s", a.body)
	}
}

func TestProviderTokensAndAPI(t *testing.T) {
	p := newPoster(t)
	a := postForm(t, p, "scope", "read")
	token, _ := a.json["access_token"].(string)
	if a.json["token_type"] != "Bearer" || a.json["expires_in"] != 3600.0 || !slices.Equal(p.Tokens(), []string{token}) {
		t.Fatalf("token answer %s, tokens %q", a.body, p.Tokens())
	}
	a = callAPI(t, p, "Bearer "+token)
	if a.status != 200 || a.json["client_id"] != "poster" || a.json["scope"] != "read" || a.json["path"] != "/api/things/1" {
		t.Errorf("API: %d %s", a.status, a.body)
	}

	p.API.Next(grantwaytest.Status(401))
	if first, second := callAPI(t, p, "Bearer "+token), callAPI(t, p, "Bearer "+token); first.status != 401 || second.status != 200 {
		t.Errorf("401 once: %d, then %d", first.status, second.status)
	}
	if a := callAPI(t, p, ""); a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer realm="grantwaytest"` {
		t.Errorf("no token: %d %v", a.status, a.header)
	}
	if a := callAPI(t, p, "DPoP "+token); a.status != 401 {
		t.Errorf("bearer token by the scheme DPoP: %d", a.status)
	}
	p.Revoke()
	if a := callAPI(t, p, "Bearer "+token); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
		t.Errorf("revoked token: %d %v", a.status, a.header)
	}

	p.Register(grantwaytest.Client{ID: "poster", Secret: "s3cret", Method: grantwaytest.AuthPost, Lifetime: time.Nanosecond})
	token, _ = postForm(t, p).json["access_token"].(string)
	if a := callAPI(t, p, "Bearer "+token); a.status != 401 || a.json["error_description"] != "expired token" {
		t.Errorf("expired token: %d %s", a.status, a.body)
	}
	p.Unregister("poster")
	if a := postForm(t, p); a.status != 401 {
		t.Errorf("unregistered client: %d", a.status)
	}
}

func TestProviderJWT(t *testing.T) {
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "poster", Secret: "s3cret", Method: grantwaytest.AuthPost, JWT: true, Lifetime: time.Minute})
	token, _ := postForm(t, p, "audience", "https://api.example", "scope", "a b").json["access_token"].(string)
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		jwt.Claims
		Scope string `json:"scope"`
	}
	if err := parsed.Claims(p.PublicKey(), &claims); err != nil {
		t.Fatal(err)
	}
	if err := claims.Validate(jwt.Expected{Issuer: p.URL, Subject: "poster", AnyAudience: jwt.Audience{"https://api.example"}}); err != nil {
		t.Error(err)
	}
	if life := claims.Expiry.Time().Sub(claims.IssuedAt.Time()); life != time.Minute || claims.Scope != "a b" {
		t.Errorf("lifetime %v, scope %q", life, claims.Scope)
	}
	if a := callAPI(t, p, "Bearer "+token); a.status != 200 {
		t.Errorf("API: %d %s", a.status, a.body)
	}
}

// proof is a DPoP proof for one request; edit may change the claims.
func proof(t *testing.T, key *ecdsa.PrivateKey, method, target, token string, edit func(map[string]any)) string {
	t.Helper()
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": target, "iat": time.Now().Unix()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	if edit != nil {
		edit(claims)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestProviderDPoP(t *testing.T) {
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "poster", Secret: "s3cret", Method: grantwaytest.AuthPost, DPoP: true, JWT: true})
	key, other := newKey(t), newKey(t)
	ask := func(proofs ...string) answer {
		r := tokenRequest(t, p, form("client_id", "poster", "client_secret", "s3cret"))
		r.Header["Dpop"] = proofs
		return do(t, newHTTP(p, nil), r)
	}
	once := proof(t, key, "POST", p.Token.URL, "", nil)
	a := ask(once)
	token, _ := a.json["access_token"].(string)
	if a.status != 200 || a.json["token_type"] != "DPoP" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Cnf map[string]string `json:"cnf"`
	}
	if err := parsed.Claims(p.PublicKey(), &claims); err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: key.Public()}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if claims.Cnf["jkt"] != base64.RawURLEncoding.EncodeToString(sum) {
		t.Errorf("cnf %v", claims.Cnf)
	}
	for name, proofs := range map[string][]string{
		"none":          nil,
		"two":           {proof(t, key, "POST", p.Token.URL, "", nil), proof(t, key, "POST", p.Token.URL, "", nil)},
		"used":          {once},
		"other method":  {proof(t, key, "GET", p.Token.URL, "", nil)},
		"other address": {proof(t, key, "POST", p.API.URL, "", nil)},
		"stale":         {proof(t, key, "POST", p.Token.URL, "", func(c map[string]any) { c["iat"] = 1 })},
		"no jti":        {proof(t, key, "POST", p.Token.URL, "", func(c map[string]any) { delete(c, "jti") })},
		"garbage":       {"garbage"},
	} {
		if a := ask(proofs...); a.status != 400 || a.json["error"] != "invalid_dpop_proof" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}

	call := func(scheme, proof string) answer {
		r, err := http.NewRequestWithContext(t.Context(), "GET", p.API.URL+"x?y=z", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", scheme+" "+token)
		r.Header.Set("DPoP", proof)
		return do(t, newHTTP(p, nil), r)
	}
	if a := call("DPoP", proof(t, key, "GET", p.API.URL+"x", token, nil)); a.status != 200 {
		t.Errorf("API: %d %s", a.status, a.body)
	}
	for name, a := range map[string]answer{
		"as bearer": call("Bearer", proof(t, key, "GET", p.API.URL+"x", token, nil)),
		"no ath":    call("DPoP", proof(t, key, "GET", p.API.URL+"x", "", nil)),
		"other key": call("DPoP", proof(t, other, "GET", p.API.URL+"x", token, nil)),
	} {
		if a.status != 401 || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "DPoP algs=") {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
	}
}

func TestProviderRecordsRequests(t *testing.T) {
	p := newPoster(t)
	r := tokenRequest(t, p, form("client_id", "poster", "scope", "a"))
	r.URL.RawQuery = "tenant=t"
	r.Header.Set("X-Extra", "1")
	do(t, newHTTP(p, nil), r)
	requests := p.Token.Requests()
	if len(requests) != 1 {
		t.Fatalf("%d requests", len(requests))
	}
	got := requests[0]
	if got.Method != "POST" || got.Path != "/token" || got.Query.Get("tenant") != "t" || got.Header.Get("X-Extra") != "1" ||
		got.Form.Get("scope") != "a" || string(got.Body) != "client_id=poster&grant_type=client_credentials&scope=a" {
		t.Errorf("recorded %+v", got)
	}
	if p.Token.Count() != 1 || p.API.Count() != 0 {
		t.Errorf("counts %d, %d", p.Token.Count(), p.API.Count())
	}
}

func TestProviderDownAndUp(t *testing.T) {
	p := newPoster(t)
	address := p.URL
	p.Down()
	if _, err := newHTTP(p, nil).Do(tokenRequest(t, p, form())); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while down: %v", err)
	}
	if err := p.Up(); err != nil {
		t.Fatal(err)
	}
	if a := postForm(t, p); a.status != 200 || p.URL != address {
		t.Errorf("up again: %d at %s", a.status, p.URL)
	}
}

func TestProviderCertificates(t *testing.T) {
	p := grantwaytest.NewTLSProvider(t)
	get := func() error {
		_, err := try(newHTTP(p, nil), tokenRequest(t, p, form()))
		return err
	}
	if err := get(); err != nil {
		t.Errorf("valid: %v", err)
	}
	for c, want := range map[grantwaytest.Certificate]string{
		grantwaytest.CertWrongHost: "doesn't contain any IP SANs",
		grantwaytest.CertExpired:   "certificate has expired",
		grantwaytest.CertUnknownCA: "signed by unknown authority",
	} {
		p.Present(c)
		if err := get(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("certificate %d: got %v, want %q", c, err, want)
		}
	}
}

// TestProviderCloseLeavesNothing closes a provider with a held request, a stalled one,
// a half-open connection and an idle one.
func TestProviderCloseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	p, err := grantwaytest.StartProvider(grantwaytest.ProviderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	response, err := client.Get(p.Token.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()

	p.API.Hold()
	p.Token.Next(grantwaytest.SlowHeaders())
	var done sync.WaitGroup
	for _, address := range []string{p.Token.URL, p.API.URL} {
		done.Go(func() {
			if response, err := client.Get(address); err == nil {
				response.Body.Close()
				t.Errorf("%s answered %d", address, response.StatusCode)
			}
		})
	}
	if err := errors.Join(p.Token.Await(t.Context(), 2), p.API.Await(t.Context(), 1)); err != nil {
		t.Fatal(err)
	}
	p.Close()
	p.Close()
	done.Wait()
	transport.CloseIdleConnections()
}
