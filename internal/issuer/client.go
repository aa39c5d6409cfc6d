package issuer

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// tokenSeconds is the lifetime of the tokens of a client that has no other: a day.
const tokenSeconds = 86400

// stateOwner marks a database in which a first client has been made.
const stateOwner = "owner"

// EnsureOwner makes the first client of a hub, called "owner", with the role owner in all
// divisions, in a database that has never had a client; in any other it does nothing, also if
// all clients have been deleted. keep gets the client with its secret, to put it where its
// people find it; if it fails, or the program dies, there is no client, and the next call
// tries again. keep may be called more than once; the last call counts.
func (i *Issuer) EnsureOwner(ctx context.Context, keep func(grantway.OAuthClient) error) (created bool, err error) {
	owner := grantway.OAuthClient{Name: "owner", Description: "Made at the first start of the hub",
		Roles: []grantway.Assignment{{Role: access.Owner, Division: access.Everywhere}}}
	owner.ClientSettings = defaults().ClientSettings
	var stored *client
	err = i.Store.Write(ctx, func(tx *store.Tx) error {
		if created, err = markOwner(ctx, tx); err != nil || !created {
			return err
		}
		var secret string
		if stored, secret, err = i.insert(ctx, tx, access.Hub(), owner); err != nil {
			return err
		}
		return keep(i.public(access.Hub(), stored, secret))
	})
	if err != nil {
		return false, fmt.Errorf("first client: %w", err)
	}
	if created {
		i.clients.set(stored.ID, stored)
	}
	return created, nil
}

// markOwner says whether this is the first client of the database.
func markOwner(ctx context.Context, tx *store.Tx) (first bool, err error) {
	r, err := tx.ExecContext(ctx, `INSERT INTO issuer_state (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, stateOwner, []byte{})
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}

// CreateClient makes a client. The answer holds its secret, if it authenticates with one, which
// nobody can read later. Who makes it must hold the permission
// access.WriteClient, and all that the roles allow, in the division of each role.
//
// Errors are of code Forbidden, Invalid with all wrong fields, or Conflict when the name
// is taken, in whatever case.
func (i *Issuer) CreateClient(ctx context.Context, who access.Caller, c grantway.OAuthClient) (grantway.OAuthClient, error) {
	event := grantway.Event{Action: "client.create", Object: access.Object("client", c.Name)}
	if err := i.requireSome(ctx, who, event); err != nil {
		return grantway.OAuthClient{}, err
	}
	var stored *client
	var secret string
	err := i.change(ctx, who, &event, func(tx *store.Tx) (err error) {
		if err := i.checkClient(ctx, tx, who, &c, nil); err != nil {
			return err
		}
		if err := mayWrite(who, c.Roles); err != nil {
			return err
		}
		if _, err := markOwner(ctx, tx); err != nil {
			return err
		}
		stored, secret, err = i.insert(ctx, tx, who, c)
		return err
	})
	if err != nil {
		return grantway.OAuthClient{}, err
	}
	i.clients.set(stored.ID, stored)
	i.haveKey(ctx, stored)
	return i.public(who, stored, secret), nil
}

// insert writes a new client and a secret for it, and returns what is stored.
func (i *Issuer) insert(ctx context.Context, tx *store.Tx, who access.Caller, c grantway.OAuthClient) (stored *client, secret string, err error) {
	c.ID = newID("client")
	settings, err := settingsJSON(c)
	if err != nil {
		return nil, "", fmt.Errorf("create client %s: %w", c.Name, err)
	}
	now := time.Now().UnixMilli()
	_, err = tx.ExecContext(ctx, `
		INSERT INTO client (id, name, name_key, description, active, grant_type, auth_method, token_seconds, settings, version, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10, $11)`,
		c.ID, c.Name, strings.ToLower(c.Name), c.Description, c.State != grantway.ClientInactive, c.GrantType, c.AuthMethod, int64(c.TokenSeconds), settings, now, now)
	if store.Duplicate(err) {
		return nil, "", nameTaken()
	}
	if err != nil {
		return nil, "", fmt.Errorf("create client %s: %w", c.Name, err)
	}
	if err := writeRoles(ctx, tx, c.ID, c.Roles); err != nil {
		return nil, "", err
	}
	if err := writeUses(ctx, tx, c.ID, c.Credentials); err != nil {
		return nil, "", err
	}
	if err := i.ensureKey(ctx, tx, c.TokenAlg); err != nil {
		return nil, "", err
	}
	event := grantway.Event{Action: "client.create", Object: "client/" + c.Name, Fields: append([]string{"description", "name", "roles"}, changedSettings(defaults(), c)...)}
	if usesSecret(c.AuthMethod) {
		var secretID string
		if secretID, secret, err = i.addSecret(ctx, tx, &c, time.Time{}); err != nil {
			return nil, "", err
		}
		event.Fields, event.Detail = append(event.Fields, "client_secret"), "secret "+secretID
	}
	if len(c.Credentials) > 0 {
		event.Fields = append(event.Fields, "credentials")
	}
	slices.Sort(event.Fields)
	if stored, err = readClient(ctx, tx, c.ID); err != nil {
		return nil, "", err
	}
	tx.Changed(topicClient, c.ID)
	return stored, secret, i.Audit.Record(ctx, tx, who, event)
}

// UpdateClient replaces the client with c.ID, all but its secrets and, when c.State is "", its
// state; a list of credentials that is nil stays. What its live tokens may do changes with the
// roles and that list. Who changes it must be allowed to make it both as it was and as it will be.
//
// Errors are those of CreateClient, or of code NotFound, or PreconditionFailed when c.Version
// is neither 0 nor the version that is stored.
func (i *Issuer) UpdateClient(ctx context.Context, who access.Caller, c grantway.OAuthClient) (grantway.OAuthClient, error) {
	stored, err := i.edit(ctx, who, c.ID, "client.update", func(tx *store.Tx, old *client, event *grantway.Event) error {
		if c.Version != 0 && c.Version != old.Version {
			return grantway.Errorf(grantway.PreconditionFailed, "the client has changed since it was read: it is at version %d", old.Version)
		}
		if err := i.checkClient(ctx, tx, who, &c, old); err != nil {
			return err
		}
		if err := mayWrite(who, c.Roles); err != nil {
			return err
		}
		for field, changed := range map[string]bool{
			"name": c.Name != old.Name, "description": c.Description != old.Description, "roles": !sameRoles(c.Roles, old.Roles),
			"credentials": !sameUses(c.Credentials, old.Credentials),
		} {
			if changed {
				event.Fields = append(event.Fields, field)
			}
		}
		event.Fields = append(event.Fields, changedSettings(old.OAuthClient, c)...)
		slices.Sort(event.Fields)
		if err := i.ensureKey(ctx, tx, c.TokenAlg); err != nil {
			return err
		}
		settings, err := settingsJSON(c)
		if err != nil {
			return err
		}
		active := c.State == grantway.ClientActive || c.State == "" && old.active
		_, err = tx.ExecContext(ctx, `
			UPDATE client SET name = $1, name_key = $2, description = $3, active = $4, grant_type = $5, auth_method = $6, token_seconds = $7, settings = $8
			WHERE id = $9`,
			c.Name, strings.ToLower(c.Name), c.Description, active, c.GrantType, c.AuthMethod, int64(c.TokenSeconds), settings, c.ID)
		if store.Duplicate(err) {
			return nameTaken()
		}
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM client_role WHERE client_id = $1`, c.ID); err != nil {
			return err
		}
		if err := writeRoles(ctx, tx, c.ID, c.Roles); err != nil {
			return err
		}
		return writeUses(ctx, tx, c.ID, c.Credentials)
	})
	if err != nil {
		return grantway.OAuthClient{}, err
	}
	i.haveKey(ctx, stored)
	return i.public(who, stored, ""), nil
}

// changedSettings names the settings that differ, as they are called in JSON.
func changedSettings(old, now grantway.OAuthClient) (names []string) {
	a, b := reflect.ValueOf(old.ClientSettings), reflect.ValueOf(now.ClientSettings)
	for n := range a.NumField() {
		x, y := a.Field(n), b.Field(n)
		if x.Kind() == reflect.Slice && x.Len() == 0 && y.Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(x.Interface(), y.Interface()) {
			name, _, _ := strings.Cut(a.Type().Field(n).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	if now.State != "" && now.State != old.State {
		names = append(names, "state")
	}
	return names
}

// SetActive turns a client on or off. While it is off it gets no tokens, and those that it
// has do not count. Errors are of code Forbidden or NotFound.
func (i *Issuer) SetActive(ctx context.Context, who access.Caller, id string, active bool) error {
	action := map[bool]string{true: "client.activate", false: "client.deactivate"}[active]
	_, err := i.edit(ctx, who, id, action, func(tx *store.Tx, _ *client, _ *grantway.Event) error {
		_, err := tx.ExecContext(ctx, `UPDATE client SET active = $1 WHERE id = $2`, active, id)
		return err
	})
	return err
}

// keepDeleted is how long a client that was deleted can be restored.
const keepDeleted = 7 * 24 * time.Hour

// DeleteClient deletes a client and its tokens, and gives its name free. For a week it can be
// restored. Errors are of code Forbidden or NotFound.
func (i *Issuer) DeleteClient(ctx context.Context, who access.Caller, id string) error {
	_, err := i.edit(ctx, who, id, "client.delete", func(tx *store.Tx, old *client, _ *grantway.Event) error {
		roles, err := json.Marshal(old.Roles)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE client SET deleted_at = $1, deleted_roles = $2, name_key = id WHERE id = $3`, time.Now().UnixMilli(), string(roles), id)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM client_role WHERE client_id = $1`, id); err != nil {
			return err
		}
		return revokeTokens(ctx, tx, id)
	})
	return err
}

// RestoreClient brings a client back that was deleted, with its secrets and without its tokens.
// Errors are of code Forbidden, NotFound, or Conflict when its name is taken or a division of its
// roles is gone.
func (i *Issuer) RestoreClient(ctx context.Context, who access.Caller, id string) (grantway.OAuthClient, error) {
	stored, err := i.edit(ctx, who, id, actionRestore, func(tx *store.Tx, old *client, _ *grantway.Event) error {
		_, err := tx.ExecContext(ctx, `UPDATE client SET deleted_at = 0, deleted_roles = '', name_key = $1 WHERE id = $2`, strings.ToLower(old.Name), id)
		if store.Duplicate(err) {
			return grantway.Errorf(grantway.Conflict, "another client has the name %s by now; rename that one first", old.Name)
		}
		if err != nil {
			return err
		}
		for _, a := range old.Roles {
			var there bool
			if err := tx.QueryRowContext(ctx, `SELECT $1 = '*' OR EXISTS (SELECT 1 FROM division WHERE name = $1)`, a.Division).Scan(&there); err != nil {
				return err
			}
			if !there {
				return grantway.Errorf(grantway.Conflict, "the division %s, in which client %s has a role, is gone; make it again first", a.Division, old.Name)
			}
		}
		if err := writeRoles(ctx, tx, id, old.Roles); err != nil {
			return err
		}
		return revokeTokens(ctx, tx, id) // one may have been issued while it was deleted
	})
	if err != nil {
		return grantway.OAuthClient{}, err
	}
	return i.public(who, stored, ""), nil
}

const actionRestore = "client.restore"

// edit runs f on a client that exists and that who may change, raises its version, and
// records the event, to which f may add. It returns what is stored then.
func (i *Issuer) edit(ctx context.Context, who access.Caller, id, action string, f func(*store.Tx, *client, *grantway.Event) error) (stored *client, err error) {
	event := grantway.Event{Object: access.Object("client", id), Action: action}
	if err := i.requireSome(ctx, who, event); err != nil {
		return nil, err
	}
	err = i.change(ctx, who, &event, func(tx *store.Tx) error {
		old, err := readClient(ctx, tx, id)
		if err != nil {
			return err
		}
		if old == gone || old.DeletedAt.IsZero() == (action == actionRestore) || !visible(who, old.Roles) {
			return noClient(id)
		}
		event = grantway.Event{Object: "client/" + old.Name, Action: action}
		if err := mayWrite(who, old.Roles); err != nil {
			return err
		}
		if err := f(tx, old, &event); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE client SET version = version + 1, updated_at = $1 WHERE id = $2`, time.Now().UnixMilli(), id)
		if err != nil {
			return err
		}
		if stored, err = readClient(ctx, tx, id); err != nil {
			return err
		}
		if err := ownerLeft(ctx, tx, old); err != nil {
			return err
		}
		tx.Changed(topicClient, id)
		return i.Audit.Record(ctx, tx, who, event)
	})
	if _, ours := errors.AsType[*grantway.Error](err); err != nil && !ours {
		return nil, fmt.Errorf("client %s: %w", id, err)
	}
	if err == nil {
		i.clients.set(id, stored)
	}
	return stored, err
}

// ownerLeft refuses what would leave the hub without an owner of all divisions, after old,
// who may have been the last one, was changed: nobody could delete credentials or manage keys any more.
func ownerLeft(ctx context.Context, tx *store.Tx, old *client) error {
	if !slices.Contains(old.Roles, grantway.Assignment{Role: access.Owner, Division: access.Everywhere}) {
		return nil
	}
	var left bool
	err := tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM client c JOIN client_role r ON r.client_id = c.id
		               WHERE c.active AND r.role = $1 AND r.division IS NULL)`, access.Owner).Scan(&left)
	if err != nil {
		return err
	}
	if !left {
		return grantway.Errorf(grantway.Conflict, "client %s is the last owner in all divisions; make another one first", old.Name)
	}
	return nil
}

// change runs f in a transaction, one such at a time so that what it reads stays true, and
// records a refusal as event.
func (i *Issuer) change(ctx context.Context, who access.Caller, event *grantway.Event, f func(*store.Tx) error) error {
	err := i.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, topicClient); err != nil {
			return err
		}
		return f(tx)
	})
	if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.Forbidden {
		i.Audit.Denied(ctx, who, *event)
	}
	return err
}

// requireSome checks that who may write clients in some division, before it learns anything.
func (i *Issuer) requireSome(ctx context.Context, who access.Caller, event grantway.Event) error {
	return i.Audit.RequireSomewhere(ctx, who, access.WriteClient, event)
}

// Client returns a client by its id or name, as this replica knows it. Errors are of code
// Forbidden, or NotFound also when who may not see it.
func (i *Issuer) Client(ctx context.Context, who access.Caller, ref string) (grantway.OAuthClient, error) {
	if err := i.requireRead(ctx, who, access.Object("client", ref)); err != nil {
		return grantway.OAuthClient{}, err
	}
	var found *client
	if e := i.clients.entry(ref); e != nil {
		found = e.state.Load()
	} else {
		i.clients.all(func(_ *entry, c *client) {
			if c.DeletedAt.IsZero() && strings.EqualFold(c.Name, ref) {
				found = c
			}
		})
	}
	if found == nil || found == gone || !found.DeletedAt.IsZero() || !visible(who, found.Roles) {
		return grantway.OAuthClient{}, noClient(ref)
	}
	return i.public(who, found, ""), nil
}

// Clients returns, by name, at most limit of the clients that who may see (0 means 100, at
// most 1,000), or of those that were deleted and can be restored. The cursor is "" or Next of the page before. Errors are of code Forbidden or,
// for a cursor that is not ours, Malformed.
func (i *Issuer) Clients(ctx context.Context, who access.Caller, deleted bool, cursor string, limit int) (grantway.Page[grantway.OAuthClient], error) {
	var page grantway.Page[grantway.OAuthClient]
	after, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return page, grantway.Errorf(grantway.Malformed, "the cursor is not one that this hub gave out")
	}
	if err := i.requireRead(ctx, who, ""); err != nil {
		return page, err
	}
	all := []grantway.OAuthClient{}
	i.clients.all(func(_ *entry, c *client) {
		if visible(who, c.Roles) && c.DeletedAt.IsZero() != deleted {
			all = append(all, i.public(who, c, ""))
		}
	})
	slices.SortFunc(all, func(a, b grantway.OAuthClient) int {
		return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	first, _ := slices.BinarySearchFunc(all, string(after)+"\x00", func(c grantway.OAuthClient, key string) int {
		return cmp.Compare(strings.ToLower(c.Name), key)
	})
	page.Items = all[first:]
	if limit <= 0 {
		limit = 100
	}
	if limit = min(limit, 1000); len(page.Items) > limit {
		page.Items = page.Items[:limit]
		page.Next = base64.RawURLEncoding.EncodeToString([]byte(strings.ToLower(page.Items[limit-1].Name)))
	}
	return page, nil
}

// Contents names the clients that hold a role in a division; see access.Divisions.
func (i *Issuer) Contents(ctx context.Context, tx *store.Tx, division string) (names []string, err error) {
	err = store.Each(ctx, tx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, "client "+name)
		return err
	}, `SELECT c.name FROM client c
		WHERE EXISTS (SELECT 1 FROM client_role r WHERE r.client_id = c.id AND r.division = $1) ORDER BY c.name_key LIMIT 10`, division)
	return names, err
}

func (i *Issuer) requireRead(ctx context.Context, who access.Caller, object string) error {
	return i.Audit.RequireSomewhere(ctx, who, access.ReadClient, grantway.Event{Action: "client.read", Object: object})
}

// public is a copy of c for who, with a secret if that is new.
func (i *Issuer) public(who access.Caller, c *client, secret string) grantway.OAuthClient {
	one := c.OAuthClient
	one.Secret = secret
	one.Roles = slices.Clone(c.Roles)
	one.Credentials = i.named(who, c.Credentials)
	one.ClientSettings = cloneSettings(c.ClientSettings)
	if secret != "" {
		one.SecretExpiresAt = unixSeconds(c.secrets[len(c.secrets)-1].expiresAt)
	}
	return one
}

// cloneSettings copies the lists of s, which the caller may change.
func cloneSettings(s grantway.ClientSettings) grantway.ClientSettings {
	s.AllowedNetworks, s.Resources = slices.Clone(s.AllowedNetworks), slices.Clone(s.Resources)
	s.RedirectURIs, s.Scopes = slices.Clone(s.RedirectURIs), slices.Clone(s.Scopes)
	return s
}

// visible says whether who may see a client with these roles: one of them is in a
// division where who may read clients. One without roles belongs to no division.
func visible(who access.Caller, roles []grantway.Assignment) bool {
	return who.May(access.ReadClient, access.Everywhere) ||
		slices.ContainsFunc(roles, func(a grantway.Assignment) bool { return who.May(access.ReadClient, a.Division) })
}

// mayWrite checks that who may make a client with these roles.
func mayWrite(who access.Caller, roles []grantway.Assignment) error {
	if len(roles) == 0 { // it acts for people in all divisions
		return who.Check(access.WriteClient, access.Everywhere)
	}
	for _, a := range roles {
		if err := who.Check(access.WriteClient, a.Division); err != nil {
			return err
		}
		if err := who.MayGrant(a); err != nil {
			return err
		}
	}
	return nil
}

// checkClient finds all that is wrong with a client, and completes it. old is what it replaces,
// nil for a new one.
func (i *Issuer) checkClient(ctx context.Context, tx *store.Tx, who access.Caller, c *grantway.OAuthClient, old *client) error {
	var fields []grantway.Field
	wrong := func(pointer, detail string) {
		if detail != "" {
			fields = append(fields, grantway.Field{Pointer: pointer, Detail: detail})
		}
	}
	wrong("/name", access.WrongName(c.Name))
	wrong("/description", access.WrongDescription(c.Description))
	if old == nil && c.Secret != "" { // of one that exists it may come back as it was shown
		wrong("/client_secret", "is made by the hub, since those that people choose can be guessed: leave it out")
	}
	c.ClientSettings = cloneSettings(c.ClientSettings)
	checkSettings(c, old, wrong)
	divisions := map[string]bool{access.Everywhere: true}
	err := store.Each(ctx, tx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		divisions[name] = true
		return err
	}, `SELECT name FROM division`)
	if err != nil {
		return fmt.Errorf("client %s: %w", c.Name, err)
	}
	c.Roles = slices.Clone(c.Roles)
	for n := range c.Roles {
		a, pointer := &c.Roles[n], fmt.Sprintf("/roles/%d", n)
		if a.Division == "" {
			a.Division = grantway.DefaultDivision
		}
		if !access.KnownRole(a.Role) {
			wrong(pointer+"/role", "must be one of "+strings.Join(access.Roles(), ", "))
		}
		if !divisions[a.Division] {
			wrong(pointer+"/division", "does not exist")
		}
		if slices.Contains(c.Roles[:n], *a) {
			wrong(pointer, "is there twice")
		}
	}
	switch {
	case old == nil:
		c.Credentials = i.checkUses(who, c.Credentials, nil, wrong)
	case c.Credentials == nil:
		c.Credentials = old.Credentials
	default:
		c.Credentials = i.checkUses(who, c.Credentials, old.Credentials, wrong)
	}
	if fields != nil {
		return &grantway.Error{Code: grantway.Invalid, Message: "the client was not saved because a field is wrong", Fields: fields}
	}
	return nil
}

// writeRoles writes the roles of a client that has none.
func writeRoles(ctx context.Context, tx *store.Tx, id string, roles []grantway.Assignment) error {
	for _, a := range roles {
		_, err := tx.ExecContext(ctx, `INSERT INTO client_role (client_id, role, division) VALUES ($1, $2, NULLIF($3, '*'))`,
			id, a.Role, a.Division)
		if err != nil {
			return fmt.Errorf("roles of client %s: %w", id, err)
		}
	}
	return nil
}

// newID returns an id of 130 random bits, in a namespace of its own: no person can be called so.
func newID(kind string) string { return kind + "_" + strings.ToLower(rand.Text()) }

func sameRoles(a, b []grantway.Assignment) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x grantway.Assignment) bool { return !slices.Contains(b, x) })
}

func noClient(ref string) error {
	if access.WrongName(ref) != "" { // a secret, perhaps
		return grantway.Errorf(grantway.NotFound, "there is no such client")
	}
	return grantway.Errorf(grantway.NotFound, "there is no client %q", ref)
}

func nameTaken() error {
	return &grantway.Error{Code: grantway.Conflict, Message: "the client was not saved because its name is taken",
		Fields: []grantway.Field{{Pointer: "/name", Detail: "is taken"}}}
}
