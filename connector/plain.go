package connector

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// plain is the connector of plain credentials.
var plain = &Definition{
	Name:        grantway.PlainConnector,
	Title:       "OAuth2 Client Credentials",
	Description: "Any authorization server that supports the client credentials grant (RFC 6749 section 4.4).",
	compile:     compilePlain,
	Inputs: []Input{
		{Key: "client_id", Title: "Client Identifier", Type: String, Required: true, Max: 1024},
		{Key: "client_secret", Title: "Client Secret", Type: SecretText, Max: 8192,
			RequiredWhen: &Condition{Key: "auth_method", Values: []string{"client_secret_basic", "client_secret_post", "client_secret_jwt"}}},
		{Key: "token_endpoint", Title: "Token Endpoint", Type: URL, Required: true, Max: 2048,
			Help: "Where tokens are asked for, such as https://login.example.com/oauth2/token."},
		{Key: "scopes", Title: "Scopes", Type: Scopes, Max: 8192,
			Help: "Separated by spaces, sent in this order and case. Empty sends no scope parameter."},
		{Key: "auth_method", Title: "Authentication Method", Type: Enum, Default: "client_secret_basic",
			Enum: []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "none"},
			Help: "HTTP Basic is what every server must support. Secrets in the body are not recommended (RFC 6749 section 2.3.1)."},

		{Key: "basic_encoding", Title: "Basic encoding", Type: Enum, Enum: []string{"rfc6749", "raw"}, Default: "rfc6749", Advanced: true,
			Help: "raw is for servers that do not form-decode the two halves of the Basic header."},
		{Key: "client_id_in_body", Title: "Client identifier in the body too", Type: Boolean, Default: "false", Advanced: true,
			Help: "For servers that want client_id in the body beside HTTP Basic."},
		{Key: "audience", Title: "Audience", Type: String, Max: 2048, Advanced: true},
		{Key: "resource", Title: "Resource", Type: URI, Max: 2048, Advanced: true,
			Help: "An absolute URI without fragment (RFC 8707)."},
		{Key: "extra_parameters", Title: "Extra parameters", Type: Parameters, Advanced: true},
		{Key: "grant_type", Title: "Grant type", Type: String, Default: grant.ClientCredentials, Max: 256, Advanced: true,
			Help: "client_credentials, " + grant.JWTBearer + ", or another grant that takes one step."},
		{Key: "default_lifetime_seconds", Title: "Default lifetime", Type: Seconds, Advanced: true,
			Help: "How long a token is used when the answer does not say how long it is valid. Empty is 300 seconds."},
		{Key: "token_type_optional", Title: "Token type may be missing", Type: Boolean, Default: "false", Advanced: true,
			Help: "For servers that leave token_type out of the answer although RFC 6749 requires it; Bearer is assumed."},

		{Key: "next_client_secret", Title: "Next client secret", Type: SecretText, Max: 8192, Advanced: true,
			Help: "Tried when the server refuses the current one, and promoted when it works."},
		{Key: "client_secret_expires_at", Title: "Client secret expires", Type: Date, Advanced: true},

		{Key: "client_certificate", Title: "Client certificate", Type: PEM, Max: 65536, Advanced: true,
			RequiredWhen: &Condition{Key: "auth_method", Values: []string{"tls_client_auth", "self_signed_tls_client_auth"}},
			Help:         "The certificate for mutual TLS (RFC 8705), with its chain. It goes with every authentication method."},
		{Key: "client_certificate_key", Title: "Client certificate's key", Type: SecretText, Max: 65536, Advanced: true,
			RequiredWhen: &Condition{Key: "auth_method", Values: []string{"tls_client_auth", "self_signed_tls_client_auth"}}},

		{Key: "signing_key", Title: "Signing key", Type: SecretText, Max: 65536, Advanced: true,
			RequiredWhen: &Condition{Key: "auth_method", Values: []string{"private_key_jwt"}, Unless: "assertion"},
			Help:         "A private key, PEM or JWK, that signs assertions (RFC 7523)."},
		{Key: "signing_algorithm", Title: "Signing algorithm", Type: Enum, Advanced: true,
			Enum: []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"},
			Help: "Empty takes the usual one for the kind of key."},
		{Key: "signing_key_id", Title: "Signing key's id", Type: String, Max: 256, Advanced: true, Help: "The kid header. Empty takes it from a JWK."},
		{Key: "signing_certificate", Title: "Signing certificate", Type: PEM, Max: 65536, Advanced: true,
			Help: "Adds the x5t#S256 header, which Microsoft wants."},
		{Key: "assertion_audience", Title: "Assertion audience", Type: String, Max: 2048, Advanced: true,
			RequiredWhen: &Condition{Key: "auth_method", Values: []string{"private_key_jwt", "client_secret_jwt"}, Unless: "assertion"},
			Help:         "The authorization server's issuer. Only old servers want the token endpoint's URL here."},
		{Key: "assertion", Title: "Assertion", Type: SecretText, Max: 65536, Advanced: true,
			Help: "A ready-made assertion, usually a file in a secret store that the platform keeps fresh (workload identity)."},
		{Key: "assertion_issuer", Title: "Assertion issuer", Type: String, Max: 2048, Advanced: true, Help: "For the JWT bearer grant. Empty is the client identifier."},
		{Key: "assertion_subject", Title: "Assertion subject", Type: String, Max: 2048, Advanced: true, Help: "For the JWT bearer grant. Empty is the issuer."},

		{Key: "dpop", Title: "DPoP", Type: Boolean, Default: "false", Advanced: true,
			Help: "Ask for tokens bound to a key of this credential (RFC 9449)."},
		{Key: "dpop_key", Title: "DPoP key", Type: SecretText, Max: 65536, Advanced: true,
			Help: "A private key, PEM or JWK. The hub makes one when none is given."},

		{Key: "base_url", Title: "API base URL", Type: BaseURL, Max: 2048, Advanced: true,
			Help: "Where the API begins, such as https://api.example.com/v1. Requests to /proxy/NAME/… go there, with the token."},
		{Key: "requests_per_minute", Title: "Requests per minute", Type: Count, Advanced: true,
			Help: "How many requests the API takes; more of them wait at /proxy/NAME/…. Empty is no limit."},
	},
}

func compilePlain(v Values) (*grant.Request, error) {
	r := &grant.Request{
		TokenURL:          v.text("token_endpoint"),
		AllowPlainHTTP:    true, // to loopback; whether the hub may connect there is up to --allow-networks
		GrantType:         v.text("grant_type"),
		ClientID:          v.text("client_id"),
		SendClientID:      v.text("client_id_in_body") == "true",
		Scope:             v.text("scopes"),
		TokenTypeOptional: v.text("token_type_optional") == "true",
		Form:              url.Values{}, Query: url.Values{}, Header: http.Header{},
	}
	if s := v.text("audience"); s != "" {
		r.Audience = []string{s}
	}
	if s := v.text("resource"); s != "" {
		r.Resource = []string{s}
	}
	if n, err := strconv.Atoi(v.text("default_lifetime_seconds")); err == nil {
		r.DefaultLifetime = time.Duration(n) * time.Second
	}
	for _, p := range v.Plain["extra_parameters"].Params {
		switch p.In {
		case "body":
			r.Form.Add(p.Name, p.Value)
		case "query":
			r.Query.Add(p.Name, p.Value)
		case "header":
			r.Header.Add(p.Name, p.Value)
		}
	}
	var err error
	if r.Auth, err = v.authenticator(); err != nil {
		return nil, err
	}
	if r.Assertion, err = v.bearerAssertion(); err != nil {
		return nil, err
	}
	if r.Certificate, err = v.certificate(); err != nil {
		return nil, err
	}
	if v.text("dpop") == "true" {
		if r.DPoP, err = grant.ParseDPoPKey([]byte(v.Secrets["dpop_key"])); err != nil {
			return nil, wrongInput("dpop_key", err)
		}
	}
	if err := r.Check(); err != nil {
		return nil, &grantway.Error{Code: grantway.Invalid, Message: "the credential cannot be used as it is", Err: err,
			Fields: []grantway.Field{{Pointer: "/inputs", Detail: err.Error()}}}
	}
	return r, nil
}

func (v Values) text(key string) string { return v.def.text(v.Plain, key) }

// authenticator is the authentication method that auth_method names.
func (v Values) authenticator() (grant.Authenticator, error) {
	secret := v.Secrets["client_secret"]
	switch v.text("auth_method") {
	case "client_secret_post":
		return grant.Post{Secret: secret}, nil
	case "client_secret_jwt":
		return grant.SecretJWT{Secret: secret, Algorithm: v.text("signing_algorithm"), Audience: v.text("assertion_audience")}, nil
	case "private_key_jwt":
		if ready := v.Secrets["assertion"]; ready != "" {
			return grant.Assertion{Value: ready}, nil
		}
		key, err := v.signingKey()
		if err != nil {
			return nil, err
		}
		return grant.PrivateKeyJWT{Key: key, Audience: v.text("assertion_audience")}, nil
	case "tls_client_auth", "self_signed_tls_client_auth":
		return grant.TLS{}, nil
	case "none":
		return grant.None{}, nil
	}
	return grant.Basic{Secret: secret, Raw: v.text("basic_encoding") == "raw"}, nil
}

// bearerAssertion is the assertion of the JWT bearer grant (RFC 7523 section 2.1); nil for other grants.
func (v Values) bearerAssertion() (grant.AssertionSource, error) {
	if v.text("grant_type") != grant.JWTBearer {
		return nil, nil
	}
	if ready := v.Secrets["assertion"]; ready != "" {
		return grant.Assertion{Value: ready}, nil
	}
	key, err := v.signingKey()
	if err != nil {
		return nil, err
	}
	if v.text("assertion_audience") == "" {
		return nil, wrongInput("assertion_audience", errors.New("is required"))
	}
	issuer := v.text("assertion_issuer")
	if issuer == "" {
		issuer = v.text("client_id")
	}
	subject := v.text("assertion_subject")
	if subject == "" {
		subject = issuer
	}
	return grant.JWT{Key: key, Issuer: issuer, Subject: subject, Audience: v.text("assertion_audience")}, nil
}

func (v Values) signingKey() (*grant.SigningKey, error) {
	key, err := grant.ParseSigningKey([]byte(v.Secrets["signing_key"]))
	if err != nil {
		return nil, wrongInput("signing_key", err)
	}
	if alg := v.text("signing_algorithm"); alg != "" {
		key.Algorithm = alg
	}
	if kid := v.text("signing_key_id"); kid != "" {
		key.KeyID = kid
	}
	if chain := v.text("signing_certificate"); chain != "" {
		certificates, err := parseCertificates(chain)
		if err != nil {
			return nil, wrongInput("signing_certificate", err)
		}
		key.Certificate = certificates[0]
		if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Certificate.PublicKey) {
			return nil, wrongInput("signing_certificate", errors.New("is not the certificate of signing_key"))
		}
	}
	return key, nil
}

func (v Values) certificate() (*tls.Certificate, error) {
	chain := v.text("client_certificate")
	if chain == "" {
		return nil, nil
	}
	if v.Secrets["client_certificate_key"] == "" {
		return nil, wrongInput("client_certificate_key", errors.New("is required with client_certificate"))
	}
	pair, err := tls.X509KeyPair([]byte(chain), []byte(v.Secrets["client_certificate_key"]))
	if err != nil {
		return nil, wrongInput("client_certificate_key", errors.New("is not the private key of client_certificate, PEM"))
	}
	return &pair, nil
}

func parseCertificates(s string) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for rest := []byte(s); ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, errors.New("contains a private key; put that into the input for the key, which is stored as a secret")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds a PEM block that is not a certificate")
		}
		list = append(list, c)
	}
	if list == nil {
		return nil, errors.New("must be a PEM certificate (-----BEGIN CERTIFICATE-----)")
	}
	return list, nil
}

func wrongInput(key string, err error) error {
	return &grantway.Error{
		Code: grantway.Invalid, Message: "the credential cannot be used as it is",
		Fields: []grantway.Field{{Pointer: "/inputs/" + key, Detail: err.Error()}},
	}
}
