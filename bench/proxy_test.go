package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway"
)

// references is where make bench puts nginx and Caddy; see scripts/references.
const references = "../.cache/references"

// proxyConnections is how many callers of a proxy there are at once.
const proxyConnections = 64

// content is what the upstream serves at /{size}: bytes that tell where they are.
func content(size int) []byte {
	b := make([]byte, 0, size+16)
	for len(b) < size {
		b = fmt.Appendf(b, "%015d\n", len(b))
	}
	return b[:size]
}

// serveUpstream is the API behind the proxies: it serves content at /{size}, and at /stream one
// event, after which the stream stays open.
func serveUpstream() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr())
	sizes := map[string][]byte{}
	for _, size := range []int{1 << 10, 1 << 20} {
		sizes["/"+strconv.Itoa(size)] = content(size)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: open\n\n")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		body, ok := sizes[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}))
	io.Copy(io.Discard, os.Stdin)
}

// reference starts a server of somebody else on a free port and waits until it serves. conf
// makes its configuration, of which arg is the file.
func reference(b *testing.B, name string, conf func(addr, dir string) string, args ...string) (addr string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr = listener.Addr().String()
	listener.Close()
	dir := b.TempDir()
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(conf(addr, dir)), 0o600); err != nil {
		b.Fatal(err)
	}
	program, err := filepath.Abs(filepath.Join(references, name))
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, append(args, file)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		b.Fatalf("%s: %v; make bench fetches it", name, err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return addr
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s did not start: %v\n%s", name, err, said.String())
		}
	}
}

func startNginx(b *testing.B, upstream string) string {
	return reference(b, "nginx", func(addr, dir string) string {
		return fmt.Sprintf(`daemon off; worker_processes auto; pid %[2]s/pid; error_log stderr error;
events { worker_connections 4096; }
http {
	access_log off; keepalive_requests 1000000000; proxy_max_temp_file_size 0;
	client_body_temp_path %[2]s/1; proxy_temp_path %[2]s/2; fastcgi_temp_path %[2]s/3; uwsgi_temp_path %[2]s/4; scgi_temp_path %[2]s/5;
	upstream api { server %[3]s; keepalive 64; keepalive_requests 1000000000; }
	server {
		listen %[1]s;
		location / { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
}
`, addr, dir, upstream)
	}, "-e", "stderr", "-c")
}

func startCaddy(b *testing.B, upstream string) string {
	return reference(b, "caddy", func(addr, _ string) string {
		return fmt.Sprintf(`{
	admin off
	auto_https off
}
http://%s {
	reverse_proxy %s {
		transport http {
			keepalive_idle_conns_per_host %d
		}
	}
}
`, addr, upstream, proxyConnections)
	}, "run", "--adapter", "caddyfile", "--config")
}

// get writes the bytes of a GET.
func get(host, path, token string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, host, token)
}

// proxyHub returns a hub with a credential whose API is at upstream, and a token for it.
func proxyHub(b *testing.B, upstream string) (*process, string) {
	b.Helper()
	data := b.TempDir()
	provider := newProvider(b)
	hub := start(b, "GRANTWAY_BENCH=hub", "GRANTWAY_BENCH_DATA="+data)
	client, err := grantway.NewClient(owner(b, data))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close(b.Context())
	_, err = client.CreateCredential(b.Context(), grantway.Credential{Name: "api", Inputs: grantway.Inputs{
		"client_id": grantway.Text("app"), "client_secret": grantway.Text("secret"),
		"token_endpoint": grantway.Text(provider.Token.URL), "base_url": grantway.Text("http://" + upstream),
	}})
	if err != nil {
		b.Fatal(err)
	}
	return hub, signIn(b, owner(b, data))
}

// BenchmarkProxy compares a GET through the authorizing proxy (caller authenticated, authorized
// and counted, token applied) with the API itself, and with nginx and Caddy as plain reverse
// proxies in front of it. Targets for 1 KiB: x-caddy ≥ 1.5, x-nginx as near to 1 as Go gets (0.5).
func BenchmarkProxy(b *testing.B) {
	upstream := start(b, "GRANTWAY_BENCH=upstream")
	defer upstream.stop(b)
	hub, token := proxyHub(b, upstream.addr)
	defer hub.stop(b)
	nginx, caddy := startNginx(b, upstream.addr), startCaddy(b, upstream.addr)
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			body := content(size)
			want := func(status int, got []byte) error {
				if status != http.StatusOK || !bytes.Equal(got, body) {
					return fmt.Errorf("HTTP %d with %d bytes, want 200 and the %d bytes of the API", status, len(got), size)
				}
				return nil
			}
			path := "/" + strconv.Itoa(size)
			servers := []struct {
				name, addr, path string
				took             time.Duration
				latencies        []time.Duration
			}{
				{name: "direct", addr: upstream.addr, path: path}, {name: "nginx", addr: nginx, path: path},
				{name: "caddy", addr: caddy, path: path}, {name: "hub", addr: hub.addr, path: "/proxy/api" + path},
			}
			const rounds = 5
			n := max(b.N/rounds, 1)
			b.SetBytes(int64(size))
			b.ResetTimer()
			for range rounds { // in turns, so that whatever else the machine does hits all
				for i := range servers {
					s := &servers[i]
					latencies := make([]time.Duration, n)
					s.took += loadOver(b, proxyConnections, s.addr, get(s.addr, s.path, token), n, want, latencies)
					s.latencies = append(s.latencies, latencies...)
				}
			}
			b.StopTimer()
			direct, hub := servers[0], servers[3]
			for _, s := range servers {
				b.ReportMetric(float64(n*rounds)/s.took.Seconds(), s.name+"-req/s")
				if s.name != "hub" {
					b.ReportMetric(s.took.Seconds()/hub.took.Seconds(), "x-"+s.name)
				}
				if s.name != "direct" {
					b.ReportMetric(float64(p99(s.latencies)-p99(direct.latencies))/1e6, s.name+"-added-p99-ms")
				}
			}
		})
	}
}

func p99(latencies []time.Duration) time.Duration {
	slices.Sort(latencies)
	return latencies[len(latencies)*99/100]
}

// BenchmarkProxyStreams measures what an event stream that is open and quiet costs the hub, both
// of its connections included.
func BenchmarkProxyStreams(b *testing.B) {
	upstream := start(b, "GRANTWAY_BENCH=upstream")
	defer upstream.stop(b)
	hub, token := proxyHub(b, upstream.addr)
	defer hub.stop(b)
	open := func() net.Conn {
		conn, err := net.Dial("tcp", hub.addr)
		if err != nil {
			b.Fatal(err)
		}
		conn.Write(get(hub.addr, "/proxy/api/stream", token))
		answer := bufio.NewReader(conn)
		for {
			line, err := answer.ReadString('\n')
			if err != nil {
				b.Fatalf("the stream did not open: %v", err)
			}
			if strings.Contains(line, "data: open") {
				return conn
			}
		}
	}
	for range 10 { // what is needed once
		open().Close()
	}
	const streams = 1000
	for b.Loop() {
		before := hub.resident(b)
		var conns []net.Conn
		for range streams {
			conns = append(conns, open())
		}
		b.ReportMetric((hub.resident(b)-before)*1024/streams, "KiB/stream")
		for _, conn := range conns {
			conn.Close()
		}
	}
}
