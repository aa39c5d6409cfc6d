package catalog

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// Check compiles a definition without saving it, and lists all that is wrong or suspicious.
func (c *Connectors) Check(ctx context.Context, who access.Caller, text []byte) (grantway.ConnectorCheck, error) {
	if err := c.require(ctx, who, ""); err != nil {
		return grantway.ConnectorCheck{}, err
	}
	e := c.draft(text)
	check := grantway.ConnectorCheck{OK: e.def != nil, Name: e.name, Findings: e.findings}
	if check.Findings == nil {
		check.Findings = []grantway.Finding{}
	}
	return check, nil
}

// Draft compiles a definition that is not saved, for who tries it out. The error says what is wrong with it.
func (c *Connectors) Draft(text []byte) (*connector.Definition, error) {
	e := c.draft(text)
	if e.def == nil {
		return nil, wrongDefinition(e)
	}
	return e.def, nil
}

func (c *Connectors) draft(text []byte) *entry {
	s := c.snapshot.Load()
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return &entry{own: &connector.Source{}, findings: connector.Problems{{Message: "is not UTF-8 text"}}}
	}
	source, _ := connector.ParseSource(text)
	e := &entry{row: row{name: source.Name, text: string(text)}}
	c.compileEntry(s, e, nil, map[*entry]bool{})
	return e
}

// wrongDefinition is the error of a save. Its fields say where in the text and what to do.
func wrongDefinition(e *entry) error {
	var fields []grantway.Field
	for _, f := range e.findings {
		if f.Warning {
			continue
		}
		path := f.Path
		f.Path = ""
		fields = append(fields, grantway.Field{Pointer: grantway.Pointer(strings.Split(path, ".")...), Detail: f.String()})
	}
	return invalid("the connector was not saved because its definition is wrong", fields...)
}

// Create stores a new connector: text is its definition.
func (c *Connectors) Create(ctx context.Context, who access.Caller, text []byte) (grantway.Connector, error) {
	return c.save(ctx, who, edit{text: text, action: "connector.create"})
}

// Copy stores the newest definition of a connector under another name, so that it can be changed.
func (c *Connectors) Copy(ctx context.Context, who access.Caller, from, to string) (grantway.Connector, error) {
	if err := c.mayWrite(ctx, who, "connector.copy", to); err != nil {
		return grantway.Connector{}, err
	}
	e := c.snapshot.Load().find(from, 0)
	if e == nil {
		return grantway.Connector{}, noConnector(from, 0)
	}
	text, err := connector.Rename([]byte(e.text), to)
	if err != nil {
		return grantway.Connector{}, wrongDefinition(e)
	}
	return c.save(ctx, who, edit{text: text, action: "connector.copy", detail: "of " + from})
}

// Save replaces the newest version of a connector, or with newVersion adds the next one. An edit in place
// is refused (Conflict, with a field for each reason) when credentials would break by it; see
// breaks. With revision set, that must be the current one (PreconditionFailed).
func (c *Connectors) Save(ctx context.Context, who access.Caller, name string, text []byte, revision int64, newVersion bool) (grantway.Connector, error) {
	return c.save(ctx, who, edit{name: name, text: text, revision: revision, newVersion: newVersion, action: "connector.update"})
}

// edit is a definition on its way into the database.
type edit struct {
	name       string // of what is edited; "" for a new one
	text       []byte
	revision   int64
	newVersion bool

	action, detail string // for the audit trail
}

func (c *Connectors) mayWrite(ctx context.Context, who access.Caller, action, name string) error {
	return c.Audit.Require(ctx, who, access.WriteConnector, access.Everywhere, grantway.Event{Action: action, Object: object(name)})
}

func (c *Connectors) save(ctx context.Context, who access.Caller, in edit) (grantway.Connector, error) {
	if err := c.mayWrite(ctx, who, in.action, in.name); err != nil {
		return grantway.Connector{}, err
	}
	e := c.draft(in.text)
	if in.name != "" {
		switch old := c.snapshot.Load().find(in.name, 0); {
		case old == nil:
			return grantway.Connector{}, noConnector(in.name, 0)
		case old.builtIn:
			return grantway.Connector{}, fromCatalog(in.name)
		case e.name != in.name && e.name != "":
			return grantway.Connector{}, invalid("the connector was not saved because its definition is wrong",
				grantway.Field{Pointer: "/name", Detail: "cannot be changed, since credentials refer to it; copy the connector"})
		}
	}
	if e.def == nil {
		return grantway.Connector{}, wrongDefinition(e)
	}
	now := time.Now().UnixMilli()
	err := c.Store.Write(ctx, func(tx *store.Tx) error { return c.write(ctx, tx, who, in, e, now) })
	if err != nil {
		return grantway.Connector{}, err
	}
	if err := c.load(ctx); err != nil { // so that the caller reads what it wrote
		c.Log.Warn("connector saved, but not loaded again", "connector", e.name, "error", err)
	}
	s := c.snapshot.Load()
	saved := s.find(e.name, 0)
	if saved == nil { // deleted meanwhile
		return grantway.Connector{}, noConnector(e.name, 0)
	}
	return s.detail(saved)
}

// lock lets one save or delete of connectors happen at a time, because they extend each other.
const lock = "connector"

// write stores what in says, unless something that is there breaks by it.
func (c *Connectors) write(ctx context.Context, tx *store.Tx, who access.Caller, in edit, e *entry, now int64) error {
	if err := tx.Lock(ctx, lock); err != nil {
		return err
	}
	rows, err := readRows(ctx, tx)
	if err != nil {
		return err
	}
	old := c.compile(rows, c.snapshot.Load())
	before := old.find(e.name, 0)
	next := row{name: e.name, version: 1, text: e.text}
	switch {
	case in.name == "" && before != nil:
		return nameTaken(e.name, before.builtIn)
	case in.name != "" && (before == nil || before.builtIn):
		return noConnector(e.name, 0)
	case in.name != "" && in.revision != 0 && in.revision != before.revision:
		return stale(e.name)
	case in.name != "":
		next.version = before.version
		if in.newVersion {
			next.version++
		}
	}
	for _, name := range old.family(e.name) { // no credential of them may be saved until we are done
		if err := tx.Lock(ctx, lockName(name)); err != nil {
			return err
		}
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return r.name == next.name && r.version == next.version })
	rows = append(rows, next)
	slices.SortFunc(rows, func(a, b row) int {
		if a.name != b.name {
			return strings.Compare(a.name, b.name)
		}
		return int(a.version - b.version)
	})
	changed := c.compile(rows, old)
	if changed.find(e.name, next.version).def == nil { // what it extends was changed meanwhile
		return wrongDefinition(changed.find(e.name, next.version))
	}
	if err := c.refuse(ctx, tx, who, old, changed, e.name); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO connector (name, revision, created_at, updated_at) VALUES ($1, 1, $2, $2)
		ON CONFLICT (name) DO UPDATE SET revision = connector.revision + 1, updated_at = excluded.updated_at`, next.name, now)
	if err != nil {
		return fmt.Errorf("save connector %s: %w", next.name, err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO connector_version (name, version, definition, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
		ON CONFLICT (name, version) DO UPDATE SET definition = excluded.definition, updated_at = excluded.updated_at`, next.name, next.version, next.text, now)
	if err != nil {
		return fmt.Errorf("save connector %s: %w", next.name, err)
	}
	event := grantway.Event{Action: in.action, Object: object(e.name), Detail: in.detail}
	if before != nil {
		event.Fields = connector.Sections(before.own, e.own)
	}
	if in.newVersion && before != nil {
		event.Detail = "version " + strconv.FormatInt(next.version, 10)
	}
	tx.Changed(Topic, e.name)
	return c.Audit.Record(ctx, tx, who, event)
}

// family is name and every connector that extends it, directly or not, in order.
func (s *snapshot) family(name string) []string {
	names := []string{name}
	for i := 0; i < len(names); i++ {
		for at, e := range s.versions {
			if !e.builtIn && e.own.Extends == names[i] && !slices.Contains(names, at.name) {
				names = append(names, at.name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Delete removes a connector with all its versions. It is refused (Conflict) while credentials
// are made of it, or connectors extend it.
func (c *Connectors) Delete(ctx context.Context, who access.Caller, name string, revision int64) error {
	if err := c.mayWrite(ctx, who, "connector.delete", name); err != nil {
		return err
	}
	switch e := c.snapshot.Load().find(name, 0); {
	case e == nil:
		return noConnector(name, 0)
	case e.builtIn:
		return fromCatalog(name)
	}
	err := c.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, lock); err != nil {
			return err
		}
		if err := tx.Lock(ctx, lockName(name)); err != nil {
			return err
		}
		rows, err := readRows(ctx, tx)
		if err != nil {
			return err
		}
		users, err := c.usedBy(ctx, tx, who, c.compile(rows, c.snapshot.Load()), name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return grantway.Errorf(grantway.Conflict, "connector %s is used by %s; change that first", name, strings.Join(users, ", "))
		}
		result, err := tx.ExecContext(ctx, `DELETE FROM connector WHERE name = $1 AND (revision = $2 OR $2 = 0)`, name, revision)
		if err != nil {
			return fmt.Errorf("delete connector %s: %w", name, err)
		}
		switch n, err := result.RowsAffected(); {
		case err != nil:
			return fmt.Errorf("delete connector %s: %w", name, err)
		case n == 0 && revision == 0: // somebody was faster
			return noConnector(name, 0)
		case n == 0:
			return stale(name)
		}
		tx.Changed(Topic, name)
		return c.Audit.Record(ctx, tx, who, grantway.Event{Action: "connector.delete", Object: object(name)})
	})
	if err != nil {
		return err
	}
	return c.load(ctx)
}

// Refer makes sure, in the transaction that saves a credential, that the definition it was
// checked against is still there, and is neither changed nor deleted before that transaction
// ends. The error is of code Conflict.
func (c *Connectors) Refer(ctx context.Context, tx *store.Tx, name string, found Found) error {
	e := c.snapshot.Load().find(name, found.Version)
	if e == nil || e.def != found.Definition {
		return changedMeanwhile(name)
	}
	if e.builtIn {
		return nil
	}
	if err := tx.Lock(ctx, lockName(name)); err != nil {
		return err
	}
	var there bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM connector_version WHERE name = $1 AND version = $2 AND definition = $3)`,
		name, found.Version, e.text).Scan(&there)
	if err != nil {
		return fmt.Errorf("look up connector %s: %w", name, err)
	}
	if !there {
		return changedMeanwhile(name)
	}
	return nil
}

func lockName(name string) string { return "connector " + name }

func changedMeanwhile(name string) error {
	return grantway.Errorf(grantway.Conflict, "the connector %s was changed meanwhile; look at it and save again", name)
}

func fromCatalog(name string) error {
	return grantway.Errorf(grantway.Conflict, "the connector %s comes with the hub and cannot be changed; copy it and change the copy", name)
}

func nameTaken(name string, builtIn bool) error {
	detail := "is taken by another connector"
	if builtIn {
		detail = "is taken by a connector that comes with the hub"
	}
	return &grantway.Error{Code: grantway.Conflict, Message: "the connector was not saved because its name is taken", Fields: []grantway.Field{{Pointer: "/name", Detail: detail}}}
}

func stale(name string) error {
	return grantway.Errorf(grantway.PreconditionFailed, "connector %s has another revision than the one to be changed; read it again and repeat the change", name)
}
