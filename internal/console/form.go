package console

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/seal"
)

// sent is what a form carries that comes back, with errors or with a report of what was tried.
type sent struct {
	Restored bool   // from before the person had to sign in again
	Kept     string // secrets that were typed, sealed
	Errors   problems
	Wrong    []wrongField
	Report   *grantway.Report
}

func (s *sent) sentForm() *sent { return s }

// form is a page that changes something.
type form interface {
	framed
	sentForm() *sent
	finish(wrong problems) // puts errors beside their fields
}

// restored shows a form as it was sent before a session ended, for the person to send it once more.
func restored(p form) answer {
	p.sentForm().Restored = true
	p.finish(nil)
	return answer{page: p}
}

// refused shows a form again with what err says is wrong. ok is false when err is about nothing that
// the person can change there.
func refused(p form, err error) (a answer, ok bool) {
	a = answer{page: p, status: http.StatusUnprocessableEntity}
	wrong := problemsOf(err)
	switch e := asError(err); {
	case e == nil:
	case e.Code == grantway.PreconditionFailed:
		a.status = http.StatusPreconditionFailed
		wrong = problems{"": "Somebody else saved this meanwhile. Open it in another tab to see what changed; saving again replaces that."}
	case e.Code == grantway.Forbidden:
		a.status = http.StatusForbidden
		wrong = problems{"": sentence(e.Message)}
	}
	if wrong == nil {
		return a, false
	}
	p.finish(wrong)
	return a, true
}

// tried shows a form with a report beside it. With err it was not tried: what is wrong is in the
// report and beside the fields.
func tried(r *request, p form, report grantway.Report, err error, part string) (answer, error) {
	if e := asError(err); e != nil && e.Code == grantway.Forbidden {
		return answer{}, err
	}
	if _, ok := refused(p, err); ok {
		var wrong []string
		for _, w := range p.sentForm().Wrong {
			wrong = append(wrong, strings.TrimSpace(w.Title+" "+w.Detail))
		}
		report = grantway.Report{Steps: []grantway.Step{{Name: "settings", Result: "failed", Message: sentence(strings.Join(wrong, "; "))}}}
	} else if err != nil {
		return answer{}, err
	} else {
		p.finish(nil)
	}
	p.sentForm().Report = &report
	a := answer{page: p}
	if r.htmx {
		a.part = part
	}
	return a, nil
}

// problems are the wrong fields of a form, by JSON pointer; "" is about the form as a whole.
type problems map[string]string

// problemsOf are the fields that err says are wrong; nil when it is about something else.
func problemsOf(err error) problems {
	var e *grantway.Error
	if !errors.As(err, &e) || e.Fields == nil && e.Code != grantway.Invalid && e.Code != grantway.Conflict {
		return nil
	}
	p := problems{}
	for _, f := range e.Fields {
		p[f.Pointer] = f.Detail
	}
	if len(p) == 0 {
		p[""] = sentence(e.Message)
	}
	return p
}

// wrongField is one line of the summary of errors, which leads to the field.
type wrongField struct{ Anchor, Title, Detail string }

// field is one input of the connector in a form.
type field struct {
	connector.Input
	Value  string
	Params []grantway.Param
	Error  string
	SignIn []string // of a secret store: the ways to sign in that it is of use for; nil is all

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
	if f.RequiredWhen == nil || f.Needed() {
		return ""
	}
	var titles []string
	for _, v := range f.RequiredWhen.Values {
		titles = append(titles, cmp.Or(methodTitles[v], v))
	}
	return "needed for " + strings.Join(titles, ", ")
}

// Needed says whether the field is required whenever it shows.
func (f *field) Needed() bool {
	return f.Required && f.Default == "" || f.SignIn != nil && f.RequiredWhen != nil && slices.Equal(f.SignIn, f.RequiredWhen.Values)
}

// For is SignIn as an attribute of HTML.
func (f *field) For() string { return strings.Join(f.SignIn, " ") }

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
	"federated":                   "JWT of another issuer (no secret)",

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
	switch {
	case f.Default == "" && f.Required:
		list = append(list, Choice{"", "Choose …", current == ""})
	case f.Default == "":
		list = append(list, Choice{"", "Automatic", current == ""})
	}
	for _, v := range f.Enum {
		list = append(list, Choice{v, cmp.Or(methodTitles[v], v), v == current})
	}
	if f.Type == connector.Boolean {
		list = append(list, Choice{"true", "Yes", current == "true"}, Choice{"false", "No", current == "false"})
	}
	return list
}

// Rows are the parameters of a field, and some to fill in.
func (f *field) Rows() []grantway.Param {
	return append(slices.Clone(f.Params), grantway.Param{In: "body"}, grantway.Param{In: "body"})
}

// asked tells whether a form asks for an input first: because nothing else says it, or because
// it is a choice that the person has to make. The others are folded away.
func asked(in connector.Input) bool {
	return !in.Advanced && (in.Required && in.Default == "" || in.RequiredWhen != nil || in.Type == connector.Enum)
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

// pointers are the fields that are wrong, the name first as in the forms.
func (p problems) pointers() []string {
	return slices.SortedFunc(maps.Keys(p), func(a, b string) int {
		if (a == "/name") != (b == "/name") {
			if a == "/name" {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
}

// summary puts errors beside their fields, and lists them.
func summary(wrong problems, fields map[string]*field) (list []wrongField) {
	for _, key := range wrong.pointers() {
		w := wrongField{Detail: wrong[key]}
		input, isInput := strings.CutPrefix(key, "/inputs/")
		input, _, _ = strings.Cut(input, "/")
		switch name := strings.TrimPrefix(key, "/"); {
		case isInput && fields[input] != nil:
			fields[input].Error = wrong[key]
			w.Anchor, w.Title = "in."+input, fields[input].Title
		case slices.Contains([]string{"name", "description", "division"}, name):
			w.Anchor, w.Title = name, strings.ToUpper(name[:1])+name[1:]
		case name == "rate_limit", name == "time_zone":
			w.Anchor, w.Title = name, map[string]string{"rate_limit": "Rate limit", "time_zone": "Time zone"}[name]
		}
		list = append(list, w)
	}
	return list
}

func asError(err error) *grantway.Error {
	var e *grantway.Error
	errors.As(err, &e)
	return e
}
