package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// newKEK returns a key-encryption key from a new file.
func newKEK(t *testing.T) seal.KEK {
	t.Helper()
	path := t.TempDir() + "/key"
	if err := seal.GenerateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := seal.ParseKey("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

// open opens a Sealer as one replica.
func open(t *testing.T, s *store.Store, kek seal.KEK) *seal.Sealer {
	t.Helper()
	sealer, err := seal.Open(t.Context(), s, kek)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sealer.Close)
	return sealer
}

func place(row string) seal.Place { return seal.Place{Table: "vault", Row: row, Column: "sealed"} }

func mustSeal(t *testing.T, s *seal.Sealer, row, plain string) []byte {
	t.Helper()
	sealed, err := s.Seal(place(row), []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func wantOpen(t *testing.T, s *seal.Sealer, row string, sealed []byte, want string) {
	t.Helper()
	if plain, err := s.Open(place(row), sealed); err != nil || string(plain) != want {
		t.Errorf("opening %s: %q, %v, want %q", row, plain, err, want)
	}
}

func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	for _, want := range want {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
}

func TestSealedValueOpensInItsPlaceOnly(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		sealer := open(t, s, newKEK(t))
		home := seal.Place{Table: "credential", Row: "ab", Column: "c"}
		sealed, err := sealer.Seal(home, []byte("canary"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(sealed, []byte("canary")) {
			t.Error("sealed value shows the plain one")
		}
		if plain, err := sealer.Open(home, sealed); err != nil || string(plain) != "canary" {
			t.Errorf("in its place: %q, %v", plain, err)
		}
		for _, place := range []seal.Place{
			{Table: "token", Row: "ab", Column: "c"},
			{Table: "credential", Row: "xy", Column: "c"},
			{Table: "credential", Row: "ab", Column: "d"},
			{Table: "credential", Row: "a", Column: "bc"},
			{Table: "credentiala", Row: "b", Column: "c"},
		} {
			plain, err := sealer.Open(place, sealed)
			wantError(t, err, "sealed for another place", place.Row)
			if plain != nil {
				t.Errorf("%v: opened", place)
			}
		}
	})
}

func TestDamagedValues(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	sealer := open(t, s, newKEK(t))
	sealed := mustSeal(t, sealer, "a", "canary")
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 1
		_, err := sealer.Open(place("a"), damaged)
		wantError(t, err, "opening vault a sealed")
		if _, err := sealer.Open(place("a"), sealed[:i]); err == nil {
			t.Errorf("opened the first %d bytes", i)
		}
	}
	for _, plain := range []string{"", strings.Repeat("x", 1<<20)} {
		wantOpen(t, sealer, "a", mustSeal(t, sealer, "a", plain), plain)
	}
}

func TestReplicasThatStartAtOnceShareOneKeyset(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		kek := newKEK(t)
		sealers := make([]*seal.Sealer, 4)
		var all sync.WaitGroup
		for i := range sealers {
			s := storetest.Open(t, url)
			all.Go(func() {
				var err error
				if sealers[i], err = seal.Open(t.Context(), s, kek); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for i, sealer := range sealers {
			if sealer == nil {
				continue
			}
			defer sealer.Close()
			wantOpen(t, sealer, "a", mustSeal(t, sealers[(i+1)%len(sealers)], "a", "x"), "x")
		}
	})
}

func TestWrongKey(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		right, wrong := newKEK(t), newKEK(t)
		if used, err := seal.InUse(t.Context(), s); used || err != nil {
			t.Errorf("a new database has a keyset: %t, %v", used, err)
		}
		sealed := mustSeal(t, open(t, s, right), "a", "x")
		if used, err := seal.InUse(t.Context(), s); !used || err != nil {
			t.Errorf("the database has no keyset: %t, %v", used, err)
		}
		before := keysetRows(t, s)
		_, err := seal.Open(t.Context(), s, wrong)
		wantError(t, err, "wrong key", wrong.Source, wrong.ID, right.ID, "nothing was changed")
		if diff := cmp.Diff(before, keysetRows(t, s)); diff != "" {
			t.Errorf("the keyset has changed:\n%s", diff)
		}
		wantOpen(t, open(t, s, right), "a", sealed, "x")

		_, err = seal.Open(t.Context(), s, seal.KEK{})
		wantError(t, err, "none was given")
	})
}

func TestDamagedKeyset(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	kek := newKEK(t)
	open(t, s, kek)
	exec(t, s, `UPDATE keyset_wrap SET sealed = $1`, []byte("not a keyset"))
	_, err := seal.Open(t.Context(), s, kek)
	wantError(t, err, "damaged")
}

// keysetRows prints the rows of the keyset.
func keysetRows(t *testing.T, s *store.Store) (lines []string) {
	t.Helper()
	rows, err := s.Read().QueryContext(t.Context(), `SELECT kek_id, version, sealed FROM keyset_wrap ORDER BY kek_id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var version int64
		var sealed []byte
		if err := rows.Scan(&id, &version, &sealed); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %d %x", id, version, sealed))
	}
	return lines
}

func exec(t *testing.T, s *store.Store, query string, args ...any) {
	t.Helper()
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestChangeOfKEK(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		oldKEK, newKEK := newKEK(t), newKEK(t)
		a := open(t, storetest.Open(t, url), oldKEK)
		wantError(t, a.RemoveWrap(t.Context(), oldKEK.ID, nil), "only one")
		wantError(t, a.AddWrap(t.Context(), seal.KEK{}, nil), "none was given")
		for range 2 {
			if err := a.AddWrap(t.Context(), newKEK, nil); err != nil {
				t.Fatal(err)
			}
		}
		b := open(t, storetest.Open(t, url), newKEK) // the first replica restarted with the new key

		wraps, err := b.Wraps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		inUse := map[string]bool{}
		for _, w := range wraps {
			inUse[w.KEK] = w.InUse
		}
		if diff := cmp.Diff(map[string]bool{oldKEK.ID: false, newKEK.ID: true}, inUse); diff != "" {
			t.Errorf("wraps: -want +got\n%s", diff)
		}
		wantOpen(t, a, "a", mustSeal(t, b, "a", "x"), "x")
		wantOpen(t, b, "a", mustSeal(t, a, "a", "x"), "x")

		_, err = a.Rotate(t.Context(), nil)
		wantError(t, err, oldKEK.ID, newKEK.ID, "remove all but one first")
		wantError(t, b.RemoveWrap(t.Context(), newKEK.ID, nil), "this process runs with")
		wantError(t, b.RemoveWrap(t.Context(), "abc", nil), "abc", oldKEK.ID)
		if err := b.RemoveWrap(t.Context(), oldKEK.ID, nil); err != nil {
			t.Fatal(err)
		}

		wantOpen(t, b, "a", mustSeal(t, a, "a", "x"), "x") // a still runs with the old key
		_, err = seal.Open(t.Context(), storetest.Open(t, url), oldKEK)
		wantError(t, err, "wrong key")
		if _, err := b.Rotate(t.Context(), nil); err != nil {
			t.Error(err)
		}
		_, err = a.Open(place("a"), mustSeal(t, b, "a", "x"))
		wantError(t, err, "restart it with the new key")
	})
}

func TestParseKey(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		if err := os.WriteFile(dir+"/"+name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir+"/"+name, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return "file:" + dir + "/" + name
	}
	const good = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5LSE="
	t.Setenv("GOOD", good)
	t.Setenv("BAD", "canarycanary")
	for _, row := range []struct{ spec, want string }{
		{write("good", good+"\n", 0o600), ""},
		{write("readonly", good, 0o400), ""},
		{"env:GOOD", ""},
		{write("group", good, 0o640), "run chmod 600 " + dir + "/group"},
		{write("world", good, 0o604), "mode 0604"},
		{write("short", good[4:], 0o600), "32 bytes in base64"},
		{write("long", good+good, 0o600), "32 bytes in base64"},
		{write("text", "canary!", 0o600), "32 bytes in base64"},
		{write("empty", "", 0o600), "32 bytes in base64"},
		{"file:" + dir + "/none", "no such file"},
		{"file:", "file:PATH or env:NAME"},
		{"env:", "file:PATH or env:NAME"},
		{"env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"},
		{"env:BAD", "env:BAD does not hold"},
		{"canary", "file:PATH or env:NAME"},
		{"", "file:PATH or env:NAME"},
	} {
		kek, err := seal.ParseKey(row.spec)
		if row.want != "" {
			wantError(t, err, row.want)
		} else if err != nil || kek.ID != "a3111de052fe6dca" { // which is in databases, so it stays
			t.Errorf("%s: %v, %v", row.spec, kek, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error shows the key: %v", row.spec, err)
		}
		if printed := fmt.Sprintf("%v %+v %#v", kek, kek, kek); strings.Contains(printed, "canary") || strings.Contains(printed, good[:8]) {
			t.Errorf("%s: prints the key: %s", row.spec, printed)
		}
	}
}

func TestGenerateKeyFile(t *testing.T) {
	path := t.TempDir() + "/key"
	if err := seal.GenerateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info.Mode(), err)
	}
	first, err := seal.ParseKey("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.GenerateKeyFile(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("over an existing file: %v", err)
	}
	if again, err := seal.ParseKey("file:" + path); err != nil || again.ID != first.ID {
		t.Errorf("the existing file has changed: %v, %v", again, err)
	}
	if other := newKEK(t); other.ID == first.ID {
		t.Error("two keys are the same")
	}
}

func BenchmarkOpen(b *testing.B) {
	b.Setenv("KEY", "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5LSE=")
	kek, err := seal.ParseKey("env:KEY")
	if err != nil {
		b.Fatal(err)
	}
	s, err := seal.Open(context.Background(), storetest.Open(b, storetest.SQLite(b)), kek)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	sealed, err := s.Seal(place("a"), make([]byte, 1000))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(place("a"), sealed); err != nil {
			b.Fatal(err)
		}
	}
}
