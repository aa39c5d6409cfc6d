package connector

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base32"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/grantway/grantway/grant"
)

// newHash makes the hash function of that name; nil if there is none.
func newHash(name string) func() hash.Hash {
	switch strings.ToLower(strings.ReplaceAll(name, "-", "")) {
	case "md5":
		return md5.New
	case "sha1":
		return sha1.New
	case "sha256":
		return sha256.New
	case "sha384":
		return sha512.New384
	case "sha512":
		return sha512.New
	}
	return nil
}

var mac = texts("hmac", 3, 3, func(a []string) (any, error) {
	h := newHash(a[0])
	if h == nil {
		return nil, errors.New(`hmac: the first value must be "md5", "sha1", "sha256", "sha384" or "sha512"`)
	}
	m := hmac.New(h, []byte(a[1]))
	m.Write([]byte(a[2]))
	return string(m.Sum(nil)), nil
})

// derive is pbkdf2(algorithm, password, salt, iterations, bytes).
func derive(a ...any) (any, error) {
	if len(a) != 5 {
		return nil, errors.New("pbkdf2 takes an algorithm, a password, a salt, iterations and a number of bytes")
	}
	var text [3]string
	var number [2]int
	for i, v := range a {
		s, err := limited(v)
		if err != nil {
			return nil, err
		}
		if i < len(text) {
			text[i] = s
			continue
		}
		n, err := toInt(s)
		if err != nil {
			return nil, fmt.Errorf("pbkdf2: %w", err)
		}
		number[i-len(text)] = n.(int)
	}
	h := newHash(text[0])
	if h == nil || number[0] < 1 || number[0] > 1_000_000 || number[1] < 1 || number[1] > 64 {
		return nil, errors.New("pbkdf2: at most 1,000,000 iterations and 64 bytes, with a digest such as sha256")
	}
	key, err := pbkdf2.Key(h, text[1], []byte(text[2]), number[0], number[1])
	return string(key), err
}

// signature is signature(algorithm, key, x): that of JWS (RFC 7518 section 3.1) over any text, or RS1,
// which is RSA with SHA-1. ES algorithms are in ASN.1, as most vendors want them outside of JWTs.
var signature = texts("signature", 3, 3, func(a []string) (any, error) {
	key, err := grant.ParseSigningKey([]byte(a[1]))
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	hashes := map[string]crypto.Hash{"1": crypto.SHA1, "256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	var family string
	var options crypto.SignerOpts
	if a[0] == "EdDSA" {
		family, options = "Ed", crypto.Hash(0)
	} else if len(a[0]) > 2 {
		h := hashes[a[0][2:]]
		if family = a[0][:2]; h == 0 {
			family = ""
		}
		if options = h; family == "PS" {
			options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		}
	}
	fits := false
	switch key.Public().(type) {
	case *rsa.PublicKey:
		fits = family == "RS" || family == "PS"
	case *ecdsa.PublicKey:
		fits = family == "ES"
	case ed25519.PublicKey:
		fits = family == "Ed"
	}
	if !fits {
		return nil, errors.New("signature: the algorithm, such as RS256, does not fit the key")
	}
	message := []byte(a[2])
	if h := options.HashFunc(); h != 0 {
		sum := h.New()
		sum.Write(message)
		message = sum.Sum(nil)
	}
	signed, err := key.Signer().Sign(rand.Reader, message, options)
	if err != nil {
		return nil, errors.New("signature: the key cannot sign")
	}
	return string(signed), nil
})

// publicKey is public_key(x): the public key of a private key, a certificate or a public key in
// PEM, as DER (SubjectPublicKeyInfo), of which a fingerprint is made.
func publicKey(text string) (any, error) {
	key, err := parsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("public_key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	return string(der), err
}

func parsePublicKey(text string) (crypto.PublicKey, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		switch block.Type {
		case "PUBLIC KEY":
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				return nil, errors.New("is not a public key")
			}
			return key, nil
		case "CERTIFICATE":
			list, err := parseCertificates(text)
			if err != nil {
				return nil, err
			}
			return list[0].PublicKey, nil
		}
	} else if der, err := decodeBase64(text); err == nil { // as servers send it
		if key, err := x509.ParsePKIXPublicKey([]byte(der.(string))); err == nil {
			return key, nil
		}
	}
	key, err := grant.ParseSigningKey([]byte(text))
	if err != nil {
		return nil, err
	}
	return key.Public(), nil
}

// decodePEM is pem_decode(x): the DER of the first block.
func decodePEM(text string) (any, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("pem_decode: not PEM")
	}
	return string(block.Bytes), nil
}

// encrypt is rsa_encrypt(padding, key, x): with a public key, and PKCS #1 v1.5 or OAEP.
var encrypt = texts("rsa_encrypt", 3, 3, func(a []string) (any, error) {
	key, err := parsePublicKey(a[1])
	if err != nil {
		return nil, fmt.Errorf("rsa_encrypt: %w", err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("rsa_encrypt: the key is not an RSA key")
	}
	var out []byte
	switch a[0] {
	case "pkcs1":
		//lint:ignore SA1019 vendors want it, and only they can decrypt
		out, err = rsa.EncryptPKCS1v15(rand.Reader, public, []byte(a[2]))
	case "oaep_sha1":
		out, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, public, []byte(a[2]), nil)
	case "oaep_sha256":
		out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte(a[2]), nil)
	default:
		return nil, errors.New("rsa_encrypt: the padding must be pkcs1, oaep_sha1 or oaep_sha256")
	}
	if err != nil {
		return nil, errors.New("rsa_encrypt: the value is too long for the key")
	}
	return string(out), nil
})

// totp is totp(secret): the six digits of RFC 6238 for a secret in base32.
func (c *clock) totp(a ...any) (any, error) {
	secret, err := one("totp", a)
	if err != nil {
		return nil, err
	}
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(strings.ToUpper(strings.ReplaceAll(secret, " ", "")), "="))
	if err != nil {
		return nil, errors.New("totp: the secret is not base32")
	}
	m := hmac.New(sha1.New, key)
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(c.now().Unix()/30)))
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000), nil
}
