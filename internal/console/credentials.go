package console

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
)

const pageSize = 50

// credentialsPage is Administration → Global Settings → Credentials.
type credentialsPage struct {
	Frame
	broker.Found
	Query     broker.Query
	All       int // whichever health
	Divisions []grantway.Division
	Healths   []healthChip
	Columns   []column
	From, To  int
	Prev      string // paths; "" is none
	Next      string
	MayAdd    bool
	MayCheck  bool
	MayDelete bool
	Filtered  bool
	Now, Soon time.Time
}

type healthChip struct {
	Health grantway.Health
	Count  int
	Path   string
	Active bool
}

// column is a heading that sorts.
type column struct {
	Title, Path, Sorted string // Sorted is for aria-sort
	Class               string
}

func (c *Console) credentials(r *request) (answer, error) {
	v := r.URL.Query()
	q := broker.Query{Search: v.Get("q"), Health: grantway.Health(v.Get("health")), Division: v.Get("division"), Expiring: v.Get("expiring") != "",
		Sort: cmp.Or(v.Get("sort"), broker.ByName), Descending: v.Get("desc") != "", Limit: pageSize}
	if n, err := strconv.Atoi(v.Get("page")); err == nil && n > 1 && n < 1_000_000 {
		q.Offset = (n - 1) * pageSize
	}
	found, err := c.Broker.Find(r.Context(), r.who, q)
	if err != nil {
		return answer{}, err
	}
	p := &credentialsPage{Frame: frame("credentials", "Credentials", administration, globalSettings), Found: found, Query: q, Now: time.Now(), Soon: time.Now().Add(30 * 24 * time.Hour)}
	if p.Divisions, err = c.Divisions.List(r.Context(), r.who); err != nil {
		return answer{}, err
	}
	held := r.who.Anywhere()
	p.MayAdd, p.MayCheck, p.MayDelete = held.Has(access.WriteCredential), held.Has(access.ValidateCredential), held.Has(access.DeleteCredential)
	p.Filtered = q.Search != "" || q.Health != "" || q.Division != "" || q.Expiring
	for _, n := range found.Counts {
		p.All += n
	}
	for _, h := range []grantway.Health{grantway.Healthy, grantway.Degraded, grantway.Failing, grantway.NotValidated} {
		chip := healthChip{Health: h, Count: found.Counts[h], Active: q.Health == h, Path: with(v, "health", string(h), "page", "")}
		if chip.Active {
			chip.Path = with(v, "health", "", "page", "")
		}
		p.Healths = append(p.Healths, chip)
	}
	for _, col := range []struct{ title, sort, class string }{
		{"Name and type", broker.ByName, ""}, {"Token endpoint", broker.ByHost, ""}, {"Health", broker.ByHealth, ""},
		{"Token expires", broker.ByTokenExpiry, ""}, {"Secret expires", broker.BySecretExpiry, ""}, {"Used by", "", ""}, {"Division", broker.ByDivision, ""},
	} {
		one := column{Title: col.title, Class: col.class}
		if col.sort != "" {
			desc := ""
			if q.Sort == col.sort {
				one.Sorted = "ascending"
				if q.Descending {
					one.Sorted = "descending"
				} else {
					desc = "1"
				}
			}
			one.Path = with(v, "sort", col.sort, "desc", desc, "page", "")
		}
		p.Columns = append(p.Columns, one)
	}
	if len(found.Rows) > 0 {
		p.From, p.To = q.Offset+1, q.Offset+len(found.Rows)
	}
	number := q.Offset/pageSize + 1
	if number > 1 {
		p.Prev = with(v, "page", strconv.Itoa(number-1))
	}
	if p.To < found.Total && p.To > 0 {
		p.Next = with(v, "page", strconv.Itoa(number+1))
	}
	a := answer{page: p}
	if r.htmx {
		a.part = "list"
	}
	return a, nil
}

// with is the path of the list with some parameters set, "" takes one out.
func with(v url.Values, pairs ...string) string {
	out := url.Values{}
	for _, name := range []string{"q", "health", "division", "expiring", "sort", "desc", "page"} {
		if text := v.Get(name); text != "" {
			out.Set(name, text)
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if out.Del(pairs[i]); pairs[i+1] != "" {
			out.Set(pairs[i], pairs[i+1])
		}
	}
	if len(out) == 0 {
		return "/credentials"
	}
	return "/credentials?" + out.Encode()
}

// Bulk validation: as many as bulkAtOnce at a time, then the page asks for the next ones.
const (
	bulkAtOnce = 4
	bulkAtMost = 1000
)

// bulkPage shows how far a bulk validation is. It keeps no state here: what is left to do,
// and what came out, travels with the page.
type bulkPage struct {
	Frame
	Left    []string     // ids
	Results []bulkResult // of those that are done, what does not work first
	Total   int
	Worked  int
	Failed  int
	Percent int
}

type bulkResult struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (c *Console) validateMany(r *request) (answer, error) {
	p := &bulkPage{Frame: frame("bulk", "Validate credentials", administration, globalSettings, credentialsAt)}
	p.Left = r.PostForm["id"]
	for _, text := range r.PostForm["result"] {
		var result bulkResult
		if err := json.Unmarshal([]byte(text), &result); err != nil {
			return answer{}, grantway.Errorf(grantway.Malformed, "the form did not arrive whole; begin again in the list")
		}
		p.Results = append(p.Results, result)
	}
	p.Total = len(p.Left) + len(p.Results)
	if p.Total > bulkAtMost {
		return answer{}, grantway.Errorf(grantway.Invalid, "at most %d credentials can be validated at once; select fewer", bulkAtMost)
	}
	if p.Total == 0 {
		return answer{redirect: "/credentials", flash: "Select the credentials to validate first."}, nil
	}
	now := p.Left[:min(bulkAtOnce, len(p.Left))]
	if r.form("go") == "" { // the first page only says what will be done
		now = nil
	}
	p.Left = p.Left[len(now):]
	results := make([]bulkResult, len(now))
	var all sync.WaitGroup
	for i, id := range now {
		all.Go(func() { results[i] = c.validateOne(r.Context(), r.who, id) })
	}
	all.Wait()
	p.Results = append(p.Results, results...)
	slices.SortStableFunc(p.Results, func(a, b bulkResult) int { // what does not work first
		switch {
		case a.OK == b.OK:
			return strings.Compare(a.Name, b.Name)
		case a.OK:
			return 1
		}
		return -1
	})
	for _, result := range p.Results {
		if result.OK {
			p.Worked++
		}
	}
	p.Failed = len(p.Results) - p.Worked
	p.Percent = len(p.Results) * 100 / p.Total
	a := answer{page: p}
	if r.htmx {
		a.part = "bulk"
	}
	return a, nil
}

func (c *Console) validateOne(ctx context.Context, who access.Caller, id string) bulkResult {
	result := bulkResult{ID: id, Name: id}
	if saved, err := c.Broker.Get(ctx, who, id); err == nil {
		result.Name = saved.Name
	}
	report, err := c.Broker.Validate(ctx, who, grantway.Credential{ID: id})
	if err != nil {
		if problem := problemsOf(err); problem != nil {
			result.Message = problem[""]
		}
		result.Message = cmp.Or(result.Message, sentence(publicText(err)))
		return result
	}
	result.OK = report.OK
	if last := len(report.Steps) - 1; last >= 0 {
		step := report.Steps[last]
		if report.OK {
			if i := slices.IndexFunc(report.Steps, func(s grantway.Step) bool { return s.Name == "response" }); i >= 0 {
				step = report.Steps[i]
			}
		}
		result.Message, result.Hint = sentence(step.Message), step.Hint
	}
	return result
}

// publicText is what people may read of an error.
func publicText(err error) string {
	if e := asError(err); e != nil {
		return e.Message
	}
	return "internal error; the hub's log says more"
}
