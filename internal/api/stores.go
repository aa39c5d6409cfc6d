package api

import (
	"net/http"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

func (a *API) listStores(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	list, err := a.Secrets.List(r.Context(), who)
	return grantway.Page[grantway.SecretStore]{Items: list}, err
}

func (a *API) createStore(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var in grantway.SecretStore
	if err := decode(r, &in, false); err != nil {
		return nil, err
	}
	in.Version = 0
	saved, err := a.Secrets.Save(r.Context(), who, "", in)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Location", "/v1/secret-stores/"+saved.Name)
	w.Header().Set("ETag", etag(saved.Version))
	return saved, nil
}

func (a *API) getStore(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	one, err := a.Secrets.Get(r.Context(), who, r.PathValue("name"))
	if err == nil && one.Version != 0 {
		w.Header().Set("ETag", etag(one.Version))
	}
	return one, err
}

func (a *API) replaceStore(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var in grantway.SecretStore
	if err := decode(r, &in, false); err != nil {
		return nil, err
	}
	version, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	if version != 0 {
		in.Version = version
	}
	saved, err := a.Secrets.Save(r.Context(), who, r.PathValue("name"), in)
	if err != nil {
		return nil, err
	}
	w.Header().Set("ETag", etag(saved.Version))
	return saved, nil
}

func (a *API) deleteStore(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	version, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	return nil, a.Secrets.Delete(r.Context(), who, r.PathValue("name"), version)
}

func (a *API) testStore(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var key grantway.SecretRef
	if err := decode(r, &key, true); err != nil {
		return nil, err
	}
	return a.Secrets.Test(r.Context(), who, r.PathValue("name"), key)
}

// storeTest is the body of testSecretStoreDraft.
type storeTest struct {
	grantway.SecretStore
	Read *grantway.SecretRef `json:"read,omitempty"` // a secret to read; its store is this one
}

func (a *API) testStoreDraft(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var in storeTest
	if err := decode(r, &in, false); err != nil {
		return nil, err
	}
	if in.Read == nil {
		in.Read = &grantway.SecretRef{}
	}
	return a.Secrets.TestDraft(r.Context(), who, in.SecretStore, *in.Read)
}
