package issuer

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway"
)

// tlsClientAuth takes a certificate of an authority that the hub trusts, with the one name that
// the client has registered (RFC 8705 section 2.1).
var tlsClientAuth = method{
	name: grantway.AuthTLS, via: viaNothing,
	check: func(c *grantway.OAuthClient, wrong func(pointer, detail string)) {
		n := 0
		for _, name := range []string{c.TLSSubject, c.TLSDNS, c.TLSURI, c.TLSIP, c.TLSEmail} {
			if name != "" {
				n++
			}
		}
		if n != 1 {
			wrong("/token_endpoint_auth_method", "tls_client_auth needs exactly one of tls_client_auth_subject_dn, _san_dns, _san_uri, _san_ip and _san_email")
		}
		if _, err := netip.ParseAddr(c.TLSIP); c.TLSIP != "" && err != nil {
			wrong("/tls_client_auth_san_ip", "is not an address")
		}
	},
	verify: func(i *Issuer, _ context.Context, c *client, p presented) (proven, error) {
		if len(p.certificates) == 0 {
			return proven{}, errWrong("there is no client certificate")
		}
		if i.ClientCAs == nil {
			return proven{}, errWrong("the hub trusts no authority for certificates of clients: --client-ca")
		}
		leaf, between := p.certificates[0], x509.NewCertPool()
		for _, one := range p.certificates[1:] {
			between.AddCert(one)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: i.ClientCAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			return proven{}, errWrong("the certificate is of no authority that is trusted: " + err.Error())
		}
		if !named(leaf, &c.ClientSettings) {
			return proven{}, errWrong("the certificate has another name than the client")
		}
		return proven{by: "certificate " + thumbprint(leaf)}, nil
	},
}

// named says whether a certificate has the name that is registered.
func named(leaf *x509.Certificate, s *grantway.ClientSettings) bool {
	switch {
	case s.TLSSubject != "":
		return sameDN(subjectDN(leaf), s.TLSSubject)
	case s.TLSDNS != "":
		return slices.ContainsFunc(leaf.DNSNames, func(name string) bool { return strings.EqualFold(name, s.TLSDNS) })
	case s.TLSURI != "":
		return slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == s.TLSURI })
	case s.TLSIP != "":
		want, err := netip.ParseAddr(s.TLSIP)
		for _, ip := range leaf.IPAddresses {
			if got, ok := netip.AddrFromSlice(ip); err == nil && ok && got.Unmap() == want.Unmap() {
				return true
			}
		}
	case s.TLSEmail != "":
		return slices.Contains(leaf.EmailAddresses, s.TLSEmail)
	}
	return false
}

// subjectDN is the subject of a certificate as text (RFC 4514).
func subjectDN(leaf *x509.Certificate) string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(leaf.RawSubject, &rdns); err != nil || len(rest) > 0 {
		return ""
	}
	return rdns.String()
}

// sameDN compares names, however they are spaced.
func sameDN(a, b string) bool {
	plain := func(s string) string {
		parts := strings.Split(s, ",")
		for i := range parts {
			key, value, _ := strings.Cut(strings.TrimSpace(parts[i]), "=")
			parts[i] = strings.ToUpper(strings.TrimSpace(key)) + "=" + strings.TrimSpace(value)
		}
		return strings.Join(parts, ",")
	}
	return a != "" && plain(a) == plain(b)
}

// selfSignedTLS takes the very certificate that the client has registered (RFC 8705 section 2.2).
var selfSignedTLS = method{
	name: grantway.AuthSelfSignedTLS, via: viaNothing,
	check: func(c *grantway.OAuthClient, wrong func(pointer, detail string)) {
		checkKeys(c.JWKS, c.JWKSURI, "", true, wrong)
		if keys, err := parseKeys(c.JWKS); c.JWKS != nil && err == nil && slices.ContainsFunc(keys, func(k jose.JSONWebKey) bool { return len(k.Certificates) == 0 }) {
			wrong("/jwks", "must hold the certificate of each key, as x5c")
		}
	},
	verify: func(i *Issuer, ctx context.Context, c *client, p presented) (proven, error) {
		if len(p.certificates) == 0 {
			return proven{}, errWrong("there is no client certificate")
		}
		leaf, now := p.certificates[0], time.Now()
		if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
			return proven{}, errWrong("the certificate has expired, or is not valid yet")
		}
		err := i.withKeys(ctx, c.JWKS, c.JWKSURI, func(keys []jose.JSONWebKey) error {
			for _, k := range keys {
				if len(k.Certificates) > 0 && bytes.Equal(k.Certificates[0].Raw, leaf.Raw) {
					return nil
				}
			}
			return errWrongKey
		})
		if err != nil {
			return proven{}, err
		}
		return proven{by: "certificate " + thumbprint(leaf)}, nil
	},
}

// thumbprint is the x5t#S256 of a certificate (RFC 8705 section 3.1).
func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// weak says whether a key is too short to believe in.
func weak(k jose.JSONWebKey) bool {
	key, ok := k.Key.(*rsa.PublicKey)
	return ok && key.N.BitLen() < 2048
}
