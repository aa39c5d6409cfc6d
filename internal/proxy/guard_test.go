package proxy_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
)

// TestPathsRefused: request targets that servers read in different ways get nowhere, and leave
// a trace.
func TestPathsRefused(t *testing.T) {
	g := start(t, false, nil)
	for i, tt := range []struct{ name, target string }{
		{"parent", "/proxy/%s/../x"},
		{"parent at the end", "/proxy/%s/a/.."},
		{"current", "/proxy/%s/./x"},
		{"escaped parent", "/proxy/%s/%%2e%%2e/x"},
		{"half escaped parent", "/proxy/%s/.%%2E/x"},
		{"doubly escaped parent", "/proxy/%s/%%252e%%252e/x"},
		{"trebly escaped parent", "/proxy/%s/%%25252e%%25252e/x"},
		{"parent with parameters", "/proxy/%s/..;a=b/x"},
		{"overlong parent", "/proxy/%s/%%c0%%ae%%c0%%ae/x"},
		{"escaped slash", "/proxy/%s/a%%2fb"},
		{"escaped slash in capitals", "/proxy/%s/a%%2Fb"},
		{"doubly escaped slash", "/proxy/%s/a%%252fb"},
		{"escaped slash of a parent", "/proxy/%s/..%%2fx"},
		{"backslash", "/proxy/%s/a\\..\\b"},
		{"escaped backslash", "/proxy/%s/a%%5c..%%5cb"},
		{"two slashes", "/proxy/%s//evil.example/x"},
		{"CR LF", "/proxy/%s/a%%0d%%0aX-Injected:%%201"},
		{"LF", "/proxy/%s/a%%0ab"},
		{"NUL", "/proxy/%s/a%%00b"},
		{"DEL", "/proxy/%s/a%%7fb"},
		{"fragment", "/proxy/%s/a#b"},
		{"raw bytes", "/proxy/%s/a\xffb"},
		{"not UTF-8", "/proxy/%s/a%%ffb"},
		{"fragment in the query", "/proxy/%s/a?b#c"},
		{"absolute form", "http://hub/proxy/%s/x"},
		{"absolute form of another host", "http://169.254.169.254/proxy/%s/x"},
		{"absolute form with user info", "http://api@hub/proxy/%s/x"},
		{"escaped door", "/%%70roxy/%s/x"},
		{"absolute URL as the path", "/proxy/%s//http://169.254.169.254/latest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			credential := fmt.Sprintf("path-%d", i) // its own, so that its refusal is written at once
			resp := g.raw(t, g.line("GET %s", fmt.Sprintf(tt.target, credential))+"\r\n")
			if resp == nil {
				t.Fatal("no answer")
			}
			problem(t, resp, 400, grantway.Malformed)
			if strings.HasPrefix(tt.target, "/proxy/") {
				g.wantDenied(t, "proxy.path", credential)
			} else {
				before := len(g.denied(t, "proxy.path", ""))
				if before == 0 {
					t.Error("the refusal is not in the audit trail")
				}
			}
		})
	}
	r := g.request(t, "TRACE", "/proxy/api/x", nil)
	problem(t, g.send(t, r), 405, grantway.MethodNotAllowed)
	g.wantDenied(t, "proxy.request", "api")
	if n := len(g.api.seen()); n != 0 {
		t.Errorf("%d requests reached the API", n)
	}
}

// TestSmuggling: what is not one request by any reading is none, for nobody: the server itself
// answers, before it is known who asks. What it does understand goes on in one reading.
func TestSmuggling(t *testing.T) {
	g := start(t, false, nil)
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %v %q", r.ContentLength, r.TransferEncoding, body)
	})
	post := g.line("POST /proxy/api/x")
	hidden := "GET /proxy/api/hidden HTTP/1.1\r\nHost: hub\r\n\r\n"
	for _, tt := range []struct{ name, request string }{
		{"two lengths", post + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody" + hidden},
		{"two lengths in one", post + "Content-Length: 4, 5\r\n\r\nbody" + hidden},
		{"signed length", post + "Content-Length: +4\r\n\r\nbody" + hidden},
		{"hexadecimal length", post + "Content-Length: 0x4\r\n\r\nbody" + hidden},
		{"negative length", post + "Content-Length: -1\r\n\r\n" + hidden},
		{"unknown encoding", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"encoding twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden},
		{"disguised encoding", post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + hidden},
		{"space before the colon", post + "Content-Length : 4\r\n\r\nbody" + hidden},
		{"CR in a value", post + "X-A: 1\rX-B: 2\r\n\r\n"},
		{"NUL in a value", post + "X-A: 1\x00\r\n\r\n"},
		{"space in the target", g.line("GET /proxy/api/a b") + "\r\n"},
		{"two hosts", post + "Host: other\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(g.api.seen())
			resp := g.raw(t, tt.request)
			if resp != nil && resp.StatusCode != 400 && resp.StatusCode != 501 {
				t.Errorf("HTTP %d, want 400 or 501", resp.StatusCode)
			}
			if len(g.api.seen()) != before {
				t.Error("it reached the API")
			}
		})
	}
	for _, tt := range []struct{ name, request, want string }{
		{"the same length twice", post + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody", `4 [] "body"`},
		{"length and chunks", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\n\r\n", `-1 [chunked] "body"`},
		{"the hop claims the length", post + "Content-Length: 4\r\nConnection: Content-Length\r\n\r\nbody", `4 [] "body"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := g.raw(t, tt.request)
			if resp == nil {
				t.Fatal("no answer")
			}
			if got := text(t, resp); got != tt.want {
				t.Errorf("the API got %s, want %s", got, tt.want)
			}
		})
	}
	for _, r := range g.api.seen() {
		if strings.Contains(r.URL.Path, "hidden") {
			t.Error("the hidden request reached the API")
		}
	}
}

// TestBaseURLs: what is not plainly a host is refused when it is saved.
func TestBaseURLs(t *testing.T) {
	g := start(t, false, nil)
	for _, base := range []string{
		"http://example.com", "ftp://example.com", "//example.com", "example.com", "https://", "https://user@example.com", "https://example.com/?q", "https://example.com/#f",
		"https://example.com/a/../b", "https://example.com/%2e%2e", "https://example.com//a", "https://example.com/a\\b", "https://example.com\r\nX: 1", "https://example.com/a b",
		"https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/", "https://017700000001", "https://127.0.0.1./", "https://1.2.3.4.5/", "https://[fe80::1%25eth0]/",
		"https://example.com:0/", "https://example.com:99999/",
	} {
		_, err := g.CreateCredential(t.Context(), grantway.Credential{Name: "x", Inputs: grantway.Inputs{
			"client_id": grantway.Text("app"), "client_secret": grantway.Text("secret"), "token_endpoint": grantway.Text(g.provider.Token.URL), "base_url": grantway.Text(base),
		}})
		if err == nil || !strings.Contains(err.Error(), "inputs/base_url") {
			t.Errorf("%q: %v, want base_url refused", base, err)
		}
	}
}

// TestAddressesRefused: the hub calls no address that is inside of its own network.
func TestAddressesRefused(t *testing.T) {
	g := start(t, false, nil)
	for i, base := range []string{
		"https://10.0.0.1", "https://192.168.1.1", "https://172.16.0.1", "https://169.254.169.254/latest", "https://169.254.1.1", "https://100.64.0.1", "https://0.0.0.0",
		"https://[::1]", "https://[fd00:ec2::254]", "https://[fe80::1]", "https://[fc00::1]", "https://[::ffff:10.0.0.1]", "https://[::ffff:a9fe:a9fe]", "https://[64:ff9b::a9fe:a9fe]", "https://[2002:a9fe:a9fe::1]",
		"http://[::1]", "https://224.0.0.1", "https://255.255.255.255", "https://[::]",
	} {
		t.Run(base, func(t *testing.T) {
			credential := fmt.Sprintf("address-%d", i)
			g.save(t, credential, base, nil)
			problem(t, g.get(t, "/proxy/"+credential+"/x"), 403, grantway.Forbidden)
			g.wantDenied(t, "proxy.address", credential)
		})
	}
}

// TestRebinding: a name that leads outside when it is first looked up, and inside the next time.
func TestRebinding(t *testing.T) {
	names := &nameServer{answers: []string{"127.0.0.1", "169.254.169.254"}}
	system := net.DefaultResolver
	net.DefaultResolver = names.resolver(t)
	t.Cleanup(func() { net.DefaultResolver = system })

	var calls atomic.Int64
	outside := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Connection", "close") // so that the name is looked up again
	}))
	outside.Config.ErrorLog = log.New(io.Discard, "", 0)
	outside.StartTLS() // its certificate is good for example.com
	t.Cleanup(outside.Close)
	g := start(t, true, nil)
	roots := x509.NewCertPool()
	roots.AddCert(outside.Certificate())
	roots.AddCert(g.api.Certificate())
	g.Hub = grantwaytest.Start(t, grantwaytest.HubOptions{RootCAs: roots})
	g.token = g.signIn(t, g.Owner.ClientID, string(g.Owner.ClientSecret))
	_, port, _ := net.SplitHostPort(outside.Listener.Addr().String())
	g.save(t, "rebound", "https://example.com:"+port, nil)
	if resp := g.get(t, "/proxy/rebound/x"); resp.StatusCode != 200 {
		t.Fatalf("the first call: HTTP %d: %s", resp.StatusCode, text(t, resp))
	}
	problem(t, g.get(t, "/proxy/rebound/x"), 403, grantway.Forbidden)
	g.wantDenied(t, "proxy.address", "rebound")
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// nameServer answers each question for an IPv4 address with the next of its answers, the last
// one again and again.
type nameServer struct {
	mu      sync.Mutex
	answers []string // guarded by mu
}

func (s *nameServer) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for buf := make([]byte, 1500); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(buf[:n]); err != nil {
				t.Errorf("name server: %v", err)
				return
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: s.next()}}}
			}
			reply, err := m.Pack()
			if err != nil {
				t.Errorf("name server: %v", err)
				return
			}
			conn.WriteTo(reply, from)
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

func (s *nameServer) next() [4]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	return netip.MustParseAddr(a).As4()
}

// TestRedirects: those within the API lead the caller back through the proxy; others end here.
func TestRedirects(t *testing.T) {
	g := start(t, false, nil)
	elsewhere := &api{}
	elsewhere.Server = httptest.NewServer(elsewhere)
	t.Cleanup(elsewhere.Close)
	host := strings.TrimPrefix(g.api.URL, "http://")
	const refused = "refused"
	for i, tt := range []struct{ location, want string }{ // want is behind /proxy/{credential}
		{g.api.URL + "/base/next?a=b#c", "/next?a=b#c"},
		{"next", "/next"}, // beside the request's /base/x
		{"?page=2", "/x?page=2"},
		{"/base", ""},
		{"/base/", "/"},
		{"//" + strings.ToUpper(host) + "/base/next", "/next"},
		{"/outside", refused}, {"/basement", refused}, {"../outside", refused},
		{"/base/../outside", refused}, {"/base/%2e%2e/outside", refused}, {"/base/a%2fb", refused},
		{elsewhere.URL + "/base/x", refused}, {"//169.254.169.254/latest", refused}, {"http://169.254.169.254/base", refused},
		{"https://" + host + "/base/x", refused}, {"http://user@" + host + "/base/x", refused},
		{"file:///etc/passwd", refused}, {"javascript:alert(1)", refused}, {"http://%zz/", refused}, {`\\evil.example\x`, refused},
	} {
		t.Run(tt.location, func(t *testing.T) {
			credential := fmt.Sprintf("redirect-%d", i)
			g.save(t, credential, g.api.URL+"/base", nil)
			g.api.handle(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Location"] = []string{tt.location}
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
			resp := g.get(t, "/proxy/"+credential+"/x")
			if tt.want == refused {
				problem(t, resp, 502, grantway.UpstreamFailed)
				g.wantDenied(t, "proxy.redirect", credential)
				if resp.Header.Get("Location") != "" {
					t.Errorf("the answer still has Location %q", resp.Header.Get("Location"))
				}
				return
			}
			if got, want := resp.Header.Get("Location"), "/proxy/"+credential+tt.want; resp.StatusCode != 307 || got != want {
				t.Errorf("HTTP %d to %q, want %q", resp.StatusCode, got, want)
			}
		})
	}
	if n := len(elsewhere.seen()); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
	g.api.handle(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://example.com/made")
		w.WriteHeader(http.StatusCreated)
	})
	if resp := g.get(t, "/proxy/api/x"); resp.StatusCode != 201 || resp.Header.Get("Location") != "https://example.com/made" {
		t.Errorf("201: HTTP %d, %q", resp.StatusCode, resp.Header.Get("Location"))
	}
}
