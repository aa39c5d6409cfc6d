package connector

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/grantway/grantway"
)

// Masked stands in previews for what is secret.
const Masked = masked

// Preview is a token request as it goes out, with everything secret masked.
type Preview = grantway.RequestPreview

// secret parts of an OAuth 2.0 token request: what authenticates the client, or is a token itself.
var (
	secretHeaders = []string{"Authorization", "Dpop"}
	secretFields  = []string{"client_secret", "client_assertion", "assertion", "password", "refresh_token", "code", "subject_token", "actor_token"}
)

// Preview shows the token requests. Plain inputs are shown: whoever reads the credential
// sees them anyway. What an earlier request has yet to tell is masked too. It is empty for a
// definition that asks for no token.
func (p *Plan) Preview(ctx context.Context) ([]Preview, error) {
	var list []Preview
	s := p.scope()
	s.mask = true
	s = s.inner()
	for i := range p.def.steps {
		st := &p.def.steps[i]
		var one Preview
		var err error
		if st.oauth2 != nil {
			one, err = p.previewOAuth2(ctx, st, s)
		} else {
			one, err = st.request.preview(s)
		}
		if err != nil {
			return nil, fmt.Errorf("the token request cannot be made: %w", err)
		}
		one.Step = st.name
		list = append(list, one)
		for _, e := range st.extract {
			s.set(e.name, masked, true)
		}
	}
	return list, nil
}

func (r *request) preview(s *scope) (Preview, error) {
	m, _, err := r.message(s)
	if err != nil {
		return Preview{}, err
	}
	shown := strings.NewReplacer(url.QueryEscape(masked), masked)
	out := Preview{Method: m.method, URL: shown.Replace(m.url), Body: shown.Replace(string(m.body))}
	for name, values := range m.header {
		for _, value := range values {
			out.Headers = append(out.Headers, grantway.Header{Name: name, Value: value})
		}
	}
	if g := r.sign; g != nil {
		req := &http.Request{Header: http.Header{}}
		if err := g.sign(req, nil, s); err != nil {
			return out, err
		}
		for name, values := range req.Header {
			out.Headers = append(out.Headers, grantway.Header{Name: name, Value: values[0]})
		}
	}
	slices.SortStableFunc(out.Headers, byName)
	return out, nil
}

func byName(a, b grantway.Header) int { return strings.Compare(a.Name, b.Name) }

func (p *Plan) previewOAuth2(ctx context.Context, st *step, s *scope) (Preview, error) {
	open := p.scope().inner()
	for name, value := range s.values { // what earlier steps extract
		open.set(name, value, true)
	}
	request, err := p.grantRequest(st.oauth2, open)
	if err != nil {
		return Preview{}, err
	}
	out, err := request.Build(ctx)
	if err != nil {
		return Preview{}, err
	}
	body, err := io.ReadAll(out.Body)
	if err != nil {
		return Preview{}, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return Preview{}, err
	}
	hidden := map[string]bool{}
	for _, list := range [][]pair{st.oauth2.form, st.oauth2.headers, st.oauth2.query} {
		for _, one := range list {
			if one.value.secret(open) {
				hidden[strings.ToLower(one.name)] = true
			}
		}
	}
	preview := Preview{Method: out.Method, URL: out.URL.String()}
	for name, values := range out.Header {
		for _, value := range values {
			if slices.Contains(secretHeaders, name) || hidden[strings.ToLower(name)] {
				scheme, _, two := strings.Cut(value, " ")
				if value = masked; two {
					value = scheme + " " + masked
				}
			}
			preview.Headers = append(preview.Headers, grantway.Header{Name: name, Value: value})
		}
	}
	for name, values := range form {
		for _, value := range values {
			if slices.Contains(secretFields, name) || hidden[strings.ToLower(name)] {
				value = masked
			}
			preview.Form = append(preview.Form, grantway.Header{Name: name, Value: value})
		}
	}
	slices.SortStableFunc(preview.Headers, byName)
	slices.SortStableFunc(preview.Form, func(a, b grantway.Header) int {
		if first := "grant_type"; (a.Name == first) != (b.Name == first) {
			if a.Name == first {
				return -1
			}
			return 1
		}
		return byName(a, b)
	})
	return preview, nil
}
