package app_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store/storetest"
	"github.com/grantway/grantway/peers/peer"
)

// A person whom nobody has invited comes in by way of the real provider, with the role that
// the claims give, and lands where she wanted to go; all of it over HTTP.
func TestSingleSignOn(t *testing.T) {
	for name, database := range map[string]func(testing.TB) string{
		"SQLite":     func(testing.TB) string { return "" },
		"PostgreSQL": storetest.Postgres,
	} {
		t.Run(name, func(t *testing.T) {
			roots := x509.NewCertPool() // the provider can only be started when the hub has its address
			hub := grantwaytest.Start(t, grantwaytest.HubOptions{Database: database(t), RootCAs: roots})
			provider := peer.OpenIDProvider(t, hub.URL+access.SSOPath, peer.Accounts{
				"ann": {"email": "ann@example.com", "email_verified": true, "name": "Ann", "groups": []string{"admins"}},
				"eve": {"email": "eve@example.com", "email_verified": true, "groups": []string{"guests"}},
			})
			authority, err := os.ReadFile(provider.CAFile)
			if err != nil || !roots.AppendCertsFromPEM(authority) {
				t.Fatal("no authority", err)
			}
			client := provider.Client(t, "client_secret_basic")
			_, err = hub.SetSingleSignOn(t.Context(), grantway.SingleSignOn{
				Name: "Contoso", Issuer: provider.Issuer, ClientID: client.ID, ClientSecret: grantway.Text(client.Secret), Scopes: "openid email profile groups",
				Rules: []grantway.RoleRule{{Claim: "groups", Value: "admins", Role: "auditor", Division: "*"}}, CreatePeople: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			visit := func(login, to string) (*http.Response, string) {
				return throughProvider(t, roots, hub.URL+"/sign-in/sso?to="+url.QueryEscape(to), login)
			}

			answer, page := visit("ann", "/audit?action=person.")
			if answer.StatusCode != http.StatusOK || answer.Request.URL.String() != hub.URL+"/audit?action=person." || !strings.Contains(page, "Ann") {
				t.Errorf("%s: %s\n%s", answer.Request.URL, answer.Status, page)
			}
			ann, err := hub.Person(t.Context(), "ann@example.com")
			if err != nil || ann.State != grantway.Active || !ann.SingleSignOn || ann.Password || len(ann.Roles) != 1 || ann.Roles[0].Role != "auditor" {
				t.Error(ann, err)
			}
			sessions, err := hub.PersonSessions(t.Context(), ann.ID)
			if err != nil || len(sessions) != 1 || sessions[0].From != "127.0.0.1" {
				t.Error(sessions, err)
			}
			if answer, _ := visit("ann", "https://evil.example.com/"); answer.Request.URL.String() != hub.URL+"/" && !strings.HasPrefix(answer.Request.URL.String(), hub.URL+"/credentials") {
				t.Errorf("after sign-in: %s", answer.Request.URL)
			}
			answer, page = visit("eve", "/")
			if answer.StatusCode != http.StatusForbidden || !strings.Contains(page, "no role") {
				t.Errorf("%s: %s\n%s", answer.Request.URL, answer.Status, page)
			}
			if _, err := hub.Person(t.Context(), "eve@example.com"); err == nil {
				t.Error("somebody without a role was let in")
			}
		})
	}
}

var formAction = regexp.MustCompile(`action="([^"]+)"`)

// throughProvider opens address in a browser of its own, signs in as login on the pages of the
// provider, and returns where that ends.
func throughProvider(t *testing.T, roots *x509.CertPool, address, login string) (*http.Response, string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	browser := &http.Client{Transport: transport, Jar: jar}
	answer, err := browser.Get(address)
	for _, form := range []url.Values{{"prompt": {"login"}, "login": {login}, "password": {"any"}}, {"prompt": {"consent"}}} {
		if err != nil {
			t.Fatal(err)
		}
		page := read(t, answer)
		action := formAction.FindStringSubmatch(page)
		if action == nil || answer.Request.URL.Scheme != "https" {
			t.Fatalf("%s is no page of the provider: %s", answer.Request.URL, page)
		}
		to, err := answer.Request.URL.Parse(strings.ReplaceAll(action[1], "&amp;", "&"))
		if err != nil {
			t.Fatal(err)
		}
		if answer, err = browser.PostForm(to.String(), form); err != nil {
			t.Fatal(err)
		}
	}
	return answer, read(t, answer)
}

func read(t *testing.T, answer *http.Response) string {
	t.Helper()
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
