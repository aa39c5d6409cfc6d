package console_test

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/console"
)

// visitor is somebody with a cookie jar, as a program.
type visitor struct {
	testing.TB
	url    string
	client *http.Client
}

func newVisitor(t testing.TB, url string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t, url, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type reply struct {
	*http.Response
	body string
}

func (v *visitor) send(method, path string, form url.Values, header ...string) reply {
	v.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(v.Context(), method, v.url+path, body)
	if err != nil {
		v.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := v.client.Do(r)
	if err != nil {
		v.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.Fatal(err)
	}
	return reply{resp, string(text)}
}

func (v *visitor) get(path string) reply { v.Helper(); return v.send("GET", path, nil) }
func (v *visitor) post(path string, form url.Values, header ...string) reply {
	v.Helper()
	return v.send("POST", path, form, header...)
}

func form(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return f
}

// owner sets the hub up and is signed in.
func owner(t testing.TB, h *hub) *visitor {
	v := newVisitor(t, h.URL)
	r := v.post(strings.TrimPrefix(h.setup, h.URL), form("name", "Ada Lovelace", "email", ownerEmail, "password", ownerPassword, "repeat", ownerPassword))
	if r.StatusCode != http.StatusSeeOther {
		t.Fatalf("set-up: %d %s", r.StatusCode, r.body)
	}
	return v
}

var invitationLink = regexp.MustCompile(`value="([^"]*/invitation/[^"]*)"`)

// colleague invites somebody with a role, who signs in.
func (v *visitor) colleague(email, role, division string) *visitor {
	v.Helper()
	r := v.post("/people/invite", form("email", email, "name", role+" "+division, "role", role, "division", division))
	link := invitationLink.FindStringSubmatch(r.body)
	if link == nil {
		v.Fatalf("invite %s: %d %s", email, r.StatusCode, text(r.body))
	}
	other := newVisitor(v.TB, v.url)
	if r := other.post(strings.TrimPrefix(link[1], v.url), form("name", role, "password", ownerPassword+role, "repeat", ownerPassword+role)); r.StatusCode != http.StatusSeeOther {
		v.Fatalf("accept the invitation of %s: %d %s", email, r.StatusCode, r.body)
	}
	return other
}

// again is who signs in with that address in another browser.
func (v *visitor) again(email, role string) *visitor {
	v.Helper()
	other := newVisitor(v.TB, v.url)
	if r := other.post("/sign-in", form("email", email, "password", ownerPassword+role)); r.StatusCode != http.StatusSeeOther {
		v.Fatalf("sign in as %s: %d %s", email, r.StatusCode, r.body)
	}
	return other
}

// TestHeaders wants on every page what keeps it from being framed, cached or scripted.
func TestHeaders(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	v := owner(t, h)
	for _, path := range []string{"/credentials", "/nowhere", "/sign-in", "/audit", "/people"} {
		r := v.get(path)
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "same-origin"} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		policy := r.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", path, policy)
		}
		if regexp.MustCompile(`(?i)<script(?:>| [^>]*>[^<])|\son[a-z]+=|\sstyle=`).MatchString(r.body) {
			t.Errorf("%s has something inline", path)
		}
		if regexp.MustCompile(`(?:src|href)="(?:https?:)?//`).MatchString(r.body) {
			t.Errorf("%s takes something from another host", path)
		}
	}
}

// TestCrossSite posts as another site would make a browser do.
func TestCrossSite(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	v := owner(t, h)
	for name, header := range map[string][]string{
		"by fetch metadata": {"Sec-Fetch-Site", "cross-site"},
		"of a neighbor":     {"Sec-Fetch-Site", "same-site"},
		"by origin":         {"Origin", "https://evil.example"},
	} {
		if r := v.post("/divisions", form("name", "planted"), header...); r.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d, want 403", name, r.StatusCode)
		}
	}
	if strings.Contains(v.get("/divisions").body, "planted") {
		t.Error("another site made a division")
	}
	if r := v.post("/divisions", form("name", "mine"), "Sec-Fetch-Site", "same-origin"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("our own form: %d", r.StatusCode)
	}
}

// TestSessionFixation signs in with a session cookie that somebody else chose.
func TestSessionFixation(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	owner(t, h)
	v := newVisitor(t, h.URL)
	at, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	v.client.Jar.SetCookies(at, []*http.Cookie{{Name: "grantway_session", Value: "chosen-by-an-attacker", Path: "/"}})
	r := v.post("/sign-in", form("email", ownerEmail, "password", ownerPassword))
	if r.StatusCode != http.StatusSeeOther {
		t.Fatalf("sign in: %d %s", r.StatusCode, r.body)
	}
	var first string
	for _, c := range r.Cookies() {
		if c.Name == "grantway_session" {
			first = c.Value
			if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
				t.Errorf("the session cookie is %v", c)
			}
		}
	}
	if first == "" || first == "chosen-by-an-attacker" {
		t.Fatalf("the session is %q", first)
	}
	// Another sign-in makes another session, and ends the one before.
	if r := v.post("/sign-in", form("email", ownerEmail, "password", ownerPassword)); r.StatusCode != http.StatusSeeOther {
		t.Fatal(r.StatusCode)
	}
	old := newVisitor(t, h.URL)
	old.client.Jar.SetCookies(at, []*http.Cookie{{Name: "grantway_session", Value: first, Path: "/"}})
	if r := old.get("/credentials"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the session before still works: %d", r.StatusCode)
	}
}

// TestOpenRedirect signs in with places to go that are not ours.
func TestOpenRedirect(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	owner(t, h)
	for _, to := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "javascript:alert(1)", "http:evil.example", "///evil.example", "/credentials\r\nX: y", "%2f%2fevil.example"} {
		v := newVisitor(t, h.URL)
		r := v.post("/sign-in", form("email", ownerEmail, "password", ownerPassword, "to", to))
		if got := r.Header.Get("Location"); got != "/" || r.StatusCode != http.StatusSeeOther {
			t.Errorf("to %q leads to %q (%d)", to, got, r.StatusCode)
		}
	}
}

// TestSignInTakesAsLong signs in with wrong passwords as people who are there and as people who
// are not. What takes nearly all of the time is the hash of the password, which needs 19 MiB: each must have made one, and
// one alone.
func TestSignInTakesAsLong(t *testing.T) {
	h := startHub(t, grantwaytest.HubOptions{})
	boss := owner(t, h)
	kinds := map[string]string{} // addresses
	boss.colleague("known@example.com", "auditor", "*")
	kinds["known"], kinds["unknown"] = "known@example.com", "unknown@example.com"
	boss.post("/people/invite", form("email", "invited@example.com", "role", "auditor", "division", "*"))
	kinds["invited"] = "invited@example.com"
	boss.colleague("gone@example.com", "auditor", "*")
	gone, err := h.Person(t.Context(), "gone@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.DeactivatePerson(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	kinds["deactivated"] = "gone@example.com"

	answers := map[string]string{}
	for kind, address := range kinds {
		v := newVisitor(t, h.URL)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := v.post("/sign-in", form("email", address, "password", "not the password of anybody"))
		runtime.ReadMemStats(&after)
		if r.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%s: %d", address, r.StatusCode)
		}
		const hash = 19 << 20
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated < hash || allocated > 2*hash {
			t.Errorf("a wrong password of somebody %s took %d MiB", kind, allocated>>20)
		}
		answers[kind] = strings.ReplaceAll(text(r.body), address, "…")
	}
	for kind := range kinds {
		if answers[kind] != answers["known"] {
			t.Errorf("the answers differ: %q of somebody known, %q of somebody %s", answers["known"], answers[kind], kind)
		}
	}
}

// TestStoredScript puts a script into every field there is, and looks for it on every page.
func TestStoredScript(t *testing.T) {
	t.Parallel()
	const script = `"><script>alert(1)</script><img src=x onerror=alert(1)>'{{7*7}}`
	p := grantwaytest.NewProvider(t)
	h := startHub(t, grantwaytest.HubOptions{})
	v := owner(t, h)
	c, err := h.CreateCredential(t.Context(), grantway.Credential{Name: "scripted", Description: script, Inputs: grantway.Inputs{
		"client_id": grantway.Text(script), "client_secret": grantway.Text(script), "token_endpoint": grantway.Text(p.Token.URL + "?q=%22%3E%3Cscript%3E"), "scopes": grantway.Text("a'<script>"),
		"audience": grantway.Text(script), "signing_key_id": grantway.Text(script), "assertion_audience": grantway.Text(script), "assertion_issuer": grantway.Text(script), "assertion_subject": grantway.Text(script),
		"next_client_secret": {Ref: &grantway.SecretRef{Store: "env", Key: script, Field: script, Version: script}},
		"extra_parameters":   {Params: []grantway.Param{{In: "body", Name: script, Value: script}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.CreateDivision(t.Context(), grantway.Division{Name: "scripted", Description: script}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "scripted", Description: script, Roles: []grantway.Assignment{{Role: "auditor", Division: "home"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.CreateSecretStore(t.Context(), grantway.SecretStore{Name: "scripted", Kind: "vault", Description: script, Inputs: grantway.Inputs{"address": grantway.Text("https://127.0.0.1:1"),
		"auth": grantway.Text("approle"), "role": grantway.Text(script), "mount": grantway.Text(script), "path": grantway.Text(script), "namespace": grantway.Text(script), "secret_id": {Ref: &grantway.SecretRef{Store: "env", Key: script}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.SetSingleSignOn(t.Context(), grantway.SingleSignOn{Name: script, Issuer: "https://login.example.com/%22%3E%3Cscript%3E", ClientID: script, Scopes: "openid " + strings.ReplaceAll(script, " ", ""),
		Rules: []grantway.RoleRule{{Claim: script, Value: script, Role: "auditor", Division: "*"}}}); err != nil {
		t.Fatal(err)
	}
	p.Token.Next(grantwaytest.OAuthError(400, "invalid_scope", "<script>alert(1)</script>"))
	if _, err := h.ValidateCredential(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	v.post("/people/invite", form("email", "script@example.com", "name", script, "role", "auditor", "division", "*"))
	q := url.QueryEscape(script)
	pages := []string{"/credentials", "/credentials?q=" + q + "&sort=" + q + "&health=" + q + "&division=" + q, "/credentials/" + c.ID, "/credentials/" + c.ID + "?span=" + q, "/credentials/" + c.ID + "/edit", "/credentials/" + c.ID + "/delete",
		"/stores", "/stores/scripted/details", "/stores/scripted/edit", "/stores/scripted/delete", "/stores/add?kind=" + q, "/single-sign-on", "/single-sign-on/delete", "/divisions", "/clients", "/clients?cursor=" + q, "/clients/add?grant_type=" + q, "/clients/advice?answer.user=" + q, "/people", "/audit", "/audit?action=" + q + "&object=" + q + "&caller=" + q + "&outcome=" + q + "&from=" + q, "/account", "/sign-in?to=" + q, "/" + url.PathEscape(script), "/credentials/" + url.PathEscape(script)}
	check := func(where, body string) {
		t.Helper()
		if strings.Contains(body, "<script>") || strings.Contains(body, "<img src=x") || strings.Contains(body, "'49") {
			t.Errorf("%s renders what somebody entered as HTML", where)
		}
	}
	for _, page := range pages {
		check(page, v.get(page).body)
	}
	f := form("name", script, "description", script, "in.client_id", script, "in.token_endpoint", script, "in.scopes", script, "in.client_secret", script, "division", script, "in.auth_method", script, "in.extra_parameters.name", script, "in.extra_parameters.in", script, "in.extra_parameters.value", script)
	check("the form", v.post("/credentials/add", f).body)
	check("validation", v.post("/credentials/validate", f).body)
	check("the validation of the saved one", v.post("/credentials/"+c.ID+"/validate", form("a", "b")).body)
	f = form("kind", "vault", "name", script, "description", script, "try", script, "in.address", script, "in.auth", script, "in.token", script, "in.role", script, "in.path", script, "in.ttl_seconds", script, "in.jwt.source", "external", "in.jwt.store", script, "in.jwt.key", script)
	check("the form of a store", v.post("/stores/add", f).body)
	check("the test of a store", v.post("/stores/test", f).body)
	check("the test of a saved store", v.post("/stores/scripted/test", form("key", script, "field", script)).body)
	f = form("name", script, "issuer", script, "client_id", script, "client_secret", script, "scopes", script, "claim", script, "value", script, "role", script, "division", script)
	check("the form of single sign-on", v.post("/single-sign-on", f).body)
	check("the test of single sign-on", v.post("/single-sign-on/test", f).body)
	check("the form of a client", v.post("/clients/add", form("name", script, "description", script, "grant_type", "authorization_code", "redirect_uris", script, "scopes", script, "token_seconds", script, "token_endpoint_auth_method", "federated", "federation_issuer", script, "federation_subject", script,
		"federation_audience", script, "federation_jwks_uri", script, "federation_jwks", script, "allowed_networks", script, "resources", script, "requests_per_minute", script, "use.credential", script, "use.via", script, "use.methods", script, "use.paths", script, "role", script, "division", script)).body)
	check("bulk validation", v.post("/credentials/validate-many", form("id", script, "result", `{"id":"x","name":"<script>","message":"<script>"}`)).body)
	check("the sign-in page", newVisitor(t, h.URL).get("/sign-in").body)
	check("sign-in", newVisitor(t, h.URL).post("/sign-in", form("email", script, "password", "x", "to", script)).body)
	check("the form after the session", newVisitor(t, h.URL).post("/credentials/add", form("name", script)).body)
	check("division", v.post("/divisions", form("name", script, "description", script)).body)
	check("invitation", v.post("/people/invite", form("email", script, "name", script, "role", script, "division", script)).body)
}

// TestUnbuilt is a console without built assets: it says so in the log, on every page (all have
// the same layout), and goes on working.
func TestUnbuilt(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c, err := console.Unbuilt(console.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Origin: func(*http.Request) (netip.Addr, bool) { return netip.Addr{}, false }})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "make assets") {
		t.Errorf("the log says %q", log.String())
	}
	r := httptest.NewRequest("GET", "/nowhere", nil)
	r.Header.Set("Accept", "text/html")
	w := httptest.NewRecorder()
	c.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "built without its style sheets") || !strings.Contains(w.Body.String(), "nothing at this address") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), `href=""`) || strings.Contains(w.Body.String(), `src=""`) {
		t.Error("the page refers to files that are not there")
	}
}

// TestSessions lists where somebody is signed in, and ends one of these sessions from another.
func TestSessions(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	here := owner(t, h)
	there := newVisitor(t, h.URL)
	if r := there.send("POST", "/sign-in", form("email", ownerEmail, "password", ownerPassword), "User-Agent", "The Other Browser"); r.StatusCode != http.StatusSeeOther {
		t.Fatal(r.StatusCode)
	}
	page := here.get("/account").body
	_, row, ok := strings.Cut(page, "The Other Browser")
	id := regexp.MustCompile(`name="session" value="([^"]+)"`).FindStringSubmatch(row)
	if !ok || id == nil || !strings.Contains(page, "this one") {
		t.Fatalf("the account does not list the other session: %s", text(page))
	}
	if r := here.post("/account/sessions/end", form("session", id[1])); r.StatusCode != http.StatusSeeOther {
		t.Errorf("end the other session: %d", r.StatusCode)
	}
	if r := there.get("/credentials"); r.StatusCode != http.StatusSeeOther {
		t.Errorf("the other session goes on: %d", r.StatusCode)
	}
	if r := here.get("/credentials"); r.StatusCode != http.StatusOK {
		t.Errorf("this session has ended, too: %d", r.StatusCode)
	}

	// A browser is called as people call it; what it calls itself is there on hover.
	for agent, want := range map[string]string{
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0":                   "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15":                           "Safari on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/137.0.7151.107 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                          "Firefox on Linux",
		"curl/8.14.1": "curl",
	} {
		if r := newVisitor(t, h.URL).post("/sign-in", form("email", ownerEmail, "password", ownerPassword), "User-Agent", agent); r.StatusCode != http.StatusSeeOther {
			t.Fatal(r.StatusCode)
		}
		if page := html.UnescapeString(here.get("/account").body); !strings.Contains(page, fmt.Sprintf(`title="%s">%s</span>`, agent, want)) {
			t.Errorf("%s is not called %s: %s", agent, want, text(page))
		}
	}
}

// TestLinks follows every link that there is, and wants a page at its end.
func TestLinks(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	eachHub(t, grantwaytest.HubOptions{SecretFiles: t.TempDir()}, func(t *testing.T, h *hub) {
		v := owner(t, h)
		ids := seed(t, h, p)
		links := regexp.MustCompile(`href="(/[^"#]*)"`)
		seen, queue := map[string]bool{}, []string{"/credentials/" + ids[0]}
		for len(queue) > 0 && len(seen) < 600 {
			path := queue[0]
			queue = queue[1:]
			r := v.get(path)
			if r.StatusCode != http.StatusOK && r.StatusCode != http.StatusSeeOther {
				t.Errorf("%s: %d", path, r.StatusCode)
			}
			if strings.HasPrefix(path, "/audit?object=") && !strings.Contains(path, "cursor") && !strings.Contains(r.body, "data-label=\"Object\"") {
				t.Errorf("%s finds nothing, though a page leads there", path)
			}
			for _, m := range links.FindAllStringSubmatch(r.body, -1) {
				if to := html.UnescapeString(m[1]); !seen[to] && !strings.HasPrefix(to, "/credentials?") {
					seen[to] = true
					queue = append(queue, to)
				}
			}
		}
		if len(seen) < 60 {
			t.Errorf("only %d links", len(seen))
		}
	})
}

// TestExports wants every event in both formats, and no formula in the spreadsheet.
func TestExports(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	v := owner(t, h)
	for i := range 3 {
		if _, err := h.CreateDivision(t.Context(), grantway.Division{Name: fmt.Sprintf("d%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	csv := v.get("/audit/export?format=csv&action=division.create")
	if n := strings.Count(csv.body, "division.create"); n != 3 || !strings.HasPrefix(csv.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("%d events in the CSV: %s", n, csv.body)
	}
	page := v.get("/audit?object=division%2Fd1")
	link := regexp.MustCompile(`href="(/audit/export\?format=csv[^"]*)"`).FindStringSubmatch(page.body)
	if link == nil {
		t.Fatal("the page has no link to export what it shows")
	}
	if csv := v.get(html.UnescapeString(link[1])); strings.Count(csv.body, "division.create") != 1 {
		t.Errorf("%s exports %s", link[1], csv.body)
	}
	text := v.get("/audit/export?format=json&action=division.")
	if n := bytes.Count([]byte(text.body), []byte(`"division.create"`)); n != 3 || !strings.HasPrefix(text.body, "[") || !strings.HasSuffix(text.body, "]\n") {
		t.Errorf("%d events in the JSON: %s", n, text.body)
	}
}
