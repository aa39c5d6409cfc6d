package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/grantwaytest"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/console"
)

// Who may use a route. Every person has a role, so who has none is nobody: not signed in.
const (
	ownerOnly  = "owner"
	runners    = "owner administrator"
	readers    = "owner administrator auditor"
	statuses   = "owner administrator auditor application"
	roles      = "owner administrator designer auditor application"
	elsewhere  = "elsewhere" // also for an administrator of another division
	allOfThem  = roles + " " + elsewhere
	readersToo = readers + " " + elsewhere
	runnersToo = runners + " " + elsewhere
)

// rules says of every route who may use it and what it answers then. The objects in the
// paths are in the division home, and are new for each try where new is set.
//
// This is written down a second time, apart from the console's own table, on purpose: a route
// that is new, or that asks for less than it did, fails here.
var rules = map[string]struct {
	path   string // "" is that of the route
	who    string
	status int
	new    bool
	form   url.Values
}{
	"GET /{$}":                                    {path: "/", who: allOfThem, status: 303},
	"GET /sign-in":                                {who: allOfThem, status: 303}, // on to the start
	"POST /sign-in":                               {who: allOfThem, status: 401, new: true, form: form("email", "{new}-x@example.com", "password", "wrong")},
	"POST /sign-in/continue":                      {who: allOfThem, status: 401, form: form("draft", "none")},
	"GET /sign-in/sso":                            {who: allOfThem, status: 404}, // not set up
	"GET /sign-in/sso/callback":                   {who: allOfThem, status: 400},
	"POST /sign-out":                              {who: allOfThem, status: 303, form: form("a", "b")},
	"GET /setup/{token}":                          {path: "/setup/none", who: allOfThem, status: 404},
	"POST /setup/{token}":                         {path: "/setup/none", who: allOfThem, status: 404, form: form("name", "x", "email", "x@example.com", "password", ownerPassword, "repeat", ownerPassword)},
	"GET /invitation/{token}":                     {path: "/invitation/none", who: allOfThem, status: 404},
	"POST /invitation/{token}":                    {path: "/invitation/none", who: allOfThem, status: 404, form: form("password", ownerPassword, "repeat", ownerPassword)},
	"POST /theme":                                 {who: allOfThem, status: 303, form: form("theme", "dark")},
	"GET /account":                                {who: allOfThem, status: 200},
	"POST /account/password":                      {who: allOfThem, status: 422, form: form("old", "x", "password", "one", "repeat", "another")},
	"POST /account/sessions/end":                  {who: allOfThem, status: 404, form: form("session", "none")},
	"POST /account/programs/end":                  {who: allOfThem, status: 404, form: form("client", "none")},
	"GET /credentials":                            {who: readersToo, status: 200},
	"GET /credentials/add":                        {who: runnersToo, status: 200},
	"POST /credentials/add":                       {who: runners, status: 303, new: true, form: form("name", "{new}-2", "division", "home", "in.client_id", "x", "in.client_secret", "y", "in.token_endpoint", "https://login.example.com/token", "in.scopes", "a")},
	"POST /credentials/validate":                  {who: runners, status: 200, form: form("name", "draft", "division", "home", "in.client_id", "x", "in.client_secret", "y", "in.token_endpoint", "https://token.invalid/token", "in.scopes", "a")},
	"POST /credentials/validate-many":             {who: runnersToo, status: 200, form: form("id", "{credential}")}, // only says what would be done
	"GET /credentials/hint":                       {who: runnersToo, status: 200},
	"GET /credentials/{id}":                       {path: "/credentials/{credential}", who: readers, status: 200},
	"GET /credentials/{id}/edit":                  {path: "/credentials/{credential}/edit", who: runners, status: 200},
	"POST /credentials/{id}/edit":                 {path: "/credentials/{credential}/edit", who: runners, status: 303, new: true, form: form("name", "{new}", "in.client_id", "x", "in.token_endpoint", "https://login.example.com/token", "in.scopes", "a")},
	"POST /credentials/{id}/validate":             {path: "/credentials/{credential}/validate", who: runners, status: 200, form: form("a", "b")},
	"GET /credentials/{id}/delete":                {path: "/credentials/{credential}/delete", who: ownerOnly, status: 200},
	"POST /credentials/{id}/delete":               {path: "/credentials/{credential}/delete", who: ownerOnly, status: 303, new: true, form: form("confirm", "{new}")},
	"POST /credentials/{id}/secret":               {path: "/credentials/{credential}/secret", who: runners, status: 303, new: true, form: form("next", "the next one")},
	"POST /credentials/{id}/secret/promote":       {path: "/credentials/{credential}/secret/promote", who: runners, status: 303, new: true, form: form("a", "b")},
	"POST /credentials/{id}/secret/retire":        {path: "/credentials/{credential}/secret/retire", who: runners, status: 303, new: true, form: form("a", "b")},
	"GET /integrations":                           {who: allOfThem, status: 200},
	"GET /integrations/{name}":                    {path: "/integrations/spotify", who: runnersToo, status: 200},
	"POST /integrations/{name}":                   {path: "/integrations/spotify", who: runners, status: 303, new: true, form: form("name", "{new}-3", "division", "home", "in.client_id", "x", "in.client_secret", "y")},
	"GET /instances":                              {who: readersToo, status: 200},
	"GET /connectors":                             {who: allOfThem, status: 200},
	"GET /connectors/add":                         {who: runners, status: 200},
	"POST /connectors/add":                        {who: runners, status: 303, new: true, form: form("title", "{new} b", "type", "basic")},
	"GET /connectors/import":                      {who: runners, status: 200},
	"POST /connectors/import":                     {who: runners, status: 303, new: true, form: form("yaml", "{name: {new}-i, title: Imported, extends: oauth2}")},
	"GET /connectors/{name}/details":              {path: "/connectors/{connector}/details", who: allOfThem, status: 200},
	"GET /connectors/{name}/export":               {path: "/connectors/{connector}/export", who: allOfThem, status: 200},
	"GET /connectors/{name}/copy":                 {path: "/connectors/{connector}/copy", who: runners, status: 200},
	"POST /connectors/{name}/copy":                {path: "/connectors/{connector}/copy", who: runners, status: 303, new: true, form: form("name", "{new}-c")},
	"GET /connectors/{name}/yaml":                 {path: "/connectors/{connector}/yaml", who: runners, status: 200},
	"POST /connectors/{name}/yaml":                {path: "/connectors/{connector}/yaml", who: runners, status: 303, new: true, form: form("yaml", "{name: {new}, extends: oauth2, title: Changed}")},
	"GET /connectors/{name}/build/{tab}":          {path: "/connectors/{connector}/build/variables", who: runners, status: 200},
	"POST /connectors/{name}/build/{tab}":         {path: "/connectors/{connector}/build/api", who: runners, status: 303, new: true, form: form("base_url", "https://api.example.com")},
	"POST /connectors/{name}/build/{tab}/preview": {path: "/connectors/{connector}/build/url/preview", who: runners, status: 200, form: form("url", "https://login.example.com")},
	"GET /connectors/{name}/try":                  {path: "/connectors/{connector}/try", who: runners, status: 200},
	"POST /connectors/{name}/try":                 {path: "/connectors/{connector}/try", who: runners, status: 200, form: form("in.client_id", "x", "in.client_secret", "y")},
	"GET /connectors/{name}/delete":               {path: "/connectors/{connector}/delete", who: runners, status: 200},
	"POST /connectors/{name}/delete":              {path: "/connectors/{connector}/delete", who: runners, status: 303, new: true, form: form("confirm", "{new}")},
	"GET /stores":                                 {who: readersToo, status: 200},
	"GET /stores/add":                             {path: "/stores/add?kind=vault", who: runners, status: 200},
	"POST /stores/add":                            {who: runners, status: 303, new: true, form: form("kind", "vault", "name", "{new}-2", "in.address", "https://vault.example.com", "in.token.source", "internal", "in.token", "t")},
	"POST /stores/test":                           {who: runners, status: 200, form: form("kind", "vault", "name", "draft", "in.address", "https://vault.invalid", "in.token", "t")},
	"GET /stores/{name}/details":                  {path: "/stores/{store}/details", who: readersToo, status: 200},
	"GET /stores/{name}/edit":                     {path: "/stores/{store}/edit", who: runners, status: 200},
	"POST /stores/{name}/edit":                    {path: "/stores/{store}/edit", who: runners, status: 303, form: form("kind", "vault", "in.address", "https://vault.invalid")},
	"POST /stores/{name}/test":                    {path: "/stores/{store}/test", who: runners, status: 200, form: form("a", "b")},
	"GET /stores/{name}/delete":                   {path: "/stores/{store}/delete", who: runners, status: 200},
	"POST /stores/{name}/delete":                  {path: "/stores/{store}/delete", who: runners, status: 303, new: true, form: form("confirm", "{new}")},
	"GET /divisions":                              {who: roles + " " + elsewhere, status: 200},
	"POST /divisions":                             {who: runners, status: 303, new: true, form: form("name", "{new}-d")},
	"GET /divisions/{name}/delete":                {path: "/divisions/empty/delete", who: runners, status: 200},
	"POST /divisions/{name}/delete":               {path: "/divisions/{new}/delete", who: runners, status: 303, new: true, form: form("confirm", "{new}")},
	"GET /people":                                 {who: readersToo, status: 200},
	"GET /people/invite":                          {who: runnersToo, status: 200},
	"POST /people/invite":                         {who: runners, status: 200, new: true, form: form("email", "{new}-i@example.com", "role", "auditor", "division", "home")},
	"GET /people/{id}":                            {path: "/people/{person}", who: readers, status: 200},
	"POST /people/{id}":                           {path: "/people/{person}", who: runners, status: 303, form: form("name", "Pat", "role", "auditor", "division", "home")},
	"POST /people/{id}/deactivate":                {path: "/people/{person}/deactivate", who: runners, status: 303, new: true, form: form("confirm", "{new}@example.com")},
	"POST /people/{id}/activate":                  {path: "/people/{person}/activate", who: runners, status: 303, form: form("a", "b")},
	"POST /people/{id}/link":                      {path: "/people/{person}/link", who: runners, status: 200, form: form("a", "b")},
	"POST /people/{id}/sessions/end":              {path: "/people/{person}/sessions/end", who: runners, status: 303, form: form("session", "")},
	"GET /single-sign-on":                         {who: readers, status: 200},
	"POST /single-sign-on":                        {who: ownerOnly, status: 422, form: form("name", "x")},
	"POST /single-sign-on/test":                   {who: ownerOnly, status: 200, form: form("name", "x")},
	"GET /single-sign-on/delete":                  {who: ownerOnly, status: 404},
	"POST /single-sign-on/delete":                 {who: ownerOnly, status: 404, form: form("confirm", "x")},
	"GET /clients":                                {who: readersToo, status: 200},
	"GET /clients/advice":                         {path: "/clients/advice?answer.user=no", who: readersToo, status: 200},
	"GET /clients/add":                            {who: runnersToo, status: 200},
	"POST /clients/add":                           {who: runners, status: 200, new: true, form: form("name", "{new}-2", "grant_type", "client_credentials", "role", "application", "division", "home")}, // with its secret
	"GET /clients/{id}/details":                   {path: "/clients/{client}/details", who: readers, status: 200},
	"GET /clients/{id}/edit":                      {path: "/clients/{client}/edit", who: runners, status: 200},
	"POST /clients/{id}/edit":                     {path: "/clients/{client}/edit", who: runners, status: 303, new: true, form: form("name", "{new}", "grant_type", "client_credentials", "role", "application", "division", "home")},
	"POST /clients/{id}/activate":                 {path: "/clients/{client}/activate", who: runners, status: 303, form: form("a", "b")},
	"POST /clients/{id}/deactivate":               {path: "/clients/{client}/deactivate", who: runners, status: 303, new: true, form: form("a", "b")},
	"POST /clients/{id}/restore":                  {path: "/clients/{client}/restore", who: runners, status: 404, form: form("a", "b")}, // it is not deleted
	"POST /clients/{id}/secrets/add":              {path: "/clients/{client}/secrets/add", who: runners, status: 200, new: true, form: form("overlap", "24h")},
	"POST /clients/{id}/secrets/reset":            {path: "/clients/{client}/secrets/reset", who: runners, status: 200, new: true, form: form("tokens", "revoke")},
	"POST /clients/{id}/secrets/revoke":           {path: "/clients/{client}/secrets/revoke", who: runners, status: 404, new: true, form: form("secret", "none")},
	"POST /clients/{id}/tokens/revoke":            {path: "/clients/{client}/tokens/revoke", who: runners, status: 303, form: form("a", "b")},
	"GET /clients/{id}/delete":                    {path: "/clients/{client}/delete", who: runners, status: 200},
	"POST /clients/{id}/delete":                   {path: "/clients/{client}/delete", who: runners, status: 303, new: true, form: form("confirm", "{new}")},
	"GET /audit":                                  {who: readersToo, status: 200},
	"GET /audit/export":                           {who: readersToo, status: 200},
	"GET /settings":                               {who: readersToo, status: 200},
	"POST /settings/rotate-key":                   {who: ownerOnly, status: 303, form: form("a", "b")},
	"GET /status":                                 {who: statuses + " " + elsewhere, status: 200},
}

// TestEveryRouteAndRole tries every route as every role, as an administrator of another
// division, and as nobody.
func TestEveryRouteAndRole(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	boss := owner(t, h)
	for _, d := range []string{"finance", "empty"} {
		if _, err := h.CreateDivision(t.Context(), grantway.Division{Name: d}); err != nil {
			t.Fatal(err)
		}
	}
	address := func(who string) string {
		if who == access.Owner {
			return ownerEmail
		}
		return who + "@example.com"
	}
	people := map[string]*visitor{access.Owner: boss, elsewhere: boss.colleague("elsewhere@example.com", access.Administrator, "finance")}
	passwords := map[string]string{elsewhere: access.Administrator} // the end of each
	for _, role := range access.Roles()[1:] {
		people[role], passwords[role] = boss.colleague(address(role), role, "*"), role
	}
	o := &objects{TB: t, hub: h, boss: boss}
	shared := o.make()

	table := console.Routes()
	for route := range rules {
		if !slices.Contains(table, route) {
			t.Errorf("there is a rule for %s, which is no route", route)
		}
	}
	for _, route := range table {
		t.Run(route, func(t *testing.T) {
			rule, ok := rules[route]
			if !ok {
				t.Fatal("the route has no rule: say in the table of this test who may use it")
			}
			method, path, _ := strings.Cut(route, " ")
			if rule.path != "" {
				path = rule.path
			}
			try := func(v *visitor, names *strings.Replacer) reply {
				f := rule.form
				if f != nil {
					f = url.Values{}
					for key, values := range rule.form {
						f.Set(key, names.Replace(values[0]))
					}
				}
				return v.send(method, names.Replace(path), f)
			}
			open := slices.Contains([]string{"/", "/sign-in", "/setup", "/invitation", "/theme"}, "/"+strings.SplitN(strings.Trim(path, "/"), "/", 2)[0]) && path != "/"
			switch r := try(newVisitor(t, h.URL), shared); {
			case open:
				if r.StatusCode == http.StatusForbidden || r.StatusCode >= 500 {
					t.Errorf("nobody: %d", r.StatusCode)
				}
			case method == "GET" && (r.StatusCode != http.StatusSeeOther || !strings.HasPrefix(r.Header.Get("Location"), "/sign-in")):
				t.Errorf("nobody: %d to %q, want the sign-in page", r.StatusCode, r.Header.Get("Location"))
			case method == "POST" && r.StatusCode != http.StatusUnauthorized:
				t.Errorf("nobody: %d, want 401", r.StatusCode)
			}
			for who, v := range people {
				names := shared
				if rule.new {
					names = o.make()
				}
				if path == "/sign-out" { // in another browser, since the others still need their session
					v = v.again(address(who), passwords[who])
				}
				r := try(v, names)
				if slices.Contains(strings.Fields(rule.who), who) {
					if r.StatusCode != rule.status {
						t.Errorf("%s: %d, want %d\n%.600s", who, r.StatusCode, rule.status, text(r.body))
					}
				} else if who == elsewhere && r.StatusCode == http.StatusNotFound { // does not even learn that there is one
				} else if r.StatusCode != http.StatusForbidden && !(who == elsewhere && r.StatusCode == http.StatusUnprocessableEntity) {
					t.Errorf("%s: %d, want 403", who, r.StatusCode)
				}
			}
		})
	}
	denied := map[string]bool{}
	for event, err := range h.Audit(t.Context(), url.Values{"outcome": {access.Denied}}) {
		if err != nil {
			t.Fatal(err)
		}
		denied[event.Name] = true
	}
	for _, role := range access.Roles()[1:] {
		if !denied[role] {
			t.Errorf("the audit trail names no refusal of the %s, only of %v", role, denied)
		}
	}
}

// objects makes objects in the division home.
type objects struct {
	testing.TB
	hub  *hub
	boss *visitor
	n    int
}

// make makes one of each, and returns what puts their names in the place of {credential},
// {person}, {store}, {connector}, {client} and {new}, which is the name of all of them.
func (o *objects) make() *strings.Replacer {
	o.Helper()
	o.n++
	name := fmt.Sprintf("o%d", o.n)
	must := func(err error) {
		o.Helper()
		if err != nil {
			o.Fatal(err)
		}
	}
	credential, err := o.hub.CreateCredential(o.Context(), grantway.Credential{Name: name, Inputs: grantway.Inputs{"client_id": grantway.Text("x"), "client_secret": grantway.Text("y"),
		"next_client_secret": grantway.Text("z"), "token_endpoint": grantway.Text("https://token.invalid/token"), "scopes": grantway.Text("a")}})
	must(err)
	invitation, err := o.hub.InvitePerson(o.Context(), grantway.Person{Email: name + "@example.com", Roles: []grantway.Assignment{{Role: access.Auditor, Division: "home"}}})
	must(err)
	_, err = o.hub.CreateSecretStore(o.Context(), grantway.SecretStore{Name: name, Kind: "vault", Inputs: grantway.Inputs{"address": grantway.Text("https://vault.invalid"), "token": grantway.Text("t")}})
	must(err)
	_, err = o.hub.CreateDivision(o.Context(), grantway.Division{Name: name})
	must(err)
	client, err := o.hub.CreateOAuthClient(o.Context(), grantway.OAuthClient{Name: name, Roles: []grantway.Assignment{{Role: access.Application, Division: "home"}}})
	must(err)
	definition := "name: " + name + "\ntitle: " + name + "\ninputs:\n  - {key: client_id, required: true}\n  - {key: client_secret, type: secret, required: true}\n" +
		"request:\n  url: https://token.invalid/token\n  body:\n    pairs: {id: '{{client_id}}', secret: '{{client_secret}}'}\n"
	if r := o.boss.post("/connectors/import", form("yaml", definition)); r.StatusCode != http.StatusSeeOther {
		o.Fatalf("import a connector: %d\n%.600s", r.StatusCode, text(r.body))
	}
	return strings.NewReplacer("{credential}", credential.ID, "{person}", invitation.Person.ID, "{store}", name, "{connector}", name, "{client}", client.ID, "{new}", name)
}

var tags = regexp.MustCompile(`<[^>]*>|\s+`)

// text is a page without its tags.
func text(page string) string {
	_, main, _ := strings.Cut(page, "<main")
	return strings.Join(strings.Fields(tags.ReplaceAllString(main, " ")), " ")
}

// TestGrants tries to give each role, in each division, in every way there is, as everybody
// who may change people. Nobody gives what he does not hold, nor takes over who holds more.
func TestGrants(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	boss := owner(t, h)
	if _, err := h.CreateDivision(t.Context(), grantway.Division{Name: "finance"}); err != nil {
		t.Fatal(err)
	}
	target := func(name, role, division string) grantway.Invitation {
		t.Helper()
		p := grantway.Person{Email: name + "@example.com"}
		if role != "" {
			p.Roles = []grantway.Assignment{{Role: role, Division: division}}
		}
		made, err := h.InvitePerson(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	held := func(id string) []grantway.Assignment {
		t.Helper()
		one, err := h.Person(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return one.Roles
	}
	n := 0
	for who, v := range map[string]*visitor{
		"administrator":            boss.colleague("admin@example.com", access.Administrator, "*"),
		"administrator in finance": boss.colleague("finance@example.com", access.Administrator, "finance"),
		"auditor":                  boss.colleague("auditor@example.com", access.Auditor, "*"),
	} {
		me, err := h.Person(t.Context(), map[string]string{"administrator": "admin", "administrator in finance": "finance", "auditor": "auditor"}[who]+"@example.com")
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range access.Roles() {
			for _, division := range []string{"*", "home", "finance"} {
				may := who == "administrator" && role != access.Owner || who == "administrator in finance" && role != access.Owner && division == "finance"
				given := grantway.Assignment{Role: role, Division: division}
				n++
				email := fmt.Sprintf("new%d@example.com", n)
				r := v.post("/people/invite", form("email", email, "role", role, "division", division))
				if one, err := h.Person(t.Context(), email); (err == nil) != may || may && !slices.Contains(one.Roles, given) {
					t.Errorf("%s invites somebody as %v: %d, %v, %v", who, given, r.StatusCode, one.Roles, err)
				} else if !may && r.StatusCode != http.StatusForbidden {
					t.Errorf("%s invites somebody as %v: %d, want 403", who, given, r.StatusCode)
				}
				// To somebody whom he may change: who has the least, in finance.
				other := target(fmt.Sprintf("other%d", n), access.Designer, "finance").Person
				r = v.post("/people/"+other.ID, form("role", role, "division", division))
				if slices.Contains(held(other.ID), given) != (may || given == other.Roles[0]) {
					t.Errorf("%s makes somebody %v: %d", who, given, r.StatusCode)
				}
				// To himself.
				before := held(me.ID)
				r = v.post("/people/"+me.ID, form("role", role, "division", division))
				if after := held(me.ID); !slices.Equal(before, after) {
					if !may {
						t.Errorf("%s makes himself %v: %d", who, given, r.StatusCode)
					}
					if _, err := h.UpdatePerson(t.Context(), me); err != nil { // back
						t.Fatal(err)
					}
				}
				// By a rule of single sign-on, which is the owner's alone.
				r = v.post("/single-sign-on", form("name", "Evil", "issuer", "https://evil.example", "client_id", "x", "claim", "sub", "value", "*", "role", role, "division", division, "create_people", "1"))
				if r.StatusCode != http.StatusForbidden {
					t.Errorf("%s makes single sign-on give %v: %d", who, given, r.StatusCode)
				}
				// A link of somebody who holds more makes him that person.
				mighty := target(fmt.Sprintf("mighty%d", n), role, division).Person
				for _, one := range []struct {
					path string
					form url.Values
				}{
					{"", form("name", "x", "role", role, "division", division)},
					{"/link", form("a", "b")},
					{"/sessions/end", form("session", "")},
					{"/deactivate", form("confirm", mighty.Email)},
					{"/activate", form("a", "b")},
				} {
					r := v.post("/people/"+mighty.ID+one.path, one.form)
					if allowed := r.StatusCode < 400; allowed != may {
						t.Errorf("%s posts to %q of %v: %d", who, one.path, given, r.StatusCode)
					}
				}
			}
		}
	}
	if r := boss.get("/single-sign-on"); !strings.Contains(r.body, "Not set up") {
		t.Error("somebody set single sign-on up")
	}
}

// TestGrantsOfOwner wants the owner to give every role, and the last owner to stay.
func TestGrantsOfOwner(t *testing.T) {
	t.Parallel()
	h := startHub(t, grantwaytest.HubOptions{})
	boss := owner(t, h)
	for _, role := range access.Roles() {
		if r := boss.post("/people/invite", form("email", role+"@example.com", "role", role, "division", "*")); r.StatusCode != http.StatusOK {
			t.Errorf("the owner invites a %s: %d", role, r.StatusCode)
		}
	}
	me, err := h.Person(t.Context(), ownerEmail)
	if err != nil {
		t.Fatal(err)
	}
	if r := boss.post("/people/"+me.ID, form("name", "Ada", "role", access.Auditor, "division", "*")); r.StatusCode == http.StatusSeeOther {
		t.Error("the only owner who can sign in gave the role up")
	}
}
