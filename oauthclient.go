package grantway

import (
	"encoding/json"
	"time"
)

// ClientSettings say how a client proves who it is, and what kind of tokens it gets. Names
// are those of RFC 7591 and RFC 8705 where these have one.
type ClientSettings struct {
	// GrantType is GrantClientCredentials, which is the default, or GrantAuthorizationCode. A
	// client of the first kind has Roles, one of the second RedirectURIs and Scopes.
	GrantType string `json:"grant_type,omitempty"`

	// AuthMethod is the one way in which the client authenticates at the token endpoint; see
	// the constants. "" is AuthBasic.
	AuthMethod string `json:"token_endpoint_auth_method,omitempty"`

	TokenSeconds Seconds `json:"token_seconds,omitempty"` // lifetime of access tokens, 300 to 172,800; 0 is 86,400
	TokenFormat  string  `json:"token_format,omitempty"`  // FormatOpaque, which is the default, or FormatJWT
	TokenAlg     string  `json:"token_signing_alg,omitempty"`

	// TokenTyp is the typ in the header of JWTs for Resources: TypAccessToken, which is the default, or
	// TypJWT for a server that knows no other, such as Dovecot 2.3. JWTs for this hub are always of the
	// first kind.
	TokenTyp string `json:"token_typ,omitempty"`

	// RequestsPerMinute limits the calls of this hub's API with one token; 0 is what the hub
	// sets for all, at most 1,000,000.
	RequestsPerMinute int `json:"requests_per_minute,omitempty"`

	// AllowedNetworks are the addresses the client may come from, as CIDR or single addresses;
	// none means any.
	AllowedNetworks []string `json:"allowed_networks,omitempty"`

	// Resources are other APIs that tokens may be for, by the URI they are known by (RFC 8707).
	// A token for one of them is not taken by this hub.
	Resources []string `json:"resources,omitempty"`

	RedirectURIs []string `json:"redirect_uris,omitempty"` // compared character by character; loopback ones with any port
	Scopes       []string `json:"scopes,omitempty"`        // permissions that people may let the client use

	// JWKS and JWKSURI hold the client's public keys, for the methods AuthPrivateKeyJWT and
	// AuthSelfSignedTLS (there as x5c); one of them.
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`

	// AudienceTokenURL takes assertions whose audience is the URL of the token endpoint too, as old
	// clients make them.
	AudienceTokenURL bool `json:"assertion_audience_token_url,omitempty"`

	// For AuthTLS: the one name that the certificate must have (RFC 8705 section 2.1.2).
	TLSSubject string `json:"tls_client_auth_subject_dn,omitempty"` // RFC 4514, such as CN=app,O=Example
	TLSDNS     string `json:"tls_client_auth_san_dns,omitempty"`
	TLSURI     string `json:"tls_client_auth_san_uri,omitempty"`
	TLSIP      string `json:"tls_client_auth_san_ip,omitempty"`
	TLSEmail   string `json:"tls_client_auth_san_email,omitempty"`

	Federation *Federation `json:"federation,omitempty"` // for AuthFederated

	// Bound clients get only tokens that are of no use without their key.
	CertificateBound bool `json:"tls_client_certificate_bound_access_tokens,omitempty"` // RFC 8705 section 3
	DPoPBound        bool `json:"dpop_bound_access_tokens,omitempty"`                   // RFC 9449

	Advice *Advice `json:"advice,omitempty"` // how the grant type was chosen, if an advisor was asked
}

// The values of ClientSettings.GrantType.
const (
	GrantClientCredentials = "client_credentials"
	GrantAuthorizationCode = "authorization_code"
)

// The values of ClientSettings.AuthMethod.
const (
	AuthBasic         = "client_secret_basic"
	AuthPost          = "client_secret_post"
	AuthSecretJWT     = "client_secret_jwt"
	AuthPrivateKeyJWT = "private_key_jwt"
	AuthTLS           = "tls_client_auth"
	AuthSelfSignedTLS = "self_signed_tls_client_auth"
	AuthFederated     = "federated"     // a JWT of another issuer; see Federation
	AuthNone          = "none"          // a program on somebody's machine, which cannot keep a secret; with GrantAuthorizationCode only
	AuthSecret        = "client_secret" // Basic or body; clients of hubs before OAuth settings have it, new ones cannot
)

// The values of ClientSettings.TokenFormat, of TokenTyp, and of TokenAlg.
const (
	FormatOpaque = "opaque" // random; only the hub can tell what it means
	FormatJWT    = "jwt"    // RFC 9068; others can check it with the keys at /oauth/jwks

	TypAccessToken = "at+jwt" // RFC 9068 section 2.1
	TypJWT         = "JWT"

	AlgES256 = "ES256" // the default
	AlgRS256 = "RS256"
	AlgEdDSA = "EdDSA"
)

// Federation is what the hub believes of another issuer: a JWT that it signed, with exactly this
// subject and this audience, is the client. A Kubernetes service account and a job of a
// CI system have such JWTs, so the client has no secret at all.
type Federation struct {
	Issuer   string `json:"issuer"`
	Subject  string `json:"subject"`
	Audience string `json:"audience"`

	// JWKS or JWKSURI hold the keys of the issuer; with neither the hub asks the issuer for its
	// OpenID configuration.
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`
}

// The values of OAuthClient.State.
const (
	ClientActive   = "active"
	ClientInactive = "inactive" // gets no tokens, and those it has do not count
)

// ClientSecret is one of the secrets of a client; each that has not expired is good.
type ClientSecret struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
	LastUsed  time.Time `json:"last_used,omitzero"`  // to the minute; zero: never

	// Secret is the text, in the answer to the creation only.
	Secret string `json:"client_secret,omitempty"`

	// SecretExpiresAt is ExpiresAt in Unix seconds, 0 for never, and there with Secret (RFC 7591 section 3.2.1).
	SecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"`
}

// NewSecret asks for one more secret of a client.
type NewSecret struct {
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never

	// OldExpireIn is how long the client's other secrets stay good, so that the new one can be
	// handed out in the meantime; nil leaves them alone, 0 ends them now.
	OldExpireIn *Seconds `json:"old_expire_in,omitempty"`
}

// SecretReset is what else a reset of a client's secret does.
type SecretReset struct {
	// RevokeTokens ends the tokens that the client has; else they are good until they expire.
	RevokeTokens bool `json:"revoke_tokens,omitempty"`
}

// ClientUsage says what a client did lately.
type ClientUsage struct {
	Client    string    `json:"client"` // id
	Name      string    `json:"name"`
	State     string    `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	LastUsed  time.Time `json:"last_used,omitzero"` // the last token or call, to the minute; zero: never
	Tokens    int64     `json:"tokens"`             // issued in the time asked for
	Calls     int64     `json:"calls"`              // of the API with its tokens, in the time asked for
	Failures  int64     `json:"failures"`           // wrong secrets and the like, in the time asked for
}

// SigningKey is a key that JWTs of this hub are signed with, or opaque tokens sealed. What is secret of it never leaves the
// hub.
type SigningKey struct {
	ID        string    `json:"kid"`
	Alg       string    `json:"alg"`
	CreatedAt time.Time `json:"created_at"` // when it was published

	// SignsFrom is when it begins to sign, which is later than CreatedAt, so that everybody has
	// it by then; SignsUntil is when its successor takes over, zero while there is none.
	SignsFrom  time.Time `json:"signs_from"`
	SignsUntil time.Time `json:"signs_until,omitzero"`
	RemovedAt  time.Time `json:"removed_at,omitzero"` // when it will leave the list: the last token it signed has expired
}

// Question is one thing the grant type advisor wants to know.
type Question struct {
	Key     string   `json:"key"`
	Text    string   `json:"text"`
	Answers []Choice `json:"answers"`
}

// Choice is one answer to a Question.
type Choice struct {
	Key  string `json:"key"`
	Text string `json:"text"`
}

// Advice is which grant fits the answers, and why.
type Advice struct {
	Answers map[string]string `json:"answers"` // by the key of the question
	Grant   string            `json:"grant"`   // client_credentials, authorization_code, refresh_token, saml2-bearer
	PKCE    bool              `json:"pkce,omitempty"`
	For     []string          `json:"for,omitempty"`     // reasons for this grant
	Against []string          `json:"against,omitempty"` // reasons against the others
	Request []string          `json:"request,omitempty"` // what will be sent, step by step
	Chosen  string            `json:"chosen,omitempty"`  // what was taken, if not Grant
}
