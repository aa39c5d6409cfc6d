package access

import (
	"context"
	"fmt"
	"sync"

	"github.com/grantway/grantway"
)

// holders are people for whom programs act, by id: what the database said when it was read. Any
// change of a person drops it.
type holders struct {
	mu    sync.RWMutex // never held over I/O
	m     map[string]Caller
	drops int
}

func (h *holders) get(id string) (c Caller, ok bool, drops int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	c, ok = h.m[id]
	return c, ok, h.drops
}

// put keeps c, unless what was read may have changed since drops.
func (h *holders) put(id string, c Caller, drops int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.drops != drops {
		return
	}
	for other := range h.m { // any
		if len(h.m) < maxSessions {
			break
		}
		delete(h.m, other)
	}
	if h.m == nil {
		h.m = make(map[string]Caller)
	}
	h.m[id] = c
}

// drop forgets a person, or all when id is "".
func (h *holders) drop(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drops++
	if id == "" {
		h.m = nil
	}
	delete(h.m, id)
}

// Holder returns the person with this id, with the roles of now, for a program that acts for him
// or her. One that was asked for before costs a look into memory. The error is of code
// NotFound when there is no such person, or the person may not sign in.
func (p *People) Holder(ctx context.Context, id string) (Caller, error) {
	c, ok, drops := p.holders.get(id)
	if ok {
		return c, nil
	}
	one, err := readPerson(ctx, p.Store.Read(), id, "")
	if err != nil {
		return Caller{}, fmt.Errorf("person %s: %w", id, err)
	}
	if id == "" || one == nil || one.State != grantway.Active {
		return Caller{}, grantway.Errorf(grantway.NotFound, "there is no such person, or the person may not sign in")
	}
	c = one.caller()
	p.holders.put(id, c, drops)
	return c, nil
}
