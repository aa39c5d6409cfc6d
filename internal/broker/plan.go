package broker

import (
	"context"
	"maps"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/grant"
	"github.com/grantway/grantway/internal/access"
)

// Plan returns what authorizes requests with a credential, for a caller who may use it: the
// base URL, how the token of Token goes onto a request, and by which signs an API refuses it.
// For most connectors it holds no secret and is served from memory. A connector that sends or
// signs with secret inputs gets them anew for each plan, so the caller should keep one for a
// request, not longer.
func (b *Broker) Plan(ctx context.Context, who access.Caller, ref string) (*connector.Plan, error) {
	h, err := b.find(ctx, who, ref, access.UseCredential)
	if err != nil {
		return nil, err
	}
	def, err := b.definition(h.connector)
	if err != nil {
		return nil, err
	}
	if p := h.plan.Load(); p != nil && p.Made(def) {
		return p, nil
	}
	rec, err := b.recordOf(ctx, h)
	if err != nil {
		return nil, err
	}
	if def.AppliesSecrets() {
		values, err := b.open(ctx, h, rec, "")
		if err != nil {
			return nil, tokenError(h, err)
		}
		return def.CompileApply(values)
	}
	values := connector.Values{Plain: map[string]grantway.Value{}, Secrets: map[string]grant.Secret{}}
	maps.Copy(values.Plain, rec.inputs)
	p, err := def.CompileApply(values)
	if err == nil {
		h.plan.Store(p)
	}
	return p, err
}
