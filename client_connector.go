package grantway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strconv"
)

// Connectors iterates over the connectors that q selects, by name.
func (c *Client) Connectors(ctx context.Context, q ConnectorQuery) iter.Seq2[Connector, error] {
	query := url.Values{}
	for name, value := range map[string]string{"q": q.Search, "category": q.Category, "source": q.Source} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return all[Connector](ctx, c, "/v1/connectors", query)
}

// Connector returns the newest version of a connector, with its definition.
func (c *Client) Connector(ctx context.Context, name string) (Connector, error) {
	return call[Connector](ctx, c, http.MethodGet, connectorPath(name, ""), nil, nil)
}

// ConnectorVersion returns one version of a connector, with its definition.
func (c *Client) ConnectorVersion(ctx context.Context, name string, version int64) (Connector, error) {
	return call[Connector](ctx, c, http.MethodGet, connectorPath(name, "/versions/"+strconv.FormatInt(version, 10)), nil, nil)
}

// ConnectorVersions lists the versions of a connector, the newest first.
func (c *Client) ConnectorVersions(ctx context.Context, name string) ([]Connector, error) {
	page, err := call[Page[Connector]](ctx, c, http.MethodGet, connectorPath(name, "/versions"), nil, nil)
	return page.Items, err
}

// CreateConnector adds a connector: text is its definition, in YAML, which holds its name.
func (c *Client) CreateConnector(ctx context.Context, text []byte) (Connector, error) {
	return call[Connector](ctx, c, http.MethodPost, "/v1/connectors", nil, yamlText(text))
}

// UpdateConnector replaces the definition of an own connector, or with newVersion adds the next version. A replacement
// is refused (Conflict, with the reasons in Fields) when credentials would break by it. revision
// works as the version in UpdateCredential; 0 is any.
func (c *Client) UpdateConnector(ctx context.Context, name string, text []byte, revision int64, newVersion bool) (Connector, error) {
	rest := ""
	if newVersion {
		rest = "?new_version=true"
	}
	return call[Connector](ctx, c, http.MethodPut, connectorPath(name, rest), ifMatch(revision), yamlText(text))
}

// CopyConnector stores a copy of a connector under another name.
func (c *Client) CopyConnector(ctx context.Context, name, to string) (Connector, error) {
	return call[Connector](ctx, c, http.MethodPost, connectorPath(name, "/copy"), nil, map[string]string{"name": to})
}

// DeleteConnector deletes an own connector with all its versions. It is refused (Conflict) while something uses it.
func (c *Client) DeleteConnector(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, connectorPath(name, ""), nil, nil)
	return err
}

// CheckConnector compiles a definition without saving it.
func (c *Client) CheckConnector(ctx context.Context, text []byte) (ConnectorCheck, error) {
	return call[ConnectorCheck](ctx, c, http.MethodPost, "/v1/connectors/check", nil, yamlText(text))
}

// PreviewConnector shows the token requests of a draft, secrets masked. Nothing is sent.
func (c *Client) PreviewConnector(ctx context.Context, draft ConnectorDraft) (ConnectorTrial, error) {
	return call[ConnectorTrial](ctx, c, http.MethodPost, "/v1/connectors/preview", nil, draft)
}

// TryConnector asks for a token with a draft, and shows the answers without what may be secret.
func (c *Client) TryConnector(ctx context.Context, draft ConnectorDraft) (ConnectorTrial, error) {
	return call[ConnectorTrial](ctx, c, http.MethodPost, "/v1/connectors/try", nil, draft)
}

// CredentialsOf iterates over the credentials of one connector that the caller may see, by name.
func (c *Client) CredentialsOf(ctx context.Context, connector string) iter.Seq2[Credential, error] {
	return all[Credential](ctx, c, "/v1/credentials", url.Values{"connector": {connector}})
}

// CallEndpoint calls an endpoint that the connector of a credential names, with values for the
// endpoint's own inputs. The answer is the API's, whatever its status; its body must be closed.
// Errors are those of the hub, which then made no call or got no answer.
func (c *Client) CallEndpoint(ctx context.Context, credential, endpoint string, inputs map[string]string) (*http.Response, error) {
	path := credentialPath(credential, "/endpoints/"+url.PathEscape(endpoint))
	payload, err := json.Marshal(EndpointCall{Inputs: inputs})
	if err != nil {
		return nil, fmt.Errorf("POST %s: %w", path, err)
	}
	return c.do(ctx, http.MethodPost, path, nil, payload, refusalBefore)
}

// refusalBefore is what the hub says in an answer that may be an API's, which is left as it was.
func refusalBefore(resp *http.Response) (problem, err error) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode < 400 || kind != "application/problem+json" {
		return nil, nil
	}
	body, err := readAnswer(resp)
	if err != nil {
		return nil, err
	}
	var p Problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" || p.Status != resp.StatusCode { // somebody else's
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return nil, nil
	}
	return p.err(), nil
}

func connectorPath(name, rest string) string { return "/v1/connectors/" + url.PathEscape(name) + rest }

// yamlText is a body that is YAML already.
type yamlText []byte
