package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/access"
)

// token asks the hub for a token, and returns the status, the token and the error.
func (h *hub) token(t testing.TB, id, secret string) (status int, token, code string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", h.URL+"/oauth/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(id, secret)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		Error       string
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer.AccessToken, answer.Error
}

// with uses a token of the hub, and returns the status.
func (h *hub) with(t testing.TB, token, path string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// shown tells whether somebody sees the element.
func (b *browser) shown(selector string) bool {
	b.Helper()
	return eval[bool](b, fmt.Sprintf(`document.querySelector(%q).offsetParent !== null`, selector))
}

// TestOAuthClients is G-1, G-3, G-5 and G-10 in the browser, with tokens that are asked for.
func TestOAuthClients(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	b := newBrowser(t, h.URL)
	b.setUp(h)
	b.open("/clients")
	b.submit("a[href='/clients/add']")

	// G-1: what a grant type has no use for vanishes.
	if !b.shown("#roles") || b.shown("#redirect_uris") || b.shown("#scopes") {
		t.Error("Client Credentials wants roles, and neither redirect URIs nor scopes")
	}
	b.click("[name=grant_type][value=authorization_code]")
	if b.shown("#roles") || !b.shown("#redirect_uris") || !b.shown("#scopes") {
		t.Error("Authorization Code wants redirect URIs and scopes, and no roles")
	}
	b.fill("name", "portal")
	b.submit("#save")
	b.has("Redirect URIs are required")
	b.has("Scopes are required")
	b.focused("wrong")
	b.fill("redirect_uris", "https://portal.example.com/back")
	b.click("[name=scopes][value='credential.use']")
	b.submit("#save")
	b.has("Copy the client secret now")
	portal, err := h.OAuthClient(t.Context(), "portal")
	if err != nil || portal.GrantType != grantway.GrantAuthorizationCode || portal.TokenSeconds != 86400 || len(portal.Roles) != 0 || len(portal.RedirectURIs) != 1 || fmt.Sprint(portal.Scopes) != "[credential.use]" {
		t.Errorf("%v %+v", err, portal)
	}

	b.open("/clients/add")
	b.fill("name", "mailer")
	b.submit("#save")
	b.has("Roles are required")
	for seconds, good := range map[string]bool{"299": false, "172801": false, "300": true, "172800": true} {
		b.open("/clients/add")
		b.fill("name", "mailer-"+seconds, "token_seconds", seconds, "role", access.Application)
		b.submit("#save")
		if good {
			b.has("Copy the client secret now")
		} else {
			b.has("Token duration must be from 300 to 172800")
		}
	}

	// G-10: networks that cannot be read turn Save off.
	b.open("/clients/add")
	b.fill("name", "mailer", "role", access.Application)
	b.click("details.advanced > summary")
	b.do(chromedp.SendKeys(chromedp.CSS("#allowed_networks"), "10.0.0.0/33"))
	b.has("10.0.0.0/33 is not a network")
	if !eval[bool](b, `document.querySelector("#save").disabled`) {
		t.Error("Save is on, though a network cannot be read")
	}
	eval[string](b, `document.querySelector("#allowed_networks").value = ""`)
	b.do(chromedp.SendKeys(chromedp.CSS("#allowed_networks"), "127.0.0.0/8"))
	b.submit("#save")

	// G-3: the secret is there once.
	b.has("Copy the client secret now")
	b.focused("made")
	secret := eval[string](b, `document.querySelector("#made-secret").value`)
	mailer, err := h.OAuthClient(t.Context(), "mailer")
	if err != nil || mailer.Secret != "" {
		t.Fatal(err, mailer)
	}
	status, first, code := h.token(t, mailer.ID, secret)
	if status != 200 {
		t.Fatalf("HTTP %d %s", status, code)
	}
	b.open("/clients/" + mailer.ID + "/details")
	if strings.Contains(b.html(), secret) {
		t.Error("the secret is shown a second time")
	}

	// Rotation with overlap, then a reset that keeps tokens, then one that revokes them.
	b.click("#secrets details:nth-of-type(1) summary")
	b.do(chromedp.SetValue(chromedp.CSS("#overlap"), "24h"))
	b.submit("#secrets details:nth-of-type(1) button")
	b.has("The other secrets stop working as you chose")
	second := eval[string](b, `document.querySelector("#made-secret").value`)
	for _, s := range []string{secret, second} {
		if status, _, code := h.token(t, mailer.ID, s); status != 200 {
			t.Errorf("during the overlap: HTTP %d %s", status, code)
		}
	}
	reset := func(tokens string) string {
		b.open("/clients/" + mailer.ID + "/details")
		b.click("#secrets details:nth-of-type(2) summary")
		b.click("[name=tokens][value=" + tokens + "]")
		b.submit("#secrets details:nth-of-type(2) button")
		return eval[string](b, `document.querySelector("#made-secret").value`)
	}
	third := reset("keep")
	b.has("Tokens that were issued go on until they expire")
	if status, _, code := h.token(t, mailer.ID, second); status != 401 || code != "invalid_client" {
		t.Errorf("the old secret: HTTP %d %s", status, code)
	}
	if status := h.with(t, first, "/v1/credentials"); status == 401 {
		t.Error("a token was revoked, though the page says that it goes on")
	}
	if _, err := h.AddOAuthClientSecret(t.Context(), portal.ID, grantway.NewSecret{ExpiresAt: time.Now().Add(48 * time.Hour), OldExpireIn: new(grantway.Seconds)}); err != nil {
		t.Fatal(err)
	}
	b.open("/clients")
	b.has("Secrets that expire soon")
	b.has("it has no other one")
	b.open("/clients/" + portal.ID + "/details")
	b.wait("#secrets .health-yellow")
	fourth := reset("revoke")
	b.has("all tokens of this client, have stopped working")
	if status := h.with(t, first, "/v1/credentials"); status != 401 {
		t.Errorf("a token that was revoked: HTTP %d", status)
	}
	if status, _, _ := h.token(t, mailer.ID, third); status != 401 {
		t.Errorf("the third secret: HTTP %d", status)
	}

	// G-5: inactive at once, and active again.
	b.submit("form[action$='/deactivate'] button")
	b.has("it gets no tokens")
	if status, _, code := h.token(t, mailer.ID, fourth); status != 401 || code != "invalid_client" {
		t.Errorf("an inactive client: HTTP %d %s", status, code)
	}
	b.submit("form[action$='/activate'] button")
	if status, _, code := h.token(t, mailer.ID, fourth); status != 200 {
		t.Errorf("active again: HTTP %d %s", status, code)
	}

	// An edit keeps what it does not change, and can take an address away.
	b.submit("a[href$='/edit']")
	b.fill("allowed_networks", "192.0.2.1", "description", "sends mail")
	b.submit("#save")
	b.has("192.0.2.1/32")
	if status, _, _ := h.token(t, mailer.ID, fourth); status == 200 {
		t.Error("a token for an address that is not allowed")
	}
	b.accessible("a client", "{}")

	b.submit("a[href$='/delete']")
	b.fill("confirm", "mail")
	b.submit("form button.btn-danger")
	b.has("Type the name exactly as it is: mailer")
	b.fill("confirm", "mailer")
	b.submit("form button.btn-danger")
	b.has("The client mailer is deleted.")
	if status, _, code := h.token(t, mailer.ID, fourth); status != 401 || code != "invalid_client" {
		t.Errorf("a client that is deleted: HTTP %d %s", status, code)
	}
	b.open("/clients?deleted=1")
	b.has("mailer")
	b.accessible("deleted clients", "{}")
	b.submit("form[action$='/restore'] button")
	b.has("The client mailer is back, with its secrets.")
	if back, err := h.OAuthClient(t.Context(), "mailer"); err != nil || back.ID != mailer.ID || fmt.Sprint(back.AllowedNetworks) != "[192.0.2.1/32]" {
		t.Errorf("%v %+v", err, back)
	}
}

// TestAdvisor is G-2: answers lead to a grant with its reasons, and another one may be chosen, which is recorded.
func TestAdvisor(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	b := newBrowser(t, h.URL)
	b.setUp(h)
	advise := func(answers ...string) {
		b.open("/clients")
		b.submit("a[href='/clients/advice']")
		for i := 0; i < len(answers); i += 2 {
			b.click("[name='answer." + answers[i] + "'][value=" + answers[i+1] + "]")
		}
		b.submit("form[action='/clients/advice'] button")
	}
	heading := func(want string) {
		t.Helper()
		if got := b.text("#h-advice"); got != want {
			t.Errorf("advice %q, want %q", got, want)
		}
	}
	advise("data", "user", "place", "browser")
	heading("Authorization Code")
	b.has("PKCE protects the code")
	advise("user", "yes", "runs", "yes")
	heading("Authorization Code with refresh token")
	advise("user", "yes", "saml", "yes")
	heading("SAML2 Bearer")
	advise("user", "no", "data", "own", "runs", "yes")
	heading("Client Credentials")
	if n := eval[int](b, `document.querySelector("section ul").children.length`); n != 5 {
		t.Errorf("%d reasons, want 5", n)
	}
	b.has("Authorization code needs a browser and a person")
	if n := eval[int](b, `document.querySelectorAll(".sequence .message").length`); n != 3 {
		t.Errorf("%d messages in the diagram", n)
	}
	b.accessible("the advisor", "{}")
	b.submit("form[action='/clients/add'] button")
	b.has("The advisor says: Client Credentials.")
	b.click("[name=grant_type][value=authorization_code]")
	b.fill("name", "otherwise", "redirect_uris", "https://app.example.com/back")
	b.click("[name=scopes][value='credential.use']")
	b.submit("#save")
	b.has("Client Credentials, but Authorization Code was chosen")
	one, err := h.OAuthClient(t.Context(), "otherwise")
	if err != nil || one.Advice == nil || one.Advice.Grant != grantway.GrantClientCredentials || one.Advice.Chosen != grantway.GrantAuthorizationCode || one.Advice.Answers["user"] != "no" {
		t.Errorf("%v %+v", err, one.Advice)
	}
}

// TestClientOfAnother is G-4: roles that a person does not hold cannot be given, and a client that holds one cannot
// be changed; a role in all divisions can be given by whoever holds it there.
func TestClientOfAnother(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	boss := owner(t, h)
	admin := boss.colleague("admin@example.com", access.Administrator, "*")
	page := admin.get("/clients/add").body
	if strings.Contains(page, "<option>owner</option>") || !strings.Contains(page, "<option>auditor</option>") || !strings.Contains(page, ">all divisions</option>") {
		t.Errorf("an administrator is offered other roles than those it may give: %s", text(page))
	}
	if r := admin.post("/clients/add", form("name", "boss", "grant_type", "client_credentials", "role", access.Owner, "division", "*")); r.StatusCode != http.StatusForbidden || !strings.Contains(r.body, "boss") {
		t.Errorf("a role that the administrator lacks: %d", r.StatusCode)
	}
	if r := admin.post("/clients/add", form("name", "watcher", "grant_type", "client_credentials", "role", access.Auditor, "division", "*")); r.StatusCode != http.StatusOK {
		t.Errorf("a role in all divisions: %d %s", r.StatusCode, text(r.body))
	}
	owners, err := h.OAuthClient(t.Context(), "owner")
	if err != nil {
		t.Fatal(err)
	}
	for _, rest := range []string{"edit", "delete"} {
		if r := admin.get("/clients/" + owners.ID + "/" + rest); r.StatusCode != http.StatusForbidden {
			t.Errorf("%s of a client with a role that the administrator lacks: %d", rest, r.StatusCode)
		}
	}
	for rest, f := range map[string]url.Values{
		"edit": form("name", "owner", "grant_type", "client_credentials", "role", access.Auditor, "division", "*"), "deactivate": form("a", "b"), "secrets/reset": form("tokens", "keep"),
		"secrets/add": form("overlap", "keep"), "tokens/revoke": form("a", "b"), "delete": form("confirm", "owner"),
	} {
		if r := admin.post("/clients/"+owners.ID+"/"+rest, f); r.StatusCode != http.StatusForbidden {
			t.Errorf("%s of a client with a role that the administrator lacks: %d", rest, r.StatusCode)
		}
	}
	if page := admin.get("/clients/" + owners.ID + "/details").body; strings.Contains(page, "Reset secret") || strings.Contains(page, "/edit\"") {
		t.Error("the page offers what would be refused")
	}
}

// TestConsent lets a program act for the person, in the browser, and takes that back.
func TestConsent(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<main>code %t, error %s</main>", r.FormValue("code") != "", r.FormValue("error"))
	}))
	t.Cleanup(back.Close)
	program, err := h.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "portal", Description: "Shows mail", ClientSettings: grantway.ClientSettings{
		GrantType: grantway.GrantAuthorizationCode, RedirectURIs: []string{back.URL + "/back"}, Scopes: access.PermissionNames()}})
	if err != nil {
		t.Fatal(err)
	}
	boss := owner(t, h)
	b := newBrowser(t, h.URL)
	request := "/oauth/authorize?" + url.Values{"response_type": {"code"}, "client_id": {program.ID}, "redirect_uri": {back.URL + "/back"}, "state": {"s"},
		"code_challenge": {strings.Repeat("c", 43)}, "code_challenge_method": {"S256"}}.Encode()
	b.open(request) // by way of the sign-in page
	b.fill("email", ownerEmail, "password", ownerPassword)
	b.submit("form button.btn-primary")
	b.has("Allow portal to act for you?")
	b.has("You are Ada Lovelace")
	if n := eval[int](b, `[...document.querySelectorAll(".card li")].filter((li) => li.firstChild.textContent.trim().length > 5).length`); n != len(access.PermissionNames()) {
		t.Errorf("%d of %d permissions are explained", n, len(access.PermissionNames()))
	}
	b.accessible("consent", "{}")
	b.submit("[name=answer][value=deny]")
	b.has("code false, error access_denied")
	b.open(request)
	b.submit("[name=answer][value=allow]")
	b.has("code true")
	b.open(request) // without being asked again
	b.has("code true")

	b.open("/account")
	b.has("portal")
	b.submit("form[action='/account/programs/end'] button")
	b.has("does not act for you any more")
	b.has("None. A program asks you first.")
	b.open(request)
	b.has("Allow portal to act for you?")

	b.open("/oauth/authorize?client_id=nobody")
	b.has("There is no such program")
	v := newVisitor(t, h.URL)
	if r := v.get(request); r.StatusCode != http.StatusSeeOther || !strings.HasPrefix(r.Header.Get("Location"), "/sign-in?to=") {
		t.Errorf("nobody is signed in: %d to %q", r.StatusCode, r.Header.Get("Location"))
	}
	r := boss.get(request)
	if csp := r.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' "+back.URL+";") || !strings.Contains(csp, "frame-ancestors 'none'") || r.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("headers %v", r.Header)
	}
}
