package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// tokenType is the typ of an access token that is a JWT (RFC 9068 section 2.1), but for those that
// ClientSettings.TokenTyp is about.
const tokenType = grantway.TypAccessToken

// tokenClaims are the claims of an access token (RFC 9068 section 2.2).
type tokenClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Client   string   `json:"client_id"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	ID       string   `json:"jti"`
	Scope    string   `json:"scope,omitempty"`
	Confirm  *confirm `json:"cnf,omitempty"`
	Family   string   `json:"sid,omitempty"` // of refresh tokens; see revokeFamily
}

// confirm is the key that a token is bound to (RFC 7800).
type confirm struct {
	JKT string `json:"jkt,omitempty"`      // RFC 9449 section 6.1
	X5T string `json:"x5t#S256,omitempty"` // RFC 8705 section 3.1
}

func (b binding) confirm() *confirm {
	if jkt, ok := strings.CutPrefix(string(b), boundToKey); ok {
		return &confirm{JKT: jkt}
	}
	if x5t, ok := strings.CutPrefix(string(b), boundToCertificate); ok {
		return &confirm{X5T: x5t}
	}
	return nil
}

func (c *confirm) binding() binding {
	switch {
	case c == nil:
		return ""
	case c.JKT != "":
		return boundToKey + binding(c.JKT)
	}
	return boundToCertificate + binding(c.X5T)
}

// MarshalJSON implements json.Marshaler: one audience is a string, as most readers expect.
func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// newJTI is an id of 130 random bits, that begins with tokens_after of the client; see revokeTokens.
func newJTI(after int64) string {
	return strconv.FormatInt(after, 36) + "." + rand.Text()
}

func jtiAfter(jti string) int64 {
	text, _, _ := strings.Cut(jti, ".")
	after, err := strconv.ParseInt(text, 36, 64)
	if err != nil {
		return 0
	}
	return after
}

// subject is who a token is for: the person who allowed it, else the client. Their ids are in
// namespaces of their own, so neither can pass for the other (RFC 9700 section 4.15).
func (n *issuance) subject() string {
	if n.person != "" {
		return n.person
	}
	return n.client.ID
}

// signToken makes an access token that is a JWT.
func (i *Issuer) signToken(ctx context.Context, n issuance, now time.Time, lifetime time.Duration) (string, error) {
	key := i.keys.signer(n.client.TokenAlg, now)
	if key == nil { // made just now, with the client
		if err := i.keysChanged(ctx, ""); err != nil {
			return "", err
		}
		key = i.keys.signer(n.client.TokenAlg, now)
	}
	if key == nil {
		return "", errors.New("there is no signing key for " + n.client.TokenAlg)
	}
	aud, header := n.resource, key.header
	switch {
	case aud == "":
		aud = i.URL()
	case n.client.TokenTyp == grantway.TypJWT:
		header = key.plainHeader
	}
	claims, err := json.Marshal(tokenClaims{
		Issuer: i.URL(), Subject: n.subject(), Audience: audience{aud}, Client: n.client.ID,
		Expires: now.Add(lifetime).Unix(), IssuedAt: now.Unix(), ID: newJTI(n.client.tokensAfter), Scope: n.scope, Confirm: n.binding.confirm(), Family: n.family,
	})
	if err != nil {
		return "", err
	}
	text := make([]byte, 0, len(header)+base64.RawURLEncoding.EncodedLen(len(claims))+400)
	text = append(text, header...)
	text = base64.RawURLEncoding.AppendEncode(text, claims)
	signature, err := key.sign(text)
	if err != nil {
		return "", err
	}
	text = append(text, '.')
	return string(base64.RawURLEncoding.AppendEncode(text, signature)), nil
}

// verifyToken checks a JWT as RFC 9068 section 4 says, but for the audience, which is for who
// asks, and returns the session it stands for, without its client, and the id of that. Errors are errNoToken
// and errUnknownKey. Whether it has expired is not looked at.
func (i *Issuer) verifyToken(token string) (s *session, client string, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, "", errNoToken
	}
	var header struct{ Alg, Kid, Typ string }
	if decode(parts[0], &header) != nil {
		return nil, "", errNoToken
	}
	key := i.keys.named(header.Kid)
	if key == nil && len(header.Kid) == kidLength {
		return nil, "", errUnknownKey
	}
	if key == nil || key.private == nil || header.Alg != key.alg {
		return nil, "", errNoToken
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || !key.verifies([]byte(token[:len(parts[0])+1+len(parts[1])]), signature) {
		return nil, "", errNoToken
	}
	var c tokenClaims
	if decode(parts[1], &c) != nil || c.Issuer != i.URL() || len(c.Audience) == 0 || c.Audience[0] == "" {
		return nil, "", errNoToken
	}
	typ := strings.TrimPrefix(strings.ToLower(header.Typ), "application/")
	if typ != tokenType && (typ != "jwt" || slices.Contains(c.Audience, i.URL())) {
		return nil, "", errNoToken
	}
	s = &session{binding: c.Confirm.binding(), after: jtiAfter(c.ID), issuedAt: c.IssuedAt * 1000, expiresAt: c.Expires * 1000, kid: key.kid}
	s.named(c.ID, c.Family)
	if !slices.Contains(c.Audience, i.URL()) {
		s.resource = c.Audience[0]
	}
	if c.Subject != c.Client {
		s.person = c.Subject
	}
	if c.Scope != "" {
		var ok bool
		if s.only, ok = access.ParsePermissions(c.Scope); !ok {
			return nil, "", errNoToken
		}
	}
	return s, c.Client, nil
}

func decode(part string, v any) error {
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// verifies says whether signature is this key's.
func (k *signingKey) verifies(text, signature []byte) bool {
	sum := sha256.Sum256(text)
	switch public := k.private.Public().(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(public, text, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	case *ecdsa.PublicKey:
		return len(signature) == 64 &&
			ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	}
	return false
}
