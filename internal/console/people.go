package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

type peoplePage struct {
	Frame
	People   []grantway.Person
	Next     string
	MayWrite bool
}

func (c *Console) people(r *request) (answer, error) {
	p := &peoplePage{Frame: frame("people", "People", administration, crumb{"Access", ""}), MayWrite: r.who.Anywhere().Has(access.WritePerson)}
	page, err := c.People.List(r.Context(), r.who, r.FormValue("cursor"), 100)
	p.People = page.Items
	if page.Next != "" {
		p.Next = "/people?cursor=" + url.QueryEscape(page.Next)
	}
	return answer{page: p}, err
}

// personPage is one person, or the form that invites one.
type personPage struct {
	Frame
	One       grantway.Person
	Roles     []roleRow
	Names     []string // of roles that may be given
	Divisions []string
	Sessions  []grantway.Session
	Link      *grantway.Invitation
	MayWrite  bool
	Self      bool
	New       bool
	Restored  bool
	Errors    problems
}

// roleRow is a row of the form in which roles are given.
type roleRow struct{ Role, Division string }

func (c *Console) newPersonPage(r *request, title string) (*personPage, error) {
	p := &personPage{Frame: frame("person", title, administration, crumb{"Access", ""}, crumb{"People", "/people"}), MayWrite: r.who.Anywhere().Has(access.WritePerson)}
	var err error
	p.Divisions, p.Names, err = c.grantable(r)
	return p, err
}

// grantable lists the divisions in which roles are held, and the roles that the person may give in one of them.
func (c *Console) grantable(r *request) (divisions, roles []string, err error) {
	all, err := c.Divisions.List(r.Context(), r.who)
	divisions = []string{access.Everywhere}
	for _, d := range all {
		divisions = append(divisions, d.Name)
	}
	for _, name := range access.Roles() {
		if slices.ContainsFunc(divisions, func(d string) bool { return r.who.MayGrant(grantway.Assignment{Role: name, Division: d}) == nil }) {
			roles = append(roles, name)
		}
	}
	return divisions, roles, err
}

// rows are the roles of a person, and one row to fill in.
func (p *personPage) rows(roles []grantway.Assignment) {
	p.Roles = nil
	for _, a := range roles {
		p.Roles = append(p.Roles, roleRow{a.Role, a.Division})
	}
	p.Roles = append(p.Roles, roleRow{Division: access.Everywhere})
}

func rolesFrom(r *request) (list []grantway.Assignment) {
	names, divisions := r.PostForm["role"], r.PostForm["division"]
	for i := range min(len(names), len(divisions)) {
		a := grantway.Assignment{Role: strings.TrimSpace(names[i]), Division: strings.TrimSpace(divisions[i])}
		if a.Role != "" && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

func (c *Console) invitePage(r *request) (answer, error) {
	p, err := c.newPersonPage(r, "Invite a person")
	if err != nil {
		return answer{}, err
	}
	p.New = true
	p.rows(nil)
	return answer{page: p}, nil
}

func (c *Console) invite(r *request) (answer, error) {
	p, err := c.newPersonPage(r, "Invite a person")
	if err != nil {
		return answer{}, err
	}
	p.New = true
	p.One = grantway.Person{Email: r.form("email"), Name: r.form("name"), Roles: rolesFrom(r)}
	p.rows(p.One.Roles)
	if r.restored {
		p.Restored = true
		return answer{page: p}, nil
	}
	made, err := c.People.Invite(r.Context(), r.who, p.One)
	if e := asError(err); e != nil && (e.Code == grantway.Forbidden || problemsOf(err) != nil) {
		if p.Errors = problemsOf(err); p.Errors == nil {
			p.Errors = problems{"": sentence(e.Message)}
		}
		return answer{page: p, status: statuses[e.Code].status}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return c.invited(r, made)
}

// invited shows a new link, once.
func (c *Console) invited(r *request, made grantway.Invitation) (answer, error) {
	p, err := c.loadPerson(r, made.Person.ID)
	if err != nil {
		return answer{}, err
	}
	p.Link = &made
	return answer{page: p}, nil
}

func (c *Console) loadPerson(r *request, id string) (*personPage, error) {
	one, err := c.People.Get(r.Context(), r.who, id)
	if err != nil {
		return nil, err
	}
	title := one.Name
	if title == "" {
		title = one.Email
	}
	p, err := c.newPersonPage(r, title)
	if err != nil {
		return nil, err
	}
	p.One, p.Self = one, one.ID == r.who.ID
	p.rows(one.Roles)
	p.Sessions, err = c.People.Sessions(r.Context(), r.who, one.ID)
	return p, err
}

func (c *Console) person(r *request) (answer, error) {
	p, err := c.loadPerson(r, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return answer{page: p}, nil
}

func (c *Console) changePerson(r *request) (answer, error) {
	p, err := c.loadPerson(r, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	wanted := p.One
	wanted.Name, wanted.Roles = r.form("name"), rolesFrom(r)
	if r.restored {
		p.Restored, p.One.Name = true, wanted.Name
		p.rows(wanted.Roles)
		return answer{page: p}, nil
	}
	_, err = c.People.Update(r.Context(), r.who, wanted)
	if e := asError(err); e != nil && (e.Code == grantway.Forbidden || problemsOf(err) != nil) {
		p.One.Name = wanted.Name
		p.rows(wanted.Roles)
		if p.Errors = problemsOf(err); p.Errors == nil {
			p.Errors = problems{"": sentence(e.Message)}
		}
		return answer{page: p, status: statuses[e.Code].status}, nil
	}
	return answer{redirect: "/people/" + p.One.ID, flash: "The changes are saved."}, err
}

func (c *Console) deactivatePerson(r *request) (answer, error) {
	one, err := c.People.Get(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	if r.form("confirm") != one.Email {
		p, err := c.loadPerson(r, one.ID)
		if err != nil {
			return answer{}, err
		}
		p.Errors = problems{"/confirm": "Type the address exactly as it is: " + one.Email}
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	_, err = c.People.Deactivate(r.Context(), r.who, one.ID)
	return answer{redirect: "/people/" + one.ID, flash: one.Email + " cannot sign in any more, and is signed out everywhere."}, err
}

func (c *Console) activatePerson(r *request) (answer, error) {
	one, err := c.People.Activate(r.Context(), r.who, r.PathValue("id"))
	return answer{redirect: "/people/" + r.PathValue("id"), flash: one.Email + " may sign in again."}, err
}

func (c *Console) renewInvitation(r *request) (answer, error) {
	made, err := c.People.Renew(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	return c.invited(r, made)
}

func (c *Console) endSession(r *request) (answer, error) {
	err := c.People.RevokeSession(r.Context(), r.who, r.PathValue("id"), r.form("session"))
	return answer{redirect: "/people/" + r.PathValue("id"), flash: "Signed out."}, err
}
