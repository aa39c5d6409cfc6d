package secret

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/grantway/grantway/internal/seal"
)

// azureKMS is an RSA key of an Azure Key Vault. It wraps with the newest version, or with the one
// that the URL names, and unwraps with the one it wrapped with.
type azureKMS struct {
	*azure
	key, version string
}

func openAzureKey(address string, s setting) (seal.KMS, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errAzureKey
	}
	parts := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "keys" || parts[1] == "" {
		return nil, errAzureKey
	}
	k := &azureKMS{key: parts[1]}
	if len(parts) == 3 {
		k.version = parts[2]
	}
	auth := "managed_identity"
	switch {
	case os.Getenv("AZURE_CLIENT_SECRET") != "":
		auth = "client_secret"
	case os.Getenv("AZURE_CLIENT_CERTIFICATE_PATH") != "":
		auth = "certificate"
	case os.Getenv("AZURE_FEDERATED_TOKEN_FILE") != "":
		auth = "workload_identity"
	}
	k.azure = openAzure(keySetting(s, azureKind(), map[string]string{
		"vault_url": u.Scheme + "://" + u.Host, "auth": auth, "tenant_id": os.Getenv("AZURE_TENANT_ID"), "client_id": os.Getenv("AZURE_CLIENT_ID"),
	}, azureSecret)).(*azure)
	return k, nil
}

var errAzureKey = errors.New("must be azure: and the URL of a key, such as azure:https://my-vault.vault.azure.net/keys/grantway")

// azureSecret reads what an application signs in with, as the vendor's own tools do.
func azureSecret(_ context.Context, input string) (string, error) {
	if input == "client_secret" {
		return os.Getenv("AZURE_CLIENT_SECRET"), nil
	}
	text, err := os.ReadFile(os.Getenv("AZURE_CLIENT_CERTIFICATE_PATH"))
	if err != nil {
		return "", fault("azure", refused, err, "the file that AZURE_CLIENT_CERTIFICATE_PATH names cannot be read")
	}
	return string(text), nil
}

// NewKey implements seal.KMS. What is wrapped is the version of the key, a dot, and what it made.
func (k *azureKMS) NewKey(ctx context.Context) (plain, wrapped []byte, err error) {
	plain = make([]byte, 32)
	rand.Read(plain) // never fails
	made, err := k.ask(ctx, "wrapkey", k.version, plain)
	if err != nil {
		return nil, nil, err
	}
	version := made.KeyID[strings.LastIndexByte(made.KeyID, '/')+1:]
	return plain, []byte(version + "." + made.Value), nil
}

// Unwrap implements seal.KMS.
func (k *azureKMS) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	version, value, _ := strings.Cut(string(wrapped), ".")
	text, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return nil, fault(k.name, unusable, err, "it did not seal the keyset")
	}
	opened, err := k.ask(ctx, "unwrapkey", version, text)
	if err != nil {
		return nil, err
	}
	plain, err := base64.RawURLEncoding.DecodeString(opened.Value)
	if err != nil {
		return nil, fault(k.name, unreachable, err, "its answer makes no sense")
	}
	return plain, nil
}

// azureResult is the answer of an operation with a key. Value is base64url.
type azureResult struct {
	KeyID string `json:"kid"` // a URL that ends with the version
	Value string `json:"value"`
	Error struct {
		Inner struct {
			Code string `json:"code"`
		} `json:"innererror"`
	} `json:"error"`
}

func (k *azureKMS) ask(ctx context.Context, operation, version string, value []byte) (azureResult, error) {
	var answer azureResult
	t, err := k.token(ctx)
	if err != nil {
		return answer, err
	}
	path := k.base.String() + "/keys/" + k.key
	if version != "" {
		path += "/" + url.PathEscape(version)
	}
	payload, err := json.Marshal(map[string]string{"alg": "RSA-OAEP-256", "value": base64.RawURLEncoding.EncodeToString(value)})
	if err != nil {
		return answer, err
	}
	status, body, err := ask(ctx, k.http, http.MethodPost, path+"/"+operation+"?api-version=7.4", bytes.NewReader(payload), "Authorization", "Bearer "+t.value)
	if err != nil {
		return answer, unreached(k.name, k.base.Host, err)
	}
	err = json.Unmarshal(body, &answer)
	switch {
	case status == http.StatusOK && err == nil:
		return answer, nil
	case status == http.StatusUnauthorized:
		return answer, fault(k.name, refused, nil, "it does not accept the hub's token (HTTP 401)")
	case status == http.StatusForbidden && answer.Error.Inner.Code == "KeyDisabled":
		return answer, fault(k.name, deleted, nil, "the key, or the version of it that sealed this database, is disabled")
	case status == http.StatusForbidden:
		return answer, fault(k.name, denied, nil, "permission denied: the hub's identity may not %s, or the vault's firewall keeps it out", operation)
	case status == http.StatusNotFound:
		return answer, fault(k.name, missing, nil, "there is no such key, or it was deleted")
	case status == http.StatusBadRequest && operation == "unwrapkey":
		return answer, fault(k.name, unusable, nil, "it does not open the keyset, so it is another key than the one that sealed it")
	case status == http.StatusTooManyRequests:
		return answer, fault(k.name, throttled, nil, "it gets too many requests")
	}
	return answer, fault(k.name, unreachable, err, "it answered HTTP %d", status)
}
