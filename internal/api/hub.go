package api

import (
	"context"
	"net/http"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

func (a *API) listDivisions(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	divisions, err := a.Divisions.List(r.Context(), who)
	return grantway.Page[grantway.Division]{Items: divisions}, err
}

func (a *API) createDivision(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var d grantway.Division
	if err := decode(r, &d, false); err != nil {
		return nil, err
	}
	return d, a.Divisions.Create(r.Context(), who, d)
}

func (a *API) deleteDivision(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return nil, a.Divisions.Delete(r.Context(), who, r.PathValue("name"))
}

func (a *API) listEvents(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := access.Filter{Action: q.Get("action"), Caller: q.Get("caller"), Object: q.Get("object"), Outcome: q.Get("outcome")}
	var fields []grantway.Field
	for name, into := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		text := q.Get(name)
		if text == "" {
			continue
		}
		if *into, err = time.Parse(time.RFC3339, text); err != nil {
			fields = append(fields, grantway.Field{Pointer: "/" + name, Detail: "must be a time such as 2027-01-31T12:00:00Z"})
		}
	}
	if fields != nil {
		return nil, &grantway.Error{Code: grantway.Invalid, Message: "a query parameter is wrong", Fields: fields}
	}
	return a.Audit.List(r.Context(), who, f, q.Get("cursor"), limit)
}

func (a *API) hubStatus(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	if err := a.Audit.RequireSomewhere(r.Context(), who, access.ReadStatus, grantway.Event{Action: "hub.status"}); err != nil {
		return nil, err
	}
	schema, err := a.Store.Status(r.Context())
	if err != nil {
		return nil, err
	}
	return grantway.HubStatus{
		Version: a.Version, URL: a.URL(), Caller: who.Name, Database: schema.Database, Schema: schema.Version,
		Credentials: a.Broker.Count(), StartedAt: a.Started,
	}, nil
}

func (a *API) rotateKey(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	n, err := a.Rotate(r.Context(), who)
	return grantway.KeyRotation{Resealed: n}, err
}

func (a *API) healthz(http.ResponseWriter, *http.Request, access.Caller) (any, error) {
	return condition{"ok"}, nil
}

func (a *API) readyz(_ http.ResponseWriter, r *http.Request, _ access.Caller) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := a.Store.Ping(ctx); err != nil {
		return nil, &grantway.Error{Code: grantway.Unavailable, Message: "the database does not answer; tokens in memory are still served", Err: err}
	}
	return condition{"ok"}, nil
}

// metrics serves Prometheus. Names of credentials are in there, so whoever asks needs a token
// like for anything else; Prometheus can get one (oauth2 in its scrape configuration).
func (a *API) metrics(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	if err := a.Audit.Require(r.Context(), who, access.ReadStatus, access.Everywhere, grantway.Event{Action: "metrics.read"}); err != nil {
		return nil, err
	}
	a.Metrics.ServeHTTP(w, r)
	return handled{}, nil
}

// handled is returned by a handler that has written its answer itself.
type handled struct{}
