package console_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// TestTokenRequest enters secrets that have broken other products in the form, in each way to
// send them, and looks at what arrives at the provider (C-2, C-3).
func TestTokenRequest(t *testing.T) {
	t.Parallel()
	p := grantwaytest.NewProvider(t)
	onSQLite(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		b.open("/credentials/add")
		for _, secret := range []string{awkward, "a=b+c%25 é:"} {
			const id = "sales:é"
			for _, way := range []struct {
				method, encoding string
				takes            grantwaytest.Method
			}{
				{"client_secret_basic", "rfc6749", grantwaytest.AuthBasic},
				{"client_secret_basic", "raw", grantwaytest.AuthRawBasic},
				{"client_secret_post", "rfc6749", grantwaytest.AuthPost},
			} {
				id := id
				if way.encoding == "raw" {
					id = "sales" // a raw header cannot tell where an identifier with a colon ends
				}
				p.Register(grantwaytest.Client{ID: id, Secret: secret, Method: way.takes}) // no other way is accepted
				b.open("/credentials/add")
				b.fill("name", "sales-email", "in.client_id", id, "in.client_secret", secret, "in.token_endpoint", p.Token.URL, "in.scopes", "B a  A https://outlook.office365.com/.default",
					"in.auth_method", way.method, "in.basic_encoding", way.encoding)
				b.click("#validate")
				b.wait("#report .report-head.ok")
				noSecret(t, b, secret)

				got := p.Token.Requests()[len(p.Token.Requests())-1]
				want := url.Values{"grant_type": {"client_credentials"}, "scope": {"B a A https://outlook.office365.com/.default"}}
				var header string
				switch way.takes {
				case grantwaytest.AuthBasic:
					header = "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
				case grantwaytest.AuthRawBasic:
					header = "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
				case grantwaytest.AuthPost:
					want.Set("client_id", id)
					want.Set("client_secret", secret)
				}
				if got.Form.Encode() != want.Encode() || got.Header.Get("Authorization") != header {
					t.Errorf("%s, %s: %s with Authorization %q, want %s with %q", way.method, way.encoding, got.Body, got.Header.Get("Authorization"), want.Encode(), header)
				}
			}
		}
	})
}

// TestDetail is a credential with a day behind it: what the plot, the timeline, the list of users
// and the token request say of it.
func TestDetail(t *testing.T) {
	t.Parallel()
	p := provider(t)
	eachHub(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		v := owner(t, h)
		c, err := h.CreateCredential(t.Context(), grantway.Credential{Name: "sales-email", Inputs: grantway.Inputs{"client_id": grantway.Text("sales"), "client_secret": grantway.Text(awkward),
			"token_endpoint": grantway.Text(p.Token.URL), "scopes": grantway.Text("mail.read"), "extra_parameters": {Params: []grantway.Param{{In: "body", Name: "tenant", Value: "a b"}}}}})
		if err != nil {
			t.Fatal(err)
		}
		app, err := h.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "mail-worker", Roles: []grantway.Assignment{{Role: access.Application, Division: "home"}}})
		if err != nil {
			t.Fatal(err)
		}
		// What minutes of use would have written.
		now := time.Now()
		minute := func(ago time.Duration) int64 { return now.Add(-ago).Unix() / 60 }
		worked, failed, mixed := minute(10*time.Hour), minute(5*time.Hour), minute(4*time.Hour)
		failure := `{"at":"` + time.Unix(failed*60+7, 0).UTC().Format(time.RFC3339) + `","class":"temporary","stage":"response","message":"the answer has status 503","hint":"The provider has trouble of its own."}`
		mixedFailure := strings.ReplaceAll(failure, time.Unix(failed*60+7, 0).UTC().Format(time.RFC3339), time.Unix(mixed*60+9, 0).UTC().Format(time.RFC3339))
		db, err := store.Open(t.Context(), store.Options{URL: h.database})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = db.Write(t.Context(), func(tx *store.Tx) error {
			for _, row := range []struct {
				minute         int64
				worked, failed int
				failure        string
			}{{worked, 1, 0, ""}, {worked + 1, 1, 0, ""}, {failed, 0, 3, failure}, {mixed, 1, 2, mixedFailure}} {
				if _, err := tx.ExecContext(t.Context(), `INSERT INTO token_fetch (credential_id, minute, worked, failed, failure) VALUES ($1, $2, $3, $4, $5)`, c.ID, row.minute, row.worked, row.failed, row.failure); err != nil {
					return err
				}
			}
			for at, count := range map[int64]int{worked: 1200, mixed: 1} {
				if _, err := tx.ExecContext(t.Context(), `INSERT INTO token_read (minute, caller, credential_id, count) VALUES ($1, $2, $3, $4)`, at, app.ID, c.ID, count); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := h.ValidateCredential(t.Context(), c.ID); err != nil || !r.OK { // the newest success
			t.Fatal(r, err)
		}

		page := v.get("/credentials/" + c.ID).body
		var plot struct{ Times, Hits, Worked, Failed []int64 }
		data := regexp.MustCompile(`data-plot="([^"]*)"`).FindStringSubmatch(page)
		if data == nil {
			t.Fatal("the page has no plot")
		}
		if err := json.Unmarshal([]byte(html.UnescapeString(data[1])), &plot); err != nil {
			t.Fatal(err)
		}
		if n := len(plot.Times); n != 49 || len(plot.Hits) != n || len(plot.Worked) != n || len(plot.Failed) != n {
			t.Fatalf("the plot of a day in half hours has %d times, %d hits, %d worked, %d failed", n, len(plot.Hits), len(plot.Worked), len(plot.Failed))
		}
		for i, at := range plot.Times {
			in := func(minute int64) int64 { // 1 when the minute is in this step
				if minute*60 >= at && minute*60 < at+1800 {
					return 1
				}
				return 0
			}
			if i == len(plot.Times)-1 { // that of the validation
				continue
			}
			wantWorked := in(worked) + in(worked+1) + in(mixed)
			wantHits := max(1200*in(worked)+in(mixed)-wantWorked, 0)
			if got, want := [3]int64{plot.Hits[i], plot.Worked[i], plot.Failed[i]}, [3]int64{wantHits, wantWorked, 3*in(failed) + 2*in(mixed)}; got != want {
				t.Errorf("%v: hits, worked, failed are %v, want %v", time.Unix(at, 0), got, want)
			}
		}

		all := text(page)
		inOrder := func(parts ...string) {
			t.Helper()
			rest := all
			for _, part := range parts {
				_, after, ok := strings.Cut(rest, part)
				if !ok {
					t.Errorf("the page does not say %q (in this order: %q):\n%s", part, parts, all)
					return
				}
				rest = after
			}
		}
		stamp := func(minute, second int64) string {
			return time.Unix(minute*60+second, 0).UTC().Format("2006-01-02 15:04 UTC")
		}
		inOrder("from the cache", "4 fetched", "5 failed")
		inOrder("Health timeline", "Worked 2 times", "Failed 5 times "+stamp(failed, 7)+" , for 1 hour", "The answer has status 503.", "The provider has trouble of its own.", "Worked 2 times "+stamp(worked, 0))
		inOrder("Who used it", "mail-worker", "1,201 tokens, last "+stamp(mixed, 0))
		inOrder("Effective token request", "POST "+p.Token.URL, "Authorization: Basic ••••••••", "Content-Type: application/x-www-form-urlencoded", "grant_type =client_credentials", "scope =mail.read", "tenant =a b")
		inOrder("Changes", "credential.validate", "credential.create")

		if hour := text(v.get("/credentials/" + c.ID + "?span=hour").body); !strings.Contains(hour, "0 from the cache") || !strings.Contains(hour, "1 fetched") || !strings.Contains(hour, "Nobody in this time.") {
			t.Errorf("the last hour: %s", hour)
		}

		// With the secret in the body it is masked there; that of a signed assertion, too.
		for _, method := range []string{"client_secret_post", "client_secret_jwt"} {
			c, err := h.Credential(t.Context(), c.ID)
			if err != nil {
				t.Fatal(err)
			}
			c.Inputs["auth_method"], c.Inputs["assertion_audience"] = grantway.Text(method), grantway.Text("https://issuer.example.com")
			c.Inputs["client_secret"] = grantway.Text(awkward + "long enough for HS256")
			if _, err := h.UpdateCredential(t.Context(), c.ID, c); err != nil {
				t.Fatal(err)
			}
			page := v.get("/credentials/" + c.ID).body
			field := map[string]string{"client_secret_post": "client_secret", "client_secret_jwt": "client_assertion"}[method]
			if all := text(page); !strings.Contains(all, field+" =••••••••") || strings.Contains(html.UnescapeString(page), awkward) || strings.Contains(page, "eyJ") {
				t.Errorf("%s: %s", method, all)
			}
		}
	})
}

// TestSnippets runs the programs that a credential's page shows, as they stand there but for the
// address of the API that they call.
func TestSnippets(t *testing.T) {
	t.Parallel()
	p := provider(t)
	h := startHub(t, grantwaytest.HubOptions{})
	v := owner(t, h)
	c, err := h.CreateCredential(t.Context(), grantway.Credential{Name: "sales-email", Inputs: grantway.Inputs{"client_id": grantway.Text("sales"), "client_secret": grantway.Text(awkward),
		"token_endpoint": grantway.Text(p.Token.URL), "scopes": grantway.Text("mail.read")}})
	if err != nil {
		t.Fatal(err)
	}
	app, err := h.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "billing", Roles: []grantway.Assignment{{Role: access.Application, Division: "home"}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	command := func(name string, arg ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, arg...)
		cmd.Env = append(os.Environ(), "GRANTWAY_CLIENT_ID="+app.ID, "GRANTWAY_CLIENT_SECRET="+app.Secret, "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", name, err, out, &errs)
		}
		return out
	}
	snippets := map[string]string{}
	for _, m := range regexp.MustCompile(`(?s)<summary>([^<]+)</summary><div class="code">.*?<code>(.*?)</code>`).FindAllStringSubmatch(v.get("/credentials/"+c.ID).body, -1) {
		const api = "https://api.example.com/v1/things"
		program := html.UnescapeString(m[2])
		if strings.Contains(program, api) == (m[1] == "curl") {
			t.Errorf("%s calls no API that it could be told", m[1])
		}
		snippets[m[1]] = strings.ReplaceAll(program, api, p.API.URL+"things")
	}
	write := func(title, name, end string) string {
		t.Helper()
		program, ok := snippets[title]
		if !ok {
			t.Fatalf("there is no snippet %s among %d", title, len(snippets))
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(program+end), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	called := func(title string, out []byte) {
		t.Helper()
		var answer struct{ ClientID, Scope, Path string }
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(out), "client_id", "clientid")), &answer); err != nil || answer.ClientID != "sales" || answer.Scope != "mail.read" || answer.Path != "/api/things" {
			t.Errorf("%s: the API answered %s (%v)", title, out, err)
		}
	}

	var token grantway.Token
	if out := command("sh", write("curl", "curl.sh", "\n")); json.Unmarshal(out, &token) != nil || !slices.Contains(p.Tokens(), token.AccessToken) {
		t.Errorf("curl: %s", out)
	}
	called("Node", command("node", write("Node", "main.mjs", "\n")))
	called("Go", command("go", "run", write("Go", "main.go", "\n")))
	command("go", "build", "-o", dir, "github.com/grantway/grantway/cmd/grantway")
	out, bare, _ := strings.Cut(string(command("sh", write("Shell", "shell.sh", "\nprintf '\\n--\\n%s' \"$TOKEN\"\n"))), "\n--\n")
	called("Shell", []byte(out))
	if !slices.Contains(p.Tokens(), bare) {
		t.Errorf("Shell: the token is %q", bare)
	}

	// No Python is needed to develop the hub: that program is only read.
	python := snippets["Python"]
	for _, pair := range []string{"()", "[]", "{}"} {
		if strings.Count(python, pair[:1]) != strings.Count(python, pair[1:]) {
			t.Errorf("Python: unbalanced %s", pair)
		}
	}
	if strings.Count(python, `"`)%2 != 0 || strings.Contains(python, "\t") || !strings.Contains(python, `hub = "`+h.URL+`"`) || !strings.Contains(python, "/v1/credentials/sales-email/token") {
		t.Errorf("Python: %s", python)
	}
}

// TestFormsComeBack posts the forms of an administrator after the session has ended, and gets
// each back as it was.
func TestFormsComeBack(t *testing.T) {
	t.Parallel()
	onSQLite(t, grantwaytest.HubOptions{}, func(t *testing.T, h *hub) {
		b := newBrowser(t, h.URL)
		b.setUp(h)
		c, err := h.CreateCredential(t.Context(), grantway.Credential{Name: "rotating", Inputs: grantway.Inputs{"client_id": grantway.Text("x"), "client_secret": grantway.Text("y"), "token_endpoint": grantway.Text("https://token.invalid/token"), "scopes": grantway.Text("a")}})
		if err != nil {
			t.Fatal(err)
		}
		grace, err := h.InvitePerson(t.Context(), grantway.Person{Email: "grace@example.com", Roles: []grantway.Assignment{{Role: access.Auditor, Division: "home"}}})
		if err != nil {
			t.Fatal(err)
		}
		const canary = "canary-in-a-form"
		for _, one := range []struct {
			path, button string
			fill         []string
			secret       string // field of a secret
			saved        string // what the page says once it is saved
		}{
			{"/stores/add?kind=vault", "#save", []string{"name", "vault", "in.address", "https://vault.example.com", "in.token", canary, "description", "of the mail team"}, "in.token", "The secret store vault is added."},
			{"/people/invite", "main form .btn-primary", []string{"email", "kay@example.com", "name", "Kay", "role", "auditor", "division", "home"}, "", "Hand this link over"},
			{"/people/" + grace.Person.ID, "main form .btn-primary", []string{"name", "Grace Hopper", "role", "designer"}, "", "The changes are saved."},
			{"/divisions", "main form .btn-primary", []string{"name", "finance", "description", "Invoices"}, "", "The division finance is added."},
			{"/credentials/" + c.ID, "#secret button", []string{"next", canary}, "next", "The next secret is stored."},
			{"/single-sign-on", "#save", []string{"name", "Contoso", "issuer", "https://login.example.com", "client_id", "hub", "client_secret", canary}, "client_secret", "People can sign in with Contoso now."},
		} {
			b.open(one.path)
			b.fill(one.fill...)
			eval[bool](b, `fetch("/account/sessions/end", {method: "POST"}).then(() => true)`)
			b.submit(one.button)
			b.has("your form comes back as you left it")
			noSecret(t, b, canary)
			b.fill("email", ownerEmail, "password", ownerPassword)
			b.follow(chromedp.Focus(chromedp.CSS("[name=password]")), chromedp.KeyEvent(kb.Enter))
			b.has("Here is your form again")
			noSecret(t, b, canary)
			for i := 0; i < len(one.fill); i += 2 {
				if got := eval[string](b, fmt.Sprintf(`document.querySelector("[name='%s']").value`, one.fill[i])); got != one.fill[i+1] && one.fill[i] != one.secret {
					t.Errorf("%s: %s is %q, want %q", one.path, one.fill[i], got, one.fill[i+1])
				}
			}
			b.submit(one.button)
			b.has(one.saved)
		}
		store, err := h.SecretStore(t.Context(), "vault")
		sso, err2 := h.SingleSignOn(t.Context())
		saved, err3 := h.Credential(t.Context(), c.ID)
		if err != nil || err2 != nil || err3 != nil || !store.Inputs["token"].Set || !sso.ClientSecret.Set || !saved.Inputs["next_client_secret"].Set {
			t.Errorf("a secret did not survive: %v %v %v %+v %+v %+v", err, err2, err3, store.Inputs, sso, saved.Inputs)
		}
	})
}
