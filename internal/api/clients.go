package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/issuer"
)

func (a *API) listClients(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	deleted := r.URL.Query().Get("deleted")
	if deleted != "" && deleted != "true" && deleted != "false" {
		return nil, wrong("/deleted", "must be true or false")
	}
	return a.Issuer.Clients(r.Context(), who, deleted == "true", r.URL.Query().Get("cursor"), limit)
}

func (a *API) createClient(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var c grantway.OAuthClient
	if err := decode(r, &c, false); err != nil {
		return nil, err
	}
	c, err := a.Issuer.CreateClient(r.Context(), who, c)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Location", "/v1/clients/"+c.ID)
	w.Header().Set("ETag", etag(c.Version))
	return c, nil
}

func (a *API) getClient(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	c, err := a.Issuer.Client(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	w.Header().Set("ETag", etag(c.Version))
	return c, nil
}

func (a *API) replaceClient(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var c grantway.OAuthClient
	if err := decode(r, &c, false); err != nil {
		return nil, err
	}
	return a.saveClient(w, r, who, c)
}

// changeClient changes single members by JSON merge patch (RFC 7396). A list is replaced whole.
func (a *API) changeClient(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	patch, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if err := decodeJSON(patch, &grantway.OAuthClient{}); err != nil { // says what is wrong in the caller's words
		return nil, err
	}
	old, err := a.Issuer.Client(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	var members, changes map[string]json.RawMessage
	text, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	if err := decodeJSON(patch, &changes); err != nil {
		return nil, err
	}
	for name, value := range changes {
		if members[name] = value; string(value) == "null" {
			delete(members, name)
		}
	}
	if text, err = json.Marshal(members); err != nil {
		return nil, err
	}
	var c grantway.OAuthClient
	if err := decodeJSON(text, &c); err != nil {
		return nil, err
	}
	if c.Credentials == nil { // removed, and not left out
		c.Credentials = []grantway.CredentialUse{}
	}
	return a.saveClient(w, r, who, c)
}

// saveClient stores c in the place of the client that the path names. The version comes from
// If-Match; one in the body counts as well.
func (a *API) saveClient(w http.ResponseWriter, r *http.Request, who access.Caller, c grantway.OAuthClient) (any, error) {
	version, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	if version != 0 {
		c.Version = version
	}
	c.ID = r.PathValue("id")
	if c, err = a.Issuer.UpdateClient(r.Context(), who, c); err != nil {
		return nil, err
	}
	w.Header().Set("ETag", etag(c.Version))
	return c, nil
}

func (a *API) deleteClient(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return nil, a.Issuer.DeleteClient(r.Context(), who, r.PathValue("id"))
}

func (a *API) restoreClient(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.Issuer.RestoreClient(r.Context(), who, r.PathValue("id"))
}

func (a *API) activateClient(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.setClientActive(r, who, true)
}

func (a *API) deactivateClient(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return a.setClientActive(r, who, false)
}

func (a *API) setClientActive(r *http.Request, who access.Caller, active bool) (any, error) {
	if err := a.Issuer.SetActive(r.Context(), who, r.PathValue("id"), active); err != nil {
		return nil, err
	}
	return a.Issuer.Client(r.Context(), who, r.PathValue("id"))
}

func (a *API) resetClient(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var how grantway.SecretReset
	if err := decode(r, &how, true); err != nil {
		return nil, err
	}
	return a.Issuer.ResetSecret(r.Context(), who, r.PathValue("id"), how)
}

func (a *API) revokeClientTokens(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return nil, a.Issuer.RevokeTokens(r.Context(), who, r.PathValue("id"))
}

func (a *API) listClientSecrets(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	all, err := a.Issuer.Secrets(r.Context(), who, r.PathValue("id"))
	return grantway.Page[grantway.ClientSecret]{Items: all}, err
}

func (a *API) addClientSecret(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var n grantway.NewSecret
	if err := decode(r, &n, true); err != nil {
		return nil, err
	}
	return a.Issuer.AddSecret(r.Context(), who, r.PathValue("id"), n)
}

func (a *API) revokeClientSecret(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return nil, a.Issuer.RevokeSecret(r.Context(), who, r.PathValue("id"), r.PathValue("secret"))
}

// clientUsage counts from 30 days ago if nothing else is asked for.
func (a *API) clientUsage(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	q := r.URL.Query()
	since := time.Now().AddDate(0, 0, -30)
	if text := q.Get("since"); text != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, wrong("/since", "must be a time such as 2027-01-31T12:00:00Z")
		}
	}
	if u := q.Get("unused"); u != "" && u != "true" && u != "false" {
		return nil, wrong("/unused", "must be true or false")
	}
	all, err := a.Issuer.Usage(r.Context(), who, since, q.Get("unused") == "true")
	return grantway.Page[grantway.ClientUsage]{Items: all}, err
}

func (a *API) listQuestions(http.ResponseWriter, *http.Request, access.Caller) (any, error) {
	return grantway.Page[grantway.Question]{Items: issuer.Questions()}, nil
}

func (a *API) adviseGrant(_ http.ResponseWriter, r *http.Request, _ access.Caller) (any, error) {
	var asked grantway.Advice
	if err := decode(r, &asked, false); err != nil {
		return nil, err
	}
	return issuer.Advise(asked.Answers)
}

func (a *API) listSigningKeys(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	all, err := a.Issuer.SigningKeys(r.Context(), who)
	return grantway.Page[grantway.SigningKey]{Items: all}, err
}

func (a *API) rotateSigningKeys(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	all, err := a.Issuer.RotateSigningKeys(r.Context(), who)
	return grantway.Page[grantway.SigningKey]{Items: all}, err
}

func (a *API) removeSigningKey(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	return nil, a.Issuer.RemoveSigningKey(r.Context(), who, r.PathValue("kid"))
}

// me is the person who asks. A client is nobody, whatever its roles are.
func (a *API) me(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	if who.Kind != access.Person {
		return nil, grantway.Errorf(grantway.Forbidden, "not available without a person: this token is the client's own; use the authorization code grant to act for somebody")
	}
	return a.People.Get(r.Context(), who, who.ID)
}
