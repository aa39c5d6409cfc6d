package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/grantway/grantway/grant"
)

// nameServer is a DNS server on the loopback interface that answers each question for an
// IPv4 address with the next list of addresses for that name, the last one again and again.
type nameServer struct {
	mu      sync.Mutex
	answers map[string][][]string // by name without final dot; "*" for all others
	asked   int
}

// resolver starts s and returns a resolver that asks it.
func (s *nameServer) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply, err := s.reply(buf[:n]); err != nil {
				t.Errorf("name server: %v", err)
			} else {
				conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		done.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameServer) reply(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	q := m.Questions[0]
	addrs, known := s.next(strings.TrimSuffix(q.Name.String(), "."), q.Type == dnsmessage.TypeA)
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addrs {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
		})
	}
	return m.Pack()
}

func (s *nameServer) next(name string, ipv4 bool) (addrs []string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.answers[name]; !ok {
		name = "*"
	}
	lists := s.answers[name]
	if len(lists) == 0 || !ipv4 {
		return nil, len(lists) > 0
	}
	s.asked++
	if len(lists) > 1 {
		s.answers[name] = lists[1:]
	}
	return lists[0], true
}

// server is an HTTPS server that counts what reaches it, down to bare connections.
type server struct {
	*httptest.Server
	roots    *x509.CertPool
	port     string
	accepted atomic.Int64
	requests atomic.Int64
}

// listen starts a server whose certificate is good for example.com and 127.0.0.1.
func listen(t *testing.T, address string, handler http.HandlerFunc) *server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{roots: x509.NewCertPool()}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if handler != nil {
			handler(w, r)
		}
	}))
	s.Config.ErrorLog = quiet
	s.Listener.Close()
	s.Listener = countingListener{l, &s.accepted}
	s.StartTLS()
	s.roots.AddCert(s.Certificate())
	t.Cleanup(s.Close)
	return s
}

// quiet swallows what a server has to say about clients that go away.
var quiet = log.New(io.Discard, "", 0)

type countingListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// guard makes a Guard that is closed when t ends.
func guard(t *testing.T, o Options) *Guard {
	t.Helper()
	g := New(o)
	t.Cleanup(g.Close)
	return g
}

// call makes a GET and returns its error.
func call(t *testing.T, g *Guard, url string) error {
	t.Helper()
	resp, err := g.Client(0).Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func wantRefused(t *testing.T, err error, addr string) {
	t.Helper()
	refused, ok := errors.AsType[*Refused](err)
	if !ok || refused.Addr.String() != addr {
		t.Errorf("got %v, want %s refused", err, addr)
	}
}

// TestNameWithPrivateAddress: the name looks harmless, its address is not.
func TestNameWithPrivateAddress(t *testing.T) {
	s := listen(t, "127.0.0.1:0", nil)
	names := &nameServer{answers: map[string][][]string{
		"example.com": {{"127.0.0.1"}}, "private.example.com": {{"10.0.0.1"}}, "metadata.example.com": {{"169.254.169.254"}},
	}}
	g := guard(t, Options{RootCAs: s.roots, Resolver: names.resolver(t)})
	for host, addr := range map[string]string{
		"example.com": "127.0.0.1", "private.example.com": "10.0.0.1", "metadata.example.com": "169.254.169.254",
	} {
		wantRefused(t, call(t, g, "https://"+host+":"+s.port), addr)
	}
	if n := s.accepted.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}

	g = guard(t, Options{RootCAs: s.roots, Resolver: g.dialer.Resolver, AllowNetworks: prefixes("127.0.0.1/32")})
	if err := call(t, g, "https://example.com:"+s.port); err != nil {
		t.Errorf("allowed, but: %v", err)
	}
}

// TestSeveralAddresses: of a name's addresses only those that may be reached are.
func TestSeveralAddresses(t *testing.T) {
	allowed := listen(t, "127.0.0.1:0", nil)
	forbidden := listen(t, "127.0.0.2:"+allowed.port, nil)
	names := &nameServer{answers: map[string][][]string{"example.com": {{"127.0.0.2", "127.0.0.1"}}}}
	g := guard(t, Options{RootCAs: allowed.roots, Resolver: names.resolver(t), AllowNetworks: prefixes("127.0.0.1/32")})
	if err := call(t, g, "https://example.com:"+allowed.port); err != nil {
		t.Errorf("the address that is allowed was not used: %v", err)
	}
	if n := forbidden.accepted.Load(); n != 0 {
		t.Errorf("%d connections to the address that is not", n)
	}
}

// TestRebinding: a name that resolves to an address that may be reached when it is first
// looked up, and to another one the next time.
func TestRebinding(t *testing.T) {
	outside := listen(t, "127.0.0.1:0", nil) // stands for the public address
	inside := listen(t, "127.0.0.2:"+outside.port, nil)
	names := &nameServer{answers: map[string][][]string{"example.com": {{"127.0.0.1"}, {"127.0.0.2"}}}}
	g := guard(t, Options{RootCAs: outside.roots, Resolver: names.resolver(t), AllowNetworks: prefixes("127.0.0.1/32")})
	url := "https://example.com:" + outside.port
	if err := call(t, g, url); err != nil {
		t.Fatalf("the first call: %v", err)
	}
	g.Close() // or the connection would be used again
	wantRefused(t, call(t, g, url), "127.0.0.2")
	if n := inside.accepted.Load(); n != 0 {
		t.Errorf("%d connections were made inside", n)
	}
	names.mu.Lock()
	defer names.mu.Unlock()
	if names.asked != 2 {
		t.Errorf("the name was looked up %d times, want 2", names.asked)
	}
}

// TestAddressSpellings: what some resolvers take for an address is not a way around.
func TestAddressSpellings(t *testing.T) {
	s := listen(t, "127.0.0.1:0", nil)
	names := &nameServer{answers: map[string][][]string{"*": {{"127.0.0.1"}}}} // takes them all
	g := guard(t, Options{RootCAs: s.roots, Resolver: names.resolver(t)})
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.1.",
		"[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "0", "0.0.0.0", "[::]", "localhost", "example.com",
		"１２７.０.０.１", "127。0。0。1",
	} {
		for _, scheme := range []string{"http", "https"} {
			if err := call(t, g, scheme+"://"+host+":"+s.port+"/"); err == nil {
				t.Errorf("%s://%s was called", scheme, host)
			}
		}
	}
	if n := s.accepted.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// TestLocalhost: the name means this machine, and is reached where that is allowed.
func TestLocalhost(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	_, port, _ := net.SplitHostPort(plain.Listener.Addr().String())
	for _, scheme := range []string{"http", "https"} {
		err := call(t, guard(t, Options{AllowNetworks: prefixes("10.0.0.0/8")}), scheme+"://localhost:"+port)
		if _, ok := errors.AsType[*Refused](err); !ok {
			t.Errorf("%s: got %v, want it refused", scheme, err)
		}
	}
	names := &nameServer{answers: map[string][][]string{"*": {{"10.0.0.1"}}}}
	g := guard(t, Options{Resolver: names.resolver(t), AllowNetworks: prefixes("127.0.0.1/32", "10.0.0.0/8")})
	for _, host := range []string{"localhost", "LocalHost", "localhost."} {
		if err := call(t, g, "http://"+host+":"+port); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestRedirectRefused(t *testing.T) {
	target := listen(t, "127.0.0.1:0", nil)
	s := listen(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.URL+"/elsewhere", http.StatusTemporaryRedirect)
	})
	s.roots.AddCert(target.Certificate())
	g := guard(t, Options{RootCAs: s.roots, AllowNetworks: prefixes("127.0.0.0/8")})
	if err := call(t, g, s.URL); err == nil || !strings.Contains(err.Error(), "redirect to "+target.URL+" refused") {
		t.Errorf("got %v", err)
	}
	if n := target.accepted.Load(); n != 0 {
		t.Errorf("the redirect was followed")
	}
}

func TestTLS(t *testing.T) {
	allow := prefixes("127.0.0.0/8")
	s := listen(t, "127.0.0.1:0", nil)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.Config.ErrorLog = quiet
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	old.StartTLS()
	defer old.Close()
	oldRoots := x509.NewCertPool()
	oldRoots.AddCert(old.Certificate())
	names := &nameServer{answers: map[string][][]string{"*": {{"127.0.0.1"}}}}
	for _, tt := range []struct {
		name, url string
		roots     *x509.CertPool
		want      string
	}{
		{"good", s.URL, s.roots, ""},
		{"unknown authority", s.URL, nil, "unknown authority"},
		{"other host", "https://other.test:" + s.port, s.roots, "other.test"},
		{"TLS 1.1", old.URL, oldRoots, "protocol version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := guard(t, Options{RootCAs: tt.roots, Resolver: names.resolver(t), AllowNetworks: allow})
			err := call(t, g, tt.url)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestProxy: the environment's proxy is not used, the one in Options is, and addresses in
// the URL are checked before it hears of them.
func TestProxy(t *testing.T) {
	s := listen(t, "127.0.0.1:0", nil)
	var mu sync.Mutex
	var asked []string // guarded by mu
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host)
		mu.Unlock()
		up, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer up.Close()
		down, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(up, down)
			up.Close()
		}()
		io.Copy(down, up)
	}))
	defer proxy.Close()
	proxyURL, _ := url.Parse(proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	names := &nameServer{answers: map[string][][]string{"example.com": {{"127.0.0.1"}}}}
	o := Options{RootCAs: s.roots, Resolver: names.resolver(t), AllowNetworks: prefixes("127.0.0.1/32")}

	wantAsked := func(want string) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(asked, ", "); got != want {
			t.Errorf("the proxy was asked for %q, want %q", got, want)
		}
	}

	target := "example.com:" + s.port
	if err := call(t, guard(t, o), "https://"+target); err != nil {
		t.Errorf("without a proxy: %v", err)
	}
	wantAsked("")

	o.Proxy = http.ProxyURL(proxyURL)
	g := guard(t, o)
	if err := call(t, g, "https://"+target); err != nil {
		t.Errorf("with a proxy: %v", err)
	}
	wantAsked("CONNECT " + target)
	wantRefused(t, call(t, g, "https://10.0.0.1/"), "10.0.0.1")
	if err := call(t, g, s.URL); err != nil {
		t.Errorf("this machine: %v", err)
	}
	wantAsked("CONNECT " + target)

	o.AllowNetworks = nil
	wantRefused(t, call(t, guard(t, o), "https://"+target), "127.0.0.1")
}

// TestTimeout: a client bounds the whole exchange.
func TestTimeout(t *testing.T) {
	end := make(chan struct{})
	s := listen(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-end // in the middle of the body
	})
	defer close(end)
	g := guard(t, Options{RootCAs: s.roots, AllowNetworks: prefixes("127.0.0.1/32")})
	resp, err := g.Client(50 * time.Millisecond).Get(s.URL)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestTokenRequest: a client of package grant that was given the transport is guarded, and
// sees in a refusal a failure that will not go away by itself.
func TestTokenRequest(t *testing.T) {
	s := listen(t, "127.0.0.1:0", nil)
	client := &grant.Client{Transport: guard(t, Options{RootCAs: s.roots}).Transport()}
	_, err := client.Token(t.Context(), &grant.Request{TokenURL: s.URL + "/token", ClientID: "c", Auth: grant.Basic{Secret: "s"}})
	failed, ok := errors.AsType[*grant.Error](err)
	if !ok || failed.Stage != grant.StageAddress || failed.Class != grant.Permanent {
		t.Errorf("got %#v", err)
	}
	wantRefused(t, err, "127.0.0.1")
	if !strings.Contains(err.Error(), "--allow-networks") {
		t.Errorf("the message does not say what to do: %v", err)
	}
	if n := s.accepted.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}
