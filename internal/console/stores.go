package console

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/secret"
)

var storesAt = crumb{"Secret stores", "/stores"}

// storesPage lists the secret stores.
type storesPage struct {
	Frame
	Stores   []storeRow
	Kinds    []secret.Kind // that can be added
	MayWrite bool
}

type storeRow struct {
	grantway.SecretStore
	Took    time.Duration // of the test that was just made; 0: none was
	MayTest bool
}

// Title is the kind as people read it.
func (s storeRow) Title() string { return storeTitle(s.Kind) }

// Path is where the store is described.
func (s storeRow) Path() string { return storePath(s.Name, "details") }

func storeTitle(kind string) string {
	switch kind {
	case "env":
		return "Environment"
	case "file":
		return "Files"
	}
	if k, ok := secret.FindKind(kind); ok {
		return k.Title
	}
	return kind
}

// storePath is a path of a store. Each has something after the name, so that no name of a
// store hides /stores/add.
func storePath(name, rest string) string { return "/stores/" + url.PathEscape(name) + "/" + rest }

func (c *Console) stores(r *request) (answer, error) {
	p := &storesPage{Frame: frame("stores", "Secret stores", administration, globalSettings), MayWrite: mayWriteStores(r)}
	list, err := c.Secrets.List(r.Context(), r.who)
	if err != nil {
		return answer{}, err
	}
	for _, s := range list {
		p.Stores = append(p.Stores, storeRow{SecretStore: s, MayTest: p.MayWrite})
	}
	if p.MayWrite {
		p.Kinds = secret.Kinds()
	}
	return answer{page: p}, nil
}

func mayWriteStores(r *request) bool { return r.who.May(access.WriteStore, access.Everywhere) }

// storePage is one secret store: what it is, how it is doing, and what needs it.
type storePage struct {
	Frame
	Store     storeRow
	Facts     []fact
	Rule      *spelling // nil: keys are read as they are written
	Key       grantway.SecretRef
	Report    *grantway.Report
	MayDelete bool
}

// spelling is an example of how a store spells a key.
type spelling struct{ Key, There string }

func (c *Console) newStorePage(r *request) (*storePage, error) {
	s, err := c.Secrets.Get(r.Context(), r.who, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	p := &storePage{Frame: frame("store", s.Name, administration, globalSettings, storesAt), Store: storeRow{SecretStore: s, MayTest: mayWriteStores(r)}}
	p.Key = grantway.SecretRef{Store: s.Name, Key: r.form("key"), Field: r.form("field")}
	const example = "apps/mail sales"
	if there := c.Secrets.Spelling(grantway.SecretRef{Store: s.Name, Key: example}); there != example {
		p.Rule = &spelling{example, there}
	}
	if k, ok := secret.FindKind(s.Kind); ok {
		p.MayDelete = p.Store.MayTest
		p.Facts = c.facts(k.Inputs, s.Inputs)
	}
	return p, nil
}

func (c *Console) store(r *request) (answer, error) {
	p, err := c.newStorePage(r)
	if err != nil {
		return answer{}, err
	}
	return answer{page: p}, nil
}

// testStore tries a saved store: in the list, or with a key on its own page.
func (c *Console) testStore(r *request) (answer, error) {
	began := time.Now()
	name := r.PathValue("name")
	report, err := c.Secrets.Test(r.Context(), r.who, name, grantway.SecretRef{Key: r.form("key"), Field: r.form("field")})
	if err != nil {
		return answer{}, err
	}
	p, err := c.newStorePage(r)
	if err != nil {
		return answer{}, err
	}
	if r.form("from") != "list" {
		p.Report = &report
		return answer{page: p}, nil
	}
	row := p.Store
	row.Took = time.Since(began).Round(10 * time.Microsecond)
	row.Error = ""
	if n := len(report.Steps); !report.OK && n > 0 {
		row.Error = report.Steps[n-1].Message
	}
	switch {
	case r.htmx:
		return answer{page: &storesPage{Frame: frame("stores", ""), Stores: []storeRow{row}}, part: "rows"}, nil
	case row.Error != "":
		return answer{redirect: "/stores", flash: name + ": " + sentence(row.Error)}, nil
	}
	return answer{redirect: "/stores", flash: "The secret store " + name + " can be read."}, nil
}

// storeForm adds or edits a secret store.
type storeForm struct {
	Frame
	sent
	Kind         secret.Kind
	Name         string
	Was          string // the name it is stored under; "" for a new one
	Description  string
	Version      int64
	Fields       map[string]*field
	Plain        []*field
	Advanced     []*field
	AdvancedOpen bool
	AdvancedSet  int    // how many of them are set
	Try          string // a key to read in the test
}

// Path is where the saved store is described; "" for a new one.
func (p *storeForm) Path() string {
	if p.Was == "" {
		return ""
	}
	return storePath(p.Was, "details")
}

// Action is where the form goes.
func (p *storeForm) Action() string {
	if p.Was == "" {
		return "/stores/add"
	}
	return storePath(p.Was, "edit")
}

func (c *Console) newStoreForm(r *request, kind string) (*storeForm, error) {
	k, ok := secret.FindKind(kind)
	if !ok {
		return nil, grantway.Errorf(grantway.NotFound, "there is no kind of secret store %q", kind)
	}
	if err := c.Audit.Require(r.Context(), r.who, access.WriteStore, access.Everywhere, grantway.Event{Action: access.WriteStore.String()}); err != nil {
		return nil, err
	}
	p := &storeForm{Frame: frame("storeform", "Add "+k.Title, administration, globalSettings, storesAt), Kind: k, Fields: map[string]*field{}}
	near := slices.DeleteFunc(c.Secrets.Names(), func(name string) bool { return name != "env" && name != "file" })
	for _, in := range k.Inputs {
		f := &field{Input: in, Stores: near, Near: true, SignIn: k.SignIn[in.Key]}
		p.Fields[in.Key] = f
		if in.Advanced {
			p.Advanced = append(p.Advanced, f)
		} else {
			p.Plain = append(p.Plain, f)
		}
	}
	return p, nil
}

// editStoreForm is the form with a store as it is saved.
func (c *Console) editStoreForm(r *request, name string) (*storeForm, grantway.SecretStore, error) {
	saved, err := c.Secrets.Get(r.Context(), r.who, name)
	if err != nil {
		return nil, saved, err
	}
	if saved.Version == 0 {
		return nil, saved, grantway.Errorf(grantway.Conflict, "the secret store %s is always there; flags of grantway serve say where it reads", name)
	}
	p, err := c.newStoreForm(r, saved.Kind)
	if err != nil {
		return nil, saved, err
	}
	p.Title, p.Name, p.Was, p.Description, p.Version = "Edit "+saved.Name, saved.Name, saved.Name, saved.Description, saved.Version
	p.Crumbs = append(p.Crumbs, crumb{saved.Name, p.Path()})
	for key, f := range p.Fields {
		f.show(saved.Inputs[key])
	}
	return p, saved, nil
}

func (c *Console) addStorePage(r *request) (answer, error) {
	p, err := c.newStoreForm(r, r.FormValue("kind"))
	if err != nil {
		return answer{}, err
	}
	return answer{page: p}, nil
}

func (c *Console) editStorePage(r *request) (answer, error) {
	p, _, err := c.editStoreForm(r, r.PathValue("name"))
	if err != nil {
		return answer{}, err
	}
	p.finish(nil)
	return answer{page: p}, nil
}

// postedStore fills the form with what was sent, and returns the store that it describes.
func (c *Console) postedStore(r *request) (*storeForm, grantway.SecretStore, error) {
	var p *storeForm
	var saved grantway.SecretStore
	var err error
	if was := cmp.Or(r.PathValue("name"), r.form("was")); was != "" {
		p, saved, err = c.editStoreForm(r, was)
	} else {
		p, err = c.newStoreForm(r, r.form("kind"))
	}
	if err != nil {
		return nil, saved, err
	}
	if p.Was == "" {
		p.Name = r.form("name")
	}
	p.Description, p.Try = strings.ReplaceAll(r.form("description"), "\r\n", "\n"), r.form("try")
	kept := c.openKept(r)
	out := grantway.SecretStore{Name: p.Name, Kind: p.Kind.Name, Description: p.Description, Inputs: grantway.Inputs{}}
	if p.Was != "" {
		if out.Version, err = strconv.ParseInt(r.form("version"), 10, 64); err != nil {
			out.Version = p.Version
		}
	}
	for key, f := range p.Fields {
		v, given := f.posted(r, saved.Inputs[key], kept)
		if given && (f.SignIn == nil || slices.Contains(f.SignIn, signIn(p.Kind, r))) { // what only another way to sign in needs does not stay
			out.Inputs[key] = v
		}
	}
	p.Kept, err = c.sealKept(r, kept)
	return p, out, err
}

// signIn is the way to sign in that was chosen.
func signIn(k secret.Kind, r *request) string {
	auth, _ := k.Input("auth")
	return cmp.Or(r.form("in.auth"), auth.Default)
}

// finish puts errors beside their fields.
func (p *storeForm) finish(wrong problems) {
	p.Errors, p.Wrong = wrong, summary(wrong, p.Fields)
	p.AdvancedSet, p.AdvancedOpen = advanced(p.Advanced, false)
}

func (c *Console) saveStore(r *request) (answer, error) {
	p, wanted, err := c.postedStore(r)
	if err != nil {
		return answer{}, err
	}
	if r.restored {
		return restored(p), nil
	}
	saved, err := c.Secrets.Save(r.Context(), r.who, p.Was, wanted)
	if again, ok := refused(p, err); ok {
		return again, nil
	}
	if err != nil {
		return answer{}, err
	}
	flash := "The secret store " + saved.Name + " is saved."
	if p.Was == "" {
		flash = "The secret store " + saved.Name + " is added."
	}
	return answer{redirect: storePath(saved.Name, "details"), flash: flash}, nil
}

// testStoreDraft tries a store as it is in the form.
func (c *Console) testStoreDraft(r *request) (answer, error) {
	p, wanted, err := c.postedStore(r)
	if err != nil {
		return answer{}, err
	}
	if r.restored {
		return restored(p), nil
	}
	report, err := c.Secrets.TestDraft(r.Context(), r.who, wanted, grantway.SecretRef{Key: p.Try})
	return tried(r, p, report, err, "test-part")
}

func (c *Console) storeDeletion(r *request) (*deletePage, error) {
	name := r.PathValue("name")
	if err := c.Audit.Require(r.Context(), r.who, access.WriteStore, access.Everywhere, grantway.Event{Action: "store.delete", Object: "store/" + name}); err != nil {
		return nil, err
	}
	s, err := c.Secrets.Get(r.Context(), r.who, name)
	if err != nil {
		return nil, err
	}
	if s.Version == 0 {
		return nil, grantway.Errorf(grantway.Conflict, "the secret store %s is always there and cannot be deleted", name)
	}
	return &deletePage{Frame: frame("delete", "Delete "+s.Name, administration, globalSettings, storesAt, crumb{s.Name, storePath(s.Name, "details")}),
		Kind: "secret store", Name: s.Name, Action: storePath(s.Name, "delete"), Back: storePath(s.Name, "details"), Blocked: s.UsedBy,
		Breaks: []string{"The hub forgets where the store is and what it signs in with. No credential refers to it.", "What is in the store itself stays as it is."},
		remove: func() error { return c.Secrets.Delete(r.Context(), r.who, s.Name, 0) },
		done:   answer{redirect: "/stores", flash: "The secret store " + s.Name + " is deleted."}}, nil
}
