package console

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/broker"
)

// detailPage is one credential: what it is, how it is doing, who uses it.
type detailPage struct {
	Frame
	Credential grantway.Credential
	Status     grantway.Status
	Facts      []fact
	Secret     secretState
	Connector  *grantway.Connector // of an instance
	Broken     string              // why its connector gets no tokens
	Hint       string

	Span     string // of the plot: hour, day, week or month
	Spans    []Choice
	Plot     plot
	Timeline []moment
	Uses     []broker.Use
	SeesUses bool
	Events   []grantway.Event

	Preview      *connector.Preview
	PreviewError string
	Snippets     []snippet
	Report       *grantway.Report

	MayEdit, MayValidate, MayDelete bool
	Errors                          problems
}

// fact is a setting of a credential as people read it.
type fact struct{ Title, Value, Kind string }

// secretState says which client secrets there are.
type secretState struct {
	Needed  bool
	Current string // where it is
	Next    string // where the next one is; "" when there is none
	Expires time.Time
	Stores  []string

	// What is in the form of the next secret.
	External bool
	Ref      grantway.SecretRef
	Typed    bool
	Kept     string // what was typed, sealed
	Restored bool
}

// plot is what uPlot draws: columns of the same length, times in Unix seconds.
type plot struct {
	Times  []int64                              `json:"times"`
	Hits   []int64                              `json:"hits"`
	Worked []int64                              `json:"worked"`
	Failed []int64                              `json:"failed"`
	Sum    struct{ Hits, Worked, Failed int64 } `json:"-"`
}

// moment is a change of fortune in the health timeline.
type moment struct {
	At    time.Time
	OK    bool
	Count int64
	Text  string
	Hint  string
	Until time.Time
}

// For is how long it went on; "" if no longer than a minute.
func (m moment) For() string {
	d := m.Until.Sub(m.At).Truncate(time.Minute)
	if d < 2*time.Minute {
		return ""
	}
	return broker.Spoken(d)
}

var spans = []struct {
	name, title string
	length      time.Duration
	step        time.Duration
}{
	{"hour", "1 hour", time.Hour, time.Minute},
	{"day", "24 hours", 24 * time.Hour, 30 * time.Minute},
	{"week", "7 days", 7 * 24 * time.Hour, 3 * time.Hour},
	{"month", "30 days", 30 * 24 * time.Hour, 12 * time.Hour},
}

func (c *Console) credential(r *request) (answer, error) {
	p, err := c.newDetailPage(r)
	if err != nil {
		return answer{}, err
	}
	return answer{page: p}, nil
}

func (c *Console) newDetailPage(r *request) (*detailPage, error) {
	ctx := r.Context()
	saved, err := c.Broker.Get(ctx, r.who, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	p := &detailPage{Frame: frame("credential", saved.Name), Credential: saved}
	p.Plots = true
	p.at, p.Crumbs = whereIs(saved)
	p.Crumbs = p.Crumbs[:len(p.Crumbs)-1]
	p.MayEdit, p.MayValidate = r.who.May(access.WriteCredential, saved.Division), r.who.May(access.ValidateCredential, saved.Division)
	p.MayDelete = r.who.May(access.DeleteCredential, saved.Division)
	if p.Status, err = c.Broker.Status(ctx, r.who, saved.ID); err != nil {
		return nil, err
	}
	if saved.Connector != grantway.PlainConnector {
		if one, err := c.Connectors.Get(ctx, r.who, saved.Connector, saved.ConnectorVersion); err == nil {
			p.Connector = &one
		}
	}
	if found, _ := c.Connectors.Find(saved.Connector, saved.ConnectorVersion); found.Definition != nil {
		p.Facts, p.Secret = c.facts(found.Inputs, saved.Inputs), secretsOf(found.Definition, saved, p.Status)
		p.Secret.Stores = c.Secrets.Names()
		if in, ok := found.Input("grant_type"); ok && p.Connector != nil {
			if grant := cmp.Or(saved.Inputs["grant_type"].Text, in.Default); otherGrant(grant) {
				p.Hint = grantHint(grant)
			}
		}
	} else {
		p.Broken = sentence(publicText(found.Broken))
	}

	span := spans[1]
	for _, s := range spans {
		chosen := s.name == cmp.Or(r.FormValue("span"), "day")
		p.Spans = append(p.Spans, Choice{s.name, s.title, chosen})
		if chosen {
			span = s
			p.Span = s.name
		}
	}
	now := time.Now()
	since := now.Add(-span.length).Truncate(span.step)
	fetches, err := c.Broker.History(ctx, r.who, saved.ID, since)
	if err != nil {
		return nil, err
	}
	var reads map[time.Time]int64
	if p.SeesUses = r.who.May(access.ReadAudit, saved.Division); p.SeesUses {
		if p.Uses, reads, err = c.Broker.Uses(ctx, r.who, saved.ID, since); err != nil {
			return nil, err
		}
		page, err := c.Audit.List(ctx, r.who, access.Filter{Object: "credential/" + saved.Name}, "", 8)
		if err != nil {
			return nil, err
		}
		p.Events = page.Items
	}
	p.Plot = plotOf(fetches, reads, since, now, span.step)
	p.Timeline = timeline(fetches, p.Status.LastSuccess)
	if preview, err := c.Broker.Preview(ctx, r.who, saved.ID); err == nil {
		p.Preview = &preview
	} else if e := asError(err); e != nil {
		p.PreviewError = sentence(e.Message)
		if len(e.Fields) > 0 {
			p.PreviewError = sentence(e.Fields[0].Detail)
		}
	} else {
		return nil, err
	}
	p.Snippets = c.snippetsFor(saved.Name)
	return p, nil
}

// facts are the inputs that are set, without the secrets.
func (c *Console) facts(inputs []connector.Input, set grantway.Inputs) (list []fact) {
	for _, in := range inputs {
		v := set[in.Key]
		one, ok := factOf(in, v)
		if !ok {
			continue
		}
		if v.Ref != nil {
			if there := c.Secrets.Spelling(*v.Ref); there != v.Ref.Key {
				one.Value += "\nread as " + there
			}
		}
		list = append(list, one)
	}
	return list
}

// factOf is an input as people read it, without what is secret; ok is false when it is not set.
func factOf(in connector.Input, v grantway.Value) (one fact, ok bool) {
	text, kind := v.Text, "text"
	if text == "" && (in.Key == "auth_method" || in.Key == "auth" || in.Type == connector.Seconds) { // worth saying even so
		text = in.Default
	}
	switch {
	case in.Type == connector.Enum:
		text = cmp.Or(methodTitles[text], text)
	case v.Ref != nil:
		text = v.Ref.Store + " / " + v.Ref.Key
		if v.Ref.Field != "" {
			text += " (field " + v.Ref.Field + ")"
		}
		if v.Ref.Version != "" {
			text += " (version " + v.Ref.Version + ")"
		}
		kind = "external"
	case v.Set:
		text, kind = "Stored, encrypted", "internal"
	case v.Params != nil:
		var parts []string
		for _, param := range v.Params {
			parts = append(parts, param.In+": "+param.Name+" = "+param.Value)
		}
		text = strings.Join(parts, "\n")
	case in.Type == connector.PEM && text != "":
		text = "PEM certificate"
	case in.Type == connector.Boolean && text == "true":
		text = "Yes"
	case in.Type == connector.Seconds:
		text = duration(text)
	}
	return fact{in.Title, text, kind}, text != ""
}

// duration is a number of seconds as people read it.
func duration(seconds string) string {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return seconds
	}
	return broker.Spoken(time.Duration(n) * time.Second)
}

func secretsOf(def *connector.Definition, saved grantway.Credential, s grantway.Status) secretState {
	describe := func(v grantway.Value) string {
		switch {
		case v.Ref != nil:
			return "External: " + v.Ref.Store + " / " + v.Ref.Key
		case v.Set:
			return "Internal, encrypted in the hub"
		}
		return ""
	}
	method, _ := def.Input("auth_method")
	_, rotates := def.Input("next_client_secret")
	needed := []string{"", "client_secret_basic", "client_secret_post", "client_secret_jwt"}
	return secretState{
		Needed:  rotates && slices.Contains(needed, cmp.Or(saved.Inputs["auth_method"].Text, method.Default)),
		Current: describe(saved.Inputs["client_secret"]), Next: describe(saved.Inputs["next_client_secret"]),
		Expires: s.SecretExpiresAt,
	}
}

// plotOf sums what happened by steps. A read that made no request was served from the cache.
func plotOf(fetches []broker.Fetches, reads map[time.Time]int64, since, now time.Time, step time.Duration) (p plot) {
	n := int(now.Sub(since)/step) + 1
	p.Times, p.Hits, p.Worked, p.Failed = make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i := range n {
		p.Times[i] = since.Add(time.Duration(i) * step).Unix()
	}
	at := func(t time.Time) int { return min(max(int(t.Sub(since)/step), 0), n-1) }
	for minute, count := range reads {
		p.Hits[at(minute)] += count
	}
	for _, f := range fetches {
		i := at(f.Minute)
		p.Worked[i] += f.Worked
		p.Failed[i] += f.Failed
	}
	for i := range n {
		p.Hits[i] = max(p.Hits[i]-p.Worked[i], 0)
		p.Sum.Hits += p.Hits[i]
		p.Sum.Worked += p.Worked[i]
		p.Sum.Failed += p.Failed[i]
	}
	return p
}

// timeline is the history as stretches of luck, the newest first. Within a minute only the last
// failure has a time; it came after the successes of that minute if nothing worked since.
func timeline(fetches []broker.Fetches, lastSuccess time.Time) (list []moment) {
	add := func(one moment) {
		last := len(list) - 1
		switch {
		case one.Count == 0:
		case last >= 0 && list[last].OK == one.OK && list[last].Text == one.Text:
			list[last].Until = one.Until
			list[last].Count += one.Count
		default:
			list = append(list, one)
		}
	}
	for _, f := range fetches {
		worked := moment{At: f.Minute, Until: f.Minute, OK: true, Count: f.Worked}
		failed := moment{At: f.Minute, Until: f.Minute, Count: f.Failed}
		if last := f.LastFailure; last != nil {
			failed.At, failed.Until, failed.Text, failed.Hint = last.At, last.At, sentence(last.Message), last.Hint
		}
		if failed.At.After(lastSuccess) {
			add(worked)
			add(failed)
		} else {
			add(failed)
			add(worked)
		}
	}
	slices.Reverse(list)
	return list[:min(len(list), 12)]
}

func (c *Console) validateCredential(r *request) (answer, error) {
	report, err := c.Broker.Validate(r.Context(), r.who, grantway.Credential{ID: r.PathValue("id")})
	if err != nil {
		return answer{}, err
	}
	p, err := c.newDetailPage(r)
	if err != nil {
		return answer{}, err
	}
	p.Report = &report
	return answer{page: p}, nil
}

func (c *Console) credentialDeletion(r *request) (*deletePage, error) {
	saved, err := c.Broker.Get(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if err := c.Audit.Require(r.Context(), r.who, access.DeleteCredential, saved.Division, grantway.Event{Action: "credential.delete", Object: "credential/" + saved.Name}); err != nil {
		return nil, err
	}
	p := &deletePage{Frame: frame("delete", "Delete "+saved.Name),
		Kind: "credential", Name: saved.Name, Action: "/credentials/" + saved.ID + "/delete", Back: "/credentials/" + saved.ID, Blocked: saved.UsedBy,
		remove: func() error { return c.Broker.Delete(r.Context(), r.who, saved.ID, 0) }}
	if p.at, p.Crumbs = whereIs(saved); p.at == "/instances" {
		p.Kind = "instance"
	}
	p.done = answer{redirect: p.at, flash: p.Name + " is deleted."}
	p.Breaks = []string{"Its settings and its secret are gone for good; there is no way to get them back from the hub.", "Tokens it got stop being handed out at once."}
	if r.who.May(access.ReadAudit, saved.Division) {
		uses, _, err := c.Broker.Uses(r.Context(), r.who, saved.ID, time.Now().Add(-30*24*time.Hour))
		if err != nil {
			return nil, err
		}
		for _, u := range uses {
			p.Breaks = append(p.Breaks, u.Name+" gets no more tokens: it asked "+number(u.Reads)+" times in the last 30 days.")
		}
	}
	return p, nil
}

func (c *Console) nextSecret(r *request) (answer, error) {
	kept := c.openKept(r)
	next := &field{Input: connector.Input{Key: "next_client_secret"}}
	next.read(r, "next", kept)
	if r.restored {
		return c.secretForm(r, next, kept, "")
	}
	saved, err := c.Broker.Get(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	if next.External && next.Ref.Key == "" || !next.External && !next.Typed {
		return c.secretForm(r, next, kept, "Enter the next secret first.")
	}
	saved.Inputs[next.Key] = next.value(kept[next.Key])
	_, err = c.Broker.Save(r.Context(), r.who, saved)
	if wrong := problemsOf(err); wrong != nil {
		for _, detail := range wrong {
			return c.secretForm(r, next, kept, "The next client secret "+detail+".")
		}
	}
	return answer{redirect: "/credentials/" + saved.ID + "#secret", flash: "The next secret is stored. It is tried as soon as the provider refuses the one in use."}, err
}

// secretForm is the page with the form of the next secret as it was sent: with what is wrong, or
// because it comes back after its session had ended.
func (c *Console) secretForm(r *request, next *field, kept map[string]string, wrong string) (answer, error) {
	p, err := c.newDetailPage(r)
	if err != nil {
		return answer{}, err
	}
	p.Secret.External, p.Secret.Ref, p.Secret.Typed = next.External, next.Ref, next.Typed
	if p.Secret.Kept, err = c.sealKept(r, kept); err != nil {
		return answer{}, err
	}
	if p.Secret.Restored = wrong == ""; p.Secret.Restored {
		return answer{page: p}, nil
	}
	p.Errors = problems{"/next": wrong}
	return answer{page: p, status: http.StatusUnprocessableEntity}, nil
}

func (c *Console) promoteSecret(r *request) (answer, error) {
	err := c.Broker.Promote(r.Context(), r.who, r.PathValue("id"))
	return answer{redirect: "/credentials/" + r.PathValue("id") + "#secret", flash: "The next secret is in use now; the one before is forgotten."}, err
}

func (c *Console) retireSecret(r *request) (answer, error) {
	saved, err := c.Broker.Get(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	saved.Inputs["next_client_secret"] = grantway.Value{}
	_, err = c.Broker.Save(r.Context(), r.who, saved)
	return answer{redirect: "/credentials/" + saved.ID + "#secret", flash: "The next secret is forgotten; the one in use stays."}, err
}
