package access

import (
	"context"
	"crypto/hmac"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// ssoPatience is how long somebody may take to sign in at the provider.
const ssoPatience = 10 * time.Minute

// ssoState is what the browser keeps, under a MAC, while its user is at the provider: the answer
// counts only in the browser that asked (RFC 6749 section 10.12, RFC 7636, OpenID Connect Core 1.0
// section 3.1.2.1).
type ssoState struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	Issuer   string `json:"i"`
	ClientID string `json:"c"`
	ReturnTo string `json:"r"`
	Until    int64  `json:"u"` // Unix seconds
}

// SSOStart returns where to send the browser, and the value of a cookie that SSOFinish
// wants back: Secure, HttpOnly, SameSite=Lax, for 10 minutes. returnTo is a path of the
// console, to be shown afterwards. Errors are of code NotFound when there is no single
// sign-on, or Unavailable when the provider does not answer.
func (p *People) SSOStart(ctx context.Context, returnTo string) (redirectURL, stateCookie string, err error) {
	settings, err := p.settings(ctx)
	if err != nil {
		return "", "", err
	}
	client, _, err := p.oauth(ctx, settings)
	if err != nil {
		return "", "", err
	}
	state := ssoState{State: newToken(), Nonce: newToken(), Verifier: oauth2.GenerateVerifier(), Issuer: settings.Issuer, ClientID: settings.ClientID,
		ReturnTo: LocalPath(returnTo), Until: time.Now().Add(ssoPatience).Unix()}
	text, err := json.Marshal(state)
	if err != nil {
		return "", "", err
	}
	cookie := base64.RawURLEncoding.EncodeToString(text)
	return client.AuthCodeURL(state.State, oidc.Nonce(state.Nonce), oauth2.S256ChallengeOption(state.Verifier)),
		cookie + "." + p.hash(kindState, cookie), nil
}

// SSOFinish begins a session for whom the provider sent back to SSOPath with query. returnTo
// is the path that SSOStart got; delete the state cookie whatever the outcome.
//
// A person is known by issuer and subject, the first time by a verified email. Somebody who
// was invited need not choose a password then. Errors are of code Malformed when the answer
// does not belong to this browser, Unauthenticated when the provider says no, Forbidden when
// the hub does, NotFound, or Unavailable.
func (p *People) SSOFinish(ctx context.Context, query url.Values, stateCookie string, o Origin) (in SignedIn, returnTo string, err error) {
	state, err := p.openState(stateCookie)
	if err != nil || subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(state.State)) != 1 {
		return SignedIn{}, "/", grantway.Errorf(grantway.Malformed, "this sign-in was not started in this browser, or took longer than 10 minutes; start again")
	}
	settings, err := p.settings(ctx)
	if err != nil {
		return SignedIn{}, state.ReturnTo, err
	}
	if iss := query.Get("iss"); settings.Issuer != state.Issuer || settings.ClientID != state.ClientID || iss != "" && iss != settings.Issuer { // RFC 9207 section 2.4
		return SignedIn{}, state.ReturnTo, anotherProvider()
	}
	if code := query.Get("error"); code != "" {
		return SignedIn{}, state.ReturnTo, providerSaysNo(code, query.Get("error_description"))
	}
	claims, err := p.claims(ctx, settings, state, query)
	if err != nil {
		return SignedIn{}, state.ReturnTo, err
	}
	in, err = p.admit(ctx, settings, claims, o)
	return in, state.ReturnTo, err
}

func (p *People) openState(cookie string) (state ssoState, err error) {
	cookie, mac, _ := strings.Cut(cookie, ".")
	if !hmac.Equal([]byte(mac), []byte(p.hash(kindState, cookie))) {
		return state, errors.New("not our cookie")
	}
	text, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return state, err
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return state, err
	}
	if time.Now().Unix() >= state.Until {
		return state, errors.New("too late")
	}
	return state, nil
}

func anotherProvider() error {
	return grantway.Errorf(grantway.Malformed, "the answer comes from another provider than the one that was asked; start again")
}

func providerSaysNo(code, description string) error {
	text := strings.ToValidUTF8(code, "")
	if description != "" {
		text += ": " + strings.ToValidUTF8(description, "")
	}
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return grantway.Errorf(grantway.Unauthenticated, "the provider did not sign you in (%s)", text)
}

func (p *People) settings(ctx context.Context) (*sso, error) {
	s, err := readSSO(ctx, p.Store.Read())
	if err != nil {
		return nil, &grantway.Error{Code: grantway.Unavailable, Message: "signing in is not possible now; try again in a moment", Err: err}
	}
	if s == nil || p.HTTP == nil {
		return nil, grantway.Errorf(grantway.NotFound, "single sign-on is not set up")
	}
	return s, nil
}

// oauth is the hub as a client of the provider.
func (p *People) oauth(ctx context.Context, s *sso) (*oauth2.Config, *oidc.Provider, error) {
	provider, err := p.provider.get(ctx, p.HTTP, s.Issuer)
	if err != nil {
		return nil, nil, unreachable(err)
	}
	client := &oauth2.Config{ClientID: s.ClientID, Endpoint: provider.Endpoint(), RedirectURL: p.URL() + SSOPath, Scopes: strings.Fields(s.Scopes)}
	client.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	if len(s.sealed) > 0 {
		secret, err := p.Sealer.Open(ssoSecretPlace, s.sealed)
		if err != nil {
			return nil, nil, err
		}
		client.ClientSecret = string(secret)
		var discovered struct {
			Methods []string `json:"token_endpoint_auth_methods_supported"`
		}
		if err := provider.Claims(&discovered); err != nil {
			return nil, nil, unreachable(err)
		}
		if discovered.Methods == nil || slices.Contains(discovered.Methods, "client_secret_basic") { // the default of Discovery section 3
			client.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
		}
	}
	return client, provider, nil
}

func unreachable(err error) error {
	return &grantway.Error{Code: grantway.Unavailable, Message: "the provider of single sign-on does not answer as it should; its administrator, or the log of this hub, may know why", Err: err}
}

// claims exchanges the code and returns what the provider says of the person: the ID token, and
// what the UserInfo endpoint adds to it.
func (p *People) claims(ctx context.Context, s *sso, state ssoState, query url.Values) (map[string]any, error) {
	client, provider, err := p.oauth(ctx, s)
	if err != nil {
		return nil, err
	}
	var discovered struct {
		NamesItself bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&discovered); err != nil {
		return nil, unreachable(err)
	}
	if discovered.NamesItself && query.Get("iss") == "" { // RFC 9207 section 2.4
		return nil, anotherProvider()
	}
	ctx = oidc.ClientContext(ctx, bounded(p.HTTP))
	token, err := client.Exchange(ctx, query.Get("code"), oauth2.VerifierOption(state.Verifier))
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.ErrorCode != "" {
		p.Log.Warn("the provider of single sign-on refused a code", "error", refused.ErrorCode, "status", refused.Response.StatusCode)
		return nil, providerSaysNo(refused.ErrorCode, refused.ErrorDescription)
	}
	if err != nil {
		return nil, unreachable(fmt.Errorf("exchanging the code: %w", err))
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, unreachable(errors.New("its answer holds no ID token"))
	}
	id, err := provider.Verifier(&oidc.Config{ClientID: s.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, unreachable(fmt.Errorf("ID token: %w", err))
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(state.Nonce)) != 1 || id.Subject == "" {
		return nil, grantway.Errorf(grantway.Malformed, "the ID token is not for this sign-in; start again")
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return nil, unreachable(fmt.Errorf("ID token: %w", err))
	}
	if provider.UserInfoEndpoint() == "" {
		return claims, nil
	}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, unreachable(fmt.Errorf("user info: %w", err))
	}
	if info.Subject != id.Subject { // OpenID Connect Core 1.0 section 5.3.2
		return nil, unreachable(errors.New("user info: of another subject than the ID token"))
	}
	more := map[string]any{}
	if err := info.Claims(&more); err != nil {
		return nil, unreachable(fmt.Errorf("user info: %w", err))
	}
	maps.Copy(more, claims) // what is signed counts
	return more, nil
}

// admit begins a session for the person of whom the provider says claims.
func (p *People) admit(ctx context.Context, s *sso, claims map[string]any, o Origin) (in SignedIn, err error) {
	text := func(claim string) string { v, _ := claims[claim].(string); return v }
	subject, email := text("sub"), strings.TrimSpace(text("email"))
	if verified := claims["email_verified"]; verified != true && verified != "true" && !s.TrustEmail || wrongEmail(email) != "" {
		email = ""
	}
	var refusal error // of who is known, which does not undo that his roles end
	var id string
	err = p.Store.Write(ctx, func(tx *store.Tx) error {
		refusal = nil
		if err := tx.Lock(ctx, topicPerson); err != nil {
			return err
		}
		one, err := findSubject(ctx, tx, s.Issuer, subject, email)
		if err != nil {
			return err
		}
		divisions, err := divisionNames(ctx, tx)
		if err != nil {
			return err
		}
		roles := s.rolesOf(claims, divisions)
		if one == nil {
			switch {
			case !s.CreatePeople:
				return grantway.Errorf(grantway.Forbidden, "nobody has invited you to this hub%s; ask an administrator", withEmail(email))
			case email == "":
				return grantway.Errorf(grantway.Forbidden, "the provider does not say that your e-mail address is verified; ask an administrator of this hub")
			case len(roles) == 0:
				return noRole()
			}
			name := strings.TrimSpace(text("name"))
			if wrongPersonName(name) != "" {
				name = ""
			}
			if one, err = insertPerson(ctx, tx, grantway.Person{Email: email, Name: name, Roles: roles}); err != nil {
				return err
			}
			event := grantway.Event{Action: "person.create", Object: "person/" + email, Fields: []string{"email", "name", "roles"}, Detail: rolesText(roles)}
			if err := p.Audit.Record(ctx, tx, one.caller(), event); err != nil {
				return err
			}
		}
		id = one.ID
		if !one.active {
			return deactivated()
		}
		if one.subject != subject || one.issuer != s.Issuer {
			if _, err := tx.ExecContext(ctx, `UPDATE person SET issuer = $1, subject = $2 WHERE id = $3`, s.Issuer, subject, id); err != nil {
				return fmt.Errorf("person %s: %w", id, err)
			}
			if err := deleteLinks(ctx, tx, id); err != nil {
				return err
			}
			tx.Changed(topicPerson, id)
		}
		if len(s.Rules) > 0 && !sameRoles(roles, one.Roles) {
			if err := p.follow(ctx, tx, one, roles); err != nil {
				return err
			}
		}
		if one, err = readPerson(ctx, tx, id, ""); err != nil {
			return err
		}
		if len(one.Roles) == 0 {
			refusal = noRole()
			return deleteSessions(ctx, tx, id)
		}
		in, err = p.begin(ctx, tx, one, methodSSO, o)
		return err
	})
	p.sessions.drop(id)
	p.holders.drop(id)
	if err == nil {
		err = refusal
	}
	p.counted(methodSSO, err)
	if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.Forbidden {
		p.Audit.Denied(ctx, Hub(), grantway.Event{Action: "person.sign_in", Object: "person/" + email, Detail: methodSSO})
	}
	return in, err
}

// follow gives a person the roles that the rules say. The last owner stays one.
func (p *People) follow(ctx context.Context, tx *store.Tx, old *person, roles []grantway.Assignment) error {
	if err := writePersonRoles(ctx, tx, old.ID, roles); err != nil {
		return err
	}
	now, err := readPerson(ctx, tx, old.ID, "")
	if err != nil {
		return err
	}
	if err := keepOwner(ctx, tx, old, now); err != nil {
		if e, ok := errors.AsType[*grantway.Error](err); !ok || e.Code != grantway.Conflict {
			return err
		}
		p.Log.Warn("the rules of single sign-on would leave this hub without an owner, and were not followed", "person", old.Email)
		return writePersonRoles(ctx, tx, old.ID, old.Roles)
	}
	tx.Changed(topicPerson, old.ID)
	return p.Audit.Record(ctx, tx, old.caller(), grantway.Event{Action: "person.update", Object: "person/" + old.Email,
		Fields: []string{"roles"}, Detail: "by the rules of single sign-on: was " + rolesText(old.Roles) + "; is " + rolesText(roles)})
}

// findSubject returns the person whom the provider knows as subject, or who has this verified
// email and is not yet somebody at this provider; nil when there is none.
func findSubject(ctx context.Context, tx *store.Tx, issuer, subject, email string) (*person, error) {
	var ids []string
	rows, err := tx.QueryContext(ctx, `SELECT id FROM person WHERE issuer = $1 AND subject = $2`, issuer, subject)
	if err != nil {
		return nil, fmt.Errorf("person of subject: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("person of subject: %w", err)
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("person of subject: %w", err)
	}
	if ids != nil {
		return readPerson(ctx, tx, ids[0], "")
	}
	if email == "" {
		return nil, nil
	}
	one, err := readPerson(ctx, tx, "", email)
	if err == nil && one != nil && one.subject != "" && one.issuer == issuer {
		return nil, grantway.Errorf(grantway.Forbidden, "the account of %s belongs to somebody else at the provider; ask an administrator of this hub", email)
	}
	return one, err
}

func withEmail(email string) string {
	if email == "" {
		return ""
	}
	return " as " + email
}

func noRole() error {
	return grantway.Errorf(grantway.Forbidden, "by the rules of this hub you have no role in it; ask an administrator")
}

// providers keeps what a provider says of itself, for an hour. That it says nothing is kept
// for some seconds: it is strangers who press the button.
type providers struct {
	asking singleflight.Group
	mu     sync.Mutex
	last   discovery // guarded by mu
}

type discovery struct {
	issuer   string
	provider *oidc.Provider
	err      error
	until    time.Time
}

func (c *providers) get(ctx context.Context, client *http.Client, issuer string) (*oidc.Provider, error) {
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last.issuer == issuer && time.Now().Before(last.until) {
		return last.provider, last.err
	}
	asking := c.asking.DoChan(issuer, func() (any, error) {
		// The provider keeps this ctx to fetch keys with later on, so it does not end; the
		// client bounds each exchange.
		ctx := oidc.ClientContext(context.WithoutCancel(ctx), bounded(client))
		found := discovery{issuer: issuer}
		if found.provider, found.err = oidc.NewProvider(ctx, issuer); found.err != nil {
			found.err = fmt.Errorf("discovery: %w", found.err)
			found.until = time.Now().Add(5 * time.Second)
		} else {
			found.until = time.Now().Add(time.Hour)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.last = found
		return found.provider, found.err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-asking:
		provider, _ := got.Val.(*oidc.Provider)
		return provider, got.Err
	}
}

// bounded is client with answers of at most 1 MiB.
func bounded(client *http.Client) *http.Client {
	limited := *client
	limited.Transport = limitedTransport{client.Transport}
	return &limited
}

type limitedTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(answer.Body, 1<<20), answer.Body}
	}
	return answer, err
}

// LocalPath returns path if it is one of the hub's own, with its query; else "/". What comes
// after sign-in is never somebody else's page.
func LocalPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") ||
		strings.ContainsFunc(path, func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f }) {
		return "/"
	}
	return path
}
