package issuer

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// Authorization is a request of a client to act for a person (RFC 6749 section 4.1.1) that is as
// it should be. The person answers it by Allow or Deny.
type Authorization struct {
	Client grantway.OAuthClient
	Scope  access.Permissions

	redirect, state, challenge, resource string
	binding                              binding
	prompt                               bool // the client wants the person to be asked again
}

// redirectError goes back to the client, since the redirect URI is good.
type redirectError struct {
	a    *Authorization
	code string
}

// Error implements error.
func (e *redirectError) Error() string { return "authorization request: " + e.code }

// Authorization reads the query of an authorization request. With an error of code Invalid nobody may
// be sent back, for client or redirect URI are not known; RedirectError tells of all others.
func (i *Issuer) Authorization(query string) (*Authorization, error) {
	f, failure := parseForm(query)
	if failure != nil {
		return nil, grantway.Errorf(grantway.Invalid, "the address is not one that a program would make: %s", failure.description)
	}
	e := i.clients.entry(f.get("client_id"))
	if e == nil || !e.state.Load().active || e.state.Load().GrantType != grantway.GrantAuthorizationCode {
		return nil, grantway.Errorf(grantway.Invalid, "there is no such program, or it may not act for people")
	}
	c := e.state.Load()
	redirect := f.get("redirect_uri")
	if redirect == "" && len(c.RedirectURIs) == 1 {
		redirect = c.RedirectURIs[0]
	}
	if !slices.ContainsFunc(c.RedirectURIs, func(registered string) bool { return sameRedirect(registered, redirect) }) {
		return nil, grantway.Errorf(grantway.Invalid, "the program %s wants to send you to an address that it has not registered", c.Name)
	}
	a := &Authorization{Client: c.OAuthClient, redirect: redirect, state: f.get("state"), challenge: f.get("code_challenge"), prompt: f.get("prompt") == "consent"}
	refuse := func(code string) (*Authorization, error) { return nil, &redirectError{a, code} }
	switch {
	case f.get("response_type") == "":
		return refuse("invalid_request")
	case f.get("response_type") != "code":
		return refuse("unsupported_response_type")
	case len(a.challenge) != 43 || f.get("code_challenge_method") != "S256": // plain protects from nobody who sees the request
		return refuse("invalid_request")
	}
	if a.Scope = c.scopes; f.get("scope") != "" {
		asked, ok := access.ParsePermissions(f.get("scope"))
		if !ok || asked&^c.scopes != 0 {
			return refuse("invalid_scope")
		}
		a.Scope = asked
	}
	if a.resource, failure = i.resourceOf(c, f); failure != nil {
		return refuse(failure.code)
	}
	if jkt := f.get("dpop_jkt"); jkt != "" {
		a.binding = boundToKey + binding(jkt)
	}
	return a, nil
}

// sameRedirect compares a redirect URI with a registered one: exactly, but for the port of one to
// a loopback address, which the program finds free when it starts (RFC 8252 section 7.3).
func sameRedirect(registered, got string) bool {
	if registered == got {
		return true
	}
	want, err1 := url.Parse(registered)
	have, err2 := url.Parse(got)
	if err1 != nil || err2 != nil || want.Scheme != "http" || !isLoopback(want) || want.Hostname() == "localhost" || have.Hostname() != want.Hostname() {
		return false
	}
	have.Host = want.Host
	return have.String() == registered && !strings.ContainsAny(got, "#\\ \t\r\n")
}

// answer is the address that the person's browser goes to.
func (i *Issuer) backTo(a *Authorization, pairs ...string) string {
	u, _ := url.Parse(a.redirect) // was registered
	q := u.Query()
	for n := 0; n < len(pairs); n += 2 {
		q.Set(pairs[n], pairs[n+1])
	}
	if a.state != "" {
		q.Set("state", a.state)
	}
	q.Set("iss", i.URL()) // RFC 9207
	u.RawQuery = q.Encode()
	return u.String()
}

// Deny returns where to send the person who does not allow it.
func (i *Issuer) Deny(a *Authorization) string { return i.backTo(a, "error", "access_denied") }

// Allowed says whether who has allowed the same client as much before. A program that cannot prove
// who it is asks each time (RFC 8252 section 8.6).
func (i *Issuer) Allowed(ctx context.Context, who access.Caller, a *Authorization) (bool, error) {
	if a.prompt || a.Client.AuthMethod == grantway.AuthNone {
		return false, nil
	}
	var scope string
	err := i.Store.Read().QueryRowContext(ctx, `SELECT scope FROM consent WHERE person_id = $1 AND client_id = $2`, who.ID, a.Client.ID).Scan(&scope)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	had, _ := access.ParsePermissions(scope)
	return err == nil && a.Scope&^had == 0, err
}

// Allow lets the client act for who, and returns where to send the person. Errors are of code
// Forbidden: who is not a person.
func (i *Issuer) Allow(ctx context.Context, who access.Caller, a *Authorization) (string, error) {
	if who.Kind != access.Person {
		return "", grantway.Errorf(grantway.Forbidden, "only a person can let a program act for it")
	}
	code, now := newSecret(codePrefix), time.Now()
	err := i.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO authorization_code (hash, client_id, person_id, redirect_uri, challenge, scope, resource, binding, family, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '', $9)`,
			i.hash(code), a.Client.ID, who.ID, a.redirect, a.challenge, a.Scope.String(), a.resource, string(a.binding), now.Add(codeLife).UnixMilli())
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO consent (person_id, client_id, scope, created_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (person_id, client_id) DO UPDATE SET scope = excluded.scope, created_at = excluded.created_at`,
			who.ID, a.Client.ID, a.Scope.String(), now.UnixMilli())
		if err != nil {
			return err
		}
		return i.Audit.Record(ctx, tx, who, grantway.Event{Action: "client.allow", Object: "client/" + a.Client.Name, Detail: a.Scope.String()})
	})
	if err != nil {
		return "", err
	}
	return i.backTo(a, "code", code), nil
}

// Consent is what a person is asked, or told.
type Consent struct {
	Client grantway.OAuthClient
	Who    string // name of the person
	Scopes []string
	Back   string // origin that the answer leads to; "" when that cannot be said
	Query  string // of the request; the form sends it back as query, with answer=allow or answer=deny
	Error  string // why nobody is asked; all but this is zero then
}

// authorizePage is GET /oauth/authorize: it asks the person, unless that was done before.
func (i *Issuer) authorizePage(w http.ResponseWriter, r *http.Request) {
	a, who, ok := i.asked(w, r, r.URL.RawQuery)
	if !ok {
		return
	}
	allowed, err := i.Allowed(r.Context(), who, a)
	if err != nil {
		i.sorry(w, r, http.StatusServiceUnavailable, err)
		return
	}
	if allowed {
		i.redirectAllowed(w, r, a, who)
		return
	}
	u, _ := url.Parse(a.redirect)
	back := u.Scheme + ":"
	if u.Host != "" {
		back = u.Scheme + "://" + u.Host
	}
	if strings.ContainsAny(back, ";, ") {
		back = ""
	}
	i.Ask(w, r, http.StatusOK, Consent{Client: a.Client, Who: who.Name, Scopes: strings.Fields(a.Scope.String()), Query: r.URL.RawQuery, Back: back})
}

// authorizeAnswer is what the person said.
func (i *Issuer) authorizeAnswer(w http.ResponseWriter, r *http.Request) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		i.sorry(w, r, http.StatusForbidden, grantway.Errorf(grantway.Forbidden, "the answer came from another site"))
		return
	}
	f, failure := readForm(w, r)
	if failure != nil {
		i.sorry(w, r, http.StatusBadRequest, grantway.Errorf(grantway.Malformed, "%s", failure.description))
		return
	}
	a, who, ok := i.asked(w, r, f.get("query"))
	if !ok {
		return
	}
	if f.get("answer") != "allow" {
		http.Redirect(w, r, i.Deny(a), http.StatusSeeOther)
		return
	}
	i.redirectAllowed(w, r, a, who)
}

func (i *Issuer) redirectAllowed(w http.ResponseWriter, r *http.Request, a *Authorization, who access.Caller) {
	to, err := i.Allow(r.Context(), who, a)
	if err != nil {
		i.sorry(w, r, http.StatusServiceUnavailable, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// asked reads the request and finds out who is asked. If ok is false the answer is written.
func (i *Issuer) asked(w http.ResponseWriter, r *http.Request, query string) (a *Authorization, who access.Caller, ok bool) {
	noStore(w.Header())
	w.Header().Set("Referrer-Policy", "no-referrer")
	if _, secure := i.origin(r); !secure || !i.offers(authorizationCode) {
		i.sorry(w, r, http.StatusBadRequest, grantway.Errorf(grantway.Invalid, "use https; or this hub lets no program act for people"))
		return nil, who, false
	}
	a, err := i.Authorization(query)
	if back, redirect := errors.AsType[*redirectError](err); redirect {
		http.Redirect(w, r, i.backTo(back.a, "error", back.code), http.StatusSeeOther)
		return nil, who, false
	}
	if err != nil {
		i.sorry(w, r, http.StatusBadRequest, err)
		return nil, who, false
	}
	if who, ok = i.SignedIn(r); !ok {
		http.Redirect(w, r, "/sign-in?to="+url.QueryEscape(AuthorizePath+"?"+query), http.StatusSeeOther)
		return nil, who, false
	}
	return a, who, true
}

// sorry says what is wrong; the person is not sent anywhere.
func (i *Issuer) sorry(w http.ResponseWriter, r *http.Request, status int, err error) {
	e, ok := errors.AsType[*grantway.Error](err)
	if !ok {
		i.Log.Error("authorization", "error", err)
		e = grantway.Errorf(grantway.Internal, "something went wrong here; try again")
	}
	i.Ask(w, r, status, Consent{Error: e.Message})
}
