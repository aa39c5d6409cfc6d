package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/internal/api"
)

var update = flag.Bool("update", false, "write testdata/openapi.json")

// TestOpenAPI checks the description against its golden file, against the rules of OpenAPI
// 3.1 that matter to those who read it, and against the routes.
func TestOpenAPI(t *testing.T) {
	h := start(t, "")
	answer := h.nobody().do(t, "GET", "/openapi.json", nil).want(t, http.StatusOK)
	var text bytes.Buffer
	if err := json.Indent(&text, answer.body, "", "  "); err != nil {
		t.Fatal(err)
	}
	text.WriteByte('\n')
	golden := filepath.Join("testdata", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, text.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("%s is old; go test ./internal/api -update writes it anew (-want +got):\n%s", golden, diff)
	}

	doc := decode(t, answer.body)
	if !regexp.MustCompile(`^3\.1\.\d+$`).MatchString(fmt.Sprint(doc["openapi"])) {
		t.Errorf("openapi: %v", doc["openapi"])
	}
	info := doc["info"].(object)
	if info["title"] != "Grantway" || info["version"] != "test" {
		t.Errorf("info: %v", info)
	}
	checkReferences(t, doc, doc)
	for name, schema := range doc["components"].(object)["schemas"].(object) {
		checkSchema(t, name, schema.(object))
	}

	tags := map[string]bool{}
	for _, tag := range doc["tags"].([]any) {
		tags[tag.(object)["name"].(string)] = true
	}
	paths, ids, operations := doc["paths"].(object), map[string]bool{}, 0
	for _, item := range paths {
		operations += len(item.(object))
	}
	for _, route := range api.Routes() {
		at := route.Method + " " + route.Path
		item, _ := paths[route.Path].(object)
		op, _ := item[strings.ToLower(route.Method)].(object)
		if op == nil {
			t.Errorf("%s is not described", at)
			continue
		}
		id := fmt.Sprint(op["operationId"])
		if id != route.Name || ids[id] || op["summary"] != route.Summary || op["description"] == "" {
			t.Errorf("%s: operationId %s, summary %v", at, id, op["summary"])
		}
		ids[id] = true
		for _, tag := range op["tags"].([]any) {
			if !tags[tag.(string)] {
				t.Errorf("%s: unknown tag %v", at, tag)
			}
		}
		if _, secured := op["security"]; secured == route.Open {
			t.Errorf("%s: security %v", at, op["security"])
		}
		responses := op["responses"].(object)
		if responses[strconv.Itoa(route.Status)] == nil || responses["default"] == nil {
			t.Errorf("%s: responses %v", at, slices.Collect(maps.Keys(responses)))
		}
		for status, response := range responses {
			if response.(object)["description"] == "" {
				t.Errorf("%s: response %s without description", at, status)
			}
		}
		checkParameters(t, at, route, op)
	}
	if want := len(api.Routes()) + 1; operations != want { // and the issuer's /oauth/token
		t.Errorf("%d operations are described, there are %d", operations, want)
	}
}

// checkReferences checks that every $ref in v leads somewhere.
func checkReferences(t *testing.T, doc object, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			checkReferences(t, doc, item)
		}
	case object:
		if ref, ok := v["$ref"]; ok && resolve(doc, fmt.Sprint(ref)) == nil {
			t.Errorf("%v leads nowhere", ref)
		}
		for _, item := range v {
			checkReferences(t, doc, item)
		}
	}
}

func resolve(doc object, ref string) object {
	path, ok := strings.CutPrefix(ref, "#/")
	for name := range strings.SplitSeq(path, "/") {
		doc, _ = doc[name].(object)
	}
	if !ok {
		return nil
	}
	return doc
}

func checkSchema(t *testing.T, name string, schema object) {
	t.Helper()
	if schema["type"] != "object" || schema["additionalProperties"] != false {
		t.Errorf("schema %s is not of a closed object", name)
	}
	properties, _ := schema["properties"].(object)
	required, _ := schema["required"].([]any)
	for _, member := range required {
		if properties[member.(string)] == nil {
			t.Errorf("schema %s requires %v, which it does not have", name, member)
		}
	}
	types := []any{"string", "integer", "boolean", "object", "array"}
	for member, property := range properties {
		kind, ref, oneOf := property.(object)["type"], property.(object)["$ref"], property.(object)["oneOf"]
		if ref == nil && oneOf == nil && !slices.Contains(types, kind) {
			t.Errorf("schema %s: %s has the type %v", name, member, kind)
		}
	}
}

// checkParameters checks that each part of a path in braces, and nothing else, is a path parameter.
func checkParameters(t *testing.T, at string, route api.Route, op object) {
	t.Helper()
	var want, got []string
	for _, match := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(route.Path, -1) {
		want = append(want, "path "+match[1])
	}
	for name := range strings.FieldsSeq(route.Query) {
		want = append(want, "query "+name)
	}
	parameters, _ := op["parameters"].([]any)
	for _, p := range parameters {
		p := p.(object)
		if p["in"] != "header" {
			got = append(got, fmt.Sprint(p["in"], " ", p["name"]))
		}
		if required, _ := p["required"].(bool); required != (p["in"] == "path") || p["schema"] == nil {
			t.Errorf("%s: parameter %v", at, p)
		}
	}
	if !slices.Equal(want, got) {
		t.Errorf("%s: parameters %q, want %q", at, got, want)
	}
}

// TestAnswersAreAsDescribed asks for every operation and compares the answer with the
// schema that the description gives for it.
func TestAnswersAreAsDescribed(t *testing.T) {
	h := start(t, "")
	doc := decode(t, h.nobody().do(t, "GET", "/openapi.json", nil).want(t, http.StatusOK).body)
	for i, route := range api.Routes() {
		if route.Name == "getMe" { // is for people; TestRoles asks for it
			continue
		}
		path, body := h.request(t, route, fmt.Sprintf("object-%d", i))
		if route.Name == "getCredentialStatus" { // with something to tell
			h.owner.do(t, "POST", strings.TrimSuffix(path, "status")+"token", nil).want(t, http.StatusOK)
		}
		answer := h.owner.do(t, route.Method, path, body).want(t, route.Status)
		op := doc["paths"].(object)[route.Path].(object)[strings.ToLower(route.Method)].(object)
		content, _ := op["responses"].(object)[strconv.Itoa(route.Status)].(object)["content"].(object)
		if content == nil {
			if strings.Contains(answer.header.Get("Content-Type"), "json") {
				t.Errorf("%s: JSON that is not described", route.Name)
			}
			continue
		}
		var v any
		if err := json.Unmarshal(answer.body, &v); err != nil {
			t.Fatalf("%s: %v", route.Name, err)
		}
		if err := conforms(doc, content["application/json"].(object)["schema"].(object), v, ""); err != nil {
			t.Errorf("%s: %v: %s", route.Name, err, answer.body)
		}
	}
	problem := decode(t, h.owner.do(t, "POST", "/v1/credentials", object{}).body)
	if err := conforms(doc, object{"$ref": "#/components/schemas/Problem"}, problem, ""); err != nil {
		t.Errorf("a problem: %v", err)
	}
}

// conforms checks v against the part of JSON Schema that the description uses. A schema
// that is nil fits everything.
func conforms(doc, schema object, v any, at string) error {
	if schema == nil {
		return nil
	}
	if ref, ok := schema["$ref"].(string); ok {
		return conforms(doc, resolve(doc, ref), v, at)
	}
	if oneOf, ok := schema["oneOf"].([]any); ok {
		fits := 0
		for _, s := range oneOf {
			if conforms(doc, s.(object), v, at) == nil {
				fits++
			}
		}
		if fits != 1 {
			return fmt.Errorf("%s fits %d of the forms", at, fits)
		}
		return nil
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Errorf("%s is not one of %v", at, enum)
	}
	kind := ""
	switch v := v.(type) {
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case float64:
		kind = "integer"
	case []any:
		kind = "array"
		items, _ := schema["items"].(object)
		for i, item := range v {
			if err := conforms(doc, items, item, fmt.Sprint(at, "/", i)); err != nil {
				return err
			}
		}
	case object:
		kind = "object"
		if err := conformsObject(doc, schema, v, at); err != nil {
			return err
		}
	}
	if want, ok := schema["type"]; ok && want != kind {
		return fmt.Errorf("%s is %s, want %v", at, kind, want)
	}
	return nil
}

func conformsObject(doc, schema, v object, at string) error {
	required, _ := schema["required"].([]any)
	for _, member := range required {
		if _, ok := v[member.(string)]; !ok {
			return fmt.Errorf("%s/%s is missing", at, member)
		}
	}
	properties, _ := schema["properties"].(object)
	for member, value := range v {
		property, ok := properties[member].(object)
		if !ok {
			if schema["additionalProperties"] == false {
				return fmt.Errorf("%s/%s is not described", at, member)
			}
			property, _ = schema["additionalProperties"].(object)
		}
		if err := conforms(doc, property, value, at+"/"+member); err != nil {
			return err
		}
	}
	return nil
}

// TestDocs renders the page for people: every operation is on it, every link within it leads
// somewhere, and nothing is loaded from anywhere else.
func TestDocs(t *testing.T) {
	h := start(t, "")
	answer := h.nobody().do(t, "GET", "/docs", nil).want(t, http.StatusOK)
	page := string(answer.body)
	if kind := answer.header.Get("Content-Type"); kind != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", kind)
	}
	policy := answer.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "style-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("Content-Security-Policy %q does not say %s", policy, part)
		}
	}
	for _, route := range api.Routes() {
		for _, part := range []string{`id="` + route.Name + `"`, ">" + html.EscapeString(route.Path) + "<", html.EscapeString(route.Summary)} {
			if !strings.Contains(page, part) {
				t.Errorf("%s: the page has no %s", route.Name, part)
			}
		}
	}
	ids := map[string]bool{}
	for _, match := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[match[1]] {
			t.Errorf("the id %s is there twice", match[1])
		}
		ids[match[1]] = true
	}
	for _, match := range regexp.MustCompile(` (?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		target := match[1]
		switch fragment, within := strings.CutPrefix(target, "#"); {
		case within && !ids[fragment]:
			t.Errorf("the link to #%s leads nowhere", fragment)
		case !within && (!strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//")):
			t.Errorf("the page links to %s", target)
		case !within:
			h.nobody().do(t, "GET", target, nil).want(t, http.StatusOK)
		}
	}
	for _, part := range []string{"<script", "http://", "https://", "@import"} {
		style := string(h.nobody().do(t, "GET", "/docs.css", nil).want(t, http.StatusOK).body)
		if strings.Contains(page+style, part) {
			t.Errorf("the page holds %s", part)
		}
	}
}
