package grantway

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Where a Connector comes from.
const (
	CatalogConnector = "catalog" // it comes with the hub, and cannot be changed
	OwnConnector     = "own"     // it was made or imported here
)

// Connector is the definition of a third-party application, of which credentials are made.
type Connector struct {
	// Name is lower-case letters, digits and dashes, at most 64. It is the name in the definition,
	// and cannot be changed, since credentials refer to it.
	Name   string `json:"name"`
	Source string `json:"source"` // CatalogConnector or OwnConnector

	// Version is which of its versions this is; credentials refer to it by name and version. An
	// edit that would break credentials makes a new one. Those of the catalog have version 1 only.
	Version int64 `json:"version"`
	Newest  int64 `json:"newest_version"`

	// Revision goes up by one with every save; it is the ETag. 0 for those of the catalog.
	Revision  int64     `json:"revision,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`

	// What the definition says of itself.
	Title         string   `json:"title"`
	Description   string   `json:"description,omitempty"`
	Vendor        string   `json:"vendor,omitempty"`
	Categories    []string `json:"categories,omitempty"`
	Documentation string   `json:"documentation,omitempty"`
	Checked       string   `json:"checked,omitempty"`    // the day on which it was compared with the documentation
	Unverified    bool     `json:"unverified,omitempty"` // nobody could compare it
	Abstract      bool     `json:"abstract,omitempty"`   // it is only there to be extended
	Extends       string   `json:"extends,omitempty"`

	// Broken says that the definition does not compile: no credential can be made of it, and those
	// that are get no tokens. Findings say why, or what is suspicious.
	Broken   bool      `json:"broken,omitempty"`
	Findings []Finding `json:"findings,omitempty"`

	// What follows is left out of lists.

	// YAML is the definition as it was written.
	YAML string `json:"yaml,omitempty"`

	// Definition is the definition with what it inherits, in the language's JSON form
	// (/schema/connector.json); its inputs are what a credential has to fill in. Absent when broken.
	Definition json.RawMessage `json:"definition,omitempty"`

	// OwnDefinition is the definition as it was written, without what it inherits, in JSON: what
	// to change and send back. What it says as before keeps its place and comments in the YAML.
	OwnDefinition json.RawMessage `json:"own_definition,omitempty"`

	// UsedBy names what keeps it from being deleted: credentials, and connectors that extend it.
	UsedBy []string `json:"used_by,omitempty"`
}

// ConnectorQuery says which connectors somebody looks for. Empty fields select all.
type ConnectorQuery struct {
	Search   string // words of name, title, vendor, description or categories, whatever the case
	Category string
	Source   string // CatalogConnector or OwnConnector
}

// Finding is something wrong, or with Warning something suspicious, in the definition of a
// connector.
type Finding struct {
	Path    string `json:"path"` // of the field, such as oauth2.token_url or inputs.2.key
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`    // what to do
	Warning bool   `json:"warning,omitempty"` // it can be saved as it is
}

// String is the finding on one line: 12:3: oauth2.token_url: must be https (hint).
func (f Finding) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", f.Line, f.Column)
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return b.String()
}

// ConnectorCheck is what was found in a definition. It can be saved when OK.
type ConnectorCheck struct {
	OK       bool      `json:"ok"`
	Name     string    `json:"name,omitempty"` // that of the definition
	Findings []Finding `json:"findings"`
}

// RateLimit is a number of requests in some time.
type RateLimit struct {
	Requests int     `json:"requests"`    // 1 or more
	Per      Seconds `json:"per_seconds"` // 1 or more
}

// ConnectorDraft is a definition with values for its inputs, to try it out. The definition is
// given in one of three ways: YAML, Definition, or Connector for one that is stored.
type ConnectorDraft struct {
	YAML       string          `json:"yaml,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"`

	Connector        string `json:"connector,omitempty"`
	ConnectorVersion int64  `json:"connector_version,omitempty"` // 0 is the newest

	// Inputs are values as in a Credential. They are not stored.
	Inputs   Inputs `json:"inputs,omitempty"`
	TimeZone string `json:"time_zone,omitempty"`
}

// EndpointCall has the values for the inputs of an endpoint that a connector names.
type EndpointCall struct {
	Inputs map[string]string `json:"inputs,omitempty"`
}

// ConnectorTrial is what became of a ConnectorDraft.
type ConnectorTrial struct {
	// Requests are the token requests, with everything secret masked.
	Requests []RequestPreview `json:"requests"`

	// Answers are those of the requests that were sent. Of their values only those are shown
	// that cannot be a secret.
	Answers []ShownAnswer `json:"answers,omitempty"`

	Token *ShownToken `json:"token,omitempty"` // what was found; absent when there was none
	Error string      `json:"error,omitempty"` // why there was none
	Hint  string      `json:"hint,omitempty"`  // what to do about it

	// Findings are what is wrong with the inputs, or suspicious in the definition.
	Findings []Finding `json:"findings,omitempty"`
}

// RequestPreview is a request as it goes out, with everything secret masked.
type RequestPreview struct {
	Step    string   `json:"step,omitempty"` // of several
	Method  string   `json:"method"`
	URL     string   `json:"url"`
	Headers []Header `json:"headers,omitempty"` // by name
	Form    []Header `json:"form,omitempty"`    // the body of an OAuth 2.0 request, decoded
	Body    string   `json:"body,omitempty"`    // any other body
}

// ShownAnswer is an answer without secrets.
type ShownAnswer struct {
	Status  int      `json:"status"`
	Headers []Header `json:"headers,omitempty"` // by name
	Body    string   `json:"body,omitempty"`
}

// ShownToken is what is said of a token without showing it.
type ShownToken struct {
	Type        string    `json:"token_type"`
	ExpiresAt   time.Time `json:"expires_at"`
	ExpiresIn   Seconds   `json:"expires_in"`
	Scope       string    `json:"scope,omitempty"`
	Length      int       `json:"length"`
	Fingerprint string    `json:"fingerprint"`
	Kept        []string  `json:"kept,omitempty"` // names of what is kept with it
}
