package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

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
		visible := func() string {
			return eval[string](b, `[...document.querySelectorAll("#credential-form input, #credential-form textarea, #credential-form select")].filter((e) => e.checkVisibility() && e.type != "radio").map((e) => e.name + (e.required ? "*" : "")).join(" ")`)
		}
		if got := visible(); got != "name* in.client_id* in.client_secret" {
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
		if got := visible(); got != "name* in.client_id* in.client_secret in.token_endpoint*" {
			t.Errorf("without a preset it asks for %s", got)
		}
		b.submit("#save")
		if !strings.Contains(b.text("#wrong"), "Token URL is required") {
			t.Errorf("without a token URL: %s", b.text("#wrong"))
		}
	})
}

// TestPrefix is O-4: an API key with the prefix Session in the header.
func TestPrefix(t *testing.T) {
	h := startHub(t, grantwaytest.HubOptions{})
	b := newBrowser(t, h.URL)
	b.setUp(h)
	b.newMethod("Sessions", "key")
	b.open("/integrations/sessions")
	b.click("details.advanced > summary")
	b.fill("name", "session-1", "in.api_key", "k-1", "in.prefix", "Session")
	b.submit("#save")
	b.has("session-1 is added.")
	if c, err := h.Credential(t.Context(), "session-1"); err != nil || c.Inputs["prefix"].Text != "Session" || c.Connector != "sessions" {
		t.Errorf("stored %+v, %v", c, err)
	}
}
