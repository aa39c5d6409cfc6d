package grant

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// SigningKey is a private key that signs assertions: RSA of at least 2048 bits, ECDSA on
// P-256, P-384 or P-521, or Ed25519. It prints as "[secret]". Set the fields before the
// first use; after that it is safe for concurrent use.
type SigningKey struct {
	// Algorithm is the JWS algorithm (RFC 7518 section 3.1, RFC 8037): RS256, RS384, RS512,
	// PS256, PS384 or PS512 for RSA; ES256, ES384 or ES512 by the curve; EdDSA.
	// ParseSigningKey fills in the JWK's alg, else RS256 or the one that fits.
	Algorithm string

	// KeyID goes into the JWT's kid header; "" leaves it out.
	KeyID string

	// Certificate is the certificate of the key; its SHA-256 goes into the JWT's
	// x5t#S256 header (RFC 7515 section 4.1.8). nil leaves it out.
	Certificate *x509.Certificate

	key crypto.Signer
}

// ParseSigningKey reads a private key in PEM (PKCS #8, PKCS #1 or SEC 1, not encrypted),
// optionally with its certificate beside it, or a private JWK (RFC 7517), whose alg, kid
// and x5c are taken over. Errors do not repeat any part of data.
func ParseSigningKey(data []byte) (*SigningKey, error) {
	data = bytes.TrimSpace(data)
	parse := parsePEM
	if bytes.HasPrefix(data, []byte("{")) {
		parse = parseJWK
	}
	k, err := parse(data)
	if err != nil {
		return nil, err
	}
	fit := algorithms(k.key)
	if len(fit) == 0 {
		return nil, errors.New("signing key: need RSA of at least 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519")
	}
	if k.Algorithm == "" {
		k.Algorithm = fit[0]
	}
	if k.Certificate != nil && !publicKeyEqual(k.key.Public(), k.Certificate.PublicKey) {
		return nil, errors.New("signing key: the certificate belongs to another key")
	}
	if err := k.check(); err != nil {
		return nil, err
	}
	return k, nil
}

func parseJWK(data []byte) (*SigningKey, error) {
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(data, &jwk); err != nil {
		return nil, errors.New("signing key: not a private JWK") // the cause may quote the key
	}
	key, ok := jwk.Key.(crypto.Signer)
	if !ok {
		return nil, errors.New("signing key: the JWK is not a private key")
	}
	if jwk.Use != "" && jwk.Use != "sig" {
		return nil, errors.New("signing key: the JWK is not for signing (use)")
	}
	k := &SigningKey{Algorithm: jwk.Algorithm, KeyID: jwk.KeyID, key: key}
	if len(jwk.Certificates) > 0 {
		k.Certificate = jwk.Certificates[0]
	}
	return k, nil
}

func parsePEM(data []byte) (*SigningKey, error) {
	k := &SigningKey{}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
				return nil, errors.New("signing key: the PEM is encrypted; give it without passphrase")
			}
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("signing key: the PEM is encrypted; give it without passphrase")
		case "CERTIFICATE":
			if k.Certificate == nil {
				k.Certificate, err = x509.ParseCertificate(block.Bytes)
			}
		case "PUBLIC KEY", "RSA PUBLIC KEY":
			return nil, errors.New("signing key: the PEM is a public key")
		}
		if err != nil {
			return nil, fmt.Errorf("signing key: malformed %s in the PEM", strings.ToLower(block.Type))
		}
		if key != nil {
			if k.key != nil {
				return nil, errors.New("signing key: the PEM holds more than one private key")
			}
			signer, ok := key.(crypto.Signer)
			if !ok {
				return nil, errors.New("signing key: the PEM's key cannot sign")
			}
			k.key = signer
		}
	}
	if k.key == nil {
		return nil, errors.New("signing key: neither a private key in PEM nor a private JWK")
	}
	return k, nil
}

// algorithms lists the JWS algorithms that fit key, the default first; none when the
// key is too weak or of another kind.
func algorithms(key crypto.Signer) []string {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() >= 2048 {
			return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
		}
	case *ecdsa.PrivateKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return []string{"ES256"}
		case 384:
			return []string{"ES384"}
		case 521:
			return []string{"ES512"}
		}
	case ed25519.PrivateKey:
		return []string{"EdDSA"}
	}
	return nil
}

func publicKeyEqual(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// Public is the public half of a key that ParseSigningKey returned.
func (k *SigningKey) Public() crypto.PublicKey { return k.key.Public() }

// Signer signs with a key that ParseSigningKey returned, for what is not a JWT.
func (k *SigningKey) Signer() crypto.Signer { return k.key }

func (k *SigningKey) check() error {
	if k == nil || k.key == nil {
		return errors.New("signing key: is missing")
	}
	if !slices.Contains(algorithms(k.key), k.Algorithm) {
		return fmt.Errorf("signing key: algorithm %q does not fit the key", k.Algorithm)
	}
	return nil
}

// sign returns the compact JWS of claims with the given typ.
func (k *SigningKey) sign(typ string, claims map[string]any) (string, error) {
	if err := k.check(); err != nil {
		return "", err
	}
	opts := (&jose.SignerOptions{}).WithType(jose.ContentType(typ))
	if k.KeyID != "" {
		opts.WithHeader("kid", k.KeyID)
	}
	if k.Certificate != nil {
		sum := sha256.Sum256(k.Certificate.Raw)
		opts.WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(sum[:]))
	}
	return signJWT(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: k.key}, opts, claims)
}

func signJWT(key jose.SigningKey, opts *jose.SignerOptions, claims map[string]any) (string, error) {
	signer, err := jose.NewSigner(key, opts)
	if err != nil {
		return "", fmt.Errorf("signing with %s: %w", key.Algorithm, err)
	}
	return serialize(signer, claims)
}

func serialize(signer jose.Signer, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding the claims: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return jws.CompactSerialize()
}

// Format implements fmt.Formatter: no verb prints the key.
func (SigningKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }
