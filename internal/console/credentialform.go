package console

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
)

// credentialForm adds or edits a credential, be it plain or an instance of another connector: what it
// asks for is what the definition asks for.
type credentialForm struct {
	Frame
	sent
	Connector                       grantway.Connector
	Plain                           bool
	Note                            string // what has to be done at the vendor first
	Action, Cancel, Verb            string
	ID, Name, Description, Division string
	Version                         int64
	Was                             string // the name it is stored under; "" for a new one
	Divisions                       []grantway.Division
	Stores                          []string
	Requests, Per                   string // the rate limit
	TimeZone                        string
	Fields                          map[string]*field
	Starred                         []*field // what is asked first; plain credentials have a layout of their own
	Advanced                        []*field
	AdvancedOpen                    bool
	AdvancedSet                     int // how many of them are set
	NoScope                         bool
	Hint                            string

	Refused bool // the report is of settings that cannot be saved
}

// starred are the inputs of plain credentials that the form shows first; the others are folded away.
var starred = []string{"client_id", "client_secret", "token_endpoint", "scopes", "auth_method"}

func (c *Console) newForm(r *request, def *connector.Definition, version int64) (*credentialForm, error) {
	p := &credentialForm{Frame: frame("form", "Add Credentials", administration, globalSettings, credentialsAt), Division: grantway.DefaultDivision,
		Fields: map[string]*field{}, Stores: c.Secrets.Names(), Plain: def.Name == grantway.PlainConnector}
	p.Action, p.Cancel, p.Verb = "/credentials/add", "/credentials", "Add"
	p.Connector = grantway.Connector{Name: def.Name, Title: def.Title, Version: version, Vendor: def.Source.Vendor, Description: def.Source.Description,
		Documentation: def.Source.Documentation, Checked: def.Source.Checked, Unverified: def.Source.Unverified}
	if !p.Plain {
		p.Frame = frame("form", "Selected Integrations", integrationsAt)
		p.at, p.Action, p.Cancel, p.Verb = "/integrations", "/integrations/"+def.Name, "/integrations", "Save Integration"
		if h := def.Source.Hints; h != nil {
			p.Note = h.Note
		}
	}
	all, err := c.Divisions.List(r.Context(), r.who)
	for _, d := range all {
		if r.who.May(access.WriteCredential, d.Name) {
			p.Divisions = append(p.Divisions, d)
		}
	}
	if len(p.Divisions) > 0 && !slices.ContainsFunc(p.Divisions, func(d grantway.Division) bool { return d.Name == p.Division }) {
		p.Division = p.Divisions[0].Name
	}
	for _, in := range def.Inputs {
		if in.Locked {
			continue
		}
		f := &field{Input: in, Stores: p.Stores}
		p.Fields[in.Key] = f
		switch {
		case p.Plain && slices.Contains(starred, in.Key): // at a place of its own
		case !p.Plain && asked(in):
			p.Starred = append(p.Starred, f)
		default:
			p.Advanced = append(p.Advanced, f)
		}
	}
	return p, err
}

// chosen is the definition that a form is for: that of the address, of the form, or of plain credentials.
func (c *Console) chosen(r *request) (*connector.Definition, int64, error) {
	name := cmp.Or(r.PathValue("name"), r.form("connector"), r.FormValue("type"), grantway.PlainConnector)
	found, ok := c.Connectors.Find(name, 0)
	switch {
	case !ok || found.Definition != nil && found.Source.Abstract:
		return nil, 0, grantway.Errorf(grantway.NotFound, "there is no integration %q", name)
	case found.Definition == nil:
		return nil, 0, found.Broken
	}
	return found.Definition, found.Version, nil
}

func (c *Console) addCredentialPage(r *request) (answer, error) {
	def, version, err := c.chosen(r)
	if err != nil {
		return answer{}, err
	}
	p, err := c.newForm(r, def, version)
	return answer{page: p}, err
}

// stored fills a form with a credential as it is saved.
func (c *Console) stored(p *credentialForm, saved grantway.Credential) {
	p.ID, p.Name, p.Was, p.Description, p.Division, p.Version = saved.ID, saved.Name, saved.Name, saved.Description, saved.Division, saved.Version
	p.Title = "Edit " + saved.Name
	p.at, p.Crumbs = whereIs(saved)
	p.Action, p.Cancel, p.Verb = "/credentials/"+saved.ID+"/edit", "/credentials/"+saved.ID, "Save"
	if p.TimeZone = saved.TimeZone; saved.RateLimit != nil {
		p.Requests, p.Per = strconv.Itoa(saved.RateLimit.Requests), strconv.FormatInt(int64(saved.RateLimit.Per), 10)
	}
	for key, f := range p.Fields {
		f.show(saved.Inputs[key])
		if there := c.Secrets.Spelling(f.Ref); there != f.Ref.Key {
			f.Spelled = there
		}
	}
	p.NoScope = p.text("scopes") == ""
}

// text is the value of a field; "" when there is none of that key.
func (p *credentialForm) text(key string) string {
	if f := p.Fields[key]; f != nil {
		return f.Value
	}
	return ""
}

// whereIs is the entry of the menu that a credential belongs to, and the way to it.
func whereIs(saved grantway.Credential) (at string, crumbs []crumb) {
	this := crumb{saved.Name, "/credentials/" + saved.ID}
	if saved.Connector != grantway.PlainConnector {
		return "/instances", []crumb{integrationsAt, instancesAt, this}
	}
	return "/credentials", []crumb{administration, globalSettings, credentialsAt, this}
}

func (c *Console) editCredentialPage(r *request) (answer, error) {
	p, _, err := c.editForm(r, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	p.finish(nil)
	return answer{page: p}, nil
}

func (c *Console) editForm(r *request, id string) (*credentialForm, grantway.Credential, error) {
	saved, err := c.Broker.Get(r.Context(), r.who, id)
	if err != nil {
		return nil, saved, err
	}
	version := saved.ConnectorVersion
	if n, err := strconv.ParseInt(r.FormValue("connector_version"), 10, 64); err == nil { // moved to another one
		version = n
	}
	found, ok := c.Connectors.Find(saved.Connector, version)
	switch {
	case !ok:
		return nil, saved, grantway.Errorf(grantway.Conflict, "this hub does not know version %d of the connector %q", version, saved.Connector)
	case found.Definition == nil:
		return nil, saved, found.Broken
	}
	p, err := c.newForm(r, found.Definition, found.Version)
	if err == nil {
		c.stored(p, saved)
		if err = c.Audit.Require(r.Context(), r.who, access.WriteCredential, saved.Division, grantway.Event{Action: "credential.write", Object: "credential/" + saved.Name}); err != nil {
			return nil, saved, err
		}
	}
	return p, saved, err
}

// posted fills the form with what was sent, and returns the credential that it describes.
func (c *Console) posted(r *request) (*credentialForm, grantway.Credential, error) {
	var p *credentialForm
	var saved grantway.Credential
	var err error
	if id := cmp.Or(r.PathValue("id"), r.form("id")); id != "" {
		p, saved, err = c.editForm(r, id)
	} else {
		var def *connector.Definition
		var version int64
		if def, version, err = c.chosen(r); err == nil {
			p, err = c.newForm(r, def, version)
		}
	}
	if err != nil {
		return nil, saved, err
	}
	p.Name, p.Description, p.NoScope = r.form("name"), strings.ReplaceAll(r.form("description"), "\r\n", "\n"), r.form("no_scope") != ""
	p.Division = cmp.Or(r.form("division"), p.Division)
	kept := c.openKept(r)
	out := grantway.Credential{ID: p.ID, Name: p.Name, Description: p.Description, Division: p.Division, Connector: p.Connector.Name, ConnectorVersion: p.Connector.Version, Inputs: grantway.Inputs{}}
	p.Requests, p.Per, p.TimeZone = r.form("rate_limit"), r.form("rate_limit_per"), r.form("time_zone")
	if out.TimeZone = p.TimeZone; p.Requests != "" {
		requests, _ := strconv.Atoi(p.Requests) // 0 is refused with all the rest
		per, err := strconv.Atoi(cmp.Or(p.Per, "60"))
		if err != nil {
			per = 0
		}
		out.RateLimit = &grantway.RateLimit{Requests: requests, Per: grantway.Seconds(per)}
	}
	if r.form("version") != "" && p.ID != "" {
		out.Version = p.Version
		if v := r.form("version"); v != strconv.FormatInt(p.Version, 10) {
			out.Version = -1 // not the current one, whatever it was
		}
	}
	for key, f := range p.Fields {
		if v, given := f.posted(r, saved.Inputs[key], kept); given {
			out.Inputs[key] = v
		}
	}
	p.Kept, err = c.sealKept(r, kept)
	return p, out, err
}

// missing finds the starred fields of plain credentials that are empty. The definitions of other
// connectors say all there is to say, and Save reads them.
func (p *credentialForm) missing() problems {
	wrong := problems{}
	if !p.Plain {
		return nil
	}
	if p.Name == "" {
		wrong["/name"] = "is required"
	}
	for _, key := range []string{"client_id", "token_endpoint"} {
		if p.Fields[key].Value == "" {
			wrong["/inputs/"+key] = "is required"
		}
	}
	if p.Fields["scopes"].Value == "" && !p.NoScope {
		wrong["/inputs/scopes"] = "is required; if the server knows no scopes, choose “Send no scope parameter” under Advanced"
	}
	secret, method := p.Fields["client_secret"], p.Fields["auth_method"]
	if slices.Contains([]string{"", "client_secret_basic", "client_secret_post", "client_secret_jwt"}, method.Value) {
		switch {
		case secret.External && secret.Ref.Key == "":
			wrong["/inputs/client_secret"] = "needs the name of a key in the secret store"
		case !secret.External && !secret.Typed && !secret.Stored:
			wrong["/inputs/client_secret"] = "is required"
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return wrong
}

// finish puts errors beside their fields.
func (p *credentialForm) finish(wrong problems) {
	p.Errors, p.Wrong = wrong, summary(wrong, p.Fields)
	method := p.text("auth_method")
	p.AdvancedOpen = strings.Contains(method, "jwt") || strings.Contains(method, "tls") // what they need is there
	p.AdvancedSet, p.AdvancedOpen = advanced(p.Advanced, p.AdvancedOpen)
	for _, set := range []bool{p.Plain && p.NoScope, p.Description != "", p.Requests != "", p.TimeZone != ""} {
		if set {
			p.AdvancedSet++
		}
	}
	for _, pointer := range []string{"/description", "/division", "/rate_limit", "/time_zone"} {
		p.AdvancedOpen = p.AdvancedOpen || p.Errors[pointer] != ""
	}
	switch grant := p.text("grant_type"); {
	case !p.Plain && otherGrant(grant):
		p.Hint = grantHint(grant)
	case p.Fields["token_endpoint"] != nil && p.Fields["auth_method"] != nil:
		p.Hint = broker.EndpointHint(p.text("token_endpoint"), cmp.Or(method, "client_secret_basic"))
	}
}

// otherGrant tells whether a grant type that is set is another one than client credentials.
func otherGrant(grant string) bool { return grant != "" && grant != "client_credentials" }

// grantHint says what a grant with a person's password means.
func grantHint(grant string) string {
	return "With the grant type “" + grant + "” this is no longer a client credentials grant: the token may act as a person, and with that person's rights."
}

func (c *Console) saveCredential(r *request) (answer, error) {
	p, wanted, err := c.posted(r)
	if err != nil {
		return answer{}, err
	}
	if r.restored {
		return restored(p), nil
	}
	if wrong := p.missing(); wrong != nil {
		p.finish(wrong)
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	saved, err := c.Broker.Save(r.Context(), r.who, wanted)
	if again, ok := refused(p, err); ok {
		return again, nil
	}
	if err != nil {
		return answer{}, err
	}
	flash := saved.Name + " is saved."
	if p.Was == "" {
		flash = saved.Name + " is added."
	}
	for _, w := range saved.Warnings {
		flash += " " + sentence(w.Detail)
	}
	return answer{redirect: "/credentials/" + saved.ID, flash: flash}, nil
}

func (c *Console) validateDraft(r *request) (answer, error) {
	p, wanted, err := c.posted(r)
	if err != nil {
		return answer{}, err
	}
	if r.restored {
		return restored(p), nil
	}
	wanted.Version = 0
	report, err := c.Broker.Validate(r.Context(), r.who, wanted)
	a, err := tried(r, p, report, err, "report-part")
	if err == nil {
		p.Refused = p.title(p.Report)
	}
	return a, err
}

// title calls the inputs in a report by the titles that the form gives them, and says whether
// the settings are so wrong that they cannot be saved either.
func (p *credentialForm) title(report *grantway.Report) (refused bool) {
	keys := slices.SortedFunc(maps.Keys(p.Fields), func(a, b string) int { return strings.Compare(b, a) }) // of two that begin alike the longer first
	var titles []string
	for _, key := range keys {
		titles = append(titles, "inputs/"+key, p.Fields[key].Title)
	}
	in := strings.NewReplacer(titles...)
	for i, step := range report.Steps {
		if step.Name == "settings" {
			report.Steps[i].Message = in.Replace(step.Message)
			refused = step.Result == "failed"
		}
	}
	return refused
}

// hintPage is the advice below the token endpoint.
type hintPage struct {
	Frame
	Hint string
}

func (c *Console) endpointHint(r *request) (answer, error) {
	return answer{page: &hintPage{frame("form", ""), broker.EndpointHint(r.FormValue("in.token_endpoint"), r.FormValue("in.auth_method"))}, part: "hint"}, nil
}
