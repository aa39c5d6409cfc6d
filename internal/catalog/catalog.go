// Package catalog knows the connectors of a hub: those that come with the program, and those
// that people made or imported.
//
// A definition is stored as the YAML text it was written in, and compiled when it is loaded.
// Every replica keeps all of them compiled in memory and follows the changes that others make.
// A definition that does not compile, such as one of an older language, stays in the list as
// broken, with the reason.
//
// Credentials refer to a connector by name and version. [Connectors.Save] edits the newest version in
// place as long as no credential breaks by it, and else makes the next one; see breaks.
package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// Topic is that of store.Tx.Changed; the key is a connector's name.
const Topic = "connector"

// Options are what Connectors work with. All but Users and Log are required.
type Options struct {
	Store *store.Store
	Audit *access.Log
	Log   *slog.Logger

	// Users names the credentials that are made of a connector, with their plain inputs and marks in the place of
	// secrets. The app sets it from the one who keeps credentials; nil means that there are none.
	Users func(ctx context.Context, q store.Querier, connector string) ([]User, error)
}

// User is a credential made of a connector.
type User struct {
	Name, Division string
	Version        int64 // of the connector
	Inputs         grantway.Inputs
}

// Connectors are all connectors of the hub. Safe for concurrent use.
type Connectors struct {
	Options

	loading  sync.Mutex // one load at a time, so that the newest wins
	snapshot atomic.Pointer[snapshot]
	cancel   func()
}

// snapshot is all connectors at one moment. It is immutable.
type snapshot struct {
	versions map[ref]*entry    // own ones; and those of the catalog, as version 1
	newest   map[string]*entry // by name
	names    []string          // in order
}

type ref struct {
	name    string
	version int64
}

// entry is one version of one connector. That of a built-in one is complete only after ready,
// since a hub uses few of some hundreds.
type entry struct {
	row
	builtIn  bool
	once     sync.Once             // of ready
	def      *connector.Definition // nil when it does not compile
	own      *connector.Source     // as it is written, without what it inherits
	parent   *connector.Definition // what it extends
	findings connector.Problems
	edition  string
}

// ready compiles a built-in one when it is first asked for. Nil stays nil.
func (e *entry) ready() *entry {
	if e == nil || !e.builtIn {
		return e
	}
	e.once.Do(func() {
		e.own, _ = connector.ParseSource([]byte(e.text))
		def, err := connector.Load(e.name)
		if err != nil { // a fault of this program, which the tests of the catalog would find
			e.findings = connector.Problems{{Message: err.Error()}}
			return
		}
		e.def, e.findings, e.edition = def, def.Warnings, edition(def)
	})
	return e
}

// row is one version as it is stored.
type row struct {
	name             string
	version          int64
	text             string
	revision         int64 // of the connector
	created, updated int64 // Unix milliseconds
}

// Found is a version of a connector, as somebody who makes requests with it needs it.
type Found struct {
	*connector.Definition // nil when it is broken
	Version               int64

	// Edition tells apart definitions that ask for tokens in different ways. Edits that change
	// only what people see do not change it.
	Edition string

	// Broken says why there is no definition.
	Broken error
}

// New returns the connectors that come with the program and those in the database. Start makes
// it follow changes.
func New(ctx context.Context, o Options) (*Connectors, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Connectors{Options: o}
	return c, c.load(ctx)
}

// Start follows the changes that other replicas make, until Stop.
func (c *Connectors) Start() {
	c.cancel = c.Store.Subscribe(Topic, func(ctx context.Context, _ string) error { return c.load(ctx) })
}

// Stop ends that.
func (c *Connectors) Stop(context.Context) error {
	if c.cancel != nil {
		c.cancel()
	}
	return nil
}

func (c *Connectors) load(ctx context.Context) error {
	c.loading.Lock()
	defer c.loading.Unlock()
	rows, err := readRows(ctx, c.Store.Read())
	if err != nil {
		return err
	}
	before := c.snapshot.Load()
	now := c.compile(rows, before)
	for _, e := range now.versions {
		if e.builtIn {
			continue
		}
		if was := before.find(e.name, e.version); e.def == nil && (was == nil || was.def != nil) {
			c.Log.Warn("a connector does not compile: no tokens for its credentials", "connector", e.name, "version", e.version, "error", e.findings)
		}
	}
	c.snapshot.Store(now)
	return nil
}

func readRows(ctx context.Context, q store.Querier) ([]row, error) {
	found, err := q.QueryContext(ctx, `
		SELECT v.name, v.version, v.definition, c.revision, v.created_at, v.updated_at
		FROM connector_version v JOIN connector c ON c.name = v.name ORDER BY v.name, v.version`)
	if err != nil {
		return nil, fmt.Errorf("load connectors: %w", err)
	}
	defer found.Close()
	var rows []row
	for found.Next() {
		var r row
		if err := found.Scan(&r.name, &r.version, &r.text, &r.revision, &r.created, &r.updated); err != nil {
			return nil, fmt.Errorf("load connectors: %w", err)
		}
		rows = append(rows, r)
	}
	return rows, found.Err()
}

// compile makes a snapshot. What came out of the same texts is taken from before.
func (c *Connectors) compile(rows []row, before *snapshot) *snapshot {
	s := &snapshot{versions: map[ref]*entry{}, newest: map[string]*entry{}}
	for _, r := range rows {
		e := &entry{row: r}
		s.versions[ref{r.name, r.version}] = e
		s.newest[r.name] = e // rows come in order
	}
	for _, name := range connector.Names() {
		if s.newest[name] != nil { // people had the name first
			continue
		}
		at := ref{name, 1}
		var e *entry
		if before != nil {
			e = before.versions[at]
		}
		if e == nil || !e.builtIn {
			text, _ := connector.Text(name)
			e = &entry{row: row{name: name, version: 1, text: string(text)}, builtIn: true}
		}
		s.versions[at], s.newest[name] = e, e
	}
	for name := range s.newest {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	busy := map[*entry]bool{}
	for _, e := range s.versions {
		c.compileEntry(s, e, before, busy)
	}
	return s
}

// compileEntry compiles e, and first what it extends. busy are those that wait for that.
func (c *Connectors) compileEntry(s *snapshot, e *entry, before *snapshot, busy map[*entry]bool) {
	if e.builtIn || e.own != nil {
		return
	}
	text := []byte(e.text)
	e.own, _ = connector.ParseSource(text)
	busy[e] = true
	defer delete(busy, e)
	parent := s.find(e.own.Extends, 0)
	if parent != nil && (busy[parent] || parent.name == e.name) { // they extend each other
		parent = nil
	}
	if parent != nil {
		c.compileEntry(s, parent, before, busy)
	}
	// What did not change is the same definition, so that who looked at it may go on: see Refer.
	if was := before.find(e.name, e.version); was != nil && was.text == e.text && was.parent == parent.definition() {
		e.def, e.findings, e.edition, e.parent = was.def, was.findings, was.edition, was.parent
		return
	}
	e.parent = parent.definition()
	def, err := connector.Parse(text, func(string) (*connector.Definition, bool) { return e.parent, e.parent != nil })
	switch {
	case err != nil:
		if !errors.As(err, &e.findings) {
			e.findings = connector.Problems{{Message: err.Error()}}
		}
	case def.Name != e.name:
		e.findings = connector.Problems{{Path: "name", Message: "is not the name it is stored under, " + e.name}}
	default:
		e.def, e.findings, e.edition = def, def.Warnings, edition(def)
	}
}

// definition is nil where there is none.
func (e *entry) definition() *connector.Definition {
	if e == nil {
		return nil
	}
	return e.def
}

// find returns a version of a connector, 0 being the newest; nil when there is none.
func (s *snapshot) find(name string, version int64) *entry {
	switch {
	case s == nil:
		return nil
	case version == 0:
		return s.newest[name].ready()
	}
	return s.versions[ref{name, version}].ready()
}

// Find returns a version of a connector, 0 being the newest. It takes no lock, and reads memory
// only. The version may be found in another edition later; each is complete and never changes.
func (c *Connectors) Find(name string, version int64) (Found, bool) {
	e := c.snapshot.Load().find(name, version)
	if e == nil {
		return Found{}, false
	}
	f := Found{Definition: e.def, Version: e.version, Edition: e.edition}
	if e.def == nil {
		f.Broken = e.broken()
	}
	return f, true
}

// Edition is that of Find; "" when there is no such connector, or it is broken.
func (c *Connectors) Edition(name string, version int64) string {
	if e := c.snapshot.Load().find(name, version); e != nil {
		return e.edition
	}
	return ""
}

// broken says why e does not compile, in one line.
func (e *entry) broken() error {
	for _, f := range e.findings {
		if !f.Warning {
			return grantway.Errorf(grantway.Unavailable, "the connector %s is broken: %s", e.name, f)
		}
	}
	return grantway.Errorf(grantway.Unavailable, "the connector %s is broken", e.name)
}

// show is e as the API lists it.
func (s *snapshot) show(e *entry) grantway.Connector {
	about := e.own
	if e.def != nil {
		about = e.def.Source
	}
	one := grantway.Connector{
		Name: e.name, Source: grantway.OwnConnector, Version: e.version, Newest: s.newest[e.name].version, Revision: e.revision,
		Title: cmp.Or(about.Title, e.name), Description: about.Description, Vendor: about.Vendor, Categories: about.Categories, Documentation: about.Documentation,
		Checked: about.Checked, Unverified: about.Unverified, Abstract: e.own.Abstract, Extends: e.own.Extends,
		Broken: e.def == nil, Findings: e.findings,
	}
	if e.builtIn {
		one.Source = grantway.CatalogConnector
	} else {
		one.CreatedAt, one.UpdatedAt = time.UnixMilli(e.created).UTC(), time.UnixMilli(e.updated).UTC()
	}
	return one
}

// detail is show with the definition.
func (s *snapshot) detail(e *entry) (grantway.Connector, error) {
	one := s.show(e)
	one.YAML = e.text
	if e.def == nil {
		return one, nil
	}
	var err, ownErr error
	one.Definition, err = json.Marshal(e.def.Source)
	one.OwnDefinition, ownErr = json.Marshal(e.own)
	return one, errors.Join(err, ownErr)
}

// List returns up to limit of the connectors that q selects after the cursor, by name. Those of the catalog
// that are only there to be extended are not among them.
func (c *Connectors) List(ctx context.Context, who access.Caller, q grantway.ConnectorQuery, cursor string, limit int) (grantway.Page[grantway.Connector], error) {
	page := grantway.Page[grantway.Connector]{Items: []grantway.Connector{}}
	if err := c.require(ctx, who, ""); err != nil {
		return page, err
	}
	switch {
	case cursor != "" && access.WrongName(cursor) != "":
		return page, grantway.Errorf(grantway.Malformed, "the cursor is not one that this hub gave out")
	case !slices.Contains([]string{"", grantway.CatalogConnector, grantway.OwnConnector}, q.Source):
		return page, invalid("a query parameter is wrong", grantway.Field{Pointer: "/source", Detail: "must be catalog or own"})
	case len(q.Search) > 200:
		return page, invalid("a query parameter is wrong", grantway.Field{Pointer: "/q", Detail: "must be at most 200 bytes"})
	}
	s := c.snapshot.Load()
	words := strings.Fields(strings.ToLower(q.Search))
	for _, name := range s.names {
		if name <= cursor {
			continue
		}
		e := s.find(name, 0)
		if e.builtIn && e.own.Abstract {
			continue
		}
		if one := s.show(e); selects(q, words, one) {
			if len(page.Items) == limit {
				page.Next = page.Items[limit-1].Name
				break
			}
			page.Items = append(page.Items, one)
		}
	}
	return page, nil
}

func selects(q grantway.ConnectorQuery, words []string, one grantway.Connector) bool {
	if q.Source != "" && q.Source != one.Source || q.Category != "" && !slices.Contains(one.Categories, q.Category) {
		return false
	}
	text := strings.ToLower(strings.Join([]string{one.Name, one.Title, one.Vendor, one.Description, strings.Join(one.Categories, " ")}, "\n"))
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

// Get returns a version of a connector with its definition, 0 being the newest, and to those who
// may change connectors says what keeps it from being deleted.
func (c *Connectors) Get(ctx context.Context, who access.Caller, name string, version int64) (grantway.Connector, error) {
	if err := c.require(ctx, who, name); err != nil {
		return grantway.Connector{}, err
	}
	s := c.snapshot.Load()
	e := s.find(name, version)
	if e == nil {
		return grantway.Connector{}, noConnector(name, version)
	}
	one, err := s.detail(e)
	if err != nil || !who.May(access.WriteConnector, access.Everywhere) {
		return one, err
	}
	one.UsedBy, err = c.usedBy(ctx, c.Store.Read(), who, s, name)
	return one, err
}

// Versions lists the versions of a connector, the newest first.
func (c *Connectors) Versions(ctx context.Context, who access.Caller, name string) ([]grantway.Connector, error) {
	if err := c.require(ctx, who, name); err != nil {
		return nil, err
	}
	s := c.snapshot.Load()
	newest := s.newest[name]
	if newest == nil {
		return nil, noConnector(name, 0)
	}
	list := []grantway.Connector{}
	for version := newest.version; version > 0; version-- {
		if e := s.find(name, version); e != nil {
			list = append(list, s.show(e))
		}
	}
	return list, nil
}

func (c *Connectors) require(ctx context.Context, who access.Caller, name string) error {
	return c.Audit.RequireSomewhere(ctx, who, access.ReadConnector, grantway.Event{Action: access.ReadConnector.String(), Object: object(name)})
}

// object is a connector in the audit trail, without a name when it has none that may be one.
func object(name string) string {
	if access.WrongName(name) != "" {
		return "connector/"
	}
	return "connector/" + name
}

func noConnector(name string, version int64) error {
	switch {
	case access.WrongName(name) != "":
		return grantway.Errorf(grantway.NotFound, "there is no such connector")
	case version != 0:
		return grantway.Errorf(grantway.NotFound, "there is no version %d of connector %s", version, name)
	}
	return grantway.Errorf(grantway.NotFound, "there is no connector %s", name)
}

func invalid(message string, fields ...grantway.Field) error {
	return &grantway.Error{Code: grantway.Invalid, Message: message, Fields: fields}
}
