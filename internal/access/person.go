package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// person is a row of people, with its roles.
type person struct {
	grantway.Person
	active          bool
	password        []byte // sealed hash; empty: none
	issuer, subject string
}

func (p *person) caller() Caller {
	return Caller{ID: p.ID, Name: cmp.Or(p.Name, p.Email), Kind: Person, Roles: p.Roles}
}

// owner says whether p is one of those who can let everybody else in.
func (p *person) owner() bool {
	return p.State == grantway.Active && slices.Contains(p.Roles, grantway.Assignment{Role: Owner, Division: Everywhere})
}

// readPeople reads, by email, at most limit of those with this id or email (in lower case),
// or of all whose email comes after.
func readPeople(ctx context.Context, db store.Querier, id, email, after string, limit int) ([]*person, error) {
	var all []*person
	byID := map[string]*person{}
	err := store.Each(ctx, db, func(rows *sql.Rows) error {
		p := &person{}
		var created, last int64
		err := rows.Scan(&p.ID, &p.Email, &p.Name, &p.active, &p.password, &p.issuer, &p.subject, &created, &last)
		if err != nil {
			return err
		}
		p.Roles = []grantway.Assignment{}
		p.CreatedAt = time.UnixMilli(created).UTC()
		if last != 0 {
			p.LastSignIn = time.UnixMilli(last).UTC()
		}
		p.Password, p.SingleSignOn = len(p.password) > 0, p.subject != ""
		switch {
		case !p.active:
			p.State = grantway.Deactivated
		case p.Password || p.SingleSignOn:
			p.State = grantway.Active
		default:
			p.State = grantway.Invited
		}
		all, byID[p.ID] = append(all, p), p
		return nil
	}, `SELECT id, email, name, active, password, issuer, subject, created_at, last_sign_in FROM person
		WHERE ($1 = '' OR id = $1) AND ($2 = '' OR email_key = $2) AND email_key > $3 ORDER BY email_key LIMIT $4`,
		id, email, after, limit)
	if err != nil || len(all) == 0 {
		return all, err
	}
	err = store.Each(ctx, db, func(rows *sql.Rows) error {
		var id string
		var a grantway.Assignment
		err := rows.Scan(&id, &a.Role, &a.Division)
		if p := byID[id]; p != nil {
			p.Roles = append(p.Roles, a)
		}
		return err
	}, `SELECT r.person_id, r.role, coalesce(r.division, '*') FROM person_role r JOIN person p ON p.id = r.person_id
		WHERE p.email_key >= $1 AND p.email_key <= $2 ORDER BY r.role, r.division`,
		emailKey(all[0].Email), emailKey(all[len(all)-1].Email))
	return all, err
}

// readPerson reads one person by id, or by email when id is ""; nil when there is none.
func readPerson(ctx context.Context, db store.Querier, id, email string) (*person, error) {
	found, err := readPeople(ctx, db, id, emailKey(email), "", 1)
	if err != nil {
		return nil, fmt.Errorf("person %s: %w", cmp.Or(id, email), err)
	}
	if len(found) == 0 || id == "" && email == "" {
		return nil, nil
	}
	return found[0], nil
}

func emailKey(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// List returns, by email, at most limit of the people whom who may see (0 means 100, at most
// 1,000). The cursor is "" or Next of the page before. Errors are of code Forbidden or, for a
// cursor that is not ours, Malformed.
func (p *People) List(ctx context.Context, who Caller, cursor string, limit int) (grantway.Page[grantway.Person], error) {
	page := grantway.Page[grantway.Person]{Items: []grantway.Person{}}
	after, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || !utf8.Valid(after) || slices.Contains(after, 0) {
		return page, grantway.Errorf(grantway.Malformed, "the cursor is not one that this hub gave out")
	}
	if err := p.requireRead(ctx, who, ""); err != nil {
		return page, err
	}
	if limit <= 0 {
		limit = 100
	}
	limit = min(limit, 1000)
	for last := string(after); ; { // until the page is full of those whom who may see
		found, err := readPeople(ctx, p.Store.Read(), "", "", last, limit+1)
		if err != nil {
			return page, fmt.Errorf("people: %w", err)
		}
		for _, one := range found {
			last = emailKey(one.Email)
			if !visiblePerson(who, one) {
				continue
			}
			if len(page.Items) == limit {
				page.Next = base64.RawURLEncoding.EncodeToString([]byte(emailKey(page.Items[limit-1].Email)))
				return page, nil
			}
			page.Items = append(page.Items, one.Person)
		}
		if len(found) <= limit {
			return page, nil
		}
	}
}

// Get returns a person by id or email. Everybody may see himself. Errors are of code
// Forbidden, or NotFound also when who may not see the person.
func (p *People) Get(ctx context.Context, who Caller, ref string) (grantway.Person, error) {
	if who.Kind != Person || ref != who.ID {
		if err := p.requireRead(ctx, who, "person/"+ref); err != nil {
			return grantway.Person{}, err
		}
	}
	id, email := ref, ""
	if strings.Contains(ref, "@") {
		id, email = "", ref
	}
	found, err := readPerson(ctx, p.Store.Read(), id, email)
	if err != nil {
		return grantway.Person{}, err
	}
	if found == nil || !visiblePerson(who, found) {
		return grantway.Person{}, noPerson(ref)
	}
	return found.Person, nil
}

// Invite adds a person, and makes the link with which he or she chooses a password within
// 7 days. Who invites must hold the permission WritePerson, and all that the roles allow, in
// the division of each role.
//
// Errors are of code Forbidden, Invalid with all wrong fields, or Conflict when there is
// somebody with this email.
func (p *People) Invite(ctx context.Context, who Caller, one grantway.Person) (grantway.Invitation, error) {
	event := grantway.Event{Action: "person.invite", Object: "person"}
	if err := p.Audit.RequireSomewhere(ctx, who, WritePerson, event); err != nil {
		return grantway.Invitation{}, err
	}
	if wrongEmail(one.Email) == "" {
		event.Object = "person/" + strings.TrimSpace(one.Email)
	}
	var invited grantway.Invitation
	err := p.change(ctx, who, &event, func(tx *store.Tx) error {
		if err := checkPerson(ctx, tx, &one); err != nil {
			return err
		}
		if err := mayWritePerson(who, one.Roles); err != nil {
			return err
		}
		stored, err := insertPerson(ctx, tx, one)
		if err != nil {
			return err
		}
		if invited, err = p.link(ctx, tx, stored); err != nil {
			return err
		}
		event.Fields, event.Detail = []string{"email", "name", "roles"}, rolesText(one.Roles)
		return p.Audit.Record(ctx, tx, who, event)
	})
	return invited, err
}

// insertPerson adds a person who can not sign in yet, and returns what is stored.
func insertPerson(ctx context.Context, tx *store.Tx, one grantway.Person) (*person, error) {
	one.ID = "person_" + strings.ToLower(rand.Text())
	_, err := tx.ExecContext(ctx, `
		INSERT INTO person (id, email, email_key, name, active, password, issuer, subject, created_at, last_sign_in)
		VALUES ($1, $2, $3, $4, TRUE, $5, '', '', $6, 0)`,
		one.ID, one.Email, emailKey(one.Email), one.Name, []byte{}, time.Now().UnixMilli())
	if store.Duplicate(err) {
		return nil, &grantway.Error{Code: grantway.Conflict, Message: "nobody was added because there is a person with this e-mail address",
			Fields: []grantway.Field{{Pointer: "/email", Detail: "is taken"}}}
	}
	if err != nil {
		return nil, fmt.Errorf("add person %s: %w", one.Email, err)
	}
	if err := writePersonRoles(ctx, tx, one.ID, one.Roles); err != nil {
		return nil, err
	}
	return readPerson(ctx, tx, one.ID, "")
}

func writePersonRoles(ctx context.Context, tx *store.Tx, id string, roles []grantway.Assignment) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM person_role WHERE person_id = $1`, id); err != nil {
		return fmt.Errorf("roles of person %s: %w", id, err)
	}
	for _, a := range roles {
		_, err := tx.ExecContext(ctx, `INSERT INTO person_role (person_id, role, division) VALUES ($1, $2, NULLIF($3, '*'))`, id, a.Role, a.Division)
		if err != nil {
			return fmt.Errorf("roles of person %s: %w", id, err)
		}
	}
	return nil
}

// Update changes the name and the roles of the person with one.ID. Who changes them must be
// allowed to invite the person both as it was and as it will be; for one's own name there is
// Rename. The last owner stays one.
//
// Errors are those of Invite, or of code NotFound.
func (p *People) Update(ctx context.Context, who Caller, one grantway.Person) (grantway.Person, error) {
	return p.edit(ctx, who, one.ID, "person.update", func(tx *store.Tx, old *person, event *grantway.Event) error {
		one.Email = old.Email
		if err := checkPerson(ctx, tx, &one); err != nil {
			return err
		}
		if !sameRoles(one.Roles, old.Roles) {
			if err := mayWritePerson(who, one.Roles); err != nil {
				return err
			}
			event.Fields = append(event.Fields, "roles")
			event.Detail = "was " + rolesText(old.Roles) + "; is " + rolesText(one.Roles)
		}
		if one.Name != old.Name {
			event.Fields = append(event.Fields, "name")
		}
		if _, err := tx.ExecContext(ctx, `UPDATE person SET name = $1 WHERE id = $2`, one.Name, old.ID); err != nil {
			return err
		}
		return writePersonRoles(ctx, tx, old.ID, one.Roles)
	})
}

// Rename changes the name of who.
func (p *People) Rename(ctx context.Context, who Caller, name string) (grantway.Person, error) {
	name = strings.TrimSpace(name)
	if detail := wrongPersonName(name); detail != "" {
		return grantway.Person{}, invalidPerson(grantway.Field{Pointer: "/name", Detail: detail})
	}
	if who.Kind != Person {
		return grantway.Person{}, noPerson(who.ID)
	}
	return p.editAny(ctx, who, who.ID, "person.update", func(tx *store.Tx, old *person, event *grantway.Event) error {
		event.Fields = []string{"name"}
		_, err := tx.ExecContext(ctx, `UPDATE person SET name = $1 WHERE id = $2`, name, old.ID)
		return err
	})
}

// Activate lets a person in again who was deactivated. Errors are of code Forbidden or NotFound.
func (p *People) Activate(ctx context.Context, who Caller, id string) (grantway.Person, error) {
	return p.edit(ctx, who, id, "person.activate", func(tx *store.Tx, old *person, _ *grantway.Event) error {
		_, err := tx.ExecContext(ctx, `UPDATE person SET active = TRUE WHERE id = $1`, old.ID)
		return err
	})
}

// Deactivate keeps a person out from now on, and ends its sessions and links. Errors are of code
// Forbidden, NotFound, or Conflict for the last owner.
func (p *People) Deactivate(ctx context.Context, who Caller, id string) (grantway.Person, error) {
	return p.edit(ctx, who, id, "person.deactivate", func(tx *store.Tx, old *person, _ *grantway.Event) error {
		if _, err := tx.ExecContext(ctx, `UPDATE person SET active = FALSE WHERE id = $1`, old.ID); err != nil {
			return err
		}
		if err := deleteLinks(ctx, tx, old.ID); err != nil {
			return err
		}
		return deleteSessions(ctx, tx, old.ID)
	})
}

// edit runs f on a person whom who may change, and records the event, to which f may add.
func (p *People) edit(ctx context.Context, who Caller, id, action string, f func(*store.Tx, *person, *grantway.Event) error) (grantway.Person, error) {
	if err := p.Audit.RequireSomewhere(ctx, who, WritePerson, grantway.Event{Action: action, Object: "person/" + id}); err != nil {
		return grantway.Person{}, err
	}
	return p.editAny(ctx, who, id, action, func(tx *store.Tx, old *person, event *grantway.Event) error {
		if !visiblePerson(who, old) {
			return noPerson(id)
		}
		if err := mayWritePerson(who, old.Roles); err != nil {
			return err
		}
		return f(tx, old, event)
	})
}

// editAny is edit without a check of who.
func (p *People) editAny(ctx context.Context, who Caller, id, action string, f func(*store.Tx, *person, *grantway.Event) error) (grantway.Person, error) {
	event := grantway.Event{Action: action, Object: "person/" + id}
	var stored *person
	err := p.change(ctx, who, &event, func(tx *store.Tx) error {
		old, err := readPerson(ctx, tx, id, "")
		if err != nil {
			return err
		}
		if old == nil || id == "" {
			return noPerson(id)
		}
		event = grantway.Event{Action: action, Object: "person/" + old.Email}
		if err := f(tx, old, &event); err != nil {
			return err
		}
		if stored, err = readPerson(ctx, tx, id, ""); err != nil {
			return err
		}
		if err := keepOwner(ctx, tx, old, stored); err != nil {
			return err
		}
		tx.Changed(topicPerson, id)
		return p.Audit.Record(ctx, tx, who, event)
	})
	if err != nil {
		if _, ours := errors.AsType[*grantway.Error](err); !ours {
			err = fmt.Errorf("%s %s: %w", action, id, err)
		}
		return grantway.Person{}, err
	}
	p.sessions.drop(stored.ID)
	p.holders.drop(stored.ID)
	return stored.Person, nil
}

// keepOwner refuses a change that leaves nobody who could let the others in.
func keepOwner(ctx context.Context, tx *store.Tx, old, now *person) error {
	if !old.owner() || now.owner() {
		return nil
	}
	var others int
	err := tx.QueryRowContext(ctx, `
		SELECT count(*) FROM person p JOIN person_role r ON r.person_id = p.id
		WHERE p.active AND (length(p.password) > 0 OR p.subject <> '') AND r.role = 'owner' AND r.division IS NULL`).Scan(&others)
	if err != nil {
		return fmt.Errorf("owners: %w", err)
	}
	if others == 0 {
		return grantway.Errorf(grantway.Conflict, "%s is the last owner: make somebody else an owner in all divisions first", old.Email)
	}
	return nil
}

// change runs f in a transaction, one such at a time so that what it reads stays true, and
// records a refusal as event.
func (p *People) change(ctx context.Context, who Caller, event *grantway.Event, f func(*store.Tx) error) error {
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, topicPerson); err != nil {
			return err
		}
		return f(tx)
	})
	if e, ok := errors.AsType[*grantway.Error](err); ok && e.Code == grantway.Forbidden {
		p.Audit.Denied(ctx, who, *event)
	}
	return err
}

// Contents names the people who hold a role in a division; see Divisions.
func (p *People) Contents(ctx context.Context, tx *store.Tx, division string) (names []string, err error) {
	err = store.Each(ctx, tx, func(rows *sql.Rows) error {
		var email string
		err := rows.Scan(&email)
		names = append(names, "person "+email)
		return err
	}, `SELECT p.email FROM person p
		WHERE EXISTS (SELECT 1 FROM person_role r WHERE r.person_id = p.id AND r.division = $1) ORDER BY p.email_key LIMIT 10`, division)
	return names, err
}

func (p *People) requireRead(ctx context.Context, who Caller, object string) error {
	return p.Audit.RequireSomewhere(ctx, who, ReadPerson, grantway.Event{Action: "person.read", Object: object})
}

// visiblePerson says whether who may see a person: it is who, or one of its roles is in a
// division where who may read people.
func visiblePerson(who Caller, one *person) bool {
	return who.Kind == Person && who.ID == one.ID || who.May(ReadPerson, Everywhere) ||
		slices.ContainsFunc(one.Roles, func(a grantway.Assignment) bool { return who.May(ReadPerson, a.Division) })
}

// mayWritePerson checks that who may make, and so change, a person with these roles. One
// without any is for those who may write people everywhere.
func mayWritePerson(who Caller, roles []grantway.Assignment) error {
	if len(roles) == 0 {
		return who.Check(WritePerson, Everywhere)
	}
	for _, a := range roles {
		if err := who.Check(WritePerson, a.Division); err != nil {
			return err
		}
		if err := who.MayGrant(a); err != nil {
			return err
		}
	}
	return nil
}

// checkPerson finds all that is wrong with a person, and completes it.
func checkPerson(ctx context.Context, tx *store.Tx, one *grantway.Person) error {
	var fields []grantway.Field
	one.Email, one.Name = strings.TrimSpace(one.Email), strings.TrimSpace(one.Name)
	if detail := wrongEmail(one.Email); detail != "" {
		fields = append(fields, grantway.Field{Pointer: "/email", Detail: detail})
	}
	if detail := wrongPersonName(one.Name); detail != "" {
		fields = append(fields, grantway.Field{Pointer: "/name", Detail: detail})
	}
	if len(one.Roles) == 0 {
		fields = append(fields, grantway.Field{Pointer: "/roles", Detail: "are required: a person without a role may do nothing"})
	}
	divisions, err := divisionNames(ctx, tx)
	if err != nil {
		return err
	}
	one.Roles = slices.Clone(one.Roles)
	for n := range one.Roles {
		a, pointer := &one.Roles[n], fmt.Sprintf("/roles/%d", n)
		a.Division = cmp.Or(a.Division, grantway.DefaultDivision)
		if !KnownRole(a.Role) {
			fields = append(fields, grantway.Field{Pointer: pointer + "/role", Detail: "must be one of " + strings.Join(Roles(), ", ")})
		}
		if !divisions[a.Division] {
			fields = append(fields, grantway.Field{Pointer: pointer + "/division", Detail: "does not exist"})
		}
		if slices.Contains(one.Roles[:n], *a) {
			fields = append(fields, grantway.Field{Pointer: pointer, Detail: "is there twice"})
		}
	}
	if fields != nil {
		return invalidPerson(fields...)
	}
	return nil
}

// divisionNames are the divisions in which a role may be held, Everywhere among them.
func divisionNames(ctx context.Context, db store.Querier) (map[string]bool, error) {
	divisions := map[string]bool{Everywhere: true}
	err := store.Each(ctx, db, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		divisions[name] = true
		return err
	}, `SELECT name FROM division`)
	if err != nil {
		return nil, fmt.Errorf("divisions: %w", err)
	}
	return divisions, nil
}

// wrongEmail says what is wrong with an address, like WrongName. Mail is not sent to it, so
// this only keeps out what is no address at all.
func wrongEmail(email string) string {
	local, domain, ok := strings.Cut(email, "@")
	switch {
	case email == "":
		return "is required"
	case len(email) > 254:
		return "is longer than 254 bytes"
	case !utf8.ValidString(email) || strings.ContainsFunc(email, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) }):
		return "holds blanks or control characters"
	case !ok || local == "" || domain == "" || strings.Contains(domain, "@") || strings.ContainsAny(email, `<>"(),;:\`):
		return "must be an e-mail address, such as ann@example.com"
	}
	return ""
}

// wrongPersonName says what is wrong with the name of a person, like WrongName.
func wrongPersonName(name string) string {
	switch {
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "holds control characters, or is not UTF-8"
	case utf8.RuneCountInString(name) > 100:
		return "is longer than 100 characters"
	}
	return ""
}

func invalidPerson(fields ...grantway.Field) error {
	return &grantway.Error{Code: grantway.Invalid, Message: "nothing was saved because a field is wrong", Fields: fields}
}

func noPerson(ref string) error {
	return grantway.Errorf(grantway.NotFound, "there is no person %q", ref)
}

func sameRoles(a, b []grantway.Assignment) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x grantway.Assignment) bool { return !slices.Contains(b, x) })
}

func rolesText(roles []grantway.Assignment) string {
	if len(roles) == 0 {
		return "without a role"
	}
	texts := make([]string, len(roles))
	for i, a := range roles {
		texts[i] = a.Role + "@" + a.Division
	}
	return strings.Join(texts, ", ")
}
