package access_test

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

const (
	hubURL   = "https://hub.example.com"
	password = "correct horse battery"
	another  = "staple the other horse"
)

// house is the people of one replica.
type house struct {
	*access.People
	store  *store.Store
	sealer *seal.Sealer
	audit  *access.Log
}

func newKEK(t *testing.T) seal.KEK {
	path := filepath.Join(t.TempDir(), "key")
	if err := seal.GenerateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := seal.ParseKey("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func newHouse(t *testing.T, s *store.Store, kek seal.KEK, client *http.Client) *house {
	t.Helper()
	sealer, err := seal.Open(t.Context(), s, kek)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sealer.Close)
	h := &house{store: s, sealer: sealer, audit: access.NewLog(s, slog.New(slog.DiscardHandler))}
	h.People, err = access.NewPeople(t.Context(), access.PeopleOptions{Store: s, Sealer: sealer, Audit: h.audit, URL: func() string { return hubURL }, HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return h
}

// eachHouse runs body with people on each kind of database.
func eachHouse(t *testing.T, body func(t *testing.T, h *house)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, s *store.Store) { body(t, newHouse(t, s, newKEK(t), nil)) })
}

// pairOfHouses runs body with two replicas on one database of each kind.
func pairOfHouses(t *testing.T, body func(t *testing.T, a, b *house)) {
	t.Helper()
	storetest.EachURL(t, func(t *testing.T, url string) {
		kek := newKEK(t)
		body(t, newHouse(t, storetest.Open(t, url), kek, nil), newHouse(t, storetest.Open(t, url), kek, nil))
	})
}

// person adds somebody who can sign in.
func (h *house) person(t *testing.T, email string, roles ...string) grantway.Person {
	t.Helper()
	invited, err := h.Invite(t.Context(), access.Hub(), grantway.Person{Email: email, Roles: caller(roles...).Roles})
	if err != nil {
		t.Fatal(err)
	}
	one, err := h.Accept(t.Context(), tokenOf(t, invited.Link), "", password)
	if err != nil {
		t.Fatal(err)
	}
	return one
}

func tokenOf(t *testing.T, link string) string {
	t.Helper()
	token, ok := strings.CutPrefix(link, hubURL+access.InvitationPath)
	if !ok {
		if token, ok = strings.CutPrefix(link, hubURL+access.SetupPath); !ok {
			t.Fatalf("link %s", link)
		}
	}
	return token
}

func (h *house) signIn(t *testing.T, email, password string) access.SignedIn {
	t.Helper()
	in, err := h.SignIn(t.Context(), email, password, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (h *house) caller(t *testing.T, in access.SignedIn) access.Caller {
	t.Helper()
	who, _, err := h.Session(t.Context(), in.Token)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func from(address string) access.Origin {
	return access.Origin{From: netip.MustParseAddr(address), UserAgent: "test"}
}

func code(err error) grantway.Code {
	if e, ok := err.(*grantway.Error); ok {
		return e.Code
	}
	return grantway.Code(cmp.Or(errorText(err), "none"))
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return "not of ours: " + err.Error()
}

func wantCode(t *testing.T, err error, want grantway.Code) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}

// The link of any start works, the first time one is used.
func TestSetup(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		first, ok, err := h.SetupLink(ctx)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		second, _, err := h.SetupLink(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range []string{first, second} {
			if err := h.CheckSetup(ctx, tokenOf(t, link)); err != nil {
				t.Error(err)
			}
		}
		_, err = h.Accept(ctx, tokenOf(t, first), "Mallory", password)
		wantCode(t, err, grantway.NotFound) // a set-up link is no invitation
		_, err = h.Setup(ctx, "guess", "Ann", "ann@example.com", password)
		wantCode(t, err, grantway.NotFound)
		_, err = h.Setup(ctx, tokenOf(t, first), "Ann", "ann", "short")
		wantCode(t, err, grantway.Invalid)
		if text := err.Error(); !strings.Contains(text, "12 characters") || !strings.Contains(text, "e-mail address") {
			t.Error(text)
		}

		ann, err := h.Setup(ctx, tokenOf(t, first), " Ann ", "Ann@Example.com", password)
		if err != nil {
			t.Fatal(err)
		}
		if ann.Name != "Ann" || ann.Email != "Ann@Example.com" || ann.State != grantway.Active || !ann.Password {
			t.Errorf("%+v", ann)
		}
		for _, link := range []string{first, second} {
			wantCode(t, h.CheckSetup(ctx, tokenOf(t, link)), grantway.NotFound)
			_, err = h.Setup(ctx, tokenOf(t, link), "Bob", "bob@example.com", password)
			wantCode(t, err, grantway.NotFound)
		}
		if _, ok, err := h.SetupLink(ctx); ok || err != nil {
			t.Error("there is a set-up link although there is somebody", err)
		}
		who := h.caller(t, h.signIn(t, "ann@example.COM", password))
		if !who.May(access.RotateKey, access.Everywhere) || who.Kind != access.Person || who.Name != "Ann" || who.ID != ann.ID {
			t.Errorf("%+v", who)
		}
	})
}

func TestInvitation(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx, owner := t.Context(), caller("owner *")
		invited, err := h.Invite(ctx, owner, grantway.Person{Email: "bob@example.com", Name: "Bob", Roles: caller("designer home").Roles})
		if err != nil {
			t.Fatal(err)
		}
		if invited.Person.State != grantway.Invited {
			t.Errorf("%+v", invited.Person)
		}
		_, err = h.Invite(ctx, owner, grantway.Person{Email: "BOB@example.com", Roles: caller("designer home").Roles})
		wantCode(t, err, grantway.Conflict)
		_, err = h.SignIn(ctx, "bob@example.com", "", from("192.0.2.1"))
		wantCode(t, err, grantway.Unauthenticated)

		renewed, err := h.Renew(ctx, owner, invited.Person.ID)
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Invited(ctx, tokenOf(t, invited.Link))
		wantCode(t, err, grantway.NotFound)
		token := tokenOf(t, renewed.Link)
		if bob, err := h.Invited(ctx, token); err != nil || bob.Email != "bob@example.com" {
			t.Error(bob, err)
		}
		for _, bad := range []string{"short", "BOB@example.com", strings.Repeat("x", 257), "control\x00characters"} {
			_, err = h.Accept(ctx, token, "", bad)
			wantCode(t, err, grantway.Invalid)
		}
		if _, err := h.Accept(ctx, token, "Robert", password); err != nil {
			t.Fatal(err)
		}
		_, err = h.Accept(ctx, token, "", password)
		wantCode(t, err, grantway.NotFound)
		in := h.signIn(t, "bob@example.com", password)
		if in.Person.Name != "Robert" {
			t.Errorf("%+v", in.Person)
		}

		// A lost password: the link ends what there was.
		lost, err := h.Renew(ctx, owner, in.Person.ID)
		if err != nil {
			t.Fatal(err)
		}
		h.caller(t, in) // making it changes nothing
		if _, err := h.Accept(ctx, tokenOf(t, lost.Link), "", another); err != nil {
			t.Fatal(err)
		}
		_, _, err = h.Session(ctx, in.Token)
		wantCode(t, err, grantway.Unauthenticated)
		_, err = h.SignIn(ctx, "bob@example.com", password, from("192.0.2.1"))
		wantCode(t, err, grantway.Unauthenticated)
		h.signIn(t, "bob@example.com", another)
	})
}

// Nobody makes somebody who may do more than he may himself, nor changes such a person.
func TestNobodyGrantsWhatHeDoesNotHold(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		admin, sales := caller("administrator *"), caller("administrator sales")
		if err := access.NewDivisions(h.store, h.audit).Create(ctx, access.Hub(), grantway.Division{Name: "sales"}); err != nil {
			t.Fatal(err)
		}
		owner := h.person(t, "owner@example.com", "owner *")
		seller := h.person(t, "seller@example.com", "designer sales")
		both := h.person(t, "both@example.com", "designer sales", "designer home")

		for _, row := range []struct {
			who   access.Caller
			roles []string
			want  grantway.Code
		}{
			{admin, []string{"administrator *"}, "none"},
			{admin, []string{"designer home", "owner sales"}, grantway.Forbidden},
			{sales, []string{"administrator sales"}, "none"},
			{sales, []string{"designer home"}, grantway.Forbidden},
			{sales, []string{"designer *"}, grantway.Forbidden},
			{caller("designer *"), []string{"designer home"}, grantway.Forbidden},
			{caller("auditor *"), []string{"auditor home"}, grantway.Forbidden},
			{admin, []string{"king home"}, grantway.Invalid},
			{admin, []string{"designer nowhere"}, grantway.Invalid},
			{admin, []string{"designer home", "designer home"}, grantway.Invalid},
			{admin, nil, grantway.Invalid},
		} {
			_, err := h.Invite(ctx, row.who, grantway.Person{Email: strings.ToLower(time.Now().Format("15-04-05.000000000")) + "@example.com", Roles: caller(row.roles...).Roles})
			if got := code(err); got != row.want {
				t.Errorf("%v invites %v: %v, want %s", row.who.Roles, row.roles, err, row.want)
			}
		}
		for name, try := range map[string]func(who access.Caller, id string) error{
			"update": func(who access.Caller, id string) error {
				_, err := h.Update(ctx, who, grantway.Person{ID: id, Roles: caller("designer sales").Roles})
				return err
			},
			"deactivate": func(who access.Caller, id string) error { _, err := h.Deactivate(ctx, who, id); return err },
			"activate":   func(who access.Caller, id string) error { _, err := h.Activate(ctx, who, id); return err },
			"renew":      func(who access.Caller, id string) error { _, err := h.Renew(ctx, who, id); return err },
			"revoke":     func(who access.Caller, id string) error { return h.RevokeSession(ctx, who, id, "") },
		} {
			for _, row := range []struct {
				who  access.Caller
				id   string
				want grantway.Code
			}{
				{admin, owner.ID, grantway.Forbidden},
				{sales, owner.ID, grantway.NotFound}, // not even there
				{sales, both.ID, grantway.Forbidden},
				{caller("designer *"), seller.ID, grantway.Forbidden},
				{access.Caller{ID: seller.ID, Kind: access.Person}, both.ID, grantway.Forbidden},
				{admin, "", grantway.NotFound},
				{admin, "nobody", grantway.NotFound},
			} {
				if got := code(try(row.who, row.id)); got != row.want {
					t.Errorf("%s by %v: %s, want %s", name, row.who.Roles, got, row.want)
				}
			}
		}
		if one, err := h.Get(ctx, access.Hub(), owner.ID); err != nil || one.State != grantway.Active || len(one.Roles) != 1 {
			t.Error(one, err)
		}
		if _, err := h.Update(ctx, admin, grantway.Person{ID: both.ID, Name: "Both", Roles: caller("auditor *").Roles}); err != nil {
			t.Error(err)
		}
		// A refusal is in the trail, by the name of the person.
		denied := list(t, h.audit, access.Hub(), access.Filter{Action: "person.", Outcome: access.Denied, Object: "person/owner@example.com"})
		if len(denied) != 4 {
			t.Errorf("%d refusals", len(denied))
		}

		// Each sees the people of its divisions, page by page, and himself.
		emails := func(who access.Caller, limit int) (all []string) {
			for cursor, more := "", true; more; more = cursor != "" {
				page, err := h.List(ctx, who, cursor, limit)
				if err != nil {
					t.Fatal(err)
				}
				for _, one := range page.Items {
					all = append(all, one.Email)
				}
				cursor = page.Next
			}
			return all
		}
		everybody := emails(admin, 1000)
		if len(everybody) != 5 || !slices.IsSorted(everybody) {
			t.Error(everybody)
		}
		for limit := 1; limit <= 5; limit++ {
			if got := emails(admin, limit); !slices.Equal(got, everybody) {
				t.Errorf("pages of %d: %v", limit, got)
			}
			if got := emails(caller("auditor sales"), limit); len(got) != 2 || !slices.Contains(got, "seller@example.com") {
				t.Errorf("pages of %d of sales: %v", limit, got)
			}
		}
		_, err := h.List(ctx, caller("designer *"), "", 0)
		wantCode(t, err, grantway.Forbidden)
		_, err = h.List(ctx, admin, "\x00", 0)
		wantCode(t, err, grantway.Malformed)
		if me, err := h.Get(ctx, access.Caller{ID: seller.ID, Kind: access.Person, Roles: seller.Roles}, seller.ID); err != nil || me.Email != seller.Email {
			t.Error(me, err)
		}
		if one, err := h.Get(ctx, admin, "SELLER@example.com"); err != nil || one.ID != seller.ID {
			t.Error(one, err)
		}
	})
}

func TestLastOwner(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ctx, owner := t.Context(), caller("owner *")
		ann := h.person(t, "ann@example.com", "owner *", "auditor home")
		if _, err := h.Invite(ctx, owner, grantway.Person{Email: "invited@example.com", Roles: caller("owner *").Roles}); err != nil {
			t.Fatal(err)
		}
		h.person(t, "sales@example.com", "owner home")
		demote := func(one grantway.Person) error {
			one.Roles = caller("owner home").Roles
			_, err := h.Update(ctx, owner, one)
			return err
		}
		_, err := h.Deactivate(ctx, owner, ann.ID)
		wantCode(t, err, grantway.Conflict)
		wantCode(t, demote(ann), grantway.Conflict)
		if one, err := h.Update(ctx, owner, grantway.Person{ID: ann.ID, Roles: caller("owner *").Roles}); err != nil || len(one.Roles) != 1 {
			t.Error(one, err)
		}

		bob := h.person(t, "bob@example.com", "owner *")
		if err := demote(ann); err != nil {
			t.Error(err)
		}
		wantCode(t, demote(bob), grantway.Conflict)
		if one, err := h.Get(ctx, owner, bob.ID); err != nil || !slices.Equal(one.Roles, caller("owner *").Roles) {
			t.Error(one, err)
		}
	})
}

// What ends or changes a session does so on every replica, at once where it happened.
func TestSessionsOnTwoReplicas(t *testing.T) {
	pairOfHouses(t, func(t *testing.T, a, b *house) {
		ctx, owner := t.Context(), caller("owner *")
		ann := a.person(t, "ann@example.com", "designer home")
		signIn := func() access.SignedIn {
			in := a.signIn(t, "ann@example.com", password)
			a.caller(t, in)
			b.caller(t, in) // in the memory of both
			return in
		}
		ended := func(what string, in access.SignedIn) {
			t.Helper()
			_, _, err := a.Session(ctx, in.Token)
			wantCode(t, err, grantway.Unauthenticated)
			eventually(t, what, func() bool { _, _, err := b.Session(ctx, in.Token); return code(err) == grantway.Unauthenticated })
		}

		in := signIn()
		if _, err := a.Update(ctx, owner, grantway.Person{ID: ann.ID, Roles: caller("auditor home").Roles}); err != nil {
			t.Fatal(err)
		}
		if !a.caller(t, in).May(access.ReadAudit, "home") {
			t.Error("roles do not follow here")
		}
		eventually(t, "roles", func() bool { return b.caller(t, in).May(access.ReadAudit, "home") })

		other := signIn()
		if err := a.SignOut(ctx, in.Token); err != nil {
			t.Fatal(err)
		}
		ended("sign out", in)
		b.caller(t, other)

		sessions, err := b.Sessions(ctx, owner, ann.ID)
		if err != nil || len(sessions) != 1 || sessions[0].From != "192.0.2.1" || sessions[0].UserAgent != "test" || sessions[0].Method != "password" {
			t.Fatal(sessions, err)
		}
		if err := a.RevokeSession(ctx, a.caller(t, other), ann.ID, sessions[0].ID); err != nil {
			t.Fatal(err)
		}
		ended("revocation", other)
		wantCode(t, a.RevokeSession(ctx, owner, ann.ID, sessions[0].ID), grantway.NotFound)

		mine, other := signIn(), signIn()
		wantCode(t, a.ChangePassword(ctx, mine.Token, "wrong password", another), grantway.Invalid)
		wantCode(t, a.ChangePassword(ctx, mine.Token, password, "short"), grantway.Invalid)
		if err := a.ChangePassword(ctx, mine.Token, password, another); err != nil {
			t.Fatal(err)
		}
		ended("change of password", other)
		a.caller(t, mine)
		b.caller(t, mine)

		if _, err := a.Deactivate(ctx, owner, ann.ID); err != nil {
			t.Fatal(err)
		}
		ended("deactivation", mine)
		_, err = a.SignIn(ctx, "ann@example.com", another, from("192.0.2.1"))
		wantCode(t, err, grantway.Forbidden)
		if _, err := a.Activate(ctx, owner, ann.ID); err != nil {
			t.Fatal(err)
		}
		_, _, err = a.Session(ctx, mine.Token)
		wantCode(t, err, grantway.Unauthenticated) // what has ended stays so
		a.signIn(t, "ann@example.com", another)

		done := list(t, a.audit, access.Hub(), access.Filter{Object: "person/ann@example.com"})
		var actions []string
		for _, e := range done {
			if !slices.Contains(actions, e.Action) {
				actions = append(actions, e.Action)
			}
		}
		slices.Sort(actions)
		if got := strings.Join(actions, " "); got != "person.accept person.activate person.deactivate person.invite person.password person.sign_in person.update session.revoke" {
			t.Error(got)
		}
	})
}

// eventually waits until what happens on another replica, which is within store.Staleness.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for start := time.Now(); !happened(); {
		if time.Since(start) > store.Staleness {
			t.Fatalf("%s: not after %s", what, store.Staleness)
		}
	}
}

// A token that a browser brings is never made into a session (session fixation).
func TestSessionFixation(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		h.person(t, "ann@example.com", "designer home")
		prepared := strings.Repeat("A", 43)
		for _, token := range []string{prepared, "", "x", strings.Repeat("x", 1<<16), "\x00"} {
			_, _, err := h.Session(t.Context(), token)
			wantCode(t, err, grantway.Unauthenticated)
		}
		first, second := h.signIn(t, "ann@example.com", password), h.signIn(t, "ann@example.com", password)
		if first.Token == second.Token || len(first.Token) < 43 || first.Token == prepared {
			t.Errorf("%q, %q", first.Token, second.Token)
		}
		_, _, err := h.Session(t.Context(), prepared)
		wantCode(t, err, grantway.Unauthenticated)
		_, _, err = h.Session(t.Context(), first.Device)
		wantCode(t, err, grantway.Unauthenticated)

		// The database has neither the token nor a hash that somebody could work out from it.
		var n int
		err = h.store.Read().QueryRowContext(t.Context(), `SELECT count(*) FROM person_session WHERE hash = $1 OR id = $1`, first.Token).Scan(&n)
		if err != nil || n != 0 {
			t.Error(n, err)
		}
	})
}

// Sessions end when they are not used, and at last in any case.
func TestSessionTimeouts(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	h := newHouse(t, s, newKEK(t), nil)
	synctest.Test(t, func(t *testing.T) {
		h.person(t, "ann@example.com", "designer home")
		in := h.signIn(t, "ann@example.com", password)
		for range 12 {
			time.Sleep(59 * time.Minute)
			h.caller(t, in)
			if err := h.Tidy(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(12 * time.Minute) // 12 hours in all
		_, _, err := h.Session(t.Context(), in.Token)
		wantCode(t, err, grantway.Unauthenticated)

		in = h.signIn(t, "ann@example.com", password)
		h.caller(t, in)
		time.Sleep(time.Hour)
		_, _, err = h.Session(t.Context(), in.Token)
		wantCode(t, err, grantway.Unauthenticated)
		_, _, err = h.Session(t.Context(), in.Token)
		wantCode(t, err, grantway.Unauthenticated)

		time.Sleep(time.Minute)
		if err := h.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := s.Read().QueryRowContext(t.Context(), `SELECT count(*) FROM person_session`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d rows are left, %v", n, err)
		}
	})
}

// A session that is used on one replica does not end for being idle on another.
func TestSessionIsUsedElsewhere(t *testing.T) {
	url, kek := storetest.SQLite(t), newKEK(t)
	a, b := newHouse(t, storetest.Open(t, url), kek, nil), newHouse(t, storetest.Open(t, url), kek, nil)
	synctest.Test(t, func(t *testing.T) {
		a.person(t, "ann@example.com", "designer home")
		in := a.signIn(t, "ann@example.com", password)
		b.caller(t, in)
		for range 3 {
			time.Sleep(40 * time.Minute)
			a.caller(t, in)
			if err := a.Tidy(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b.caller(t, in)
	})
}

// While the database is away, sessions that were seen go on, and others are not refused for good.
func TestSessionWithoutDatabase(t *testing.T) {
	url, kek := storetest.SQLite(t), newKEK(t)
	s, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.Open(t.Context(), s, kek)
	if err != nil {
		t.Fatal(err)
	}
	defer sealer.Close()
	people, err := access.NewPeople(t.Context(), access.PeopleOptions{Store: s, Sealer: sealer, Audit: access.NewLog(s, slog.New(slog.DiscardHandler)), URL: func() string { return hubURL }})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{People: people}
	h.person(t, "ann@example.com", "designer home")
	seen, unseen := h.signIn(t, "ann@example.com", password), h.signIn(t, "ann@example.com", password)
	h.caller(t, seen)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.caller(t, seen)
	_, _, err = h.Session(t.Context(), unseen.Token)
	wantCode(t, err, grantway.Unavailable)
	_, err = h.SignIn(t.Context(), "ann@example.com", password, from("192.0.2.1"))
	wantCode(t, err, grantway.Unavailable)
}

// A new data key: passwords and sessions stay good.
func TestPeopleReseal(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ann := h.person(t, "ann@example.com", "owner *")
		in := h.signIn(t, "ann@example.com", password)
		if _, err := h.SetSSO(t.Context(), access.Hub(), grantway.SingleSignOn{Name: "x", Issuer: "https://login.example.com", ClientID: "hub", ClientSecret: grantway.Text("secret")}); err != nil {
			t.Fatal(err)
		}
		if n, err := h.sealer.Rotate(t.Context(), nil, h.Reseal); err != nil || n != 3 {
			t.Errorf("%d values sealed again, %v", n, err)
		}
		h.signIn(t, "ann@example.com", password)
		h.caller(t, in)

		// A hash that somebody moves to another person is no password there.
		bob := h.person(t, "bob@example.com", "designer home")
		err := h.store.Write(t.Context(), func(tx *store.Tx) error {
			_, err := tx.ExecContext(t.Context(), `UPDATE person SET password = (SELECT password FROM person WHERE id = $1) WHERE id = $2`, bob.ID, ann.ID)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.SignIn(t.Context(), "ann@example.com", password, from("192.0.2.1")); err == nil {
			t.Error("signed in with a hash that was moved")
		}
	})
}

// Of many who do at once what can be done once, one succeeds.
func TestAtOnce(t *testing.T) {
	pairOfHouses(t, func(t *testing.T, a, b *house) {
		ctx, owner := t.Context(), caller("owner *")
		atOnce := func(what string, want grantway.Code, tries ...func() error) {
			t.Helper()
			var wg sync.WaitGroup
			errs := make([]error, len(tries))
			for n, try := range tries {
				wg.Go(func() { errs[n] = try() })
			}
			wg.Wait()
			done := 0
			for _, err := range errs {
				if err == nil {
					done++
				} else if code(err) != want {
					t.Errorf("%s: %v", what, err)
				}
			}
			if done != 1 {
				t.Errorf("%s: %d succeeded", what, done)
			}
		}
		link, _, err := a.SetupLink(ctx)
		if err != nil {
			t.Fatal(err)
		}
		other, _, err := b.SetupLink(ctx)
		if err != nil {
			t.Fatal(err)
		}
		setup := func(h *house, link, email string) func() error {
			return func() error { _, err := h.Setup(ctx, tokenOf(t, link), "", email, password); return err }
		}
		atOnce("set up", grantway.NotFound, setup(a, link, "ann@example.com"), setup(b, link, "bob@example.com"), setup(b, other, "eve@example.com"))

		invited, err := a.Invite(ctx, owner, grantway.Person{Email: "new@example.com", Roles: caller("owner *").Roles})
		if err != nil {
			t.Fatal(err)
		}
		accept := func(h *house) func() error {
			return func() error { _, err := h.Accept(ctx, tokenOf(t, invited.Link), "", password); return err }
		}
		atOnce("accept", grantway.NotFound, accept(a), accept(b), accept(a))

		all, err := a.List(ctx, owner, "", 0)
		if err != nil || len(all.Items) != 2 {
			t.Fatal(all, err)
		}
		deactivate := func(h *house, id string) func() error {
			return func() error { _, err := h.Deactivate(ctx, owner, id); return err }
		}
		atOnce("deactivate the owners", grantway.Conflict, deactivate(a, all.Items[0].ID), deactivate(b, all.Items[1].ID))

		invite := func(h *house) func() error {
			return func() error {
				_, err := h.Invite(ctx, owner, grantway.Person{Email: "twin@example.com", Roles: caller("designer home").Roles})
				return err
			}
		}
		atOnce("invite", grantway.Conflict, invite(a), invite(b))
	})
}
