package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway"
)

func TestParseObjects(t *testing.T) {
	objects, err := parseObjects("f.yaml", []byte(`# our credentials
kind: credential
name: sales
description: >
  mail of the
  sales team
inputs:
  client_id: 0123
  dpop: True
  default_lifetime_seconds: 1_000
  token_endpoint: 'https://x.example/token'
  client_secret: {store: env, key: SALES, field: secret}
  next_client_secret:
  client_certificate: |
    -----BEGIN CERTIFICATE-----
    abc
    -----END CERTIFICATE-----
  extra_parameters:
    - in: body
      name: tenant
      value: 007
---
---
{"kind": "division", "name": "emea", "description": "Europe\n"}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	for _, o := range objects {
		if o.kind == kindDivision {
			got = append(got, o.division)
		} else {
			got = append(got, o.credential)
		}
	}
	want := []any{
		grantway.Credential{
			Name: "sales", Description: "mail of the sales team\n",
			Inputs: grantway.Inputs{
				"client_id":                grantway.Text("0123"),
				"dpop":                     grantway.Text("True"),
				"default_lifetime_seconds": grantway.Text("1_000"),
				"token_endpoint":           grantway.Text("https://x.example/token"),
				"client_secret":            {Ref: &grantway.SecretRef{Store: "env", Key: "SALES", Field: "secret"}},
				"next_client_secret":       {},
				"client_certificate":       grantway.Text("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"),
				"extra_parameters":         {Params: []grantway.Param{{In: "body", Name: "tenant", Value: "007"}}},
			},
		},
		grantway.Division{Name: "emea", Description: "Europe\n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects differ (-want +got):\n%s", diff)
	}
	o := objects[0]
	for pointer, line := range map[string]string{"": "f.yaml:2", "/name": "f.yaml:3", "/inputs/dpop": "f.yaml:9", "/inputs/extra_parameters/0/value": "f.yaml:21", "/inputs/absent": "f.yaml:7", "/division": "f.yaml:2"} {
		if got := o.at(pointer); got != line {
			t.Errorf("%s is at %s, want %s", pointer, got, line)
		}
	}
}

// TestParseObjectsRefuses has one wrong file a row. No row's error may repeat a value.
func TestParseObjectsRefuses(t *testing.T) {
	const value = "s3cret"
	for _, row := range []struct{ name, text, want string }{
		{"not YAML", "kind: credential\nname: [s3cret\n", "f:2:"},
		{"broken quotes", "kind: credential\nname: a\ninputs:\n  client_secret: \"s3cret\n", "f:4:"},
		{"not a mapping", "- s3cret\n", "f:1: must be a mapping"},
		{"a text", "s3cret", "f:1: must be a mapping"},
		{"no kind", "name: s3cret\n", "f:1: kind must be"},
		{"unknown kind", "kind: s3cret\nname: a\n", "f:1: kind must be credential, connector, division, secret_store or client"},
		{"kind is a list", "kind: [credential]\nname: a\n", "f:1: kind must be a text"},
		{"no name", "kind: division\n", "f:1: name is required"},
		{"unknown member", "kind: division\nname: a\nid: s3cret\n", "f:3: id is not a member of a division"},
		{"inputs of a division", "kind: division\nname: a\ninputs: {x: s3cret}\n", "f:3: inputs"},
		{"repeated key", "kind: credential\nname: a\ninputs:\n  scopes: s3cret\n  scopes: b\n", "f:5: scopes stands here twice"},
		{"two of a name", "kind: credential\nname: a\n---\nkind: credential\nname: A\n", "f:4: name is also the name of the credential at f:1"},
		{"inputs are a list", "kind: credential\nname: a\ninputs: [s3cret]\n", "f:3: inputs must be a mapping"},
		{"reference with an unknown member", "kind: credential\nname: a\ninputs:\n  client_secret: {store: env, value: s3cret}\n", "f:4: client_secret must be"},
		{"parameters of a wrong form", "kind: credential\nname: a\ninputs:\n  extra_parameters: [s3cret]\n", "f:4: extra_parameters must be"},
		{"anchor", "kind: credential\nname: &x s3cret\n", "f:2: name uses a part"},
		{"alias", "kind: credential\nname: a\ndescription: *x\n", "f:3: description uses a part"},
		{"merge", "kind: credential\n<<: {name: s3cret}\n", "f:2: has a key"},
		{"tag", "kind: credential\nname: !!binary s3cret\n", "f:2: name uses a part"},
		{"directive", "%YAML 1.2\n---\nkind: division\nname: a\n", "f:1:"},
		{"half a reference", "kind: credential\nname: a\ninputs:\n  client_secret: {store: s3cret}\n", "f:4: client_secret needs both"},
		{"not UTF-8", "kind: division\nname: a\n---\nkind: credential\nname: b\ninputs: {client_secret: s3cret\xff}\n", "f:3: is not UTF-8"},
		{"tab without quotes", "kind: credential\nname: a\ninputs:\n  client_secret: s3cret\ts3cret\n", "f:4: client_secret holds a tab"},
		{"second document", "kind: division\nname: a\n...\n---\n---\nkind: division\nnam: a\n", "f:7: nam is not"},
		{"null key", "kind: division\nname: a\nnull: s3cret\n", "f:3: has a key"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := parseObjects("f", []byte(row.text))
			var e *grantway.Error
			if !errors.As(err, &e) || e.Code != grantway.Invalid || e.Fields == nil {
				t.Fatalf("error %v, want one with code invalid and fields", err)
			}
			if !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %q, want one with %q", err, row.want)
			}
			if strings.Contains(err.Error(), value) {
				t.Errorf("error %q repeats a value", err)
			}
		})
	}
}

// FuzzApply feeds files to the parser, and what it takes back through the writer.
func FuzzApply(f *testing.F) {
	for _, text := range []string{
		"kind: credential\nname: a\ninputs:\n  client_id: 0123\n  client_secret: {store: env, key: K}\n",
		"kind: division\nname: a\ndescription: |\n  two\n  lines\n---\nkind: division\nname: b\n",
		"kind: credential\nname: \"a\\tb\"\ndescription: 'null'\ninputs: {extra_parameters: [{in: body, name: n, value: ' v '}]}\n",
		"kind: credential\nname: x\ninputs:\n  a: \"\\u2028\\x7f\"\n  b: \"\\n\"\n  c: \" |\"\n  d: 'a: b #c'\n  e: \"x\\n\\ny\\n\"\n  f: ~\n",
		"&a {kind: *a}", "? [a]\n: b", "kind: !!str division", "%YAML 1.2\n---\n", "{a: [", "-\n-\n", "\xff", "a: |9\n b",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		objects, err := parseObjects("f", text)
		if err != nil {
			var e *grantway.Error
			if !errors.As(err, &e) || e.Fields == nil {
				t.Fatalf("error %v has no places", err)
			}
			return
		}
		var written []byte
		for i, o := range objects {
			if i > 0 {
				written = append(written, "---\n"...)
			}
			if o.kind == kindDivision {
				written = appendDivision(written, o.division)
			} else {
				written = appendCredential(written, o.credential)
			}
		}
		again, err := parseObjects("written", written)
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if len(again) != len(objects) {
			t.Fatalf("%d objects became %d\n%s", len(objects), len(again), written)
		}
		for i := range objects {
			want, got := objects[i], again[i]
			if diff := cmp.Diff(want.credential, got.credential) + cmp.Diff(want.division, got.division); want.kind != got.kind || diff != "" {
				t.Fatalf("object %d changed (-read +written):\n%s\n%s", i, diff, written)
			}
		}
	})
}
