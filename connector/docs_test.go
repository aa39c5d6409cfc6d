package connector_test

import (
	"os"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

// TestDocumented compares the table in docs/credentials.md with the inputs.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/credentials.md")
	if err != nil {
		t.Fatal(err)
	}
	plain, ok := connector.Find(grantway.PlainConnector)
	if !ok {
		t.Fatal("there is no plain connector")
	}
	for _, in := range plain.Inputs {
		row := "| `" + in.Key + "` | " + string(in.Type) + " | " + in.Default + " |"
		if !strings.Contains(string(page), row) || !strings.Contains(string(page), in.Help) {
			t.Errorf("docs/credentials.md has no row %s … %s", row, in.Help)
		}
	}
}
