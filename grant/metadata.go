package grant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Metadata is what an authorization server publishes of itself (RFC 8414 section 2), as
// far as it matters to a client that asks for tokens.
type Metadata struct {
	Issuer             string   `json:"issuer"`
	TokenEndpoint      string   `json:"token_endpoint"`
	AuthorizeEndpoint  string   `json:"authorization_endpoint,omitempty"` // for the browser of a person; not checked
	RevocationEndpoint string   `json:"revocation_endpoint,omitempty"`
	GrantTypes         []string `json:"grant_types_supported,omitempty"`
	Scopes             []string `json:"scopes_supported,omitempty"` // may be incomplete

	// AuthMethods are the methods of client authentication at the token endpoint. Absent
	// means client_secret_basic only.
	AuthMethods    []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	AuthAlgorithms []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	DPoPAlgorithms []string `json:"dpop_signing_alg_values_supported,omitempty"` // RFC 9449 section 5.1

	// MTLS are the endpoints for clients with a certificate (RFC 8705 section 5).
	MTLS struct {
		TokenEndpoint      string `json:"token_endpoint,omitempty"`
		RevocationEndpoint string `json:"revocation_endpoint,omitempty"`
	} `json:"mtls_endpoint_aliases,omitzero"`
}

// Discover reads the metadata of the authorization server with the given issuer identifier:
// an https URL (http for a loopback address) without query and fragment. It looks where
// RFC 8414 section 3.1 says, and when nothing is there, where OpenID Connect Discovery does.
// The metadata is unusable, and an error, if its issuer is not the identical string (section 3.3).
// The error is always an *Error.
func (c *Client) Discover(ctx context.Context, issuer string) (*Metadata, error) {
	m, err := c.discover(ctx, issuer)
	return m, during("discovery", err)
}

func (c *Client) discover(ctx context.Context, issuer string) (*Metadata, error) {
	u, err := parseEndpoint(issuer)
	if err == nil && strings.Contains(issuer, "?") {
		err = errors.New("must not have a query")
	}
	if err != nil {
		return nil, prepareError("issuer", err)
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()

	base, path := u.Scheme+"://"+u.Host, strings.TrimSuffix(u.EscapedPath(), "/")
	m, err := c.metadata(ctx, issuer, base+"/.well-known/oauth-authorization-server"+path)
	if e, ok := errors.AsType[*Error](err); ok && e.Stage == StageResponse && e.Class == Permanent && e.Err != errIssuer {
		m, err = c.metadata(ctx, issuer, base+path+"/.well-known/openid-configuration")
	}
	return m, err
}

// errIssuer is the cause of an Error about metadata of another issuer.
var errIssuer = errors.New("issuer mismatch")

func (c *Client) metadata(ctx context.Context, issuer, location string) (*Metadata, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, prepareError("location", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", userAgent)
	hide := newRedactor(nil, location)
	ans, err := c.send(ctx, &attempt{req: req, hide: hide})
	if err != nil {
		return nil, err
	}
	if ans.Status != http.StatusOK {
		return nil, ans.refusal()
	}
	if _, ok := ans.object(); !ok {
		return nil, ans.nonsense("the metadata at " + location + " is " + ans.describe(hide))
	}
	var m Metadata
	if err := json.Unmarshal(ans.Body, &m); err != nil {
		return nil, ans.nonsense("the metadata at " + location + " is malformed")
	}
	if m.Issuer != issuer {
		e := ans.nonsense(fmt.Sprintf("the metadata at %s is of issuer %q, not of %q", location, hide.text(m.Issuer, 200, true), issuer))
		e.Err = errIssuer
		return nil, e
	}
	for name, endpoint := range map[string]string{"token_endpoint": m.TokenEndpoint, "mtls_endpoint_aliases.token_endpoint": m.MTLS.TokenEndpoint} {
		if err := CheckTokenURL(endpoint); err != nil && (endpoint != "" || name == "token_endpoint") {
			return nil, ans.nonsense(fmt.Sprintf("%s in the metadata %v", name, err))
		}
	}
	return &m, nil
}

// TokenURL is the token endpoint for r: the mTLS alias, if there is one, when r presents a
// certificate (RFC 8705 section 5).
func (m *Metadata) TokenURL(r *Request) string {
	if r.Certificate != nil && m.MTLS.TokenEndpoint != "" {
		return m.MTLS.TokenEndpoint
	}
	return m.TokenEndpoint
}

// RevocationURL is the revocation endpoint for r, chosen as in TokenURL; "" when there is none.
func (m *Metadata) RevocationURL(r *Request) string {
	if r.Certificate != nil && m.MTLS.RevocationEndpoint != "" {
		return m.MTLS.RevocationEndpoint
	}
	return m.RevocationEndpoint
}

// PreferredAuthMethod is the method of client authentication to offer first: an asymmetric one
// when the server has one (RFC 9700 section 2.5), since then nothing that the server stores or logs
// can be used to impersonate the client. "" when it supports none that this package knows.
func (m *Metadata) PreferredAuthMethod() string {
	offered := m.AuthMethods
	if len(offered) == 0 { // RFC 8414 section 2
		offered = []string{"client_secret_basic"}
	}
	for _, method := range []string{
		"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "client_secret_jwt", "client_secret_basic", "client_secret_post",
	} {
		if slices.Contains(offered, method) {
			return method
		}
	}
	return ""
}

// Warnings says in sentences what r uses and the server does not claim to support. It may work all
// the same: metadata are not always true.
func (m *Metadata) Warnings(r *Request) []string {
	var w []string
	if want := m.TokenURL(r); r.TokenURL != want {
		w = append(w, "the server's token endpoint for this request is "+want)
	}
	methods := m.AuthMethods
	if len(methods) == 0 {
		methods = []string{"client_secret_basic"}
	}
	accepted := []string{r.auth().Method()}
	if _, ok := r.auth().(TLS); ok {
		accepted = append(accepted, "self_signed_tls_client_auth")
	}
	if !slices.ContainsFunc(methods, func(s string) bool { return slices.Contains(accepted, s) }) {
		w = append(w, fmt.Sprintf("the server does not list client authentication %s; it lists %s", accepted[0], strings.Join(methods, ", ")))
	}
	unlisted := func(what, value string, list []string) {
		if len(list) > 0 && value != "" && !slices.Contains(list, value) {
			w = append(w, fmt.Sprintf("the server does not list %s %s; it lists %s", what, value, strings.Join(list, ", ")))
		}
	}
	unlisted("grant type", r.grantType(), m.GrantTypes)
	switch a := r.auth().(type) {
	case SecretJWT:
		unlisted("signature algorithm", a.algorithm(), m.AuthAlgorithms)
	case PrivateKeyJWT:
		if a.Key != nil {
			unlisted("signature algorithm", a.Key.Algorithm, m.AuthAlgorithms)
		}
	}
	if r.DPoP != nil {
		unlisted("DPoP algorithm", r.DPoP.Algorithm(), m.DPoPAlgorithms)
	}
	return w
}
