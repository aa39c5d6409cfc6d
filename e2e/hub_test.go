// Package e2e_test runs the real program: hubs in processes of their own that are killed,
// stopped and cut off from their database and their provider while callers want tokens.
//
// Nothing here sleeps for luck. Tests wait for what they need to have happened: a request
// that arrived at the provider, a line in a log, an answer of a hub.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/app"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store/storetest"
)

// program builds the program under test, once, and returns its path.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "grantway")
	build := exec.Command("go", "build", "-o", path)
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		build.Args = append(build.Args, "-race") // as the tests, so that it finds the program's races too
	}
	build.Args = append(build.Args, "github.com/grantway/grantway/cmd/grantway")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return path, nil
})

// scratch is a directory for the program. TestMain makes and removes it.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "grantway-e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// patience is how long a test waits for something that is bound to happen soon.
const patience = 30 * time.Second

// site is where hubs run: the directory and the database of one, or of several replicas.
type site struct {
	data     string
	database string // a postgres:// URL; "" is SQLite in data
	key      string // as for --key; "" is the file that the first start makes
	flags    []string
	env      []string // such as "NAME=value"
}

// sqlite returns a site with nothing in it yet.
func sqlite(t *testing.T) site { return site{data: filepath.Join(t.TempDir(), "data")} }

// postgres returns a site on a database, which may be one that others use already.
func postgres(t *testing.T, url string) site {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	if err := seal.GenerateKeyFile(key); err != nil {
		t.Fatal(err)
	}
	return site{data: t.TempDir(), database: url, key: "file:" + key}
}

// replica returns the site of one more process on the same database.
func (s site) replica(t *testing.T) site {
	s.data = t.TempDir()
	return s
}

// eachDatabase runs body at a site on SQLite and at one on PostgreSQL.
func eachDatabase(t *testing.T, body func(t *testing.T, s site)) {
	t.Run("SQLite", func(t *testing.T) { body(t, sqlite(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { body(t, postgres(t, storetest.EmptyPostgres(t))) })
}

// hub is a `grantway serve` process.
type hub struct {
	t       *testing.T
	url     string
	address string // where it listens
	log     *journal
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process is gone
}

// launch starts a hub without waiting for anything. It is killed when the test ends.
func launch(t *testing.T, s site) *hub {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"serve", "--listen", "127.0.0.1:0", "--allow-networks", "127.0.0.0/8", "--requests-per-minute", "-1", "--log-format", "json", "--data", s.data}
	if s.database != "" {
		args = append(args, "--database", s.database)
	}
	if s.key != "" {
		args = append(args, "--key", s.key)
	}
	args = append(args, s.flags...)
	h := &hub{t: t, log: newJournal(), cmd: exec.Command(path, args...), ended: make(chan struct{})}
	h.cmd.Env = append(append(environ(), "GORACE=atexit_sleep_ms=0"), s.env...)
	h.cmd.Stderr = h.log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		h.cmd.Wait() // how it ended is asked of ProcessState
		close(h.ended)
	}()
	t.Cleanup(func() {
		h.kill()
		if strings.Contains(h.log.text(), "WARNING: DATA RACE") {
			t.Error("the hub has a data race")
		}
		if t.Failed() {
			t.Logf("log of the hub at %s:\n%s", h.url, h.log.text())
		}
	})
	return h
}

// environ is the environment of this process without the settings of a hub.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GRANTWAY_") })
}

// start starts a hub and waits until it serves.
func start(t *testing.T, s site) *hub {
	t.Helper()
	h := launch(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		select {
		case <-h.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	line, err := h.log.await(ctx, "grantway is listening")
	if err != nil {
		t.Fatalf("the hub does not start: %s", h.log.text())
	}
	h.url, _ = line["url"].(string)
	h.address, _ = line["address"].(string)
	return h
}

// kill ends the hub as kill -9 does.
func (h *hub) kill() {
	h.cmd.Process.Kill()
	<-h.ended
}

// terminate asks the hub to stop. wait tells how it ended.
func (h *hub) terminate() {
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
}

// wait returns the exit code once the process is gone.
func (h *hub) wait() int {
	h.t.Helper()
	select {
	case <-h.ended:
		return h.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		h.t.Fatalf("the hub does not end:\n%s", h.log.text())
		return 0
	}
}

// stop ends the hub in peace.
func (h *hub) stop() {
	h.t.Helper()
	h.terminate()
	if code := h.wait(); code != 0 {
		h.t.Fatalf("the hub ended with %d:\n%s", code, h.log.text())
	}
}

// refused starts a hub that must not start, and returns what it says.
func refused(t *testing.T, s site) string {
	t.Helper()
	h := launch(t, s)
	if code := h.wait(); code == 0 {
		t.Error("exit code 0")
	}
	return h.log.text()
}

// journal collects the log of a process.
type journal struct {
	mu      sync.Mutex // guards what follows
	written bytes.Buffer
	more    chan struct{} // closed, and replaced, at each write
}

func newJournal() *journal { return &journal{more: make(chan struct{})} }

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.more)
	j.more = make(chan struct{})
	return j.written.Write(b)
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.written.String()
}

// await returns the first line with a message.
func (j *journal) await(ctx context.Context, message string) (map[string]any, error) {
	for {
		j.mu.Lock()
		text, more := j.written.String(), j.more
		j.mu.Unlock()
		for line := range strings.Lines(text) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
				return fields, nil
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// caller is a program that signed in. Its access token is good at every replica, and after a restart.
type caller struct {
	http   *http.Client
	bearer string
}

// owner signs in as the owner that the first hub of a database made.
func owner(t *testing.T, first site, h *hub) *caller {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(first.data, "owner.json"))
	if err != nil {
		t.Fatal(err)
	}
	var o app.Owner
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	return signIn(t, h, o.ClientID, o.ClientSecret)
}

func signIn(t *testing.T, h *hub, id, secret string) *caller {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	c := &caller{http: &http.Client{Transport: transport, Timeout: patience}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/oauth/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(id, secret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := c.send(req)
	if err != nil {
		t.Fatalf("sign in: %v", err)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if a.decode(&answer); a.status != http.StatusOK || answer.AccessToken == "" {
		t.Fatalf("sign in: %v", a)
	}
	c.bearer = answer.AccessToken
	return c
}

// answer is what a hub answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("HTTP %d %s", a.status, a.body) }

func (a answer) decode(into any) error { return json.Unmarshal(a.body, into) }

// token is the token in an answer, the zero Token when there is none.
func (a answer) token() (t grantway.Token) {
	if a.status == http.StatusOK {
		a.decode(&t)
	}
	return t
}

func (c *caller) send(req *http.Request) (answer, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, body}, err
}

// try makes a request that may find no hub. header holds names and values in turn.
func (c *caller) try(ctx context.Context, h *hub, method, path string, body any, header ...string) (answer, error) {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, h.url+path, payload)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+c.bearer)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.send(req)
}

// ask makes a request that a hub must answer, one way or another.
func (c *caller) ask(h *hub, method, path string, body any, header ...string) answer {
	h.t.Helper()
	a, err := c.try(h.t.Context(), h, method, path, body, header...)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// must makes a request that must work.
func (c *caller) must(h *hub, method, path string, body any, header ...string) answer {
	h.t.Helper()
	a := c.ask(h, method, path, body, header...)
	if a.status/100 != 2 {
		h.t.Fatalf("%s %s: %v", method, path, a)
	}
	return a
}

// token asks for a token of a credential.
func (c *caller) token(h *hub, name string) answer {
	h.t.Helper()
	return c.ask(h, http.MethodPost, "/v1/credentials/"+name+"/token", nil)
}

// save stores version n of a credential with the client "app-n" and the secret "secret-n".
// Version 1 creates it.
func (c *caller) save(h *hub, name, endpoint string, n int) {
	h.t.Helper()
	if n == 1 {
		c.must(h, http.MethodPost, "/v1/credentials", credential(name, endpoint, n))
		return
	}
	c.must(h, http.MethodPut, "/v1/credentials/"+name, credential(name, endpoint, n), "If-Match", strconv.Quote(strconv.Itoa(n-1)))
}

// credential is version n of a credential: every value in it tells n.
func credential(name, endpoint string, n int) grantway.Credential {
	return grantway.Credential{
		Name: name, Description: fmt.Sprint("save ", n),
		Inputs: grantway.Inputs{
			"client_id":      grantway.Text(fmt.Sprint("app-", n)),
			"client_secret":  grantway.Text(fmt.Sprint("secret-", n)),
			"token_endpoint": grantway.Text(endpoint),
		},
	}
}

// metric reads one series of a hub's metrics; 0 when it is not there.
func (c *caller) metric(h *hub, series string) float64 {
	h.t.Helper()
	for line := range strings.Lines(string(c.must(h, http.MethodGet, "/metrics", nil).body)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				h.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

func (c *caller) waiters(h *hub, name string) int {
	h.t.Helper()
	return int(c.metric(h, fmt.Sprintf("grantway_token_waiters{credential=%q}", name)))
}

// until asks again and again until the answer is yes.
func until(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New(what))
	defer cancel()
	for !yes() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still waiting: %v", context.Cause(ctx))
		}
	}
}
