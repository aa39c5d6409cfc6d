package broker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// Masked stands for what Preview does not show.
const Masked = "••••••••"

// Preview is the token request of a credential as it goes out, with everything secret masked.
type Preview struct {
	Method, URL string
	Headers     []grantway.Header
	Form        []grantway.Header // the body, decoded
}

// secret parts of a token request: what authenticates the client, or is a token itself.
var (
	secretHeaders = []string{"Authorization", "Dpop"}
	secretFields  = []string{"client_secret", "client_assertion", "assertion", "password", "refresh_token", "code", "subject_token", "actor_token"}
)

// Preview shows the token request of a saved credential. Extra parameters are shown: they
// are plain inputs, which whoever reads the credential sees anyway.
func (b *Broker) Preview(ctx context.Context, who access.Caller, ref string) (Preview, error) {
	h, err := b.find(ctx, who, ref, access.ReadCredential)
	if err != nil {
		return Preview{}, err
	}
	_, rec, err := b.read(ctx, h.id)
	if err != nil {
		return Preview{}, err
	}
	def, err := definition(h.connector)
	if err != nil {
		return Preview{}, err
	}
	values, err := b.open(ctx, h, rec, "")
	if err != nil && !errors.As(err, new(*secretError)) {
		return Preview{}, err
	}
	request, err := def.Compile(values)
	if err != nil {
		return Preview{}, err
	}
	out, err := request.Build(ctx)
	if err != nil {
		return Preview{}, grantway.Errorf(grantway.Unavailable, "the token request cannot be made: %v", err)
	}
	body, err := io.ReadAll(out.Body)
	if err != nil {
		return Preview{}, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Method: out.Method, URL: out.URL.String()}
	for name, values := range out.Header {
		for _, value := range values {
			if slices.Contains(secretHeaders, http.CanonicalHeaderKey(name)) {
				scheme, _, two := strings.Cut(value, " ")
				if value = Masked; two {
					value = scheme + " " + Masked
				}
			}
			p.Headers = append(p.Headers, grantway.Header{Name: name, Value: value})
		}
	}
	for name, values := range form {
		for _, value := range values {
			if slices.Contains(secretFields, name) {
				value = Masked
			}
			p.Form = append(p.Form, grantway.Header{Name: name, Value: value})
		}
	}
	byName := func(a, b grantway.Header) int { return strings.Compare(a.Name, b.Name) }
	slices.SortStableFunc(p.Headers, byName)
	slices.SortStableFunc(p.Form, func(a, b grantway.Header) int {
		if first := "grant_type"; (a.Name == first) != (b.Name == first) {
			if a.Name == first {
				return -1
			}
			return 1
		}
		return byName(a, b)
	})
	return p, nil
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
