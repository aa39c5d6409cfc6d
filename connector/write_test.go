package connector_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/connector"
)

// rare has what is easily lost on the way: repeated names, numbers, texts that look like
// something else, several lines, an empty section.
const rare = `# First of all.
name: rare
title: "yes"
description: |
  Two
  lines
extends: oauth2

inputs:
  # The one they ask for.
  - {key: one, default: "0123", required: true}
  - key: two
    type: enum
    enum: ["true", "1.0", "~"]
    default: "~"   # as they write it
steps:
  - name: a
    request:
      url: https://example.com/a
      query: {a: ["1", "2"], b: '{{one}}'}
      headers:
        - {name: X, value: '1'}
        - {name: Y, value: '{{two}}', keep_empty: true}
        - {name: X, value: ": #"}
      body:
        json: {z: 1, a: [true, null, 1.5, "1", {}], 'n': {y: '{{one}}', x: "\t\n\""}}
      extract: {s: data.0.s, h: {header: X, match: 'a(b)'}}
  - name: b
    request: {url: 'https://example.com/b', accept: [200, 409], body: {raw: "  x\n\n y "}}
token: data.token
verify: GET /me
apply: {}
hints: {rate_limit: {requests: 10, per: 1h30m}}
`

func source(t *testing.T, text []byte) *connector.Source {
	t.Helper()
	s, err := connector.ParseSource(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWrittenAgain writes every definition there is as YAML and as JSON, and reads it again.
func TestWrittenAgain(t *testing.T) {
	texts := map[string][]byte{"rare": []byte(rare)}
	files, err := filepath.Glob("catalog/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && !strings.HasSuffix(file, ".cases.yaml") {
			texts[file] = text
		}
	}
	for name, text := range texts {
		s := source(t, text)
		written := s.YAML()
		if written[0] == '{' {
			t.Errorf("%s: is written as JSON", name)
		}
		want := asJSON(t, s)
		if diff := cmp.Diff(want, asJSON(t, source(t, written))); diff != "" {
			t.Errorf("%s: YAML (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(want, asJSON(t, source(t, []byte(want)))); diff != "" {
			t.Errorf("%s: JSON (-want +got):\n%s", name, diff)
		}
		if edited := connector.Edit(text, s); string(edited) != string(text) {
			t.Errorf("%s: an edit without a change makes\n%s", name, cmp.Diff(string(text), string(edited)))
		}
	}
}

// TestEdit changes, adds and removes sections; what stands around them stays.
func TestEdit(t *testing.T) {
	s := *source(t, []byte(rare))
	s.Title, s.Description, s.Vendor = "No", "", "Acme"
	got := connector.Edit([]byte(rare), &s)
	want := strings.NewReplacer("title: \"yes\"\n", "title: \"No\"\n", "description: |\n  Two\n  lines\n", "").Replace(rare) + "vendor: Acme\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	renamed, err := connector.Rename([]byte(rare), "other")
	if err != nil || string(renamed) != strings.Replace(rare, "name: rare", "name: other", 1) {
		t.Errorf("renamed, %v:\n%s", err, renamed)
	}
	for name, text := range map[string]string{"flow": `{name: x, title: X}`, "on one line": "{name: x,\ntitle: X}\n", "no end of line": "name: x\ntitle: X", "marked": "---\nname: x\ntitle: X\n"} {
		s := *source(t, []byte(text))
		s.Vendor = "Acme"
		if diff := cmp.Diff(asJSON(t, s), asJSON(t, source(t, connector.Edit([]byte(text), &s)))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
