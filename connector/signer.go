package connector

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/grantway/grantway/grant"
)

// signer is a Signer with its templates compiled.
type signer struct {
	name       string
	text       map[string]*template
	header     *node
	claims     *node
	attributes []pair
	lifetime   time.Duration
	saml       bool
}

func (c *compiler) signer(path string, s *Signer) {
	out := signer{name: s.Name, text: map[string]*template{}}
	texts := func(kind string, fields map[string]string) {
		for name, text := range fields {
			out.text[name] = c.text(join(join(path, kind), name), text)
		}
	}
	switch {
	case (s.JWT == nil) == (s.SAML == nil):
		c.problem(path, "", "must have one of jwt and saml")
	case s.JWT != nil:
		j := s.JWT
		texts("jwt", map[string]string{"algorithm": j.Algorithm, "key": j.Key, "key_encoding": j.KeyEncoding, "key_id": j.KeyID, "certificate": j.Certificate, "type": j.Type})
		if out.lifetime = j.Lifetime.Duration(); out.lifetime == 0 {
			out.lifetime = time.Minute
		}
		for name, tree := range map[string]*Tree{"header": j.Header, "claims": j.Claims} {
			if tree == nil {
				continue
			}
			if _, ok := tree.value.(object); !ok {
				c.problem(join(path, "jwt."+name), "", "must be a mapping")
			}
		}
		if j.Header != nil {
			out.header = c.node(join(path, "jwt.header"), j.Header.value)
		}
		if j.Claims != nil {
			out.claims = c.node(join(path, "jwt.claims"), j.Claims.value)
		}
	default:
		a := s.SAML
		out.saml = true
		texts("saml", map[string]string{"key": a.Key, "certificate": a.Certificate, "issuer": a.Issuer, "subject": a.Subject,
			"name_id_format": a.NameIDFormat, "audience": a.Audience, "recipient": a.Recipient})
		out.attributes = c.pairs(join(path, "saml.attributes"), a.Attributes, inText, false)
		if out.lifetime = a.Lifetime.Duration(); out.lifetime == 0 {
			out.lifetime = 10 * time.Minute
		}
	}
	c.declare(join(path, "name"), s.Name)
	c.def.signers = append(c.def.signers, out)
}

// sign makes the assertion.
func (g *signer) sign(s *scope) (string, error) {
	v := map[string]string{}
	for name, t := range g.text {
		text, err := t.eval(s)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", g.name, name, err)
		}
		v[name] = text
	}
	var out string
	var err error
	if g.saml {
		out, err = g.samlAssertion(s, v)
	} else {
		out, err = g.jwt(s, v)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", g.name, err)
	}
	return out, nil
}

func (g *signer) jwt(s *scope, v map[string]string) (string, error) {
	now := s.clock.now()
	random := s.clock.random()
	claims := map[string]any{"iat": now.Unix(), "exp": now.Add(g.lifetime).Unix(), "jti": hex.EncodeToString(random[:])}
	if err := overlay(claims, g.claims, s); err != nil {
		return "", err
	}
	header := map[string]any{}
	if err := overlay(header, g.header, s); err != nil {
		return "", err
	}
	typ := v["type"]
	if typ == "" {
		typ = "JWT"
	}
	options := (&jose.SignerOptions{}).WithType(jose.ContentType(typ))
	if v["key_id"] != "" {
		options.WithHeader("kid", v["key_id"])
	}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	payload, err := marshal(claims)
	if err != nil {
		return "", err
	}
	key := jose.SigningKey{Algorithm: jose.SignatureAlgorithm(v["algorithm"])}
	if strings.HasPrefix(v["algorithm"], "HS") {
		secret, err := decodeKey(v["key"], v["key_encoding"])
		if err != nil {
			return "", err
		}
		key.Key = secret
	} else {
		private, err := grant.ParseSigningKey([]byte(v["key"]))
		if err != nil {
			return "", err
		}
		if v["algorithm"] == "" {
			key.Algorithm = jose.SignatureAlgorithm(private.Algorithm)
		}
		if v["key_id"] == "" && private.KeyID != "" {
			options.WithHeader("kid", private.KeyID)
		}
		if v["certificate"] != "" {
			list, err := parseCertificates(v["certificate"])
			if err != nil {
				return "", fmt.Errorf("certificate %w", err)
			}
			sum := sha256.Sum256(list[0].Raw)
			options.WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(sum[:]))
		}
		key.Key = private.Signer()
	}
	sign, err := jose.NewSigner(key, options)
	if err != nil {
		return "", fmt.Errorf("algorithm %q does not fit the key", v["algorithm"])
	}
	jws, err := sign.Sign(payload)
	if err != nil {
		return "", errors.New("the key cannot sign")
	}
	return jws.CompactSerialize()
}

// overlay puts the members of n into m; null takes one away.
func overlay(m map[string]any, n *node, s *scope) error {
	if n == nil {
		return nil
	}
	v, _, err := n.value(s, false)
	if err != nil {
		return err
	}
	o, _ := v.(object)
	for _, member := range o {
		if raw, ok := member.value.(json.RawMessage); ok && bytes.Equal(raw, []byte("null")) {
			delete(m, member.name)
			continue
		}
		m[member.name] = member.value
	}
	return nil
}

func decodeKey(text, encoding string) ([]byte, error) {
	switch encoding {
	case "":
		return []byte(text), nil
	case "hex":
		b, err := hex.DecodeString(text)
		if err != nil {
			return nil, errors.New("the key is not hexadecimal")
		}
		return b, nil
	case "base64", "base64url":
		s, err := decodeBase64(text)
		if err != nil {
			return nil, errors.New("the key is not base64")
		}
		return []byte(s.(string)), nil
	}
	return nil, fmt.Errorf("there is no key_encoding %s", encoding)
}

// samlAssertion makes a SAML 2.0 bearer assertion (RFC 7522 section 3), signed with RSA and
// SHA-256 (XML Signature, enveloped, exclusive canonicalization), in base64url. It is
// written in canonical form, so that what is digested is what is sent.
func (g *signer) samlAssertion(s *scope, v map[string]string) (string, error) {
	private, err := grant.ParseSigningKey([]byte(v["key"]))
	if err != nil {
		return "", err
	}
	if _, ok := private.Public().(*rsa.PublicKey); !ok {
		return "", errors.New("the key of a SAML assertion must be an RSA key")
	}
	certificate := ""
	if v["certificate"] != "" {
		list, err := parseCertificates(v["certificate"])
		if err != nil {
			return "", fmt.Errorf("certificate %w", err)
		}
		certificate = "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>" + base64.StdEncoding.EncodeToString(list[0].Raw) + "</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
	}
	for _, name := range []string{"issuer", "subject", "audience", "recipient"} {
		if v[name] == "" {
			return "", fmt.Errorf("%s is empty", name)
		}
	}
	attributes, err := evalPairs(g.attributes, s, nil)
	if err != nil {
		return "", err
	}
	random := s.clock.random()
	id := "_" + hex.EncodeToString(random[:])
	now := s.clock.now().UTC().Truncate(time.Second)
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	format := v["name_id_format"]
	if format == "" {
		format = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
	}
	var rest strings.Builder
	fmt.Fprintf(&rest, `<saml:Subject><saml:NameID Format="%s">%s</saml:NameID>`, canonical(format, true), canonical(v["subject"], false))
	fmt.Fprintf(&rest, `<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="%s" Recipient="%s"></saml:SubjectConfirmationData></saml:SubjectConfirmation></saml:Subject>`,
		at(g.lifetime), canonical(v["recipient"], true))
	fmt.Fprintf(&rest, `<saml:Conditions NotBefore="%s" NotOnOrAfter="%s"><saml:AudienceRestriction><saml:Audience>%s</saml:Audience></saml:AudienceRestriction></saml:Conditions>`,
		at(-time.Minute), at(g.lifetime), canonical(v["audience"], false))
	fmt.Fprintf(&rest, `<saml:AuthnStatement AuthnInstant="%s" SessionIndex="%s"><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:X509</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>`, at(0), id)
	if len(attributes) > 0 {
		rest.WriteString(`<saml:AttributeStatement>`)
		for _, a := range attributes {
			fmt.Fprintf(&rest, `<saml:Attribute Name="%s"><saml:AttributeValue>%s</saml:AttributeValue></saml:Attribute>`, canonical(a.name, true), canonical(a.value, false))
		}
		rest.WriteString(`</saml:AttributeStatement>`)
	}
	rest.WriteString(`</saml:Assertion>`)
	begin := fmt.Sprintf(`<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="%s" IssueInstant="%s" Version="2.0"><saml:Issuer>%s</saml:Issuer>`,
		id, at(0), canonical(v["issuer"], false))
	digest := sha256.Sum256([]byte(begin + rest.String()))
	const namespace = ` xmlns:ds="http://www.w3.org/2000/09/xmldsig#"`
	info := `<ds:SignedInfo` + namespace + `><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:CanonicalizationMethod>` +
		`<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"></ds:SignatureMethod>` +
		`<ds:Reference URI="#` + id + `"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>` +
		`<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:Transform></ds:Transforms>` +
		`<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod>` +
		`<ds:DigestValue>` + base64.StdEncoding.EncodeToString(digest[:]) + `</ds:DigestValue></ds:Reference></ds:SignedInfo>`
	sum := sha256.Sum256([]byte(info))
	signature, err := private.Signer().Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return "", errors.New("the key cannot sign")
	}
	signed := begin + `<ds:Signature` + namespace + `>` + strings.Replace(info, namespace, "", 1) +
		`<ds:SignatureValue>` + base64.StdEncoding.EncodeToString(signature) + `</ds:SignatureValue>` + certificate + `</ds:Signature>` + rest.String()
	return base64.RawURLEncoding.EncodeToString([]byte(signed)), nil
}

// canonical escapes text as canonical XML does (Canonical XML 1.0 section 2.3).
func canonical(text string, attribute bool) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xFFFE || c == 0xFFFF {
			return 0xFFFD
		}
		return c
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if attribute {
		return strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;").Replace(text)
	}
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;").Replace(text)
}
