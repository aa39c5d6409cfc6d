package peer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Authority is a certificate that signs itself, and others, for as long as one test.
type Authority struct {
	PEM []byte // its certificate

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority.
func NewAuthority(tb testing.TB, name string) *Authority {
	tb.Helper()
	a := &Authority{key: newECKey(tb)}
	template := newTemplate(tb, name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	a.PEM = encodePEM("CERTIFICATE", der)
	return a
}

// Issue makes a certificate for a host name or an address, good for a server and a client; both parts are PEM.
func (a *Authority) Issue(tb testing.TB, host string) (cert, key []byte) {
	tb.Helper()
	template := newTemplate(tb, host)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	private := newECKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return encodePEM("CERTIFICATE", der), marshalKey(tb, private)
}

// KeyPEM is its own key, for those who use its certificate as a client.
func (a *Authority) KeyPEM(tb testing.TB) []byte {
	tb.Helper()
	return marshalKey(tb, a.key)
}

func newTemplate(tb testing.TB, name string) *x509.Certificate {
	tb.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		tb.Fatal(err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// keys are the signing keys of one server and its clients.
type keys struct {
	server jose.JSONWebKey
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
}

func newKeys(tb testing.TB) *keys {
	tb.Helper()
	k := &keys{
		ec:     newECKey(tb),
		server: jose.JSONWebKey{Key: newECKey(tb), KeyID: "server", Algorithm: string(jose.ES256), Use: "sig"},
	}
	var err error
	if k.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		tb.Fatal(err)
	}
	if _, k.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		tb.Fatal(err)
	}
	return k
}

// of is the private JWK of the clients that sign with alg.
func (k *keys) of(alg jose.SignatureAlgorithm) jose.JSONWebKey {
	var key crypto.Signer = k.rsa
	switch alg {
	case jose.ES256:
		key = k.ec
	case jose.EdDSA:
		key = k.ed
	}
	return jose.JSONWebKey{Key: key, KeyID: "client-" + string(alg), Algorithm: string(alg), Use: "sig"}
}

func newECKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func marshalKey(tb testing.TB, key crypto.PrivateKey) []byte {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return encodePEM("PRIVATE KEY", der)
}
