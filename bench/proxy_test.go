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
	"os/user"
	"path/filepath"
	"runtime"
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

// serveUpstream is the API behind the hub whose event streams say one thing and stay open.
func serveUpstream() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr())
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: open\n\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	io.Copy(io.Discard, os.Stdin)
}

// server is one that others wrote, in a process of its own.
type server struct {
	addr string
	pid  int
}

// processors says on which the benchmark runs from now on, and what it starts for ever.
func processors(b *testing.B, list string) {
	b.Helper()
	if out, err := exec.Command("taskset", "-a", "-p", "-c", list, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
		b.Fatalf("taskset: %v: %s", err, out)
	}
}

// reference starts a server of somebody else on a free port and waits until it serves. conf
// makes its configuration, the file of which is the last of its arguments.
func reference(b *testing.B, name string, conf func(addr, dir string) string, args ...string) server {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := listener.Addr().String()
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
			return server{addr, cmd.Process.Pid}
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s did not start: %v\n%s", name, err, said.String())
		}
	}
}

// nginxConf is a configuration of nginx with that content of its http block.
func nginxConf(dir, http string) string {
	me := "nobody" // who may not read what root wrote into temporary folders
	if u, err := user.Current(); err == nil {
		me = u.Username
	}
	return fmt.Sprintf(`daemon off; user %[3]s; worker_processes auto; pid %[1]s/pid; error_log stderr error;
events { worker_connections 4096; }
http {
	access_log off; keepalive_requests 1000000000; proxy_max_temp_file_size 0;
	client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
	%[2]s
}
`, dir, http, me)
}

// startAPI starts what is behind the proxies: it serves content at /{size}, as cheaply as can
// be, since its processor time is that of the same machine.
func startAPI(b *testing.B) server {
	files := b.TempDir()
	for _, size := range []int{1 << 10, 1 << 20} {
		if err := os.WriteFile(filepath.Join(files, strconv.Itoa(size)), content(size), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return reference(b, "nginx", func(addr, dir string) string {
		return nginxConf(dir, fmt.Sprintf(`sendfile on; tcp_nopush on; open_file_cache max=16;
	server { listen %s; root %s; }`, addr, files))
	}, "-e", "stderr", "-c")
}

func startNginx(b *testing.B, upstream string) server {
	return reference(b, "nginx", func(addr, dir string) string {
		return nginxConf(dir, fmt.Sprintf(`upstream api { server %s; keepalive 64; keepalive_requests 1000000000; }
	server {
		listen %s;
		location / { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}`, upstream, addr))
	}, "-e", "stderr", "-c")
}

func startCaddy(b *testing.B, upstream string) server {
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
//
// A proxy has a processor of its own, and the load and the API have the others: else it would be
// measured by what these leave over. cpu-µs is what it uses for one request.
func BenchmarkProxy(b *testing.B) {
	last := runtime.NumCPU() - 1
	others := fmt.Sprintf("%d-%d", min(1, last), last)
	defer processors(b, fmt.Sprintf("0-%d", last))
	processors(b, others)
	api := startAPI(b)
	processors(b, "0")
	process, token := proxyHub(b, api.addr)
	defer process.stop(b)
	hub := server{process.addr, process.cmd.Process.Pid}
	nginx, caddy := startNginx(b, api.addr), startCaddy(b, api.addr)
	processors(b, others)
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
				name string
				server
				path      string
				took, cpu time.Duration
				latencies []time.Duration
			}{
				{name: "direct", server: api, path: path}, {name: "nginx", server: nginx, path: path},
				{name: "caddy", server: caddy, path: path}, {name: "hub", server: hub, path: "/proxy/api" + path},
			}
			const rounds = 5
			n := max(b.N/rounds, 1)
			b.SetBytes(int64(size))
			b.ResetTimer()
			for range rounds { // in turns, so that whatever else the machine does hits all
				for i := range servers {
					s := &servers[i]
					latencies := make([]time.Duration, n)
					s.cpu -= processorTime(b, s.pid)
					s.took += loadOver(b, proxyConnections, s.addr, get(s.addr, s.path, token), n, want, latencies)
					s.cpu += processorTime(b, s.pid)
					s.latencies = append(s.latencies, latencies...)
				}
			}
			b.StopTimer()
			direct, hub := servers[0], servers[3]
			for _, s := range servers {
				b.ReportMetric(float64(n*rounds)/s.took.Seconds(), s.name+"-req/s")
				b.ReportMetric(float64(s.cpu.Microseconds())/float64(n*rounds), s.name+"-cpu-µs")
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

// processorTime is what a process and its children have used of the processors, in steps of 10 ms.
func processorTime(b *testing.B, pid int) (total time.Duration) {
	b.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third field on: proc_pid_stat(5)
		if parent := f[1]; parent != strconv.Itoa(pid) && filepath.Base(filepath.Dir(file)) != strconv.Itoa(pid) {
			continue
		}
		for _, ticks := range f[11:13] { // utime, stime
			n, err := strconv.Atoi(ticks)
			if err != nil {
				b.Fatal(err)
			}
			total += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return total
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
