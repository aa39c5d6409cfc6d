package proxy

import (
	"errors"
	"net/http"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// ServeEndpoint calls an endpoint that the connector of a credential names, and sends the answer of the API
// on as it comes. Of the caller's request nothing but inputs gets to the API: the connector says all the rest.
// An error was not answered yet.
func (p *Proxy) ServeEndpoint(w http.ResponseWriter, r *http.Request, who access.Caller, credential, endpoint string, inputs map[string]string) error {
	ctx := r.Context()
	u, err := p.Broker.Upstream(ctx, who, credential)
	if err != nil {
		return err
	}
	if err := who.CheckListed(u.ID); err != nil { // before a token is asked for
		refused, _ := errors.AsType[*grantway.Error](err)
		return p.deny(ctx, who, "proxy.request", u.Name, u.Division, refused)
	}
	auth, err := u.Authorize(ctx, who)
	if err != nil {
		return err
	}
	out, err := auth.Endpoint(ctx, endpoint, inputs)
	if err != nil {
		return err
	}
	t := target{credential: credential, whole: out.URL, auth: &auth, allowed: who.AllowsEndpoint(u.ID, endpoint)}
	rest, within := strings.CutPrefix(out.URL.EscapedPath(), auth.Base.EscapedPath())
	if within = within && out.URL.Host == auth.Base.Host; within {
		var refused string
		t.rest = rest
		t.path, refused = decode(rest)
		within = refused == ""
	}
	if who.Uses != nil && !t.allowed && !within { // no list of paths can say yes to it
		return p.deny(ctx, who, "proxy.request", u.Name, u.Division, grantway.Errorf(grantway.Forbidden, "this client may use listed methods and paths only, and the endpoint %s is not below the base URL", endpoint))
	}
	if err := p.check(out, who, u, &t); err != nil {
		return err
	}
	p.metrics.open.Inc()
	defer p.metrics.open.Dec()
	p.forward(w, out, who, u, &t)
	return nil
}
