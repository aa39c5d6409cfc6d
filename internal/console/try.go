package console

import (
	"net/http"

	"github.com/grantway/grantway"
)

// tryPage sends the token request with values that are not stored.
type tryPage struct {
	Frame
	Name     string
	Tabs     []tabLink
	Fields   []*field
	Advanced []*field
	Kept     string
	Wrong    []wrongField
	Result   trial
	Open     bool
}

func (c *Console) newTryPage(r *request) (*tryPage, map[string]*field, error) {
	one, err := c.own(r, "connector.try")
	if err != nil {
		return nil, nil, err
	}
	found, _ := c.Connectors.Find(one.Name, 0)
	if found.Definition == nil {
		return nil, nil, found.Broken
	}
	p := &tryPage{Frame: frame("try", one.Title, integrationsAt, connectorsAt), Name: one.Name, Tabs: c.tabsOf(one.Name, "try")}
	fields := map[string]*field{}
	for _, in := range found.Inputs {
		if in.Locked {
			continue
		}
		f := &field{Input: in, Stores: c.Secrets.Names()}
		if fields[in.Key] = f; asked(in) {
			p.Fields = append(p.Fields, f)
		} else {
			p.Advanced = append(p.Advanced, f)
		}
	}
	return p, fields, nil
}

func (c *Console) tryConnectorPage(r *request) (answer, error) {
	p, _, err := c.newTryPage(r)
	return answer{page: p}, err
}

func (c *Console) tryConnector(r *request) (answer, error) {
	p, fields, err := c.newTryPage(r)
	if err != nil {
		return answer{}, err
	}
	kept, inputs := c.openKept(r), grantway.Inputs{}
	for key, f := range fields {
		if v, given := f.posted(r, grantway.Value{}, kept); given {
			inputs[key] = v
		}
	}
	if p.Kept, err = c.sealKept(r, kept); err != nil || r.restored {
		return answer{page: p}, err
	}
	for key, v := range inputs { // what was not entered is not there
		if v.Empty() {
			delete(inputs, key)
		}
	}
	_, p.Open = advanced(p.Advanced, false)
	p.Result.ConnectorTrial, err = c.Broker.Try(r.Context(), r.who, grantway.ConnectorDraft{Connector: p.Name, Inputs: inputs})
	if wrong := problemsOf(err); wrong != nil {
		p.Wrong = summary(wrong, fields)
		_, p.Open = advanced(p.Advanced, p.Open)
		return answer{page: p, status: http.StatusUnprocessableEntity}, nil
	}
	p.Result.Sent = true
	return answer{page: p}, err
}
