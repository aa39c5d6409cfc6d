package grant

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"
)

// Token is what a token endpoint issued (RFC 6749 section 5.1). It is immutable once
// returned: callers share one value and must not change it.
type Token struct {
	// AccessToken is the credential itself; printing it prints "[secret]", and it is left
	// out of the JSON: who stores a token seals it first.
	AccessToken Secret `json:"-"`

	// Type is the token type in its registered spelling, "Bearer" or "DPoP", whatever
	// case the server used (RFC 6749 section 5.1 compares it case-insensitively).
	Type string `json:"token_type"`

	// Scope is what was granted: the scope of the reply, else the scope requested
	// (RFC 6749 sections 3.3 and 5.1). Space-delimited, the server's order and case.
	Scope string `json:"scope,omitempty"`

	// IssuedAt is the time on our clock at which the request was sent, so that
	// IssuedAt plus the lifetime is never later than the server's own idea of expiry.
	IssuedAt time.Time `json:"issued_at"`

	// ExpiresAt is the first moment at which the token must no longer be used. Never zero.
	ExpiresAt time.Time `json:"expires_at"`

	// ExpirySource tells where ExpiresAt comes from: "response", "jwt" (the exp claim of
	// the access token), "connector" (package connector knows) or "default" (nobody said).
	ExpirySource string `json:"expiry_source"`

	// Kept is more of what the answer said and requests to the API need, such as the address
	// of the customer's instance, by name. It may be secret, so it is stored as the token is. nil when there is nothing.
	Kept map[string]Secret `json:"-"`

	// DPoP is the key the token is bound to (RFC 9449); nil for a bearer token.
	// It is not part of the stored form: who stores a token keeps the key elsewhere.
	DPoP *DPoPKey `json:"-"`
}

// typeDPoP is the token type of a sender-constrained token (RFC 9449 section 5).
const typeDPoP = "DPoP"

// Lifetime is how long the token was valid when it was issued.
func (t *Token) Lifetime() time.Duration { return t.ExpiresAt.Sub(t.IssuedAt) }

// Fingerprint identifies the token without revealing it: the unpadded base64url SHA-256 of the access
// token, the same value as a DPoP proof's ath (RFC 9449 section 4.2).
func (t *Token) Fingerprint() string {
	sum := sha256.Sum256([]byte(t.AccessToken))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Authorization is the value of the Authorization header that presents the token
// (RFC 6750 section 2.1, RFC 9449 section 7.1). For a DPoP token the request needs a
// proof as well; Transport adds both.
func (t *Token) Authorization() string { return t.Type + " " + string(t.AccessToken) }

// SetAuthHeader puts the token into r's Authorization header, replacing what is there.
func (t *Token) SetAuthHeader(r *http.Request) { r.Header.Set("Authorization", t.Authorization()) }
