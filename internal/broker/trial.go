package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// Show is Try without sending anything. Secrets need not be there, and external ones are not read.
func (b *Broker) Show(ctx context.Context, who access.Caller, draft grantway.ConnectorDraft) (grantway.ConnectorTrial, error) {
	trial := grantway.ConnectorTrial{Requests: []grantway.RequestPreview{}}
	def, err := b.tried(ctx, who, draft, "connector.preview")
	if err != nil {
		return trial, err
	}
	trial.Findings = slices.Concat(trial.Findings, def.Warnings)
	values := connector.Values{Plain: maps.Clone(draft.Inputs), Secrets: map[string]grant.Secret{}}
	for _, key := range def.Secrets() { // what is masked anyway
		values.Secrets[key] = grant.Secret(draft.Inputs[key].Text)
	}
	return trial, b.show(ctx, def, draft, values, &trial)
}

// Try asks for a token with a connector and inputs that are not stored, and shows the answers without what
// may be secret in them. What went wrong is in the trial; the error is of code Forbidden, or
// says that the draft itself is wrong.
func (b *Broker) Try(ctx context.Context, who access.Caller, draft grantway.ConnectorDraft) (grantway.ConnectorTrial, error) {
	trial := grantway.ConnectorTrial{Requests: []grantway.RequestPreview{}}
	def, err := b.tried(ctx, who, draft, "connector.try")
	if err != nil {
		return trial, err
	}
	trial.Findings = slices.Concat(trial.Findings, def.Warnings)
	if fields := def.Check(draft.Inputs); fields != nil {
		return trial, &grantway.Error{Code: grantway.Invalid, Message: "the connector was not tried because an input is wrong", Fields: fields}
	}
	values := connector.Values{Plain: maps.Clone(draft.Inputs), Secrets: map[string]grant.Secret{}}
	for _, key := range def.Secrets() {
		v := draft.Inputs[key]
		values.Secrets[key] = grant.Secret(v.Text)
		if v.Ref == nil {
			continue
		}
		if values.Secrets[key], err = b.Secrets.Renew(ctx, *v.Ref, 0); err != nil {
			return trial, &grantway.Error{Code: grantway.Invalid, Message: "the connector was not tried because a secret cannot be read",
				Fields: []grantway.Field{{Pointer: grantway.Pointer("inputs", key), Detail: err.Error()}}}
		}
	}
	if err := b.show(ctx, def, draft, values, &trial); err != nil || trial.Error != "" {
		return trial, err
	}
	plan, err := b.plan(def, draft, values)
	if err != nil {
		return trial, err
	}
	w := &witness{send: b.provider}
	t, err := plan.Token(ctx, w, nil)
	var failed *grant.Error
	if err != nil {
		trial.Error = strings.TrimPrefix(err.Error(), "token request: ")
		if errors.As(err, &failed) {
			trial.Hint = hint(failed, values.Secrets)
		}
	}
	hide := censor{}
	for _, secret := range values.Secrets {
		hide.secret(string(secret))
	}
	if t != nil {
		hide.secret(string(t.AccessToken))
		for _, kept := range t.Kept {
			hide.secret(string(kept))
		}
		if err == nil {
			trial.Token = &grantway.ShownToken{Type: t.Type, ExpiresAt: t.ExpiresAt.UTC().Truncate(time.Second), ExpiresIn: grantway.Seconds(t.Lifetime() / time.Second), Scope: t.Scope,
				Length: len(t.AccessToken), Fingerprint: t.Fingerprint(), Kept: slices.Sorted(maps.Keys(t.Kept))}
		}
	}
	trial.Error = hide.text(trial.Error)
	for _, a := range w.answers {
		trial.Answers = append(trial.Answers, hide.answer(a))
	}
	outcome := access.Done
	if err != nil {
		outcome = access.Failed
	}
	ctx = context.WithoutCancel(ctx) // a token was asked for, whether or not somebody waits to hear of it
	return trial, b.Store.Write(ctx, func(tx *store.Tx) error {
		return b.Audit.Record(ctx, tx, who, grantway.Event{Action: "connector.try", Object: "connector/" + def.Name, Outcome: outcome})
	})
}

// tried is the definition of a draft, for those who may change connectors: who tries one says
// where requests of the hub go.
func (b *Broker) tried(ctx context.Context, who access.Caller, draft grantway.ConnectorDraft, action string) (*connector.Definition, error) {
	if err := b.Audit.Require(ctx, who, access.WriteConnector, access.Everywhere, grantway.Event{Action: action}); err != nil {
		return nil, err
	}
	given := 0
	for _, there := range []bool{draft.YAML != "", len(draft.Definition) > 0, draft.Connector != ""} {
		if there {
			given++
		}
	}
	if given != 1 {
		return nil, refError("/yaml", "there must be one of yaml, definition and connector")
	}
	if draft.Connector != "" {
		found, err := b.definition(draft.Connector, draft.ConnectorVersion)
		return found.Definition, err
	}
	if draft.YAML != "" {
		return b.Connectors.Draft([]byte(draft.YAML))
	}
	var compact bytes.Buffer // YAML has no tabs between values, JSON may
	if err := json.Compact(&compact, draft.Definition); err != nil {
		return nil, refError("/definition", "is not JSON")
	}
	return b.Connectors.Draft(compact.Bytes())
}

func (b *Broker) plan(def *connector.Definition, draft grantway.ConnectorDraft, values connector.Values) (*connector.Plan, error) {
	var err error
	if values.Zone, err = location(draft.TimeZone); err != nil {
		return nil, refError("/time_zone", "must be the name of a time zone, such as Europe/Paris")
	}
	return def.Compile(values)
}

// show puts the token requests into trial, or why they cannot be made.
func (b *Broker) show(ctx context.Context, def *connector.Definition, draft grantway.ConnectorDraft, values connector.Values, trial *grantway.ConnectorTrial) error {
	plan, err := b.plan(def, draft, values)
	var requests []grantway.RequestPreview
	if err == nil {
		requests, err = plan.Preview(ctx)
	}
	var known *grantway.Error
	switch {
	case errors.As(err, &known) && known.Fields != nil:
		for _, f := range known.Fields {
			trial.Findings = append(trial.Findings, grantway.Finding{Path: strings.ReplaceAll(strings.TrimPrefix(f.Pointer, "/"), "/", "."), Message: f.Detail})
		}
		trial.Error = known.Message
	case err != nil:
		trial.Error = err.Error()
	case !def.HasToken():
		trial.Error = connector.ErrNoToken.Error()
	default:
		trial.Requests = append(trial.Requests, requests...)
	}
	hide := censor{}
	for _, secret := range values.Secrets {
		hide.secret(string(secret))
	}
	trial.Error = hide.text(trial.Error)
	return nil
}

// witness remembers the answers to what it sends.
type witness struct {
	send    connector.Sender
	answers []*grant.Answer
}

func (w *witness) Ask(ctx context.Context, r *grant.Request) (*grant.Answer, error) {
	return w.note(w.send.Ask(ctx, r))
}

func (w *witness) Exchange(ctx context.Context, x *grant.Exchange) (*grant.Answer, error) {
	return w.note(w.send.Exchange(ctx, x))
}

func (w *witness) note(a *grant.Answer, err error) (*grant.Answer, error) {
	if a != nil {
		w.answers = append(w.answers, a)
	}
	return a, err
}
