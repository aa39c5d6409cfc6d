package secret

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"

	"github.com/grantway/grantway/internal/seal"
)

// googleKMS is a symmetric key of Google Cloud KMS.
type googleKMS struct {
	*google
	key *url.URL
}

var googleKeyName = regexp.MustCompile(`^projects/[^/?#]+/locations/[^/?#]+/keyRings/[^/?#]+/cryptoKeys/[^/?#]+$`)

// openGoogleKey takes the name of a key, or its URL at another endpoint than the public one.
func openGoogleKey(key string, s setting) (seal.KMS, error) {
	const endpoint = "https://cloudkms.googleapis.com/v1/"
	if googleKeyName.MatchString(key) {
		key = endpoint + key
	}
	u, err := url.Parse(key)
	if err != nil || u.Host == "" || u.User != nil || len(u.Path) < 4 || u.Path[:4] != "/v1/" || !googleKeyName.MatchString(u.Path[4:]) {
		return nil, errors.New("must be google: and the name of a key of Google Cloud KMS: projects/…/locations/…/keyRings/…/cryptoKeys/…")
	}
	return &googleKMS{openGoogle(keySetting(s, googleKind(), nil, noSecret)).(*google), u}, nil
}

// googleContext is authenticated by Google (additional authenticated data).
const googleContext = "grantway"

// NewKey implements seal.KMS.
func (k *googleKMS) NewKey(ctx context.Context) (plain, wrapped []byte, err error) {
	plain = make([]byte, 32)
	rand.Read(plain) // never fails
	made, err := k.ask(ctx, "encrypt", map[string][]byte{"plaintext": plain})
	return plain, made.Ciphertext, err
}

// Unwrap implements seal.KMS.
func (k *googleKMS) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	opened, err := k.ask(ctx, "decrypt", map[string][]byte{"ciphertext": wrapped})
	return opened.Plaintext, err
}

// googleResult is the answer of encrypt and decrypt.
type googleResult struct {
	Plaintext  []byte `json:"plaintext"`
	Ciphertext []byte `json:"ciphertext"`
	Error      struct {
		Status string `json:"status"`
	} `json:"error"`
}

func (k *googleKMS) ask(ctx context.Context, operation string, form map[string][]byte) (googleResult, error) {
	var answer googleResult
	s, err := k.signedIn(ctx)
	if err != nil {
		return answer, err
	}
	t, err := s.tokens.Token()
	if err != nil {
		return answer, k.tokenFault(err)
	}
	form["additionalAuthenticatedData"] = []byte(googleContext)
	payload, err := json.Marshal(form)
	if err != nil {
		return answer, err
	}
	status, body, err := ask(ctx, k.http, http.MethodPost, k.key.String()+":"+operation, bytes.NewReader(payload), "Authorization", "Bearer "+t.AccessToken)
	if err != nil {
		return answer, unreached(k.name, k.key.Host, err)
	}
	err = json.Unmarshal(body, &answer)
	switch {
	case status == http.StatusOK && err == nil:
		return answer, nil
	case status == http.StatusUnauthorized:
		return answer, fault(k.name, refused, nil, "it does not accept the hub's token (HTTP 401)")
	case status == http.StatusForbidden:
		return answer, fault(k.name, denied, nil, "permission denied: the hub's identity may not %s with it (roles/cloudkms.cryptoKeyEncrypterDecrypter)", operation)
	case status == http.StatusNotFound:
		return answer, fault(k.name, missing, nil, "there is no such key")
	case answer.Error.Status == "FAILED_PRECONDITION":
		return answer, fault(k.name, deleted, nil, "the version of the key is disabled or destroyed")
	case status == http.StatusBadRequest && operation == "decrypt":
		return answer, fault(k.name, unusable, nil, "it does not open the keyset, so it is another key than the one that sealed it")
	case status == http.StatusTooManyRequests:
		return answer, fault(k.name, throttled, nil, "it gets too many requests")
	}
	return answer, fault(k.name, unreachable, err, "it answered HTTP %d", status)
}
