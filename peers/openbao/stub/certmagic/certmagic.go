// Package certmagic stands in for the one that gets a server's certificates from an
// authority such as Let's Encrypt, with a DNS client among what it links. The server of the
// tests has no TLS.
package certmagic

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
)

type Config struct {
	OnDemand  *OnDemandConfig
	Storage   any
	KeySource any
	Issuers   []Issuer
	Logger    any
}

var Default Config

func NewDefault() *Config { panic("left out of this build") }

func (*Config) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }

type OnDemandConfig struct {
	DecisionFunc func(context.Context, string) error
}

type FileStorage struct{ Path string }

type StandardKeyGenerator struct{ KeyType KeyType }

type KeyType string

const (
	ED25519 KeyType = "ed25519"
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	RSA2048 KeyType = "rsa2048"
	RSA4096 KeyType = "rsa4096"
	RSA8192 KeyType = "rsa8192"
)

type Issuer any

type ACMEIssuer struct {
	CA, TestCA, Email                             string
	Agreed                                        bool
	DisableHTTPChallenge, DisableTLSALPNChallenge bool
	TrustedRoots                                  *x509.CertPool
	ExternalAccount, Logger                       any
}

func NewACMEIssuer(*Config, ACMEIssuer) *ACMEIssuer { return nil }

func (*ACMEIssuer) HandleHTTPChallenge(http.ResponseWriter, *http.Request) bool { return false }
