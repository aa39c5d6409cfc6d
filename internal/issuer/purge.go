package issuer

import (
	"context"
	"fmt"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// purge deletes what has expired.
func (i *Issuer) purge(ctx context.Context, now time.Time) error {
	for _, table := range []string{"used_once", "revoked_token", "authorization_code", "refresh_token"} {
		if err := i.Store.DeleteExpired(ctx, table, now); err != nil {
			return err
		}
	}
	if err := i.purgeClients(ctx, now); err != nil {
		return err
	}
	return i.Store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM client_use WHERE hour < $1`, hourOf(now.Add(-keepUse).UnixMilli()))
		return err
	})
}

// purgeClients deletes for good the clients that nobody has restored in time.
func (i *Issuer) purgeClients(ctx context.Context, now time.Time) error {
	var ended []string
	i.clients.all(func(_ *entry, c *client) {
		if !c.DeletedAt.IsZero() && c.RestorableUntil.Before(now) {
			ended = append(ended, c.ID)
		}
	})
	for _, id := range ended {
		err := i.Store.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM client WHERE id = $1 AND deleted_at BETWEEN 1 AND $2`, id, now.Add(-keepDeleted).UnixMilli())
			tx.Changed(topicClient, id)
			return err
		})
		if err == nil {
			err = i.reload(ctx, id)
		}
		if err != nil {
			return fmt.Errorf("client %s: %w", id, err)
		}
	}
	return nil
}
