package console_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store"
)

// TestScreenshots looks at every page in both color schemes, on a desk and on a phone: no
// page may have an accessibility violation, or make the browser complain. With
// GRANTWAY_SCREENSHOTS it leaves pictures in that directory (`make screenshots`).
func TestScreenshots(t *testing.T) {
	t.Parallel()
	provider := grantwaytest.NewProvider(t)
	provider.Register(mailClient)
	provider.Register(shopClient)
	h := startHub(t, grantwaytest.HubOptions{SecretFiles: t.TempDir()})
	b := newBrowser(t, h.URL)
	b.open("/sign-in")
	look(b, "sign-in")
	b.open(strings.TrimPrefix(h.setup, h.URL))
	look(b, "set-up")
	b.setUp(h)
	look(b, "credentials-empty")
	ids := seed(t, h, provider)
	seedConnectors(b, provider)

	pages := map[string]string{
		"credentials": "/credentials", "credential": "/credentials/" + ids[0], "credential-failing": "/credentials/" + ids[1], "credential-add": "/credentials/add",
		"credential-edit": "/credentials/" + ids[0] + "/edit", "credential-delete": "/credentials/" + ids[0] + "/delete",
		"credentials-none": "/credentials?q=nothing+like+it", "stores": "/stores", "store": "/stores/company-vault/details", "store-add": "/stores/add?kind=azure", "store-edit": "/stores/company-vault/edit", "store-delete": "/stores/company-vault/delete",
		"single-sign-on": "/single-sign-on", "single-sign-on-end": "/single-sign-on/delete", "person": "/people/grace@example.com", "divisions": "/divisions", "division-delete": "/divisions/finance/delete", "clients": "/clients", "client-add": "/clients/add?grant_type=authorization_code&answer.data=user", "client-advice": "/clients/advice?answer.data=user&answer.place=browser&answer.runs=yes", "clients-unused": "/clients?unused=1",
		"integrations": "/integrations", "integration-add": "/integrations/genesys-cloud", "integrations-none": "/integrations?q=nothing+like+it", "instances": "/instances", "connectors": "/connectors", "connector": "/connectors/shop-of-berlin/details",
		"connector-catalog": "/connectors/genesys-cloud/details", "connector-add": "/connectors/add", "connector-import": "/connectors/import", "connector-copy": "/connectors/spotify/copy", "connector-yaml": "/connectors/shop-of-berlin/yaml", "connector-delete": "/connectors/shop-of-berlin/delete",
		"builder-variables": "/connectors/shop-of-berlin/build/variables", "builder-url": "/connectors/shop-of-berlin/build/url", "builder-header": "/connectors/shop-of-berlin/build/header", "builder-body": "/connectors/shop-of-berlin/build/body", "builder-response": "/connectors/shop-of-berlin/build/response",
		"builder-api": "/connectors/shop-of-berlin/build/api", "builder-endpoints": "/connectors/shop-of-berlin/build/endpoints?endpoint=orders", "builder-verify": "/connectors/shop-of-berlin/build/verify", "builder-extends": "/connectors/spotify-copy/build/variables",
		"people": "/people", "people-invite": "/people/invite", "account": "/account", "audit": "/audit", "settings": "/settings", "status": "/status",
		"not-found": "/nowhere",
	}
	for name, path := range pages {
		b.open(path)
		look(b, name)
	}

	b.open("/credentials/add")
	b.fill("name", "sales-email-2", "in.client_id", "sales", "in.client_secret", "8c1f0e2d-4a5b-4c6d-9e8f-7a6b5c4d3e2f", "in.token_endpoint", provider.Token.URL, "in.scopes", "mail.read mail.send")
	b.click("#validate")
	b.wait("#report .report-head")
	look(b, "credential-validate")

	b.open("/stores/add?kind=vault")
	b.fill("name", "team-vault", "in.address", provider.Token.URL, "in.token", "s.wrong")
	b.click("#test")
	b.wait("#report .report-head")
	look(b, "store-test")

	b.open("/credentials")
	b.click("[data-check-all]")
	b.submit(".list-foot button")
	look(b, "bulk-validate")
	b.click("#bulk button")
	b.do(chromedp.WaitNotPresent(chromedp.CSS("#bulk button")))
	look(b, "bulk-validate-done")

	b.open("/people/invite")
	b.fill("email", "dorothy@example.com", "name", "Dorothy Vaughan", "role", "administrator")
	b.submit("main form .btn-primary")
	look(b, "person-invited")
}

// seedConnectors makes connectors, with instances, and tries one.
func seedConnectors(b *browser, p *grantwaytest.Provider) {
	b.Helper()
	b.newMethod("Shop of Berlin", "oauth2")
	b.open("/connectors/shop-of-berlin/build/url")
	b.fill("url", p.Token.URL)
	b.save()
	b.open("/connectors/shop-of-berlin/build/api")
	b.fill("base_url", "https://shop.example.com/api")
	b.save()
	b.open("/connectors/shop-of-berlin/build/endpoints?endpoint=new")
	b.fill("name", "orders", "title", "Orders", "path", "/v2/orders")
	b.save()
	for _, name := range []string{"shop-live", "shop-test"} {
		b.open("/integrations/shop-of-berlin")
		b.fill("name", name, "in.client_id", shopClient.ID, "in.client_secret", shopClient.Secret)
		b.submit("#save")
	}
	b.click(".page-actions .btn-primary")
	b.wait(".report-head")
	look(b, "instance")
	b.open("/connectors/shop-of-berlin/try")
	look(b, "connector-try-empty")
	b.fill("in.client_id", shopClient.ID, "in.client_secret", shopClient.Secret)
	b.click("#try")
	b.wait("#result .report-head")
	look(b, "connector-try")
	b.open("/connectors/shop-of-berlin/build/body")
	b.submit(`[name=do][value="add:body"]`)
	look(b, "builder-row")
	b.open("/connectors/spotify/copy")
	b.submit("form .btn-primary")
	b.newMethod("Ledger", "key")
}

// shopClient is a client of the provider that puts its secret into the body.
var shopClient = grantwaytest.Client{ID: "shop", Secret: "a-shop-that-never-sleeps", Method: grantwaytest.AuthPost}

// mailClient is a client of the provider.
var mailClient = grantwaytest.Client{ID: "mail-reader", Secret: "jhyun/ku[ojubbj]/jhgfdrg^7*dfg&jkiu#bjshdm,ktttdg"}

// views are the ways in which look sees a page. The scheme changes nothing but colors.
var views = []struct {
	scheme string
	width  int64
	axe    string // options
}{
	{"light", 1440, `{}`},
	{"light", 390, `{}`},
	{"dark", 1440, `{runOnly: ["color-contrast"]}`},
}

// look checks one page in all ways, and draws it.
func look(b *browser, name string) {
	b.Helper()
	dir := os.Getenv("GRANTWAY_SCREENSHOTS")
	for _, v := range views {
		b.scheme(v.scheme)
		b.size(v.width)
		if eval[bool](b, `document.documentElement.scrollWidth > innerWidth + 1`) {
			who := eval[string](b, `[...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 3).map((e) => e.outerHTML.slice(0, 120)).join(" | ")`)
			b.Errorf("%s at %d px is wider than the screen: %s", name, v.width, who)
		}
		b.accessible(fmt.Sprintf("%s, %s, %d px", name, v.scheme, v.width), v.axe)
		if dir != "" {
			suffix := ""
			if v.scheme == "dark" {
				suffix = "-dark"
			}
			b.picture(filepath.Join(dir, fmt.Sprintf("%s-%d%s.png", name, v.width, suffix)), v.width)
		}
	}
	b.scheme("light")
	b.size(1440)
}

// seed fills a hub with what a company has, and returns the ids of a credential that works
// and of one that does not.
func seed(t *testing.T, h *hub, p *grantwaytest.Provider) []string {
	t.Helper()
	ctx := t.Context()
	for _, d := range []grantway.Division{{Name: "finance", Description: "Invoices and payments"}, {Name: "operations", Description: "Everything that runs at night"}} {
		if _, err := h.CreateDivision(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	add := func(name, description, division, endpoint, secret string, more grantway.Inputs) string {
		in := grantway.Inputs{"client_id": grantway.Text(mailClient.ID), "client_secret": grantway.Text(secret), "token_endpoint": grantway.Text(endpoint), "scopes": grantway.Text("mail.read mail.send")}
		for k, v := range more {
			in[k] = v
		}
		c, err := h.CreateCredential(ctx, grantway.Credential{Name: name, Description: description, Division: division, Inputs: in})
		if err != nil {
			t.Fatal(err)
		}
		return c.ID
	}
	works := add("sales-email", "Reads the shared mailbox of the sales team", "home", p.Token.URL, mailClient.Secret, grantway.Inputs{"client_secret_expires_at": grantway.Text(time.Now().Add(12 * 24 * time.Hour).UTC().Format(time.DateOnly))})
	fails := add("billing-export", "Nightly export to the ledger", "finance", p.Token.URL, "8c1f0e2d-4a5b-4c6d-9e8f-7a6b5c4d3e2f", nil)
	for i, name := range []string{"crm-sync", "hr-directory", "warehouse-stock", "shipping-labels", "fraud-screening", "marketing-audiences", "payroll", "support-tickets", "video-archive"} {
		id := add(name, "", []string{"home", "finance", "operations"}[i%3], p.Token.URL, mailClient.Secret, nil)
		if i%3 != 2 {
			if _, err := h.ValidateCredential(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("graph-reporting", "Usage reports of the tenant", "operations", "https://login.microsoftonline.com/contoso/oauth2/v2.0/token", "x", nil)
	for _, name := range []string{"sales-email", "billing-export"} {
		if _, err := h.ValidateCredential(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []grantway.SecretStore{
		{Name: "company-vault", Kind: "vault", Description: "The vault of the platform team", Inputs: grantway.Inputs{"address": grantway.Text("https://127.0.0.1:1"), "token": grantway.Text("s.token"), "path": grantway.Text("apps/mail")}},
		{Name: "azure-weu", Kind: "azure", Inputs: grantway.Inputs{"vault_url": grantway.Text("https://grantway-weu.vault.azure.net")}},
	} {
		if _, err := h.CreateSecretStore(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	add("vaulted-export", "Its secret lives in the vault", "finance", p.Token.URL, "", grantway.Inputs{"client_secret": {Ref: &grantway.SecretRef{Store: "company-vault", Key: "exports", Field: "secret"}}})
	if _, err := h.TestSecretStore(ctx, "company-vault", grantway.SecretRef{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SetSingleSignOn(ctx, grantway.SingleSignOn{Name: "Contoso", Issuer: "https://login.contoso.example", ClientID: "grantway", ClientSecret: grantway.Text("x"),
		Rules: []grantway.RoleRule{{Claim: "groups", Value: "hub-admins", Role: "administrator", Division: "*"}, {Claim: "groups", Value: "finance", Role: "designer", Division: "finance"}}, CreatePeople: true}); err != nil {
		t.Fatal(err)
	}
	for _, one := range []grantway.Person{{Email: "grace@example.com", Name: "Grace Hopper", Roles: []grantway.Assignment{{Role: "administrator", Division: "*"}}}, {Email: "katherine@example.com", Name: "Katherine Johnson", Roles: []grantway.Assignment{{Role: "designer", Division: "finance"}, {Role: "auditor", Division: "operations"}}}} {
		if _, err := h.InvitePerson(ctx, one); err != nil {
			t.Fatal(err)
		}
	}
	app, err := h.CreateOAuthClient(ctx, grantway.OAuthClient{Name: "mail-worker", Description: "Sends what sales wrote", Roles: []grantway.Assignment{{Role: "application", Division: "home"}}})
	if err != nil {
		t.Fatal(err)
	}
	// Three days of use, as it would have been written minute by minute.
	db, err := store.Open(ctx, store.Options{URL: h.database})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	random := rand.New(rand.NewPCG(7, 7))
	now := time.Now()
	err = db.Write(ctx, func(tx *store.Tx) error {
		for at := now.Add(-26 * time.Hour); at.Before(now); at = at.Add(10 * time.Minute) {
			busy := 2 + int(20*(1+dayWave(at)))
			if _, err := tx.ExecContext(ctx, `INSERT INTO token_read (minute, caller, credential_id, count) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, at.Unix()/60, app.ID, works, busy+random.IntN(8)); err != nil {
				return err
			}
			if random.IntN(5) == 0 {
				if _, err := tx.ExecContext(ctx, `INSERT INTO token_fetch (credential_id, minute, worked, failed, failure) VALUES ($1, $2, 1, 0, '') ON CONFLICT DO NOTHING`, works, at.Unix()/60); err != nil {
					return err
				}
			}
		}
		for i := range 4 {
			at := now.Add(-9*time.Hour + time.Duration(i)*3*time.Minute)
			failure := fmt.Sprintf(`{"at":%q,"class":"temporary","stage":"response","message":"the answer has status 503","hint":"The provider has trouble of its own. The hub tries again by itself."}`, at.UTC().Format(time.RFC3339))
			if _, err := tx.ExecContext(ctx, `INSERT INTO token_fetch (credential_id, minute, worked, failed, failure) VALUES ($1, $2, 0, 3, $3) ON CONFLICT DO NOTHING`, works, at.Unix()/60, failure); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return []string{works, fails}
}

// dayWave is 1 at noon and -1 at midnight.
func dayWave(t time.Time) float64 {
	hour := float64(t.Hour()) + float64(t.Minute())/60
	if hour > 12 {
		hour = 24 - hour
	}
	return hour/6 - 1
}
