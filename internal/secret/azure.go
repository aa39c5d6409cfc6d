package secret

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
)

func azureKind() Kind {
	when := func(methods ...string) *connector.Condition {
		return &connector.Condition{Key: "auth", Values: methods}
	}
	return Kind{
		open:  openAzure,
		spell: azureKey,
		Definition: kind("azure", "Azure Key Vault", "Secrets of one key vault.",
			connector.Input{Key: "vault_url", Title: "Vault URL", Type: connector.URL, Required: true, Max: 2048, Help: "Such as https://my-vault.vault.azure.net."},
			connector.Input{Key: "auth", Title: "Sign-in", Type: connector.Enum, Enum: []string{"managed_identity", "client_secret", "certificate", "workload_identity"}, Default: "managed_identity"},
			connector.Input{Key: "tenant_id", Title: "Tenant id", Type: connector.String, RequiredWhen: when("client_secret", "certificate"), Help: "Empty with workload identity is AZURE_TENANT_ID."},
			connector.Input{Key: "client_id", Title: "Client id", Type: connector.String, RequiredWhen: when("client_secret", "certificate"),
				Help: "Of the application, or of a user-assigned managed identity. Empty with workload identity is AZURE_CLIENT_ID."},
			connector.Input{Key: "client_secret", Title: "Client secret", Type: connector.SecretText, RequiredWhen: when("client_secret")},
			connector.Input{Key: "certificate", Title: "Certificate and its key", Type: connector.SecretText, Max: 65536, RequiredWhen: when("certificate"), Help: "Both in PEM, the key not encrypted."},
			connector.Input{Key: "authority", Title: "Authority", Type: connector.URL, Advanced: true, Help: "Empty is https://login.microsoftonline.com, or AZURE_AUTHORITY_HOST."},
			connector.Input{Key: "scope", Title: "Scope", Type: connector.String, Advanced: true, Help: "Empty is made from the vault's host: https://vault.azure.net/.default."}),
	}
}

// azureKey replaces what Key Vault does not allow in the name of a secret: all but letters,
// digits and "-".
func azureKey(key string) string {
	return mapped(key, func(r rune) bool { return alphanumeric(r) || r == '-' })
}

// azure is a key vault. One GET reads a secret. To sign in an application is a token request
// like those of any credential, so package grant does it; only a managed identity is another
// matter.
type azure struct {
	setting
	base   *url.URL
	tokens *grant.Client

	current atomic.Pointer[azureToken]
	flights singleflight.Group
}

type azureToken struct {
	value   string
	expires time.Time
}

func openAzure(s setting) Store {
	base, err := url.Parse(strings.TrimSuffix(s.text("vault_url"), "/"))
	if err != nil { // it was checked
		base = &url.URL{}
	}
	transport, _ := s.http.Transport.(*http.Transport)
	return &azure{setting: s, base: base, tokens: &grant.Client{Transport: transport, Timeout: readTimeout}}
}

// Describe implements Store.
func (a *azure) Describe() grantway.SecretStore {
	return grantway.SecretStore{Name: a.name, Kind: "azure", Detail: "Key Vault " + a.base.Redacted()}
}

// SignIn implements Store.
func (a *azure) SignIn(ctx context.Context) error {
	_, err := a.Read(ctx, probe, "")
	if err != nil && reasonOf(err).away() {
		return err
	}
	return nil
}

// Read implements Store.
func (a *azure) Read(ctx context.Context, key, version string) ([]byte, error) {
	there := azureKey(key)
	for again := false; ; again = true {
		t, err := a.token(ctx)
		if err != nil {
			return nil, err
		}
		path := a.base.String() + "/secrets/" + url.PathEscape(there)
		if version != "" {
			path += "/" + url.PathEscape(version)
		}
		status, body, err := get(ctx, a.http, path+"?api-version=7.4", "Authorization", "Bearer "+t.value)
		if err != nil {
			return nil, unreached(a.name, a.base.Host, err)
		}
		if status == http.StatusUnauthorized && a.current.CompareAndSwap(t, nil) && !again {
			continue // it may have been revoked
		}
		return a.value(status, body, key, there, version)
	}
}

func (a *azure) value(status int, body []byte, key, there, version string) ([]byte, error) {
	var answer struct {
		Value *string `json:"value"`
		Error struct {
			Inner struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	err := json.Unmarshal(body, &answer)
	switch {
	case status == http.StatusOK && answer.Value != nil:
		return []byte(*answer.Value), nil
	case status == http.StatusUnauthorized:
		return nil, fault(a.name, refused, nil, "it does not accept the hub's token (HTTP 401)")
	case status == http.StatusForbidden && answer.Error.Inner.Code == "SecretDisabled":
		return nil, fault(a.name, deleted, nil, "key %s or this version of it is disabled", named(key, there))
	case status == http.StatusForbidden:
		return nil, fault(a.name, denied, nil, "permission denied: the hub's identity may not read %s, or the vault's firewall keeps it out", named(key, there))
	case status == http.StatusNotFound && version != "":
		return nil, fault(a.name, missing, nil, "there is no key %s with version %s, or it was deleted", named(key, there), version)
	case status == http.StatusNotFound:
		return nil, fault(a.name, missing, nil, "there is no key %s, or it was deleted", named(key, there))
	case status == http.StatusBadRequest:
		return nil, fault(a.name, missing, nil, "%s is not a name or version that it accepts", named(key, there))
	case status == http.StatusTooManyRequests:
		return nil, fault(a.name, throttled, nil, "it gets too many requests")
	}
	return nil, fault(a.name, unreachable, err, "it answered HTTP %d", status)
}

// token returns a token for the vault, from memory if it is good for some minutes.
func (a *azure) token(ctx context.Context) (*azureToken, error) {
	if t := a.current.Load(); t != nil && time.Until(t.expires) > 2*time.Minute {
		return t, nil
	}
	flight := a.flights.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		t, err := a.ask(ctx)
		if err == nil {
			a.current.Store(t)
		}
		return t, err
	})
	select {
	case <-ctx.Done():
		return nil, fault(a.name, unreachable, ctx.Err(), "did not answer in time")
	case r := <-flight:
		return r.Val.(*azureToken), r.Err
	}
}

// scope is the scope of tokens for the vault: its host without the vault's own name.
func (a *azure) scope() string {
	_, domain, _ := strings.Cut(a.base.Hostname(), ".")
	return cmp.Or(a.text("scope"), "https://"+domain+"/.default")
}

func (a *azure) ask(ctx context.Context) (*azureToken, error) {
	method := a.text("auth")
	if method == "managed_identity" {
		return a.askMachine(ctx)
	}
	r := &grant.Request{ClientID: a.text("client_id"), Scope: a.scope(), AllowPlainHTTP: true} // the guard has the last word
	tenant := a.text("tenant_id")
	switch method {
	case "client_secret":
		secret, err := a.secret(ctx, "client_secret")
		if err != nil {
			return nil, err
		}
		r.Auth = grant.Post{Secret: grant.Secret(secret)}
	case "certificate":
		text, err := a.secret(ctx, "certificate")
		if err != nil {
			return nil, err
		}
		key, err := grant.ParseSigningKey([]byte(text))
		if err != nil || key.Certificate == nil {
			return nil, fault(a.name, refused, err, "its certificate must be PEM with the certificate and its key")
		}
		r.Auth = grant.PrivateKeyJWT{Key: key, TokenURLAudience: true}
	case "workload_identity":
		file := os.Getenv("AZURE_FEDERATED_TOKEN_FILE")
		if file == "" {
			return nil, fault(a.name, refused, nil, "the hub has no workload identity: AZURE_FEDERATED_TOKEN_FILE is not set")
		}
		r.Auth = grant.AssertionFile{Path: file}
		r.ClientID, tenant = cmp.Or(r.ClientID, os.Getenv("AZURE_CLIENT_ID")), cmp.Or(tenant, os.Getenv("AZURE_TENANT_ID"))
	}
	authority := cmp.Or(a.text("authority"), os.Getenv("AZURE_AUTHORITY_HOST"), "https://login.microsoftonline.com")
	r.TokenURL = strings.TrimSuffix(authority, "/") + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/token"
	t, err := a.tokens.Token(ctx, r)
	if err == nil {
		return &azureToken{string(t.AccessToken), t.ExpiresAt}, nil
	}
	var failed *grant.Error
	switch {
	case !errors.As(err, &failed):
		return nil, fault(a.name, unreachable, err, "its sign-in did not work")
	case failed.Class == grant.Throttled:
		return nil, fault(a.name, throttled, err, "its sign-in gets too many requests")
	case failed.Class == grant.Permanent && (failed.Stage == grant.StageResponse || failed.Stage == grant.StagePrepare):
		return nil, fault(a.name, refused, err, "the sign-in by %s was refused: %v", method, failed)
	}
	return nil, fault(a.name, unreachable, err, "its sign-in cannot be reached: %v", failed)
}

// askMachine gets a token for the identity of this machine or container: from the metadata
// service of a virtual machine or Kubernetes node, or from where App Service and Container
// Apps say.
func (a *azure) askMachine(ctx context.Context) (*azureToken, error) {
	query := url.Values{"resource": {strings.TrimSuffix(a.scope(), "/.default")}, "api-version": {"2018-02-01"}}
	if id := a.text("client_id"); id != "" {
		query.Set("client_id", id)
	}
	endpoint, header, value := "http://169.254.169.254/metadata/identity/oauth2/token", "Metadata", "true"
	if e := os.Getenv("IDENTITY_ENDPOINT"); e != "" {
		endpoint, header, value = e, "X-Identity-Header", os.Getenv("IDENTITY_HEADER")
		query.Set("api-version", "2019-08-01")
	}
	began := time.Now()
	status, body, err := get(ctx, &http.Client{Transport: a.machine, Timeout: 5 * time.Second, CheckRedirect: noRedirect}, endpoint+"?"+query.Encode(), header, value)
	if err != nil {
		return nil, fault(a.name, refused, err, "no managed identity: the machine's metadata service does not answer")
	}
	var answer struct {
		Token     string      `json:"access_token"`
		ExpiresIn json.Number `json:"expires_in"`
		ExpiresOn json.Number `json:"expires_on"`
	}
	err = json.Unmarshal(body, &answer)
	if status != http.StatusOK || err != nil || answer.Token == "" {
		return nil, fault(a.name, refused, err, "no managed identity: the machine's metadata service answered HTTP %d", status)
	}
	t := &azureToken{value: answer.Token, expires: began.Add(5 * time.Minute)}
	if seconds, err := strconv.ParseInt(answer.ExpiresIn.String(), 10, 64); err == nil {
		t.expires = began.Add(time.Duration(seconds) * time.Second)
	} else if at, err := strconv.ParseInt(answer.ExpiresOn.String(), 10, 64); err == nil {
		t.expires = time.Unix(at, 0)
	}
	return t, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// get makes a request with one header and reads the bounded answer.
func get(ctx context.Context, client *http.Client, address, header, value string) (status int, body []byte, err error) {
	return ask(ctx, client, http.MethodGet, address, nil, header, value)
}

// ask is get with another method, and with a JSON body unless payload is nil.
func ask(ctx context.Context, client *http.Client, method, address string, payload io.Reader, header, value string) (status int, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, address, payload)
	if err != nil {
		return 0, nil, fmt.Errorf("the address is not usable: %w", err)
	}
	r.Header.Set(header, value)
	if payload != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, err
}
