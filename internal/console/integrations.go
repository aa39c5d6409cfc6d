package console

import (
	"slices"
	"strings"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
)

// integrationsPage is the gallery: all that an instance can be made of.
type integrationsPage struct {
	Frame
	Search, Category string
	Categories       []Choice
	Own              []grantway.Connector
	Ready            []grantway.Connector
	All              int // of the ready-made ones
	MayAdd, MayBuild bool
}

// everything is more than there are connectors in a hub.
const everything = 10_000

func (c *Console) integrations(r *request) (answer, error) {
	p := &integrationsPage{Frame: frame("integrations", "Integrations"), Search: r.FormValue("q"), Category: r.FormValue("category")}
	held := r.who.Anywhere()
	p.MayAdd, p.MayBuild = held.Has(access.WriteCredential), r.who.May(access.WriteConnector, access.Everywhere)
	all, err := c.Connectors.List(r.Context(), r.who, grantway.ConnectorQuery{}, "", everything)
	if err != nil {
		return answer{}, err
	}
	counts := map[string]bool{}
	for _, one := range all.Items {
		if ready(one) {
			p.All++
			for _, category := range one.Categories {
				counts[category] = true
			}
		}
	}
	found, err := c.Connectors.List(r.Context(), r.who, grantway.ConnectorQuery{Search: p.Search, Category: p.Category}, "", everything)
	if err != nil {
		return answer{}, err
	}
	for _, one := range found.Items {
		switch {
		case ready(one):
			p.Ready = append(p.Ready, one)
		case one.Source == grantway.OwnConnector && !one.Abstract && !one.Broken:
			p.Own = append(p.Own, one)
		}
	}
	byTitle := func(a, b grantway.Connector) int {
		return strings.Compare(strings.ToLower(a.Title), strings.ToLower(b.Title))
	}
	slices.SortFunc(p.Own, byTitle)
	slices.SortFunc(p.Ready, byTitle)
	for category := range counts {
		p.Categories = append(p.Categories, Choice{category, categoryTitle(category), category == p.Category})
	}
	slices.SortFunc(p.Categories, func(a, b Choice) int { return strings.Compare(a.Title, b.Title) })
	a := answer{page: p}
	if r.htmx {
		a.part = "gallery"
	}
	return a, nil
}

// ready tells whether one comes with the hub for a certain vendor.
func ready(one grantway.Connector) bool {
	return one.Source == grantway.CatalogConnector && !one.Abstract && one.Name != grantway.PlainConnector
}

// categoryTitle is a category, such as contact-center, as people read it.
func categoryTitle(category string) string {
	switch category {
	case "crm", "erp", "hr", "it", "itsm", "iot", "ai", "pos":
		return strings.ToUpper(category)
	}
	return strings.TrimSuffix(sentence(strings.ReplaceAll(category, "-", " ")), ".")
}
