package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestTour runs the commands of the README's tour as they stand there, in an empty directory,
// against the hub that "make run" starts. Only the two addresses are others: this test does
// not want to meet a hub that is running on this machine.
func TestTour(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var tour strings.Builder
	blocks := regexp.MustCompile("(?s)<!-- tour -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 4 {
		t.Fatalf("the README has %d blocks of the tour, want at least 4", len(blocks))
	}
	for _, block := range blocks {
		tour.WriteString(block[1])
	}

	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin", "grantway")); err != nil {
		t.Fatal(err)
	}
	hub := exec.Command(filepath.Join(dir, "bin", "grantway"), "serve", "--demo", "--listen", "127.0.0.1:0")
	hub.Dir, hub.Env = dir, environment()
	log, err := hub.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Start(); err != nil {
		t.Fatal(err)
	}
	address := map[string]string{}
	found := regexp.MustCompile(`msg="(grantway|demo provider) is listening" (?:url|token_endpoint)=http://([^ /]+)`)
	for lines := bufio.NewScanner(log); len(address) < 2; {
		if !lines.Scan() {
			t.Fatalf("the hub did not start: %v", hub.Wait())
		}
		if m := found.FindStringSubmatch(lines.Text()); m != nil {
			address[m[1]] = m[2]
		}
	}

	script := strings.NewReplacer("127.0.0.1:8420", address["grantway"], "127.0.0.1:8421", address["demo provider"]).Replace(tour.String())
	shell := exec.Command("sh", "-eu", "-c", script)
	shell.Dir, shell.Env = dir, environment()
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Errorf("the tour: %v", err)
	}
	for _, want := range []string{
		"✓ response", "Authorization: Bearer ", `"expires_in"`, "And nobody saw the secret", "credential sales-email created",
		"(stored in the hub)", "healthy", `"access_token":"`, "credential.create", "Database",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the tour does not print %q", want)
		}
	}
	if strings.Contains(string(out), "tour-secret") {
		t.Error("the tour prints the secret")
	}
	if err := hub.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := hub.Wait(); err != nil {
		t.Errorf("the hub: %v", err)
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
}

// environment is this process's, without what would lead to another hub.
func environment() []string {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "GRANTWAY_") {
			env = append(env, variable)
		}
	}
	return env
}
