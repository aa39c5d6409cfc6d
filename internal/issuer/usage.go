package issuer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/store"
)

// usage collects who got tokens, by which secret, and who was refused. Once a minute it
// goes into the audit trail, a row for each, and into the time a secret was last used: a
// row for each request would let programs, and strangers, fill the database.
type usage struct {
	mu   sync.Mutex
	uses map[useKey]use // guarded by mu
}

type useKey struct {
	client string
	secret string // id; "" : refused
}

type use struct {
	count int64
	last  int64 // Unix milliseconds
}

func (u *usage) issued(client, secret string, at time.Time) {
	u.add(useKey{client, secret}, use{1, at.UnixMilli()})
}

func (u *usage) refused(client string, at time.Time) {
	u.add(useKey{client, ""}, use{1, at.UnixMilli()})
}

func (u *usage) add(k useKey, more use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.uses == nil {
		u.uses = make(map[useKey]use)
	}
	old := u.uses[k]
	u.uses[k] = use{old.count + more.count, max(old.last, more.last)}
}

// recordUsage writes down what usage holds. What cannot be written waits for the next time.
func (i *Issuer) recordUsage(ctx context.Context) error {
	i.usage.mu.Lock()
	uses := i.usage.uses
	i.usage.uses = nil
	i.usage.mu.Unlock()
	for chunk := range slices.Chunk(slices.Collect(maps.Keys(uses)), 500) { // others get their turn
		err := i.Store.Write(ctx, func(tx *store.Tx) error {
			for _, k := range chunk {
				if err := i.recordUse(ctx, tx, k, uses[k]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			for k, n := range uses {
				i.usage.add(k, n)
			}
			return fmt.Errorf("use of clients: %w", err)
		}
		for _, k := range chunk {
			delete(uses, k)
		}
	}
	return nil
}

func (i *Issuer) recordUse(ctx context.Context, tx *store.Tx, k useKey, n use) error {
	e := i.clients.entry(k.client)
	if e == nil {
		return nil
	}
	c := e.state.Load()
	who := access.Caller{ID: k.client, Name: c.Name, Kind: access.Client}
	event := grantway.Event{Action: "token.issue", Object: "client/" + c.Name}
	if k.secret == "" {
		event.Outcome = access.Failed
		event.Detail = fmt.Sprintf("wrong secret or method, %d times", n.count)
		return i.Audit.Record(ctx, tx, who, event)
	}
	event.Detail = fmt.Sprintf("%d by secret %s", n.count, k.secret)
	if err := i.Audit.Record(ctx, tx, who, event); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE client_secret SET last_used = $1 WHERE id = $2 AND last_used < $1`, n.last, k.secret)
	return err
}
