package access

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// refusals holds what callers were refused of late. The first refusal of a caller, action and
// object is written at once; those that follow within a minute are counted, and written as
// one row.
type refusals struct {
	mu     sync.Mutex
	recent map[refusalKey]*refusal // guarded by mu
	rows   map[string]int          // how many keys with an object each caller has; guarded by mu
}

type refusalKey struct{ caller, action, object string }

type refusal struct {
	who   Caller
	event grantway.Event
	more  int // not written yet
}

// Beyond these bounds a caller's refusals are counted by action, whatever the object.
const (
	refusalKeys    = 10_000 // in all
	refusalObjects = 100    // of a caller in a minute
)

// refusalDetail tells how many refusals a row stands for.
const refusalDetail = "refused %d more times"

// first notes a refusal and says whether it is to be written at once.
func (r *refusals) first(who Caller, e *grantway.Event) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.recent == nil {
		r.recent, r.rows = make(map[refusalKey]*refusal), make(map[string]int)
	}
	key := refusalKey{who.ID, e.Action, e.Object}
	if known := r.recent[key]; known != nil {
		known.more++
		return false
	}
	if r.rows[who.ID] < refusalObjects && len(r.recent) < refusalKeys {
		r.rows[who.ID]++
		r.recent[key] = &refusal{who: who, event: *e}
		return true
	}
	key.object = "" // clients and actions are few
	known := r.recent[key]
	if known == nil {
		e.Object, e.Division = "", ""
		known = &refusal{who: who, event: *e}
		r.recent[key] = known
	}
	known.more++
	return false
}

// take returns the refusals that are counted and not written, and forgets all.
func (r *refusals) take() []*refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	var counted []*refusal
	for key, one := range r.recent {
		if one.more > 0 {
			counted = append(counted, one)
		}
		delete(r.recent, key)
	}
	clear(r.rows)
	slices.SortFunc(counted, func(a, b *refusal) int {
		return cmp.Or(cmp.Compare(a.who.ID, b.who.ID), cmp.Compare(a.event.Action, b.event.Action), cmp.Compare(a.event.Object, b.event.Object))
	})
	return counted
}

// Denied records, in a transaction of its own, that who was refused e: at once, or, if it was
// refused the same in this minute already, as one of many when the minute ends. It works after the
// caller has gone away. If it cannot be recorded the refusal still stands, so that is
// logged and not returned.
func (l *Log) Denied(ctx context.Context, who Caller, e grantway.Event) {
	e.Outcome = Denied
	if !l.refusals.first(who, &e) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := l.store.Write(ctx, func(tx *store.Tx) error { return l.Record(ctx, tx, who, e) })
	if err != nil {
		l.log.Error("a refusal is missing in the audit trail", "caller", who.ID, "action", e.Action, "object", e.Object, "error", err)
	}
}

// Start begins to write the refusals that repeat, once a minute, until Stop.
func (l *Log) Start() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.done.Go(func() {
		tick := time.NewTicker(time.Minute)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := l.flush(ctx); err != nil {
				l.log.Error("refusals are missing in the audit trail", "error", err)
			}
		}
	})
}

// Stop writes what has been counted and ends the writing.
func (l *Log) Stop(ctx context.Context) error {
	if l.stop != nil {
		l.stop()
		l.done.Wait()
	}
	return l.flush(ctx)
}

// flush writes the refusals that were counted, and begins a new minute.
func (l *Log) flush(ctx context.Context) error {
	counted := l.refusals.take()
	if len(counted) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := l.store.Write(ctx, func(tx *store.Tx) error {
		for _, one := range counted {
			one.event.Detail = fmt.Sprintf(refusalDetail, one.more)
			if err := l.Record(ctx, tx, one.who, one.event); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("audit trail: %d kinds of refusals: %w", len(counted), err)
	}
	return nil
}
