// Package connector describes third-party applications: which inputs one needs and how
// they become a token request.
//
// A definition is a YAML document ([Source]; docs/connectors.md is the reference of the
// language). [Parse] compiles it once into an immutable [Definition], and reports everything that is
// wrong at once. A Definition plus the values of its inputs is a [Plan]: it gets tokens, puts
// them onto requests, and knows by which signs an API refuses one. Nothing here knows where values
// or tokens are stored, and only a [Sender] talks to the network.
//
// The ready-made definitions are in directory catalog; see [Catalog].
package connector

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grant"
)

// Definition describes one third-party application. It is immutable, and safe for concurrent
// use. Parse makes one from YAML; one of Name and Inputs alone is good for Check.
type Definition struct {
	Name        string  `json:"name"` // such as oauth2-client-credentials
	Title       string  `json:"title"`
	Description string  `json:"description"`
	Inputs      []Input `json:"inputs"` // in the order a form shows them

	// Source is the definition as it was written, with what it inherits; it must not be changed.
	Source *Source `json:"-"`

	// Warnings are what Parse found suspicious.
	Warnings Problems `json:"-"`

	defaults                    map[string]*template // of inputs whose default is a template
	vars                        []pair
	certificate, certificateKey *template
	signers                     []signer
	steps                       []step
	token                       *tokenRule
	errors                      *errorRule
	discover                    *request
	apply                       *apply
	detect                      detect
	verify                      *endpoint
	endpoints                   []*endpoint
}

// HasToken tells whether there is a token to ask for or to make. Without one, requests are
// authorized by the inputs alone.
func (d *Definition) HasToken() bool {
	return len(d.steps) > 0 || d.token != nil && d.token.value != nil
}

// Type is what an input holds.
type Type string

// The types of inputs.
const (
	String     Type = "string"
	SecretText Type = "secret"     // write-only; may live in a secret store
	Enum       Type = "enum"       // one of Input.Enum
	Boolean    Type = "boolean"    // "true" or "false"
	URL        Type = "url"        // a token endpoint: https, or http to loopback
	URI        Type = "uri"        // an absolute URI without fragment, RFC 8707 section 2
	Scopes     Type = "scopes"     // space-delimited, RFC 6749 section 3.3
	Seconds    Type = "seconds"    // a whole number of seconds, 1 or more
	Date       Type = "date"       // RFC 3339 date or date-time
	PEM        Type = "pem"        // certificates, PEM
	Parameters Type = "parameters" // a list of {in, name, value}
	Hostname   Type = "hostname"   // a host, with or without a port
	Integer    Type = "integer"    // a whole number
)

// Input is one variable of a definition.
type Input struct {
	Key      string   `json:"key" doc:"The name of the variable: fixed, case-sensitive."`
	Title    string   `json:"title,omitempty" doc:"What a form calls it. Empty is the key."`
	Alias    string   `json:"alias,omitempty" doc:"What the vendor calls it."`
	Help     string   `json:"help,omitempty" doc:"A sentence below the field."`
	Type     Type     `json:"type,omitempty" doc:"Empty is string."`
	Enum     []string `json:"enum,omitempty" doc:"The values of type enum."`
	Default  string   `json:"default,omitempty" doc:"At most 1,024 bytes. May be a template of other inputs that are not secret."`
	Required bool     `json:"required,omitempty" doc:"A credential cannot be saved without it, unless there is a default."`
	Advanced bool     `json:"advanced,omitempty" doc:"Forms fold it away."`
	Locked   bool     `json:"locked,omitempty" doc:"Its value is the default; a credential cannot change it."`
	Level    string   `json:"level,omitempty" doc:"What it belongs to: connector, auth (also when empty) or endpoint."`
	Pattern  string   `json:"pattern,omitempty" doc:"Regular expression (RE2) that the whole value must match."`

	RequiredWhen *Condition `json:"required_when,omitempty" doc:"Makes it required only for certain values of another input."`
	Max          int        `json:"max,omitempty" doc:"The greatest length in bytes. Empty is 4,096."`

	pattern *regexp.Regexp
}

// Condition holds when the input Key has one of Values, and Unless, if named, is not set.
type Condition struct {
	Key    string   `json:"key" doc:"Another input."`
	Values []string `json:"values" doc:"Its values with which this one is required."`
	Unless string   `json:"unless,omitempty" doc:"An input that makes this one unnecessary."`
}

// Values are the inputs of one credential, ready for Compile: plain values as they were
// saved, secrets resolved.
type Values struct {
	Plain   map[string]grantway.Value
	Secrets map[string]grant.Secret

	// Zone is the time zone of now() in templates; nil is UTC.
	Zone *time.Location
}

// Input returns the input with that key.
func (d *Definition) Input(key string) (Input, bool) {
	i := slices.IndexFunc(d.Inputs, func(in Input) bool { return in.Key == key })
	if i < 0 {
		return Input{}, false
	}
	return d.Inputs[i], true
}

// Secrets lists the keys of the secret inputs.
func (d *Definition) Secrets() []string {
	var keys []string
	for _, in := range d.Inputs {
		if in.Type == SecretText {
			keys = append(keys, in.Key)
		}
	}
	return keys
}

// Check finds everything that is wrong with values, before any secret is resolved. A
// secret is its new text, a reference, or Set for one that is stored already. The pointers
// of the fields are relative to the credential: /inputs/client_id.
func (d *Definition) Check(values map[string]grantway.Value) []grantway.Field {
	var fields []grantway.Field
	wrong := func(key, format string, args ...any) {
		fields = append(fields, grantway.Field{Pointer: grantway.Pointer("inputs", key), Detail: fmt.Sprintf(format, args...)})
	}
	for key := range values {
		if _, ok := d.Input(key); !ok {
			wrong(key, "is not an input of connector %s", d.Name)
		}
	}
	for _, in := range d.Inputs {
		v, ok := values[in.Key]
		if !ok || v.Empty() {
			if d.required(in, values) {
				wrong(in.Key, "is required")
			}
			continue
		}
		if detail := in.check(v); detail != "" {
			wrong(in.Key, "%s", detail)
		}
	}
	slices.SortFunc(fields, func(a, b grantway.Field) int { return strings.Compare(a.Pointer, b.Pointer) })
	return fields
}

func (d *Definition) required(in Input, values map[string]grantway.Value) bool {
	if in.Required {
		return in.Default == ""
	}
	c := in.RequiredWhen
	if c == nil {
		return false
	}
	if c.Unless != "" && !values[c.Unless].Empty() {
		return false
	}
	return slices.Contains(c.Values, d.text(values, c.Key))
}

// text is the plain value of key, or its default.
func (d *Definition) text(values map[string]grantway.Value, key string) string {
	if v, ok := values[key]; ok && v.Text != "" {
		return v.Text
	}
	in, _ := d.Input(key)
	return in.Default
}

// check says what is wrong with a value, "" if nothing is.
func (in Input) check(v grantway.Value) string {
	if in.Type == SecretText {
		return in.checkSecret(v)
	}
	if v.Ref != nil || v.Set {
		return "is not a secret, so it must be given as its value"
	}
	if in.Type == Parameters {
		return checkParams(v)
	}
	if v.Params != nil {
		return "must be a string"
	}
	if in.Locked && v.Text != in.Default {
		return "is fixed by the connector"
	}
	return in.checkText(v.Text)
}

func (in Input) checkSecret(v grantway.Value) string {
	switch {
	case v.Params != nil:
		return `must be a string, or {"store", "key"} for an external secret`
	case v.Ref != nil && (v.Ref.Store == "" || v.Ref.Key == ""):
		return `needs both "store" and "key"`
	case v.Ref != nil:
		return checkRef(*v.Ref)
	case len(v.Text) > in.max():
		return fmt.Sprintf("must be at most %d bytes", in.max())
	case !utf8.ValidString(v.Text):
		return "must be valid UTF-8"
	case strings.ContainsRune(v.Text, 0):
		return "must not contain a NUL character"
	case strings.TrimSpace(v.Text) == "" && v.Text != "":
		return "must not be blank"
	}
	return ""
}

// checkRef looks at a reference as text; whether it leads somewhere is seen later.
func checkRef(ref grantway.SecretRef) string {
	for member, text := range map[string]string{"store": ref.Store, "key": ref.Key, "field": ref.Field, "version": ref.Version} {
		switch {
		case len(text) > 1024:
			return fmt.Sprintf("%q must be at most 1,024 bytes", member)
		case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
			return fmt.Sprintf("%q must be valid UTF-8 without control characters", member)
		}
	}
	return ""
}

func (in Input) checkText(s string) string {
	switch {
	case len(s) > in.max():
		return fmt.Sprintf("must be at most %d bytes", in.max())
	case !utf8.ValidString(s):
		return "must be valid UTF-8"
	case in.Type != PEM && strings.ContainsFunc(s, unicode.IsControl):
		return "must not contain control characters such as line breaks"
	case in.Type != PEM && strings.TrimSpace(s) != s && in.Type != Scopes:
		return "must not begin or end with a space"
	}
	if in.pattern != nil && !in.pattern.MatchString(s) {
		return "must match " + in.Pattern
	}
	switch in.Type {
	case Hostname:
		if err := checkAuthority(s); err != nil {
			return err.Error()
		}
	case Integer:
		if _, err := strconv.ParseInt(s, 10, 64); err != nil {
			return "must be a whole number"
		}
	case Enum:
		if !slices.Contains(in.Enum, s) {
			return "must be one of " + strings.Join(in.Enum, ", ")
		}
	case Boolean:
		if s != "true" && s != "false" {
			return "must be true or false"
		}
	case URL:
		if err := grant.CheckTokenURL(s); err != nil {
			return err.Error()
		}
	case URI:
		if err := grant.CheckResource(s); err != nil {
			return err.Error()
		}
	case Scopes:
		if _, err := grant.ParseScope(s); err != nil {
			return err.Error()
		}
	case Seconds:
		if n, err := strconv.Atoi(s); err != nil || n < 1 || n > int(grant.MaxLifetime/time.Second) {
			return fmt.Sprintf("must be a whole number of seconds from 1 to %d", int(grant.MaxLifetime/time.Second))
		}
	case Date:
		if _, err := ParseDate(s); err != nil {
			return "must be a date such as 2027-01-31, or a date and time such as 2027-01-31T12:00:00Z"
		}
	case PEM:
		if _, err := parseCertificates(s); err != nil {
			return err.Error()
		}
	}
	return ""
}

func (in Input) max() int {
	if in.Max > 0 {
		return in.Max
	}
	return 4096
}

func checkParams(v grantway.Value) string {
	if v.Params == nil {
		return `must be a list of {"in", "name", "value"}`
	}
	for i, p := range v.Params {
		switch {
		case !slices.Contains([]string{"body", "query", "header"}, p.In):
			return fmt.Sprintf(`item %d: "in" must be body, query or header`, i)
		case p.Name == "":
			return fmt.Sprintf(`item %d: "name" is required`, i)
		case len(p.Name)+len(p.Value) > 8192:
			return fmt.Sprintf("item %d: must be at most 8,192 bytes", i)
		case !utf8.ValidString(p.Name + p.Value):
			return fmt.Sprintf("item %d: must be valid UTF-8", i)
		case strings.ContainsFunc(p.Name, unicode.IsControl),
			strings.ContainsFunc(p.Value, func(r rune) bool {
				return unicode.IsControl(r) && (p.In != "body" || !strings.ContainsRune("\t\r\n", r))
			}):
			return fmt.Sprintf("item %d: must not contain control characters such as line breaks", i)
		case p.In == "header" && !headerName(p.Name):
			return fmt.Sprintf("item %d: \"name\" is not that of a header", i)
		case p.In == "header" && slices.Contains(ownHeaders, strings.ToLower(p.Name)):
			return fmt.Sprintf("item %d: the header %s is set by the token request itself", i, p.Name)
		case p.In != "header" && slices.Contains(ownParameters, p.Name):
			return fmt.Sprintf("item %d: %s has an input of its own, or is set by the authentication method", i, p.Name)
		}
	}
	return ""
}

// What a token request sets itself; a second one would break "no parameter twice" (RFC
// 6749 section 3.2) or the client's authentication.
var (
	ownHeaders    = []string{"authorization", "content-type", "content-length", "host", "dpop", "transfer-encoding", "connection"}
	ownParameters = []string{"grant_type", "scope", "client_id", "client_secret", "client_assertion", "client_assertion_type", "assertion", "audience", "resource"}
)

func headerName(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r > 126 || !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

// ParseDate reads the value of an input of type Date: a date, which is its first moment in
// UTC, or a date and time (RFC 3339).
func ParseDate(s string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, s)
}
