package app_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

const module = "github.com/grantway/grantway"

// floors lists the packages of the house from the ground up. A package may import those of
// the floors below it, and none of its own floor: peers meet as func fields set in app.
var floors = [][]string{
	{"grant"},
	{"tokencache"},
	{"."},
	{"connector"},
	{"internal/seal", "internal/outbound", "internal/store"}, // seal keeps its keyset in store: see exceptions
	{"internal/access", "internal/demo"},
	{"internal/secret", "internal/catalog"},
	{"internal/broker", "internal/issuer"},
	{"internal/api", "internal/console", "internal/proxy"},
	{"internal/app"},
	{"grantwaytest"},
	{"cmd/grantway"},
}

// exceptions are arrows within a floor, each for a reason.
var exceptions = map[[2]string]string{
	{"internal/seal", "internal/store"}: "the sealed keyset is a row in the database",
}

// tests are packages that hold tests and their peers only; they may import anything.
var tests = []string{"internal/store/storetest", "peers", "bench", "e2e"}

func TestFloors(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	floor := map[string]int{}
	for i, names := range floors {
		for _, name := range names {
			floor[path.Join(module, name)] = i
		}
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if isTest(p.ImportPath) {
			continue
		}
		from, known := floor[p.ImportPath]
		if !known {
			t.Errorf("%s is on no floor: add it to the list in this file", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := floor[imported]
			if isTest(imported) {
				t.Errorf("%s imports %s, which is for tests", p.ImportPath, imported)
			}
			if !ours || to < from {
				continue
			}
			if exceptions[[2]string{short(p.ImportPath), short(imported)}] == "" {
				t.Errorf("%s (floor %d) imports %s (floor %d): imports go down only", short(p.ImportPath), from, short(imported), to)
			}
		}
		if !strings.Contains(p.ImportPath, "/internal/") && !strings.HasSuffix(p.ImportPath, "/grantwaytest") && !strings.Contains(p.ImportPath, "/cmd/") {
			for _, imported := range p.Imports {
				if strings.HasPrefix(imported, module+"/internal/") {
					t.Errorf("%s is public and imports %s", short(p.ImportPath), short(imported))
				}
			}
		}
	}
}

func isTest(importPath string) bool {
	for _, name := range tests {
		if rest, ok := strings.CutPrefix(importPath, path.Join(module, name)); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

func short(importPath string) string { return strings.TrimPrefix(importPath, module+"/") }
