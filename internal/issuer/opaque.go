package issuer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	aead "github.com/tink-crypto/tink-go/v2/aead/subtle"
	mac "github.com/tink-crypto/tink-go/v2/mac/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/grantway/grantway/internal/access"
)

// An opaque token is what it stands for, sealed: nobody else can read it, and to make one up is to guess an
// HMAC-SHA-256. It has no row, so it costs no write, is good on all replicas as soon as it is issued, and
// is still good after a restart.
//
//	gwt_ | name of the key | base64url of: random IV, encrypted opaqueClaims, HMAC | checksum
type opaqueClaims struct {
	Client    string  `json:"c"`
	After     int64   `json:"a,omitempty"` // tokens_after of the client
	IssuedAt  int64   `json:"i"`           // Unix milliseconds
	ExpiresAt int64   `json:"e"`           // Unix milliseconds
	Scope     string  `json:"s,omitempty"` // narrows what the holder may do; "": does not
	Person    string  `json:"p,omitempty"` // who allowed it; "": nobody, the client acts for itself
	Binding   binding `json:"b,omitempty"`
	Resource  string  `json:"r,omitempty"` // which other API it is for; "": this one
	Family    string  `json:"f,omitempty"` // of refresh tokens it comes from
}

// opaqueAlg is what the keys of opaque tokens are for.
const opaqueAlg = "AES256_CTR_HMAC_SHA256"

// A key of opaque tokens is one key that encrypts and one that authenticates, of so many bytes each. The
// IV is the id of its token, since it is random and comes first.
const (
	opaqueKeySize = 32
	opaqueIVSize  = 16
	opaqueTagSize = 32
)

func newOpaqueAEAD(key []byte) (tink.AEAD, error) {
	if len(key) != 2*opaqueKeySize {
		return nil, errors.New("is of the wrong length")
	}
	cipher, err := aead.NewAESCTR(key[:opaqueKeySize], opaqueIVSize)
	if err != nil {
		return nil, err
	}
	tag, err := mac.NewHMAC("SHA256", key[opaqueKeySize:], opaqueTagSize)
	if err != nil {
		return nil, err
	}
	return aead.NewEncryptThenAuthenticate(cipher, tag, opaqueTagSize)
}

// sealToken makes an access token that is opaque.
func (i *Issuer) sealToken(_ context.Context, n issuance, now time.Time, lifetime time.Duration) (string, error) {
	key := i.keys.signer(opaqueAlg, now)
	if key == nil {
		return "", errors.New("there is no key for opaque tokens")
	}
	claims, err := json.Marshal(opaqueClaims{
		Client: n.client.ID, After: n.client.tokensAfter, IssuedAt: now.UnixMilli(), ExpiresAt: now.Add(lifetime).UnixMilli(), Scope: n.only.String(),
		Person: n.person, Binding: n.binding, Resource: n.resource, Family: n.family,
	})
	if err != nil {
		return "", err
	}
	prefix := tokenPrefix + key.kid
	sealed, err := key.aead.Encrypt(claims, []byte(prefix))
	if err != nil {
		return "", err
	}
	text := make([]byte, 0, len(prefix)+base64.RawURLEncoding.EncodedLen(len(sealed))+checkChars)
	text = base64.RawURLEncoding.AppendEncode(append(text, prefix...), sealed)
	return string(appendChecksum(text)), nil
}

// openToken returns the session that an opaque token stands for, without its client, and the id of that. Errors are errNoToken
// and errUnknownKey. Whether it has expired is not looked at.
func (i *Issuer) openToken(token string) (s *session, client string, err error) {
	const head = len(tokenPrefix) + kidLength
	if len(token) <= head+checkChars || !wellFormed(tokenPrefix, token) {
		return nil, "", errNoToken
	}
	key := i.keys.named(token[len(tokenPrefix):head])
	if key == nil {
		return nil, "", errUnknownKey
	}
	if key.aead == nil {
		return nil, "", errNoToken
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token[head : len(token)-checkChars])
	if err != nil {
		return nil, "", errNoToken
	}
	text, err := key.aead.Decrypt(sealed, []byte(token[:head]))
	var c opaqueClaims
	if err != nil || json.Unmarshal(text, &c) != nil {
		return nil, "", errNoToken
	}
	only, ok := access.ParsePermissions(c.Scope)
	if c.Scope != "" && !ok {
		return nil, "", errNoToken
	}
	s = &session{only: only, person: c.Person, binding: c.Binding, resource: c.Resource, after: c.After, issuedAt: c.IssuedAt, expiresAt: c.ExpiresAt, kid: key.kid}
	s.named(base64.RawURLEncoding.EncodeToString(sealed[:opaqueIVSize]), c.Family)
	return s, c.Client, nil
}
