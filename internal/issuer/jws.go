package issuer

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// algEd25519 is the name of RFC 9864 for what EdDSA with this curve is. Newer clients send it, and
// go-jose does not know it yet.
const algEd25519 jose.SignatureAlgorithm = "Ed25519"

// signed is a JWT. Nothing of it is true before verify.
type signed struct {
	alg      jose.SignatureAlgorithm
	kid, typ string
	jwk      *jose.JSONWebKey // in its header; nil: none
	payload  []byte

	jws              *jose.JSONWebSignature // nil for algEd25519
	input, signature []byte                 // for algEd25519
}

var errNotSigned = errors.New("not a JWT with an algorithm that is allowed")

// parseSigned reads a JWT that is signed with one of algs, and refuses all others, none among them
// (RFC 8725 section 3.1).
func parseSigned(text string, algs []jose.SignatureAlgorithm) (*signed, error) {
	part, _, _ := strings.Cut(text, ".")
	var header struct {
		Alg  jose.SignatureAlgorithm `json:"alg"`
		Kid  string                  `json:"kid"`
		Typ  string                  `json:"typ"`
		JWK  *jose.JSONWebKey        `json:"jwk"`
		Crit json.RawMessage         `json:"crit"`
	}
	if decode(part, &header) != nil || !slices.Contains(algs, header.Alg) {
		return nil, errNotSigned
	}
	s := &signed{alg: header.Alg, kid: header.Kid, typ: header.Typ, jwk: header.JWK}
	if header.Alg != algEd25519 {
		jws, err := jose.ParseSignedCompact(text, algs)
		if err != nil || len(jws.Signatures) != 1 {
			return nil, errNotSigned
		}
		s.jws, s.payload = jws, jws.UnsafePayloadWithoutVerification()
		return s, nil
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 || header.Crit != nil {
		return nil, errNotSigned
	}
	var err1, err2 error
	s.payload, err1 = base64.RawURLEncoding.Strict().DecodeString(parts[1])
	s.signature, err2 = base64.RawURLEncoding.Strict().DecodeString(parts[2])
	s.input = []byte(parts[0] + "." + parts[1])
	if err1 != nil || err2 != nil {
		return nil, errNotSigned
	}
	return s, nil
}

// verify checks the signature with a key: a public one, or a secret for HMAC.
func (s *signed) verify(key any) error {
	if s.jws != nil {
		_, err := s.jws.Verify(key)
		return err
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok || !ed25519.Verify(public, s.input, s.signature) {
		return errWrongKey
	}
	return nil
}

// meant says whether a key that names an algorithm, or none, may verify s.
func (s *signed) meant(alg string) bool {
	edwards := []string{string(algEd25519), string(jose.EdDSA)}
	return alg == "" || alg == string(s.alg) || slices.Contains(edwards, alg) && slices.Contains(edwards, string(s.alg))
}
