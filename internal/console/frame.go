package console

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

//go:embed page/*.html
var pageFiles embed.FS

// Frame is what every page has around its content.
type Frame struct {
	name string // of the template
	at   string // the entry of the menu it belongs to; "" goes by the address

	Title  string
	Crumbs []crumb
	Flash  string
	Theme  string // light or dark; "" follows the system
	Menu   []section
	Person *person // nil when nobody is signed in
	Here   string  // path with query, to come back to

	Assets  bool // whether they were built
	Plots   bool // the page draws plots
	Bare    bool // without menu: for those who are not signed in
	Version string
}

type framed interface{ frame() *Frame }

func (f *Frame) frame() *Frame { return f }

func frame(name, title string, crumbs ...crumb) Frame {
	return Frame{name: name, Title: title, Crumbs: crumbs}
}

// crumb is one step of the way to a page.
type crumb struct{ Title, Path string }

// The ways to pages.
var (
	administration = crumb{"Administration", ""}
	globalSettings = crumb{"Global Settings", ""}
	credentialsAt  = crumb{"Credentials", "/credentials"}
	integrationsAt = crumb{"Integrations", "/integrations"}
	connectorsAt   = crumb{"Connectors", "/connectors"}
	instancesAt    = crumb{"Instances", "/instances"}
)

// person is who is signed in, as the menu shows it.
type person struct {
	Name, Roles, Initials string
}

// section is a part of the menu.
type section struct {
	Title string
	Items []item
}

type item struct {
	Title, Path, Icon string
	Active            bool
}

// menu is everything there is, by what a person needs to see it.
func (c *Console) menu(who access.Caller, here string) []section {
	held := who.Anywhere()
	type entry struct {
		need access.Permission
		item
	}
	var list []section
	add := func(title string, entries ...entry) {
		s := section{Title: title}
		for _, e := range entries {
			if held.Has(e.need) {
				e.Active = here == e.Path || strings.HasPrefix(here, e.Path+"/")
				s.Items = append(s.Items, e.item)
			}
		}
		if s.Items != nil {
			list = append(list, s)
		}
	}
	add("Global Settings",
		entry{access.ReadCredential, item{Title: "Credentials", Path: "/credentials", Icon: "key"}},
		entry{access.ReadStore, item{Title: "Secret stores", Path: "/stores", Icon: "lock-square-rounded"}},
		entry{access.PickCredential, item{Title: "Divisions", Path: "/divisions", Icon: "building-community"}})
	add("Integrations",
		entry{access.ReadConnector, item{Title: "Integrations", Path: "/integrations", Icon: "apps"}},
		entry{access.ReadConnector, item{Title: "Connectors", Path: "/connectors", Icon: "plug"}},
		entry{access.ReadCredential, item{Title: "Instances", Path: "/instances", Icon: "topology-star-3"}},
		entry{access.ReadClient, item{Title: "OAuth", Path: "/clients", Icon: "robot"}})
	add("Access",
		entry{access.ReadPerson, item{Title: "People", Path: "/people", Icon: "users"}},
		entry{access.ReadPerson, item{Title: "Single sign-on", Path: "/single-sign-on", Icon: "login-2"}},
		entry{access.ReadAudit, item{Title: "Audit trail", Path: "/audit", Icon: "list-details"}})
	add("System",
		entry{access.ReadStore, item{Title: "Settings", Path: "/settings", Icon: "settings"}},
		entry{access.ReadStatus, item{Title: "Status", Path: "/status", Icon: "heartbeat"}})
	return list
}

func (c *Console) fill(f *Frame, q *request) {
	f.Assets, f.Version = !c.assets.missing, c.Version
	f.Here = q.URL.RequestURI()
	if cookie, err := q.Cookie(themeCookie); err == nil && (cookie.Value == "light" || cookie.Value == "dark") {
		f.Theme = cookie.Value
	}
	if !q.signedIn {
		f.Bare = true
		return
	}
	f.Menu = c.menu(q.who, cmp.Or(f.at, q.URL.Path))
	roles := make([]string, len(q.who.Roles))
	for i, a := range q.who.Roles {
		roles[i] = role(a)
	}
	f.Person = &person{Name: q.who.Name, Roles: strings.Join(roles, ", "), Initials: initials(q.who.Name)}
}

func role(a grantway.Assignment) string {
	if a.Division == access.Everywhere {
		return a.Role
	}
	return a.Role + " in " + a.Division
}

func initials(name string) string {
	var b strings.Builder
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		r := []rune(word)[0]
		b.WriteString(strings.ToUpper(string(r)))
		if b.Len() >= 2 {
			break
		}
	}
	return b.String()
}

// parse reads the templates: each page with the layout and the parts that several use.
func (c *Console) parse() (map[string]*template.Template, error) {
	funcs := template.FuncMap{
		"asset":    func(name string) string { return c.assets.urls[name] },
		"icon":     c.icon,
		"svg":      c.icon, // for names that are not written in the page
		"int":      func(n int64) int { return int(n) },
		"sentence": sentence,
		"step": func(name string) string {
			return strings.TrimSuffix(sentence(strings.NewReplacer("tls", "TLS", "pkce", "PKCE", "_", " ").Replace(name)), ".")
		},
		"type": c.connectorTitle,
		"has":  slices.Contains[[]string],
		"sessions": func(list []grantway.Session, current, action string) sessionList {
			return sessionList{list, current, action}
		},
		"browser":    browserName,
		"time":       timeTag,
		"date":       func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
		"add":        func(a, b int) int { return a + b },
		"number":     number,
		"health":     describeHealth,
		"json":       jsonText,
		"list":       func(items ...string) []string { return items },
		"role":       role,
		"initials":   initials,
		"grant":      grantTitle,
		"permission": func(name string) string { return permissionTexts[name] },
		"method":     func(name string) string { return cmp.Or(methodTitles[name], name) },
		"int64":      func(n grantway.Seconds) int64 { return int64(n) },
		"join":       strings.Join,
		"category":   categoryTitle,
		"tabs":       c.tabsOf,
		"gallery": func(p *integrationsPage, which string) []grantway.Connector {
			if which == "own" {
				return p.Own
			}
			return p.Ready
		},
		"lower": strings.ToLower,
		"field": func(v any, text string) labelled { return labelled{v, text} },
		"plural": func(n int, one, many string) string {
			if n == 1 {
				return one
			}
			return many
		},
	}
	base, err := template.New("").Funcs(funcs).ParseFS(pageFiles, "page/layout.html", "page/parts.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(pageFiles, "page/*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, name := range names {
		t, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if t, err = t.ParseFS(pageFiles, name); err != nil {
			return nil, err
		}
		pages[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return pages, nil
}

// sessionList hands a template the sessions of somebody.
type sessionList struct {
	List            []grantway.Session
	Current, Action string
}

// labelled hands a template a value and a text.
type labelled struct {
	Value any
	Text  string
}

func (c *Console) icon(name string) template.HTML {
	return template.HTML(`<svg class="icon" aria-hidden="true"><use href="` + c.assets.urls["icons.svg"] + `#` + template.HTMLEscapeString(name) + `"></use></svg>`)
}

// timeTag is a time in UTC, which console.js turns into words and the reader's own zone.
func timeTag(t time.Time) template.HTML {
	if t.IsZero() {
		return `<span class="text-secondary">—</span>`
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`,
		t.Format(time.RFC3339), t.Format("2006-01-02 15:04:05 UTC"), t.Format("2006-01-02 15:04 UTC")))
}

func number(n any) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func jsonText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// shownHealth is a health as people read it.
type shownHealth struct{ Text, Color, Help string }

func describeHealth(h grantway.Health) shownHealth {
	switch h {
	case grantway.Healthy:
		return shownHealth{"Healthy", "green", "The last token request worked"}
	case grantway.Degraded:
		return shownHealth{"Degraded", "yellow", "The last token request failed; a token that is still valid is served"}
	case grantway.Failing:
		return shownHealth{"Failing", "red", "The last token request failed, and there is no valid token"}
	}
	return shownHealth{"Not validated", "muted", "No token was fetched since it was last saved"}
}

// connectorTitle is the type of a credential as people read it.
func (c *Console) connectorTitle(name string) string {
	if def, ok := c.Broker.Definition(name, 0); ok {
		return def.Title
	}
	return name
}
