package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/catalog"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// idempotencyLife is how long a repeated create is recognized.
const idempotencyLife = 24 * time.Hour

// newID returns a sortable random id with a prefix that tells people what it names.
func newID(kind string) string {
	return fmt.Sprintf("%s_%011x%s", kind, time.Now().UnixMilli(), strings.ToLower(rand.Text()[:10]))
}

// Save stores c: a new credential when c.ID is empty, else a new version of that one.
// Secrets that c leaves out are kept. With c.Version set, it must be the current version
// (PreconditionFailed otherwise).
func (b *Broker) Save(ctx context.Context, who access.Caller, c grantway.Credential) (grantway.Credential, error) {
	return b.save(ctx, who, c, "")
}

// Create is Save of a new credential that may be repeated: within a day the same caller
// gets the same credential for the same key. The same key with other content is a Conflict.
func (b *Broker) Create(ctx context.Context, who access.Caller, c grantway.Credential, idempotencyKey string) (grantway.Credential, error) {
	c.ID, c.Version = "", 0
	return b.save(ctx, who, c, idempotencyKey)
}

// draft is a credential on its way into the database.
type draft struct {
	grantway.Credential
	def     catalog.Found
	secrets map[string]grant.Secret // internal secrets in the clear, kept ones among them
	kept    map[string]bool         // which of them the caller did not give
	old     *grantway.Credential    // nil for a new one
}

func (b *Broker) save(ctx context.Context, who access.Caller, c grantway.Credential, idem string) (grantway.Credential, error) {
	d, err := b.draft(ctx, who, c, access.WriteCredential)
	if err != nil {
		return grantway.Credential{}, err
	}
	if d.Warnings, err = b.checkDraft(ctx, d); err != nil {
		return grantway.Credential{}, err
	}
	warnings, now := d.Warnings, time.Now()
	var saved grantway.Credential
	err = b.Store.Write(ctx, func(tx *store.Tx) error {
		if idem != "" { // two at once come one after the other
			if err := tx.Lock(ctx, "idempotency "+who.ID+" "+idem); err != nil {
				return err
			}
			done, err := b.replay(ctx, tx, who, c, idem, &saved)
			if done || err != nil {
				return err
			}
		}
		if err := b.Connectors.Refer(ctx, tx, d.Connector, d.def); err != nil {
			return err
		}
		for _, name := range d.stores() {
			if err := b.Secrets.Refer(ctx, tx, name); err != nil {
				return err
			}
		}
		if d.old == nil {
			err = b.insert(ctx, tx, d, now)
		} else {
			err = b.update(ctx, tx, d, now)
		}
		if err != nil {
			return err
		}
		if err := b.writeWords(ctx, tx, d.Credential); err != nil {
			return err
		}
		if idem != "" {
			if err := b.remember(ctx, tx, who, c, idem, d.ID, now); err != nil {
				return err
			}
		}
		saved = d.Credential
		if saved.UsedBy, err = b.references(ctx, tx, d.ID); err != nil {
			return err
		}
		tx.Changed(topicCredential, d.ID)
		action := "credential.update"
		if d.old == nil {
			action = "credential.create"
		}
		return b.Audit.Record(ctx, tx, who, grantway.Event{Action: action, Object: "credential/" + d.Name, Division: d.Division, Fields: d.changed()})
	})
	if err != nil {
		return grantway.Credential{}, err
	}
	if err := b.credentialChanged(ctx, saved.ID); err != nil { // so that the caller reads what it wrote
		b.Log.Warn("credential saved, but not loaded again", "credential", saved.Name, "error", err)
	}
	saved.Warnings = warnings
	return saved, nil
}

// draft completes c with defaults and, for an update, with the secrets it leaves out, and
// checks that who may do p with it.
func (b *Broker) draft(ctx context.Context, who access.Caller, c grantway.Credential, p access.Permission) (*draft, error) {
	if c.Division == "" {
		c.Division = grantway.DefaultDivision
	}
	if c.Connector == "" {
		c.Connector = grantway.PlainConnector
	}
	d := &draft{Credential: c, secrets: map[string]grant.Secret{}, kept: map[string]bool{}}
	d.UsedBy, d.Warnings = nil, nil // not the caller's to say
	d.Inputs = maps.Clone(c.Inputs)
	if d.Inputs == nil {
		d.Inputs = map[string]grantway.Value{}
	}
	var stored *record
	if c.ID != "" {
		h, err := b.find(ctx, who, c.ID, p)
		if err != nil {
			return nil, err
		}
		if err := who.CheckToken(h.id); err != nil { // what is written here says where tokens go
			b.Audit.Denied(ctx, who, grantway.Event{Action: p.String(), Object: object(h.name), Division: h.division})
			return nil, err
		}
		old, r, err := b.read(ctx, h.id)
		if err != nil {
			return nil, err
		}
		d.old, stored = &old, r
		d.ID, d.CreatedAt = old.ID, old.CreatedAt
		if old.Connector != c.Connector {
			return nil, invalid("/connector", "cannot be changed; make a new credential")
		}
		d.ConnectorVersion = cmp.Or(c.ConnectorVersion, old.ConnectorVersion)
		if c.Version != 0 && c.Version != old.Version {
			return nil, staleVersion(old.Name)
		}
	}
	if err := b.require(ctx, who, p, c.Name, c.Division); err != nil {
		return nil, err
	}
	var err error
	if d.def, err = b.definition(c.Connector, d.ConnectorVersion); err != nil {
		return nil, err
	}
	d.ConnectorVersion = d.def.Version
	for _, key := range d.def.Secrets() {
		v, given := d.Inputs[key]
		switch keep := stored != nil && (!given || v.Set); {
		case keep:
			delete(d.Inputs, key)
			if old, ok := stored.inputs[key]; ok {
				d.Inputs[key] = old
			}
			if sealed, ok := stored.sealed[key]; ok {
				plain, err := b.Sealer.Open(secretPlace(d.ID, key), sealed)
				if err != nil {
					return nil, fmt.Errorf("credential %s: open %s: %w", c.Name, key, err)
				}
				d.secrets[key], d.kept[key] = grant.Secret(plain), true
			}
		case v.Set:
			delete(d.Inputs, key) // nothing is stored yet, so there is nothing to keep
		case v.Text != "":
			d.secrets[key] = grant.Secret(v.Text)
		}
	}
	return d, nil
}

// checkDraft finds everything wrong with d, and warns of what is only suspicious.
func (b *Broker) checkDraft(ctx context.Context, d *draft) ([]grantway.Field, error) {
	var fields []grantway.Field
	wrong := func(pointer, format string, args ...any) {
		fields = append(fields, grantway.Field{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
	if detail := access.WrongName(d.Name); detail != "" {
		wrong("/name", "%s", detail)
	}
	if detail := access.WrongDescription(d.Description); detail != "" {
		wrong("/description", "%s", detail)
	}
	if known, err := b.divisionExists(ctx, d.Division); err != nil {
		return nil, err
	} else if !known {
		wrong("/division", "%s", thereIsNo("division", d.Division))
	}
	if l := d.RateLimit; l != nil && (l.Requests < 1 || l.Requests > 1e6 || l.Per < 1 || l.Per > 86400) {
		wrong("/rate_limit", "must be 1 to 1,000,000 requests in 1 to 86,400 seconds")
	}
	if _, err := location(d.TimeZone); err != nil {
		wrong("/time_zone", "must be the name of a time zone, such as Europe/Paris")
	}
	fields = append(fields, d.def.Check(d.Inputs)...)
	warnings, external := dislikes(d.Inputs), false
	for key, v := range d.Inputs {
		if v.Ref == nil {
			continue
		}
		external = true
		if !slices.Contains(b.Secrets.Names(), v.Ref.Store) {
			wrong("/inputs/"+key+"/store", "%s; the stores are %s", thereIsNo("secret store", v.Ref.Store), strings.Join(b.Secrets.Names(), ", "))
		} else if _, err := b.Secrets.Renew(ctx, *v.Ref, time.Second); err != nil {
			warnings = append(warnings, grantway.Field{Pointer: "/inputs/" + key, Detail: err.Error()})
		}
	}
	if d.Inputs["dpop"].Text == "true" && d.Inputs["dpop_key"].Empty() && fields == nil {
		key, err := newDPoPKey()
		if err != nil {
			return nil, err
		}
		d.secrets["dpop_key"] = key
	}
	if fields == nil && !external {
		var e *grantway.Error
		zone, _ := location(d.TimeZone)
		if _, err := d.def.Compile(connector.Values{Plain: d.Inputs, Secrets: d.secrets, Zone: zone}); errors.As(err, &e) {
			fields = e.Fields
		} else if err != nil {
			return nil, err
		}
	}
	if fields != nil {
		return nil, &grantway.Error{Code: grantway.Invalid, Message: "the credential was not saved because a field is wrong", Fields: fields}
	}
	for key := range d.secrets { // from here on, only the mark
		d.Inputs[key] = grantway.Value{Set: true}
	}
	for key, v := range d.Inputs { // an empty value is no value
		if v.Empty() {
			delete(d.Inputs, key)
		}
	}
	if v := d.Inputs["scopes"]; v.Text != "" {
		scope, err := grant.NormalizeScope(v.Text)
		if err != nil {
			return nil, invalid("/inputs/scopes", "%v", err)
		}
		d.Inputs["scopes"] = grantway.Text(scope)
	}
	return warnings, nil
}

// location is a time zone by name; "" is UTC. The zone of this machine has no name here.
func location(zone string) (*time.Location, error) {
	if len(zone) > 64 || zone == "Local" {
		return nil, errors.New("is not the name of a time zone")
	}
	return time.LoadLocation(zone)
}

func newDPoPKey() (grant.Secret, error) {
	key, err := grant.NewDPoPKey()
	if err != nil {
		return "", fmt.Errorf("make a DPoP key: %w", err)
	}
	jwk, err := key.Marshal()
	return grant.Secret(jwk), err
}

// changed names what differs from the stored version. A secret that was given again
// counts as changed, whether or not it is the same: nobody should learn that from the audit trail.
func (d *draft) changed() []string {
	var old grantway.Credential
	if d.old != nil {
		old = *d.old
	}
	var names []string
	for name, differs := range map[string]bool{
		"name": d.Name != old.Name, "description": d.Description != old.Description, "division": d.Division != old.Division,
		"connector_version": d.old != nil && d.ConnectorVersion != old.ConnectorVersion,
		"rate_limit":        !reflect.DeepEqual(d.RateLimit, old.RateLimit), "time_zone": d.TimeZone != old.TimeZone,
	} {
		if differs {
			names = append(names, name)
		}
	}
	for _, in := range d.def.Inputs {
		_, secret := d.secrets[in.Key]
		if given := secret && !d.kept[in.Key]; given || !reflect.DeepEqual(old.Inputs[in.Key], d.Inputs[in.Key]) {
			names = append(names, in.Key)
		}
	}
	slices.Sort(names)
	return names
}

// stores names the secret stores that d refers to, in order, so that two who save do not wait
// for each other.
func (d *draft) stores() []string {
	var names []string
	for _, v := range d.Inputs {
		if v.Ref != nil {
			names = append(names, v.Ref.Store)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (b *Broker) insert(ctx context.Context, tx *store.Tx, d *draft, now time.Time) error {
	d.ID, d.Version = newID("cred"), 1
	d.CreatedAt, d.UpdatedAt = now.UTC().Truncate(time.Millisecond), now.UTC().Truncate(time.Millisecond)
	inputs, err := json.Marshal(d.Inputs)
	if err != nil {
		return err
	}
	var one int
	err = tx.QueryRowContext(ctx, `
		INSERT INTO credential (id, name, name_key, description, division, connector, connector_version, inputs, rate_limit, time_zone, secret_expires_at, version, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1, $12, $12) ON CONFLICT (name_key) DO NOTHING RETURNING 1`,
		d.ID, d.Name, strings.ToLower(d.Name), d.Description, d.Division, d.Connector, d.ConnectorVersion, string(inputs), d.rateLimit(), d.TimeZone, d.secretExpiry(), now.UnixMilli()).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return nameTaken(d.Name)
	}
	if err != nil {
		return fmt.Errorf("insert credential %s: %w", d.Name, err)
	}
	return b.writeSecrets(ctx, tx, d)
}

func (b *Broker) update(ctx context.Context, tx *store.Tx, d *draft, now time.Time) error {
	d.Version, d.UpdatedAt = d.old.Version+1, now.UTC().Truncate(time.Millisecond)
	inputs, err := json.Marshal(d.Inputs)
	if err != nil {
		return err
	}
	var taken bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM credential WHERE name_key = $1 AND id <> $2)`, strings.ToLower(d.Name), d.ID).Scan(&taken); err != nil {
		return fmt.Errorf("update credential %s: %w", d.Name, err)
	}
	if taken {
		return nameTaken(d.Name)
	}
	result, err := tx.ExecContext(ctx, `
		UPDATE credential SET name = $3, name_key = $4, description = $5, division = $6, inputs = $7, secret_expires_at = $8, version = $9, updated_at = $10,
		       connector_version = $11, rate_limit = $12, time_zone = $13
		WHERE id = $1 AND version = $2`,
		d.ID, d.old.Version, d.Name, strings.ToLower(d.Name), d.Description, d.Division, string(inputs), d.secretExpiry(), d.Version, now.UnixMilli(),
		d.ConnectorVersion, d.rateLimit(), d.TimeZone)
	if err != nil {
		return fmt.Errorf("update credential %s: %w", d.Name, err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, staleVersion(d.old.Name))
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM token WHERE credential_id = $1`, d.ID); err != nil {
		return fmt.Errorf("update credential %s: %w", d.Name, err)
	}
	return b.writeSecrets(ctx, tx, d)
}

// writeSecrets makes the sealed rows of d exactly those of d.secrets, so that a secret
// which moved to a store or was removed leaves nothing behind.
func (b *Broker) writeSecrets(ctx context.Context, tx *store.Tx, d *draft) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM credential_secret WHERE credential_id = $1`, d.ID); err != nil {
		return fmt.Errorf("credential %s: replace secrets: %w", d.Name, err)
	}
	for key, plain := range d.secrets {
		sealed, err := b.Sealer.Seal(secretPlace(d.ID, key), []byte(plain))
		if err != nil {
			return fmt.Errorf("credential %s: seal %s: %w", d.Name, key, err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO credential_secret (credential_id, input, sealed) VALUES ($1, $2, $3)`, d.ID, key, sealed); err != nil {
			return fmt.Errorf("credential %s: store %s: %w", d.Name, key, err)
		}
	}
	return nil
}

func secretPlace(id, input string) seal.Place {
	return seal.Place{Table: "credential_secret", Row: rowName(id, input), Column: "sealed"}
}

func (d *draft) secretExpiry() int64 {
	t, err := connector.ParseDate(d.Inputs["client_secret_expires_at"].Text)
	if err != nil { // it is not set: what is set was checked
		return 0
	}
	return t.UnixMilli()
}

// rateLimit is how d.RateLimit is stored.
func (d *draft) rateLimit() string {
	if d.RateLimit == nil {
		return ""
	}
	text, _ := json.Marshal(d.RateLimit) // two numbers always marshal
	return string(text)
}

func nameTaken(name string) *grantway.Error {
	return &grantway.Error{Code: grantway.Conflict, Message: "the credential was not saved because a field is wrong",
		Fields: []grantway.Field{{Pointer: "/name", Detail: fmt.Sprintf("%q is taken by another credential (names differ in more than case)", name)}}}
}

func staleVersion(name string) *grantway.Error {
	return grantway.Errorf(grantway.PreconditionFailed, "credential %s has another version than the one to be changed; read it again and repeat the change", name)
}

// replay looks for an earlier create with the same key.
func (b *Broker) replay(ctx context.Context, tx *store.Tx, who access.Caller, c grantway.Credential, key string, saved *grantway.Credential) (done bool, err error) {
	var sealed []byte
	var id string
	err = tx.QueryRowContext(ctx, `SELECT digest, credential_id FROM idempotency WHERE caller = $1 AND idem_key = $2`, who.ID, key).Scan(&sealed, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up idempotency key: %w", err)
	}
	before, err := b.Sealer.Open(idempotencyPlace(who, key), sealed)
	if err != nil {
		return false, fmt.Errorf("open idempotency key: %w", err)
	}
	if subtle.ConstantTimeCompare(before, digest(c)) != 1 {
		return false, grantway.Errorf(grantway.Conflict, "the Idempotency-Key was used for another credential already; use a new one")
	}
	*saved, err = scanCredential(tx.QueryRowContext(ctx, `SELECT `+credentialColumns+` FROM credential WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return false, grantway.Errorf(grantway.Conflict, "the credential that was created with this Idempotency-Key is deleted; use a new key")
	}
	if err != nil {
		return false, err
	}
	return true, who.Check(access.ReadCredential, saved.Division) // it may have been moved since
}

func (b *Broker) remember(ctx context.Context, tx *store.Tx, who access.Caller, c grantway.Credential, key, id string, now time.Time) error {
	sealed, err := b.Sealer.Seal(idempotencyPlace(who, key), digest(c))
	if err != nil {
		return fmt.Errorf("seal idempotency key: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO idempotency (caller, idem_key, digest, credential_id, created_at) VALUES ($1, $2, $3, $4, $5)`,
		who.ID, key, sealed, id, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("store idempotency key: %w", err)
	}
	return nil
}

func idempotencyPlace(who access.Caller, key string) seal.Place {
	return seal.Place{Table: "idempotency", Row: rowName(who.ID, key), Column: "digest"}
}

func digest(c grantway.Credential) []byte {
	text, _ := json.Marshal(c) // a struct of strings and maps always marshals
	sum := sha256.Sum256(text)
	return sum[:]
}

const credentialColumns = `id, name, description, division, connector, connector_version, inputs, rate_limit, time_zone, version, created_at, updated_at`

func scanCredential(row interface{ Scan(...any) error }) (c grantway.Credential, err error) {
	var inputs, limit string
	var created, updated int64
	if err := row.Scan(&c.ID, &c.Name, &c.Description, &c.Division, &c.Connector, &c.ConnectorVersion, &inputs, &limit, &c.TimeZone, &c.Version, &created, &updated); err != nil {
		return c, err
	}
	if limit != "" {
		if err := json.Unmarshal([]byte(limit), &c.RateLimit); err != nil {
			return c, fmt.Errorf("credential %s: stored rate limit: %w", c.ID, err)
		}
	}
	c.CreatedAt, c.UpdatedAt = fromMillis(created), fromMillis(updated)
	if err := json.Unmarshal([]byte(inputs), &c.Inputs); err != nil {
		return c, fmt.Errorf("credential %s: stored inputs: %w", c.ID, err)
	}
	return c, nil
}

// read returns a credential and what a token request needs of it.
func (b *Broker) read(ctx context.Context, id string) (grantway.Credential, *record, error) {
	c, err := scanCredential(b.Store.Read().QueryRowContext(ctx, `SELECT `+credentialColumns+` FROM credential WHERE id = $1`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil, noCredential(id)
	}
	if err != nil {
		return c, nil, fmt.Errorf("read credential %s: %w", id, err)
	}
	rows, err := b.Store.Read().QueryContext(ctx, `SELECT input, sealed FROM credential_secret WHERE credential_id = $1`, id)
	if err != nil {
		return c, nil, fmt.Errorf("read secrets of credential %s: %w", id, err)
	}
	defer rows.Close()
	r := &record{inputs: c.Inputs, sealed: map[string][]byte{}, limit: c.RateLimit}
	if r.zone, err = location(c.TimeZone); err != nil { // this machine knows fewer than the one it was saved on
		b.Log.Warn("a credential has a time zone that is not known here", "credential", c.Name, "time_zone", c.TimeZone)
	}
	for rows.Next() {
		var key string
		var sealed []byte
		if err := rows.Scan(&key, &sealed); err != nil {
			return c, nil, fmt.Errorf("read secrets of credential %s: %w", id, err)
		}
		r.sealed[key] = sealed
	}
	return c, r, rows.Err()
}

func (b *Broker) divisionExists(ctx context.Context, name string) (ok bool, err error) {
	if access.WrongName(name) != "" {
		return false, nil
	}
	err = b.Store.Read().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM division WHERE name = $1)`, name).Scan(&ok)
	if err != nil {
		return false, fmt.Errorf("look up division %s: %w", name, err)
	}
	return ok, nil
}

// Get returns one credential by name or id, without its secrets.
func (b *Broker) Get(ctx context.Context, who access.Caller, ref string) (grantway.Credential, error) {
	h, err := b.find(ctx, who, ref, access.ReadCredential)
	if err != nil {
		return grantway.Credential{}, err
	}
	c, _, err := b.read(ctx, h.id)
	if err != nil {
		return c, err
	}
	c.UsedBy, err = b.references(ctx, b.Store.Read(), h.id)
	return c, err
}

// List returns up to limit credentials after the cursor, by name; with connector, those made of
// it. Callers who may pick a credential but not read it get its name, description, division and
// connector only.
func (b *Broker) List(ctx context.Context, who access.Caller, connector, cursor string, limit int) (grantway.Page[grantway.Credential], error) {
	page := grantway.Page[grantway.Credential]{Items: []grantway.Credential{}}
	if err := b.Audit.RequireSomewhere(ctx, who, access.PickCredential, grantway.Event{Action: access.PickCredential.String()}); err != nil {
		return page, err
	}
	if cursor != "" && access.WrongName(cursor) != "" {
		return page, grantway.Errorf(grantway.Malformed, "the cursor is not one that this hub gave out")
	}
	divisions, everywhere := who.Divisions(access.PickCredential)
	// Division names hold no commas, so a list in one string is a set both databases can search.
	rows, err := b.Store.Read().QueryContext(ctx, `
		SELECT `+credentialColumns+` FROM credential
		WHERE name_key > $1 AND ($2 OR REPLACE($3, ',' || division || ',', '') <> $3) AND ($4 = '' OR connector = $4)
		ORDER BY name_key LIMIT $5`, strings.ToLower(cursor), everywhere, ","+strings.Join(divisions, ",,")+",", connector, limit+1)
	if err != nil {
		return page, fmt.Errorf("list credentials: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		c, err := scanCredential(rows)
		if err != nil {
			return page, fmt.Errorf("list credentials: %w", err)
		}
		if !who.May(access.ReadCredential, c.Division) {
			c = grantway.Credential{ID: c.ID, Name: c.Name, Description: c.Description, Division: c.Division, Connector: c.Connector, Inputs: grantway.Inputs{}}
		}
		page.Items = append(page.Items, c)
	}
	if err := rows.Err(); err != nil {
		return page, fmt.Errorf("list credentials: %w", err)
	}
	if len(page.Items) > limit {
		page.Items = page.Items[:limit]
		page.Next = page.Items[limit-1].Name
	}
	return page, nil
}

// Delete removes a credential, its secrets and its tokens. It is refused while something refers to it.
func (b *Broker) Delete(ctx context.Context, who access.Caller, ref string, version int64) error {
	h, err := b.find(ctx, who, ref, access.DeleteCredential)
	if err != nil {
		return err
	}
	err = b.Store.Write(ctx, func(tx *store.Tx) error {
		users, err := b.references(ctx, tx, h.id)
		if err != nil {
			return err
		}
		if users != nil {
			return grantway.Errorf(grantway.Conflict, "credential %s is used by %s; change that first", h.name, strings.Join(users, ", "))
		}
		result, err := tx.ExecContext(ctx, `DELETE FROM credential WHERE id = $1 AND (version = $2 OR $2 = 0)`, h.id, version)
		if err != nil {
			return fmt.Errorf("delete credential %s: %w", h.name, err)
		}
		n, err := result.RowsAffected()
		switch {
		case err != nil:
			return fmt.Errorf("delete credential %s: %w", h.name, err)
		case n == 0 && version == 0: // somebody was faster
			return noCredential(ref)
		case n == 0:
			return staleVersion(h.name)
		}
		tx.Changed(topicCredential, h.id)
		return b.Audit.Record(ctx, tx, who, grantway.Event{Action: "credential.delete", Object: "credential/" + h.name, Division: h.division})
	})
	if err != nil {
		return err
	}
	return b.credentialChanged(ctx, h.id)
}

// Refer notes, in the transaction of whoever uses a credential, that something named kind
// and name does: the credential cannot be deleted until Release.
func (b *Broker) Refer(ctx context.Context, tx *store.Tx, id, kind, name string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO credential_reference (credential_id, kind, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, id, kind, name)
	if err != nil {
		return fmt.Errorf("refer to credential %s: %w", id, err)
	}
	return nil
}

// Release undoes Refer.
func (b *Broker) Release(ctx context.Context, tx *store.Tx, id, kind, name string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM credential_reference WHERE credential_id = $1 AND kind = $2 AND name = $3`, id, kind, name)
	if err != nil {
		return fmt.Errorf("release credential %s: %w", id, err)
	}
	return nil
}

func (b *Broker) references(ctx context.Context, q store.Querier, id string) (users []string, err error) {
	rows, err := q.QueryContext(ctx, `SELECT kind, name FROM credential_reference WHERE credential_id = $1 ORDER BY kind, name`, id)
	if err != nil {
		return nil, fmt.Errorf("look for users of credential %s: %w", id, err)
	}
	defer rows.Close()
	for rows.Next() {
		var kind, name string
		if err := rows.Scan(&kind, &name); err != nil {
			return nil, fmt.Errorf("look for users of credential %s: %w", id, err)
		}
		users = append(users, kind+" "+name)
	}
	return users, rows.Err()
}

// StoreUsers names the credentials that refer to a secret store, the first few: it is
// secret.Options.Users.
func StoreUsers(ctx context.Context, q store.Querier, name string) (users []string, err error) {
	// The JSON of a reference is ours, and names of stores need no escapes. A name with "_",
	// which LIKE takes for any character, finds too many: hence the second look.
	rows, err := q.QueryContext(ctx, `SELECT name, inputs FROM credential WHERE inputs LIKE '%"store":"' || $1 || '"%' ORDER BY name_key`, name)
	if err != nil {
		return nil, fmt.Errorf("look for users of secret store %s: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() && len(users) < 20 {
		var credential, text string
		if err := rows.Scan(&credential, &text); err != nil {
			return nil, fmt.Errorf("look for users of secret store %s: %w", name, err)
		}
		if strings.Contains(text, `"store":"`+name+`"`) {
			users = append(users, "credential "+credential)
		}
	}
	return users, rows.Err()
}

// ConnectorUsers are the credentials that are made of a connector: it is catalog.Options.Users.
func ConnectorUsers(ctx context.Context, q store.Querier, connector string) (users []catalog.User, err error) {
	rows, err := q.QueryContext(ctx, `SELECT name, division, connector_version, inputs FROM credential WHERE connector = $1 ORDER BY name_key`, connector)
	if err != nil {
		return nil, fmt.Errorf("look for users of connector %s: %w", connector, err)
	}
	defer rows.Close()
	for rows.Next() {
		var u catalog.User
		var inputs string
		if err := rows.Scan(&u.Name, &u.Division, &u.Version, &inputs); err != nil {
			return nil, fmt.Errorf("look for users of connector %s: %w", connector, err)
		}
		if err := json.Unmarshal([]byte(inputs), &u.Inputs); err != nil {
			return nil, fmt.Errorf("inputs of credential %s: %w", u.Name, err)
		}
		users = append(users, u)
	}
	return users, rows.Err()
}
