package console

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
)

// connectorsPage lists the connectors.
type connectorsPage struct {
	Frame
	Search, Source string
	Rows           []grantway.Connector
	MayWrite       bool
}

func mayBuild(r *request) bool { return r.who.May(access.WriteConnector, access.Everywhere) }

func (c *Console) connectors(r *request) (answer, error) {
	p := &connectorsPage{Frame: frame("connectors", "Connectors", integrationsAt), Search: r.FormValue("q"), Source: r.FormValue("source"), MayWrite: mayBuild(r)}
	found, err := c.Connectors.List(r.Context(), r.who, grantway.ConnectorQuery{Search: p.Search, Source: p.Source}, "", everything)
	if err != nil {
		return answer{}, err
	}
	p.Rows = found.Items
	slices.SortStableFunc(p.Rows, func(a, b grantway.Connector) int { return strings.Compare(b.Source, a.Source) }) // own ones first
	a := answer{page: p}
	if r.htmx {
		a.part = "list"
	}
	return a, nil
}

// connectorPath is a path of a connector. Each has something after the name, so that no name
// hides /connectors/add.
func connectorPath(name, rest string) string { return "/connectors/" + name + "/" + rest }

// connectorPage is one connector in readable form.
type connectorPage struct {
	Frame
	Connector grantway.Connector
	Version   int64
	Source    *connector.Source // with what it inherits; as far as it can be read when it is broken
	Facts     []fact
	Versions  []grantway.Connector
	Instances []broker.Row
	Total     int
	Hint      string

	MayWrite, MayAdd, Own bool
}

func (c *Console) connector(r *request) (answer, error) {
	version, _ := strconv.ParseInt(r.FormValue("version"), 10, 64)
	one, err := c.Connectors.Get(r.Context(), r.who, r.PathValue("name"), version)
	if err != nil {
		return answer{}, err
	}
	p := &connectorPage{Frame: frame("connector", one.Title, integrationsAt, connectorsAt), Connector: one, MayWrite: mayBuild(r), Own: one.Source == grantway.OwnConnector,
		MayAdd: r.who.Anywhere().Has(access.WriteCredential) && !one.Broken && !one.Abstract}
	if found, _ := c.Connectors.Find(one.Name, one.Version); found.Definition != nil {
		p.Source = found.Source
	} else {
		p.Source, _ = connector.ParseSource([]byte(one.YAML))
	}
	p.Facts, p.Hint = connectorFacts(p.Source), sourceHint(p.Source)
	if p.Versions, err = c.Connectors.Versions(r.Context(), r.who, one.Name); err != nil {
		return answer{}, err
	}
	if r.who.Anywhere().Has(access.ReadCredential) {
		found, err := c.Broker.Find(r.Context(), r.who, broker.Query{Connector: one.Name, Limit: 20})
		if err != nil {
			return answer{}, err
		}
		p.Instances, p.Total = found.Rows, found.Total
	}
	return answer{page: p}, nil
}

// connectorFacts say in words how tokens are got and used.
func connectorFacts(s *connector.Source) (list []fact) {
	add := func(title, value string) {
		if value != "" {
			list = append(list, fact{title, value, "text"})
		}
	}
	switch {
	case s.OAuth2 != nil:
		add("Token request", "OAuth 2.0 (RFC 6749)")
		add("Token URL", s.OAuth2.TokenURL)
		add("Client", cmp.Or(methodTitles[s.OAuth2.Auth], s.OAuth2.Auth, "HTTP Basic"))
	case s.Request != nil:
		add("Token request", cmp.Or(s.Request.Method, "POST")+" "+s.Request.URL)
	case len(s.Steps) > 0:
		var steps []string
		for _, one := range s.Steps {
			steps = append(steps, one.Name)
		}
		add("Token request", "Steps: "+strings.Join(steps, ", "))
	default:
		add("Token", "None is asked for: each request is authorized with the inputs")
	}
	if a := s.Apply; a != nil {
		add("Base URL", a.BaseURL)
		for _, one := range []struct {
			title string
			pairs connector.Pairs
		}{{"Header", a.Headers}, {"Query", a.Query}, {"Cookie", a.Cookies}} {
			for _, pair := range one.pairs {
				add(one.title, pair.Name+": "+pair.Value)
			}
		}
		if a.Basic != nil {
			add("Header", "Authorization: Basic "+a.Basic.Username+":"+a.Basic.Password)
		}
	}
	if h := s.Hints; h != nil {
		if l := h.RateLimit; l != nil && l.Requests > 0 {
			add("Rate limit", fmt.Sprintf("%d requests in %s", l.Requests, l.Per.Duration()))
		}
		add("Known scopes", strings.Join(h.Scopes, " "))
		add("Before you begin", h.Note)
	}
	return list
}

// Kind is the type of an input in a readable form.
func (p *connectorPage) Kind(in connector.Input) string { return typeTitle(in.Type) }

// exportConnector is the definition as a file.
func (c *Console) exportConnector(r *request) (answer, error) {
	version, _ := strconv.ParseInt(r.FormValue("version"), 10, 64)
	one, err := c.Connectors.Get(r.Context(), r.who, r.PathValue("name"), version)
	if err != nil {
		return answer{}, err
	}
	return answer{file: &file{name: one.Name + ".yaml", kind: "application/yaml", write: func(w http.ResponseWriter) error {
		_, err := io.WriteString(w, one.YAML)
		return err
	}}}, nil
}

// copyPage asks for the name of a copy.
type copyPage struct {
	Frame
	From, Name string
	Errors     problems
}

func (c *Console) newCopyPage(r *request) (*copyPage, error) {
	one, err := c.Connectors.Get(r.Context(), r.who, r.PathValue("name"), 0)
	if err != nil {
		return nil, err
	}
	return &copyPage{Frame: frame("copy", "Copy "+one.Title, integrationsAt, connectorsAt, crumb{one.Title, connectorPath(one.Name, "details")}), From: one.Name, Name: one.Name + "-copy"}, nil
}

func (c *Console) copyConnectorPage(r *request) (answer, error) {
	p, err := c.newCopyPage(r)
	if err == nil {
		err = c.builds(r, "connector.copy", p.From)
	}
	return answer{page: p}, err
}

func (c *Console) copyConnector(r *request) (answer, error) {
	p, err := c.newCopyPage(r)
	if err != nil {
		return answer{}, err
	}
	p.Name = r.form("name")
	made, err := c.Connectors.Copy(r.Context(), r.who, p.From, p.Name)
	if p.Errors = problemsOf(err); p.Errors != nil {
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return answer{redirect: connectorPath(made.Name, "details"), flash: made.Title + " is copied. The copy is yours to change."}, nil
}

// yamlPage is the text of a definition: a new one, or one that is edited.
type yamlPage struct {
	Frame
	Name       string // "" for a new one
	Action     string
	Text       string
	Revision   int64
	NewVersion bool
	Breaks     bool // it can be saved as a new version only
	Problems   []string
	Findings   []grantway.Finding
	Checked    bool
}

func (c *Console) importConnectorPage(r *request) (answer, error) {
	return answer{page: newImportPage("")}, c.builds(r, "connector.create", "")
}

// builds checks that the person may change connectors.
func (c *Console) builds(r *request, action, name string) error {
	return c.Audit.Require(r.Context(), r.who, access.WriteConnector, access.Everywhere, grantway.Event{Action: action, Object: "connector/" + name})
}

func newImportPage(text string) *yamlPage {
	return &yamlPage{Frame: frame("yaml", "Import a connector", integrationsAt, connectorsAt), Action: "/connectors/import", Text: text}
}

func yamlText(r *request) string { return strings.ReplaceAll(r.PostFormValue("yaml"), "\r\n", "\n") }

func (c *Console) importConnector(r *request) (answer, error) {
	p := newImportPage(yamlText(r))
	if r.form("do") == "check" || r.restored {
		return c.checkYAML(r, p)
	}
	made, err := c.Connectors.Create(r.Context(), r.who, []byte(p.Text))
	return c.savedYAML(p, made, err, "is imported.")
}

// checkYAML says what is wrong with a text, and saves nothing.
func (c *Console) checkYAML(r *request, p *yamlPage) (answer, error) {
	check, err := c.Connectors.Check(r.Context(), r.who, []byte(p.Text))
	p.Findings, p.Checked = check.Findings, check.OK
	return answer{page: p}, err
}

func (c *Console) savedYAML(p *yamlPage, saved grantway.Connector, err error, done string) (answer, error) {
	if p.Problems, p.Breaks = refusal(err); p.Problems != nil {
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return answer{redirect: connectorPath(saved.Name, "details"), flash: saved.Title + " " + done + warnings(saved)}, nil
}

// warnings are what is suspicious in a definition that was saved.
func warnings(saved grantway.Connector) (text string) {
	for _, f := range saved.Findings {
		text += " " + sentence(f.String())
	}
	return text
}

var position = regexp.MustCompile(`^[0-9]+:[0-9]+: `)

// inWords is a field of a definition as the builder calls it, without its place in a text that
// nobody sees there.
func inWords(s *connector.Source, f grantway.Field) grantway.Field {
	f.Detail = position.ReplaceAllString(f.Detail, "")
	path := strings.Split(strings.TrimPrefix(f.Pointer, "/"), "/")
	if len(path) < 2 || path[0] != "inputs" {
		return f
	}
	i, err := strconv.Atoi(path[1])
	if err == nil && i >= 0 && i < len(s.Inputs) {
		f.Pointer = strings.Join(append([]string{"variable “" + cmp.Or(s.Inputs[i].Title, s.Inputs[i].Key) + "”:"}, path[2:]...), " ")
	}
	return f
}

// builderRefusal is refusal in the words of the builder.
func builderRefusal(err error, s *connector.Source) (lines []string, breaks bool) {
	var e *grantway.Error
	if errors.As(err, &e) {
		spoken := *e
		spoken.Fields = nil
		for _, f := range e.Fields {
			spoken.Fields = append(spoken.Fields, inWords(s, f))
		}
		err = &spoken
	}
	return refusal(err)
}

// refusal says why a definition was not saved, line by line, and whether it breaks credentials;
// nil when err is about something else.
func refusal(err error) (lines []string, breaks bool) {
	var e *grantway.Error
	if !errors.As(err, &e) || !slices.Contains([]grantway.Code{grantway.Invalid, grantway.Conflict, grantway.PreconditionFailed}, e.Code) {
		return nil, false
	}
	if e.Code == grantway.PreconditionFailed {
		return []string{"Somebody else saved this connector meanwhile. Open it in another tab to see what changed; what you entered is still here."}, false
	}
	for _, f := range e.Fields {
		lines = append(lines, sentence(strings.TrimSpace(strings.ReplaceAll(strings.TrimPrefix(f.Pointer, "/"), "/", ".")+" "+f.Detail)))
	}
	if lines == nil {
		lines = []string{sentence(e.Message)}
	}
	return lines, e.Code == grantway.Conflict && strings.Contains(e.Message, "new version")
}

func (c *Console) newYAMLPage(r *request) (*yamlPage, error) {
	one, err := c.own(r, "connector.update")
	if err != nil {
		return nil, err
	}
	return &yamlPage{Frame: frame("yaml", "Edit "+one.Title+" as YAML", integrationsAt, connectorsAt, crumb{one.Title, connectorPath(one.Name, "details")}),
		Name: one.Name, Action: connectorPath(one.Name, "yaml"), Text: one.YAML, Revision: one.Revision, Findings: one.Findings}, nil
}

// own is the newest version of a connector that the person may change.
func (c *Console) own(r *request, action string) (grantway.Connector, error) {
	one, err := c.Connectors.Get(r.Context(), r.who, r.PathValue("name"), 0)
	if err != nil {
		return one, err
	}
	if err := c.builds(r, action, one.Name); err != nil {
		return one, err
	}
	if one.Source != grantway.OwnConnector {
		return one, grantway.Errorf(grantway.Conflict, "the connector %s comes with the hub and cannot be changed; copy it and change the copy", one.Name)
	}
	return one, nil
}

func (c *Console) yamlConnectorPage(r *request) (answer, error) {
	p, err := c.newYAMLPage(r)
	return answer{page: p}, err
}

func (c *Console) yamlConnector(r *request) (answer, error) {
	p, err := c.newYAMLPage(r)
	if err != nil {
		return answer{}, err
	}
	p.Text, p.NewVersion, p.Findings = yamlText(r), r.form("new_version") != "", nil
	if n, err := strconv.ParseInt(r.form("revision"), 10, 64); err == nil {
		p.Revision = n
	}
	if r.form("do") == "check" || r.restored {
		return c.checkYAML(r, p)
	}
	saved, err := c.Connectors.Save(r.Context(), r.who, p.Name, []byte(p.Text), p.Revision, p.NewVersion)
	return c.savedYAML(p, saved, err, "is saved.")
}

func (c *Console) connectorDeletion(r *request) (*deletePage, error) {
	one, err := c.own(r, "connector.delete")
	if err != nil {
		return nil, err
	}
	back := connectorPath(one.Name, "details")
	return &deletePage{Frame: frame("delete", "Delete "+one.Title, integrationsAt, connectorsAt, crumb{one.Title, back}), Kind: "connector", Name: one.Name,
		Action: connectorPath(one.Name, "delete"), Back: back, Blocked: one.UsedBy,
		Breaks: []string{"The definition is gone for good, with all its versions. Export it first if you may need it again."},
		remove: func() error { return c.Connectors.Delete(r.Context(), r.who, one.Name, 0) },
		done:   answer{redirect: "/connectors", flash: one.Name + " is deleted."}}, nil
}

// indented is JSON as people read it.
func indented(v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return ""
	}
	return string(text)
}
