package access_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
	"github.com/grantway/grantway/peers/peer"
)

// idp is the real provider, and people of one hub who sign in by way of it.
type idp struct {
	*house
	server   *peer.Server
	settings grantway.SingleSignOn
}

func newProvider(t *testing.T) *peer.Server {
	t.Helper()
	return peer.OpenIDProvider(t, hubURL+access.SSOPath, peer.Accounts{
		"ann":   {"email": "ann@example.com", "email_verified": true, "name": "Ann", "groups": []string{"staff", "admins"}},
		"bob":   {"email": "bob@example.com", "email_verified": true, "groups": []string{"staff"}},
		"eve":   {"email": "ann@example.com", "email_verified": true},
		"dan":   {"email": "ann@example.com", "email_verified": false},
		"guest": {"email": "guest@example.com", "email_verified": true, "groups": []string{}},
	})
}

func newIDP(t *testing.T, s *store.Store, server *peer.Server, client string) *idp {
	t.Helper()
	transport := server.Transport()
	t.Cleanup(transport.CloseIdleConnections)
	i := &idp{house: newHouse(t, s, newKEK(t), &http.Client{Transport: transport, Timeout: 10 * time.Second}), server: server}
	c := server.Client(t, client)
	i.settings = grantway.SingleSignOn{Name: "Contoso", Issuer: server.Issuer, ClientID: c.ID, ClientSecret: grantway.Text(c.Secret), Scopes: "openid email  profile groups"}
	i.set(t, func(*grantway.SingleSignOn) {})
	return i
}

// eachIDP runs body with single sign-on set up for the client of that name.
func eachIDP(t *testing.T, client string, body func(t *testing.T, i *idp)) {
	t.Helper()
	server := newProvider(t)
	storetest.Each(t, func(t *testing.T, s *store.Store) { body(t, newIDP(t, s, server, client)) })
}

// set changes the settings.
func (i *idp) set(t *testing.T, change func(*grantway.SingleSignOn)) {
	t.Helper()
	change(&i.settings)
	got, err := i.SetSSO(t.Context(), access.Hub(), i.settings)
	if err != nil {
		t.Fatal(err)
	}
	if got.ClientSecret.Text != "" || got.RedirectURI != hubURL+access.SSOPath {
		t.Errorf("%+v", got)
	}
}

var formAction = regexp.MustCompile(`action="([^"]+)"`)

// visit goes through the pages of the provider as login, in a browser of its own, and
// returns what it sends back to the hub with.
func (i *idp) visit(t *testing.T, address, login string) url.Values {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := i.server.Transport()
	defer transport.CloseIdleConnections()
	var back url.Values
	browser := &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Hostname() == "hub.example.com" {
			if r.URL.Path != access.SSOPath {
				t.Errorf("sent back to %s", r.URL)
			}
			back = r.URL.Query()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	answer, err := browser.Get(address)
	for _, form := range []url.Values{{"prompt": {"login"}, "login": {login}, "password": {"any"}}, {"prompt": {"consent"}}} {
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if back != nil {
			return back
		}
		action := formAction.FindSubmatch(page)
		if action == nil {
			t.Fatalf("no form: %s", page)
		}
		to, err := answer.Request.URL.Parse(strings.ReplaceAll(string(action[1]), "&amp;", "&"))
		if err != nil {
			t.Fatal(err)
		}
		if answer, err = browser.PostForm(to.String(), form); err != nil {
			t.Fatal(err)
		}
	}
	answer.Body.Close()
	if back == nil {
		t.Fatalf("%s did not send back", answer.Request.URL)
	}
	return back
}

func (i *idp) signIn(t *testing.T, login string) (access.SignedIn, error) {
	t.Helper()
	address, cookie, err := i.SSOStart(t.Context(), "/credentials?q=1")
	if err != nil {
		t.Fatal(err)
	}
	in, returnTo, err := i.SSOFinish(t.Context(), i.visit(t, address, login), cookie, from("192.0.2.1"))
	if returnTo != "/credentials?q=1" {
		t.Errorf("return to %q", returnTo)
	}
	return in, err
}

var staffRules = []grantway.RoleRule{
	{Claim: "groups", Value: "admins", Role: "owner", Division: "*"},
	{Claim: "groups", Value: "staff", Role: "designer", Division: "home"},
}

// Somebody who was invited signs in without ever having a password, however the hub is a client.
func TestSSO(t *testing.T) {
	for _, client := range []string{"client_secret_basic", "client_secret_post", "public"} {
		t.Run(client, func(t *testing.T) {
			eachIDP(t, client, func(t *testing.T, i *idp) {
				ctx, owner := t.Context(), caller("owner *")
				if name, ok, err := i.SSOName(ctx); name != "Contoso" || !ok || err != nil {
					t.Error(name, ok, err)
				}
				_, err := i.signIn(t, "ann")
				wantCode(t, err, grantway.Forbidden) // nobody has invited her
				invited, err := i.Invite(ctx, owner, grantway.Person{Email: "Ann@example.com", Roles: caller("auditor *").Roles})
				if err != nil {
					t.Fatal(err)
				}
				in, err := i.signIn(t, "ann")
				if err != nil {
					t.Fatal(err)
				}
				who := i.caller(t, in)
				if who.ID != invited.Person.ID || !slices.Equal(who.Roles, caller("auditor *").Roles) {
					t.Errorf("%+v", who)
				}
				if one, err := i.Get(ctx, owner, who.ID); err != nil || one.State != grantway.Active || one.Password || !one.SingleSignOn {
					t.Error(one, err)
				}
				_, err = i.Invited(ctx, tokenOf(t, invited.Link))
				wantCode(t, err, grantway.NotFound) // the invitation is used up
				if sessions, err := i.Sessions(ctx, who, who.ID); err != nil || len(sessions) != 1 || sessions[0].Method != "single_sign_on" {
					t.Error(sessions, err)
				}

				// Who has the same address at the provider is not the same person.
				for _, login := range []string{"eve", "dan"} {
					_, err = i.signIn(t, login)
					wantCode(t, err, grantway.Forbidden)
				}
				if _, err := i.Deactivate(ctx, owner, who.ID); err != nil {
					t.Fatal(err)
				}
				_, err = i.signIn(t, "ann")
				wantCode(t, err, grantway.Forbidden)
			})
		})
	}
}

// An address that the provider does not call verified is nobody's.
func TestSSOUnverifiedEmail(t *testing.T) {
	eachIDP(t, "client_secret_basic", func(t *testing.T, i *idp) {
		ann := i.person(t, "ann@example.com", "owner *")
		_, err := i.signIn(t, "dan")
		wantCode(t, err, grantway.Forbidden)
		i.set(t, func(s *grantway.SingleSignOn) { s.TrustEmail = true })
		in, err := i.signIn(t, "dan")
		if err != nil || in.Person.ID != ann.ID {
			t.Error(in.Person, err)
		}
	})
}

// Roles follow the claims at each sign-in.
func TestSSORules(t *testing.T) {
	eachIDP(t, "client_secret_basic", func(t *testing.T, i *idp) {
		ctx := t.Context()
		i.set(t, func(s *grantway.SingleSignOn) { s.Rules, s.CreatePeople = staffRules, true })
		ann, err := i.signIn(t, "ann")
		if err != nil {
			t.Fatal(err)
		}
		if who := i.caller(t, ann); who.Name != "Ann" || !slices.Equal(who.Roles, caller("designer home", "owner *").Roles) {
			t.Errorf("%+v", who)
		}
		bob, err := i.signIn(t, "bob")
		if err != nil {
			t.Fatal(err)
		}
		if who := i.caller(t, bob); who.Name != "bob@example.com" || !slices.Equal(who.Roles, caller("designer home").Roles) {
			t.Errorf("%+v", who)
		}
		_, err = i.signIn(t, "guest")
		wantCode(t, err, grantway.Forbidden)
		_, err = i.Get(ctx, access.Hub(), "guest@example.com")
		wantCode(t, err, grantway.NotFound)

		// Bob leaves the staff: his old session ends when he comes back.
		i.server.Set(t, peer.Accounts{"bob": {"email": "bob@example.com", "email_verified": true}})
		_, err = i.signIn(t, "bob")
		wantCode(t, err, grantway.Forbidden)
		_, _, err = i.Session(ctx, bob.Token)
		wantCode(t, err, grantway.Unauthenticated)
		i.server.Set(t, peer.Accounts{"bob": {"email": "moved@example.com", "email_verified": true, "groups": []string{"staff", "admins"}}})
		bob, err = i.signIn(t, "bob") // the same person, whatever his address
		if err != nil || bob.Person.Email != "bob@example.com" || len(bob.Person.Roles) != 2 {
			t.Error(bob, err)
		}

		// The last owner stays one.
		if _, err := i.Deactivate(ctx, access.Hub(), bob.Person.ID); err != nil {
			t.Fatal(err)
		}
		i.server.Set(t, peer.Accounts{"ann": {"email": "ann@example.com", "email_verified": true, "groups": []string{"staff"}}})
		ann, err = i.signIn(t, "ann")
		if err != nil || !i.caller(t, ann).May(access.RotateKey, access.Everywhere) {
			t.Error(ann, err)
		}
		if _, err := i.Activate(ctx, access.Hub(), bob.Person.ID); err != nil {
			t.Fatal(err)
		}
		ann, err = i.signIn(t, "ann")
		if err != nil || i.caller(t, ann).May(access.RotateKey, access.Everywhere) {
			t.Error(ann, err)
		}
		i.server.Set(t, peer.Accounts{
			"ann": {"email": "ann@example.com", "email_verified": true, "name": "Ann", "groups": []string{"staff", "admins"}},
			"bob": {"email": "bob@example.com", "email_verified": true, "groups": []string{"staff"}},
		})
	})
}

// An answer counts in the browser that asked, for what it asked, once.
func TestSSOForgedAnswers(t *testing.T) {
	eachIDP(t, "client_secret_basic", func(t *testing.T, i *idp) {
		ctx := t.Context()
		i.person(t, "ann@example.com", "owner *")
		finish := func(query url.Values, cookie string) error {
			_, _, err := i.SSOFinish(ctx, query, cookie, from("192.0.2.1"))
			return err
		}
		address, cookie, err := i.SSOStart(ctx, "https://evil.example.com/")
		if err != nil {
			t.Fatal(err)
		}
		asked, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if q := asked.Query(); q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("nonce") == "" || q.Get("state") == "" || q.Get("response_type") != "code" {
			t.Errorf("request %s", q)
		}
		back := i.visit(t, address, "ann")
		_, other, err := i.SSOStart(ctx, "/")
		if err != nil {
			t.Fatal(err)
		}
		with := func(name, value string) url.Values {
			q := url.Values{}
			for k, v := range back {
				q[k] = v
			}
			q.Set(name, value)
			return q
		}
		wantCode(t, finish(back, ""), grantway.Malformed)
		wantCode(t, finish(back, other), grantway.Malformed) // another browser
		wantCode(t, finish(back, cookie[:len(cookie)-2]), grantway.Malformed)
		wantCode(t, finish(back, "not base64 "), grantway.Malformed)
		wantCode(t, finish(url.Values{}, cookie), grantway.Malformed)
		wantCode(t, finish(with("state", "x"), cookie), grantway.Malformed)
		wantCode(t, finish(with("iss", "https://evil.example.com"), cookie), grantway.Malformed) // mix-up
		wantCode(t, finish(with("iss", ""), cookie), grantway.Malformed)
		wantCode(t, finish(with("error", "access_denied"), cookie), grantway.Unauthenticated)
		wantCode(t, finish(with("code", "guess"), cookie), grantway.Unauthenticated)
		in, returnTo, err := i.SSOFinish(ctx, back, cookie, from("192.0.2.1"))
		if err != nil || returnTo != "/" {
			t.Error(returnTo, err)
		}
		i.caller(t, in)
		wantCode(t, finish(back, cookie), grantway.Unauthenticated) // the code is used up

		// The settings changed meanwhile.
		address, cookie, err = i.SSOStart(ctx, "/")
		if err != nil {
			t.Fatal(err)
		}
		back = i.visit(t, address, "ann")
		i.set(t, func(s *grantway.SingleSignOn) { s.ClientID = "another" })
		wantCode(t, finish(back, cookie), grantway.Malformed)
		if err := i.DeleteSSO(ctx, access.Hub()); err != nil {
			t.Fatal(err)
		}
		wantCode(t, finish(back, cookie), grantway.NotFound)
		_, _, err = i.SSOStart(ctx, "/")
		wantCode(t, err, grantway.NotFound)
	})
}

// An answer that comes too late does not count.
func TestSSOTooLate(t *testing.T) {
	i := newIDP(t, storetest.Open(t, storetest.SQLite(t)), newProvider(t), "client_secret_basic")
	if _, _, err := i.SSOStart(t.Context(), "/"); err != nil { // what the provider says of itself is known from here on
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		address, cookie, err := i.SSOStart(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		asked, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		no := url.Values{"error": {"access_denied"}, "state": {asked.Query().Get("state")}}
		time.Sleep(10*time.Minute - time.Second)
		_, _, err = i.SSOFinish(t.Context(), no, cookie, from("192.0.2.1"))
		wantCode(t, err, grantway.Unauthenticated)
		time.Sleep(time.Second)
		_, _, err = i.SSOFinish(t.Context(), no, cookie, from("192.0.2.1"))
		wantCode(t, err, grantway.Malformed)
	})
}

// A provider that is away, or is not one, is not asked again by each visitor.
func TestSSOProviderAway(t *testing.T) {
	asked := 0
	away := roundTrip(func(r *http.Request) (*http.Response, error) {
		asked++
		return &http.Response{StatusCode: http.StatusBadGateway, Body: http.NoBody, Request: r}, nil
	})
	h := newHouse(t, storetest.Open(t, storetest.SQLite(t)), newKEK(t), &http.Client{Transport: away})
	if _, err := h.SetSSO(t.Context(), access.Hub(), grantway.SingleSignOn{Name: "x", Issuer: "https://login.example.com", ClientID: "x"}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		for range 3 {
			_, _, err := h.SSOStart(t.Context(), "/")
			wantCode(t, err, grantway.Unavailable)
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		time.Sleep(5 * time.Second)
		_, _, err := h.SSOStart(t.Context(), "/")
		wantCode(t, err, grantway.Unavailable)
		if asked != 2 {
			t.Errorf("asked %d times", asked)
		}
	})
}

type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSSOSettings(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx, owner := t.Context(), caller("owner *")
		good := grantway.SingleSignOn{Name: "Contoso", Issuer: "https://login.example.com/tenant", ClientID: "hub", ClientSecret: grantway.Text("s3cret value"), Rules: staffRules}
		_, err := h.SSO(ctx, owner)
		wantCode(t, err, grantway.NotFound)
		if _, ok, err := h.SSOName(ctx); ok || err != nil {
			t.Error(ok, err)
		}
		wantCode(t, h.DeleteSSO(ctx, owner), grantway.NotFound)

		// Whoever sets the provider can be anybody, so it is for owners.
		for _, role := range []string{"administrator *", "designer *", "auditor *", "application *", "owner home"} {
			_, err = h.SetSSO(ctx, caller(role), good)
			wantCode(t, err, grantway.Forbidden)
			wantCode(t, h.DeleteSSO(ctx, caller(role)), grantway.Forbidden)
		}
		_, err = h.SSO(ctx, caller("designer *"))
		wantCode(t, err, grantway.Forbidden)

		if _, err := h.SetSSO(ctx, owner, good); err != nil {
			t.Fatal(err)
		}
		got, err := h.SSO(ctx, caller("auditor *"))
		if err != nil || !got.ClientSecret.Set || got.ClientSecret.Text != "" || got.Scopes != "openid email profile" {
			t.Error(got, err)
		}
		for _, row := range []struct {
			change func(*grantway.SingleSignOn)
			field  string
		}{
			{func(s *grantway.SingleSignOn) { s.Name = "" }, "name"},
			{func(s *grantway.SingleSignOn) { s.Issuer = "login.example.com" }, "issuer"},
			{func(s *grantway.SingleSignOn) { s.Issuer = "https://login.example.com/?x" }, "issuer"},
			{func(s *grantway.SingleSignOn) { s.Issuer = "https://x.example.com/.well-known/openid-configuration" }, "issuer"},
			{func(s *grantway.SingleSignOn) { s.ClientID = "" }, "client_id"},
			{func(s *grantway.SingleSignOn) { s.Scopes = "email" }, "scopes"},
			{func(s *grantway.SingleSignOn) {
				s.Issuer, s.ClientSecret = "https://evil.example.com", grantway.Value{Set: true}
			}, "client_secret"},
			{func(s *grantway.SingleSignOn) {
				s.ClientSecret = grantway.Value{Ref: &grantway.SecretRef{Store: "env", Key: "X"}}
			}, "client_secret"},
			{func(s *grantway.SingleSignOn) { s.CreatePeople, s.Rules = true, nil }, "rules"},
			{func(s *grantway.SingleSignOn) {
				s.Rules = []grantway.RoleRule{{Claim: "groups", Value: "x", Role: "king", Division: "*"}}
			}, "rules/0/role"},
			{func(s *grantway.SingleSignOn) {
				s.Rules = []grantway.RoleRule{{Claim: "groups", Value: "x", Role: "owner", Division: "nowhere"}}
			}, "rules/0/division"},
			{func(s *grantway.SingleSignOn) { s.Rules = []grantway.RoleRule{{Role: "owner"}} }, "rules/0/claim"},
		} {
			bad := good
			row.change(&bad)
			_, err := h.SetSSO(ctx, owner, bad)
			wantCode(t, err, grantway.Invalid)
			if !strings.Contains(err.Error(), row.field+" ") {
				t.Errorf("%v does not name %s", err, row.field)
			}
		}

		// A secret that is left out is kept for this provider, and not sent to another one.
		good.ClientSecret, good.Name = grantway.Value{}, "Fabrikam"
		if got, err := h.SetSSO(ctx, owner, good); err != nil || !got.ClientSecret.Set {
			t.Error(got, err)
		}
		good.Issuer = "https://another.example.com"
		if got, err := h.SetSSO(ctx, owner, good); err != nil || got.ClientSecret.Set {
			t.Error(got, err)
		}

		var dump string
		if err := h.store.Read().QueryRowContext(ctx, `SELECT settings FROM sso`).Scan(&dump); err != nil || strings.Contains(dump, "s3cret") {
			t.Error(dump, err)
		}
		events := list(t, h.audit, owner, access.Filter{Action: "sso.update", Outcome: access.Done})
		if len(events) != 3 || !slices.Equal(events[1].Fields, []string{"name"}) || !slices.Contains(events[2].Fields, "client_secret") {
			t.Errorf("%+v", events)
		}
	})
}
