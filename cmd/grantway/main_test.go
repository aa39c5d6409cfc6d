package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/store/storetest"
	"github.com/grantway/grantway/peers/peer"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"grantway": main,
		"replace":  replace,
		"xdg-open": browse,
		"open":     browse,
	})
}

// replace OLD NEW FILE is the editor of the scripts.
func replace() {
	file := os.Args[len(os.Args)-1]
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, bytes.ReplaceAll(text, []byte(os.Args[1]), []byte(os.Args[2])), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// browse ADDRESS is the browser of the scripts, and the person before it: PERSON, who chooses the PASSWORD
// at an invitation, signs in with it, and gives ANSWER, allow or deny, to what a program asks.
// When that does not work, the program gets to know as an error.
func browse() {
	request, err := url.Parse(os.Args[1])
	if err == nil {
		err = visit(request)
	}
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	if back, _ := url.Parse(request.Query().Get("redirect_uri")); back.Host != "" {
		back.RawQuery = url.Values{"state": {request.Query().Get("state")}, "iss": {request.Scheme + "://" + request.Host}, "error": {err.Error()}}.Encode()
		http.Get(back.String())
	}
	os.Exit(1)
}

func visit(page *url.URL) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := &http.Client{Jar: jar, Timeout: 20 * time.Second}
	send := func(path string, form url.Values) error {
		to := url.URL{Scheme: page.Scheme, Host: page.Host, Path: path}
		resp, err := browser.PostForm(to.String(), form)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", path, resp.Status)
		}
		return nil
	}
	password := os.Getenv("PASSWORD")
	if strings.HasPrefix(page.Path, "/invitation/") {
		return send(page.Path, url.Values{"name": {"Ann"}, "password": {password}, "repeat": {password}})
	}
	if err := send("/sign-in", url.Values{"email": {os.Getenv("PERSON")}, "password": {password}, "to": {page.RequestURI()}}); err != nil {
		return err
	}
	return send(page.Path, url.Values{"query": {page.RawQuery}, "answer": {os.Getenv("ANSWER")}})
}

// TestScripts runs testdata/*.txtar. A script has these commands of its own:
//
//	hub start [NAME=VALUE…] [FLAG…]   starts "grantway serve" and waits until it listens; sets HUB
//	hub signal                        sends it SIGTERM and waits until it says that it stops
//	hub stop                          ends it with SIGTERM; it must exit with 0
//	hub wait                          waits until it has ended; it must exit with 0
//	hub kill                          sends it SIGTERM, which must kill it
//	code N PROGRAM ARG…               runs a program that must exit with N
//	register ID FILE METHOD           makes the file's first line the secret of a client of the provider
//	provider down|up|revoke|hold|release  changes the provider at PROVIDER, TOKEN_ENDPOINT and API
//	provider token|api STATUS [URL]   scripts its next answer
//	provider await N                  waits until it has got N token requests
//	as [FILE]                         signs in with the environment in FILE, or as the owner
//	capture NAME REGEXP               sets NAME to what the group of REGEXP matches in the last output
//	requests                          prints the token requests since the last time
//	openbao [put KEY FIELD=VALUE]     starts an OpenBao and sets BAO_URL and BAO_TOKEN, or writes a secret
//	postgres                          sets POSTGRES to the URL of an empty database
//
// When a script ends, neither the hub's log nor its files may hold a secret or a token.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			s := &scene{env: env, provider: grantwaytest.NewProvider(env.T().(testing.TB))}
			env.Values[sceneKey{}] = s
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else every command of a -race run ends with a second of sleep
			env.Setenv("PROVIDER", s.provider.URL)
			env.Setenv("TOKEN_ENDPOINT", s.provider.Token.URL)
			env.Setenv("API", strings.TrimSuffix(s.provider.API.URL, "/"))
			env.Defer(s.end)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"hub": command(func(s *scene, ts *testscript.TestScript, args []string) error {
				switch args[0] {
				case "signal":
					return s.signal()
				case "stop":
					return errors.Join(s.hub.Process.Signal(syscall.SIGTERM), s.wait())
				case "wait":
					return s.wait()
				case "kill":
					return s.kill()
				}
				return s.start(ts, args[1:])
			}),
			"code":     command((*scene).code),
			"register": command((*scene).register),
			"provider": command((*scene).script),
			"requests": command((*scene).requests),
			"as":       command((*scene).as),
			"capture":  command((*scene).capture),
			"openbao": command(func(s *scene, ts *testscript.TestScript, args []string) error {
				if len(args) == 2 && args[0] == "transit" { // a key of the Transit engine
					s.bao.Do("POST", "sys/mounts/transit", map[string]string{"type": "transit"})
					s.bao.Do("POST", "transit/keys/"+args[1], nil)
					return nil
				}
				if len(args) == 3 {
					field, value, _ := strings.Cut(args[2], "=")
					s.bao.Put(args[1], map[string]string{field: value})
					return nil
				}
				s.bao = peer.OpenBao(s.env.T().(testing.TB))
				ts.Setenv("BAO_URL", s.bao.URL)
				ts.Setenv("BAO_TOKEN", s.bao.Token)
				return nil
			}),
			"postgres": command(func(s *scene, ts *testscript.TestScript, _ []string) error {
				ts.Setenv("POSTGRES", storetest.EmptyPostgres(s.env.T().(testing.TB)))
				return nil
			}),
		},
	})
}

func command(do func(*scene, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("! does not go with this command")
		}
		ts.Check(do(ts.Value(sceneKey{}).(*scene), ts, args))
	}
}

type sceneKey struct{}

// scene is what one script has around it.
type scene struct {
	env      *testscript.Env
	provider *grantwaytest.Provider
	bao      *peer.Bao
	shown    int    // token requests that were printed already
	release  func() // ends "provider hold"
	secrets  []string

	hub   *exec.Cmd    // nil when it does not run
	lines chan logLine // of its log, closed at its end
	log   string       // of all hubs
}

// start runs a hub in the background until it says that it listens.
func (s *scene) start(ts *testscript.TestScript, args []string) error {
	env := append(slices.Clone(s.env.Vars), "GRANTWAY_LOG_FORMAT=json")
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		env = append(env, args[0])
		args = args[1:]
	}
	hub := exec.Command("grantway", append([]string{"serve", "--listen", "127.0.0.1:0", "--allow-networks", "127.0.0.0/8", "--secret-files", ts.MkAbs("secrets")}, args...)...)
	hub.Env, hub.Dir = env, ts.MkAbs(".")
	out, err := hub.StderrPipe()
	if err != nil {
		return err
	}
	if err := hub.Start(); err != nil {
		return err
	}
	s.hub, s.lines = hub, make(chan logLine, 10_000) // the hub must never wait for the script
	go s.read(out)
	line, err := s.await("grantway is listening")
	if err != nil {
		return errors.Join(err, s.wait())
	}
	ts.Setenv("HUB", line.URL)
	return nil
}

// logLine is one line of the hub's log, and what scripts need of it.
type logLine struct {
	text     string
	Msg, URL string
}

// read sends on the lines of a hub's log until the hub ends.
func (s *scene) read(log io.Reader) {
	defer close(s.lines)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		line := logLine{text: lines.Text() + "\n"}
		json.Unmarshal(lines.Bytes(), &line) // what is not JSON, such as a panic, has no message
		s.lines <- line
	}
}

// await receives the hub's log up to a line with that message.
func (s *scene) await(message string) (logLine, error) {
	for line := range s.lines {
		s.log += line.text
		if line.Msg == message {
			return line, nil
		}
	}
	return logLine{}, fmt.Errorf("the hub ended before it said %q", message)
}

func (s *scene) signal() error {
	if err := s.hub.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, err := s.await("stopping; interrupt again to end at once")
	return err
}

func (s *scene) wait() error {
	for line := range s.lines { // to its end
		s.log += line.text
	}
	hub := s.hub
	s.hub = nil
	if err := hub.Wait(); err != nil {
		return fmt.Errorf("the hub: %w", err)
	}
	return nil
}

func (s *scene) kill() error {
	if err := s.hub.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := s.wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM {
		return nil
	}
	return fmt.Errorf("the second signal did not end the hub: %v", err)
}

// end stops the hub and looks for secrets where none may be.
func (s *scene) end() {
	t := s.env.T().(testing.TB)
	if s.hub != nil {
		if err := errors.Join(s.hub.Process.Signal(syscall.SIGTERM), s.wait()); err != nil {
			t.Error(err)
		}
	}
	secrets := append(s.provider.Tokens(), s.secrets...)
	look := func(where string, text []byte) {
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s holds the secret %q", where, secret)
			}
		}
	}
	look("the hub's log", []byte(s.log))
	err := filepath.WalkDir(s.env.WorkDir, func(path string, file fs.DirEntry, err error) error {
		if err != nil || !strings.HasPrefix(file.Name(), "grantway.db") {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("log of the hub:\n%s", s.log)
	}
}

func (s *scene) code(ts *testscript.TestScript, args []string) error {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case err == nil && want == 0, errors.As(err, &exit) && exit.ExitCode() == want:
		return nil
	case err == nil:
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%w, want %d", err, want)
}

func (s *scene) register(ts *testscript.TestScript, args []string) error {
	secret, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	s.secrets = append(s.secrets, secret)
	s.provider.Register(grantwaytest.Client{ID: args[0], Secret: secret, Method: grantwaytest.Method(args[2]), JWT: true})
	return nil
}

func (s *scene) script(_ *testscript.TestScript, args []string) error {
	switch args[0] {
	case "down":
		s.provider.Down()
		return nil
	case "up":
		return s.provider.Up()
	case "hold":
		s.release = s.provider.Token.Hold()
		return nil
	case "release":
		s.release()
		return nil
	case "await":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return s.provider.Token.Await(s.env.T().(testing.TB).Context(), n)
	case "revoke":
		s.provider.Revoke()
		return nil
	}
	status, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	reply := grantwaytest.Status(status)
	if len(args) > 2 {
		reply = grantwaytest.Redirect(status, args[2])
	}
	map[string]*grantwaytest.Endpoint{"token": s.provider.Token, "api": s.provider.API}[args[0]].Next(reply)
	return nil
}

func (s *scene) as(ts *testscript.TestScript, args []string) error {
	var text string
	if len(args) > 0 {
		text = ts.ReadFile(args[0])
	}
	for _, name := range []string{"GRANTWAY_URL", "GRANTWAY_CLIENT_ID", "GRANTWAY_CLIENT_SECRET"} {
		_, value, _ := strings.Cut(text, name+"=")
		value, _, _ = strings.Cut(value, "\n")
		ts.Setenv(name, value)
		if name == "GRANTWAY_CLIENT_SECRET" && value != "" {
			s.secrets = append(s.secrets, value)
		}
	}
	return nil
}

func (s *scene) capture(ts *testscript.TestScript, args []string) error {
	found := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		return fmt.Errorf("no match for %s", args[1])
	}
	ts.Setenv(args[0], found[1])
	return nil
}

func (s *scene) requests(ts *testscript.TestScript, _ []string) error {
	all := s.provider.Token.Requests()
	for _, r := range all[s.shown:] {
		fmt.Fprintf(ts.Stdout(), "%s %s\nAuthorization: %s\n%s\n", r.Method, r.Path, r.Header.Get("Authorization"), r.Body)
	}
	s.shown = len(all)
	return nil
}
