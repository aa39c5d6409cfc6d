package console_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// newMethod adds an authentication method by the form, and is on its tab of variables then.
func (b *browser) newMethod(title, kind string) {
	b.Helper()
	b.open("/connectors/add")
	b.fill("title", title)
	b.click(`[name=type][value="` + kind + `"]`)
	b.submit("#save")
}

// save presses Save of a tab.
func (b *browser) save() {
	b.Helper()
	b.submit("#save")
	b.has("Saved.")
}

// TestBuilder makes a method of type OAuth 2 client credentials, as the Patchworks row says,
// changes what people see of it, and makes instances of it, without scripts.
func TestBuilder(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "store", Secret: awkward, Method: grantwaytest.AuthPost})
	eachHub(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.scripts(false)
		b.newMethod("Store of Berlin", "oauth2")
		b.at("/connectors/store-of-berlin/build/variables")

		// P-1: exactly these five, with these defaults.
		b.scripts(true)
		rows := eval[string](b, `[...document.querySelectorAll(".variable")].map((v) => v.querySelector("strong").textContent + "=" + (v.querySelector("[name='var.default']").type == "hidden" ? "none" : v.querySelector("[name='var.default']").value) + (v.querySelector("[name='var.key']").readOnly ? "" : " open")).join("; ")`)
		if want := "Scope=scope; Grant type=client_credentials; Client ID=none; Client secret=none; Response authentication token key=access_token"; rows != want {
			t.Errorf("the variables are %s, want %s", rows, want)
		}
		b.open("/connectors/store-of-berlin/build/header")
		if got := eval[string](b, `document.querySelector("[name='header.name']").value + ": " + document.querySelector("[name='header.value']").value`); got != "content-type: application/x-www-form-urlencoded" {
			t.Errorf("the header is %s", got)
		}

		// An instance that is there before the edit.
		b.open("/connectors/store-of-berlin/build/url")
		b.fill("url", p.Token.URL)
		b.save()
		b.open("/integrations/store-of-berlin")
		b.fill("name", "berlin-1", "in.client_id", "store", "in.client_secret", awkward)
		b.submit("#save")
		b.has("berlin-1 is added.")
		b.click(".page-actions .btn-primary")
		b.wait(".report-head.ok")

		// P-2: another title, another default, and one hidden.
		b.open("/connectors/store-of-berlin/build/variables")
		b.do(chromedp.SetValue(chromedp.CSS(`[id="var.2.title"]`), "API key"), chromedp.SetValue(chromedp.CSS(`[id="var.0.default"]`), "read write"), chromedp.SetValue(chromedp.CSS(`[id="var.1.shown"]`), "hidden"))
		b.save()
		b.open("/integrations/store-of-berlin")
		b.has("API key")
		if got := eval[string](b, `document.querySelector("[name='in.scope']").placeholder + " " + document.querySelectorAll("[name='in.grant_type']").length`); got != "read write 0" {
			t.Errorf("the form of instances has %q", got)
		}
		if _, err := h.ValidateCredential(t.Context(), "berlin-1"); err != nil {
			t.Error(err)
		}
		if got := last(p).Form.Get("scope"); got != "read write" {
			t.Errorf("the token request of the instance asks for %q", got)
		}

		// P-6: a default of more than 1,024 bytes is refused; a required one is asked for.
		b.open("/connectors/store-of-berlin/build/variables")
		b.do(chromedp.SetValue(chromedp.CSS(`[id="var.0.default"]`), strings.Repeat("x", 1025)))
		b.submit("#save")
		b.has("Not saved yet")
		b.has("at most 1024 bytes")
		b.open("/connectors/store-of-berlin/delete")
		b.has("It is in use and cannot be deleted yet")
		b.has("credential berlin-1")
	})
}

// asked are the fields of a credential's form that are in sight, those that are required with a star.
func (b *browser) asked() string {
	b.Helper()
	return eval[string](b, `[...document.querySelectorAll("#credential-form input, #credential-form textarea, #credential-form select")].filter((e) => e.checkVisibility() && e.type != "radio").map((e) => e.name + (e.required ? "*" : "")).join(" ")`)
}

// last is the newest token request that arrived.
func last(p *grantwaytest.Provider) *grantwaytest.Request {
	all := p.Token.Requests()
	return all[len(all)-1]
}

// application answers token requests in a way of its own.
func application(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s
}

// TestTokenKey reads the token from another place, and says which there are when it is not
// there (P-3), and sends JSON when the content type says so (P-4).
func TestTokenKey(t *testing.T) {
	t.Parallel()
	var got string
	login := application(t, func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 4096)
		n, _ := r.Body.Read(body)
		got = r.Header.Get("Content-Type") + " " + string(body[:n])
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"data": {"token": "a-very-secret-token"}, "kind": "x"}`)
	})
	h := startHub(t, grantwaytest.HubOptions{})
	b := newBrowser(t, h.URL)
	b.setUp(h)
	b.newMethod("Nested", "oauth2")
	b.open("/connectors/nested/build/url")
	b.fill("url", login.URL+"/oauth/{{scope}}/token?a=b")
	b.save()
	b.open("/connectors/nested/build/header")
	b.fill("header.value", "application/json")
	b.wait("#preview pre")
	eval[bool](b, `new Promise((done) => { document.querySelector("#builder").dispatchEvent(new Event("change")); const look = () => document.querySelector("#preview").textContent.includes('"grant_type"') ? done(true) : requestAnimationFrame(look); look(); })`)
	b.save()

	try := func() string {
		b.open("/connectors/nested/try")
		b.fill("in.client_id", `a"b`, "in.client_secret", "the secret")
		b.click("#try")
		b.wait("#result .report-head")
		noSecret(t, b, "a-very-secret-token")
		noSecret(t, b, "the secret")
		return b.text("#result")
	}
	if text := try(); !strings.Contains(text, "access_token") || !strings.Contains(text, "data") || !strings.Contains(text, "kind") {
		t.Errorf("with the wrong key it says %s", text)
	}
	if !strings.HasPrefix(got, "application/json {") || !strings.Contains(got, `"client_id":"a\"b"`) {
		t.Errorf("the body is %s", got)
	}
	b.open("/connectors/nested/build/variables")
	b.do(chromedp.SetValue(chromedp.CSS(`[id="var.4.default"]`), "data.token"))
	b.save()
	if text := try(); !strings.Contains(text, "A token was found.") {
		t.Errorf("with the right key it says %s", text)
	}
}

// TestUse puts a variable of the connector into the token request and an endpoint (P-7), is
// warned of one that is not there, and of a grant that is not client credentials (P-10).
func TestUse(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	b := newBrowser(t, h.URL)
	b.setUp(h)
	b.scripts(false)
	b.newMethod("Shop", "oauth2")
	b.submit(`[name=do][value="add:var"]`)
	b.do(chromedp.SetValue(chromedp.CSS(`[id="var.5.key"]`), "Store-URL"), chromedp.SetValue(chromedp.CSS(`[id="var.5.title"]`), "Store"),
		chromedp.SetValue(chromedp.CSS(`[id="var.5.required"]`), "1"), chromedp.SetValue(chromedp.CSS(`[id="var.5.level"]`), "connector"))
	b.save()
	b.open("/connectors/shop/build/url")
	b.do(chromedp.SetValue(chromedp.CSS(`[name="query.use"]`), "Store-URL"))
	b.submit(`[name=do][value="use:query"]`)
	b.has("Not saved yet.")
	b.save()
	b.has("Store-URL=")
	b.open("/connectors/shop/build/api")
	b.fill("base_url", "https://api.example.com")
	b.save()
	b.open("/connectors/shop/build/endpoints?endpoint=new")
	b.fill("name", "orders", "path", "/orders/{{typo}}")
	b.do(chromedp.SetValue(chromedp.CSS(`[name="query.use"]`), "Store-URL"))
	b.submit(`[name=do][value="use:query"]`)
	b.save()
	b.has("typo") // a warning

	// The instance form refuses it empty, and folds what is optional.
	b.open("/integrations/shop")
	b.fill("name", "shop-1", "in.client_id", "x", "in.client_secret", "y")
	b.submit("#save")
	if text := b.text("#wrong"); !strings.Contains(text, "Store is required") {
		t.Errorf("without the required variable: %s", text)
	}
	noSecret(t, b, `"y"`)

	b.open("/connectors/shop/build/variables")
	b.do(chromedp.SetValue(chromedp.CSS(`[id="var.1.default"]`), "password"))
	b.save()
	b.has("no longer a client credentials grant")

	// Both ways, nothing lost: what the builder does not know stays.
	one := exported(b, "shop")
	one = strings.Replace(one, "request:", "hints:\n  note: Ask Bob first. # he knows\nrequest:", 1)
	b.open("/connectors/shop/yaml")
	b.fill("yaml", one)
	b.submit("#save")
	b.open("/connectors/shop/build/response")
	b.fill("default_lifetime", "20m")
	b.save()
	if text := exported(b, "shop"); !strings.Contains(text, "note: Ask Bob first. # he knows") || !strings.Contains(text, "default_lifetime: 20m") || !strings.Contains(text, "Store-URL: '{{Store-URL}}'") && !strings.Contains(text, `Store-URL: "{{Store-URL}}"`) {
		t.Errorf("after an edit in the builder the definition is\n%s", text)
	}
	b.open("/connectors/shop/delete")
	b.fill("confirm", "not it")
	b.submit(".btn-danger")
	b.has("Type the name exactly")
	b.fill("confirm", "shop")
	b.submit(".btn-danger")
	b.has("shop is deleted.")
}

// exported is the definition of a connector as YAML, from the page.
func exported(b *browser, name string) string {
	b.Helper()
	b.scripts(true)
	defer b.scripts(false)
	b.open("/connectors/" + name + "/yaml")
	return eval[string](b, `document.querySelector("#yaml").value`)
}

// TestIntegrations is the OpenMethods row: an entry is searched for and selected, only what is
// missing is asked for, and what was typed overrides the preset until it is cleared.
func TestIntegrations(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "sales", Secret: awkward})
	eachHub(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/integrations")
		b.scripts(false)
		b.open("/integrations?q=spotify")
		b.submit("#integration-spotify h3 a")
		b.has("Selected Integrations")
		b.scripts(true)
		b.open("/integrations/spotify")
		if got := b.asked(); got != "name* in.client_id* in.client_secret" {
			t.Errorf("with a preset it asks for %s", got)
		}

		// O-3: plain http to elsewhere is refused, what is typed overrides, and clearing it brings the preset back.
		b.click("details.advanced > summary")
		b.fill("name", "music", "in.client_id", "sales", "in.client_secret", awkward, "in.token_endpoint", "http://example.com/token")
		b.submit("#save")
		if !strings.Contains(b.text("#wrong"), "Token URL") {
			t.Errorf("plain http: %s", b.text("#wrong"))
		}
		b.fill("in.token_endpoint", p.Token.URL)
		b.submit("#save")
		b.has("music is added.")
		if _, err := h.Token(t.Context(), grantway.Ref{Credential: "music"}); err != nil {
			t.Fatal(err)
		}
		if form := last(p).Form; form.Has("scope") { // O-2
			t.Errorf("the token request has a scope: %v", form)
		}
		edit := eval[string](b, `document.querySelector(".page-actions a[href$='/edit']").getAttribute("href")`)
		b.open(edit)
		b.do(chromedp.WaitReady(chromedp.CSS("[name='in.token_endpoint']")))
		eval[bool](b, `document.querySelector("[name='in.token_endpoint']").value = "", true`)
		b.submit("#save")
		b.has("music is saved.")
		b.has("https://accounts.spotify.com/api/token")

		b.open("/instances")
		b.has("music")
		b.open("/credentials?kind=plain")
		if strings.Contains(b.text("main"), "music") {
			t.Error("an instance is listed as plain")
		}

		// An entry without preset wants the token URL.
		b.open("/connectors/import")
		b.fill("yaml", "name: anywhere\nextends: oauth2\ntitle: Anywhere\n")
		b.submit("#save")
		b.open("/integrations/anywhere")
		if got := b.asked(); got != "name* in.client_id* in.client_secret in.token_endpoint*" {
			t.Errorf("without a preset it asks for %s", got)
		}
		b.submit("#save")
		if !strings.Contains(b.text("#wrong"), "Token URL is required") {
			t.Errorf("without a token URL: %s", b.text("#wrong"))
		}
	})
}

// shop is an API, with a token endpoint of its own, that notes the requests it gets.
type shop struct {
	*httptest.Server
	mu   sync.Mutex
	last *http.Request // with its form read
}

func newShop(t *testing.T) *shop {
	s := &shop{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		s.mu.Lock()
		s.last = r
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "t0ken-of-the-shop", "expires_in": 600}`)
	}))
	t.Cleanup(s.Close)
	return s
}

// got is the last request, as "GET /path?query, Authorization, form".
func (s *shop) got() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return ""
	}
	return strings.Join(strings.Fields(s.last.Method+" "+s.last.RequestURI+" "+s.last.Header.Get("Authorization")+" "+s.last.PostForm.Encode()), " ")
}

// call makes a request to an API through the proxy, as the owner's program.
func (h *hub) call(t *testing.T, path string) int {
	t.Helper()
	return h.ask(t, http.MethodGet, "/proxy/"+path)
}

func (h *hub) ask(t *testing.T, method, path string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	conf := clientcredentials.Config{ClientID: h.Owner.ClientID, ClientSecret: string(h.Owner.ClientSecret), TokenURL: h.URL + "/oauth/token"}
	resp, err := conf.Client(t.Context()).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestAuthTypes is O-4: each type of authentication asks for fields of its own, and makes a correct
// call of the API. It has the prefix Session, and the password grant of P-10 and its warning, too.
func TestAuthTypes(t *testing.T) {
	t.Parallel()
	api := newShop(t)
	h := startHub(t, grantwaytest.HubOptions{})
	b := newBrowser(t, h.URL)
	b.setUp(h)
	for _, c := range []struct {
		name, kind string
		edit       func()   // of the method
		fill       []string // of the instance
		asks       string   // the fields that an instance is asked for first
		token      string   // the token request
		call       string   // the request to the API
	}{
		{name: "keys", kind: "key", asks: "name* in.api_key", fill: []string{"in.api_key", "k-1", "in.prefix", "Session"},
			call: "GET /api/orders Session k-1"},
		{name: "users", kind: "basic", asks: "name* in.username* in.password", fill: []string{"in.username", "ada", "in.password", "pa:ss"},
			call: "GET /api/orders Basic " + base64.StdEncoding.EncodeToString([]byte("ada:pa:ss"))},
		{name: "clients", kind: "oauth2", asks: "name* in.client_id* in.client_secret", fill: []string{"in.client_id", "a b", "in.client_secret", "s&t"},
			token: "POST /token client_id=a+b&client_secret=s%26t&grant_type=client_credentials&scope=scope", call: "GET /api/orders Bearer t0ken-of-the-shop"},
		{name: "passwords", kind: "oauth2", asks: "name* in.client_id* in.client_secret in.username* in.password", fill: []string{"in.client_id", "administration", "in.client_secret", "x", "in.username", "ada", "in.password", "p&w"},
			token: "POST /token client_id=administration&client_secret=x&grant_type=password&password=p%26w&scope=scope&username=ada", call: "GET /api/orders Bearer t0ken-of-the-shop",
			edit: func() { // as Shopware wants it
				b.do(chromedp.SetValue(chromedp.CSS(`[id="var.1.default"]`), "password"))
				for i, key := range []string{"username", "password"} {
					b.submit(`[name=do][value="add:var"]`)
					n := fmt.Sprint("var.", 5+i, ".")
					b.do(chromedp.SetValue(chromedp.CSS(`[id="`+n+`key"]`), key), chromedp.SetValue(chromedp.CSS(`[id="`+n+`title"]`), key), chromedp.SetValue(chromedp.CSS(`[id="`+n+`required"]`), "1"))
					if key == "password" {
						b.do(chromedp.SetValue(chromedp.CSS(`[id="`+n+`type"]`), "secret"))
					}
				}
				b.save()
				b.has("no longer a client credentials grant")
				b.open("/connectors/passwords/build/body")
				for _, key := range []string{"username", "password"} {
					b.do(chromedp.SetValue(chromedp.CSS(`[name="body.use"]`), key))
					b.submit(`[name=do][value="use:body"]`)
				}
				b.save()
			}},
	} {
		b.scripts(false)
		b.newMethod(c.name, c.kind)
		if c.edit != nil {
			c.edit()
		}
		if c.token != "" {
			b.open("/connectors/" + c.name + "/build/url")
			b.fill("url", api.URL+"/token")
			b.save()
		}
		b.open("/connectors/" + c.name + "/build/api")
		b.fill("base_url", api.URL+"/api")
		b.save()
		b.scripts(true)
		b.open("/integrations/" + c.name)
		if got := b.asked(); got != c.asks {
			t.Errorf("%s asks for %s, want %s", c.name, got, c.asks)
		}
		b.fill(append(c.fill, "name", c.name+"-1")...)
		b.submit("#save")
		b.has(c.name + "-1 is added.")
		if c.token != "" {
			b.click(".page-actions .btn-primary")
			b.wait(".report-head.ok")
			if got := api.got(); got != c.token {
				t.Errorf("%s: the token request is\n%s, want\n%s", c.name, got, c.token)
			}
		}
		if status := h.call(t, c.name+"-1/orders"); status != http.StatusOK || api.got() != c.call {
			t.Errorf("%s: HTTP %d after the request\n%s, want\n%s", c.name, status, api.got(), c.call)
		}
		noSecret(t, b, "t0ken-of-the-shop")
	}
	if c, err := h.Credential(t.Context(), "passwords-1"); err != nil || c.Inputs["password"].Text != "" || !c.Inputs["password"].Set {
		t.Errorf("the password is %+v, %v", c.Inputs["password"], err)
	}

	// O-7: what is deleted is of no use at once, whatever tokens there are.
	one, err := h.Credential(t.Context(), "clients-1")
	if err != nil {
		t.Fatal(err)
	}
	b.open("/credentials/" + one.ID + "/delete")
	b.fill("confirm", "clients-1")
	b.submit(".btn-danger")
	b.has("clients-1 is deleted.")
	before := api.got()
	if status := h.call(t, "clients-1/orders"); status != http.StatusNotFound || api.got() != before {
		t.Errorf("after the deletion: HTTP %d, and the API got %s", status, api.got())
	}
	if _, err := h.Token(t.Context(), grantway.Ref{Credential: "clients-1"}); err == nil || !strings.Contains(err.Error(), "clients-1") {
		t.Errorf("after the deletion: %v", err)
	}
}

// TestAddress is P-5 and P-7: values go into the path and the query of the token request, each encoded
// once, beside the query that the address has; calls of the API have none of it but what they use
// themselves. A value that both use is typed once, and changed once.
func TestAddress(t *testing.T) {
	t.Parallel()
	api := newShop(t)
	h := startHub(t, grantwaytest.HubOptions{})
	b := newBrowser(t, h.URL)
	b.setUp(h)
	b.newMethod("Places", "oauth2")
	for i, key := range []string{"env", "aud"} {
		b.submit(`[name=do][value="add:var"]`)
		n := fmt.Sprint("var.", 5+i, ".")
		b.do(chromedp.SetValue(chromedp.CSS(`[id="`+n+`key"]`), key), chromedp.SetValue(chromedp.CSS(`[id="`+n+`title"]`), key), chromedp.SetValue(chromedp.CSS(`[id="`+n+`required"]`), "1"))
	}
	b.save()
	b.open("/connectors/places/build/url")
	b.fill("url", api.URL+"/oauth/{{env}}/token?a=b")
	b.submit(`[name=do][value="add:query"]`)
	b.fill("query.name", "audience", "query.value", "{{aud}}")
	b.save()
	b.open("/connectors/places/build/api")
	b.fill("base_url", api.URL+"/api")
	b.save()
	b.open("/connectors/places/build/endpoints?endpoint=new")
	b.fill("name", "orders", "path", "/orders")
	b.do(chromedp.SetValue(chromedp.CSS(`[name="query.use"]`), "aud"))
	b.submit(`[name=do][value="use:query"]`)
	b.save()
	b.open("/integrations/places")
	b.fill("name", "place-1", "in.client_id", "x", "in.client_secret", "y", "in.env", "a/b&c+ü", "in.aud", "a&b+ü={{client_secret}}")
	b.submit("#save")
	b.has("place-1 is added.")
	b.click(".page-actions .btn-primary")
	b.wait(".report-head.ok")
	if got, want := strings.Fields(api.got())[1], "/oauth/a%2Fb%26c+%C3%BC/token?a=b&audience=a%26b%2B%C3%BC%3D%7B%7Bclient_secret%7D%7D"; got != want {
		t.Errorf("the token request goes to\n%s, want\n%s", got, want)
	}
	if status := h.call(t, "place-1/orders?page=2"); status != http.StatusOK || api.got() != "GET /api/orders?page=2 Bearer t0ken-of-the-shop" {
		t.Errorf("HTTP %d after the request %s", status, api.got())
	}
	endpoint := func() string {
		if status := h.ask(t, http.MethodPost, "/v1/credentials/place-1/endpoints/orders"); status != http.StatusOK {
			t.Errorf("the endpoint: HTTP %d", status)
		}
		return api.got()
	}
	if got := endpoint(); got != "GET /api/orders?aud=a%26b%2B%C3%BC%3D%7B%7Bclient_secret%7D%7D Bearer t0ken-of-the-shop" {
		t.Errorf("the endpoint gets %s", got)
	}
	b.open(eval[string](b, `document.querySelector(".page-actions a[href$='/edit']").getAttribute("href")`))
	b.fill("in.aud", "another")
	b.submit("#save")
	b.has("place-1 is saved.")
	b.click(".page-actions .btn-primary")
	b.wait(".report-head.ok")
	if got := strings.Fields(api.got())[1]; !strings.HasSuffix(got, "&audience=another") {
		t.Errorf("after the change the token request goes to %s", got)
	}
	if got := endpoint(); !strings.HasPrefix(got, "GET /api/orders?aud=another ") {
		t.Errorf("after the change the endpoint gets %s", got)
	}
}

// TestWithoutTheGrant is O-8 and O-9: a provider whose application may not use the grant, and what the audit
// trail says of what was done about it.
func TestWithoutTheGrant(t *testing.T) {
	t.Parallel()
	p := provider(t)
	p.Token.Always(grantwaytest.OAuthError(400, "unauthorized_client", "no"))
	h := startHub(t, grantwaytest.HubOptions{})
	b := newBrowser(t, h.URL)
	b.setUp(h)
	b.open("/integrations/spotify")
	b.click("details.advanced > summary")
	b.fill("name", "music", "in.client_id", "sales", "in.client_secret", awkward, "in.token_endpoint", p.Token.URL)
	b.submit("#save")
	b.has("music is added.")
	b.click(".page-actions .btn-primary")
	b.wait(".report-head.bad")
	b.has("Enable Client Credentials on the provider's application")
	one, err := h.Credential(t.Context(), "music")
	if err != nil {
		t.Fatal(err)
	}
	b.open("/credentials/" + one.ID + "/edit")
	b.fill("description", "Plays in the lobby")
	b.submit("#save")
	b.open("/credentials/" + one.ID + "/delete")
	b.fill("confirm", "music")
	b.submit(".btn-danger")
	b.open("/audit?object=credential/music")
	for _, action := range []string{"credential.create", "credential.validate", "credential.update", "credential.delete"} {
		b.has(action)
	}
	b.has("Ada Lovelace")
	noSecret(t, b, awkward)
}
