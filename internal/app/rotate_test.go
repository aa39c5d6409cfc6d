package app

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// A rotation that fails half way leaves what it changed and that it failed.
func TestRotateRecorded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		path := filepath.Join(t.TempDir(), "key")
		if err := seal.GenerateKeyFile(path); err != nil {
			t.Fatal(err)
		}
		key, err := seal.ParseKey("file:" + path)
		if err != nil {
			t.Fatal(err)
		}
		sealer, err := seal.Open(t.Context(), s, key)
		if err != nil {
			t.Fatal(err)
		}
		defer sealer.Close()
		audit, broken := access.NewLog(s, slog.New(slog.DiscardHandler)), errors.New("broken")
		fail := func(context.Context, *seal.Sealer) (int, error) { return 0, broken }
		if _, err := rotate(t.Context(), access.Hub(), audit, s, sealer, fail); !errors.Is(err, broken) {
			t.Fatal(err)
		}
		page, err := audit.List(t.Context(), access.Hub(), access.Filter{Action: "key.rotate"}, "", 0)
		if err != nil || len(page.Items) != 2 || page.Items[0].Outcome != access.Failed || page.Items[1].Detail != "data keys changed" {
			t.Errorf("audit trail: %+v, %v", page.Items, err)
		}
	})
}
