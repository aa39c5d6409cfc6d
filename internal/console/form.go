package console

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/seal"
)

// formPage adds or edits a credential.
type formPage struct {
	Frame
	ID, Name, Description, Division string
	Version                         int64
	Was                             string // the name it is stored under; "" for a new one
	Divisions                       []grantway.Division
	Stores                          []string
	Fields                          map[string]*field
	Advanced                        []*field
	AdvancedOpen                    bool
	AdvancedSet                     int // how many of them are set
	NoScope                         bool
	Hint                            string
	Restored                        bool

	Kept   string // secrets that were typed before, sealed
	Errors problems
	Wrong  []wrongField
	Report *grantway.Report
}

// wrongField is one line of the summary of errors, which leads to the field.
type wrongField struct{ Anchor, Title, Detail string }

// field is one input of the connector in a form.
type field struct {
	connector.Input
	Value  string
	Params []grantway.Param
	Error  string

	// Of secrets:
	External bool
	Ref      grantway.SecretRef
	Stored   bool     // an internal one is stored
	Typed    bool     // one was typed before this page was drawn again
	Stores   []string // to choose from
	Near     bool     // they are those at hand: environment and files
	Spelled  string   // the key as the store spells it, if that is another way
}

// When says with which choices the field is required; "" when that does not depend.
func (f *field) When() string {
	if f.RequiredWhen == nil {
		return ""
	}
	var titles []string
	for _, v := range f.RequiredWhen.Values {
		titles = append(titles, cmp.Or(methodTitles[v], v))
	}
	return "needed for " + strings.Join(titles, ", ")
}

// show fills the field with what is stored.
func (f *field) show(v grantway.Value) {
	f.Value, f.Params, f.Stored = v.Text, v.Params, v.Set
	if v.Ref != nil {
		f.External, f.Ref = true, *v.Ref
	}
}

// advanced says how many of the fields are set, and whether they should be shown: if they are
// open, or one of them is wrong.
func advanced(fields []*field, open bool) (set int, show bool) {
	for _, f := range fields {
		if f.Value != "" || f.Params != nil || f.Stored || f.External || f.Typed {
			set++
		}
		open = open || f.Error != ""
	}
	return set, open
}

// methodTitles are the authentication methods, and ways to sign in to secret stores, as
// people read them.
var methodTitles = map[string]string{
	"client_secret_basic":         "HTTP Basic",
	"client_secret_post":          "In the body",
	"client_secret_jwt":           "JWT signed with the secret",
	"private_key_jwt":             "JWT signed with a private key",
	"tls_client_auth":             "Client certificate (authority)",
	"self_signed_tls_client_auth": "Client certificate (self-signed)",
	"none":                        "None (public client)",

	"token": "Token", "approle": "AppRole", "kubernetes": "Kubernetes", "jwt": "JWT",
	"managed_identity": "Managed identity", "client_secret": "Client secret", "certificate": "Certificate", "workload_identity": "Workload identity",
}

// Choice is an option of a select.
type Choice struct {
	Value, Title string
	Selected     bool
}

// Choices are the options of a field that has some.
func (f *field) Choices() (list []Choice) {
	current := cmp.Or(f.Value, f.Default)
	if f.Default == "" {
		list = append(list, Choice{"", "Automatic", current == ""})
	}
	for _, v := range f.Enum {
		list = append(list, Choice{v, cmp.Or(methodTitles[v], v), v == current})
	}
	return list
}

// Rows are the parameters of a field, and some to fill in.
func (f *field) Rows() []grantway.Param {
	return append(slices.Clone(f.Params), grantway.Param{In: "body"}, grantway.Param{In: "body"})
}

// starred are the inputs that the form shows first; the others are folded away.
var starred = []string{"client_id", "client_secret", "token_endpoint", "scopes", "auth_method"}

func (c *Console) newForm(r *request, def *connector.Definition) (*formPage, error) {
	p := &formPage{Frame: frame("form", "Add Credentials", administration, globalSettings, credentialsAt), Division: grantway.DefaultDivision,
		Fields: map[string]*field{}, Stores: c.Secrets.Names()}
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
		f := &field{Input: in, Stores: p.Stores}
		p.Fields[in.Key] = f
		if !slices.Contains(starred, in.Key) {
			p.Advanced = append(p.Advanced, f)
		}
	}
	return p, err
}

func (c *Console) definition() (*connector.Definition, error) {
	def, ok := c.Broker.Definition(grantway.PlainConnector, 0)
	if !ok {
		return nil, errors.New("the connector of plain credentials is missing")
	}
	return def, nil
}

func (c *Console) addCredentialPage(r *request) (answer, error) {
	def, ok := c.Broker.Definition(cmp.Or(r.FormValue("type"), grantway.PlainConnector), 0)
	if !ok {
		return answer{}, grantway.Errorf(grantway.NotFound, "there is no type of credentials %q", r.FormValue("type"))
	}
	p, err := c.newForm(r, def)
	return answer{page: p}, err
}

// stored fills a form with a credential as it is saved.
func (c *Console) stored(p *formPage, saved grantway.Credential) {
	p.ID, p.Name, p.Was, p.Description, p.Division, p.Version = saved.ID, saved.Name, saved.Name, saved.Description, saved.Division, saved.Version
	p.Title = "Edit " + saved.Name
	p.Crumbs = []crumb{administration, globalSettings, credentialsAt, {saved.Name, "/credentials/" + saved.ID}}
	for key, f := range p.Fields {
		f.show(saved.Inputs[key])
		if there := c.Secrets.Spelling(f.Ref); there != f.Ref.Key {
			f.Spelled = there
		}
	}
	p.NoScope = p.Fields["scopes"].Value == ""
}

func (c *Console) editCredentialPage(r *request) (answer, error) {
	p, _, err := c.editForm(r, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	p.finish(nil)
	return answer{page: p}, nil
}

func (c *Console) editForm(r *request, id string) (*formPage, grantway.Credential, error) {
	saved, err := c.Broker.Get(r.Context(), r.who, id)
	if err != nil {
		return nil, saved, err
	}
	def, ok := c.Broker.Definition(saved.Connector, saved.ConnectorVersion)
	if !ok {
		return nil, saved, grantway.Errorf(grantway.Conflict, "this hub does not know the connector %q of the credential", saved.Connector)
	}
	p, err := c.newForm(r, def)
	if err == nil {
		c.stored(p, saved)
		if err = c.Audit.Require(r.Context(), r.who, access.WriteCredential, saved.Division, grantway.Event{Action: "credential.write", Object: "credential/" + saved.Name}); err != nil {
			return nil, saved, err
		}
	}
	return p, saved, err
}

// posted fills the form with what was sent, and returns the credential that it describes.
func (c *Console) posted(r *request) (*formPage, grantway.Credential, error) {
	var p *formPage
	var saved grantway.Credential
	var err error
	if id := cmp.Or(r.PathValue("id"), r.form("id")); id != "" {
		p, saved, err = c.editForm(r, id)
	} else {
		var def *connector.Definition
		if def, err = c.definition(); err == nil {
			p, err = c.newForm(r, def)
		}
	}
	if err != nil {
		return nil, saved, err
	}
	p.Name, p.Description, p.NoScope = r.form("name"), strings.ReplaceAll(r.form("description"), "\r\n", "\n"), r.form("no_scope") != ""
	p.Division = cmp.Or(r.form("division"), p.Division)
	kept := c.openKept(r)
	out := grantway.Credential{ID: p.ID, Name: p.Name, Description: p.Description, Division: p.Division, Connector: saved.Connector, ConnectorVersion: saved.ConnectorVersion, RateLimit: saved.RateLimit, TimeZone: saved.TimeZone, Inputs: grantway.Inputs{}}
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

// posted takes over what was entered for an input, of which saved is stored. given is false
// when there is nothing to say.
func (f *field) posted(r *request, saved grantway.Value, kept map[string]string) (v grantway.Value, given bool) {
	name := "in." + f.Key
	switch f.Type {
	case connector.SecretText:
		f.read(r, name, kept)
		return f.value(kept[f.Key]), true
	case connector.Parameters:
		f.Params = nil
		names, ins, values := r.PostForm[name+".name"], r.PostForm[name+".in"], r.PostForm[name+".value"]
		for i := range min(len(names), len(ins), len(values)) {
			if strings.TrimSpace(names[i]) != "" || values[i] != "" {
				f.Params = append(f.Params, grantway.Param{In: ins[i], Name: strings.TrimSpace(names[i]), Value: values[i]})
			}
		}
		return grantway.Value{Params: f.Params}, f.Params != nil
	}
	f.Value = strings.TrimSpace(strings.ReplaceAll(r.PostFormValue(name), "\r\n", "\n"))
	if f.Type == connector.Scopes {
		f.Value = strings.Join(strings.Fields(f.Value), " ")
	}
	if saved.Text == "" && f.Value == f.Default { // nobody said so
		f.Value = ""
	}
	return grantway.Text(f.Value), f.Value != ""
}

// read takes over what was entered for a secret. A secret that was typed joins kept, so
// that the page can be drawn again without it.
func (f *field) read(r *request, name string, kept map[string]string) {
	f.External = r.PostFormValue(name+".source") == "external"
	f.Ref = grantway.SecretRef{Store: r.form(name + ".store"), Key: r.form(name + ".key"), Field: r.form(name + ".field"), Version: r.form(name + ".version")}
	if text := strings.ReplaceAll(r.PostFormValue(name), "\r\n", "\n"); text != "" {
		kept[f.Key] = text
	}
	if r.PostFormValue(name+".remove") != "" {
		f.Stored = false
		delete(kept, f.Key)
	}
	if f.External {
		delete(kept, f.Key)
	}
	f.Typed = kept[f.Key] != ""
}

// value is what to save of a secret of which typed was entered; the empty value removes what
// is stored.
func (f *field) value(typed string) grantway.Value {
	switch {
	case f.External && f.Ref != (grantway.SecretRef{Store: f.Ref.Store}):
		ref := f.Ref
		return grantway.Value{Ref: &ref}
	case f.External:
		return grantway.Value{}
	case typed != "":
		return grantway.Text(typed)
	}
	return grantway.Value{Set: f.Stored}
}

func keptPlace(r *request) seal.Place {
	return seal.Place{Table: "console", Row: r.who.ID, Column: "kept"}
}

// sealKept is what was typed as secrets, for the form that is drawn again: nobody but the
// hub can read it, and it opens for this person only.
func (c *Console) sealKept(r *request, kept map[string]string) (string, error) {
	if len(kept) == 0 {
		return "", nil
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return "", err
	}
	sealed, err := c.Sealer.Seal(keptPlace(r), text)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

func (c *Console) openKept(r *request) map[string]string {
	kept := map[string]string{}
	if sealed, err := base64.RawURLEncoding.DecodeString(r.PostFormValue("kept")); err == nil && len(sealed) > 0 {
		if plain, err := c.Sealer.Open(keptPlace(r), sealed); err == nil && json.Unmarshal(plain, &kept) != nil {
			clear(kept)
		}
	}
	return kept
}

// missing finds the starred fields that are empty.
func (p *formPage) missing() problems {
	wrong := problems{}
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

// summary puts errors beside their fields, and lists them.
func summary(wrong problems, fields map[string]*field) (list []wrongField) {
	for _, key := range slices.Sorted(maps.Keys(wrong)) {
		w := wrongField{Detail: wrong[key]}
		input, isInput := strings.CutPrefix(key, "/inputs/")
		input, _, _ = strings.Cut(input, "/")
		switch name := strings.TrimPrefix(key, "/"); {
		case isInput && fields[input] != nil:
			fields[input].Error = wrong[key]
			w.Anchor, w.Title = "in."+input, fields[input].Title
		case slices.Contains([]string{"name", "description", "division"}, name):
			w.Anchor, w.Title = name, strings.ToUpper(name[:1])+name[1:]
		}
		list = append(list, w)
	}
	return list
}

// finish puts errors beside their fields.
func (p *formPage) finish(wrong problems) {
	p.Errors, p.Wrong = wrong, summary(wrong, p.Fields)
	method := cmp.Or(p.Fields["auth_method"].Value, p.Fields["auth_method"].Default)
	p.AdvancedOpen = strings.Contains(method, "jwt") || strings.Contains(method, "tls") // what they need is there
	p.AdvancedSet, p.AdvancedOpen = advanced(p.Advanced, p.AdvancedOpen)
	if p.NoScope {
		p.AdvancedSet++
	}
	if p.Description != "" {
		p.AdvancedSet++
	}
	if p.Errors["/description"]+p.Errors["/division"] != "" {
		p.AdvancedOpen = true
	}
	p.Hint = broker.EndpointHint(p.Fields["token_endpoint"].Value, cmp.Or(p.Fields["auth_method"].Value, "client_secret_basic"))
}

func (c *Console) saveCredential(r *request) (answer, error) {
	p, wanted, err := c.posted(r)
	if err != nil {
		return answer{}, err
	}
	if r.restored {
		p.Restored = true
		p.finish(nil)
		return answer{page: p}, nil
	}
	if wrong := p.missing(); wrong != nil {
		p.finish(wrong)
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	saved, err := c.Broker.Save(r.Context(), r.who, wanted)
	if wrong := problemsOf(err); wrong != nil {
		if e := asError(err); e.Code == grantway.Conflict && e.Fields == nil {
			wrong = problems{"/name": e.Message}
		}
		p.finish(wrong)
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	if e := asError(err); e != nil && e.Code == grantway.PreconditionFailed {
		p.finish(problems{"": "Somebody else saved this credential meanwhile. Open it in another tab to see what changed; saving again replaces that."})
		return answer{page: p, status: http.StatusPreconditionFailed}, nil
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
		p.Restored = true
		p.finish(nil)
		return answer{page: p}, nil
	}
	wanted.Version = 0
	report, err := c.Broker.Validate(r.Context(), r.who, wanted)
	if wrong := problemsOf(err); wrong != nil {
		report = grantway.Report{Steps: []grantway.Step{{Name: "settings", Result: "failed", Message: sentence(publicText(err))}}}
		err = nil
		p.finish(wrong)
	} else {
		p.finish(nil)
	}
	if err != nil {
		return answer{}, err
	}
	p.Report = &report
	a := answer{page: p}
	if r.htmx {
		a.part = "report-part"
	}
	return a, nil
}

// hintPage is the advice below the token endpoint.
type hintPage struct {
	Frame
	Hint string
}

func (c *Console) endpointHint(r *request) (answer, error) {
	return answer{page: &hintPage{frame("form", ""), broker.EndpointHint(r.FormValue("in.token_endpoint"), r.FormValue("in.auth_method"))}, part: "hint"}, nil
}

func asError(err error) *grantway.Error {
	var e *grantway.Error
	errors.As(err, &e)
	return e
}
