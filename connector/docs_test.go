package connector_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/connector"
)

// TestDocumented compares the table in docs/credentials.md with the inputs.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/credentials.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range plain(t).Inputs {
		row := "| `" + in.Key + "` | " + string(in.Type) + " | " + in.Default + " |"
		if !strings.Contains(string(page), row) || !strings.Contains(string(page), in.Help) {
			t.Errorf("docs/credentials.md has no row %s … %s", row, in.Help)
		}
	}
}

var fields = regexp.MustCompile(`(?s)(<!-- fields: [^\n]*-->\n).*(<!-- end -->)`)

// TestDocumentedFields compares the tables of fields in docs/connectors.md and the schema with the types.
func TestDocumentedFields(t *testing.T) {
	page, err := os.ReadFile("../docs/connectors.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fields.ReplaceAll(page, []byte("${1}"+strings.ReplaceAll(connector.FieldTables(), "$", "$$")+"${2}"))
	for path, text := range map[string][]byte{"../docs/connectors.md": want, "../schema/connector.json": connector.Schema()} {
		if *update {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(text), string(got)); diff != "" {
			t.Errorf("%s is not that of the types; run with -update (-want +got):\n%s", path, diff)
		}
	}
}
