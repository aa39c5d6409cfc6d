// Package grantway is the vocabulary of a Grantway hub and its client for Go programs.
//
// A hub stores client-credentials credentials once and hands out fresh access tokens.
// The structs here are the JSON of its REST API, in both directions: the server
// encodes them, Client decodes them, and nothing in between copies them.
//
// A program that needs tokens takes a [Client] and asks it for a [TokenSource], which
// fits golang.org/x/oauth2, or for a [Transport], which authorizes requests:
//
//	hub, err := grantway.NewClient(grantway.Options{})        // GRANTWAY_URL and friends
//	api := &http.Client{Transport: hub.Transport(grantway.Ref{Credential: "sales-email"})}
//	resp, err := api.Get("https://api.example.com/v1/mail")    // no secret in sight
package grantway

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/grantway/grantway/grant"
)

// Secret is a value that must not be read back. It prints and marshals as "[secret]".
type Secret = grant.Secret

// DefaultDivision is the division of an object that names none.
const DefaultDivision = "home"

// PlainConnector is the connector of a plain credential: the built-in definition of
// RFC 6749 section 4.4.
const PlainConnector = "oauth2-client-credentials"

// Credential is a connector plus its inputs: everything needed to ask one token endpoint
// for tokens.
type Credential struct {
	// ID is assigned by the hub and never changes; everything refers to a credential by
	// it, so a rename is safe. Ignored on writes.
	ID string `json:"id,omitempty"`

	// Name is 1 to 100 letters, digits, ".", "_" or "-", starting with a letter or digit,
	// and unique without regard to case.
	Name        string `json:"name"`
	Description string `json:"description,omitempty"` // at most 1,024 characters
	Division    string `json:"division,omitempty"`    // DefaultDivision when empty
	Connector   string `json:"connector,omitempty"`   // PlainConnector when empty

	// ConnectorVersion is the version of the connector that Inputs are for. A new credential gets
	// the newest when it is 0, an update keeps the one before; another one is an upgrade, and
	// tells which inputs are wrong or missing then.
	ConnectorVersion int64 `json:"connector_version,omitempty"`

	// Inputs are the values of the connector's inputs by key.
	Inputs Inputs `json:"inputs"`

	// RateLimit bounds the requests to the API that go through the hub; nil is what the connector
	// says. TimeZone, such as Europe/Paris, is that of times in requests; "" is UTC.
	RateLimit *RateLimit `json:"rate_limit,omitempty"`
	TimeZone  string     `json:"time_zone,omitempty"`

	// Version goes up by one with every save; it is the ETag. In an update it is the version
	// that is to be replaced, 0 being any.
	Version   int64     `json:"version,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`

	// UsedBy names what refers to the credential and so keeps it from being deleted. Only in answers.
	UsedBy []string `json:"used_by,omitempty"`

	// Warnings are things worth a look that did not stop a save, such as a reference to a
	// key that its secret store does not have yet. Only in answers.
	Warnings []Field `json:"warnings,omitempty"`
}

// Inputs are values by the key of the input.
type Inputs map[string]Value

// UnmarshalJSON implements json.Unmarshaler. The error names every input that is wrong.
func (in *Inputs) UnmarshalJSON(b []byte) error {
	var raw map[string]json.RawMessage
	if json.Unmarshal(b, &raw) != nil {
		return &Error{Code: Invalid, Message: "a field is wrong", Fields: []Field{{"/inputs", "must be an object"}}}
	}
	*in = make(Inputs, len(raw))
	var wrong []Field
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		var v Value
		if err := json.Unmarshal(raw[key], &v); err != nil {
			wrong = append(wrong, Field{Pointer("inputs", key), err.Error()})
		}
		(*in)[key] = v
	}
	if wrong != nil {
		return &Error{Code: Invalid, Message: "a field is wrong", Fields: wrong}
	}
	return nil
}

// Value is the value of one input. Exactly one of its forms is used; which one an input
// takes is up to the connector's definition.
//
//	"text"                                 a plain value, or a new internal secret
//	[{"in":"body","name":"n","value":"v"}] parameters
//	{"store":"env","key":"NAME"}           an external secret
//	{"source":"internal","set":true}       in answers: an internal secret is stored; in writes: keep it
//
// A secret that an update leaves out is kept; null removes a value.
type Value struct {
	Text   string
	Params []Param
	Ref    *SecretRef
	Set    bool // an internal secret is stored
}

// Param is one extra parameter of a token request.
type Param struct {
	In    string `json:"in"` // "body", "query" or "header"
	Name  string `json:"name"`
	Value string `json:"value"`
}

// SecretRef says where an external secret lives.
type SecretRef struct {
	Store   string `json:"store"`             // name of a secret store
	Key     string `json:"key"`               // name of the secret in it
	Field   string `json:"field,omitempty"`   // member of a JSON secret; "" is the whole value
	Version string `json:"version,omitempty"` // "" is the newest
}

type storedSecret struct {
	Source string `json:"source"`
	Set    bool   `json:"set"`
}

// Text returns a plain value.
func Text(s string) Value { return Value{Text: s} }

// Empty tells whether v holds nothing, which in a write removes the value of an input.
func (v Value) Empty() bool {
	return v.Text == "" && v.Ref == nil && !v.Set && len(v.Params) == 0
}

// MarshalJSON implements json.Marshaler.
func (v Value) MarshalJSON() ([]byte, error) {
	switch {
	case v.Ref != nil:
		return json.Marshal(v.Ref)
	case v.Set:
		return json.Marshal(storedSecret{"internal", true})
	case v.Params != nil:
		return json.Marshal(v.Params)
	}
	return json.Marshal(v.Text)
}

// UnmarshalJSON implements json.Unmarshaler. Numbers and booleans are taken as their text.
func (v *Value) UnmarshalJSON(b []byte) error {
	*v = Value{}
	b = bytes.TrimSpace(b)
	strict := func(into any) error {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		return d.Decode(into)
	}
	switch {
	case len(b) == 0 || b[0] == 'n':
		return nil
	case b[0] == '"':
		return json.Unmarshal(b, &v.Text)
	case b[0] == '[':
		v.Params = []Param{}
		if strict(&v.Params) != nil {
			return errors.New(`must be a list of {"in", "name", "value"}`)
		}
		return nil
	case b[0] == '{':
		var stored storedSecret
		if strict(&stored) == nil && stored.Source == "internal" {
			v.Set = stored.Set
			return nil
		}
		v.Ref = &SecretRef{}
		if strict(v.Ref) != nil {
			v.Ref = nil
			return errors.New(`must be a string, or {"store", "key"} for an external secret`)
		}
		return nil
	default:
		v.Text = string(b)
		return nil
	}
}

// Ref asks for a token of a credential. Only Credential is required.
type Ref struct {
	Credential string `json:"-"` // name or id

	// Scope, Audience and Resource replace the credential's own for this token; empty means the credential's.
	Scope    string `json:"scope,omitempty"`
	Audience string `json:"audience,omitempty"`
	Resource string `json:"resource,omitempty"`

	// MinLifetime is how long the token must stay valid at least, in whole seconds. A
	// provider that issues shorter tokens than that cannot satisfy it: the demand is
	// then capped at half of the lifetime it does issue.
	MinLifetime Seconds `json:"min_lifetime_seconds,omitempty"`

	// Proof asks for a DPoP proof (RFC 9449) for one request beside the token. Only for
	// credentials that use DPoP.
	Proof *ProofRequest `json:"proof,omitempty"`
}

// ProofRequest names the request a DPoP proof is for.
type ProofRequest struct {
	Method string `json:"method"`
	URL    string `json:"url"`
	Nonce  string `json:"nonce,omitempty"` // the DPoP-Nonce the API last sent, if any
}

// Seconds is a duration that is a whole number of seconds in JSON.
type Seconds int64

// Duration converts s.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Token is the hub's answer to a Ref: a token that is valid now, and how to present it.
type Token struct {
	AccessToken string    `json:"access_token"`
	TokenType   string    `json:"token_type"`
	ExpiresIn   Seconds   `json:"expires_in"` // rounded down
	ExpiresAt   time.Time `json:"expires_at"`
	Scope       string    `json:"scope,omitempty"`

	// Fingerprint names the token without revealing it; hand it to Invalidate.
	Fingerprint string `json:"fingerprint"`

	// Header is the header to put on a request.
	Header Header `json:"header"`

	// Proof is the value of the DPoP header, when the Ref asked for one.
	Proof string `json:"proof,omitempty"`
}

// Header is one HTTP header.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Report is what Validate found: the steps of one token request, in order, the last one
// being the first that failed.
type Report struct {
	OK    bool      `json:"ok"`
	At    time.Time `json:"at"`
	Steps []Step    `json:"steps"`

	// Claims are aud, scope, scp, roles, exp, iss, sub and the like of an access token that is a JWT,
	// decoded without verifying the signature. Absent for opaque tokens.
	Claims map[string]any `json:"claims,omitempty"`
}

// Step is one step of a Report.
type Step struct {
	Name     string `json:"name"`             // settings, secret, address, tls, request, response, claims
	Result   string `json:"result"`           // ok, warning, failed
	Message  string `json:"message"`          // what happened, in one sentence
	Hint     string `json:"hint,omitempty"`   // what to do about it
	Millis   int64  `json:"duration_ms"`      // how long the step took
	Code     string `json:"code,omitempty"`   // error member of the provider's answer (RFC 6749 section 5.2)
	HTTPCode int    `json:"status,omitempty"` // HTTP status of the provider's answer
}

// Health says how a credential is doing.
type Health string

// The values of Health.
const (
	NotValidated Health = "not_validated" // never fetched a token since it was last saved
	Healthy      Health = "healthy"       // the last token request worked
	Degraded     Health = "degraded"      // the last token request failed, a valid token is still being served
	Failing      Health = "failing"       // the last token request failed, and there is no valid token
)

// Status is the state of a credential.
type Status struct {
	Credential  string    `json:"credential"`
	Health      Health    `json:"health"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastError   *Failure  `json:"last_error,omitempty"` // of the last failure, even if a later request worked

	// NextTry is when the hub will ask the provider again after a failure; zero when nothing holds it back.
	NextTry time.Time `json:"next_try,omitzero"`

	// TokenExpiresAt is the expiry of the token with the credential's own scope; zero when there is none.
	TokenExpiresAt   time.Time `json:"token_expires_at,omitzero"`
	TokenFingerprint string    `json:"token_fingerprint,omitempty"`
	ExpirySource     string    `json:"expiry_source,omitempty"` // response, jwt, connector or default

	SecretExpiresAt time.Time `json:"secret_expires_at,omitzero"`
	Warnings        []string  `json:"warnings,omitempty"` // such as a secret that expires soon
}

// Failure is one failed token request.
type Failure struct {
	At      time.Time `json:"at"`
	Class   string    `json:"class"`          // permanent, temporary, throttled
	Stage   string    `json:"stage"`          // prepare, address, tls, request, response
	Code    string    `json:"code,omitempty"` // error member of the provider's answer
	Message string    `json:"message"`
	Hint    string    `json:"hint,omitempty"`
}

// SecretStore is a place external secrets come from. The stores env and file are always
// there; the others are added.
type SecretStore struct {
	// Name follows the rule of Credential.Name. It cannot be changed, since references are by name.
	Name        string `json:"name"`
	Kind        string `json:"kind"`                  // env, file, vault, aws, azure, google
	Description string `json:"description,omitempty"` // at most 1,024 characters

	// Inputs are the values of the kind's inputs by key. Secrets are write-only, as in a
	// Credential; a reference may be to the stores env and file.
	Inputs Inputs `json:"inputs,omitempty"`

	// Version goes up by one with every save; it is the ETag.
	Version   int64     `json:"version,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`

	// What follows is in answers only.

	Detail string   `json:"detail,omitempty"`  // what it is, in one line
	Error  string   `json:"error,omitempty"`   // why it could not be read when it was last tried; "" when it could, or nobody tried
	UsedBy []string `json:"used_by,omitempty"` // what refers to it and so keeps it from being deleted

	// LastSuccess and LastError are of the replica that answers, since it started.
	LastSuccess time.Time     `json:"last_success,omitzero"`
	LastError   *StoreFailure `json:"last_error,omitempty"` // of the last failure, even if a later read worked
}

// StoreFailure is one time that a secret store could not be read.
type StoreFailure struct {
	At      time.Time `json:"at"`
	Message string    `json:"message"`
}

// Division groups objects; roles are held in divisions.
type Division struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// OAuthClient is a client of the hub's own authorization server.
type OAuthClient struct {
	ID          string       `json:"id,omitempty"` // assigned by the hub; it is the client_id
	Name        string       `json:"name"`
	Description string       `json:"description,omitempty"`
	Roles       []Assignment `json:"roles"`

	// Credentials are those that the client may use, out of those that its roles allow, and
	// how; none means all of these. In an update, nil keeps what there is.
	Credentials []CredentialUse `json:"credentials,omitempty"`

	// Secret is the client secret, in the answer to the creation only.
	Secret    string    `json:"client_secret,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`

	ClientSettings

	// DeletedAt is when the client was deleted; zero: it is not. Until RestorableUntil it can be restored.
	DeletedAt       time.Time `json:"deleted_at,omitzero"`
	RestorableUntil time.Time `json:"restorable_until,omitzero"`

	// State is ClientActive or ClientInactive; "" in a write leaves it, and is active for a new client.
	State string `json:"state,omitempty"`

	// Version goes up by one with every change; it is the ETag. In an update it is the version
	// that is to be replaced, 0 being any.
	Version int64 `json:"version,omitempty"`

	// SecretExpiresAt goes with Secret: Unix seconds, 0 for never (RFC 7591 section 3.2.1).
	SecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"`

	// LiveTokens says, in the answer to a reset of the secret, what became of the client's
	// tokens: "kept" until they expire, or "revoked".
	LiveTokens string `json:"live_tokens,omitempty"`
}

// CredentialUse lets a client use one credential. A client may have several for the same one.
type CredentialUse struct {
	// Credential is a name or id; in answers the name, or the id of one that is deleted.
	Credential string `json:"credential"`

	// Via says how: ViaToken, which is the default, ViaProxy or ViaEndpoint.
	Via string `json:"via,omitempty"`

	// Methods are those of requests through the proxy, such as GET; none means all. GET allows
	// HEAD too. With ViaProxy only.
	Methods []string `json:"methods,omitempty"`

	// Paths are how paths behind the API's base URL may begin, such as /messages, which is
	// also that path itself and not /messages2; none means all. With ViaProxy only.
	Paths []string `json:"paths,omitempty"`

	// Endpoints are the names of endpoints of the connector; none means all. With ViaEndpoint only.
	Endpoints []string `json:"endpoints,omitempty"`
}

// The values of CredentialUse.Via.
const (
	ViaToken = "token" // reads tokens, and sends requests through the proxy
	ViaProxy = "proxy" // sends requests through the proxy, and never sees a token

	// ViaEndpoint calls endpoints that the connector names, with values for their inputs, and nothing
	// else: the client fires what somebody has prepared.
	ViaEndpoint = "endpoint"
)

// Assignment is a role held in a division; "*" is all divisions.
type Assignment struct {
	Role     string `json:"role"`
	Division string `json:"division"`
}

// Event is one row of the audit trail. It holds names, never values.
type Event struct {
	ID       string    `json:"id"`
	At       time.Time `json:"at"`
	Caller   string    `json:"caller"`      // id of who did it
	Name     string    `json:"caller_name"` // its name at that time
	Action   string    `json:"action"`      // credential.create, credential.validate, key.rotate, …
	Outcome  string    `json:"outcome"`     // done, denied, failed
	Object   string    `json:"object,omitempty"`
	Division string    `json:"division,omitempty"`
	Fields   []string  `json:"fields,omitempty"` // names of what changed
	Detail   string    `json:"detail,omitempty"`
}

// Page is one page of a list. Next is the cursor of the following page, "" on the last.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}
