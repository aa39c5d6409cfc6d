package access_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

func caller(assignments ...string) access.Caller {
	c := access.Caller{ID: "client_1", Name: "tester", Kind: access.Client}
	for _, a := range assignments {
		role, division, _ := strings.Cut(a, " ")
		c.Roles = append(c.Roles, grantway.Assignment{Role: role, Division: division})
	}
	return c
}

// TestRoles holds the acceptance scenarios, not the table of the program: O-5 above all.
func TestRoles(t *testing.T) {
	const yes, no = true, false
	for _, row := range []struct {
		p                                                    access.Permission
		owner, administrator, designer, auditor, application bool
	}{
		{access.PickCredential, yes, yes, yes, yes, yes},
		{access.ReadStatus, yes, yes, no, yes, yes},
		{access.ReadCredential, yes, yes, no, yes, no},
		{access.WriteCredential, yes, yes, no, no, no},
		{access.DeleteCredential, yes, no, no, no, no},
		{access.ValidateCredential, yes, yes, no, no, no},
		{access.UseCredential, yes, yes, no, no, yes},
		{access.ReadStore, yes, yes, no, yes, no},
		{access.WriteStore, yes, yes, no, no, no},
		{access.ReadClient, yes, yes, no, yes, no},
		{access.WriteClient, yes, yes, no, no, no},
		{access.WriteDivision, yes, yes, no, no, no},
		{access.ReadAudit, yes, yes, no, yes, no},
		{access.RotateKey, yes, no, no, no, no},
		{access.ReadPerson, yes, yes, no, yes, no},
		{access.WritePerson, yes, yes, no, no, no},
		{access.WriteSSO, yes, no, no, no, no},
	} {
		for role, want := range map[string]bool{
			access.Owner: row.owner, access.Administrator: row.administrator, access.Designer: row.designer,
			access.Auditor: row.auditor, access.Application: row.application, "superuser": no, "": no,
		} {
			if got := caller(role+" sales").May(row.p, "sales"); got != want {
				t.Errorf("%s may %s: %t, want %t", role, row.p, got, want)
			}
		}
	}
}

func TestDivisions(t *testing.T) {
	here, all := caller("application sales", "auditor home"), caller("application *")
	for _, test := range []struct {
		who      access.Caller
		p        access.Permission
		division string
		want     bool
	}{
		{here, access.UseCredential, "sales", true},
		{here, access.UseCredential, "home", false},
		{here, access.UseCredential, "Sales", false},
		{here, access.UseCredential, "", false},
		{here, access.UseCredential, access.Everywhere, false},
		{here, access.ReadAudit, "home", true},
		{all, access.UseCredential, "sales", true},
		{all, access.UseCredential, access.Everywhere, true},
		{access.Caller{}, access.PickCredential, "home", false},
	} {
		if got := test.who.May(test.p, test.division); got != test.want {
			t.Errorf("%v may %s in %q: %t, want %t", test.who.Roles, test.p, test.division, got, test.want)
		}
	}
	if names, everywhere := here.Divisions(access.PickCredential); everywhere || strings.Join(names, " ") != "sales home" {
		t.Errorf("divisions: %v, %t", names, everywhere)
	}
	if names, everywhere := all.Divisions(access.PickCredential); !everywhere || names != nil {
		t.Errorf("divisions: %v, %t", names, everywhere)
	}
	if err := here.CheckSomewhere(access.ReadAudit); err != nil {
		t.Error(err)
	}
	if err := all.CheckSomewhere(access.ReadAudit); !isForbidden(err) {
		t.Errorf("got %v", err)
	}
}

// A refusal says what is missing, where, and who would have it (setec: no guessing).
func TestCheckMessage(t *testing.T) {
	err := caller("designer home").Check(access.UseCredential, "home")
	if !isForbidden(err) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"credential.use", "division home", "owner, administrator and application", "you are designer in home"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	missing, ok := errors.AsType[access.Missing](err)
	if !ok || access.Permissions(missing).String() != "credential.use" {
		t.Errorf("missing %v, %t", missing, ok)
	}
}

func TestMayGrant(t *testing.T) {
	for _, test := range []struct {
		who    access.Caller
		role   string
		in     string
		wanted bool
	}{
		{caller("owner *"), "owner", "*", true},
		{caller("owner *"), "owner", "sales", true},
		{caller("owner sales"), "owner", "sales", true},
		{caller("owner sales"), "application", "home", false},
		{caller("owner sales"), "application", "*", false},
		{caller("administrator sales"), "owner", "sales", false},
		{caller("administrator sales"), "administrator", "sales", true},
		{caller("administrator sales"), "designer", "sales", true},
		{caller("administrator sales"), "auditor", "sales", true},
		{caller("administrator sales"), "application", "sales", true},
		{caller("auditor sales"), "designer", "sales", true}, // but has no client.write
		{caller("application sales"), "auditor", "sales", false},
		{caller("application *", "auditor sales"), "application", "sales", true},
		{access.Caller{}, "designer", "home", false},
	} {
		err := test.who.MayGrant(grantway.Assignment{Role: test.role, Division: test.in})
		if (err == nil) != test.wanted || err != nil && !isForbidden(err) {
			t.Errorf("%v grants %s in %s: %v", test.who.Roles, test.role, test.in, err)
		}
	}
}

func TestOnlyNarrows(t *testing.T) {
	c := caller("administrator *")
	var ok bool
	if c.Only, ok = access.ParsePermissions("credential.use key.rotate"); !ok {
		t.Fatal("not a scope")
	}
	if !c.May(access.UseCredential, "home") || c.May(access.WriteCredential, "home") || c.May(access.RotateKey, access.Everywhere) {
		t.Error("Only must narrow, and must not widen")
	}
	if c.MayGrant(grantway.Assignment{Role: access.Designer, Division: "home"}) == nil {
		t.Error("a narrowed caller grants what it does not hold")
	}
	if names, everywhere := c.Divisions(access.WriteCredential); names != nil || everywhere {
		t.Error("a narrowed caller has divisions")
	}
}

func TestScope(t *testing.T) {
	all := access.Hub().Anywhere()
	if got, ok := access.ParsePermissions(all.String()); !ok || got != all {
		t.Errorf("%q reads as %q", all, got)
	}
	for _, bad := range []string{"", " ", "credential.use ", "credential.use  credential.pick", "credential.use credential.use", "CREDENTIAL.USE", "openid"} {
		if _, ok := access.ParsePermissions(bad); ok {
			t.Errorf("%q is taken for a scope", bad)
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	c := caller("designer home", "auditor home", "application sales")
	if n := testing.AllocsPerRun(100, func() {
		if c.Check(access.UseCredential, "sales") != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	c := caller("designer home", "auditor home", "application sales")
	for b.Loop() {
		if c.Check(access.UseCredential, "sales") != nil {
			b.Fatal("refused")
		}
	}
}

func isForbidden(err error) bool { return hasCode(err, grantway.Forbidden) }

func hasCode(err error, code grantway.Code) bool {
	e, ok := errors.AsType[*grantway.Error](err)
	return ok && e.Code == code
}
