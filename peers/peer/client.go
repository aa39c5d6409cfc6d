package peer

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Client is a client registered at a Server, with all it takes to be that client.
type Client struct {
	ID       string
	Method   string // token_endpoint_auth_method (RFC 7591 section 2)
	TokenURL string // where this client asks for tokens
	Secret   string // of the client_secret methods

	// Key is the private JWK, with kid and alg, that signs the assertions of this client.
	Key []byte

	// CertificatePEM and KeyPEM are the client certificate: of the TLS methods, and beside
	// another method of clients whose tokens are bound to it (RFC 8705 section 3).
	CertificatePEM, KeyPEM []byte

	DPoP bool // the server issues this client DPoP-bound tokens only
}

// Certificate is the client certificate, nil when the client has none.
func (c *Client) Certificate(tb testing.TB) *tls.Certificate {
	tb.Helper()
	if c.CertificatePEM == nil {
		return nil
	}
	pair, err := tls.X509KeyPair(c.CertificatePEM, c.KeyPEM)
	if err != nil {
		tb.Fatal(err)
	}
	return &pair
}

// Secrets that a client has to encode right (RFC 6749 Appendix B) to get through.
const (
	secret        = "u7Yq0cJ3mZ8sVtR2nKxWb5LdPf1HgEa4-TiOoUyBhCk" // long enough for HS256
	awkwardSecret = "jhyun/ku[ojubbj]/jhgfdrg^7*dfg&jkiu#bjshdm,ktttdg"
	percentSecret = "a=b+c%25 :"   // all that VSCHAR allows (RFC 6749 Appendix A.2)
	accentSecret  = "a=b+c%25 é:"  // beyond it; oidc-provider refuses to register such a client
	awkwardID     = "awkward id:/" // a colon in the id is what breaks a Basic without Appendix B
	percentID     = "50%+1"
)

// spec says what a client is; newClients makes one of it.
type spec struct {
	name       string
	id, secret string // name and the long secret when empty
	method     string // name when empty
	alg        jose.SignatureAlgorithm
	grantType  string // client_credentials when empty
	certBound  bool   // by a certificate beside the method
	dpop       bool
	nonce      bool
	ttl        int    // of its tokens, in seconds
	redirect   string // where people are sent back to; then grantType is authorization_code
}

const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

var oidcProviderClients = []spec{
	{name: "client_secret_basic"},
	{name: "client_secret_post"},
	{name: "client_secret_jwt", alg: jose.HS256},
	{name: "private_key_jwt_ES256", method: "private_key_jwt", alg: jose.ES256},
	{name: "private_key_jwt_PS256", method: "private_key_jwt", alg: jose.PS256},
	{name: "private_key_jwt_RS256", method: "private_key_jwt", alg: jose.RS256},
	{name: "private_key_jwt_EdDSA", method: "private_key_jwt", alg: jose.EdDSA},
	{name: "tls_client_auth"},
	{name: "self_signed_tls_client_auth"},
	{name: "private_key_jwt_mtls", method: "private_key_jwt", alg: jose.ES256, certBound: true},
	{name: "dpop", method: "client_secret_basic", dpop: true},
	{name: "dpop_nonce", method: "client_secret_basic", dpop: true, nonce: true},
	{name: "short", method: "client_secret_basic", ttl: int(ShortLifetime.Seconds())},
	{name: "awkward_basic", id: awkwardID, secret: awkwardSecret, method: "client_secret_basic"},
	{name: "awkward_post", id: awkwardID + "post", secret: awkwardSecret, method: "client_secret_post"},
	{name: "percent_basic", id: percentID, secret: percentSecret, method: "client_secret_basic"},
	{name: "percent_post", id: percentID + "post", secret: percentSecret, method: "client_secret_post"},
}

var fositeClients = []spec{
	{name: "client_secret_basic"},
	{name: "client_secret_post"},
	{name: "private_key_jwt_ES256", method: "private_key_jwt", alg: jose.ES256},
	{name: "private_key_jwt_PS256", method: "private_key_jwt", alg: jose.PS256},
	{name: "private_key_jwt_RS256", method: "private_key_jwt", alg: jose.RS256},
	{name: "jwt_bearer", method: "client_secret_basic", alg: jose.ES256, grantType: jwtBearer},
	{name: "short", method: "client_secret_basic", ttl: int(ShortLifetime.Seconds())},
	{name: "awkward_basic", id: awkwardID, secret: awkwardSecret, method: "client_secret_basic"},
	{name: "awkward_post", id: awkwardID + "post", secret: awkwardSecret, method: "client_secret_post"},
	{name: "percent_basic", id: percentID, secret: accentSecret, method: "client_secret_basic"},
	{name: "percent_post", id: percentID + "post", secret: accentSecret, method: "client_secret_post"},
}

// registration is what a server is told about a client: RFC 7591 metadata, and three
// members of our own that the servers turn into their configuration.
type registration struct {
	ID            string              `json:"client_id"`
	Secret        string              `json:"client_secret,omitempty"`
	GrantTypes    []string            `json:"grant_types"`
	ResponseTypes []string            `json:"response_types"`
	RedirectURIs  []string            `json:"redirect_uris"`
	Scope         string              `json:"scope"`
	Method        string              `json:"token_endpoint_auth_method"`
	Alg           string              `json:"token_endpoint_auth_signing_alg,omitempty"`
	JWKS          *jose.JSONWebKeySet `json:"jwks,omitempty"`
	SANDNS        string              `json:"tls_client_auth_san_dns,omitempty"`
	CertBound     bool                `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	DPoP          bool                `json:"dpop_bound_access_tokens,omitempty"`

	Audience []string `json:"audience,omitempty"`
	Nonce    bool     `json:"dpop_nonce_required,omitempty"`
	TTL      int      `json:"access_token_ttl,omitempty"` // seconds
}

func newClients(tb testing.TB, specs []spec, pki *Authority, keys *keys) (map[string]*Client, []registration) {
	tb.Helper()
	clients := map[string]*Client{}
	var registrations []registration
	for _, s := range specs {
		c := &Client{ID: cmp.Or(s.id, s.name), Method: cmp.Or(s.method, s.name), DPoP: s.dpop}
		r := registration{
			ID:         c.ID,
			GrantTypes: []string{cmp.Or(s.grantType, "client_credentials")},
			// Empty lists, not absent ones: the default is the authorization code flow.
			ResponseTypes: []string{}, RedirectURIs: []string{},
			Scope:    ScopeRead + " " + ScopeWrite,
			Method:   c.Method,
			DPoP:     s.dpop,
			Audience: []string{API},
			Nonce:    s.nonce,
			TTL:      s.ttl,
		}
		if s.redirect != "" {
			r.ResponseTypes, r.RedirectURIs = []string{"code"}, []string{s.redirect}
			r.Scope = "openid email profile groups"
		}
		switch c.Method {
		case "client_secret_basic", "client_secret_post", "client_secret_jwt":
			c.Secret = cmp.Or(s.secret, secret)
			r.Secret = c.Secret
		case "tls_client_auth":
			r.SANDNS = "client.example.com"
			r.CertBound = true
			c.CertificatePEM, c.KeyPEM = pki.Issue(tb, r.SANDNS)
		case "self_signed_tls_client_auth":
			r.CertBound = true
			own := NewAuthority(tb, "self-signed client") // no name the server asks for
			c.CertificatePEM, c.KeyPEM = own.PEM, own.KeyPEM(tb)
			r.JWKS = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
				Key: own.cert.PublicKey, Certificates: []*x509.Certificate{own.cert},
			}}}
		}
		if s.certBound {
			r.CertBound = true
			c.CertificatePEM, c.KeyPEM = pki.Issue(tb, "client.example.com")
		}
		if s.alg != "" && s.alg != jose.HS256 {
			key := keys.of(s.alg)
			private, err := json.Marshal(key)
			if err != nil {
				tb.Fatal(err)
			}
			c.Key = private
			r.JWKS = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}
		}
		if c.Method == "private_key_jwt" || c.Method == "client_secret_jwt" {
			r.Alg = string(s.alg)
		}
		clients[s.name] = c
		registrations = append(registrations, r)
	}
	return clients, registrations
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
