package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/grantway/grantway"
)

// kindClient documents have the members of the API:
//
//	kind: client
//	name: mailer
//	roles:
//	  - {role: application, division: sales}
//	token_format: jwt
//
// Members that a file leaves out stay as they are in the hub. A secret is made by the hub.
const kindClient = "client"

// answersOnly are the members of a client that no file sets.
var answersOnly = []string{"id", "client_secret", "created_at", "version", "client_secret_expires_at", "live_tokens"}

// clientMembers are the keys of a client's document.
func clientMembers() (keys []string) {
	for name := range membersByName(reflect.TypeFor[grantway.OAuthClient]()) {
		if !slices.Contains(answersOnly, name) {
			keys = append(keys, name)
		}
	}
	slices.Sort(keys)
	return append([]string{"kind"}, keys...)
}

// membersByName are the types of a struct's JSON members, those of embedded structs too.
func membersByName(t reflect.Type) map[string]reflect.Type {
	members := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); !f.Anonymous && name != "" {
			members[name] = f.Type
		}
	}
	return members
}

// client makes a client of the members of a document, and remembers which were there.
func (r *reader) client(members map[string]any) (one grantway.OAuthClient, patch json.RawMessage) {
	given := map[string]any{}
	for key, value := range members {
		if key != "kind" {
			given[key] = value
		}
	}
	text, err := json.Marshal(r.typed("", given, reflect.TypeFor[grantway.OAuthClient]()))
	if err == nil {
		err = json.Unmarshal(text, &one)
	}
	if err != nil {
		r.wrong(r.lines[""], "", "does not have the form of a client")
		return one, nil
	}
	for n := range one.Roles {
		if one.Roles[n].Division == "" {
			one.Roles[n].Division = grantway.DefaultDivision
		}
	}
	for n := range one.Credentials {
		if one.Credentials[n].Via == "" {
			one.Credentials[n].Via = grantway.ViaToken
		}
	}
	for name, list := range map[string]any{"roles": one.Roles, "credentials": one.Credentials} {
		if _, there := given[name]; there { // with its defaults, to be compared with what the hub has
			given[name] = list
		}
	}
	patch, _ = json.Marshal(r.typed("", given, reflect.TypeFor[grantway.OAuthClient]())) // marshalled before
	return one, patch
}

// typed turns the texts in v into what t wants, for in a file a number is its text.
func (r *reader) typed(pointer string, v any, t reflect.Type) any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case string:
		switch t.Kind() {
		case reflect.Int, reflect.Int64:
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				r.wrong(r.lines[pointer], pointer, "must be a whole number")
			}
			return n
		case reflect.Bool:
			b, err := strconv.ParseBool(v)
			if err != nil {
				r.wrong(r.lines[pointer], pointer, "must be true or false")
			}
			return b
		case reflect.String:
			return v
		}
		if t != reflect.TypeFor[json.RawMessage]() {
			r.wrong(r.lines[pointer], pointer, "must not be a text")
		}
		return v
	case map[string]any:
		if t.Kind() != reflect.Struct {
			return v
		}
		members, out := membersByName(t), map[string]any{}
		for key, value := range v {
			at := pointer + "/" + escape(key)
			if members[key] == nil {
				r.wrong(r.lines[at], at, "is not known")
				continue
			}
			out[key] = r.typed(at, value, members[key])
		}
		return out
	case []any:
		if t.Kind() != reflect.Slice || t == reflect.TypeFor[json.RawMessage]() {
			return v
		}
		out := []any{}
		for n, value := range v {
			out = append(out, r.typed(pointer+"/"+strconv.Itoa(n), value, t.Elem()))
		}
		return out
	}
	return v
}

// compareClient says what a change to the members of a file would be.
func compareClient(stored grantway.OAuthClient, found bool, o object) string {
	if !found {
		return created
	}
	var have, want map[string]json.RawMessage
	text, err := json.Marshal(stored)
	if err != nil || json.Unmarshal(text, &have) != nil || json.Unmarshal(o.patch, &want) != nil {
		return updated
	}
	for name, value := range want {
		if !sameJSON(have[name], value) {
			return updated
		}
	}
	return unchanged
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	if a == nil { // left out because it is empty
		a = []byte("null")
		if string(b) == "[]" {
			return true
		}
	}
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// findStoredClient returns the client of that name, if there is one.
func findStoredClient(ctx context.Context, hub *grantway.Client, name string) (grantway.OAuthClient, bool, error) {
	stored, err := hub.OAuthClient(ctx, name)
	if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.NotFound {
		return stored, false, nil
	}
	return stored, err == nil, err
}

// appendClient appends one as a document that parseObjects reads.
func appendClient(b []byte, one grantway.OAuthClient) ([]byte, error) {
	text, err := json.Marshal(one)
	if err != nil {
		return nil, err
	}
	var members yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(text, &members, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	members = slices.DeleteFunc(members, func(m yaml.MapItem) bool { return slices.Contains(answersOnly, m.Key.(string)) })
	var out bytes.Buffer
	if err := yaml.NewEncoder(&out, yaml.JSON()).Encode(members); err != nil {
		return nil, err
	}
	if text, err = yaml.JSONToYAML(out.Bytes()); err != nil {
		return nil, err
	}
	return append(append(b, "kind: client\n"...), text...), nil
}
