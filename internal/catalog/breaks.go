package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// breaks lists what keeps users, the credentials of a version, from going on with next in the
// place of old. An edit is compatible when it lists nothing:
//
//   - no input is removed, or becomes one of another type: programs and files name inputs by their keys;
//   - each credential could be saved once more as it is: it has all that is required, and its
//     values are among those that are allowed;
//   - what asks for a token goes on asking for one.
//
// So without credentials every edit is compatible. Titles, help, defaults, the order, what is
// advanced and what requests look like can always be changed; a changed request counts from the next token on.
func breaks(old, next *connector.Definition, users []User) []grantway.Field {
	var fields []grantway.Field
	breaking := func(key, format string, args ...any) {
		fields = append(fields, grantway.Field{Pointer: grantway.Pointer("inputs", key), Detail: fmt.Sprintf(format, args...)})
	}
	if len(users) == 0 {
		return nil
	}
	gone := map[string]bool{}
	for _, in := range old.Inputs {
		switch now, there := next.Input(in.Key); {
		case !there:
			gone[in.Key] = true
			breaking(in.Key, "is removed")
		case now.Type != in.Type:
			gone[in.Key] = true
			breaking(in.Key, "was of type %s and is of type %s", in.Type, now.Type)
		}
	}
	wrong := map[grantway.Field][]string{} // names of credentials by what is wrong with them
	for _, u := range users {
		had := old.Check(u.Inputs)
		for _, f := range next.Check(u.Inputs) {
			if !gone[strings.TrimPrefix(f.Pointer, "/inputs/")] && !slices.Contains(had, f) {
				wrong[f] = append(wrong[f], u.Name)
			}
		}
	}
	for f, names := range wrong {
		fields = append(fields, grantway.Field{Pointer: f.Pointer, Detail: f.Detail + ", which is not so in " + credentials(names)})
	}
	if old.HasToken() && !next.HasToken() {
		fields = append(fields, grantway.Field{Pointer: "", Detail: "asks for no token any more"})
	}
	slices.SortFunc(fields, func(a, b grantway.Field) int { return strings.Compare(a.Pointer+a.Detail, b.Pointer+b.Detail) })
	return fields
}

// credentials names some credentials.
func credentials(names []string) string {
	slices.Sort(names)
	kind := "credential "
	if len(names) > 1 {
		kind = "credentials "
	}
	if more := len(names) - 5; more > 1 {
		return kind + strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return kind + strings.Join(names, ", ")
}

// refuse compares what an edit of the connector name makes of all connectors, those that extend
// it among them, with what they were, and refuses it if something breaks.
func (c *Connectors) refuse(ctx context.Context, q store.Querier, who access.Caller, old, changed *snapshot, name string) error {
	var fields []grantway.Field
	for _, at := range slices.SortedFunc(maps.Keys(old.versions), func(a, b ref) int {
		if a.name != b.name {
			return strings.Compare(a.name, b.name)
		}
		return int(a.version - b.version)
	}) {
		was, is := old.versions[at], changed.versions[at]
		if was.builtIn || was.def == nil || is == nil || was.def == is.def {
			continue
		}
		own := at.name == name
		if is.def == nil { // of a connector that extends it
			fields = append(fields, grantway.Field{Detail: fmt.Sprintf("the connector %s, which extends it, does not compile then: %s", at.name, is.findings)})
			continue
		}
		users, err := c.users(ctx, q, who, at)
		if err != nil {
			return err
		}
		for _, f := range breaks(was.def, is.def, users) {
			if !own {
				f.Detail += " (connector " + at.name + " extends it)"
			}
			fields = append(fields, f)
		}
	}
	if fields == nil {
		return nil
	}
	return &grantway.Error{Code: grantway.Conflict, Fields: fields,
		Message: "the edit would break credentials that are made of the connector; save it as a new version, and they stay with the one they have until somebody moves them"}
}

// users are the credentials of a version. Those whose names are not for who are called "another credential".
func (c *Connectors) users(ctx context.Context, q store.Querier, who access.Caller, at ref) ([]User, error) {
	if c.Users == nil {
		return nil, nil
	}
	all, err := c.Users(ctx, q, at.name)
	if err != nil {
		return nil, err
	}
	var users []User
	for _, u := range all {
		if at.version != 0 && u.Version != at.version {
			continue
		}
		if !who.May(access.PickCredential, u.Division) {
			u.Name = "of another division"
		}
		users = append(users, u)
	}
	return users, nil
}

// usedBy names what keeps a connector from being deleted: the first credentials made of it, and
// the connectors that extend it.
func (c *Connectors) usedBy(ctx context.Context, q store.Querier, who access.Caller, s *snapshot, name string) ([]string, error) {
	var list []string
	users, err := c.users(ctx, q, who, ref{name: name})
	if err != nil {
		return nil, err
	}
	for i, u := range users {
		if i == 20 {
			list = append(list, fmt.Sprintf("%d more credentials", len(users)-i))
			break
		}
		list = append(list, "credential "+u.Name)
	}
	for _, other := range s.family(name) {
		if e := s.newest[other]; other != name && !e.builtIn {
			list = append(list, "connector "+other)
		}
	}
	return list, nil
}
