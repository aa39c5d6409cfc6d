package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
)

func (a *API) listConnectors(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	return a.Connectors.List(r.Context(), who, grantway.ConnectorQuery{Search: q.Get("q"), Category: q.Get("category"), Source: q.Get("source")}, q.Get("cursor"), limit)
}

func (a *API) createConnector(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	text, err := definitionOf(r, nil)
	if err != nil {
		return nil, err
	}
	saved, err := a.Connectors.Create(r.Context(), who, text)
	if err != nil {
		return nil, err
	}
	return connectorCreated(w, saved), nil
}

func (a *API) copyConnector(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var to newName
	if err := decode(r, &to, false); err != nil {
		return nil, err
	}
	saved, err := a.Connectors.Copy(r.Context(), who, r.PathValue("name"), to.Name)
	if err != nil {
		return nil, err
	}
	return connectorCreated(w, saved), nil
}

// newName is the body of a request for a copy.
type newName struct {
	Name string `json:"name"`
}

func connectorCreated(w http.ResponseWriter, saved grantway.Connector) grantway.Connector {
	w.Header().Set("Location", "/v1/connectors/"+saved.Name)
	w.Header().Set("ETag", etag(saved.Revision))
	return saved
}

func (a *API) getConnector(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	one, err := a.Connectors.Get(r.Context(), who, r.PathValue("name"), 0)
	if err != nil || one.Revision == 0 {
		return one, err
	}
	w.Header().Set("ETag", etag(one.Revision))
	if notModified(r, one.Revision) {
		w.WriteHeader(http.StatusNotModified)
		return handled{}, nil
	}
	return one, nil
}

func (a *API) replaceConnector(w http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	old, err := a.Connectors.Get(r.Context(), who, r.PathValue("name"), 0)
	if err != nil {
		return nil, err
	}
	text, err := definitionOf(r, []byte(old.YAML))
	if err != nil {
		return nil, err
	}
	revision, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	newVersion := false
	if v := r.URL.Query().Get("new_version"); v != "" {
		if newVersion, err = strconv.ParseBool(v); err != nil {
			return nil, wrong("/new_version", "must be true or false")
		}
	}
	saved, err := a.Connectors.Save(r.Context(), who, old.Name, text, revision, newVersion)
	if err != nil {
		return nil, err
	}
	w.Header().Set("ETag", etag(saved.Revision))
	return saved, nil
}

func (a *API) deleteConnector(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	revision, err := ifMatch(r)
	if err != nil {
		return nil, err
	}
	return nil, a.Connectors.Delete(r.Context(), who, r.PathValue("name"), revision)
}

func (a *API) listConnectorVersions(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	list, err := a.Connectors.Versions(r.Context(), who, r.PathValue("name"))
	return grantway.Page[grantway.Connector]{Items: list}, err
}

func (a *API) getConnectorVersion(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	version, err := strconv.ParseInt(r.PathValue("version"), 10, 64)
	if err != nil || version < 1 {
		return nil, grantway.Errorf(grantway.NotFound, "versions are whole numbers from 1 on")
	}
	return a.Connectors.Get(r.Context(), who, r.PathValue("name"), version)
}

func (a *API) checkConnector(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	text, _, err := readDefinition(r)
	if err != nil {
		return nil, err
	}
	return a.Connectors.Check(r.Context(), who, text)
}

func (a *API) previewConnector(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var draft grantway.ConnectorDraft
	if err := decode(r, &draft, false); err != nil {
		return nil, err
	}
	return a.Broker.Show(r.Context(), who, draft)
}

func (a *API) tryConnector(_ http.ResponseWriter, r *http.Request, who access.Caller) (any, error) {
	var draft grantway.ConnectorDraft
	if err := decode(r, &draft, false); err != nil {
		return nil, err
	}
	return a.Broker.Try(r.Context(), who, draft)
}

// connectorSchema serves the JSON Schema of definitions to editors, wherever they run.
func (a *API) connectorSchema(w http.ResponseWriter, _ *http.Request, _ access.Caller) (any, error) {
	w.Header().Set("Content-Type", "application/schema+json")
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	return connector.Schema(), nil
}

// yamlTypes are the media types of YAML (RFC 9512), and the names it had before.
var yamlTypes = []string{"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"}

// readDefinition reads a definition as it came, and whether it is JSON.
func readDefinition(r *http.Request) (text []byte, isJSON bool, err error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	isJSON = kind == "application/json"
	if err != nil || !isJSON && !slices.Contains(yamlTypes, kind) {
		return nil, false, grantway.Errorf(grantway.UnsupportedMedia, "the body must be a definition, with Content-Type: application/yaml or application/json")
	}
	text, err = io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, false, grantway.Errorf(grantway.TooLarge, "the body is larger than 1 MiB")
	case err != nil:
		return nil, false, &grantway.Error{Code: grantway.Malformed, Message: "the body ended early", Err: err}
	case len(bytes.TrimSpace(text)) == 0:
		return nil, false, grantway.Errorf(grantway.Malformed, "the body is empty; it must be a definition")
	case !utf8.Valid(text):
		return nil, false, grantway.Errorf(grantway.Malformed, "the body is not UTF-8")
	}
	if !isJSON {
		return text, false, nil
	}
	var compact bytes.Buffer // tabs between values are fine in JSON, but not in YAML
	if err := json.Compact(&compact, text); err != nil {
		return nil, true, grantway.Errorf(grantway.Malformed, "the body is not JSON: %v", err)
	}
	if bytes.IndexByte(text, '\t') >= 0 {
		text = compact.Bytes()
	}
	return text, true, nil
}

// definitionOf reads a definition as YAML. One that came as JSON is written down as YAML, and
// what it says like old as it stands there, with the comments.
func definitionOf(r *http.Request, old []byte) ([]byte, error) {
	text, isJSON, err := readDefinition(r)
	if err != nil || !isJSON {
		return text, err
	}
	source, err := connector.ParseSource(text)
	if err != nil { // the save says what is wrong, and where
		return text, nil
	}
	if old == nil {
		return source.YAML(), nil
	}
	return connector.Edit(old, source), nil
}
