package console_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/peers/peer"
)

// TestSecretStore adds a real OpenBao in the form, tests it before it is saved, has a credential
// use it, sees why it cannot be deleted, rotates the value, and deletes it in the end.
func TestSecretStore(t *testing.T) {
	t.Parallel()
	bao := peer.OpenBao(t)
	p := provider(t)
	onSQLite(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		bao.Put("mail", map[string]string{"password": awkward})
		bao.Policy("mail-reader", "secret/data/*")
		token := bao.NewToken(time.Hour, true, "mail-reader")
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/stores")
		b.click("details.drop > summary")
		b.submit(`.drop-menu a[href$="vault"]`)
		b.focused("name")
		b.submit("#save")
		for _, title := range []string{"Name", "Address", "Token"} {
			if !strings.Contains(b.text("#wrong"), title) {
				t.Errorf("the summary of errors does not name %s: %s", title, b.text("#wrong"))
			}
		}
		b.fill("name", "vault", "in.address", bao.URL, "in.token", "s.wrong")
		b.click("#test")
		b.wait("#report .report-head.bad")
		b.fill("in.token", token, "try", "mail")
		b.click("#test")
		b.wait("#report .report-head.ok")
		b.has("The hub may read")
		b.accessible("tested store", `{}`)
		noSecret(t, b, token)
		b.submit("#save")
		b.has("The secret store vault is added.")
		b.has("Stored, encrypted")
		noSecret(t, b, token)

		b.submit(`.page-actions a[href$="/edit"]`)
		noSecret(t, b, token)
		b.has("Leave blank to keep the one that is stored.")
		b.fill("description", "Holds the secrets of the mail team")
		b.submit("#save")
		b.has("The secret store vault is saved.")
		b.fill("key", "mail", "field", "password")
		b.submit(".try button")
		b.wait(".report-head.ok")

		b.open("/credentials/add")
		b.fillCredential("mail", p.Token.URL, "")
		b.click(`[name="in.client_secret.source"][value=external]`)
		b.fill("in.client_secret.store", "vault", "in.client_secret.key", "mail", "in.client_secret.field", "password")
		b.click("#validate")
		b.wait("#report .report-head.ok")
		b.submit("#save")
		b.has("vault / mail (field password)")

		b.open("/stores/vault/details")
		b.has("mail")
		b.submit(`.page-actions a[href$="/delete"]`)
		b.has("It is in use and cannot be deleted yet")

		// The value is rotated in the store: nothing is edited here.
		p.Register(grantwaytest.Client{ID: "sales", Secret: "rotated"})
		bao.Put("mail", map[string]string{"password": "rotated"})
		if r, err := h.ValidateCredential(t.Context(), "mail"); err != nil || !r.OK {
			t.Errorf("after the rotation: %+v, %v", r, err)
		}
		p.Register(grantwaytest.Client{ID: "sales", Secret: awkward})
		if err := h.DeleteCredential(t.Context(), "mail"); err != nil {
			t.Fatal(err)
		}
		b.open("/stores/vault/delete")
		b.fill("confirm", "vaul")
		b.submit(".btn-danger")
		b.has("Type the name exactly as it is")
		b.fill("confirm", "vault")
		b.submit(".btn-danger")
		b.has("The secret store vault is deleted.")
		b.open("/audit?object=store%2Fvault")
		for _, action := range []string{"store.create", "store.update", "store.test", "store.delete"} {
			b.has(action)
		}
		noSecret(t, b, token)
	})
}

// TestSecretStoreKinds adds a store of every kind without scripts: the form is made of the
// kind's inputs, secrets are masked, and what is rejected is told at its field.
func TestSecretStoreKinds(t *testing.T) {
	t.Parallel()
	onSQLite(t, grantwaytest.HubOptions{SecretFiles: t.TempDir()}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.scripts(false)
		values := map[string][]string{
			"vault":  {"in.address", "https://vault.example.com:8200", "in.auth", "approle", "in.role", "hub", "in.secret_id", "canary-vault", "in.path", "apps"},
			"aws":    {"in.region", "eu-central-1", "in.access_key_id", "AKIAEXAMPLE", "in.secret_access_key", "canary-aws", "in.path", "grantway/"},
			"azure":  {"in.vault_url", "https://my-vault.vault.azure.net", "in.auth", "client_secret", "in.tenant_id", "contoso", "in.client_id", "app", "in.client_secret", "canary-azure"},
			"google": {"in.project", "my-project", "in.credentials", "canary-google"},
		}
		for _, k := range secret.Kinds() {
			fill, ok := values[k.Name]
			if !ok {
				t.Errorf("this test does not know the kind %s", k.Name)
				continue
			}
			b.open("/stores/add?kind=" + k.Name)
			for _, in := range k.Inputs {
				if n := eval[int](b, `document.querySelectorAll("[name='in.`+in.Key+`']").length`); n != 1 {
					t.Errorf("%s: %d fields for %s", k.Name, n, in.Key)
				}
			}
			b.fill(append([]string{"name", "my-" + k.Name}, fill...)...)
			for key, ways := range k.SignIn { // what another way to sign in needs does not show
				shown := eval[bool](b, `document.querySelector("[name='in.`+key+`']").checkVisibility()`)
				in, _ := k.Input(key)
				if want := slices.Contains(ways, saidIn(fill, "in.auth")) && !in.Advanced; shown != want {
					t.Errorf("%s, signing in by %s: %s shows: %v", k.Name, saidIn(fill, "in.auth"), key, shown)
				}
			}
			b.fill("in.ttl_seconds", "soon")
			b.submit("#save")
			b.has("must be a whole number of seconds")
			noSecret(t, b, "canary-"+k.Name)
			b.fill("in.ttl_seconds", "60")
			b.submit("#save") // the secret that was typed before is still there
			b.has("The secret store my-" + k.Name + " is added.")
			b.has("1 minute")
			if k.Name == "azure" {
				b.has("apps-mail-sales")
			}
			saved, err := h.SecretStore(t.Context(), "my-"+k.Name)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(fill); i += 2 {
				got, in := saved.Inputs[strings.TrimPrefix(fill[i], "in.")], fill[i+1]
				if strings.HasPrefix(in, "canary") && !got.Set || !strings.HasPrefix(in, "canary") && got.Text != in {
					t.Errorf("%s: %s is %+v, want %q", k.Name, fill[i], got, in)
				}
			}
			noSecret(t, b, "canary-"+k.Name)

			// The secret is taken from a file instead: what was stored is gone.
			for _, in := range k.Inputs {
				if in.Type != "secret" || !saved.Inputs[in.Key].Set {
					continue
				}
				b.submit(`.page-actions a[href$="/edit"]`)
				b.has("Leave blank to keep the one that is stored.")
				b.click(`[name="in.` + in.Key + `.source"][value=external]`)
				b.fill("in."+in.Key+".store", "file", "in."+in.Key+".key", "sign-in")
				b.submit("#save")
				b.has("file / sign-in")
				if one, err := h.SecretStore(t.Context(), "my-"+k.Name); err != nil || one.Inputs[in.Key].Ref == nil || one.Inputs[in.Key].Set {
					t.Errorf("%s: %s is %+v, %v", k.Name, in.Key, one.Inputs[in.Key], err)
				}
			}
		}
	})
}

// saidIn is what is filled into a field.
func saidIn(fill []string, name string) string { return fill[slices.Index(fill, name)+1] }

// TestSingleSignOnPage sets single sign-on up in the form, with a real provider, and signs in by
// it as somebody whom nobody has invited.
func TestSingleSignOnPage(t *testing.T) {
	t.Parallel()
	eachRoots(t, func(t *testing.T, o grantwaytest.HubOptions) {
		h := startHub(t, o)
		op := peer.OpenIDProvider(t, h.URL+access.SSOPath, peer.Accounts{
			"ann": {"email": "ann@example.com", "email_verified": true, "name": "Ann Other", "groups": []string{"hub-auditors"}},
		})
		authority, err := os.ReadFile(op.CAFile)
		if err != nil || !o.RootCAs.AppendCertsFromPEM(authority) {
			t.Fatal("no authority", err)
		}
		client := op.Client(t, "client_secret_basic")
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/single-sign-on")
		if got := eval[string](b, `document.querySelector("#redirect").value`); got != h.URL+access.SSOPath {
			t.Errorf("the redirect URI is %s", got)
		}
		b.submit("#save")
		for _, title := range []string{"Name", "Issuer", "Client id"} {
			if !strings.Contains(b.text("#wrong"), title) {
				t.Errorf("the summary of errors does not name %s: %s", title, b.text("#wrong"))
			}
		}
		b.fill("name", "Contoso", "issuer", op.Issuer+"/nowhere", "client_id", client.ID, "client_secret", client.Secret, "scopes", "openid email profile groups")
		b.click("#test")
		b.wait("#report .report-head.bad")
		b.has("status 404")
		b.fill("issuer", op.Issuer)
		b.click("#test")
		b.wait("#report .report-head.ok")
		b.accessible("tested single sign-on", `{}`)
		b.do(chromedp.SetValue(chromedp.CSS(".rule:nth-of-type(2) [name=claim]"), "groups"), chromedp.SetValue(chromedp.CSS(".rule:nth-of-type(2) [name=value]"), "hub-auditors"),
			chromedp.SetValue(chromedp.CSS(".rule:nth-of-type(2) [name=role]"), "auditor"))
		b.click("[name=create_people]")
		b.submit("#save")
		b.has("People can sign in with Contoso now.")
		noSecret(t, b, client.Secret)
		b.fill("name", "Contoso Ltd")
		b.submit("#save") // the secret is kept
		b.has("Leave blank to keep")
		if s, err := h.SingleSignOn(t.Context()); err != nil || !s.ClientSecret.Set || s.Name != "Contoso Ltd" || len(s.Rules) != 1 || s.Rules[0] != (grantway.RoleRule{Claim: "groups", Value: "hub-auditors", Role: "auditor", Division: "*"}) || !s.CreatePeople || s.TrustEmail {
			t.Errorf("saved: %+v, %v", s, err)
		}

		// Ann comes in through the provider, to the page that she wanted.
		b.submit(`[aria-label="Sign out"]`)
		b.open("/audit?action=sso.")
		call(b, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
		b.goTo(`a[href^="/sign-in/sso"]`, "[name=login]")
		b.fill("login", "ann", "password", "any")
		b.goTo("[type=submit]", "[value=consent]")
		b.goTo("[type=submit]", "main")
		b.at("/audit?action=sso.")
		b.has("sso.update")
		if who := b.text(".me"); !strings.Contains(who, "Ann Other") || !strings.Contains(who, "auditor") {
			t.Errorf("signed in as %q", who)
		}
		b.open("/single-sign-on") // an auditor looks and touches nothing
		b.has(op.Issuer)
		if n := eval[int](b, `document.querySelectorAll("main form").length`); n != 0 {
			t.Error("an auditor gets a form")
		}

		if _, err := h.SetSingleSignOn(t.Context(), grantway.SingleSignOn{}); err == nil {
			t.Error("empty settings were taken")
		}
		boss := newVisitor(t, h.URL)
		boss.post("/sign-in", form("email", ownerEmail, "password", ownerPassword))
		if r := boss.post("/single-sign-on/delete", form("confirm", "Contoso")); r.StatusCode != 422 {
			t.Errorf("delete with another name: %d", r.StatusCode)
		}
		if r := boss.post("/single-sign-on/delete", form("confirm", "Contoso Ltd")); r.StatusCode != 303 || strings.Contains(boss.get("/sign-in").body, "Contoso") {
			t.Errorf("delete: %d", r.StatusCode)
		}
	})
}

// eachRoots is eachHub for hubs that come to trust a server which is started after them.
func eachRoots(t *testing.T, body func(t *testing.T, o grantwaytest.HubOptions)) {
	eachStore(t, func(t *testing.T, database string) {
		body(t, grantwaytest.HubOptions{Database: database, RootCAs: x509.NewCertPool()})
	})
}

// goTo presses a button or a link, and waits for what is on the page that follows, whose it may be.
func (b *browser) goTo(selector, there string) {
	b.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)), chromedp.WaitReady(chromedp.CSS(there)))
}

// TestSecretFiles is the file store as the page shows it, with a key that comes later (C-6).
func TestSecretFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := provider(t)
	onSQLite(t, grantwaytest.HubOptions{SecretFiles: dir}, func(t *testing.T, h *hub) {
		if err := os.RemoveAll(filepath.Join(dir, "sales")); err != nil { // of the database before
			t.Fatal(err)
		}
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/stores")
		b.click(`#store-file button`)
		b.do(chromedp.WaitVisible(chromedp.CSS(`#store-file .health-green`)))
		b.open("/credentials/add")
		b.fillCredential("later", p.Token.URL, "")
		b.click(`[name="in.client_secret.source"][value=external]`)
		b.fill("in.client_secret.store", "file", "in.client_secret.key", "sales")
		b.submit("#save")
		b.has("later is added.")
		b.has("file / sales")
		for _, value := range []string{awkward, "rotated"} {
			p.Register(grantwaytest.Client{ID: "sales", Secret: value})
			if err := os.WriteFile(filepath.Join(dir, "sales"), []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
			b.click(".page-actions .btn-primary")
			b.wait(".report-head.ok")
			b.open(strings.TrimPrefix(run(b, chromedp.Location()), h.URL))
		}
	})
}
