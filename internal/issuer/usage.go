package issuer

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	secret string // id, if it used one
	by     string // what else it proved itself with
	failed bool
}

type use struct {
	count int64
	last  int64 // Unix milliseconds
}

func (u *usage) issued(n issuance, at time.Time) {
	u.add(useKey{client: n.client.ID, secret: n.secret, by: n.by}, use{1, at.UnixMilli()})
}

func (u *usage) refused(client string, at time.Time) {
	u.add(useKey{client: client, failed: true}, use{1, at.UnixMilli()})
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
	if err := i.recordCalls(ctx, time.Now()); err != nil {
		for k, n := range uses {
			i.usage.add(k, n)
		}
		return err
	}
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
	hour := usedHour{tokens: n.count, last: n.last, at: n.last}
	switch {
	case k.failed:
		event.Outcome = access.Failed
		event.Detail = fmt.Sprintf("wrong secret or method, %d times", n.count)
		hour = usedHour{failures: n.count, at: n.last}
	case k.secret != "":
		event.Detail = fmt.Sprintf("%d by secret %s", n.count, k.secret)
	default:
		event.Detail = fmt.Sprintf("%d by %s", n.count, k.by)
	}
	if err := i.Audit.Record(ctx, tx, who, event); err != nil {
		return err
	}
	if err := addHour(ctx, tx, k.client, hour); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE client_secret SET last_used = $1 WHERE id = $2 AND last_used < $1`, n.last, k.secret)
	return err
}

// usedHour is what a client did in an hour. Times are in Unix milliseconds.
type usedHour struct{ tokens, calls, failures, last, at int64 }

func hourOf(ms int64) int64 { return ms / time.Hour.Milliseconds() }

// addHour adds to the row of the hour, unless the client is gone.
func addHour(ctx context.Context, tx *store.Tx, client string, h usedHour) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO client_use (client_id, hour, tokens, calls, failures, last)
		SELECT id, CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS BIGINT) FROM client WHERE id = $1
		ON CONFLICT (client_id, hour) DO UPDATE SET tokens = client_use.tokens + excluded.tokens, calls = client_use.calls + excluded.calls,
			failures = client_use.failures + excluded.failures,
			last = CASE WHEN excluded.last > client_use.last THEN excluded.last ELSE client_use.last END`,
		client, hourOf(h.at), h.tokens, h.calls, h.failures, h.last)
	return err
}

// recordCalls writes down the calls that were counted since the last time.
func (i *Issuer) recordCalls(ctx context.Context, now time.Time) error {
	calls := map[*entry]int64{}
	i.clients.all(func(e *entry, _ *client) {
		if n := e.calls.Swap(0); n > 0 {
			calls[e] = n
		}
	})
	if len(calls) == 0 {
		return nil
	}
	err := i.Store.Write(ctx, func(tx *store.Tx) error {
		for e, n := range calls {
			if err := addHour(ctx, tx, e.state.Load().ID, usedHour{calls: n, last: now.UnixMilli(), at: now.UnixMilli()}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for e, n := range calls {
			e.calls.Add(n)
		}
		return fmt.Errorf("calls of clients: %w", err)
	}
	return nil
}

// keepUse is how long hours of use are kept.
const keepUse = 400 * 24 * time.Hour

// Usage says, by name, what each client that who may see has done since then, and when it was
// last used at all. unused leaves out all that did something. The current minute may
// be missing. Errors are of code Forbidden.
func (i *Issuer) Usage(ctx context.Context, who access.Caller, since time.Time, unused bool) ([]grantway.ClientUsage, error) {
	if err := i.Audit.RequireSomewhere(ctx, who, access.ReadClient, grantway.Event{Action: "client.usage"}); err != nil {
		return nil, err
	}
	byID := map[string]*grantway.ClientUsage{}
	i.clients.all(func(_ *entry, c *client) {
		if c.DeletedAt.IsZero() && visible(who, c.Roles) {
			byID[c.ID] = &grantway.ClientUsage{Client: c.ID, Name: c.Name, State: c.State, CreatedAt: c.CreatedAt}
		}
	})
	err := store.Each(ctx, i.Store.Read(), func(rows *sql.Rows) error {
		var id string
		var last int64
		var u grantway.ClientUsage
		if err := rows.Scan(&id, &last, &u.Tokens, &u.Calls, &u.Failures); err != nil {
			return err
		}
		if one := byID[id]; one != nil {
			one.LastUsed, one.Tokens, one.Calls, one.Failures = timeOf(last), u.Tokens, u.Calls, u.Failures
		}
		return nil
	}, `SELECT client_id, max(last), sum(CASE WHEN hour >= $1 THEN tokens ELSE 0 END), sum(CASE WHEN hour >= $1 THEN calls ELSE 0 END),
			sum(CASE WHEN hour >= $1 THEN failures ELSE 0 END)
		FROM client_use GROUP BY client_id`, hourOf(since.UnixMilli()))
	if err != nil {
		return nil, fmt.Errorf("use of clients: %w", err)
	}
	all := []grantway.ClientUsage{}
	for _, u := range byID {
		if !unused || u.LastUsed.Before(since) && u.Tokens+u.Calls == 0 {
			all = append(all, *u)
		}
	}
	slices.SortFunc(all, func(a, b grantway.ClientUsage) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return all, nil
}
