package console

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
)

// The builder edits the Source of a connector, one tab at a time. A tab is a list of parts that
// point into the Source: the same list draws the form and reads it. What no part points at
// stays as it is written.

// tabTitles are the tabs in order.
var tabTitles = []Choice{
	{Value: "variables", Title: "Variables"}, {Value: "url", Title: "URL"}, {Value: "header", Title: "Header"}, {Value: "body", Title: "Body"}, {Value: "response", Title: "Response"},
	{Value: "api", Title: "API"}, {Value: "endpoints", Title: "Endpoints"}, {Value: "verify", Title: "Verify"}, {Value: "try", Title: "Try it"}, {Value: "yaml", Title: "YAML"},
}

type tabLink struct {
	Title, Path string
	Active      bool
}

// tabsOf are the tabs of a connector; those about the token request only if there is one request.
func (c *Console) tabsOf(name, here string) (list []tabLink) {
	one := true
	if found, ok := c.Connectors.Find(name, 0); ok && found.Definition != nil {
		one = found.Source.OAuth2 != nil || found.Source.Request != nil
	}
	for _, tab := range tabTitles {
		if !one && slices.Contains(requestTabs, tab.Value) {
			continue
		}
		path := connectorPath(name, "build/"+tab.Value)
		if tab.Value == "try" || tab.Value == "yaml" {
			path = connectorPath(name, tab.Value)
		}
		list = append(list, tabLink{tab.Title, path, tab.Value == here})
	}
	return list
}

var requestTabs = []string{"url", "header", "body", "response"}

// builderPage is one tab.
type builderPage struct {
	Frame
	Name, Tab string
	Tabs      []tabLink
	Lead      string
	Revision  int64
	Extends   string // what has to be written out first
	Parts     []part
	Endpoint  string // which endpoint is edited; "new" is another one
	Endpoints []connector.Endpoint

	Problems   []string
	Breaks     bool
	NewVersion bool
	Unsaved    bool
	Findings   []grantway.Finding
	Hint       string
	Previews   bool // the tab has a part in the token request
	Preview    trial
}

// trial is what became of a draft.
type trial struct {
	grantway.ConnectorTrial
	Problems []string // why there is none
	Sent     bool
}

var leads = map[string]string{
	"variables": "What an instance has to fill in. A key never changes once it is saved, since requests and instances refer to it; everything else can.",
	"url":       "Where the token is asked for. {{key}} puts in a variable, escaped for its place.",
	"header":    "Headers of the token request. The content type decides how the body is encoded.",
	"body":      "What the token request sends. Parameters whose value comes out empty are left out.",
	"response":  "Where the token stands in the answer, and how long it is valid.",
	"api":       "How requests to the application are authorized with the token, or with the variables alone.",
	"endpoints": "Requests to the application that are worth a name. Nothing of the token request is sent with them.",
	"verify":    "A harmless request, which Validate sends to see whether the token is accepted.",
}

// newBuilderPage opens a tab of a connector, and returns the definition that is edited.
func (c *Console) newBuilderPage(r *request) (*builderPage, *connector.Source, grantway.Connector, error) {
	one, err := c.own(r, "connector.update")
	if err != nil {
		return nil, nil, one, err
	}
	tab := r.PathValue("tab")
	p := &builderPage{Frame: frame("builder", one.Title, integrationsAt, connectorsAt, crumb{one.Title, connectorPath(one.Name, "details")}),
		Name: one.Name, Tab: tab, Lead: leads[tab], Revision: one.Revision, Findings: one.Findings, Endpoint: r.FormValue("endpoint")}
	p.Crumbs = p.Crumbs[:2]
	if p.Lead == "" {
		return nil, nil, one, grantway.Errorf(grantway.NotFound, "there is no tab of that name")
	}
	s, err := connector.ParseSource([]byte(one.YAML))
	if err != nil {
		return nil, nil, one, grantway.Errorf(grantway.Conflict, "the definition of %s cannot be read; edit it as YAML", one.Name)
	}
	p.Tabs, p.Extends = c.tabsOf(one.Name, tab), s.Extends
	p.Previews = s.OAuth2 != nil || s.Request != nil
	if slices.Contains(requestTabs, tab) && !p.Previews && s.Extends == "" {
		return nil, nil, one, grantway.Errorf(grantway.NotFound, "the token is not got by one request; edit it as YAML")
	}
	p.Previews = p.Previews && (tab == "variables" || slices.Contains(requestTabs, tab))
	return p, s, one, nil
}

// draw fills the page from s, which is what is saved or what was entered.
func (c *Console) draw(r *request, p *builderPage, s *connector.Source, text []byte) error {
	keys := []string{}
	for _, in := range s.Inputs {
		if in.Key != "" {
			keys = append(keys, in.Key)
		}
	}
	for i := range p.Parts {
		p.Parts[i].keys = keys
	}
	p.Endpoints, p.Hint = s.Endpoints, sourceHint(s)
	if p.Extends != "" || !p.Previews {
		return nil
	}
	clean := *s
	clean.Inputs = slices.DeleteFunc(slices.Clone(s.Inputs), func(in connector.Input) bool { return in.Key == "" })
	prune(&clean)
	filled := fill(p.Parts)
	draft := string(connector.Edit(text, &clean))
	filled()
	shown, err := c.Broker.Show(r.Context(), r.who, grantway.ConnectorDraft{YAML: draft, Inputs: samples(clean.Inputs)})
	p.Preview = trial{ConnectorTrial: shown}
	if p.Preview.Problems, _ = builderRefusal(err, s); p.Preview.Problems != nil {
		return nil
	}
	return err
}

// fill takes the rows that nobody has filled in yet out of the definition, until restore.
func fill(list []part) (restore func()) {
	var undo []func()
	take := func(at *connector.Pairs) {
		all := *at
		undo = append(undo, func() { *at = all })
		*at = nil
		for _, pair := range all {
			if pair.Name != "" {
				*at = append(*at, pair)
			}
		}
	}
	for _, p := range list {
		switch {
		case p.Pairs != nil:
			take(p.Pairs)
		case p.Body != nil && *p.Body != nil:
			take(&(*p.Body).Pairs)
			take(&(*p.Body).Form)
			take(&(*p.Body).Multipart)
		}
	}
	return func() {
		for _, one := range undo {
			one()
		}
	}
}

// samples are values to show a request with.
func samples(inputs []connector.Input) grantway.Inputs {
	list := grantway.Inputs{}
	for _, in := range inputs {
		if in.Default != "" || in.Locked || in.Pattern != "" {
			continue
		}
		text := ""
		switch in.Type {
		case connector.SecretText:
			text = "secret"
		case connector.Enum:
			if len(in.Enum) > 0 {
				text = in.Enum[0]
			}
		case connector.URL, connector.URI:
			text = "https://" + strings.ReplaceAll(strings.ToLower(in.Key), "_", "-") + ".example.com"
		case connector.Hostname:
			text = "host.example.com"
		case connector.Integer, connector.Seconds:
			text = "60"
		case connector.Date:
			text = time.Now().Format(time.DateOnly)
		case connector.String, "", connector.Scopes:
			if in.Required {
				text = "your-" + nameFor(cmp.Or(in.Title, in.Key))
			}
		}
		if in.Type == connector.Scopes {
			text = ""
		}
		if text != "" {
			list[in.Key] = grantway.Text(text)
		}
	}
	return list
}

// sourceHint warns of a grant type that is not client credentials.
func sourceHint(s *connector.Source) string {
	grant := ""
	for _, in := range s.Inputs {
		if in.Key == "grant_type" {
			grant = in.Default
		}
	}
	if s.OAuth2 != nil && !strings.Contains(s.OAuth2.GrantType, "{{") {
		grant = cmp.Or(s.OAuth2.GrantType, grant)
	}
	if s.Request != nil && s.Request.Body != nil {
		for _, pair := range slices.Concat(s.Request.Body.Pairs, s.Request.Body.Form) {
			if pair.Name == "grant_type" && !strings.Contains(pair.Value, "{{") {
				grant = pair.Value
			}
		}
	}
	if otherGrant(grant) {
		return grantHint(grant)
	}
	return ""
}

func (c *Console) builder(r *request) (answer, error) {
	p, s, one, err := c.newBuilderPage(r)
	if err != nil {
		return answer{}, err
	}
	if p.Extends == "" {
		p.Parts = parts(s, p.Tab, p.Endpoint)
	}
	return answer{page: p}, c.draw(r, p, s, []byte(one.YAML))
}

// edited reads a tab into the definition.
func (c *Console) edited(r *request) (*builderPage, *connector.Source, grantway.Connector, error) {
	p, s, one, err := c.newBuilderPage(r)
	if err != nil {
		return nil, nil, one, err
	}
	p.NewVersion = r.form("new_version") != ""
	if n, err := strconv.ParseInt(r.form("revision"), 10, 64); err == nil {
		p.Revision = n
	}
	if p.Extends != "" {
		return p, s, one, nil
	}
	p.Parts = parts(s, p.Tab, p.Endpoint)
	for i := range p.Parts {
		p.Parts[i].read(r)
		if e := p.Parts[i].Error; e != "" {
			p.Problems = append(p.Problems, sentence(p.Parts[i].Title+" "+e))
		}
	}
	return p, s, one, nil
}

func (c *Console) saveBuilder(r *request) (answer, error) {
	p, s, one, err := c.edited(r)
	if err != nil {
		return answer{}, err
	}
	path := connectorPath(p.Name, "build/"+p.Tab)
	do := r.form("do")
	switch {
	case p.Extends != "" && do == "detach":
		found, _ := c.Connectors.Find(p.Name, 0)
		if found.Definition == nil {
			return answer{}, found.Broken
		}
		whole := *found.Source
		whole.Extends, whole.Defaults, whole.Drop = "", nil, nil
		s = &whole
	case p.Extends != "":
		return answer{}, grantway.Errorf(grantway.Conflict, "the connector %s extends %s; write out what it inherits first", p.Name, p.Extends)
	case do == "drop" && p.Tab == "endpoints":
		s.Endpoints = slices.DeleteFunc(s.Endpoints, func(e connector.Endpoint) bool { return e.Name == p.Endpoint })
		p.Problems = nil
	case do != "" && do != "save" || r.restored || p.Problems != nil:
		p.Unsaved = true
		a := answer{page: p}
		if p.Problems != nil {
			a.status = http.StatusUnprocessableEntity
		}
		return a, c.draw(r, p, s, []byte(one.YAML))
	}
	prune(s)
	saved, err := c.Connectors.Save(r.Context(), r.who, p.Name, connector.Edit([]byte(one.YAML), s), p.Revision, p.NewVersion)
	if p.Problems, p.Breaks = builderRefusal(err, s); p.Problems != nil {
		if p.Extends == "" {
			p.Parts = reparted(p.Parts, s, p.Tab, p.Endpoint)
		}
		return answer{page: p, status: http.StatusUnprocessableEntity}, c.draw(r, p, s, []byte(one.YAML))
	}
	if err != nil {
		return answer{}, err
	}
	return answer{redirect: path, flash: "Saved." + warnings(saved)}, nil
}

// reparted are the parts of a tab after prune took out what they pointed at, with what they know.
func reparted(before []part, s *connector.Source, tab, endpoint string) []part {
	if endpoint == "new" && len(s.Endpoints) > 0 { // it is there already
		endpoint = s.Endpoints[len(s.Endpoints)-1].Name
	}
	after := parts(s, tab, endpoint)
	for i := range min(len(before), len(after)) {
		after[i].old, after[i].Typed = before[i].old, before[i].Typed
	}
	return after
}

// previewBuilder draws the request anew while somebody types.
func (c *Console) previewBuilder(r *request) (answer, error) {
	p, s, one, err := c.edited(r)
	if err != nil {
		return answer{}, err
	}
	if p.Problems != nil {
		p.Preview.Problems = p.Problems
		return answer{page: p, part: "preview"}, nil
	}
	return answer{page: p, part: "preview"}, c.draw(r, p, s, []byte(one.YAML))
}
