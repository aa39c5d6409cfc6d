package issuer

import (
	"slices"

	"github.com/grantway/grantway"
)

// metadata is the document of RFC 8414. It is made from what this hub does, so it is true: a
// grant that is not offered, or certificates that nobody looks at, are not in it.
func (i *Issuer) metadata() any {
	base := i.URL()
	m := map[string]any{
		"issuer":                            base,
		"token_endpoint":                    base + TokenPath,
		"introspection_endpoint":            base + IntrospectPath,
		"revocation_endpoint":               base + RevokePath,
		"jwks_uri":                          base + KeysPath,
		"dpop_signing_alg_values_supported": proofAlgNames(),
	}
	var types, algs []string
	for _, g := range grants {
		if i.offers(g) {
			types = append(types, g.name)
		}
	}
	m["grant_types_supported"] = types
	m["response_types_supported"] = []string{"code"} // required, even where there is no such endpoint
	if i.offers(authorizationCode) {
		m["authorization_endpoint"] = base + AuthorizePath
		m["code_challenge_methods_supported"] = []string{"S256"}
		m["authorization_response_iss_parameter_supported"] = true
		m["response_modes_supported"] = []string{"query"}
	}
	var methods []string
	for _, name := range methodNames() {
		switch name {
		case grantway.AuthFederated: // is private_key_jwt on the wire, with somebody else's key
			continue
		case grantway.AuthTLS:
			if i.ClientCAs == nil || !i.TakesCertificates {
				continue
			}
		case grantway.AuthSelfSignedTLS:
			if !i.TakesCertificates {
				continue
			}
		case grantway.AuthNone:
			if !i.offers(authorizationCode) {
				continue
			}
		}
		methods = append(methods, name)
	}
	for _, alg := range asymmetric {
		algs = append(algs, string(alg))
	}
	algs = append(algs, "HS256", "HS384")
	proven := slices.DeleteFunc(slices.Clone(methods), func(name string) bool { return name == grantway.AuthNone })
	for endpoint, names := range map[string][]string{"token": methods, "introspection": proven, "revocation": methods} {
		m[endpoint+"_endpoint_auth_methods_supported"] = names
		m[endpoint+"_endpoint_auth_signing_alg_values_supported"] = algs
	}
	if i.TakesCertificates {
		m["tls_client_certificate_bound_access_tokens"] = true
	}
	return m
}
