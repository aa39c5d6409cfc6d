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
	Needed   bool
	Current  string // where it is
	Next     string // where the next one is; "" when there is none
	Expires  time.Time
	External bool
	Stores   []string
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
	d := m.Until.Sub(m.At)
	count := func(n time.Duration, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return number(int64(n)) + " " + unit + "s"
	}
	switch {
	case d < 2*time.Minute:
		return ""
	case d < 2*time.Hour:
		return count(d/time.Minute, "minute")
	case d < 48*time.Hour:
		return count(d/time.Hour, "hour")
	}
	return count(d/(24*time.Hour), "day")
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
	p := &detailPage{Frame: frame("credential", saved.Name, administration, globalSettings, credentialsAt), Credential: saved}
	p.Plots = true
	p.MayEdit, p.MayValidate = r.who.May(access.WriteCredential, saved.Division), r.who.May(access.ValidateCredential, saved.Division)
	p.MayDelete = r.who.May(access.DeleteCredential, saved.Division)
	if p.Status, err = c.Broker.Status(ctx, r.who, saved.ID); err != nil {
		return nil, err
	}
	def, ok := c.Broker.Definition(saved.Connector, saved.ConnectorVersion)
	if !ok {
		return nil, grantway.Errorf(grantway.Conflict, "this hub does not know the connector %q of the credential", saved.Connector)
	}
	p.Facts, p.Secret = c.facts(def.Inputs, saved.Inputs), secretsOf(def, saved, p.Status)
	p.Secret.Stores = c.Secrets.Names()

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
	p.Timeline = timeline(fetches)
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
	p.Snippets = snippets(c.URL(), saved.Name)
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
	switch {
	case err != nil:
		return seconds
	case n%3600 == 0:
		return strconv.Itoa(n/3600) + " h"
	case n%60 == 0:
		return strconv.Itoa(n/60) + " min"
	}
	return seconds + " s"
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
	needed := []string{"client_secret_basic", "client_secret_post", "client_secret_jwt"}
	return secretState{
		Needed:  slices.Contains(needed, cmp.Or(saved.Inputs["auth_method"].Text, method.Default)),
		Current: describe(saved.Inputs["client_secret"]), Next: describe(saved.Inputs["next_client_secret"]),
		External: saved.Inputs["client_secret"].Ref != nil, Expires: s.SecretExpiresAt,
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

// timeline is the history as stretches of luck, the newest first.
func timeline(fetches []broker.Fetches) (list []moment) {
	for _, f := range fetches {
		ok := f.LastFailure == nil
		one := moment{At: f.Minute, Until: f.Minute, OK: ok, Count: f.Worked + f.Failed}
		if !ok {
			one.At, one.Until, one.Text, one.Hint = f.LastFailure.At, f.LastFailure.At, sentence(f.LastFailure.Message), f.LastFailure.Hint
		}
		if last := len(list) - 1; last >= 0 && list[last].OK == ok && list[last].Text == one.Text {
			list[last].Until = one.Until
			list[last].Count += one.Count
			continue
		}
		list = append(list, one)
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

// deletePage asks whether something may really go, and says what breaks.
type deletePage struct {
	Frame
	Kind, Name, Action, Back string
	Blocked                  []string // what has to be changed first
	Breaks                   []string
	Version                  int64
	Error                    string
}

func (c *Console) newDeletePage(r *request) (*deletePage, error) {
	saved, err := c.Broker.Get(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if err := c.Audit.Require(r.Context(), r.who, access.DeleteCredential, saved.Division, grantway.Event{Action: "credential.delete", Object: "credential/" + saved.Name}); err != nil {
		return nil, err
	}
	p := &deletePage{Frame: frame("delete", "Delete "+saved.Name, administration, globalSettings, credentialsAt, crumb{saved.Name, "/credentials/" + saved.ID}),
		Kind: "credential", Name: saved.Name, Action: "/credentials/" + saved.ID + "/delete", Back: "/credentials/" + saved.ID, Blocked: saved.UsedBy, Version: saved.Version}
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

func (c *Console) deleteCredentialPage(r *request) (answer, error) {
	p, err := c.newDeletePage(r)
	if err != nil {
		return answer{}, err
	}
	return answer{page: p}, nil
}

func (c *Console) deleteCredential(r *request) (answer, error) {
	p, err := c.newDeletePage(r)
	if err != nil {
		return answer{}, err
	}
	if r.form("confirm") != p.Name {
		p.Error = "Type the name exactly as it is: " + p.Name
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	if err := c.Broker.Delete(r.Context(), r.who, r.PathValue("id"), 0); err != nil {
		return answer{}, err
	}
	return answer{redirect: "/credentials", flash: p.Name + " is deleted."}, nil
}

func (c *Console) nextSecret(r *request) (answer, error) {
	saved, err := c.Broker.Get(r.Context(), r.who, r.PathValue("id"))
	if err != nil {
		return answer{}, err
	}
	next := grantway.Text(r.PostFormValue("next"))
	if r.form("source") == "external" {
		next = grantway.Value{Ref: &grantway.SecretRef{Store: r.form("store"), Key: r.form("key")}}
	}
	if next.Ref == nil && next.Text == "" || next.Ref != nil && next.Ref.Key == "" {
		return c.secretProblem(r, "Enter the next secret first.")
	}
	saved.Inputs["next_client_secret"] = next
	_, err = c.Broker.Save(r.Context(), r.who, saved)
	if wrong := problemsOf(err); wrong != nil {
		for _, detail := range wrong {
			return c.secretProblem(r, "The next client secret "+detail+".")
		}
	}
	return answer{redirect: "/credentials/" + saved.ID + "#secret", flash: "The next secret is stored. It is tried as soon as the provider refuses the one in use."}, err
}

func (c *Console) secretProblem(r *request, text string) (answer, error) {
	p, err := c.newDetailPage(r)
	if err != nil {
		return answer{}, err
	}
	p.Errors = problems{"/next": text}
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

// snippet is a program that uses one credential.
type snippet struct{ Title, Text string }

func snippets(hub, name string) []snippet {
	token := hub + "/v1/credentials/" + name + "/token"
	return []snippet{
		{"curl", `# GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET are those of an OAuth client of this hub
HUB_TOKEN=$(curl -sS --fail -u "$GRANTWAY_CLIENT_ID:$GRANTWAY_CLIENT_SECRET" \
  -d grant_type=client_credentials ` + hub + `/oauth/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')

curl -sS --fail -X POST -H "Authorization: Bearer $HUB_TOKEN" ` + token},
		{"Go", `hub, err := grantway.NewClient(grantway.Options{URL: "` + hub + `"}) // id and secret from the environment
if err != nil {
	log.Fatal(err)
}
defer hub.Close(context.Background())

api := &http.Client{Transport: hub.Transport(grantway.Ref{Credential: "` + name + `"})}
resp, err := api.Get("https://api.example.com/v1/things") // the token is put on, and renewed`},
		{"Python", `import os, requests

hub = "` + hub + `"
mine = requests.post(f"{hub}/oauth/token", data={"grant_type": "client_credentials"},
    auth=(os.environ["GRANTWAY_CLIENT_ID"], os.environ["GRANTWAY_CLIENT_SECRET"]), timeout=30)
mine.raise_for_status()
token = requests.post(f"{hub}/v1/credentials/` + name + `/token",
    headers={"Authorization": "Bearer " + mine.json()["access_token"]}, timeout=30)
token.raise_for_status()
header = token.json()["header"]  # {"name": "Authorization", "value": "Bearer …"}`},
		{"Node", `const hub = "` + hub + `";
const basic = Buffer.from(` + "`${process.env.GRANTWAY_CLIENT_ID}:${process.env.GRANTWAY_CLIENT_SECRET}`" + `).toString("base64");
const mine = await fetch(` + "`${hub}/oauth/token`" + `, {
  method: "POST", headers: { Authorization: ` + "`Basic ${basic}`" + ` },
  body: new URLSearchParams({ grant_type: "client_credentials" }),
}).then((r) => r.json());
const token = await fetch(` + "`${hub}/v1/credentials/" + name + "/token`" + `, {
  method: "POST", headers: { Authorization: ` + "`Bearer ${mine.access_token}`" + ` },
}).then((r) => r.json());
// token.header is what to put on a request`},
		{"Shell", `# the grantway program signs in with GRANTWAY_URL, GRANTWAY_CLIENT_ID and GRANTWAY_CLIENT_SECRET
export GRANTWAY_URL=` + hub + `
grantway curl ` + name + ` https://api.example.com/v1/things

TOKEN=$(grantway token ` + name + `)   # or the token alone`},
	}
}
