package access

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// Divisions are the groups that objects are in and roles are held in. There is always
// grantway.DefaultDivision.
type Divisions struct {
	store *store.Store
	log   *Log

	// Contents names what is in a division, as phrases such as "credential sales-email",
	// the first few will do. The app sets it before the first call, from those who put
	// things into divisions; nil means that nobody does. It backs a good message; that no
	// division disappears from under its objects is up to their foreign keys.
	Contents func(ctx context.Context, tx *store.Tx, division string) ([]string, error)
}

// NewDivisions returns the divisions in s.
func NewDivisions(s *store.Store, log *Log) *Divisions { return &Divisions{store: s, log: log} }

// Create adds a division. Its name follows WrongName. Errors are of code Forbidden,
// Invalid, or Conflict when the name is taken, in whatever case.
func (d *Divisions) Create(ctx context.Context, who Caller, division grantway.Division) error {
	event := grantway.Event{Action: "division.create", Object: Object("division", division.Name)}
	if err := d.log.Require(ctx, who, WriteDivision, Everywhere, event); err != nil {
		return err
	}
	var fields []grantway.Field
	if detail := WrongName(division.Name); detail != "" {
		fields = append(fields, grantway.Field{Pointer: "/name", Detail: detail})
	}
	if detail := WrongDescription(division.Description); detail != "" {
		fields = append(fields, grantway.Field{Pointer: "/description", Detail: detail})
	}
	if fields != nil {
		return &grantway.Error{Code: grantway.Invalid, Message: "the division is not valid", Fields: fields}
	}
	return d.store.Write(ctx, func(tx *store.Tx) error {
		r, err := tx.ExecContext(ctx, `INSERT INTO division (name, name_key, description) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			division.Name, strings.ToLower(division.Name), division.Description)
		if err != nil {
			return fmt.Errorf("create division %s: %w", division.Name, err)
		}
		if n, err := r.RowsAffected(); err != nil {
			return fmt.Errorf("create division %s: %w", division.Name, err)
		} else if n == 0 {
			return &grantway.Error{Code: grantway.Conflict, Message: "the division was not made because its name is taken",
				Fields: []grantway.Field{{Pointer: "/name", Detail: "is taken"}}}
		}
		return d.log.Record(ctx, tx, who, event)
	})
}

// List returns, by name, the divisions in which who holds a role.
func (d *Divisions) List(ctx context.Context, who Caller) ([]grantway.Division, error) {
	rows, err := d.store.Read().QueryContext(ctx, `SELECT name, description FROM division ORDER BY name_key`)
	if err != nil {
		return nil, fmt.Errorf("divisions: %w", err)
	}
	defer rows.Close()
	all := []grantway.Division{}
	for rows.Next() {
		var one grantway.Division
		if err := rows.Scan(&one.Name, &one.Description); err != nil {
			return nil, fmt.Errorf("divisions: %w", err)
		}
		if who.in(one.Name) != 0 {
			all = append(all, one)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("divisions: %w", err)
	}
	return all, nil
}

// Delete removes an empty division. Errors are of code Forbidden, NotFound, or Conflict
// when something is still in it, which the message names; the default division stays.
func (d *Divisions) Delete(ctx context.Context, who Caller, name string) error {
	event := grantway.Event{Action: "division.delete", Object: Object("division", name)}
	if err := d.log.Require(ctx, who, WriteDivision, Everywhere, event); err != nil {
		return err
	}
	if WrongName(name) != "" {
		return noDivision(name)
	}
	if name == grantway.DefaultDivision {
		return grantway.Errorf(grantway.Conflict, "the division %s is the default and stays", name)
	}
	return d.store.Write(ctx, func(tx *store.Tx) error {
		if d.Contents != nil {
			contents, err := d.Contents(ctx, tx, name)
			if err != nil {
				return fmt.Errorf("contents of division %s: %w", name, err)
			}
			if len(contents) > 0 {
				return grantway.Errorf(grantway.Conflict, "the division %s is not empty: %s", name, strings.Join(contents, ", "))
			}
		}
		r, err := tx.ExecContext(ctx, `DELETE FROM division WHERE name = $1`, name)
		if err != nil {
			return fmt.Errorf("delete division %s: %w", name, err)
		}
		if n, err := r.RowsAffected(); err != nil {
			return fmt.Errorf("delete division %s: %w", name, err)
		} else if n == 0 {
			return noDivision(name)
		}
		return d.log.Record(ctx, tx, who, event)
	})
}

func noDivision(name string) error {
	if WrongName(name) != "" {
		return grantway.Errorf(grantway.NotFound, "there is no such division")
	}
	return grantway.Errorf(grantway.NotFound, "there is no division %s", name)
}

// Object is the object of an event, such as "division/sales". What cannot be a name is left
// out, for people paste secrets into the wrong field: "division/?".
func Object(kind, name string) string {
	if name = nameOf(name); name == "" {
		name = "?"
	}
	return kind + "/" + name
}

// nameOf is name, or "" if it cannot be one.
func nameOf(name string) string {
	if WrongName(name) != "" {
		return ""
	}
	return name
}

// WrongName says what is wrong with the name of a thing in the hub, as a phrase that
// follows the word "name"; "" means nothing. A name is 1 to 100 letters, digits, ".", "_"
// or "-" of ASCII and starts with a letter or digit. Nothing is called like the secrets and
// tokens that the hub makes.
func WrongName(name string) string {
	if name == "" {
		return "is required"
	}
	if len(name) > 100 {
		return "is longer than 100 characters"
	}
	if strings.Contains(name, "gws_") || strings.Contains(name, "gwt_") {
		return "looks like a secret or a token of a hub"
	}
	for i, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		case i > 0 && strings.ContainsRune("._-", r):
		case i == 0:
			return "must start with a letter or digit"
		default:
			return `may hold letters, digits, ".", "_" and "-" only`
		}
	}
	return ""
}

// WrongDescription says what is wrong with a description, like WrongName: it is UTF-8
// text of at most 1,024 characters, with line breaks and tabs but no other control characters.
func WrongDescription(text string) string {
	if !utf8.ValidString(text) {
		return "is not UTF-8"
	}
	if utf8.RuneCountInString(text) > 1024 {
		return "is longer than 1,024 characters"
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' }) {
		return "holds control characters"
	}
	return ""
}
