package grantway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/tokencache"
)

// Options say how to reach a hub. Empty fields are taken from the environment:
// GRANTWAY_URL, GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET.
type Options struct {
	URL          string // such as https://grantway.example.com; plain http only to loopback
	ClientID     string
	ClientSecret Secret

	// SignIn gets the access tokens of the hub in place of ClientID and ClientSecret, which do not
	// count then: for a person's, say. replace is the fingerprint of a token that is not wanted again, because
	// the hub refused it or it ends soon; "" is none. SignIn is not called twice at once. An
	// error that is no *grant.Error counts as temporary.
	SignIn func(ctx context.Context, replace string) (*grant.Token, error)

	// Transport carries the requests; nil is a clone of http.DefaultTransport.
	Transport *http.Transport
}

// Client talks to a hub. It signs in by itself and keeps its own access token fresh.
// Safe for concurrent use. Call Close when it is no longer needed.
type Client struct {
	url   string
	http  *http.Client
	oauth *grant.Client             // of /oauth/token
	hub   *tokencache.Cache[string] // one entry: the token for the hub itself
	cache *tokencache.Cache[Ref]    // tokens handed out by TokenSource and Transport
}

// NewClient returns a client of the hub that o and the environment name. It makes no request.
func NewClient(o Options) (*Client, error) {
	o.URL = cmp.Or(o.URL, os.Getenv("GRANTWAY_URL"))
	o.ClientID = cmp.Or(o.ClientID, os.Getenv("GRANTWAY_CLIENT_ID"))
	o.ClientSecret = cmp.Or(o.ClientSecret, Secret(os.Getenv("GRANTWAY_CLIENT_SECRET")))
	for _, setting := range []struct{ name, value string }{{"URL", o.URL}, {"CLIENT_ID", o.ClientID}, {"CLIENT_SECRET", string(o.ClientSecret)}} {
		if setting.value == "" && (o.SignIn == nil || setting.name == "URL") {
			return nil, Errorf(Invalid, "no hub to talk to: GRANTWAY_%s is not set", setting.name)
		}
	}
	base := strings.TrimRight(o.URL, "/")
	request := &grant.Request{
		TokenURL: base + "/oauth/token", AllowPlainHTTP: true, // to loopback
		ClientID: o.ClientID,
		Auth:     grant.Basic{Secret: o.ClientSecret},
	}
	if err := grant.CheckTokenURL(request.TokenURL); err != nil {
		shown := "" // without password
		if u, err := url.Parse(base); err == nil {
			shown = " " + u.Redacted()
		}
		return nil, Errorf(Invalid, "hub address%s: %v", shown, err)
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	c := &Client{
		url:   base,
		oauth: &grant.Client{Transport: o.Transport},
		http:  &http.Client{Transport: o.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if o.SignIn == nil {
		o.SignIn = func(ctx context.Context, _ string) (*grant.Token, error) { return c.oauth.Token(ctx, request) }
	}
	c.hub = tokencache.New(tokencache.Options[string]{Fetch: func(ctx context.Context, _ string, want tokencache.Want) (*grant.Token, error) {
		return o.SignIn(ctx, want.Replace)
	}})
	c.cache = tokencache.New(tokencache.Options[Ref]{Fetch: func(ctx context.Context, ref Ref, _ tokencache.Want) (*grant.Token, error) {
		t, err := c.Token(ctx, ref)
		if err != nil {
			return nil, asGrantError(err)
		}
		return &grant.Token{AccessToken: Secret(t.AccessToken), Type: t.TokenType, Scope: t.Scope, IssuedAt: time.Now(), ExpiresAt: t.ExpiresAt}, nil
	}})
	return c, nil
}

// Close stops background renewals and closes the connections that are not in use.
func (c *Client) Close(ctx context.Context) error {
	err := errors.Join(c.cache.Close(ctx), c.hub.Close(ctx))
	c.oauth.CloseIdleConnections()
	c.http.CloseIdleConnections()
	return err
}

// Credentials iterates over the credentials the caller may see, by name. The iteration
// ends with the first error.
func (c *Client) Credentials(ctx context.Context) iter.Seq2[Credential, error] {
	return all[Credential](ctx, c, "/v1/credentials", nil)
}

// Credential returns one credential by name or id.
func (c *Client) Credential(ctx context.Context, name string) (Credential, error) {
	return call[Credential](ctx, c, http.MethodGet, credentialPath(name, ""), nil, nil)
}

// CreateCredential stores a new credential. It is safe to repeat: the hub sees one
// idempotency key per call of this method, however often the network makes it send.
func (c *Client) CreateCredential(ctx context.Context, in Credential) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPost, "/v1/credentials", http.Header{"Idempotency-Key": {rand.Text()}}, in)
}

// UpdateCredential replaces the credential that is stored under name; secrets that in leaves
// out are kept. With in.Version set, the update is refused (PreconditionFailed) when
// somebody else has saved in the meantime.
func (c *Client) UpdateCredential(ctx context.Context, name string, in Credential) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPut, credentialPath(name, ""), ifMatch(in.Version), in)
}

// PatchCredential changes single members by JSON merge patch (RFC 7396). version works as in UpdateCredential; 0 is any.
func (c *Client) PatchCredential(ctx context.Context, name string, version int64, patch json.RawMessage) (Credential, error) {
	return call[Credential](ctx, c, http.MethodPatch, credentialPath(name, ""), ifMatch(version), patch)
}

// DeleteCredential deletes a credential and its tokens. It is refused (Conflict) while something uses it.
func (c *Client) DeleteCredential(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, credentialPath(name, ""), nil, nil)
	return err
}

// ValidateCredential makes one token request with a saved credential and reports each step.
func (c *Client) ValidateCredential(ctx context.Context, name string) (Report, error) {
	return call[Report](ctx, c, http.MethodPost, credentialPath(name, "/validate"), nil, nil)
}

// ValidateDraft does the same with a credential that is not saved. With draft.ID set,
// secrets that draft leaves out are those of the saved credential.
func (c *Client) ValidateDraft(ctx context.Context, draft Credential) (Report, error) {
	return call[Report](ctx, c, http.MethodPost, "/v1/credentials/validate", nil, draft)
}

// Token returns a token that is valid now. It asks the hub at each call; programs that
// make many requests use TokenSource or Transport, which keep the token.
func (c *Client) Token(ctx context.Context, ref Ref) (Token, error) {
	return call[Token](ctx, c, http.MethodPost, credentialPath(ref.Credential, "/token"), nil, ref)
}

// Invalidate makes the hub forget the token with that fingerprint, because an API
// refused it. "" forgets whatever token there is and clears the back-off: renew now.
func (c *Client) Invalidate(ctx context.Context, name, fingerprint string) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, credentialPath(name, "/token/invalidate"), nil, map[string]string{"fingerprint": fingerprint})
	return err
}

// Status returns the state of a credential.
func (c *Client) Status(ctx context.Context, name string) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, credentialPath(name, "/status"), nil, nil)
}

// SecretStores lists the secret stores.
func (c *Client) SecretStores(ctx context.Context) ([]SecretStore, error) {
	page, err := call[Page[SecretStore]](ctx, c, http.MethodGet, "/v1/secret-stores", nil, nil)
	return page.Items, err
}

// SecretStore returns one secret store, with what refers to it.
func (c *Client) SecretStore(ctx context.Context, name string) (SecretStore, error) {
	return call[SecretStore](ctx, c, http.MethodGet, storePath(name, ""), nil, nil)
}

// CreateSecretStore adds a secret store.
func (c *Client) CreateSecretStore(ctx context.Context, in SecretStore) (SecretStore, error) {
	return call[SecretStore](ctx, c, http.MethodPost, "/v1/secret-stores", nil, in)
}

// UpdateSecretStore replaces the secret store of that name; secrets that in leaves out are
// kept. With in.Version set, the update is refused (PreconditionFailed) when somebody else has
// saved in the meantime.
func (c *Client) UpdateSecretStore(ctx context.Context, name string, in SecretStore) (SecretStore, error) {
	return call[SecretStore](ctx, c, http.MethodPut, storePath(name, ""), ifMatch(in.Version), in)
}

// DeleteSecretStore deletes a secret store. It is refused (Conflict) while credentials refer to it.
func (c *Client) DeleteSecretStore(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, storePath(name, ""), nil, nil)
	return err
}

// TestSecretStore tries a secret store and reports each step: reach, sign_in, read. key names a
// secret to read, of which nothing is reported but that it can be read; its Store is not
// looked at, and without Key the store is asked for one that need not exist.
func (c *Client) TestSecretStore(ctx context.Context, name string, key SecretRef) (Report, error) {
	return call[Report](ctx, c, http.MethodPost, storePath(name, "/test"), nil, key)
}

// TestSecretStoreDraft does the same with a secret store that is not saved. With draft.Version
// set, it is a change to the saved store of that name, and the secrets it leaves out are those.
func (c *Client) TestSecretStoreDraft(ctx context.Context, draft SecretStore, key SecretRef) (Report, error) {
	return call[Report](ctx, c, http.MethodPost, "/v1/secret-stores/test", nil, struct {
		SecretStore
		Read SecretRef `json:"read,omitzero"`
	}{draft, key})
}

func storePath(name, rest string) string {
	return "/v1/secret-stores/" + url.PathEscape(name) + rest
}

// Audit iterates over the audit trail, newest first. The filter may hold action, caller,
// object, outcome, since and until (RFC 3339).
func (c *Client) Audit(ctx context.Context, filter url.Values) iter.Seq2[Event, error] {
	return all[Event](ctx, c, "/v1/audit", filter)
}

// OAuthClients iterates over the clients of the hub.
func (c *Client) OAuthClients(ctx context.Context) iter.Seq2[OAuthClient, error] {
	return all[OAuthClient](ctx, c, "/v1/clients", nil)
}

// CreateOAuthClient registers a client of the hub. The answer holds its secret, once.
func (c *Client) CreateOAuthClient(ctx context.Context, in OAuthClient) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodPost, "/v1/clients", nil, in)
}

// OAuthClient returns one client of the hub by its id or name.
func (c *Client) OAuthClient(ctx context.Context, id string) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodGet, clientPath(id, ""), nil, nil)
}

// UpdateOAuthClient replaces the client with this id; its secrets stay. With in.Version set, the
// update is refused (PreconditionFailed) when somebody else has saved in the meantime.
func (c *Client) UpdateOAuthClient(ctx context.Context, id string, in OAuthClient) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodPut, clientPath(id, ""), ifMatch(in.Version), in)
}

// PatchOAuthClient changes single members by JSON merge patch (RFC 7396); version 0 is any.
func (c *Client) PatchOAuthClient(ctx context.Context, id string, version int64, patch json.RawMessage) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodPatch, clientPath(id, ""), ifMatch(version), patch)
}

// ActivateOAuthClient lets a client get tokens again; DeactivateOAuthClient turns it off, and its tokens with it.
func (c *Client) ActivateOAuthClient(ctx context.Context, id string) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodPost, clientPath(id, "/activate"), nil, nil)
}

// DeactivateOAuthClient turns a client off: it gets no tokens, and those it has do not count.
func (c *Client) DeactivateOAuthClient(ctx context.Context, id string) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodPost, clientPath(id, "/deactivate"), nil, nil)
}

// ResetOAuthClientSecret gives a client a new secret; all old ones stop working, and with how so do
// its tokens. The answer holds the new secret, once, and says what became of the tokens.
func (c *Client) ResetOAuthClientSecret(ctx context.Context, id string, how SecretReset) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodPost, clientPath(id, "/secret"), nil, how)
}

// OAuthClientSecrets lists the secrets of a client, without their text.
func (c *Client) OAuthClientSecrets(ctx context.Context, id string) ([]ClientSecret, error) {
	page, err := call[Page[ClientSecret]](ctx, c, http.MethodGet, clientPath(id, "/secrets"), nil, nil)
	return page.Items, err
}

// AddOAuthClientSecret gives a client one more secret. The answer holds it, once.
func (c *Client) AddOAuthClientSecret(ctx context.Context, id string, in NewSecret) (ClientSecret, error) {
	return call[ClientSecret](ctx, c, http.MethodPost, clientPath(id, "/secrets"), nil, in)
}

// RevokeOAuthClientSecret ends one secret of a client.
func (c *Client) RevokeOAuthClientSecret(ctx context.Context, id, secret string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, clientPath(id, "/secrets/"+url.PathEscape(secret)), nil, nil)
	return err
}

// RevokeOAuthClientTokens ends all tokens that a client has.
func (c *Client) RevokeOAuthClientTokens(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, clientPath(id, "/revoke-tokens"), nil, nil)
	return err
}

// DeletedOAuthClients iterates over the clients that were deleted and can be restored.
func (c *Client) DeletedOAuthClients(ctx context.Context) iter.Seq2[OAuthClient, error] {
	return all[OAuthClient](ctx, c, "/v1/clients", url.Values{"deleted": {"true"}})
}

// RestoreOAuthClient brings back a client that was deleted, with its secrets and without its tokens.
func (c *Client) RestoreOAuthClient(ctx context.Context, id string) (OAuthClient, error) {
	return call[OAuthClient](ctx, c, http.MethodPost, "/v1/clients/"+url.PathEscape(id)+"/restore", nil, nil)
}

// DeleteOAuthClient deletes a client; its tokens stop working. For a week it can be restored.
func (c *Client) DeleteOAuthClient(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, clientPath(id, ""), nil, nil)
	return err
}

// OAuthClientUsage says what each client did since then; unused lists only those that did nothing.
func (c *Client) OAuthClientUsage(ctx context.Context, since time.Time, unused bool) ([]ClientUsage, error) {
	q := url.Values{"since": {since.UTC().Format(time.RFC3339)}, "unused": {strconv.FormatBool(unused)}}
	page, err := call[Page[ClientUsage]](ctx, c, http.MethodGet, "/v1/client-usage?"+q.Encode(), nil, nil)
	return page.Items, err
}

// AdviceQuestions lists what the grant type advisor asks, AdviseGrant says which grant fits the answers.
func (c *Client) AdviceQuestions(ctx context.Context) ([]Question, error) {
	page, err := call[Page[Question]](ctx, c, http.MethodGet, "/v1/grant-advice", nil, nil)
	return page.Items, err
}

// AdviseGrant says which grant fits answers, which are by the key of the question.
func (c *Client) AdviseGrant(ctx context.Context, answers map[string]string) (Advice, error) {
	return call[Advice](ctx, c, http.MethodPost, "/v1/grant-advice", nil, Advice{Answers: answers})
}

// SigningKeys lists the keys that JWTs of the hub are signed with, and those that seal its opaque tokens.
func (c *Client) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	page, err := call[Page[SigningKey]](ctx, c, http.MethodGet, "/v1/signing-keys", nil, nil)
	return page.Items, err
}

// RotateSigningKeys publishes the next signing keys; they sign from tomorrow.
func (c *Client) RotateSigningKeys(ctx context.Context) ([]SigningKey, error) {
	page, err := call[Page[SigningKey]](ctx, c, http.MethodPost, "/v1/signing-keys", nil, nil)
	return page.Items, err
}

// RemoveSigningKey takes a signing key away that is no longer secret: what it signed is refused at once.
func (c *Client) RemoveSigningKey(ctx context.Context, kid string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/v1/signing-keys/"+url.PathEscape(kid), nil, nil)
	return err
}

func clientPath(id, rest string) string { return "/v1/clients/" + url.PathEscape(id) + rest }

// Divisions iterates over the divisions.
func (c *Client) Divisions(ctx context.Context) iter.Seq2[Division, error] {
	return all[Division](ctx, c, "/v1/divisions", nil)
}

// CreateDivision adds a division.
func (c *Client) CreateDivision(ctx context.Context, in Division) (Division, error) {
	return call[Division](ctx, c, http.MethodPost, "/v1/divisions", nil, in)
}

// DeleteDivision removes an empty division.
func (c *Client) DeleteDivision(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/v1/divisions/"+url.PathEscape(name), nil, nil)
	return err
}

// RotateKey gives the hub a new data key, seals everything stored with it, and removes the old one.
// It returns how many values were sealed again.
func (c *Client) RotateKey(ctx context.Context) (int, error) {
	answer, err := call[KeyRotation](ctx, c, http.MethodPost, "/v1/key/rotate", nil, nil)
	return answer.Resealed, err
}

// KeyRotation is the answer to a key rotation.
type KeyRotation struct {
	Resealed int `json:"resealed"` // number of values that were sealed again
}

// Hub returns what the hub says of itself.
func (c *Client) Hub(ctx context.Context) (HubStatus, error) {
	return call[HubStatus](ctx, c, http.MethodGet, "/v1/status", nil, nil)
}

// HubStatus describes a running hub.
type HubStatus struct {
	Version     string    `json:"version"`
	URL         string    `json:"url"`      // how clients reach the hub
	Caller      string    `json:"caller"`   // who the asking client is
	Database    string    `json:"database"` // SQLite or PostgreSQL
	Schema      int64     `json:"schema"`   // version of the database schema
	Credentials int       `json:"credentials"`
	StartedAt   time.Time `json:"started_at"`
}

func credentialPath(name, rest string) string {
	return "/v1/credentials/" + url.PathEscape(name) + rest
}

func ifMatch(version int64) http.Header {
	if version == 0 {
		return nil
	}
	return http.Header{"If-Match": {strconv.Quote(strconv.FormatInt(version, 10))}}
}

// all follows the cursors of a list.
func all[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := url.Values{}
		for k, v := range query {
			q[k] = v
		}
		for {
			page, err := call[Page[T]](ctx, c, http.MethodGet, path+"?"+q.Encode(), nil, nil)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Set("cursor", page.Next)
		}
	}
}

// maxAnswer bounds what is read of an answer: a page of a list is the largest.
const maxAnswer = 16 << 20

// call makes one request, and reads the answer.
func call[T any](ctx context.Context, c *Client, method, path string, header http.Header, body any) (T, error) {
	var out T
	var payload []byte
	if text, ok := body.(yamlText); ok {
		payload, header = text, header.Clone()
		if header == nil {
			header = http.Header{}
		}
		header.Set("Content-Type", "application/yaml")
	} else if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return out, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	resp, err := c.do(ctx, method, path, header, payload, refusal)
	if err != nil {
		return out, err
	}
	answer, err := readAnswer(resp)
	if err != nil {
		return out, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if len(answer) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("%s %s: answer is not what a hub sends: %w", method, path, err)
	}
	return out, nil
}

// do makes one request, of which refused finds what the hub says against it: nil when resp is the answer, the body
// of which is then still to be read. A 401 drops the hub token and is tried once more, since the token may have
// been revoked in the meantime. A 429 is tried again when the hub says, if that is within a minute and before ctx ends.
func (c *Client) do(ctx context.Context, method, path string, header http.Header, payload []byte, refused func(resp *http.Response) (problem, err error)) (*http.Response, error) {
	for try := 0; ; try++ {
		token, err := c.hub.Token(ctx, "", 0)
		if err != nil {
			return nil, fmt.Errorf("sign in to %s: %w", c.url, err)
		}
		resp, err := c.send(ctx, method, path, header, payload, token)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		problem, err := refused(resp)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		case problem == nil:
			return resp, nil
		case resp.StatusCode == http.StatusUnauthorized && try == 0:
			c.hub.Drop("", token.Fingerprint())
		case resp.StatusCode == http.StatusTooManyRequests && await(ctx, problem):
		default:
			return nil, problem
		}
	}
}

// refusal is what the hub says in an answer that must be its own.
func refusal(resp *http.Response) (problem, err error) {
	if resp.StatusCode < 300 {
		return nil, nil
	}
	answer, err := readAnswer(resp)
	if err != nil {
		return nil, err
	}
	return decodeProblem(resp.StatusCode, answer), nil
}

// readAnswer reads a body to its end, and closes it.
func readAnswer(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}

// maxAwait bounds how long a call waits because the hub said that there were too many.
const maxAwait = time.Minute + time.Second

// await waits until the hub takes calls again, if err says when and that is soon enough.
func await(ctx context.Context, err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.RetryAt.IsZero() {
		return false
	}
	wait := time.Until(e.RetryAt) + time.Second // RetryAt is rounded down
	if deadline, ok := ctx.Deadline(); wait > maxAwait || ok && time.Now().Add(wait).After(deadline) {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (c *Client) send(ctx context.Context, method, path string, header http.Header, payload []byte, token *grant.Token) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	token.SetAuthHeader(req)
	req.Header.Set("Accept", "application/json")
	if payload != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	return c.http.Do(req)
}

// Problem is the body of an error answer (RFC 9457).
type Problem struct {
	Type    string    `json:"type"` // "about:blank"
	Title   string    `json:"title"`
	Status  int       `json:"status"`
	Detail  string    `json:"detail"`
	Code    Code      `json:"code"`
	Errors  []Field   `json:"errors,omitempty"`
	RetryAt time.Time `json:"retry_at,omitzero"`
}

func decodeProblem(status int, body []byte) error {
	var p Problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		return Errorf(Internal, "the hub answered HTTP %d", status)
	}
	return p.err()
}

func (p Problem) err() *Error {
	return &Error{Code: p.Code, Message: p.Detail, Fields: p.Errors, RetryAt: p.RetryAt}
}
