package grant_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/grantwaytest"
)

// TestCallerEnds gives up while the server has the request.
func TestCallerEnds(t *testing.T) {
	p, client := start(t)
	defer p.Token.Hold()()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		if p.Token.Await(ctx, 1) == nil {
			cancel()
		}
	}()
	_, err := client.Token(ctx, newRequest(p))
	if e := failed(t, err); !errors.Is(err, context.Canceled) || e.Class != grant.Temporary || e.Stage != grant.StageRequest || e.Message != "canceled by the caller" {
		t.Errorf("%s %s %v", e.Stage, e.Class, err)
	}

	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = client.Token(ctx, newRequest(p))
	if e := failed(t, err); !errors.Is(err, context.DeadlineExceeded) || e.Class != grant.Temporary || !strings.Contains(e.Message, " within ") {
		t.Errorf("%s %s %v", e.Stage, e.Class, err)
	}
}

// TestDialerError has a dialer that refuses an address for a reason of its own.
func TestDialerError(t *testing.T) {
	own := &grant.Error{Stage: grant.StageAddress, Class: grant.Permanent, Message: "10.0.0.1 is a private address"}
	for _, dial := range []error{own, &net.OpError{Op: "dial", Err: own}} {
		client := &grant.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, dial }}}
		_, err := client.Token(t.Context(), &grant.Request{TokenURL: "https://as.example/token", ClientID: "app"})
		if e := failed(t, err); e.Class != grant.Permanent || e.Message != own.Message || e == own {
			t.Errorf("got %v", err)
		}
	}
}

// selfSigned makes a server certificate that is its own authority.
func selfSigned(t *testing.T, template *x509.Certificate) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.IsCA, template.BasicConstraintsValid = big.NewInt(1), true, true
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLSFailures(t *testing.T) {
	now := time.Now()
	loopback := []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, c := range []struct {
		name        string
		certificate x509.Certificate
		config      *tls.Config // of the server
		want        string
	}{
		{"not yet valid", x509.Certificate{IPAddresses: loopback, NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour)}, &tls.Config{}, "is not valid before"},
		{"no names", x509.Certificate{NotAfter: now.Add(time.Hour)}, &tls.Config{}, "names no host at all"},
		{"not for servers", x509.Certificate{IPAddresses: loopback, NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, &tls.Config{}, "is not valid: x509"},
		{"client certificate", x509.Certificate{IPAddresses: loopback, NotAfter: now.Add(time.Hour)}, &tls.Config{ClientAuth: tls.RequireAnyClientCert}, "wants another client certificate"},
		{"old TLS", x509.Certificate{IPAddresses: loopback, NotAfter: now.Add(time.Hour)}, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pool, certificate := selfSigned(t, &c.certificate)
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = quiet()
			server.TLS = c.config
			server.TLS.Certificates = []tls.Certificate{certificate}
			server.StartTLS()
			t.Cleanup(server.Close)
			client := &grant.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
			t.Cleanup(client.CloseIdleConnections)
			_, err := client.Token(t.Context(), &grant.Request{TokenURL: server.URL, ClientID: "app"})
			if e := failed(t, err); e.Stage != grant.StageTLS || e.Class != grant.Permanent || !strings.Contains(e.Message, c.want) {
				t.Errorf("%s %s %v", e.Stage, e.Class, err)
			}
		})
	}

	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	_, err := new(grant.Client).Token(t.Context(), &grant.Request{TokenURL: strings.Replace(plain.URL, "http:", "https:", 1), ClientID: "app"})
	if e := failed(t, err); e.Stage != grant.StageTLS || e.Class != grant.Permanent || !strings.Contains(e.Message, "does not speak TLS") {
		t.Errorf("%s %s %v", e.Stage, e.Class, err)
	}
}

// TestNotHTTP talks to a server that answers with our own secret instead of HTTP.
func TestNotHTTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprintf(conn, "NOT HTTP %s\r\n\r\n", appSecret)
		}
	}()
	client := &grant.Client{}
	_, err = client.Token(t.Context(), &grant.Request{TokenURL: "http://" + listener.Addr().String(), AllowPlainHTTP: true, ClientID: "app", Auth: grant.Post{Secret: appSecret}})
	e := failed(t, err)
	if e.Stage != grant.StageResponse || e.Class != grant.Temporary || !strings.Contains(e.Message, "is not an HTTP answer") {
		t.Errorf("%s %s %v", e.Stage, e.Class, err)
	}
	for err := error(e); err != nil; err = errors.Unwrap(err) {
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), appSecret) {
			t.Errorf("the secret is in %T: %v", err, err)
		}
	}
}

// TestMutualTLSLeavesNothing uses a certificate over HTTP/2, whose connections live longest.
func TestMutualTLSLeavesNothing(t *testing.T) {
	certificate, err := grantwaytest.NewClientCertificate()
	if err != nil {
		t.Fatal(err)
	}
	var proto string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto = r.Proto
		if len(r.TLS.PeerCertificates) != 1 {
			t.Errorf("%d certificates", len(r.TLS.PeerCertificates))
		}
		fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer"}`)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	before := goleak.IgnoreCurrent()
	client := &grant.Client{Transport: server.Client().Transport.(*http.Transport)}
	if _, err := client.Token(t.Context(), &grant.Request{TokenURL: server.URL, ClientID: "app", Auth: grant.TLS{}, Certificate: certificate}); err != nil {
		t.Fatal(err)
	}
	if proto != "HTTP/2.0" {
		t.Error(proto)
	}
	goleak.VerifyNone(t, before)
	server.Close()
}
