package secret

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// List describes every store, by name, and says how it is doing.
func (s *Stores) List(ctx context.Context, who access.Caller) ([]grantway.SecretStore, error) {
	if err := s.Audit.RequireSomewhere(ctx, who, access.ReadStore, grantway.Event{Action: access.ReadStore.String()}); err != nil {
		return nil, err
	}
	list := []grantway.SecretStore{}
	for _, name := range s.Names() {
		if e, err := s.find(name); err == nil {
			list = append(list, e.describe(ctx))
		}
	}
	return list, nil
}

// Get describes one store. To those who may read stores in all divisions it names the
// credentials that refer to it.
func (s *Stores) Get(ctx context.Context, who access.Caller, name string) (grantway.SecretStore, error) {
	if err := s.Audit.RequireSomewhere(ctx, who, access.ReadStore, grantway.Event{Action: access.ReadStore.String(), Object: "store/" + name}); err != nil {
		return grantway.SecretStore{}, err
	}
	e, err := s.find(name)
	if err != nil {
		return grantway.SecretStore{}, err
	}
	one := e.describe(ctx)
	if !who.May(access.ReadStore, access.Everywhere) { // who else uses it is not his business
		return one, nil
	}
	one.UsedBy, err = s.users(ctx, s.Store.Read(), name)
	return one, err
}

// describe is the store as the API shows it: without its secrets.
func (e *entry) describe(ctx context.Context) grantway.SecretStore {
	if e.row == nil {
		one := e.Describe()
		if err := e.SignIn(ctx); err != nil {
			one.Error = err.Error()
		}
		return one
	}
	one := *e.row
	one.Inputs = maps.Clone(e.row.Inputs)
	one.Detail = e.Describe().Detail
	e.health.show(&one)
	return one
}

// Save adds a store, or with name replaces the one of that name, whose kind stays. Secrets
// that in leaves out are kept. With in.Version set, that must be the current version.
func (s *Stores) Save(ctx context.Context, who access.Caller, name string, in grantway.SecretStore) (grantway.SecretStore, error) {
	action := "store.create"
	if name != "" {
		action = "store.update"
		in.Name = cmp.Or(in.Name, name)
	}
	event := grantway.Event{Action: action, Object: "store/" + in.Name}
	if err := s.Audit.Require(ctx, who, access.WriteStore, access.Everywhere, event); err != nil {
		return in, err
	}
	d, err := s.draft(in, name)
	if err != nil {
		return in, err
	}
	event.Fields = d.changed()
	now := time.Now()
	err = s.Store.Write(ctx, func(tx *store.Tx) error {
		if err := s.write(ctx, tx, d, now); err != nil {
			return err
		}
		tx.Changed(topic, d.Name)
		return s.Audit.Record(ctx, tx, who, event)
	})
	if err != nil {
		return in, err
	}
	if err := s.load(ctx); err != nil { // so that the caller reads what it wrote
		s.Log.Warn("secret store saved, but not loaded again", "store", d.Name, "error", err)
	}
	e, err := s.find(d.Name)
	if err != nil {
		return in, err
	}
	return e.describe(ctx), nil
}

// draft is a store on its way into the database.
type draft struct {
	grantway.SecretStore
	kind    Kind
	secrets map[string]string // new internal secrets, in the clear
	kept    map[string][]byte // old ones, sealed
	old     *grantway.SecretStore
}

// draft completes in with what it leaves out and finds everything wrong with it.
func (s *Stores) draft(in grantway.SecretStore, name string) (*draft, error) {
	d := &draft{SecretStore: in, secrets: map[string]string{}, kept: map[string][]byte{}}
	var fields []grantway.Field
	wrong := func(pointer, format string, args ...any) {
		fields = append(fields, grantway.Field{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
	if d.Inputs = maps.Clone(in.Inputs); d.Inputs == nil {
		d.Inputs = grantway.Inputs{}
	}
	var stored *entry
	if name != "" {
		var err error
		if stored, err = s.find(name); err != nil {
			return nil, err
		}
		if stored.row == nil {
			return nil, alwaysThere(name)
		}
		d.old, d.Kind = stored.row, cmp.Or(in.Kind, stored.row.Kind)
		if in.Version != 0 && in.Version != d.old.Version {
			return nil, stale(name)
		}
		if in.Name != name {
			wrong("/name", "cannot be changed, since credentials refer to it; make a new store")
		}
		if d.Kind != stored.row.Kind {
			wrong("/kind", "cannot be changed; make a new store")
		}
	} else if detail := access.WrongName(in.Name); detail != "" {
		wrong("/name", "%s", detail)
	}
	if detail := access.WrongDescription(in.Description); detail != "" {
		wrong("/description", "%s", detail)
	}
	var known bool
	if d.kind, known = FindKind(d.Kind); !known {
		wrong("/kind", "must be one of %s", kindNames())
		return nil, invalid(fields)
	}
	for _, key := range d.kind.Secrets() {
		v, given := d.Inputs[key]
		switch keep := stored != nil && (!given || v.Set); {
		case keep:
			delete(d.Inputs, key)
			if old, ok := stored.row.Inputs[key]; ok {
				d.Inputs[key] = old
			}
			if sealed, ok := stored.sealed[key]; ok {
				d.kept[key] = sealed
			}
		case v.Set:
			delete(d.Inputs, key) // nothing is stored yet, so there is nothing to keep
		}
	}
	fields = append(fields, d.kind.check(d.SecretStore)...)
	for _, in := range d.kind.Inputs {
		pointer := "/inputs/" + in.Key
		known := slices.ContainsFunc(fields, func(f grantway.Field) bool { return f.Pointer == pointer })
		if text := d.Inputs[in.Key].Text; in.Type == connector.URL && text != "" && !known {
			if err := s.checkURL(text); err != nil {
				wrong(pointer, "%v", err)
			}
		}
	}
	if fields != nil {
		return nil, invalid(fields)
	}
	for key, v := range d.Inputs {
		switch in, _ := d.kind.Input(key); {
		case v.Text == "" && v.Ref == nil && !v.Set: // an empty value is no value
			delete(d.Inputs, key)
		case in.Type == connector.SecretText && v.Text != "":
			d.secrets[key], d.Inputs[key] = v.Text, grantway.Value{Set: true}
		}
	}
	return d, nil
}

func (d *draft) changed() []string {
	var old grantway.SecretStore
	if d.old != nil {
		old = *d.old
	}
	var names []string
	if d.Description != old.Description {
		names = append(names, "description")
	}
	for _, in := range d.kind.Inputs {
		if _, given := d.secrets[in.Key]; given || !reflect.DeepEqual(old.Inputs[in.Key], d.Inputs[in.Key]) {
			names = append(names, in.Key)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Stores) write(ctx context.Context, tx *store.Tx, d *draft, now time.Time) error {
	inputs, err := json.Marshal(d.Inputs)
	if err != nil {
		return err
	}
	sealed, err := s.sealed(d)
	if err != nil {
		return err
	}
	var one int
	if d.old == nil {
		if builtIn(strings.ToLower(d.Name)) {
			return nameTaken(d.Name)
		}
		err = tx.QueryRowContext(ctx, `
			INSERT INTO secret_store (name, name_key, kind, description, inputs, version, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, 1, $6, $6) ON CONFLICT DO NOTHING RETURNING 1`,
			d.Name, strings.ToLower(d.Name), d.Kind, d.Description, string(inputs), now.UnixMilli()).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return nameTaken(d.Name)
		}
	} else {
		err = tx.QueryRowContext(ctx, `
			UPDATE secret_store SET description = $3, inputs = $4, version = version + 1, updated_at = $5
			WHERE name = $1 AND version = $2 RETURNING 1`, d.Name, d.old.Version, d.Description, string(inputs), now.UnixMilli()).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return stale(d.Name)
		}
	}
	if err != nil {
		return fmt.Errorf("save secret store %s: %w", d.Name, err)
	}
	// The sealed rows become exactly those that are wanted, so that a secret which moved
	// out or was removed leaves nothing behind.
	if _, err := tx.ExecContext(ctx, `DELETE FROM secret_store_secret WHERE store = $1`, d.Name); err != nil {
		return fmt.Errorf("save secret store %s: %w", d.Name, err)
	}
	for key, sealed := range sealed {
		if _, err := tx.ExecContext(ctx, `INSERT INTO secret_store_secret (store, input, sealed) VALUES ($1, $2, $3)`, d.Name, key, sealed); err != nil {
			return fmt.Errorf("save secret store %s: %w", d.Name, err)
		}
	}
	return nil
}

// sealed returns what a draft signs in with: its new secrets, and the old ones that it keeps.
func (s *Stores) sealed(d *draft) (map[string][]byte, error) {
	all := maps.Clone(d.kept)
	for key, plain := range d.secrets {
		var err error
		if all[key], err = s.Sealer.Seal(place(d.Name, key), []byte(plain)); err != nil {
			return nil, fmt.Errorf("secret store %s: %w", d.Name, err)
		}
	}
	return all, nil
}

// Delete removes a store. It is refused (Conflict) while credentials refer to it.
func (s *Stores) Delete(ctx context.Context, who access.Caller, name string, version int64) error {
	event := grantway.Event{Action: "store.delete", Object: "store/" + name}
	if err := s.Audit.Require(ctx, who, access.WriteStore, access.Everywhere, event); err != nil {
		return err
	}
	if e, err := s.find(name); err != nil {
		return err
	} else if e.row == nil {
		return alwaysThere(name)
	}
	err := s.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, lockName(name)); err != nil {
			return err
		}
		users, err := s.users(ctx, tx, name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return grantway.Errorf(grantway.Conflict, "secret store %s is used by %s; change that first", name, strings.Join(users, ", "))
		}
		result, err := tx.ExecContext(ctx, `DELETE FROM secret_store WHERE name = $1 AND (version = $2 OR $2 = 0)`, name, version)
		if err != nil {
			return fmt.Errorf("delete secret store %s: %w", name, err)
		}
		if n, err := result.RowsAffected(); err != nil {
			return fmt.Errorf("delete secret store %s: %w", name, err)
		} else if n == 0 {
			return stale(name)
		}
		tx.Changed(topic, name)
		return s.Audit.Record(ctx, tx, who, event)
	})
	if err != nil {
		return err
	}
	return s.load(ctx)
}

// Refer makes sure, in the transaction that saves a reference to a store, that the store is
// there and is not deleted before that transaction ends. The error is of code Conflict.
func (s *Stores) Refer(ctx context.Context, tx *store.Tx, name string) error {
	if builtIn(name) {
		return nil
	}
	if err := tx.Lock(ctx, lockName(name)); err != nil {
		return err
	}
	var there bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM secret_store WHERE name = $1)`, name).Scan(&there); err != nil {
		return fmt.Errorf("look up secret store %s: %w", name, err)
	}
	if !there {
		return grantway.Errorf(grantway.Conflict, "the secret store %s was deleted meanwhile", name)
	}
	return nil
}

func lockName(name string) string { return "secret_store " + name }

func (s *Stores) users(ctx context.Context, q store.Querier, name string) ([]string, error) {
	if s.Users == nil {
		return nil, nil
	}
	return s.Users(ctx, q, name)
}

// checkURL says why the hub may not call an address that somebody typed in.
func (s *Stores) checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("is not a URL")
	}
	return s.Outbound.CheckURL(u)
}

func invalid(fields []grantway.Field) error {
	return &grantway.Error{Code: grantway.Invalid, Message: "a field of the secret store is wrong", Fields: fields}
}

func alwaysThere(name string) error {
	return grantway.Errorf(grantway.Conflict, "the secret store %s is always there and has no settings in the hub", name)
}

func nameTaken(name string) error {
	return &grantway.Error{Code: grantway.Conflict, Message: "the secret store was not saved because its name is taken",
		Fields: []grantway.Field{{Pointer: "/name", Detail: fmt.Sprintf("%q is taken by another store (names differ in more than case)", name)}}}
}

func stale(name string) error {
	return grantway.Errorf(grantway.PreconditionFailed, "secret store %s has another version than the one to be changed; read it again and repeat the change", name)
}

// Reseal brings the stored sign-in secrets to the newest data key. It is a seal.Reseal.
func (s *Stores) Reseal(ctx context.Context, sealer *seal.Sealer) (n int, err error) {
	secrets, err := s.loadSecrets(ctx)
	if err != nil {
		return 0, err
	}
	err = s.Store.Write(ctx, func(tx *store.Tx) error {
		n = 0
		for name, inputs := range secrets {
			for input, sealed := range inputs {
				renewed, ok, err := sealer.Renew(place(name, input), sealed)
				if err != nil {
					return err
				}
				if !ok {
					continue
				}
				if _, err := tx.ExecContext(ctx, `UPDATE secret_store_secret SET sealed = $4 WHERE store = $1 AND input = $2 AND sealed = $3`, name, input, sealed, renewed); err != nil {
					return err
				}
				n++
			}
		}
		if n > 0 {
			tx.Changed(topic, "")
		}
		return nil
	})
	if err != nil || n == 0 {
		return n, err
	}
	return n, s.load(ctx)
}

// The results of a step of a test, as in the validation of a credential.
const (
	stepOK      = "ok"
	stepWarning = "warning"
	stepFailed  = "failed"
)

// probe is the key that a test reads when it is given none: whether there is one does not matter.
const probe = "grantway-test"

// Test tries a store, whatever is in memory: can it be reached, does it let us in, may we
// read? key names a secret to read, whose value goes nowhere; without one the last answer is
// about a key that need not be there.
func (s *Stores) Test(ctx context.Context, who access.Caller, name string, key grantway.SecretRef) (grantway.Report, error) {
	event := grantway.Event{Action: "store.test", Object: "store/" + name}
	if err := s.Audit.Require(ctx, who, access.WriteStore, access.Everywhere, event); err != nil {
		return grantway.Report{}, err
	}
	e, err := s.find(name)
	if err != nil {
		return grantway.Report{}, err
	}
	report, err := try(ctx, e, key)
	if e.health.note(err) {
		s.logHealth(name, err)
	}
	return report, s.recordTest(ctx, who, event, report)
}

// TestDraft is Test for a store that is not saved, and saves nothing. A draft with a Version is
// of a change to the saved store of its name: the secrets it leaves out are the saved ones, and
// like Save it is refused (PreconditionFailed) when somebody has saved in the meantime. Fields
// that Save would find wrong are an error of code Invalid; a name that is taken is not one.
func (s *Stores) TestDraft(ctx context.Context, who access.Caller, in grantway.SecretStore, key grantway.SecretRef) (grantway.Report, error) {
	event := grantway.Event{Action: "store.test", Object: "store/" + in.Name, Detail: "not saved"}
	if err := s.Audit.Require(ctx, who, access.WriteStore, access.Everywhere, event); err != nil {
		return grantway.Report{}, err
	}
	saved := ""
	if in.Version != 0 {
		saved = in.Name
	}
	d, err := s.draft(in, saved)
	if err != nil {
		return grantway.Report{}, err
	}
	event.Fields = d.changed()
	sealed, err := s.sealed(d)
	if err != nil {
		return grantway.Report{}, err
	}
	report, _ := try(ctx, s.open(&d.SecretStore, sealed), key)
	return report, s.recordTest(ctx, who, event, report)
}

// recordTest puts a test into the audit trail, whether or not somebody still waits for its report.
func (s *Stores) recordTest(ctx context.Context, who access.Caller, event grantway.Event, report grantway.Report) error {
	event.Outcome = access.Done
	if !report.OK {
		event.Outcome = access.Failed
	}
	ctx = context.WithoutCancel(ctx)
	return s.Store.Write(ctx, func(tx *store.Tx) error { return s.Audit.Record(ctx, tx, who, event) })
}

// try is the test of a store, with the error of its sign-in.
func try(ctx context.Context, e *entry, key grantway.SecretRef) (grantway.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*readTimeout)
	defer cancel()
	report := grantway.Report{OK: true, At: time.Now().UTC().Truncate(time.Millisecond)}
	began := time.Now()
	step := func(name, result, message, hint string) {
		report.OK = report.OK && result != stepFailed
		report.Steps = append(report.Steps, grantway.Step{Name: name, Result: result, Message: message, Hint: hint, Millis: time.Since(began).Milliseconds()})
	}
	signIn := e.SignIn(ctx)
	switch {
	case signIn == nil:
		step("reach", stepOK, "The store answers.", "")
		step("sign_in", stepOK, "The store lets the hub in.", "")
	case reasonOf(signIn) == refused:
		step("reach", stepOK, "The store answers.", "")
		step("sign_in", stepFailed, signIn.Error(), hints[refused])
		return report, signIn
	default:
		step("reach", stepFailed, signIn.Error(), hints[reasonOf(signIn)])
		return report, signIn
	}
	began = time.Now()
	given := key.Key != ""
	key.Store, key.Key = e.Describe().Name, cmp.Or(key.Key, probe)
	data, err := e.Read(ctx, key.Key, key.Version)
	if err == nil && given {
		_, err = pick(data, key, e.kind.objects)
	}
	switch {
	case err == nil:
		step("read", stepOK, "The hub may read "+named(key.Key, e.spelling(key.Key))+".", "")
	case !given && (reasonOf(err) == missing || reasonOf(err) == deleted):
		step("read", stepOK, "The hub may read.", "")
	case !given && reasonOf(err) == denied:
		step("read", stepWarning, "The hub may not read any key; it may still be allowed to read some.", "Name a key to be sure.")
	default:
		step("read", stepFailed, err.Error(), hints[reasonOf(err)])
	}
	return report, nil
}

// Hint says what to do about an error of Resolve or Renew.
func Hint(err error) string {
	var t *trouble
	if !errors.As(err, &t) { // there is no such store
		return "Add the secret store, or correct its name."
	}
	return hints[t.reason]
}

// hints say what to do about a fault.
var hints = map[reason]string{
	unreachable: "Check the address, and --allow-networks if it is a private one.",
	sealed:      "Unseal it.",
	throttled:   "Wait, or raise the store's limit; a longer time to live asks it less often.",
	refused:     "Correct what the store signs in with.",
	denied:      "Allow the hub's identity to read the key.",
	missing:     "Create the key in the secret store, or correct its name.",
	unusable:    "Correct the value in the store, or the reference.",
	deleted:     "Restore it, or refer to another version.",
}
