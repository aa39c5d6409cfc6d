// Package access knows who may do what, and who did it.
//
// A [Caller] is whoever a request is made for: a person, a machine client, or the hub
// itself. It holds roles in divisions, and each role is a fixed set of permissions (see
// the table in role.go). Every domain method takes the Caller first and asks
// [Caller.Check], or [Log.Require], which also writes a refusal to the audit trail.
//
//	Caller ──holds──> role in a division ──is──> permissions
//	   └──leaves──> audit (changes and refusals, row by row)
//	   └──leaves──> token_read (reads of tokens, counted by minute)
package access

import (
	"slices"
	"strings"

	"github.com/grantway/grantway"
)

// Everywhere is the division of an assignment that counts in all divisions, and of
// actions on the hub itself, which belong to none.
const Everywhere = "*"

// The kinds of a Caller.
const (
	Person = "person"
	Client = "client" // an OAuth client of the hub
	System = "system" // the hub itself, or somebody with direct access to its database
)

// Caller is whoever asks for something. The zero value may do nothing. A Caller is
// shared between requests: its Roles and Uses must not be changed.
type Caller struct {
	ID    string // never changes and is never used again: the client id of a client
	Name  string // for people; may change
	Kind  string // Person, Client or System
	Roles []grantway.Assignment

	// Uses narrows which credentials, named by id, the caller may use, and how; nil does not
	// narrow.
	Uses []grantway.CredentialUse

	// Only narrows what the roles allow, for a token that was asked for with a scope; 0
	// does not narrow.
	Only Permissions
}

// Missing is the cause of the errors of Check and its like: what the caller lacks.
type Missing Permissions

// Error implements error.
func (m Missing) Error() string { return "missing: " + Permissions(m).String() }

// Hub is the Caller of what the hub does of its own accord. It is an owner everywhere.
func Hub() Caller {
	return Caller{ID: "hub", Name: "hub", Kind: System,
		Roles: []grantway.Assignment{{Role: Owner, Division: Everywhere}}}
}

// May says whether c holds p in division. With Everywhere it says whether c holds p in
// all divisions, those to come included.
func (c Caller) May(p Permission, division string) bool { return c.in(division).Has(p) }

// Check is May as an error of code Forbidden, which names the permission, the division,
// and the roles that would have it.
func (c Caller) Check(p Permission, division string) error {
	if c.May(p, division) {
		return nil
	}
	if err := c.checkListing(p); err != nil {
		return err
	}
	where := "division " + division
	switch {
	case division == Everywhere:
		where = "all divisions"
	case WrongName(division) != "":
		where = "that division"
	}
	return refuse(of(p), "this needs the permission %s in %s, which %s; you are %s", p, where, rolesWith(p), c.roles())
}

// CheckSomewhere is Check for things that belong to no division but matter in each, such
// as the list of secret stores: holding p in any division is enough.
func (c Caller) CheckSomewhere(p Permission) error {
	if c.Anywhere().Has(p) {
		return nil
	}
	if err := c.checkListing(p); err != nil {
		return err
	}
	return refuse(of(p), "this needs the permission %s, which %s; you are %s", p, rolesWith(p), c.roles())
}

// Anywhere is what c holds in one division or another.
func (c Caller) Anywhere() (all Permissions) {
	for _, a := range c.Roles {
		all |= c.narrow(permissionsOf(a.Role))
	}
	return all
}

// Divisions says where c holds p: everywhere, or in the divisions named.
func (c Caller) Divisions(p Permission) (names []string, everywhere bool) {
	for _, a := range c.Roles {
		switch {
		case !c.narrow(permissionsOf(a.Role)).Has(p):
		case a.Division == Everywhere:
			return nil, true
		case !slices.Contains(names, a.Division):
			names = append(names, a.Division)
		}
	}
	return names, false
}

// MayGrant says whether c may give a to somebody, or change somebody who holds it: c must
// itself hold, in that division, every permission of the role. The error is of code
// Forbidden.
func (c Caller) MayGrant(a grantway.Assignment) error {
	missing := permissionsOf(a.Role) &^ c.in(a.Division)
	if missing == 0 {
		return nil
	}
	return refuse(missing, "the role %s in division %s has permissions that you do not hold there: %s; you are %s",
		a.Role, a.Division, missing, c.roles())
}

func refuse(missing Permissions, format string, args ...any) error {
	e := grantway.Errorf(grantway.Forbidden, format, args...)
	e.Err = Missing(missing)
	return e
}

// in is the set of permissions that c holds in division.
func (c Caller) in(division string) (all Permissions) {
	for _, a := range c.Roles {
		if a.Division == Everywhere || a.Division == division {
			all |= permissionsOf(a.Role)
		}
	}
	return c.narrow(all)
}

// deciding are the permissions with which one decides who uses which credential, and where it is sent.
// Whoever is limited to some credentials could get at the others with them.
var deciding = of(WriteConnector, WriteStore, WriteClient, WriteDivision, WritePerson, WriteSSO, RotateKey)

// checkListing refuses a permission that c has no use for because it is limited to some credentials.
func (c Caller) checkListing(p Permission) error {
	if c.Uses == nil || !deciding.Has(p) {
		return nil
	}
	return refuse(of(p), "you may use listed credentials only, and so not have the permission %s, with which you could get at others", p)
}

func (c Caller) narrow(s Permissions) Permissions {
	if c.Uses != nil {
		s &^= deciding
	}
	if c.Only != 0 {
		s &= c.Only
	}
	return s
}

func (c Caller) roles() string {
	if len(c.Roles) == 0 {
		return "without a role"
	}
	held := make([]string, len(c.Roles))
	for i, a := range c.Roles {
		held[i] = a.Role + " in " + a.Division
	}
	text := strings.Join(held, ", ")
	if c.Only != 0 {
		text += ", narrowed to " + c.Only.String()
	}
	return text
}
