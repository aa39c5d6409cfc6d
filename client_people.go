package grantway

import (
	"context"
	"iter"
	"net/http"
	"net/url"
)

// People iterates over the people who sign in to the console, by email.
func (c *Client) People(ctx context.Context) iter.Seq2[Person, error] {
	return all[Person](ctx, c, "/v1/people", nil)
}

// Person returns a person by id or email.
func (c *Client) Person(ctx context.Context, ref string) (Person, error) {
	return call[Person](ctx, c, http.MethodGet, personPath(ref, ""), nil, nil)
}

// InvitePerson adds a person. The answer holds the link to choose a password with, once.
func (c *Client) InvitePerson(ctx context.Context, in Person) (Invitation, error) {
	return call[Invitation](ctx, c, http.MethodPost, "/v1/people", nil, in)
}

// RenewInvitation makes another link for the person with this id, also when a password was lost.
func (c *Client) RenewInvitation(ctx context.Context, id string) (Invitation, error) {
	return call[Invitation](ctx, c, http.MethodPost, personPath(id, "/link"), nil, nil)
}

// UpdatePerson changes the name and the roles of the person with in.ID.
func (c *Client) UpdatePerson(ctx context.Context, in Person) (Person, error) {
	return call[Person](ctx, c, http.MethodPut, personPath(in.ID, ""), nil, in)
}

// ActivatePerson lets the person with this id in again.
func (c *Client) ActivatePerson(ctx context.Context, id string) (Person, error) {
	return call[Person](ctx, c, http.MethodPost, personPath(id, "/activate"), nil, nil)
}

// DeactivatePerson keeps the person with this id out, and ends all of its sessions.
func (c *Client) DeactivatePerson(ctx context.Context, id string) (Person, error) {
	return call[Person](ctx, c, http.MethodPost, personPath(id, "/deactivate"), nil, nil)
}

// PersonSessions returns the sessions of the person with this id, the newest first.
func (c *Client) PersonSessions(ctx context.Context, id string) ([]Session, error) {
	page, err := call[Page[Session]](ctx, c, http.MethodGet, personPath(id, "/sessions"), nil, nil)
	return page.Items, err
}

// EndSessions ends one session of the person with this id, or all when session is "".
func (c *Client) EndSessions(ctx context.Context, id, session string) error {
	path := personPath(id, "/sessions")
	if session != "" {
		path += "/" + url.PathEscape(session)
	}
	_, err := call[struct{}](ctx, c, http.MethodDelete, path, nil, nil)
	return err
}

// SingleSignOn returns the settings of single sign-on.
func (c *Client) SingleSignOn(ctx context.Context) (SingleSignOn, error) {
	return call[SingleSignOn](ctx, c, http.MethodGet, "/v1/sso", nil, nil)
}

// SetSingleSignOn replaces the settings of single sign-on.
func (c *Client) SetSingleSignOn(ctx context.Context, in SingleSignOn) (SingleSignOn, error) {
	return call[SingleSignOn](ctx, c, http.MethodPut, "/v1/sso", nil, in)
}

// DeleteSingleSignOn ends single sign-on.
func (c *Client) DeleteSingleSignOn(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/v1/sso", nil, nil)
	return err
}

func personPath(ref, rest string) string { return "/v1/people/" + url.PathEscape(ref) + rest }
