package console

import (
	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// Route is a row of the table, for tests that go through all of it.
type Route struct {
	Method, Path string
	Rule         string // "open", "signed in", or the name of a permission; "" is none
}

// Routes is the table of routes.
func Routes() (list []Route) {
	for _, rt := range new(Console).table() {
		one := Route{Method: rt.method, Path: rt.path}
		if p, ok := rt.need.permission(); ok {
			one.Rule = p.String()
		} else if rt.need != 0 {
			one.Rule = map[need]string{open: "open", signedIn: "signed in"}[rt.need]
		}
		list = append(list, one)
	}
	return list
}

// RoleMay says whether a role has the permission of that name.
func RoleMay(role, permission string) bool {
	p, ok := access.ParsePermissions(permission)
	who := access.Caller{Roles: []grantway.Assignment{{Role: role, Division: access.Everywhere}}}
	return ok && who.Anywhere()&p == p
}
