package console

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
	"github.com/grantway/grantway/internal/seal"
)

// Names of cookies. Over TLS all but the theme have the prefix __Host-, so that no
// neighbor below the same domain can set them.
const (
	sessionCookie = "grantway_session"
	deviceCookie  = "grantway_device"
	ssoCookie     = "grantway_sso"
	flashCookie   = "grantway_flash"
	themeCookie   = "grantway_theme"
)

const deviceLife = 365 * 24 * 60 * 60 // seconds

func (c *Console) secure(r *http.Request) bool {
	_, secure := c.Origin(r)
	return secure
}

func (c *Console) cookieName(r *http.Request, name string) string {
	if c.secure(r) {
		return "__Host-" + name
	}
	return name
}

// cookie makes a cookie; seconds 0 is as long as the browser runs, -1 deletes it.
func (c *Console) cookie(r *http.Request, name, value string, seconds int) *http.Cookie {
	return &http.Cookie{Name: c.cookieName(r, name), Value: value, Path: "/", MaxAge: seconds, HttpOnly: true,
		Secure: c.secure(r), SameSite: http.SameSiteLaxMode}
}

type signInPage struct {
	Frame
	Email string
	To    string // where to go afterwards
	Draft string // a form that waits, sealed
	Ended bool   // there was a session
	Error string
	SSO   string // name of the provider; "" is none
}

func (c *Console) newSignInPage(r *request) (*signInPage, error) {
	p := &signInPage{Frame: frame("signin", "Sign in"), To: access.LocalPath(r.FormValue("to")), Email: r.form("email"), Draft: r.PostFormValue("draft")}
	name, ok, err := c.People.SSOName(r.Context())
	if ok {
		p.SSO = name
	}
	return p, err
}

func (c *Console) signInPage(r *request) (answer, error) {
	if r.signedIn {
		return answer{redirect: access.LocalPath(r.FormValue("to"))}, nil
	}
	p, err := c.newSignInPage(r)
	p.Ended = r.token != ""
	return answer{page: p}, err
}

// signInFirst asks somebody to sign in who is not, or not any more. A form that was sent is
// kept, sealed, inside the page; what came from a script is told what to do.
func (c *Console) signInFirst(w http.ResponseWriter, r *request, rt route) {
	here := r.URL.RequestURI()
	if r.htmx {
		p := &errorPage{Frame: frame("error", ""), Heading: "Your session has ended",
			Message: "Nothing you entered is lost: sign in again in another tab, then repeat what you just did here.", Fields: nil}
		p.SignIn = true
		c.render(w, r, answer{page: p, part: "message"})
		return
	}
	if r.Method != http.MethodPost {
		to := "/sign-in"
		if here != "/" {
			to += "?to=" + url.QueryEscape(here)
		}
		c.write(w, r, answer{redirect: to})
		return
	}
	p, err := c.newSignInPage(r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	p.Email, p.Ended = "", true
	if p.To = "/"; rt.restore {
		p.Draft, err = c.sealDraft(draftForm{Path: r.URL.Path, Form: r.PostForm, Until: time.Now().Add(draftLife)})
	} else if from, bad := url.Parse(r.Referer()); bad == nil && from.Host == r.Host {
		p.To = access.LocalPath(from.RequestURI())
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.render(w, r, answer{page: p, status: http.StatusUnauthorized})
}

// draftForm is a form that waits for somebody to sign in.
type draftForm struct {
	Path  string
	Form  url.Values
	Until time.Time
}

// draftLife is how long a form waits.
const draftLife = 12 * time.Hour

var draftPlace = seal.Place{Table: "console", Row: "form", Column: "draft"}

// sealDraft is a form as a text that says nothing to anybody but the hub, because there may
// be a secret in it.
func (c *Console) sealDraft(d draftForm) (string, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	sealed, err := c.Sealer.Seal(draftPlace, text)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

func (c *Console) openDraft(text string) (d draftForm, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || text == "" {
		return d, false
	}
	plain, err := c.Sealer.Open(draftPlace, sealed)
	if err != nil || json.Unmarshal(plain, &d) != nil || time.Now().After(d.Until) {
		return d, false
	}
	return d, true
}

func (c *Console) origin(r *request) access.Origin {
	from, _ := c.Options.Origin(r.Request)
	o := access.Origin{From: from, UserAgent: r.UserAgent()}
	if cookie, err := r.Cookie(c.cookieName(r.Request, deviceCookie)); err == nil {
		o.Device = cookie.Value
	}
	return o
}

func (c *Console) signIn(r *request) (answer, error) {
	in, err := c.People.SignIn(r.Context(), r.form("email"), r.PostFormValue("password"), c.origin(r))
	var e *grantway.Error
	if errors.As(err, &e) && e.Code != grantway.Internal {
		p, err := c.newSignInPage(r)
		p.Error = sentence(e.Message)
		return answer{page: p, status: statuses[e.Code].status}, err
	}
	if err != nil {
		return answer{}, err
	}
	return c.signedIn(r, in, r.PostFormValue("to"), r.PostFormValue("draft"))
}

// signedIn ends the session before, if any, and goes on to where somebody wanted to go, or
// to the form that waits.
func (c *Console) signedIn(r *request, in access.SignedIn, to, draft string) (answer, error) {
	if r.token != "" {
		if err := c.People.SignOut(r.Context(), r.token); err != nil {
			return answer{}, err
		}
	}
	a := answer{redirect: access.LocalPath(to), cookies: []*http.Cookie{c.cookie(r.Request, sessionCookie, in.Token, 0)}}
	if in.Device != "" {
		a.cookies = append(a.cookies, c.cookie(r.Request, deviceCookie, in.Device, deviceLife))
	}
	if d, ok := c.openDraft(draft); ok {
		back, err := c.restore(r, d, in.Token)
		back.cookies = append(a.cookies, back.cookies...)
		return back, err
	}
	return a, nil
}

// signInContinue brings a form back after somebody signed in in another tab.
func (c *Console) signInContinue(r *request) (answer, error) {
	d, ok := c.openDraft(r.PostFormValue("draft"))
	if !r.signedIn || !ok {
		p, err := c.newSignInPage(r)
		p.Ended, p.Error = true, "You are not signed in yet."
		return answer{page: p, status: http.StatusUnauthorized}, err
	}
	return c.restore(r, d, r.token)
}

// restore sends a form again, for its page to be shown as it was when the session had ended.
func (c *Console) restore(r *request, d draftForm, token string) (answer, error) {
	again := r.Request.Clone(context.WithValue(r.Context(), restoring{}, true))
	again.URL = &url.URL{Path: d.Path}
	again.Form, again.PostForm = d.Form, d.Form
	again.Header.Set("Cookie", c.cookieName(r.Request, sessionCookie)+"="+token)
	if theme, err := r.Cookie(themeCookie); err == nil {
		again.AddCookie(&http.Cookie{Name: themeCookie, Value: theme.Value})
	}
	return answer{again: again}, nil
}

func (c *Console) signOut(r *request) (answer, error) {
	if err := c.People.SignOut(r.Context(), r.token); err != nil {
		return answer{}, err
	}
	return answer{redirect: "/sign-in", flash: "You are signed out.", cookies: []*http.Cookie{c.cookie(r.Request, sessionCookie, "", -1)}}, nil
}

func (c *Console) ssoStart(r *request) (answer, error) {
	target, state, err := c.People.SSOStart(r.Context(), access.LocalPath(r.FormValue("to")))
	if err != nil {
		return answer{}, err
	}
	return answer{redirect: target, cookies: []*http.Cookie{c.cookie(r.Request, ssoCookie, state, 600)}}, nil
}

func (c *Console) ssoFinish(r *request) (answer, error) {
	var state string
	if cookie, err := r.Cookie(c.cookieName(r.Request, ssoCookie)); err == nil {
		state = cookie.Value
	}
	in, to, err := c.People.SSOFinish(r.Context(), r.URL.Query(), state, c.origin(r))
	if err != nil {
		var e *grantway.Error
		if !errors.As(err, &e) {
			return answer{}, err
		}
		p, pageErr := c.newSignInPage(r)
		p.Error = sentence(e.Message)
		return answer{page: p, status: statuses[e.Code].status, cookies: []*http.Cookie{c.cookie(r.Request, ssoCookie, "", -1)}}, pageErr
	}
	a, err := c.signedIn(r, in, to, "")
	a.cookies = append(a.cookies, c.cookie(r.Request, ssoCookie, "", -1))
	return a, err
}

// welcomePage is where somebody chooses a password: the first owner, or who was invited.
type welcomePage struct {
	Frame
	Heading, Text string
	Name, Email   string
	Fixed         bool // the email is given
	Errors        problems
	Button        string
}

func (c *Console) newSetupPage(r *request) *welcomePage {
	return &welcomePage{Frame: frame("welcome", "Set up this hub"), Heading: "Set up this hub", Button: "Create the owner account",
		Text: "You are the first. This account is the owner: it may do everything, and invites the others.", Name: r.form("name"), Email: r.form("email")}
}

func (c *Console) setupPage(r *request) (answer, error) {
	if err := c.People.CheckSetup(r.Context(), r.PathValue("token")); err != nil {
		return answer{}, err
	}
	return answer{page: c.newSetupPage(r)}, nil
}

func (c *Console) setup(r *request) (answer, error) {
	password := r.PostFormValue("password")
	p := c.newSetupPage(r)
	if password != r.PostFormValue("repeat") {
		p.Errors = problems{"/repeat": "is not the same as the password"}
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	made, err := c.People.Setup(r.Context(), r.PathValue("token"), p.Name, p.Email, password)
	if p.Errors = problemsOf(err); p.Errors != nil {
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return c.firstSignIn(r, made.Email, password)
}

func (c *Console) newInvitationPage(r *request) (*welcomePage, error) {
	who, err := c.People.Invited(r.Context(), r.PathValue("token"))
	return &welcomePage{Frame: frame("welcome", "Choose a password"), Heading: "Welcome to Grantway", Button: "Set the password and sign in",
		Text: "Choose a password for your account.", Name: who.Name, Email: who.Email, Fixed: true}, err
}

func (c *Console) invitationPage(r *request) (answer, error) {
	p, err := c.newInvitationPage(r)
	if err != nil {
		return answer{}, err
	}
	return answer{page: p}, nil
}

func (c *Console) acceptInvitation(r *request) (answer, error) {
	p, err := c.newInvitationPage(r)
	if err != nil {
		return answer{}, err
	}
	p.Name = r.form("name")
	password := r.PostFormValue("password")
	if password != r.PostFormValue("repeat") {
		p.Errors = problems{"/repeat": "is not the same as the password"}
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	person, err := c.People.Accept(r.Context(), r.PathValue("token"), p.Name, password)
	if p.Errors = problemsOf(err); p.Errors != nil {
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return c.firstSignIn(r, person.Email, password)
}

func (c *Console) firstSignIn(r *request, email, password string) (answer, error) {
	in, err := c.People.SignIn(r.Context(), email, password, c.origin(r))
	if err != nil {
		return answer{}, err
	}
	return c.signedIn(r, in, "/", "")
}

func (c *Console) setTheme(r *request) (answer, error) {
	cookie := &http.Cookie{Name: themeCookie, Value: "", Path: "/", MaxAge: -1, Secure: c.secure(r.Request), SameSite: http.SameSiteLaxMode}
	if theme := r.form("theme"); theme == "light" || theme == "dark" {
		cookie.Value, cookie.MaxAge = theme, deviceLife
	}
	return answer{redirect: access.LocalPath(r.form("to")), cookies: []*http.Cookie{cookie}}, nil
}

// browserName is a User-Agent as people read it, such as "Firefox on Windows". Browsers also
// name those that they want to be taken for, so the name that fewest others use comes first.
func browserName(agent string) string {
	first := func(names ...string) string {
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(agent, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	browser := first("Edg", "Edge", "OPR/", "Opera", "SamsungBrowser", "Samsung Internet", "Firefox", "Firefox", "FxiOS", "Firefox", "CriOS", "Chrome", "Chrome", "Chrome", "Safari", "Safari")
	system := first("iPhone", "iPhone", "iPad", "iPad", "Android", "Android", "Windows", "Windows", "CrOS", "ChromeOS", "Mac OS X", "macOS", "Linux", "Linux")
	switch {
	case browser == "":
		name, _, _ := strings.Cut(agent, "/")
		return cmp.Or(strings.TrimSpace(name), "Unknown")
	case system == "":
		return browser
	}
	return browser + " on " + system
}

type accountPage struct {
	Frame
	Account  grantway.Person
	Sessions []grantway.Session
	Current  string
	Programs []issuer.Consented
	Errors   problems
}

func (c *Console) newAccountPage(r *request) (*accountPage, error) {
	p := &accountPage{Frame: frame("account", "Your account"), Current: r.session.ID}
	var err error
	if p.Account, err = c.People.Get(r.Context(), r.who, r.who.ID); err != nil {
		return p, err
	}
	if p.Sessions, err = c.People.Sessions(r.Context(), r.who, r.who.ID); err != nil {
		return p, err
	}
	p.Programs, err = c.Issuer.Consents(r.Context(), r.who)
	return p, err
}

func (c *Console) takeBack(r *request) (answer, error) {
	err := c.Issuer.TakeBack(r.Context(), r.who, r.form("client"))
	return answer{redirect: "/account", flash: "The program does not act for you any more."}, err
}

func (c *Console) account(r *request) (answer, error) {
	p, err := c.newAccountPage(r)
	return answer{page: p}, err
}

func (c *Console) changePassword(r *request) (answer, error) {
	p, err := c.newAccountPage(r)
	if err != nil {
		return answer{}, err
	}
	password := r.PostFormValue("password")
	if password != r.PostFormValue("repeat") {
		p.Errors = problems{"/repeat": "is not the same as the password"}
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	err = c.People.ChangePassword(r.Context(), r.token, r.PostFormValue("old"), password)
	if p.Errors = problemsOf(err); p.Errors != nil {
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	return answer{redirect: "/account", flash: "The password is changed, and your other sessions have ended."}, err
}

func (c *Console) endOwnSession(r *request) (answer, error) {
	err := c.People.RevokeSession(r.Context(), r.who, r.who.ID, r.form("session"))
	if r.form("session") == "" {
		return answer{redirect: "/sign-in", flash: "All your sessions have ended."}, err
	}
	return answer{redirect: "/account", flash: "The session has ended."}, err
}
