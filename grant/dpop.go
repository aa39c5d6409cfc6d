package grant

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// DPoPKey is the private key that tokens are bound to by proof of possession (RFC 9449).
// It prints as "[secret]" and is safe for concurrent use. Make one with NewDPoPKey or
// ParseDPoPKey; the zero value has no key and makes no proofs.
type DPoPKey struct {
	jwk        jose.JSONWebKey
	signer     jose.Signer
	thumbprint string
}

// NewDPoPKey makes a fresh P-256 key, for ES256 proofs.
func NewDPoPKey() (*DPoPKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a DPoP key: %w", err)
	}
	return newDPoPKey(&SigningKey{Algorithm: "ES256", key: key})
}

// ParseDPoPKey reads a private key as ParseSigningKey does, and so what Marshal wrote.
func ParseDPoPKey(data []byte) (*DPoPKey, error) {
	key, err := ParseSigningKey(data)
	if err != nil {
		return nil, fmt.Errorf("DPoP: %w", err)
	}
	return newDPoPKey(key)
}

func newDPoPKey(key *SigningKey) (*DPoPKey, error) {
	k := &DPoPKey{jwk: jose.JSONWebKey{Key: key.key, Algorithm: key.Algorithm}}
	var err error
	k.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key.key},
		(&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt")) // EmbedJWK embeds the public half only
	if err != nil {
		return nil, fmt.Errorf("DPoP key: %w", err)
	}
	sum, err := k.jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("DPoP key: %w", err)
	}
	k.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return k, nil
}

// Marshal returns the private key as a JWK, for ParseDPoPKey. Seal it before storing it.
func (k *DPoPKey) Marshal() ([]byte, error) { return k.jwk.MarshalJSON() }

// Thumbprint is the RFC 7638 SHA-256 thumbprint of the public key: the jkt that a token
// is bound to (RFC 9449 section 6.1).
func (k *DPoPKey) Thumbprint() string { return k.thumbprint }

// Algorithm is the JWS algorithm of the proofs.
func (k *DPoPKey) Algorithm() string { return k.jwk.Algorithm }

// Proof makes the value of the DPoP header for one request (RFC 9449 section 4.2): good
// for this method and URL, whose query and fragment do not count, and for one try only.
// nonce is the one the server last sent, "" before it sent any. accessToken is the token
// that goes with the request, "" at the token endpoint.
func (k *DPoPKey) Proof(method, rawURL, nonce string, accessToken Secret) (string, error) {
	if k.signer == nil {
		return "", errors.New("DPoP key: is missing")
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return "", errors.New("DPoP proof: the URL is not absolute")
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	claims := map[string]any{
		"jti": rand.Text(),
		"htm": method,
		"htu": origin(u) + path,
		"iat": time.Now().Unix(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if accessToken != "" {
		claims["ath"] = (&Token{AccessToken: accessToken}).Fingerprint()
	}
	return serialize(k.signer, claims)
}

// Format implements fmt.Formatter: no verb prints the key.
func (DPoPKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// nonces remembers the DPoP nonce each server last sent (RFC 9449 section 8.2), by
// origin. The zero value is ready; safe for concurrent use.
type nonces struct {
	mu       sync.Mutex
	byOrigin map[string]string
}

// maxNonces bounds the memory of one nonces. A forgotten nonce costs one more round trip.
const maxNonces = 1024

func (n *nonces) get(u *url.URL) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byOrigin[origin(u)]
}

// learn keeps the nonce of a response of u's server, and returns it; "" when there is none.
func (n *nonces) learn(u *url.URL, h http.Header) string {
	nonce := h.Get("DPoP-Nonce")
	if nonce == "" || len(nonce) > 1024 || strings.ContainsFunc(nonce, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byOrigin == nil || len(n.byOrigin) >= maxNonces {
		n.byOrigin = make(map[string]string)
	}
	n.byOrigin[origin(u)] = nonce
	return nonce
}
