package connector_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/grantway/grantway/connector"
)

// TestCatalog runs the recorded cases of every ready-made definition, and looks for what each must have.
func TestCatalog(t *testing.T) {
	schema := compileSchema(t)
	for _, name := range connector.Names() {
		d, err := connector.Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if d.Source.Abstract {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := d.Source
			for _, w := range d.Warnings {
				t.Error(w)
			}
			if s.Documentation == "" || s.Checked == "" && !s.Unverified || s.Categories == nil || s.Vendor == "" && d.Name != "oauth2-client-credentials" {
				t.Error("documentation, checked (or unverified), categories or vendor is missing")
			}
			if d.Name != name {
				t.Errorf("the definition in %s.yaml calls itself %s", name, d.Name)
			}
			text, _ := connector.Text(name)
			validate(t, schema, text)
			if d.Name == "oauth2-client-credentials" {
				return // its cases are those of TestGoldenRequests
			}
			text, err := os.ReadFile(filepath.Join("catalog", "cases", d.Name+".cases.yaml"))
			if err != nil {
				t.Fatal("no recorded case: ", err)
			}
			cases, err := connector.ParseCases(text)
			if err != nil || len(cases) == 0 {
				t.Fatal(len(cases), "cases:", err)
			}
			good := 0
			for _, c := range cases {
				got, err := d.Run(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				for _, difference := range c.Differences(got) {
					t.Errorf("case %s: %s", c.Name, difference)
				}
				if c.Error == "" && (c.Token != nil) == d.HasToken() && (len(c.API) > 0 || s.Apply == nil || s.Apply.BaseURL == "") {
					good++
				}
			}
			if good == 0 {
				t.Error("no case has a token, if there is one, and a call, if there is an API")
			}
		})
	}
}

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	var doc any
	if err := json.Unmarshal(connector.Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("connector.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("connector.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate checks a definition against the JSON Schema that editors use.
func validate(t testing.TB, schema *jsonschema.Schema, text []byte) {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(doc); err != nil {
		t.Errorf("by the schema: %v", err)
	}
}

// BenchmarkCatalog compiles all ready-made definitions. A hub compiles each when it is first used, and all of
// them when somebody opens the gallery. cpu-µs/definition is what all processors together did, whatever else
// the machine has to do.
func BenchmarkCatalog(b *testing.B) {
	names, before := connector.Names(), processorTime(b)
	for b.Loop() {
		for _, name := range names {
			text, _ := connector.Text(name)
			if _, err := connector.Parse(text, connector.Find); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N)/float64(len(names)), "cpu-µs/definition")
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
