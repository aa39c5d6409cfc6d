package broker

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
)

// Masked stands for what Preview does not show.
const Masked = connector.Masked

// Preview shows the token request of a saved credential, the first one if there are several.
// NotFound, if its connector asks for no token.
func (b *Broker) Preview(ctx context.Context, who access.Caller, ref string) (connector.Preview, error) {
	h, err := b.find(ctx, who, ref, access.ReadCredential)
	if err != nil {
		return connector.Preview{}, err
	}
	_, rec, err := b.read(ctx, h.id)
	if err != nil {
		return connector.Preview{}, err
	}
	def, err := b.definition(h.connector)
	if err != nil {
		return connector.Preview{}, err
	}
	values, err := b.open(ctx, h, rec, "")
	if err != nil && !errors.As(err, new(*secretError)) {
		return connector.Preview{}, err
	}
	plan, err := def.Compile(values)
	if err != nil {
		return connector.Preview{}, err
	}
	list, err := plan.Preview(ctx)
	var wrong *grantway.Error
	switch {
	case errors.As(err, &wrong):
		return connector.Preview{}, wrong
	case err != nil:
		return connector.Preview{}, grantway.Errorf(grantway.Unavailable, "%v", err)
	case list == nil:
		return connector.Preview{}, grantway.Errorf(grantway.NotFound, "%v", connector.ErrNoToken)
	}
	return list[0], nil
}

// Promote makes the next client secret of a credential the one in use, and forgets the one
// before. NotFound, if there is no next secret.
func (b *Broker) Promote(ctx context.Context, who access.Caller, ref string) error {
	h, err := b.find(ctx, who, ref, access.WriteCredential)
	if err != nil {
		return err
	}
	c, _, err := b.read(ctx, h.id)
	if err != nil {
		return err
	}
	if c.Inputs["next_client_secret"].Empty() {
		return grantway.Errorf(grantway.NotFound, "credential %s has no next client secret; enter one first", h.name)
	}
	_, err = b.promote(ctx, who, h)
	if errors.Is(err, errSuperseded) {
		return staleVersion(h.name)
	}
	return err
}

// EndpointHint is advice on a token endpoint and an authentication method that do not go
// well together; "" when there is none.
func EndpointHint(endpoint, method string) string {
	u, err := url.Parse(strings.TrimSpace(endpoint))
	if err != nil || method != "client_secret_basic" {
		return ""
	}
	for _, host := range []string{"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn", "login.windows.net", "sts.windows.net"} {
		if strings.EqualFold(u.Hostname(), host) {
			return "Microsoft documents the client secret in the body for this endpoint: choose “in the body” as authentication method."
		}
	}
	return ""
}
