package api

import (
	"net/http"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

func (a *API) listPeople(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	return a.People.List(r.Context(), who, r.URL.Query().Get("cursor"), limit)
}

func (a *API) invitePerson(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var one grantway.Person
	if err := decode(r, &one, false); err != nil {
		return nil, err
	}
	invited, err := a.People.Invite(r.Context(), who, one)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Location", "/v1/people/"+invited.Person.ID)
	return invited, nil
}

func (a *API) getPerson(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.People.Get(r.Context(), who, r.PathValue("id"))
}

func (a *API) updatePerson(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var one grantway.Person
	if err := decode(r, &one, false); err != nil {
		return nil, err
	}
	one.ID = r.PathValue("id")
	return a.People.Update(r.Context(), who, one)
}

func (a *API) renewLink(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.People.Renew(r.Context(), who, r.PathValue("id"))
}

func (a *API) activatePerson(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.People.Activate(r.Context(), who, r.PathValue("id"))
}

func (a *API) deactivatePerson(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.People.Deactivate(r.Context(), who, r.PathValue("id"))
}

func (a *API) listSessions(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	sessions, err := a.People.Sessions(r.Context(), who, r.PathValue("id"))
	return grantway.Page[grantway.Session]{Items: sessions}, err
}

// endSession ends all sessions when the path names none.
func (a *API) endSession(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return nil, a.People.RevokeSession(r.Context(), who, r.PathValue("id"), r.PathValue("session"))
}

func (a *API) getSSO(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.People.SSO(r.Context(), who)
}

func (a *API) setSSO(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var s grantway.SingleSignOn
	if err := decode(r, &s, false); err != nil {
		return nil, err
	}
	return a.People.SetSSO(r.Context(), who, s)
}

func (a *API) deleteSSO(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return nil, a.People.DeleteSSO(r.Context(), who)
}
