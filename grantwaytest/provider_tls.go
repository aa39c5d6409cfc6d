package grantwaytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

// Certificate is one of the certificates that a TLS provider can show.
type Certificate int32

const (
	CertValid     Certificate = iota // for localhost, 127.0.0.1 and ::1, signed by Provider.RootCAs
	CertWrongHost                    // for wrong-host.example only
	CertExpired                      // expired an hour ago
	CertUnknownCA                    // signed by an authority that is not in Provider.RootCAs
)

// identities are the certificates of one TLS provider.
type identities struct {
	root  []byte             // DER of the authority
	leafs [4]tls.Certificate // by Certificate
	shown atomic.Int32       // the Certificate for new connections
}

func newIdentities() (*identities, error) {
	root, err := newAuthority("grantwaytest authority")
	if err != nil {
		return nil, err
	}
	unknown, err := newAuthority("grantwaytest unknown authority")
	if err != nil {
		return nil, err
	}
	i := &identities{root: root.Certificate[0]}
	now := time.Now()
	for c, leaf := range map[Certificate]struct {
		authority tls.Certificate
		wrongHost bool
		expires   time.Time
	}{
		CertValid:     {authority: root, expires: now.Add(24 * time.Hour)},
		CertWrongHost: {authority: root, expires: now.Add(24 * time.Hour), wrongHost: true},
		CertExpired:   {authority: root, expires: now.Add(-time.Hour)},
		CertUnknownCA: {authority: unknown, expires: now.Add(24 * time.Hour)},
	} {
		template := &x509.Certificate{
			Subject:     pkix.Name{CommonName: "grantwaytest provider"},
			NotAfter:    leaf.expires,
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			DNSNames:    []string{"localhost"},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		}
		if leaf.wrongHost {
			template.DNSNames, template.IPAddresses = []string{"wrong-host.example"}, nil
		}
		if i.leafs[c], err = newCertificate(template, &leaf.authority); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// listener serves TLS on l. A client certificate is asked for and not verified: it is
// compared with the one that the client registered (RFC 8705 section 2.2).
func (i *identities) listener(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true, // a resumed session would not show the certificate
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &i.leafs[i.shown.Load()], nil
		},
	})
}

// NewClientCertificate makes a self-signed certificate for mutual TLS, valid for a day:
// the client presents it, and its Leaf is the Client.Certificate to register.
func NewClientCertificate() (*tls.Certificate, error) {
	c, err := newCertificate(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "grantwaytest client"},
		NotAfter:    time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, nil)
	return &c, err
}

func newAuthority(name string) (tls.Certificate, error) {
	return newCertificate(&x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}, nil)
}

// newCertificate completes template with a fresh key and a start long ago, and signs it
// by authority; nil means by itself.
func newCertificate(template *x509.Certificate, authority *tls.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template.NotBefore = time.Now().Add(-24 * time.Hour)
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return tls.Certificate{}, err
	}
	parent, signer := template, any(key)
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate of %s: %w", template.Subject.CommonName, err)
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
