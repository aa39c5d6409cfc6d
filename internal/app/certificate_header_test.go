package app_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/store/storetest"
)

// RFC 9440, RFC 9700 section 4.13: behind a proxy the certificate comes from one named header, from a proxy that is
// trusted, in the form that the RFC gives it. From everybody else the header is as if it were not there.
func TestS33CertificateHeader(t *testing.T) {
	sign := x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, between := sign, sign
	root.Subject, between.Subject = pkix.Name{CommonName: "root"}, pkix.Name{CommonName: "between"}
	ca := newPair(t, &root, nil)
	middle := newPair(t, &between, ca)
	client := func(by *pair) *pair {
		return newPair(t, &x509.Certificate{DNSNames: []string{"app.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, by)
	}
	mine, chained := client(ca), client(middle)
	other := newPair(t, &x509.Certificate{DNSNames: []string{"other.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca)
	server := newPair(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	der, err := x509.MarshalPKCS8PrivateKey(server.key)
	if err != nil {
		t.Fatal(err)
	}
	for name, database := range map[string]func(testing.TB) string{"SQLite": func(testing.TB) string { return "" }, "PostgreSQL": storetest.Postgres} {
		// ask starts a hub with the client app.example, and returns what its token endpoint says to that client.
		ask := func(t *testing.T, o app.Options) func(cert *pair, headers http.Header) int {
			o.Listen, o.Data, o.Database, o.Version, o.Log, o.ClientCAs = "127.0.0.1:0", t.TempDir(), database(t), "test", slog.New(slog.DiscardHandler), pool
			o.Key = "file:" + filepath.Join(o.Data, "key")
			hub, err := app.New(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { hub.Stop(context.WithoutCancel(t.Context())) })
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
			admin, err := grantway.NewClient(grantway.Options{URL: hub.URL(), ClientID: owner.ClientID, ClientSecret: grantway.Secret(owner.ClientSecret),
				Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}})
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close(context.WithoutCancel(t.Context()))
			c, err := admin.CreateOAuthClient(t.Context(), grantway.OAuthClient{Name: "app", Roles: []grantway.Assignment{{Role: "application", Division: "home"}},
				ClientSettings: grantway.ClientSettings{AuthMethod: grantway.AuthTLS, TLSDNS: "app.example"}})
			if err != nil {
				t.Fatal(err)
			}
			return func(cert *pair, headers http.Header) int {
				t.Helper()
				form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ID}}
				r, err := http.NewRequestWithContext(t.Context(), "POST", hub.URL()+"/oauth/token", strings.NewReader(form.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				r.Header = headers.Clone()
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
				defer tr.CloseIdleConnections()
				if cert != nil {
					tr.TLSClientConfig.Certificates = []tls.Certificate{cert.tls()}
				}
				resp, err := (&http.Client{Transport: tr}).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}
		}
		t.Run(name+"/trusted", func(t *testing.T) {
			asked := ask(t, app.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
			n := 0
			proxied := func(h http.Header) http.Header { // from an address of its own, where nobody has failed yet
				n++
				h["X-Forwarded-Proto"], h["X-Forwarded-For"] = []string{"https"}, []string{fmt.Sprintf("192.0.2.%d", n)}
				return h
			}
			for what, test := range map[string]struct {
				cert, chain []string
				want        int
			}{
				"good":                     {[]string{mine.header()}, nil, 200},
				"with its chain":           {[]string{chained.header()}, []string{middle.header()}, 200},
				"a chain in two lines":     {[]string{chained.header()}, []string{other.header(), middle.header()}, 200},
				"without its chain":        {[]string{chained.header()}, nil, 401},
				"another name":             {[]string{other.header()}, nil, 401},
				"none":                     {nil, nil, 401},
				"a chain alone":            {nil, []string{mine.header()}, 401},
				"two of them":              {[]string{mine.header(), mine.header()}, nil, 401},
				"the client's, put before": {[]string{mine.header(), other.header()}, nil, 401},
				"without colons":           {[]string{strings.Trim(mine.header(), ":")}, nil, 401},
				"not Base64":               {[]string{":" + strings.Repeat("*", 40) + ":"}, nil, 401},
				"not a certificate":        {[]string{":AAAA:"}, nil, 401},
				"a chain that is none":     {[]string{mine.header()}, []string{"x"}, 401},
			} {
				if got := asked(nil, proxied(http.Header{"Client-Cert": test.cert, "Client-Cert-Chain": test.chain})); got != test.want {
					t.Errorf("%s: %d, want %d", what, got, test.want)
				}
			}
			for _, name := range []string{"X-Client-Cert", "X-Forwarded-Client-Cert", "X-SSL-Client-Cert", "SSL-Client-Cert"} {
				if got := asked(nil, proxied(http.Header{name: {mine.header()}})); got != 401 {
					t.Errorf("the header %s counts: %d", name, got)
				}
			}
		})
		t.Run(name+"/untrusted", func(t *testing.T) {
			asked := ask(t, app.Options{TLSCert: writePEM(t, "CERTIFICATE", server.cert.Raw), TLSKey: writePEM(t, "PRIVATE KEY", der)})
			for what, test := range map[string]struct {
				cert   *pair
				header string
				want   int
			}{
				"in the header alone":                 {nil, mine.header(), 401},
				"in the header, beside another":       {other, mine.header(), 401},
				"on the connection, beside a header":  {mine, other.header(), 200},
				"on the connection, beside rubbish":   {mine, "x", 200},
				"on the connection, without a header": {mine, "", 200},
			} {
				headers := http.Header{}
				if test.header != "" {
					headers.Set("Client-Cert", test.header)
				}
				if got := asked(test.cert, headers); got != test.want {
					t.Errorf("%s: %d, want %d", what, got, test.want)
				}
			}
		})
	}
}
