package grantway

import "time"

// Person is somebody who signs in to the console.
type Person struct {
	// ID is assigned by the hub and never changes. Ignored on writes.
	ID string `json:"id,omitempty"`

	// Email is what a person signs in with, unique without regard to case. It is given with
	// the invitation and does not change later.
	Email string `json:"email"`

	// Name is at most 100 characters. Whoever is invited may correct it.
	Name  string       `json:"name,omitempty"`
	Roles []Assignment `json:"roles"`

	// The rest is only in answers.

	State        PersonState `json:"state,omitempty"`
	Password     bool        `json:"password,omitempty"`       // signs in with a password
	SingleSignOn bool        `json:"single_sign_on,omitempty"` // has signed in by way of the provider
	CreatedAt    time.Time   `json:"created_at,omitzero"`
	LastSignIn   time.Time   `json:"last_sign_in,omitzero"`
}

// PersonState says whether a person may sign in.
type PersonState string

// The values of PersonState.
const (
	Invited     PersonState = "invited"     // has not signed in yet; see Invitation
	Active      PersonState = "active"      // may sign in
	Deactivated PersonState = "deactivated" // may not, until activated again
)

// Invitation is a link with which one person chooses a password, once: the first one, or
// another one when that was lost. Whoever has the link is that person, so hand it over
// like a password. A new one replaces it.
type Invitation struct {
	Person    Person    `json:"person"`
	Link      string    `json:"link"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Session is one browser in which a person is signed in.
type Session struct {
	ID        string    `json:"id"`
	Method    string    `json:"method"`         // password or single_sign_on
	From      string    `json:"from,omitempty"` // address at sign-in
	UserAgent string    `json:"user_agent,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	SeenAt    time.Time `json:"seen_at"`    // to the minute
	ExpiresAt time.Time `json:"expires_at"` // if it is used up to then; earlier when it is not
}

// SingleSignOn are the settings of signing in by way of an OpenID provider. Its redirect
// URI for the hub is in RedirectURI.
type SingleSignOn struct {
	Name     string `json:"name"`   // on the button, such as "Contoso"; at most 100 characters
	Issuer   string `json:"issuer"` // where the provider describes itself (OpenID Connect Discovery 1.0)
	ClientID string `json:"client_id"`

	// ClientSecret is never shown; none is a public client. A write that leaves it out keeps
	// it, as long as Issuer and ClientID stay.
	ClientSecret Value `json:"client_secret,omitzero"`

	// Scopes is what is asked for, separated by spaces; "openid email profile" when empty.
	Scopes string `json:"scopes,omitempty"`

	// Rules give roles by what the provider says of a person, each time the person signs
	// in that way. No rules: roles are given by hand. Some rules, of which none fits: the
	// person may not sign in.
	Rules []RoleRule `json:"rules,omitempty"`

	// CreatePeople lets in whom nobody has invited.
	CreatePeople bool `json:"create_people,omitempty"`

	// TrustEmail takes the provider's word for e-mail addresses that it does not call verified.
	TrustEmail bool `json:"trust_email,omitempty"`

	RedirectURI string `json:"redirect_uri,omitempty"` // to be registered at the provider; only in answers
}

// RoleRule gives a role to those of whom a claim says something.
type RoleRule struct {
	Claim    string `json:"claim"` // such as groups, or realm_access.roles
	Value    string `json:"value"` // what it says, or has in its list; "*" is anything
	Role     string `json:"role"`
	Division string `json:"division"` // "*" is all divisions
}
