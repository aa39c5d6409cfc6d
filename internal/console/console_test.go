package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/peers/peer"
)

// awkward is a secret that has broken other products.
const awkward = "jhyun/ku[ojubbj]/jhgfdrg^7*dfg&jkiu#bjshdm,ktttdg"

func provider(t *testing.T) *grantwaytest.Provider {
	p := grantwaytest.NewProvider(t)
	p.Register(grantwaytest.Client{ID: "sales", Secret: awkward})
	p.Register(grantwaytest.Client{ID: "next", Secret: "the next secret"})
	return p
}

// fillCredential fills the starred fields.
func (b *browser) fillCredential(name, endpoint, secret string) {
	b.Helper()
	b.fill("name", name, "in.client_id", "sales", "in.client_secret", secret, "in.token_endpoint", endpoint, "in.scopes", "B a  A")
}

// TestFirstStart goes from the set-up link to the account, out, and in again, by the password.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	eachHub(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.has("No credentials yet")
		b.open(strings.TrimPrefix(h.setup, h.URL))
		b.has("This link has been used")

		b.open("/credentials")
		b.submit(`[aria-label="Sign out"]`)
		b.at("/sign-in")
		b.has("You are signed out.")
		b.open("/audit?outcome=denied")
		b.at("/sign-in?to=%2Faudit%3Foutcome%3Ddenied")
		b.fill("email", ownerEmail, "password", "not the password")
		b.submit("form .btn-primary")
		b.at("/sign-in")
		if strings.Contains(b.html(), "not the password") {
			t.Error("the page source holds the password")
		}
		b.fill("email", ownerEmail, "password", ownerPassword)
		b.submit("form .btn-primary")
		b.at("/audit?outcome=denied")
	})
}

// TestAddValidateEdit is the Cora row: the form with Validate against a server nobody here
// wrote, added whether or not that worked, and edited without the secret.
func TestAddValidateEdit(t *testing.T) {
	t.Parallel()
	op := peer.OIDCProvider(t)
	client := op.Client(t, "awkward_basic")
	roots := op.Transport().TLSClientConfig.RootCAs
	eachHub(t, grantwaytest.HubOptions{RootCAs: roots, SecretFiles: t.TempDir()}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.click("details.drop > summary")
		b.submit(`.drop-menu a`)
		b.at("/credentials/add")

		// Every starred field that is empty is named (C-1).
		b.submit("#save")
		for _, title := range []string{"Name", "Client Identifier", "Client Secret", "Token Endpoint", "Scopes"} {
			if !strings.Contains(b.text("#wrong"), title) {
				t.Errorf("the summary of errors does not name %s: %s", title, b.text("#wrong"))
			}
		}
		if method := eval[string](b, `document.querySelector("[name='in.auth_method']").value + document.querySelector("[name='in.client_secret.source']:checked").value`); method != "client_secret_basicinternal" {
			t.Errorf("the form begins with %s", method)
		}

		// What is wrong with the settings is said in the words of the form.
		b.fill("name", "sales-email", "in.client_id", client.ID, "in.client_secret", "x", "in.token_endpoint", "http://login.example.com/token", "in.scopes", "a")
		b.click("#validate")
		b.wait("#report .report-head.bad")
		if report := b.text("#report"); !strings.Contains(report, "Token Endpoint must be https") || strings.Contains(report, "save it all the same") {
			t.Errorf("of an endpoint without TLS the report says %q", report)
		}
		eval[bool](b, `document.querySelector("#report").replaceChildren() === undefined`)

		b.fill("name", "sales-email", "in.client_id", client.ID, "in.client_secret", "not it, a wrong one", "in.token_endpoint", op.TokenURL, "in.scopes", "api:read  api:write")
		b.click("#validate")
		b.wait("#report .report-head.bad")
		b.has("invalid_client")
		b.fill("in.client_secret", client.Secret)
		b.click("#validate")
		b.wait("#report .report-head.ok")
		b.accessible("validated form", `{}`)
		b.submit("#save")
		b.has("sales-email is added.")
		b.has("Not validated")
		noSecret(t, b, client.Secret)

		b.click(".page-actions .btn-primary")
		b.wait(".report-head.ok")
		b.has("Healthy")
		noSecret(t, b, client.Secret)

		// Edit the name only: the box is empty, and the secret is kept (C-5).
		b.submit(`.page-actions a[href$="/edit"]`)
		noSecret(t, b, client.Secret)
		b.has("Leave blank to keep")
		b.fill("name", "sales-mail")
		b.submit("#save")
		b.has("sales-mail is saved.")
		b.click(".page-actions .btn-primary")
		b.wait(".report-head.ok")

		// A failed validation does not keep anybody from adding (C-4).
		b.open("/credentials/add")
		b.fillCredential("offline", "https://token.invalid/token", awkward)
		b.click("#validate")
		b.wait("#report .report-head.bad")
		b.submit("#save")
		b.has("offline is added.")
		b.open("/credentials")
		b.has("Not validated")

		// Microsoft's host with Basic: a hint, which goes away with the other method (C-11).
		b.open("/credentials/add")
		b.do(chromedp.SendKeys(chromedp.CSS(`[name="in.token_endpoint"]`), "https://login.microsoftonline.com/contoso/oauth2/v2.0/token"+kb.Tab))
		b.wait("#endpoint-hint .hint")
		b.do(chromedp.SetValue(chromedp.CSS(`[name="in.auth_method"]`), "client_secret_post"))
		eval[bool](b, `document.querySelector("[name='in.auth_method']").dispatchEvent(new Event("change", {bubbles: true}))`)
		b.do(chromedp.WaitNotPresent(chromedp.CSS("#endpoint-hint .hint")))
		if note := eval[string](b, `document.querySelector(".note-body").innerText`); !strings.Contains(note, "Not recommended") {
			t.Errorf("the body is chosen and the note says %q", note)
		}

		// External: a key that is not there yet may be named; the stored secret is wiped (C-6).
		b.open("/credentials")
		b.submit(`.credentials a[href^="/credentials/"]:not([href*="?"])`)
		b.submit(`.page-actions a[href$="/edit"]`)
		b.click(`[name="in.client_secret.source"][value=external]`)
		b.do(chromedp.SetValue(chromedp.CSS(`[name="in.client_secret.store"]`), "file"))
		b.fill("in.client_secret.key", "offline-secret")
		b.submit("#save")
		b.has("is saved.")
		b.has("file / offline-secret")
	})
}

func noSecret(t *testing.T, b *browser, secret string) {
	t.Helper()
	html := b.html()
	for _, spelled := range []string{secret, strings.ReplaceAll(secret, "&", "&amp;")} {
		if strings.Contains(html, spelled) {
			t.Errorf("the page source holds the secret")
		}
	}
}

// TestWithoutScripts adds, validates, edits and deletes with JavaScript switched off.
func TestWithoutScripts(t *testing.T) {
	t.Parallel()
	p := provider(t)
	onSQLite(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/credentials/add")
		b.fillCredential("sales-email", p.Token.URL, awkward)
		b.scripts(false)
		b.submit("#validate")
		b.at("/credentials/validate")
		b.has("It works")
		noSecret(t, b, awkward)
		b.has("What you typed is kept")
		b.submit("#save") // the secret that was typed before is still there
		b.has("sales-email is added.")
		if got := p.Token.Requests()[len(p.Token.Requests())-1]; got.Form.Get("scope") != "B a A" {
			t.Errorf("scope %q", got.Form.Get("scope"))
		}
		b.submit(`.page-actions a[href$="/edit"]`)
		b.fill("in.scopes", "c")
		b.submit("#save")
		b.has("sales-email is saved.")
		b.submit(".page-actions .btn-primary")
		b.has("It works")

		b.submit(`.page-actions a[href$="/delete"]`)
		b.fill("confirm", "sales")
		b.submit(".btn-danger")
		b.has("Type the name exactly as it is")
		b.fill("confirm", "sales-email")
		b.submit(".btn-danger")
		b.at("/credentials")
		b.has("sales-email is deleted.")

		// Bulk validation goes on by its button.
		for i := range 6 {
			_, err := h.CreateCredential(t.Context(), grantway.Credential{Name: fmt.Sprintf("bulk-%d", i), Inputs: grantway.Inputs{"client_id": grantway.Text("sales"), "client_secret": grantway.Text(awkward), "token_endpoint": grantway.Text(p.Token.URL)}})
			if err != nil {
				t.Fatal(err)
			}
		}
		b.open("/credentials")
		for i := range 6 {
			b.click(fmt.Sprintf("tbody tr:nth-child(%d) input[name=id]", i+1))
		}
		b.submit(".list-foot button")
		b.submit("#bulk button")
		b.has("4 of 6 validated")
		b.submit("#bulk button")
		b.has("6 of 6 validated")
		b.has("6 work, 0 do not")

		// With scripts it goes on by itself, and the box above selects all.
		b.scripts(true)
		b.open("/credentials")
		b.click("[data-check-all]")
		b.submit(".list-foot button")
		b.click("#bulk button")
		b.do(chromedp.WaitNotPresent(chromedp.CSS("#bulk button")))
		b.has("6 of 6 validated")
	})
}

// TestKeyboard adds a credential without a pointer.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	p := provider(t)
	onSQLite(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/credentials/add")
		b.focused("name") // by autofocus; from here on keys alone
		type_ := func(keys string) { b.do(chromedp.KeyEvent(keys)) }
		type_("by-keyboard" + kb.Tab + "sales" + kb.Tab) // name, client identifier, then the source
		type_(kb.Tab + awkward + kb.Tab)
		type_(p.Token.URL + kb.Tab + "a" + kb.Tab)
		if at := eval[string](b, `document.activeElement.name`); at != "in.auth_method" {
			t.Fatalf("after the scopes the focus is on %q", at)
		}
		type_(kb.Tab + kb.Tab) // past Advanced
		if at := eval[string](b, `document.activeElement.id`); at != "save" {
			t.Fatalf("after Advanced the focus is on %q", at)
		}
		type_(kb.Tab)
		b.focused("validate")
		type_(kb.Enter)
		b.wait("#report .report-head.ok")
		b.focused("validate") // where it was, although the button was off meanwhile
		b.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift)))
		b.focused("save")
		b.follow(chromedp.KeyEvent(kb.Enter))
		b.has("by-keyboard is added.")
	})
}

// TestSessionEnds posts a form after its session has ended, and gets it back whole.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	p := provider(t)
	eachHub(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/credentials/add")
		b.fillCredential("sales-email", p.Token.URL, awkward)
		// The session ends somewhere else.
		eval[bool](b, `fetch("/account/sessions/end", {method: "POST"}).then(() => true)`)

		b.click("#validate") // a script is told what to do, and the form stays
		b.wait("#report .alert-danger")
		b.has("Your session has ended")
		b.submit("#save")
		b.has("your form comes back as you left it")
		noSecret(t, b, awkward)
		b.fill("email", ownerEmail, "password", ownerPassword)
		b.submit("form .btn-primary")
		b.has("Here is your form again")
		noSecret(t, b, awkward)
		b.submit("#save")
		b.has("sales-email is added.")
		if _, err := h.ValidateCredential(t.Context(), "sales-email"); err != nil {
			t.Fatal(err)
		}
		if s, err := h.Status(t.Context(), "sales-email"); err != nil || s.Health != grantway.Healthy {
			t.Errorf("the secret did not survive: %+v, %v", s, err)
		}
	})
}

// TestRotation enters the next secret, promotes it, and retires another one.
func TestRotation(t *testing.T) {
	t.Parallel()
	p := provider(t)
	onSQLite(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/credentials/add")
		b.fillCredential("rotating", p.Token.URL, awkward)
		b.submit("#save")
		b.fill("next", "a second secret")
		b.submit("#secret button")
		b.has("The next secret is stored.")
		noSecret(t, b, "a second secret")
		p.Register(grantwaytest.Client{ID: "sales", Secret: "a second secret"})
		b.submit(`#secret form[action$="promote"] button`)
		b.has("The next secret is in use now")
		b.click(".page-actions .btn-primary")
		b.wait(".report-head.ok")
		b.open("/credentials")
		b.submit(".credentials .name a")
		b.fill("next", "a third secret")
		b.submit("#secret button")
		b.submit(`#secret form[action$="retire"] button`)
		b.has("The next secret is forgotten")
		b.has("credential.update")
	})
}

// TestTimes are words in the page, exact in the reader's own zone on hover, and UTC without scripts.
func TestTimes(t *testing.T) {
	t.Parallel()
	onSQLite(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Tokyo"})
		b.setUp(h)
		b.open("/account")
		const when = `document.querySelector("dd time")`
		if got := eval[string](b, when+`.textContent`); !strings.Contains(got, "ago") && got != "now" {
			t.Errorf("the page says %q", got)
		}
		exact, machine := eval[string](b, when+`.title`), eval[string](b, when+`.dateTime`)
		at, err := time.Parse(time.RFC3339, machine)
		if err != nil || !strings.Contains(exact, at.Add(9*time.Hour).Format("3:04:05")) || !strings.Contains(exact, "GMT+9") {
			t.Errorf("on hover %q, want %s in Tokyo (%v)", exact, machine, err)
		}
		b.scripts(false)
		b.open("/account")
		if got := b.text("dd time"); got != at.UTC().Format("2006-01-02 15:04 UTC") {
			t.Errorf("without scripts %q", got)
		}
	})
}
