package console

import (
	"net/http"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

// method is a type of authentication method, and the definition that one begins with.
type method struct {
	Name, Title, Description string
	begin                    string // YAML without a name; "" is the connector patchworks of the catalog
}

var methods = []method{
	{"oauth2", "OAuth 2 client credentials", "A client identifier and a secret are exchanged for a token", ""},
	{"jwt-bearer", "JWT bearer", "A JWT that is signed with a private key is exchanged for a token (RFC 7523)", `
inputs:
  - {key: issuer, title: Issuer, required: true}
  - {key: subject, title: Subject, help: Empty is the issuer.}
  - {key: audience, title: Audience, required: true}
  - {key: signing_key, title: Signing key, type: secret, required: true, max: 65536, help: 'A private key, PEM or JWK.'}
  - {key: scope, title: Scope, type: scopes}
oauth2:
  token_url: https://login.example.com/oauth2/token
  grant_type: urn:ietf:params:oauth:grant-type:jwt-bearer
  auth: none
  signing_key: '{{signing_key}}'
  assertion_issuer: '{{issuer}}'
  assertion_subject: '{{subject}}'
  assertion_audience: '{{audience}}'
  scope: '{{scope}}'
`},
	{"basic", "Basic", "A user name and a password go with every request", `
inputs:
  - {key: username, title: User name, required: true}
  - {key: password, title: Password, type: secret, required: true}
apply:
  base_url: https://api.example.com
  basic: {username: '{{username}}', password: '{{password}}'}
`},
	{"key", "API key or token", "A key that never changes goes with every request", `
inputs:
  - {key: api_key, title: API key, type: secret, required: true}
  - {key: prefix, title: Auth prefix, default: Bearer, help: 'What stands before the key in the header, such as Bearer or Session.'}
apply:
  base_url: https://api.example.com
  headers: {Authorization: '{{prefix}} {{api_key}}'}
`},
	{"custom", "Custom", "Any single request that answers with a token", `
inputs:
  - {key: username, title: User name, required: true}
  - {key: password, title: Password, type: secret, required: true}
request:
  url: https://login.example.com/session
  headers: {content-type: application/json}
  body:
    pairs: {username: '{{username}}', password: '{{password}}'}
token:
  path: token
`},
}

// source is what a method of type m begins with.
func (m method) source() (*connector.Source, error) {
	if m.begin == "" {
		text, _ := connector.Text("patchworks")
		s, err := connector.ParseSource(text)
		s.Abstract, s.Description = false, ""
		return s, err
	}
	return connector.ParseSource([]byte("name: draft\n" + m.begin))
}

// methodPage adds an authentication method.
type methodPage struct {
	Frame
	Called, Name string
	Methods      []method
	Type         string
	Problems     []string
}

func newMethodPage() *methodPage {
	return &methodPage{Frame: frame("method", "Add new authentication method", integrationsAt, connectorsAt), Methods: methods, Type: methods[0].Name}
}

func (c *Console) addConnectorPage(r *request) (answer, error) {
	return answer{page: newMethodPage()}, c.builds(r, "connector.create", "")
}

func (c *Console) addConnector(r *request) (answer, error) {
	p := newMethodPage()
	p.Called, p.Name, p.Type = r.form("title"), r.form("name"), r.form("type")
	if p.Called == "" {
		p.Problems = []string{"Name is required."}
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	for _, m := range methods {
		if m.Name != p.Type {
			continue
		}
		s, err := m.source()
		if err != nil {
			return answer{}, err
		}
		s.Title, s.Name = p.Called, p.Name
		if s.Name == "" {
			s.Name = nameFor(s.Title)
		}
		made, err := c.Connectors.Create(r.Context(), r.who, s.YAML())
		if p.Problems, _ = refusal(err); p.Problems != nil {
			p.Name = s.Name
			return answer{page: p, status: http.StatusUnprocessableEntity}, nil
		}
		if err != nil {
			return answer{}, err
		}
		return answer{redirect: connectorPath(made.Name, "build/variables"), flash: made.Title + " is created. Say how it signs in, tab by tab."}, nil
	}
	return answer{}, grantway.Errorf(grantway.Malformed, "there is no authentication method of type %q", p.Type)
}

// nameFor is a title as a name: lower-case letters, digits and dashes.
func nameFor(title string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') })
	name := strings.Join(words, "-")
	return strings.Trim(name[:min(len(name), 64)], "-")
}
