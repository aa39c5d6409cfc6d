package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/app"
)

// TestMain runs the benchmarks, or, in a process that start made, the server it names.
func TestMain(m *testing.M) {
	switch os.Getenv("GRANTWAY_BENCH") {
	case "hub":
		serveHub(os.Getenv("GRANTWAY_BENCH_DATA"))
	case "bare":
		serveBare(os.Getenv("GRANTWAY_BENCH_BODY"))
	case "upstream":
		serveUpstream()
	default:
		os.Exit(m.Run())
	}
}

// serveHub is the real thing: it prints its address once it serves, and stops when standard input ends.
func serveHub(data string) {
	ctx := context.Background()
	hub, err := app.New(ctx, app.Options{Listen: "127.0.0.1:0", Data: data, Version: "bench", Log: slog.New(slog.DiscardHandler), RequestsPerMinute: -1, OAuthRequestsPerMinute: -1,
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err == nil {
		err = hub.Start(ctx)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(strings.TrimPrefix(hub.URL(), "http://"))
	io.Copy(io.Discard, os.Stdin)
	if err := hub.Stop(ctx); err != nil {
		os.Exit(1)
	}
}

// serveBare writes the same bytes, those of the header too, to everybody: what net/http costs
// by itself.
func serveBare(body string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr())
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(body)))
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		io.WriteString(w, body)
	}))
	io.Copy(io.Discard, os.Stdin)
}

// process is a server in a process of its own.
type process struct {
	addr string
	cmd  *exec.Cmd
	in   io.WriteCloser
}

// start runs this binary again as the server that env describes and waits until it serves.
func start(tb testing.TB, env ...string) *process {
	tb.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if p.addr = strings.TrimSpace(line); err != nil || !strings.Contains(p.addr, "127.0.0.1:") {
		p.cmd.Process.Kill()
		tb.Fatalf("server did not start: %s %v", line, err)
	}
	return p
}

func (p *process) stop(tb testing.TB) {
	p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		tb.Error(err)
	}
}

// resident is how much memory the process uses, in MiB.
func (p *process) resident(tb testing.TB) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				tb.Fatal(err)
			}
			return kib / 1024
		}
	}
	tb.Fatal("no VmRSS")
	return 0
}

// owner is how to sign in to the hub in data.
func owner(tb testing.TB, data string) grantway.Options {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(data, "owner.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var o app.Owner
	if err := json.Unmarshal(text, &o); err != nil {
		tb.Fatal(err)
	}
	return grantway.Options{URL: o.URL, ClientID: o.ClientID, ClientSecret: grantway.Secret(o.ClientSecret)}
}

// signIn gets a token for the hub itself.
func signIn(tb testing.TB, o grantway.Options) string {
	tb.Helper()
	req, err := http.NewRequest(http.MethodPost, o.URL+"/oauth/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		tb.Fatal(err)
	}
	req.SetBasicAuth(o.ClientID, string(o.ClientSecret))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		tb.Fatalf("sign in: HTTP %d %v", resp.StatusCode, err)
	}
	return answer.AccessToken
}
