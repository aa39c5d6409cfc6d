package console

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
	"github.com/grantway/grantway/internal/store"
)

type divisionsPage struct {
	Frame
	Divisions         []grantway.Division
	MayWrite          bool
	Name, Description string
	Restored          bool
	Errors            problems
}

func (c *Console) newDivisionsPage(r *request) (*divisionsPage, error) {
	p := &divisionsPage{Frame: frame("divisions", "Divisions", administration, globalSettings), MayWrite: r.who.May(access.WriteDivision, access.Everywhere)}
	var err error
	p.Divisions, err = c.Divisions.List(r.Context(), r.who)
	return p, err
}

func (c *Console) divisions(r *request) (answer, error) {
	p, err := c.newDivisionsPage(r)
	return answer{page: p}, err
}

func (c *Console) createDivision(r *request) (answer, error) {
	p, err := c.newDivisionsPage(r)
	if err != nil {
		return answer{}, err
	}
	p.Name, p.Description = r.form("name"), r.form("description")
	if r.restored {
		p.Restored = true
		return answer{page: p}, nil
	}
	err = c.Divisions.Create(r.Context(), r.who, grantway.Division{Name: p.Name, Description: p.Description})
	if p.Errors = problemsOf(err); p.Errors != nil {
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	return answer{redirect: "/divisions", flash: "The division " + p.Name + " is added."}, err
}

func (c *Console) divisionDeletion(r *request) (*deletePage, error) {
	name := r.PathValue("name")
	if err := c.Audit.Require(r.Context(), r.who, access.WriteDivision, access.Everywhere, grantway.Event{Action: "division.delete", Object: "division/" + name}); err != nil {
		return nil, err
	}
	all, err := c.Divisions.List(r.Context(), r.who)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(all, func(d grantway.Division) bool { return d.Name == name }) {
		return nil, grantway.Errorf(grantway.NotFound, "there is no division %q", name)
	}
	return &deletePage{Frame: frame("delete", "Delete division "+name, administration, globalSettings, crumb{"Divisions", "/divisions"}),
		Kind: "division", Name: name, Action: "/divisions/" + url.PathEscape(name) + "/delete", Back: "/divisions",
		Breaks: []string{"Roles cannot be given in it any more. Only an empty division can be deleted, so nothing else changes."},
		remove: func() error { return c.Divisions.Delete(r.Context(), r.who, name) },
		done:   answer{redirect: "/divisions", flash: "The division " + name + " is deleted."}}, nil
}

// auditPage is the audit trail, newest first.
type auditPage struct {
	Frame
	Events                                       []grantway.Event
	Action, Caller, Object, Outcome, From, Until string
	Actions                                      []string // to choose from
	Next                                         string
	Export                                       template.URL // query of the export links
	Filtered                                     bool
	Errors                                       problems
}

var auditGroups = []string{"credential.", "client.", "division.", "person.", "session.", "key.", "sso.", "token."}

func auditFilter(v url.Values) (f access.Filter, wrong problems) {
	f = access.Filter{Action: v.Get("action"), Caller: strings.TrimSpace(v.Get("caller")), Object: strings.TrimSpace(v.Get("object")), Outcome: v.Get("outcome")}
	for name, into := range map[string]*time.Time{"from": &f.Since, "until": &f.Until} {
		text := v.Get(name)
		if text == "" {
			continue
		}
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			if wrong == nil {
				wrong = problems{}
			}
			wrong["/"+name] = "must be a date such as 2027-01-31"
			continue
		}
		if name == "until" {
			day = day.Add(24 * time.Hour) // that day included
		}
		*into = day
	}
	return f, wrong
}

func (c *Console) audit(r *request) (answer, error) {
	v := r.URL.Query()
	p := &auditPage{Frame: frame("audit", "Audit trail", administration, crumb{"Access", ""}), Action: v.Get("action"), Caller: v.Get("caller"), Object: v.Get("object"),
		Outcome: v.Get("outcome"), From: v.Get("from"), Until: v.Get("until"), Actions: auditGroups}
	p.Filtered = p.Action+p.Caller+p.Object+p.Outcome+p.From+p.Until != ""
	f, wrong := auditFilter(v)
	if wrong != nil {
		p.Errors = wrong
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	page, err := c.Audit.List(r.Context(), r.who, f, v.Get("cursor"), 100)
	if err != nil {
		return answer{}, err
	}
	p.Events = page.Items
	v.Del("cursor")
	p.Export = template.URL(v.Encode())
	if page.Next != "" {
		v.Set("cursor", page.Next)
		p.Next = "/audit?" + v.Encode()
	}
	a := answer{page: p}
	if r.htmx {
		a.part = "events"
	}
	return a, nil
}

func (c *Console) exportAudit(r *request) (answer, error) {
	v := r.URL.Query()
	f, wrong := auditFilter(v)
	if wrong != nil {
		return answer{}, &grantway.Error{Code: grantway.Invalid, Message: "a date of the filter is wrong; it must be one such as 2027-01-31"}
	}
	// The first page before anything is sent, so that a refusal is an answer of its own.
	page, err := c.Audit.List(r.Context(), r.who, f, "", 1000)
	if err != nil {
		return answer{}, err
	}
	next := func() (events []grantway.Event, err error) {
		if events = page.Items; events == nil {
			return nil, nil
		}
		if page.Next == "" {
			page.Items = nil
			return events, nil
		}
		page, err = c.Audit.List(r.Context(), r.who, f, page.Next, 1000)
		return events, err
	}
	name := "audit-" + time.Now().UTC().Format("20060102-150405")
	if v.Get("format") == "csv" {
		return answer{file: &file{name + ".csv", "text/csv; charset=utf-8", func(w http.ResponseWriter) error { return writeCSV(w, next) }}}, nil
	}
	return answer{file: &file{name + ".json", "application/json", func(w http.ResponseWriter) error { return writeJSON(w, next) }}}, nil
}

func writeCSV(w http.ResponseWriter, next func() ([]grantway.Event, error)) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"id", "at", "caller", "caller_name", "action", "outcome", "object", "division", "fields", "detail"}); err != nil {
		return err
	}
	for {
		events, err := next()
		if err != nil {
			return err
		}
		if events == nil {
			out.Flush()
			return out.Error()
		}
		for _, e := range events {
			row := []string{e.ID, e.At.Format(time.RFC3339Nano), e.Caller, e.Name, e.Action, e.Outcome, e.Object, e.Division, strings.Join(e.Fields, " "), e.Detail}
			for i, cell := range row {
				row[i] = harmless(cell)
			}
			if err := out.Write(row); err != nil {
				return err
			}
		}
	}
}

// harmless keeps a spreadsheet from taking a cell for a formula.
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func writeJSON(w http.ResponseWriter, next func() ([]grantway.Event, error)) error {
	out := json.NewEncoder(w)
	for begin := "["; ; begin = "," {
		events, err := next()
		if err != nil {
			return err
		}
		if events == nil {
			if begin == "[" {
				_, err = w.Write([]byte("[]\n"))
			} else {
				_, err = w.Write([]byte("]\n"))
			}
			return err
		}
		for _, e := range events {
			if _, err := w.Write([]byte(begin)); err != nil {
				return err
			}
			if err := out.Encode(e); err != nil {
				return err
			}
			begin = ","
		}
	}
}

type settingsPage struct {
	Frame
	Settings  []Setting
	MayRotate bool
}

func (c *Console) settings(r *request) (answer, error) {
	return answer{page: &settingsPage{Frame: frame("settings", "Settings", administration, crumb{"System", ""}), Settings: c.Settings,
		MayRotate: r.who.May(access.RotateKey, access.Everywhere)}}, nil
}

func (c *Console) rotateKey(r *request) (answer, error) {
	n, err := c.Rotate(r.Context(), r.who)
	return answer{redirect: "/settings", flash: "The hub has a new data key; " + number(n) + " values are sealed with it."}, err
}

type statusPage struct {
	Frame
	Version, Go string
	Started     time.Time
	Schema      store.Status
	Ping        time.Duration
	PingError   string
	Credentials int
	Replicas    []broker.Replica
	Queue       broker.Queue
	Goroutines  int
	Memory      uint64 // MiB
}

func (c *Console) status(r *request) (answer, error) {
	p := &statusPage{Frame: frame("status", "Status", administration, crumb{"System", ""}), Version: cmp.Or(c.Version, "unknown"), Go: runtime.Version(),
		Started: c.Started, Credentials: c.Broker.Count(), Goroutines: runtime.NumGoroutine()}
	began := time.Now()
	if err := c.Store.Ping(r.Context()); err != nil {
		p.PingError = "The database does not answer. Tokens in memory are still served."
		return answer{page: p}, nil
	}
	p.Ping = time.Since(began).Round(10 * time.Microsecond)
	var err error
	if p.Schema, err = c.Store.Status(r.Context()); err != nil {
		return answer{}, err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p.Memory = m.Sys >> 20
	if p.Replicas, err = c.Broker.Replicas(r.Context(), r.who); err != nil {
		return answer{}, err
	}
	if p.Queue, err = c.Broker.Queue(r.Context(), r.who); err != nil {
		return answer{}, err
	}
	a := answer{page: p}
	if r.htmx {
		a.part = "content"
	}
	return a, nil
}
