package app

import (
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestReserved(t *testing.T) {
	o := Options{Data: "/d", Key: "env:MY_KEY"}
	for name, want := range map[string]bool{
		"MY_KEY": true, "my_key": true, "GRANTWAY_DATABASE": true, "PGPASSWORD": true, "OTEL_EXPORTER_OTLP_HEADERS": true,
		"CRM_SECRET": false, "MY_KEY2": false, "": false,
	} {
		if got := o.reservedVariable(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if got := (Options{Data: "/d", Key: "file:/k", TLSKey: "/t"}).reservedFiles(); !slices.Equal(got, []string{"/d/owner.json", "/k", "/t"}) {
		t.Errorf("files: %v", got)
	}
}

func TestForwarded(t *testing.T) {
	proxies := trustedProxies{netip.MustParsePrefix("127.0.0.1/32")}
	for _, test := range []struct {
		name, peer, from string
		protos           []string
		secure, ok       bool
	}{
		{"https", "127.0.0.1:1", "192.0.2.1", []string{"https"}, true, true},
		{"http", "127.0.0.1:1", "192.0.2.1", []string{"http"}, false, true},
		{"not said", "127.0.0.1:1", "192.0.2.1", nil, false, true},
		{"http from loopback", "127.0.0.1:1", "::1", []string{"http"}, false, true},
		{"empty from loopback", "127.0.0.1:1", "::1", []string{""}, false, true},
		{"made up in front", "127.0.0.1:1", "192.0.2.1", []string{"https", "http"}, false, true},
		{"made up in one line", "127.0.0.1:1", "192.0.2.1", []string{"https, http"}, false, true},
		{"this machine itself", "127.0.0.1:1", "", nil, true, true},
		{"not trusted", "127.0.0.2:1", "192.0.2.1", []string{"https"}, false, false},
	} {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
		if test.from != "" {
			r.Header.Set("X-Forwarded-For", test.from)
		}
		for _, proto := range test.protos {
			r.Header.Add("X-Forwarded-Proto", proto)
		}
		if _, secure, ok := proxies.forwarded(r); secure != test.secure || ok != test.ok {
			t.Errorf("%s: secure %v, ok %v", test.name, secure, ok)
		}
	}
}

// The file is replaced, not written through, and nobody else may read it.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, "owner.json"), filepath.Join(dir, "elsewhere")
	if err := os.Symlink(elsewhere, path); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "two"} {
		if err := replaceFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, _ := os.Lstat(path)
		if err != nil || string(got) != content || info.Mode() != 0o600 {
			t.Errorf("%q, %v, %v", got, info.Mode(), err)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left over: %v, %v", files, err)
	}
}
