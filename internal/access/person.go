package access

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// Paths of the console that links and providers lead to.
const (
	SetupPath      = "/setup/"      // followed by the token
	InvitationPath = "/invitation/" // followed by the token
	SSOPath        = "/sign-in/sso/callback"
)

// PeopleOptions are what People works with. Store, Sealer, Audit and URL are required.
type PeopleOptions struct {
	Store  *store.Store
	Sealer *seal.Sealer
	Audit  *Log
	URL    func() string // how people reach the hub, without a slash at the end
	HTTP   *http.Client  // asks the OpenID provider; nil: no single sign-on

	Idle     time.Duration // ends a session that is not used for so long; 0 is one hour
	Absolute time.Duration // ends any session; 0 is 12 hours

	Log *slog.Logger // nil discards
}

// People are those who sign in to the console, and their sessions.
type People struct{ PeopleOptions }

// NewPeople returns the people in o.Store.
func NewPeople(ctx context.Context, o PeopleOptions) (*People, error) { return &People{o}, nil }

// Start follows the changes that other replicas make.
func (p *People) Start(ctx context.Context) error { return nil }

// Stop ends background work.
func (p *People) Stop(ctx context.Context) error { return nil }

// SetupLink returns a link with which the first person makes the owner account; ok is
// false when there is somebody already. It is good for 24 hours.
func (p *People) SetupLink(ctx context.Context) (link string, ok bool, err error) {
	return "", false, errors.ErrUnsupported
}

// CheckSetup says whether token is that of a set-up link that is still good.
func (p *People) CheckSetup(ctx context.Context, token string) error { return errors.ErrUnsupported }

// Setup makes the owner account.
func (p *People) Setup(ctx context.Context, token, name, email, password string) (grantway.Person, error) {
	return grantway.Person{}, errors.ErrUnsupported
}

// Invite adds a person and makes the link with which it chooses a password.
func (p *People) Invite(ctx context.Context, who Caller, person grantway.Person) (grantway.Invitation, error) {
	return grantway.Invitation{}, errors.ErrUnsupported
}

// Renew makes another link: for an invitation that was lost, or a password that was.
func (p *People) Renew(ctx context.Context, who Caller, id string) (grantway.Invitation, error) {
	return grantway.Invitation{}, errors.ErrUnsupported
}

// Invited returns whom the token of an invitation is for.
func (p *People) Invited(ctx context.Context, token string) (grantway.Person, error) {
	return grantway.Person{}, errors.ErrUnsupported
}

// Accept sets the password of the person whom the token is for, and the name if it is not "".
func (p *People) Accept(ctx context.Context, token, name, password string) (grantway.Person, error) {
	return grantway.Person{}, errors.ErrUnsupported
}

// List returns a page of people by email.
func (p *People) List(ctx context.Context, who Caller, cursor string, limit int) (grantway.Page[grantway.Person], error) {
	return grantway.Page[grantway.Person]{}, errors.ErrUnsupported
}

// Get returns a person by id or email.
func (p *People) Get(ctx context.Context, who Caller, ref string) (grantway.Person, error) {
	return grantway.Person{}, errors.ErrUnsupported
}

// Update changes the name and the roles of the person with person.ID.
func (p *People) Update(ctx context.Context, who Caller, person grantway.Person) (grantway.Person, error) {
	return grantway.Person{}, errors.ErrUnsupported
}

// Activate lets a person in again.
func (p *People) Activate(ctx context.Context, who Caller, id string) (grantway.Person, error) {
	return grantway.Person{}, errors.ErrUnsupported
}

// Deactivate keeps a person out, and ends its sessions.
func (p *People) Deactivate(ctx context.Context, who Caller, id string) (grantway.Person, error) {
	return grantway.Person{}, errors.ErrUnsupported
}

// Origin is where a sign-in comes from.
type Origin struct {
	From      netip.Addr
	UserAgent string
	Device    string // the device cookie that an earlier SignedIn gave; "" when there is none
}

// SignedIn is a session that has just begun.
type SignedIn struct {
	Person    grantway.Person
	Token     string    // for the session cookie
	Device    string    // for the device cookie, to be kept for a year; "" leaves it as it is
	ExpiresAt time.Time // at the latest
}

// SignIn begins a session.
func (p *People) SignIn(ctx context.Context, email, password string, o Origin) (SignedIn, error) {
	return SignedIn{}, errors.ErrUnsupported
}

// Session returns whose session the token is. The error is of code Unauthenticated, or Unavailable.
func (p *People) Session(ctx context.Context, token string) (Caller, grantway.Session, error) {
	return Caller{}, grantway.Session{}, errors.ErrUnsupported
}

// SignOut ends the session of a token.
func (p *People) SignOut(ctx context.Context, token string) error { return errors.ErrUnsupported }

// Sessions returns the sessions of a person, the newest first.
func (p *People) Sessions(ctx context.Context, who Caller, person string) ([]grantway.Session, error) {
	return nil, errors.ErrUnsupported
}

// RevokeSession ends one session of a person, or all of them when session is "".
func (p *People) RevokeSession(ctx context.Context, who Caller, person, session string) error {
	return errors.ErrUnsupported
}

// ChangePassword changes the password of the person whose session token is, and ends its other sessions.
func (p *People) ChangePassword(ctx context.Context, token, old, password string) error {
	return errors.ErrUnsupported
}

// SSO returns the settings of single sign-on. NotFound when there are none.
func (p *People) SSO(ctx context.Context, who Caller) (grantway.SingleSignOn, error) {
	return grantway.SingleSignOn{}, errors.ErrUnsupported
}

// SetSSO replaces the settings of single sign-on.
func (p *People) SetSSO(ctx context.Context, who Caller, s grantway.SingleSignOn) (grantway.SingleSignOn, error) {
	return grantway.SingleSignOn{}, errors.ErrUnsupported
}

// DeleteSSO ends single sign-on.
func (p *People) DeleteSSO(ctx context.Context, who Caller) error { return errors.ErrUnsupported }

// SSOName is what the button on the sign-in page says; ok is false when there is no single sign-on.
func (p *People) SSOName(ctx context.Context) (name string, ok bool, err error) {
	return "", false, errors.ErrUnsupported
}

// SSOStart returns where to send the browser, and the value of a cookie that SSOFinish
// wants back: HttpOnly, SameSite=Lax, for 10 minutes. returnTo is a path of the console.
func (p *People) SSOStart(ctx context.Context, returnTo string) (redirectURL, stateCookie string, err error) {
	return "", "", errors.ErrUnsupported
}

// SSOFinish begins a session for whom the provider sent back to SSOPath with query.
func (p *People) SSOFinish(ctx context.Context, query url.Values, stateCookie string, o Origin) (in SignedIn, returnTo string, err error) {
	return SignedIn{}, "/", errors.ErrUnsupported
}

// LocalPath returns path if it is one of the hub's own, with its query; else "/".
func LocalPath(path string) string { return "/" }
