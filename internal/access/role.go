package access

import (
	"slices"
	"strings"
)

// Permission is the right to one kind of action.
type Permission uint8

// The permissions. Those on credentials and clients count in the division of the object;
// those on stores and connectors, WriteDivision, RotateKey and WriteSSO are about the hub and are checked in Everywhere.
const (
	PickCredential     Permission = iota // see that a credential is there, by name, to refer to it
	ReadStatus                           // see whether a credential works, and when it expires
	ReadCredential                       // see a credential's settings; secrets are never shown
	WriteCredential                      // create and change credentials
	DeleteCredential                     //
	ValidateCredential                   // make a test request, also with settings that are not saved
	UseCredential                        // get its tokens
	ReadStore                            // see which secret stores there are
	WriteStore                           // add, change, try and delete secret stores
	ReadClient                           // see OAuth clients
	WriteClient                          // create, change and delete OAuth clients, make secrets; see MayGrant
	WriteDivision                        // create and delete divisions
	ReadAudit                            // see the audit trail and who read tokens
	RotateKey                            // manage the keys that seal the database
	ReadPerson                           // see the people who sign in to the console, and their sessions
	WritePerson                          // invite, change and deactivate people, end their sessions; see MayGrant
	WriteSSO                             // set where single sign-on goes, and so who may be anybody
	ReadConnector                        // see connectors and what they ask for
	WriteConnector                       // make, change, try and delete connectors, and so say where secrets go
	permissionCount
)

// String is the name of p in messages and documents.
func (p Permission) String() string {
	return [permissionCount]string{
		PickCredential:     "credential.pick",
		ReadStatus:         "credential.status",
		ReadCredential:     "credential.read",
		WriteCredential:    "credential.write",
		DeleteCredential:   "credential.delete",
		ValidateCredential: "credential.validate",
		UseCredential:      "credential.use",
		ReadStore:          "store.read",
		WriteStore:         "store.write",
		ReadClient:         "client.read",
		WriteClient:        "client.write",
		WriteDivision:      "division.write",
		ReadAudit:          "audit.read",
		RotateKey:          "key.rotate",
		ReadPerson:         "person.read",
		WritePerson:        "person.write",
		WriteSSO:           "sso.write",
		ReadConnector:      "connector.read",
		WriteConnector:     "connector.write",
	}[p]
}

// The roles.
const (
	Owner         = "owner"
	Administrator = "administrator"
	Designer      = "designer"
	Auditor       = "auditor"
	Application   = "application"
)

// Permissions is a set of them. Its text is an OAuth scope (RFC 6749 section 3.3), in
// which each permission is a scope token: "credential.pick credential.use".
type Permissions uint32

func of(ps ...Permission) (s Permissions) {
	for _, p := range ps {
		s |= 1 << p
	}
	return s
}

// Has says whether p is in s.
func (s Permissions) Has(p Permission) bool { return s>>p&1 == 1 }

// String is s as a scope, in the order of the constants; "" when s is empty.
func (s Permissions) String() string {
	var names []string
	for p := range permissionCount {
		if s.Has(p) {
			names = append(names, p.String())
		}
	}
	return strings.Join(names, " ")
}

// ParsePermissions reads what String wrote, in any order; ok is false when scope is empty, has a
// name twice, or names something else.
func ParsePermissions(scope string) (s Permissions, ok bool) {
next:
	for name := range strings.SplitSeq(scope, " ") {
		for p := range permissionCount {
			if p.String() == name && !s.Has(p) {
				s |= of(p)
				continue next
			}
		}
		return 0, false
	}
	return s, true
}

// PermissionNames lists all permissions, as scopes name them.
func PermissionNames() (names []string) {
	for p := range permissionCount {
		names = append(names, p.String())
	}
	return names
}

// permissionsOf is the one table of what a role may do. An unknown role, such as one that
// a newer hub wrote, may do nothing.
//
//   - An owner may do all. It alone deletes credentials, which ends what depends on them,
//     manages keys, the loss of which loses every secret, and says which provider to
//     believe in single sign-on, which could sign in anybody.
//   - An administrator runs the place. Because it holds all that designers, auditors and
//     applications hold, it can make clients of these roles, but no owners.
//   - A designer builds flows, and so refers to credentials and connectors by name. What is behind the
//     name, and a token, is not its business: the hub puts the token on the request.
//   - An auditor looks at everything and touches nothing. A token is not for looking at.
//   - An application gets tokens and learns why it got none.
func permissionsOf(role string) Permissions {
	switch role {
	case Owner:
		return 1<<permissionCount - 1
	case Administrator:
		return of(PickCredential, ReadStatus, ReadCredential, WriteCredential, ValidateCredential, UseCredential,
			ReadStore, WriteStore, ReadClient, WriteClient, WriteDivision, ReadAudit, ReadPerson, WritePerson, ReadConnector, WriteConnector)
	case Designer:
		return of(PickCredential, ReadConnector)
	case Auditor:
		return of(PickCredential, ReadStatus, ReadCredential, ReadStore, ReadClient, ReadAudit, ReadPerson, ReadConnector)
	case Application:
		return of(PickCredential, ReadStatus, UseCredential, ReadConnector)
	}
	return 0
}

// Roles lists the names of all roles, the mightiest first.
func Roles() []string { return []string{Owner, Administrator, Designer, Auditor, Application} }

// KnownRole says whether name is one of Roles.
func KnownRole(name string) bool { return slices.Contains(Roles(), name) }

// rolesWith says which roles have p: "the role owner has", "the roles owner and auditor have".
func rolesWith(p Permission) string {
	var names []string
	for _, r := range Roles() {
		if permissionsOf(r).Has(p) {
			names = append(names, r)
		}
	}
	if len(names) == 1 {
		return "the role " + names[0] + " has"
	}
	last := len(names) - 1
	return "the roles " + strings.Join(names[:last], ", ") + " and " + names[last] + " have"
}
