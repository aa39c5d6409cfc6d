package app_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/app"
)

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newPair(t *testing.T, c *x509.Certificate, by *pair) *pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<60))
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := &pair{c, key}
	if by != nil {
		parent = by
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pair{made, key}
}

func (p *pair) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key}
}

// header is the certificate as a proxy passes it on (RFC 9440 section 2).
func (p *pair) header() string {
	return ":" + base64.StdEncoding.EncodeToString(p.cert.Raw) + ":"
}

func writePEM(t *testing.T, kind string, der []byte) string {
	path := filepath.Join(t.TempDir(), "pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Clients authenticate with certificates: on a TLS connection with the hub itself, and through a
// proxy that is trusted (S31, S32, S33, R07); nobody else's header counts.
func TestClientCertificates(t *testing.T) {
	ca := newPair(t, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	server := newPair(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca)
	mine := newPair(t, &x509.Certificate{DNSNames: []string{"app.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca)
	self := newPair(t, &x509.Certificate{Subject: pkix.Name{CommonName: "self"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, nil)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	der, err := x509.MarshalPKCS8PrivateKey(server.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		proxies []netip.Prefix
		tls     bool
	}{{"direct", nil, true}, {"proxied", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, false}, {"untrusted", nil, false}} {
		t.Run(test.name, func(t *testing.T) {
			o := app.Options{Listen: "127.0.0.1:0", Data: t.TempDir(), Version: "test", Log: slog.New(slog.DiscardHandler), ClientCAs: pool, TrustedProxies: test.proxies}
			if test.tls {
				o.TLSCert, o.TLSKey = writePEM(t, "CERTIFICATE", server.cert.Raw), writePEM(t, "PRIVATE KEY", der)
			}
			hub, err := app.New(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			defer hub.Stop(context.WithoutCancel(t.Context()))
			if err := hub.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(o.Data, "owner.json"))
			if err != nil {
				t.Fatal(err)
			}
			var owner app.Owner
			if err := json.Unmarshal(text, &owner); err != nil {
				t.Fatal(err)
			}
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
			if test.proxies != nil {
				transport.Proxy = nil
			}
			admin, err := grantway.NewClient(grantway.Options{URL: hub.URL(), ClientID: owner.ClientID, ClientSecret: grantway.Secret(owner.ClientSecret), Transport: transport})
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close(context.WithoutCancel(t.Context()))
			roles := []grantway.Assignment{{Role: "application", Division: "home"}}
			byCA, err := admin.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "by-ca", Roles: roles,
				ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "app.example", CertificateBound: true}})
			if err != nil {
				t.Fatal(err)
			}
			set, _ := json.Marshal(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "x": coordinate(self, 0), "y": coordinate(self, 1),
				"x5c": []string{base64.StdEncoding.EncodeToString(self.cert.Raw)}}}})
			bySelf, err := admin.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "by-self", Roles: roles,
				ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthSelfSignedTLS, JWKS: set}})
			if err != nil {
				t.Fatal(err)
			}
			send := func(cert *pair, method, path, form, token string) (int, map[string]any) {
				tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
				defer tr.CloseIdleConnections()
				r, err := http.NewRequestWithContext(t.Context(), method, hub.URL()+path, strings.NewReader(form))
				if err != nil {
					t.Fatal(err)
				}
				if form != "" {
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				if cert != nil && test.tls {
					tr.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						one := cert.tls()
						return &one, nil
					}
				} else if cert != nil {
					r.Header.Set("Client-Cert", cert.header())
					r.Header.Set("X-Forwarded-Proto", "https")
				}
				resp, err := (&http.Client{Transport: tr}).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				var answer map[string]any
				json.NewDecoder(resp.Body).Decode(&answer)
				return resp.StatusCode, answer
			}
			token := func(c grantway.OAuthClient, cert *pair) (int, map[string]any) {
				return send(cert, "POST", "/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ID}}.Encode(), "")
			}
			if test.name == "untrusted" { // the header is anybody's, and plain http that a proxy passed on is refused
				for _, c := range []grantway.OAuthClient{byCA, bySelf} {
					if status, answer := token(c, mine); status == 200 {
						t.Errorf("a header of nobody counts: %v", answer)
					}
				}
				return
			}
			for name, step := range map[string]struct {
				c    grantway.OAuthClient
				cert *pair
				want int
			}{"by authority": {byCA, mine, 200}, "self-signed": {bySelf, self, 200}, "no certificate": {byCA, nil, 401}, "another": {byCA, self, 401}, "not the one": {bySelf, mine, 401}} {
				if status, answer := token(step.c, step.cert); status != step.want {
					t.Errorf("%s: %d %v", name, status, answer)
				}
			}
			_, answer := token(byCA, mine)
			bound, _ := answer["access_token"].(string)
			for name, step := range map[string]struct {
				cert *pair
				want int
			}{"its certificate": {mine, 200}, "none": {nil, 401}, "another": {self, 401}} {
				if status, answer := send(step.cert, "GET", "/v1/credentials", "", bound); status != step.want {
					t.Errorf("bound token, %s: %d %v", name, status, answer)
				}
			}
		})
	}
}

func coordinate(p *pair, n int) string {
	raw, err := p.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw[1+32*n : 33+32*n])
}
