package api

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// describe makes the OpenAPI document from the table of routes. The schemas are those of
// the structs that the handlers read and write.
func (a *API) describe() *huma.OpenAPI {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[grantway.Value](), reflect.TypeFor[valueSchema]())
	schemas.RegisterTypeAlias(reflect.TypeFor[json.RawMessage](), reflect.TypeFor[rawSchema]())
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{Title: "Grantway", Version: a.Version,
			License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			Description: "Machine-to-machine OAuth 2.0: credentials are stored once, everything else gets fresh tokens. Sign in at /oauth/token with a client id and secret (grant client_credentials). Errors are problem details (RFC 9457)."},
		Servers: []*huma.Server{{URL: "/"}},
		Components: &huma.Components{Schemas: schemas, SecuritySchemes: map[string]*huma.SecurityScheme{
			"client": {Type: "oauth2", Flows: &huma.OAuthFlows{ClientCredentials: &huma.OAuthFlow{TokenURL: "/oauth/token", Scopes: map[string]string{}}}},
		}},
	}
	problem := &huma.Response{Description: "Something is wrong; code says what", Content: map[string]*huma.MediaType{
		"application/problem+json": {Schema: schemas.Schema(reflect.TypeFor[grantway.Problem](), true, "Problem")},
	}}
	tags := map[string]bool{}
	for _, rt := range a.routes() {
		op := &huma.Operation{
			OperationID: rt.name, Method: rt.method, Path: rt.path, Summary: rt.summary, Description: rt.summary + ".", Tags: []string{rt.tag},
			Responses: map[string]*huma.Response{"default": problem},
		}
		if !tags[rt.tag] {
			tags[rt.tag] = true
			doc.Tags = append(doc.Tags, &huma.Tag{Name: rt.tag, Description: rt.tag})
		}
		success := &huma.Response{Description: http.StatusText(rt.status)}
		if rt.out != nil {
			success.Content = map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(reflect.TypeOf(rt.out), true, rt.name)}}
		}
		op.Responses[strconv.Itoa(rt.status)] = success
		if rt.in != nil {
			kind, schema := "application/json", schemas.Schema(reflect.TypeOf(rt.in), true, rt.name)
			if rt.method == http.MethodPatch {
				kind, schema = "application/merge-patch+json", &huma.Schema{Type: "object", Description: "Members of " + schema.Ref[strings.LastIndex(schema.Ref, "/")+1:] + " to change."}
			}
			op.RequestBody = &huma.RequestBody{Required: !rt.optional, Content: map[string]*huma.MediaType{kind: {Schema: schema}}}
			if _, ok := rt.in.(definition); ok {
				op.RequestBody.Content["application/yaml"] = &huma.MediaType{Schema: &huma.Schema{Type: "string", Description: "A definition in YAML."}}
			}
		}
		for _, part := range strings.Split(rt.path, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				op.Parameters = append(op.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: "string"}})
			}
		}
		for _, p := range []struct{ in, names string }{{"query", rt.query}, {"header", rt.header}} {
			for _, name := range strings.Fields(p.names) {
				schema := &huma.Schema{Type: "string"}
				if name == "limit" {
					least, most := 1.0, 1000.0
					schema = &huma.Schema{Type: "integer", Minimum: &least, Maximum: &most, Default: 100}
				}
				op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: p.in, Schema: schema})
			}
		}
		if !rt.open {
			op.Security = []map[string][]string{{"client": {}}}
		}
		doc.AddOperation(op)
	}
	doc.AddOperation(signIn())
	doc.Tags = append(doc.Tags, &huma.Tag{Name: signInTag, Description: signInTag})
	for _, schema := range schemas.Map() {
		for _, member := range schema.Properties {
			member.Nullable = false // a list is empty or left out
		}
	}
	return doc
}

const signInTag = "Signing in"

// signIn describes the token endpoint, which is the issuer's and follows RFC 6749 rather than
// the rest of this API.
func signIn() *huma.Operation {
	text := &huma.Schema{Type: "string"}
	answer := func(description string, required []string, members map[string]*huma.Schema) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{Type: "object", Required: required, Properties: members}},
		}}
	}
	return &huma.Operation{
		OperationID: "token", Method: http.MethodPost, Path: "/oauth/token", Tags: []string{signInTag},
		Summary:     "Sign in: get an access token for this API (RFC 6749 section 4.4)",
		Description: "Sign in: get an access token for this API (RFC 6749 section 4.4). The client authenticates by the method it is registered with. A scope is a list of permissions that the token is limited to.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/x-www-form-urlencoded": {Schema: &huma.Schema{Type: "object", Required: []string{"grant_type"}, Properties: map[string]*huma.Schema{
				"grant_type": {Type: "string", Enum: []any{"client_credentials", "authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:token-exchange"}}, "scope": text, "resource": text, "client_id": text, "client_secret": text,
				"client_assertion_type": text, "client_assertion": text, "code": text, "code_verifier": text, "redirect_uri": text, "refresh_token": text,
				"subject_token": text, "subject_token_type": text, "audience": text,
			}}},
		}},
		Responses: map[string]*huma.Response{
			"200": answer("OK", []string{"access_token", "token_type", "expires_in"}, map[string]*huma.Schema{
				"access_token": text, "token_type": text, "expires_in": {Type: "integer"}, "scope": text,
			}),
			"default": answer("Refused (RFC 6749 section 5.2)", []string{"error"}, map[string]*huma.Schema{"error": text, "error_description": text}),
		},
	}
}

func (a *API) openAPI(w http.ResponseWriter, _ *http.Request, _ access.Caller) (any, error) {
	w.Header().Set("Cache-Control", "no-cache")
	return a.describe().MarshalJSON()
}

// valueSchema describes grantway.Value, which has its own JSON.
type valueSchema struct{}

// Schema implements huma.SchemaProvider.
func (valueSchema) Schema(huma.Registry) *huma.Schema {
	text := func(of ...string) map[string]*huma.Schema {
		properties := map[string]*huma.Schema{}
		for _, name := range of {
			properties[name] = &huma.Schema{Type: "string"}
		}
		return properties
	}
	return &huma.Schema{
		Description: "The value of one input. Which form an input takes is up to its connector.",
		OneOf: []*huma.Schema{
			{Type: "string", Description: "A plain value, or a new internal secret."},
			{Type: "object", Description: "An external secret.", Properties: text("store", "key", "field", "version"), Required: []string{"store", "key"}, AdditionalProperties: false},
			{Type: "object", Description: "In answers: an internal secret is stored. In requests: keep it.",
				Properties: map[string]*huma.Schema{"source": {Type: "string", Enum: []any{"internal"}}, "set": {Type: "boolean"}}, Required: []string{"source", "set"}, AdditionalProperties: false},
			{Type: "array", Description: "Extra parameters.", Items: &huma.Schema{Type: "object", Properties: text("in", "name", "value"), Required: []string{"in", "name", "value"}, AdditionalProperties: false}},
		},
	}
}

// rawSchema stands for json.RawMessage in the document.
type rawSchema struct{}

// Schema implements huma.SchemaProvider.
func (rawSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "object", Description: "The definition of a connector, whose schema is /schema/connector.json, or a JWK set (RFC 7517).", AdditionalProperties: true}
}

// Schema implements huma.SchemaProvider.
func (definition) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "object", Description: "The definition of a connector; /schema/connector.json is its schema.", AdditionalProperties: true}
}

//go:embed docs.html docs.css
var docsFiles embed.FS

// docs shows the description as one page, without any script.
func (a *API) docs(w http.ResponseWriter, _ *http.Request, _ access.Caller) (any, error) {
	page, err := template.New("docs.html").Funcs(template.FuncMap{"lower": strings.ToLower, "typeOf": typeOf}).ParseFS(docsFiles, "docs.html")
	if err != nil {
		return nil, err
	}
	doc := a.describe()
	var buf bytes.Buffer
	err = page.Execute(&buf, struct {
		Doc     *huma.OpenAPI
		Groups  []docGroup
		Schemas map[string]*huma.Schema
	}{doc, a.docGroups(), doc.Components.Schemas.Map()})
	if err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	return buf.Bytes(), nil
}

// docGroup is one tag of the page.
type docGroup struct {
	Tag        string
	Operations []docOperation
}

type docOperation struct {
	Name, Method, Path, Query, Header, Summary, In, Out string
	Status                                              int
}

func (a *API) docGroups() []docGroup {
	var groups []docGroup
	schema := func(v any) string {
		if v == nil || v == (definition{}) || reflect.TypeOf(v).Kind() != reflect.Struct {
			return ""
		}
		return huma.DefaultSchemaNamer(reflect.TypeOf(v), "")
	}
	in := signIn()
	groups = append(groups, docGroup{Tag: signInTag, Operations: []docOperation{{Name: in.OperationID, Method: in.Method, Path: in.Path, Summary: in.Summary, Status: http.StatusOK}}})
	for _, rt := range a.routes() {
		if len(groups) == 0 || groups[len(groups)-1].Tag != rt.tag {
			groups = append(groups, docGroup{Tag: rt.tag})
		}
		g := &groups[len(groups)-1]
		g.Operations = append(g.Operations, docOperation{rt.name, rt.method, rt.path, strings.ReplaceAll(rt.query, " ", "&"), strings.ReplaceAll(rt.header, " ", ", "), rt.summary, schema(rt.in), schema(rt.out), rt.status})
	}
	return groups
}

func (a *API) docsStyle(w http.ResponseWriter, _ *http.Request, _ access.Caller) (any, error) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	return docsFiles.ReadFile("docs.css")
}

// typeOf writes a schema as one word or two, linking nothing.
func typeOf(s *huma.Schema) string {
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndex(s.Ref, "/")+1:]
	case s.OneOf != nil:
		return "string or object"
	case s.Type == "array" && s.Items != nil:
		return "list of " + typeOf(s.Items)
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	}
	return s.Type
}
