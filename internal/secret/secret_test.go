package secret_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/outbound"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/secret"
	"github.com/grantway/grantway/internal/store/storetest"
)

// newStores makes stores by hand.
func newStores(t *testing.T, builtIn ...secret.Store) *secret.Stores {
	t.Helper()
	db := storetest.Open(t, storetest.SQLite(t))
	path := filepath.Join(t.TempDir(), "key")
	if err := seal.GenerateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	key, err := seal.ParseKey("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.Open(t.Context(), db, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sealer.Close)
	stores, err := secret.New(t.Context(), secret.Options{Store: db, Sealer: sealer, Audit: access.NewLog(db, slog.New(slog.DiscardHandler)),
		Outbound: outbound.New(outbound.Options{}), BuiltIn: builtIn})
	if err != nil {
		t.Fatal(err)
	}
	return stores
}

// TestResolve reads from both stores. want is the value, or what the error says after its code.
func TestResolve(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	write := func(path, value string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(outside, "s3cret of somebody else")
	write(filepath.Join(dir, "plain"), "s3cret")
	write(filepath.Join(dir, "key"), "kek")
	write(filepath.Join(dir, "unix"), "s3cret\n")
	write(filepath.Join(dir, "windows"), " s3 cret \r\n")
	write(filepath.Join(dir, "team", "db"), "nested")
	write(filepath.Join(dir, "empty"), "\n")
	write(filepath.Join(dir, "large"), strings.Repeat("x", 256<<10+1))
	write(filepath.Join(dir, "json"), `{"secret":"s3cret","n":1.50,"o":{"a":[1]},"e":"","null":null}`)
	for name, target := range map[string]string{"link-in": "plain", "key-link": "key", "link-out": outside, "link-up": "../" + filepath.Base(filepath.Dir(outside)) + "/outside"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TEST_SECRET", "s3cret\n")
	t.Setenv("TEST_SECRET_EMPTY", "")
	t.Setenv("TEST_SECRET_JSON", `{"password":"p"}`)
	t.Setenv("GRANTWAY_KEY", "kek")
	stores := newStores(t,
		secret.Files{Dir: dir, Reserved: []string{"/nowhere", filepath.Join(dir, "key")}},
		secret.Env{Reserved: func(name string) bool { return strings.EqualFold(name, "GRANTWAY_KEY") }})

	for _, c := range []struct {
		store, key, field string
		want              string
	}{
		{"file", "plain", "", "s3cret"},
		{"file", "unix", "", "s3cret"},
		{"file", "windows", "", " s3 cret "},
		{"file", "team/db", "", "nested"},
		{"file", "link-in", "", "s3cret"},
		{"file", "json", "secret", "s3cret"},
		{"file", "json", "n", "1.50"},
		{"file", "json", "o", `{"a":[1]}`},
		{"file", "json", "p", "not_found: secret store file: key json has no field p"},
		{"file", "json", "e", "unavailable: secret store file: field e of key json is empty"},
		{"file", "json", "null", "unavailable: secret store file: field null of key json is empty"},
		{"file", "key", "", "not_found: secret store file: key key belongs to the hub itself and is not readable as a secret"},
		{"file", "key-link", "", "not_found: secret store file: key key-link belongs to the hub itself and is not readable as a secret"},
		{"file", "plain", "secret", "unavailable: secret store file: key plain is not a JSON object, so it has no field secret"},
		{"file", "nothing", "", "not_found: secret store file has no key nothing"},
		{"file", "empty", "", "unavailable: secret store file: key empty is empty"},
		{"file", "large", "", "unavailable: secret store file: key large is larger than 256 KiB"},
		{"file", "team", "", "unavailable: secret store file: key team cannot be read"},
		{"file", "link-out", "", "unavailable: secret store file: key link-out cannot be opened below " + dir},
		{"file", "link-up", "", "unavailable: secret store file: key link-up cannot be opened below " + dir},
		{"file", outside, "", "unavailable: secret store file: key " + outside + " cannot be opened below " + dir},
		{"file", "../outside", "", "unavailable: secret store file: key ../outside cannot be opened below " + dir},

		{"env", "TEST_SECRET", "", "s3cret"},
		{"env", "TEST_SECRET_JSON", "password", "p"},
		{"env", "TEST_SECRET_EMPTY", "", "unavailable: secret store env: key TEST_SECRET_EMPTY is empty"},
		{"env", "TEST_SECRET_NOTHING", "", "not_found: secret store env has no key TEST_SECRET_NOTHING"},
		{"env", "GRANTWAY_KEY", "", "not_found: secret store env: GRANTWAY_KEY belongs to the hub itself and is not readable as a secret"},
		{"env", "grantway_key", "", "not_found: secret store env: grantway_key belongs to the hub itself and is not readable as a secret"},

		{"vault", "s3cret", "", "not_found: there is no such secret store; the stores are env, file"},
	} {
		value, err := stores.Resolve(t.Context(), grantway.SecretRef{Store: c.store, Key: c.key, Field: c.field})
		got := string(value)
		var e *grantway.Error
		if errors.As(err, &e) {
			got += fmt.Sprintf("%s: %v", e.Code, e)
		} else if err != nil {
			t.Errorf("%s/%s: %T %v", c.store, c.key, err, err)
		}
		if got != c.want {
			t.Errorf("%s/%s: %q, want %q", c.store, c.key, got, c.want)
		}
	}
}

// TestStores describes the stores and proves that they can be read at all.
func TestStores(t *testing.T) {
	stores := newStores(t, secret.Files{Dir: "/nowhere"}, secret.Env{})
	want := []grantway.SecretStore{
		{Name: "env", Kind: "env", Detail: "environment variables of the hub's process"},
		{Name: "file", Kind: "file", Detail: "files below /nowhere", Error: "secret store file: directory /nowhere cannot be opened"},
	}
	list, err := stores.List(t.Context(), access.Hub())
	if diff := cmp.Diff(want, list); diff != "" || err != nil {
		t.Errorf("stores (-want +got):\n%s, %v", diff, err)
	}
	try := func(stores *secret.Stores, name string) grantway.Report {
		t.Helper()
		report, err := stores.Test(t.Context(), access.Hub(), name, grantway.SecretRef{})
		if err != nil {
			t.Error(err)
		}
		return report
	}
	if r := try(stores, "env"); !r.OK {
		t.Errorf("env: %+v", r)
	}
	if r := try(stores, "file"); r.OK || !strings.Contains(r.Steps[0].Message, "/nowhere") {
		t.Errorf("a directory that is not there: %+v", r)
	}
	// A directory that is not there holds no keys; it may be mounted later.
	var e *grantway.Error
	if _, err := stores.Resolve(t.Context(), grantway.SecretRef{Store: "file", Key: "k"}); !errors.As(err, &e) || e.Code != grantway.NotFound {
		t.Errorf("a key of it: %v", err)
	}
	if r := try(newStores(t, secret.Files{Dir: t.TempDir()}), "file"); !r.OK {
		t.Errorf("an empty directory: %+v", r)
	}
}

// TestMountedFile reads a secret as Kubernetes mounts it, and again after Kubernetes replaced it,
// which is one rename of a link to a directory.
func TestMountedFile(t *testing.T) {
	dir := t.TempDir()
	stores := newStores(t, secret.Files{Dir: dir})
	mount := func(name, value string) {
		t.Helper()
		err := errors.Join(
			os.Mkdir(filepath.Join(dir, name), 0o700),
			os.WriteFile(filepath.Join(dir, name, "client-secret"), []byte(value), 0o600),
			os.Symlink(name, filepath.Join(dir, "..data_tmp")),
			os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		if err != nil {
			t.Fatal(err)
		}
	}
	mount("..2026_11_27", "old")
	if err := os.Symlink("..data/client-secret", filepath.Join(dir, "client-secret")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"old", "new"} {
		if value, err := stores.Resolve(t.Context(), grantway.SecretRef{Store: "file", Key: "client-secret"}); string(value) != want || err != nil {
			t.Errorf("%q, %v, want %q", string(value), err, want)
		}
		if want == "old" {
			mount("..2026_11_28", "new")
		}
	}
}
