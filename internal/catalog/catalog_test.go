package catalog_test

import (
	"testing"

	"github.com/grantway/grantway/connector"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/catalog"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// TestUntouchedDefinitionsStay: a save of one connector, here or on another replica, leaves the definitions of others
// as they are, so that a credential which was checked against one can be saved; those that extend it change.
func TestUntouchedDefinitionsStay(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		open := func() *catalog.Connectors {
			c, err := catalog.New(t.Context(), catalog.Options{Store: s, Audit: access.NewLog(s, nil)})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		here := open()
		save := func(c *catalog.Connectors, text string) {
			t.Helper()
			if _, err := c.Create(t.Context(), access.Hub(), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		save(here, "{name: acme, title: Acme, extends: oauth2}")
		save(here, "{name: acme-eu, title: Acme in Europe, extends: acme}")
		find := func(name string) *connector.Definition {
			t.Helper()
			f, ok := here.Find(name, 0)
			if !ok || f.Definition == nil {
				t.Fatal(name, ok, f.Broken)
			}
			return f.Definition
		}
		acme, europe, plain := find("acme"), find("acme-eu"), find("oauth2-client-credentials")

		save(here, "{name: other, title: Other, extends: acme}")
		if find("acme") != acme || find("acme-eu") != europe || find("oauth2-client-credentials") != plain {
			t.Error("another connector was saved, and definitions are other ones now")
		}
		if _, err := here.Save(t.Context(), access.Hub(), "acme", []byte("{name: acme, title: Acme 2, extends: oauth2}"), 0, false); err != nil {
			t.Fatal(err)
		}
		if find("acme") == acme || find("acme-eu") == europe {
			t.Error("a connector was saved, and it or what extends it is still the one before")
		}
	})
}
