package connector

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// oauth2Step is an OAuth2 with its templates compiled.
type oauth2Step struct {
	text                 map[string]*template // by the name of the field
	form, query, headers []pair
	parameters           string
}

func (c *compiler) oauth2(path string, o *OAuth2) *oauth2Step {
	out := &oauth2Step{text: map[string]*template{}, parameters: o.Parameters}
	for name, text := range o.texts() {
		at := join(path, name)
		if name == "token_url" {
			out.text[name] = c.url(at, text)
			continue
		}
		if t := c.text(at, text); t != nil {
			out.text[name] = t
		}
	}
	if out.text["token_url"] == nil && !c.Abstract {
		c.problem(join(path, "token_url"), "", "token_url is missing")
	}
	if method, ok := out.text["auth"].literal(); ok && method != "" && !slices.Contains(authMethods, method) {
		c.problem(join(path, "auth"), "the methods are "+strings.Join(authMethods, ", "), "there is no method %s", method)
	}
	if o.Parameters != "" {
		if in, ok := c.def.Input(o.Parameters); !ok || in.Type != Parameters {
			c.problem(join(path, "parameters"), "", "must be the key of an input of type parameters")
		}
	}
	out.form = c.pairs(join(path, "form"), o.Form, inText, false)
	out.query = c.pairs(join(path, "query"), o.Query, inText, false)
	out.headers = c.headers(join(path, "headers"), o.Headers, false)
	return out
}

var authMethods = []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth", "none"}

// oauth2Values are the fields of an OAuth2 as they came out, and which input each of them is, for errors.
type oauth2Values struct {
	text  map[string]string
	input map[string]string
}

// grantRequest makes the token request of RFC 6749.
func (p *Plan) grantRequest(o *oauth2Step, s *scope) (*grant.Request, error) {
	v := oauth2Values{text: map[string]string{}, input: map[string]string{}}
	for name, t := range o.text {
		text, err := t.eval(s)
		if err != nil {
			return nil, fieldError("", errors.New("the "+name+" of the token request: "+err.Error()))
		}
		v.text[name] = text
		if one := t.single(); one != nil && one.name != "" {
			v.input[name] = one.name
		}
	}
	r := &grant.Request{
		TokenURL:          v.text["token_url"],
		AllowPlainHTTP:    true, // to loopback; whether the hub may connect there is up to --allow-networks
		GrantType:         v.text["grant_type"],
		ClientID:          v.text["client_id"],
		SendClientID:      v.text["client_id_in_body"] == "true",
		Scope:             v.text["scope"],
		TokenTypeOptional: v.text["token_type_optional"] == "true",
		Form:              url.Values{}, Query: url.Values{}, Header: http.Header{},
	}
	if s := v.text["audience"]; s != "" {
		r.Audience = []string{s}
	}
	if s := v.text["resource"]; s != "" {
		r.Resource = []string{s}
	}
	if n, err := strconv.Atoi(v.text["default_lifetime"]); err == nil {
		r.DefaultLifetime = time.Duration(n) * time.Second
	}
	for _, param := range p.params(o.parameters) {
		switch param.In {
		case "body":
			r.Form.Add(param.Name, param.Value)
		case "query":
			r.Query.Add(param.Name, param.Value)
		case "header":
			r.Header.Add(param.Name, param.Value)
		}
	}
	for _, more := range []struct {
		list []pair
		add  func(name, value string)
	}{{o.form, r.Form.Add}, {o.query, r.Query.Add}, {o.headers, r.Header.Add}} {
		list, err := evalPairs(more.list, s, nil)
		if err != nil {
			return nil, fieldError("", err)
		}
		for _, one := range list {
			more.add(one.name, one.value)
		}
	}
	var err error
	if r.Auth, err = v.authenticator(); err != nil {
		return nil, err
	}
	if r.Assertion, err = v.bearerAssertion(); err != nil {
		return nil, err
	}
	r.Certificate = p.certificate
	if v.text["dpop"] == "true" {
		if r.DPoP, err = grant.ParseDPoPKey([]byte(v.text["dpop_key"])); err != nil {
			return nil, v.wrong("dpop_key", err)
		}
	}
	if err := r.Check(); err != nil {
		return nil, &grantway.Error{Code: grantway.Invalid, Message: "the credential cannot be used as it is", Err: err,
			Fields: []grantway.Field{{Pointer: "/inputs", Detail: err.Error()}}}
	}
	return r, nil
}

// authenticator is the authentication method that auth names.
func (v *oauth2Values) authenticator() (grant.Authenticator, error) {
	secret := grant.Secret(v.text["client_secret"])
	audience := v.text["assertion_audience"]
	switch v.text["auth"] {
	case "client_secret_post":
		return grant.Post{Secret: secret}, nil
	case "client_secret_jwt":
		return grant.SecretJWT{Secret: secret, Algorithm: v.text["signing_algorithm"], Audience: audience, Type: v.text["assertion_type"]}, nil
	case "private_key_jwt":
		if ready := v.text["assertion"]; ready != "" {
			return grant.Assertion{Value: grant.Secret(ready)}, nil
		}
		key, err := v.signingKey()
		if err != nil {
			return nil, err
		}
		return grant.PrivateKeyJWT{Key: key, Audience: audience, Type: v.text["assertion_type"]}, nil
	case "tls_client_auth", "self_signed_tls_client_auth":
		return grant.TLS{}, nil
	case "none":
		return grant.None{}, nil
	case "", "client_secret_basic":
		return grant.Basic{Secret: secret, Raw: v.text["basic_encoding"] == "raw"}, nil
	}
	return nil, v.wrong("auth", errors.New("is not a method of client authentication"))
}

// bearerAssertion is the assertion of an assertion grant (RFC 7521 section 4.1); nil for other grants.
func (v *oauth2Values) bearerAssertion() (grant.AssertionSource, error) {
	ready := v.text["assertion"]
	if v.text["grant_type"] != grant.JWTBearer {
		if ready != "" && v.text["auth"] != "private_key_jwt" && v.text["grant_type"] != "" && v.text["grant_type"] != grant.ClientCredentials {
			return grant.Assertion{Value: grant.Secret(ready)}, nil
		}
		return nil, nil
	}
	if ready != "" {
		return grant.Assertion{Value: grant.Secret(ready)}, nil
	}
	key, err := v.signingKey()
	if err != nil {
		return nil, err
	}
	if v.text["assertion_audience"] == "" {
		return nil, v.wrong("assertion_audience", errors.New("is required"))
	}
	issuer := v.text["assertion_issuer"]
	if issuer == "" {
		issuer = v.text["client_id"]
	}
	subject := v.text["assertion_subject"]
	if subject == "" {
		subject = issuer
	}
	return grant.JWT{Key: key, Issuer: issuer, Subject: subject, Audience: v.text["assertion_audience"]}, nil
}

func (v *oauth2Values) signingKey() (*grant.SigningKey, error) {
	key, err := grant.ParseSigningKey([]byte(v.text["signing_key"]))
	if err != nil {
		return nil, v.wrong("signing_key", err)
	}
	if alg := v.text["signing_algorithm"]; alg != "" {
		key.Algorithm = alg
	}
	if kid := v.text["signing_key_id"]; kid != "" {
		key.KeyID = kid
	}
	if chain := v.text["signing_certificate"]; chain != "" {
		certificates, err := parseCertificates(chain)
		if err != nil {
			return nil, v.wrong("signing_certificate", err)
		}
		key.Certificate = certificates[0]
		if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(key.Certificate.PublicKey) {
			return nil, v.wrong("signing_certificate", errors.New("is not the certificate of "+v.named("signing_key")))
		}
	}
	return key, nil
}

// named is the input that a field is, or the field.
func (v *oauth2Values) named(field string) string {
	if input := v.input[field]; input != "" {
		return input
	}
	return field
}

func (v *oauth2Values) wrong(field string, err error) error { return fieldError(v.input[field], err) }

// fieldError is an error of the values: of one input, or of all of them together.
func fieldError(input string, err error) error {
	e := &grantway.Error{Code: grantway.Invalid, Message: "the credential cannot be used as it is", Err: err,
		Fields: []grantway.Field{{Pointer: "/inputs", Detail: err.Error()}}}
	if input != "" {
		e.Fields[0].Pointer = grantway.Pointer("inputs", input)
	}
	return e
}

// clientCertificate is the certificate that the definition wants for all connections, nil if none.
func (p *Plan) clientCertificate(s *scope) (*tls.Certificate, error) {
	chain, err := p.def.certificate.eval(s)
	if err != nil || chain == "" {
		return nil, err
	}
	key, err := p.def.certificateKey.eval(s)
	if err != nil {
		return nil, err
	}
	input := func(t *template) string {
		if one := t.single(); one != nil {
			return one.name
		}
		return ""
	}
	if key == "" {
		return nil, fieldError(input(p.def.certificateKey), errors.New("is required with "+input(p.def.certificate)))
	}
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		return nil, fieldError(input(p.def.certificateKey), errors.New("is not the private key of "+input(p.def.certificate)+", PEM"))
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
			return nil, errors.New("holds a PEM block that is not a certificate")
		}
		list = append(list, c)
	}
	if list == nil {
		return nil, errors.New("must be a PEM certificate (-----BEGIN CERTIFICATE-----)")
	}
	return list, nil
}
