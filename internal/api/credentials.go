package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

func (a *API) listCredentials(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	return a.Broker.List(r.Context(), who, r.URL.Query().Get("connector"), r.URL.Query().Get("cursor"), limit)
}

func (a *API) createCredential(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var c grantway.Credential
	if err := decode(r, &c, false); err != nil {
		return nil, err
	}
	key := r.Header.Get("Idempotency-Key")
	if len(key) > 255 || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, grantway.Errorf(grantway.Malformed, "the Idempotency-Key header must be at most 255 printable ASCII characters")
	}
	c, err := a.Broker.Create(r.Context(), who, c, key)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Location", "/v1/credentials/"+c.Name)
	w.Header().Set("ETag", etag(c.Version))
	return c, nil
}

func (a *API) getCredential(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	c, err := a.Broker.Get(r.Context(), who, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	w.Header().Set("ETag", etag(c.Version))
	if notModified(r, c.Version) {
		w.WriteHeader(http.StatusNotModified)
		return handled{}, nil
	}
	return c, nil
}

func (a *API) replaceCredential(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var c grantway.Credential
	if err := decode(r, &c, false); err != nil {
		return nil, err
	}
	old, err := a.Broker.Get(r.Context(), who, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return a.saveCredential(w, r, who, old, c)
}

func (a *API) changeCredential(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	patch, err := readBody(r)
	if err != nil {
		return nil, err
	}
	old, err := a.Broker.Get(r.Context(), who, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	c, err := merge(old, patch)
	if err != nil {
		return nil, err
	}
	return a.saveCredential(w, r, who, old, c)
}

// saveCredential stores c as the next version of old. The version comes from If-Match; a
// version in the body counts as well, so that what was read can be sent back as it is.
func (a *API) saveCredential(w http.ResponseWriter, r *http.Request, who access.Caller, old, c grantway.Credential) (any, error) {
	version, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	if version != 0 {
		c.Version = version
	}
	c.ID = old.ID
	if c.Connector == "" {
		c.Connector = old.Connector
	}
	if c, err = a.Broker.Save(r.Context(), who, c); err != nil {
		return nil, err
	}
	w.Header().Set("ETag", etag(c.Version))
	return c, nil
}

// merge applies a merge patch (RFC 7396) to old. An input is replaced whole, since the
// members of a value have no meaning on their own; null removes it.
func merge(old grantway.Credential, patch []byte) (grantway.Credential, error) {
	c := old
	c.Inputs = nil
	if err := decodeJSON(patch, &c); err != nil {
		return old, err
	}
	var members map[string]json.RawMessage
	if err := decodeJSON(patch, &members); err != nil {
		return old, err
	}
	if members == nil {
		return old, wrong("", "must be an object, not null")
	}
	inputs := maps.Clone(old.Inputs)
	for member, value := range members {
		if string(value) != "null" {
			continue
		}
		switch strings.ToLower(member) { // as encoding/json takes it
		case "name":
			c.Name = ""
		case "description":
			c.Description = ""
		case "division":
			c.Division = ""
		case "time_zone":
			c.TimeZone = ""
		case "inputs":
			clear(inputs)
		}
	}
	maps.Copy(inputs, c.Inputs)
	c.Inputs = inputs
	return c, nil
}

func (a *API) deleteCredential(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	version, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	return nil, a.Broker.Delete(r.Context(), who, r.PathValue("name"), version)
}

func (a *API) validateDraft(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var c grantway.Credential
	if err := decode(r, &c, false); err != nil {
		return nil, err
	}
	if c.ID == "" && c.Inputs == nil {
		c.Inputs = grantway.Inputs{}
	}
	return a.Broker.Validate(r.Context(), who, c)
}

func (a *API) validateCredential(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var c grantway.Credential
	if err := decode(r, &c, true); err != nil {
		return nil, err
	}
	c.ID = r.PathValue("name")
	return a.Broker.Validate(r.Context(), who, c)
}

func (a *API) credentialStatus(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.Broker.Status(r.Context(), who, r.PathValue("name"))
}
