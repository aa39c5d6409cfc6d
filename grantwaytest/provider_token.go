package grantwaytest

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Client is a client of a provider and how it is served.
type Client struct {
	ID     string
	Secret string

	// Method is the one way the client authenticates; "" is AuthBasic.
	Method Method

	// Certificate is the client's own, for AuthTLS: see NewClientCertificate.
	Certificate *x509.Certificate

	// Scopes are what the client may ask for, and what it gets when it does not ask.
	// Nil allows any scope and grants none that was not asked for.
	Scopes []string

	// Lifetime is that of its tokens, sent as expires_in in whole seconds; 0 is 1 hour.
	Lifetime time.Duration

	// JWT issues tokens in the profile of RFC 9068, signed with ES256, instead of opaque ones.
	JWT bool

	// DPoP refuses token requests without a proof (RFC 9449). A proof that comes is
	// checked, and the token bound to its key, for every client.
	DPoP bool
}

// Method is a client authentication method.
type Method string

// The methods, by their registered names (RFC 7591 section 2, RFC 8705 section 2.2.1) where they have one.
const (
	AuthBasic    Method = "client_secret_basic"         // both halves encoded by RFC 6749 Appendix B
	AuthRawBasic Method = "client_secret_basic (raw)"   // both halves as they are, as some servers want it
	AuthPost     Method = "client_secret_post"          // client_id and client_secret in the body
	AuthTLS      Method = "self_signed_tls_client_auth" // client_id in the body, and Client.Certificate
	AuthNone     Method = "none"                        // client_id in the body
)

// issuer is the authorization server behind a provider's endpoints.
type issuer struct {
	key    *ecdsa.PrivateKey
	signer jose.Signer // of JWT access tokens

	mu      sync.Mutex // guards what follows
	clients map[string]Client
	live    map[string]*accessToken // by value
	values  []string                // of every token issued
	proofs  map[string]bool         // jti of every DPoP proof taken
}

type accessToken struct {
	client, scope string
	expires       time.Time
	thumbprint    string // of the DPoP key; "" for a bearer token
}

func newIssuer() (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return nil, err
	}
	return &issuer{
		key:     key,
		signer:  signer,
		clients: map[string]Client{},
		live:    map[string]*accessToken{},
		proofs:  map[string]bool{},
	}, nil
}

// Register adds c to the clients, or replaces the one with its ID: so a secret is
// rotated. Tokens issued before stay valid.
func (p *Provider) Register(c Client) {
	p.issuer.mu.Lock()
	defer p.issuer.mu.Unlock()
	p.issuer.clients[c.ID] = c
}

// Unregister removes the client with this ID. Tokens issued before stay valid; see Revoke.
func (p *Provider) Unregister(id string) {
	p.issuer.mu.Lock()
	defer p.issuer.mu.Unlock()
	delete(p.issuer.clients, id)
}

// Revoke makes the API refuse every token issued so far.
func (p *Provider) Revoke() {
	p.issuer.mu.Lock()
	defer p.issuer.mu.Unlock()
	clear(p.issuer.live)
}

// Tokens are the values of all tokens issued, oldest first, expired and revoked ones
// included: what a test looks for where no token may be.
func (p *Provider) Tokens() []string {
	p.issuer.mu.Lock()
	defer p.issuer.mu.Unlock()
	return slices.Clone(p.issuer.values)
}

// PublicKey verifies the JWT access tokens.
func (p *Provider) PublicKey() crypto.PublicKey { return p.issuer.key.Public() }

// refusal is an error response of the token endpoint (RFC 6749 section 5.2).
type refusal struct {
	status            int
	code, description string
}

func (r *refusal) Error() string { return r.code + ": " + r.description }

func refuse(status int, code, format string, args ...any) error {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

func isForm(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "application/x-www-form-urlencoded"
}

// serveToken is the healthy token endpoint.
func (s *issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	answer, err := s.grant(r)
	status := http.StatusOK
	if err != nil {
		refused := &refusal{http.StatusInternalServerError, "server_error", err.Error()}
		errors.As(err, &refused)
		status = refused.status
		answer = map[string]any{"error": refused.code, "error_description": refused.description}
		if status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="grantwaytest"`)
		}
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// grant answers a token request: RFC 6749 sections 3.2, 4.4 and 5.
func (s *issuer) grant(r *http.Request) (map[string]any, error) {
	form, err := parseForm(r)
	if err != nil {
		return nil, err
	}
	client, err := s.authenticate(r, form)
	if err != nil {
		return nil, err
	}
	switch form.Get("grant_type") {
	case "client_credentials":
	case "":
		return nil, refuse(400, "invalid_request", "grant_type is missing")
	default:
		return nil, refuse(400, "unsupported_grant_type", "only client_credentials is served")
	}
	scopes := strings.Fields(form.Get("scope"))
	if len(scopes) == 0 {
		scopes = client.Scopes
	}
	for _, scope := range scopes {
		if client.Scopes != nil && !slices.Contains(client.Scopes, scope) {
			return nil, refuse(400, "invalid_scope", "the client may not have one of the scopes")
		}
	}
	token := &accessToken{client: client.ID, scope: strings.Join(scopes, " ")}
	kind := "Bearer"
	if len(r.Header.Values("DPoP")) > 0 || client.DPoP {
		kind = "DPoP"
		if token.thumbprint, err = s.checkProof(r, ""); err != nil {
			return nil, refuse(400, "invalid_dpop_proof", "%v", err)
		}
	}
	lifetime := cmp.Or(client.Lifetime, time.Hour)
	token.expires = time.Now().Add(lifetime)
	value, err := s.issue(token, client.JWT, origin(r), slices.Concat(form["audience"], form["resource"]))
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"access_token": value, "token_type": kind, "expires_in": int64(lifetime / time.Second)}
	if token.scope != "" {
		answer["scope"] = token.scope
	}
	return answer, nil
}

// parseForm takes the parameters from the body, and only once each (RFC 6749 section 3.2).
func parseForm(r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		return nil, refuse(405, "invalid_request", "the token endpoint takes POST")
	}
	if !isForm(r.Header) {
		return nil, refuse(400, "invalid_request", "the body must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, refuse(400, "invalid_request", "the body is not well-formed")
	}
	for name, values := range form {
		if len(values) > 1 && name != "resource" && name != "audience" {
			return nil, refuse(400, "invalid_request", "a parameter comes more than once")
		}
	}
	query := r.URL.Query()
	for _, name := range []string{"client_secret", "client_assertion", "client_id"} {
		if query.Has(name) {
			return nil, refuse(400, "invalid_request", "%s in the URL", name)
		}
	}
	return form, nil
}

// authenticate finds the client, which must use its registered method and no other
// (RFC 6749 section 2.3). Unlike a real server it says what was wrong.
func (s *issuer) authenticate(r *http.Request, form url.Values) (*Client, error) {
	id, secret, basic := r.BasicAuth()
	var rawID, rawSecret string
	authorization := r.Header.Values("Authorization")
	if len(authorization) > 0 {
		if !basic || len(authorization) > 1 {
			return nil, refuse(401, "invalid_client", "the Authorization header is not Basic")
		}
		if form.Has("client_secret") || form.Has("client_assertion") {
			return nil, refuse(400, "invalid_request", "more than one authentication method")
		}
		rawID, rawSecret = id, secret
		id, secret = decodeAppendixB(rawID), decodeAppendixB(rawSecret)
	} else {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}

	s.mu.Lock()
	client, known := s.clients[id]
	if raw, ok := s.clients[rawID]; basic && ok && raw.Method == AuthRawBasic {
		client, known, id, secret = raw, true, rawID, rawSecret
	}
	s.mu.Unlock()
	if !known {
		return nil, refuse(401, "invalid_client", "unknown client")
	}
	if form.Has("client_id") && form.Get("client_id") != id {
		return nil, refuse(400, "invalid_request", "client_id is not the one that authenticated")
	}

	want := cmp.Or(client.Method, AuthBasic)
	var used Method
	switch {
	case basic && want == AuthRawBasic:
		used = AuthRawBasic
	case basic:
		used = AuthBasic
	case form.Has("client_secret"):
		used = AuthPost
	case want == AuthTLS && r.TLS != nil && len(r.TLS.PeerCertificates) > 0:
		used = AuthTLS
	default:
		used = AuthNone
	}
	switch {
	case used != want || form.Has("client_assertion"):
		return nil, refuse(401, "invalid_client", "the client is registered for %s", want)
	case used == AuthTLS && !r.TLS.PeerCertificates[0].Equal(client.Certificate):
		return nil, refuse(401, "invalid_client", "another certificate is registered")
	case used != AuthTLS && used != AuthNone && (secret == "" || secret != client.Secret):
		return nil, refuse(401, "invalid_client", "wrong secret")
	}
	return &client, nil
}

// decodeAppendixB undoes the encoding of RFC 6749 Appendix B. It is "" for text that was
// not encoded at all, which a lenient server would take for what it says.
func decodeAppendixB(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-._~*%+", c))
	}) {
		return ""
	}
	decoded, err := url.QueryUnescape(s)
	if err != nil {
		return ""
	}
	return decoded
}

// issue gives token a value and books it.
func (s *issuer) issue(token *accessToken, asJWT bool, origin string, audience []string) (string, error) {
	value := "gwtest_" + rand.Text()
	if asJWT {
		if len(audience) == 0 {
			audience = []string{origin + "/api/"}
		}
		claims := map[string]any{
			"iss":       origin,
			"sub":       token.client,
			"client_id": token.client,
			"aud":       audience,
			"scope":     token.scope,
			"iat":       time.Now().Unix(),
			"exp":       token.expires.Unix(),
			"jti":       rand.Text(),
		}
		if token.thumbprint != "" {
			claims["cnf"] = map[string]string{"jkt": token.thumbprint}
		}
		var err error
		if value, err = jwt.Signed(s.signer).Claims(claims).Serialize(); err != nil {
			return "", fmt.Errorf("sign access token: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[value] = token
	s.values = append(s.values, value)
	return value, nil
}
