package seal

import (
	"context"
	"fmt"

	"github.com/grantway/grantway/internal/store"
)

// InUse says whether st has a keyset already, which only its key-encryption key opens.
func InUse(ctx context.Context, st *store.Store) (used bool, err error) {
	if err := st.Read().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM keyset_wrap)`).Scan(&used); err != nil {
		return false, fmt.Errorf("look for a keyset: %w", err)
	}
	return used, nil
}
