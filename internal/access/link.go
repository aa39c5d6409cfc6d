package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// How long links are good for.
const (
	setupLifetime      = 24 * time.Hour
	invitationLifetime = 7 * 24 * time.Hour
)

// SetupLink returns a link with which the first person makes the owner account; ok is
// false when there is somebody already. Each call makes another link. One of them works, once,
// within 24 hours.
func (p *People) SetupLink(ctx context.Context) (link string, ok bool, err error) {
	token := newToken()
	err = p.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, topicPerson); err != nil {
			return err
		}
		if ok, err = nobodyYet(ctx, tx); err != nil || !ok {
			return err
		}
		return p.insertLink(ctx, tx, token, nil, time.Now().Add(setupLifetime))
	})
	if err != nil || !ok {
		return "", false, err
	}
	return p.URL() + SetupPath + token, true, nil
}

// CheckSetup says whether token is that of a set-up link that is still good: nil, or an error
// of code NotFound.
func (p *People) CheckSetup(ctx context.Context, token string) error {
	_, err := p.findLink(ctx, p.Store.Read(), token, true)
	return err
}

// Setup makes the owner account, with the token of a set-up link. Errors are of code NotFound
// when the link is no longer good, or Invalid with all wrong fields.
func (p *People) Setup(ctx context.Context, token, name, email, password string) (grantway.Person, error) {
	if err := p.CheckSetup(ctx, token); err != nil {
		return grantway.Person{}, err
	}
	one := grantway.Person{Email: strings.TrimSpace(email), Name: strings.TrimSpace(name),
		Roles: []grantway.Assignment{{Role: Owner, Division: Everywhere}}}
	var fields []grantway.Field
	for pointer, detail := range map[string]string{
		"/email": wrongEmail(one.Email), "/name": wrongPersonName(one.Name), "/password": wrongPassword(password, one.Email),
	} {
		if detail != "" {
			fields = append(fields, grantway.Field{Pointer: pointer, Detail: detail})
		}
	}
	if fields != nil {
		return grantway.Person{}, invalidPerson(fields...)
	}
	hash, err := p.hasher.hash(ctx, password)
	if err != nil {
		return grantway.Person{}, err
	}
	var stored *person
	err = p.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, topicPerson); err != nil {
			return err
		}
		if _, err := p.findLink(ctx, tx, token, true); err != nil {
			return err
		}
		if ok, err := nobodyYet(ctx, tx); err != nil {
			return err
		} else if !ok {
			return badLink()
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM person_link WHERE person_id IS NULL`); err != nil {
			return fmt.Errorf("set-up links: %w", err)
		}
		var err error
		if stored, err = insertPerson(ctx, tx, one); err != nil {
			return err
		}
		if stored, err = p.setPassword(ctx, tx, stored.ID, hash); err != nil {
			return err
		}
		return p.Audit.Record(ctx, tx, stored.caller(), grantway.Event{Action: "person.setup", Object: "person/" + stored.Email,
			Fields: []string{"email", "name", "password", "roles"}, Detail: rolesText(stored.Roles)})
	})
	if err != nil {
		return grantway.Person{}, err
	}
	return stored.Person, nil
}

// Renew makes another link for a person: for an invitation that was lost or has expired, or
// to choose another password when that was lost. Older links of the person end. Who makes it
// must be allowed to change the person. Errors are of code Forbidden, NotFound, or
// Conflict for somebody who is deactivated.
func (p *People) Renew(ctx context.Context, who Caller, id string) (grantway.Invitation, error) {
	var renewed grantway.Invitation
	_, err := p.edit(ctx, who, id, "person.renew_link", func(tx *store.Tx, old *person, _ *grantway.Event) (err error) {
		if !old.active {
			return grantway.Errorf(grantway.Conflict, "%s is deactivated and needs no link: activate the person first", old.Email)
		}
		renewed, err = p.link(ctx, tx, old)
		return err
	})
	return renewed, err
}

// Invited returns whom the token of an invitation is for. Errors are of code NotFound.
func (p *People) Invited(ctx context.Context, token string) (grantway.Person, error) {
	one, err := p.findLink(ctx, p.Store.Read(), token, false)
	if err != nil {
		return grantway.Person{}, err
	}
	return one.Person, nil
}

// Accept sets the password of the person whom the token is for, and the name if it is not "",
// and ends all links and sessions of the person. Errors are of code NotFound when the link is
// no longer good, or Invalid with all wrong fields.
func (p *People) Accept(ctx context.Context, token, name, password string) (grantway.Person, error) {
	invited, err := p.Invited(ctx, token)
	if err != nil {
		return grantway.Person{}, err
	}
	name = strings.TrimSpace(name)
	var fields []grantway.Field
	if detail := wrongPersonName(name); detail != "" {
		fields = append(fields, grantway.Field{Pointer: "/name", Detail: detail})
	}
	if detail := wrongPassword(password, invited.Email); detail != "" {
		fields = append(fields, grantway.Field{Pointer: "/password", Detail: detail})
	}
	if fields != nil {
		return grantway.Person{}, invalidPerson(fields...)
	}
	hash, err := p.hasher.hash(ctx, password)
	if err != nil {
		return grantway.Person{}, err
	}
	var stored *person
	err = p.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, topicPerson); err != nil {
			return err
		}
		old, err := p.findLink(ctx, tx, token, false)
		if err != nil {
			return err
		}
		if name != "" {
			if _, err := tx.ExecContext(ctx, `UPDATE person SET name = $1 WHERE id = $2`, name, old.ID); err != nil {
				return fmt.Errorf("person %s: %w", old.ID, err)
			}
		}
		if err := deleteLinks(ctx, tx, old.ID); err != nil {
			return err
		}
		if err := deleteSessions(ctx, tx, old.ID); err != nil {
			return err
		}
		if stored, err = p.setPassword(ctx, tx, old.ID, hash); err != nil {
			return err
		}
		return p.Audit.Record(ctx, tx, stored.caller(), grantway.Event{Action: "person.accept", Object: "person/" + stored.Email, Fields: []string{"password"}})
	})
	if err != nil {
		return grantway.Person{}, err
	}
	p.sessions.drop(stored.ID)
	return stored.Person, nil
}

// setPassword stores the hash of a password, and returns the person as it is then.
func (p *People) setPassword(ctx context.Context, tx *store.Tx, id, hash string) (*person, error) {
	sealed, err := p.Sealer.Seal(passwordPlace(id), []byte(hash))
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE person SET password = $1 WHERE id = $2`, sealed, id); err != nil {
		return nil, fmt.Errorf("password of person %s: %w", id, err)
	}
	tx.Changed(topicPerson, id)
	return readPerson(ctx, tx, id, "")
}

// link makes a link for one, in place of those made before.
func (p *People) link(ctx context.Context, tx *store.Tx, one *person) (grantway.Invitation, error) {
	if err := deleteLinks(ctx, tx, one.ID); err != nil {
		return grantway.Invitation{}, err
	}
	token, expires := newToken(), time.Now().Add(invitationLifetime)
	if err := p.insertLink(ctx, tx, token, &one.ID, expires); err != nil {
		return grantway.Invitation{}, err
	}
	return grantway.Invitation{Person: one.Person, Link: p.URL() + InvitationPath + token, ExpiresAt: expires.UTC().Truncate(time.Second)}, nil
}

func (p *People) insertLink(ctx context.Context, tx *store.Tx, token string, person *string, expires time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO person_link (hash, person_id, expires_at) VALUES ($1, $2, $3)`,
		p.hash(kindLink, token), person, expires.UnixMilli())
	if err != nil {
		return fmt.Errorf("new link: %w", err)
	}
	return nil
}

// findLink returns whom a link is for, nil for a set-up link.
func (p *People) findLink(ctx context.Context, db interface {
	store.Querier
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, token string, setup bool) (*person, error) {
	var id sql.NullString
	err := db.QueryRowContext(ctx, `SELECT person_id FROM person_link WHERE hash = $1 AND expires_at > $2`,
		p.hash(kindLink, token), time.Now().UnixMilli()).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) || err == nil && id.Valid == setup {
		return nil, badLink()
	}
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	if setup {
		return nil, nil
	}
	one, err := readPerson(ctx, db, id.String, "")
	if err == nil && (one == nil || !one.active) {
		err = badLink()
	}
	return one, err
}

func badLink() error {
	return grantway.Errorf(grantway.NotFound, "this link has been used, or has expired, or was replaced by a newer one; ask for another")
}

func deleteLinks(ctx context.Context, tx *store.Tx, person string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM person_link WHERE person_id = $1`, person); err != nil {
		return fmt.Errorf("links of person %s: %w", person, err)
	}
	return nil
}

func nobodyYet(ctx context.Context, tx *store.Tx) (bool, error) {
	var people int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM person`).Scan(&people); err != nil {
		return false, fmt.Errorf("people: %w", err)
	}
	return people == 0, nil
}
