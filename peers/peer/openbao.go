package peer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Bao is a running OpenBao, in memory and unsealed, with a KV engine of version 2 at
// "secret". It stops with the test that started it.
type Bao struct {
	URL   string `json:"url"` // http, on loopback
	Token string `json:"-"`   // root's

	tb   testing.TB
	stop func()
}

// OpenBao starts an OpenBao.
func OpenBao(tb testing.TB) *Bao {
	tb.Helper()
	binary := filepath.Join(root(tb), ".cache", "openbao")
	need(tb, binary)
	var log bytes.Buffer
	cmd := exec.Command(binary)
	cmd.Stderr = &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("peer: %v", err)
	}
	b := &Bao{Token: "root", tb: tb, stop: sync.OnceFunc(func() { stdin.Close(); cmd.Wait() })}
	tb.Cleanup(b.stop)
	hung := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer hung.Stop()
	if err := json.NewDecoder(stdout).Decode(b); err != nil {
		b.stop()
		tb.Fatalf("peer: openbao did not start: %v\n%s", err, log.String())
	}
	return b
}

// Stop ends the server, and with it everything it knows.
func (b *Bao) Stop() { b.stop() }

// Do makes a request as root, such as Do("POST", "secret/data/k", {"data": {"f": "v"}}), and
// returns the answer's JSON. An answer that is no success fails the test.
func (b *Bao) Do(method, path string, body any) map[string]any { return b.In("", method, path, body) }

// In is Do in a namespace.
func (b *Bao) In(namespace, method, path string, body any) map[string]any {
	b.tb.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		b.tb.Fatal(err)
	}
	r, err := http.NewRequestWithContext(b.tb.Context(), method, b.URL+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		b.tb.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", b.Token)
	r.Header.Set("X-Vault-Namespace", namespace)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.tb.Fatalf("peer: openbao: %v", err)
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		b.tb.Fatalf("peer: openbao: %s %s: HTTP %d %s %v", method, path, resp.StatusCode, text, err)
	}
	answer := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			b.tb.Fatalf("peer: openbao: %s %s: %v", method, path, err)
		}
	}
	return answer
}

// Put writes a secret into the KV engine at "secret".
func (b *Bao) Put(key string, fields map[string]string) {
	b.tb.Helper()
	b.Do("POST", "secret/data/"+key, map[string]any{"data": fields})
}

// NewToken makes a token with the given policies (beside "default"), that lives for ttl.
func (b *Bao) NewToken(ttl time.Duration, renewable bool, policies ...string) string {
	b.tb.Helper()
	auth := b.Do("POST", "auth/token/create", map[string]any{"policies": policies, "ttl": ttl.String(), "renewable": renewable, "no_parent": true})["auth"]
	return auth.(map[string]any)["client_token"].(string)
}

// Policy allows reading paths.
func (b *Bao) Policy(name string, paths ...string) {
	b.tb.Helper()
	text := ""
	for _, p := range paths {
		text += fmt.Sprintf("path %q { capabilities = [\"read\"] }\n", p)
	}
	b.Do("PUT", "sys/policies/acl/"+name, map[string]string{"policy": text})
}
