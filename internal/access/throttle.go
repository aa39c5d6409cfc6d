package access

import (
	"net/netip"
	"sync"
	"time"
)

// throttle slows down who guesses passwords. Failures are counted
//
//	without a device cookie   by address, and by address and account
//	with a device cookie      by device
//
// and never by account alone: who fails in somebody's name locks out nobody but himself, and
// those behind the same address who have not signed in to this account with their browser
// before. A device cookie is given at each sign-in with a password and is good for one
// account, so a person goes on working whatever happens in its name, from its own
// office too.
//
// After some failures each one more doubles the wait. A count goes down with time. Every
// replica counts for itself, so that n of them let through n times as much; with passwords
// of 12 characters that is still nothing.
type throttle struct {
	mu     sync.Mutex
	counts map[throttleKey]throttleCount // guarded by mu
}

// throttleKey is what failures are counted by. An IPv6 address counts as its /64, which is
// what one host can have.
type throttleKey struct {
	from    netip.Prefix
	account string // lower-case email; "": any
	device  string // nonce of a valid device cookie
}

type throttleCount struct {
	failures int
	last     time.Time
}

// pace lets through free failures, and then makes the next try wait for 1, 2, 4, … seconds,
// up to most. One failure is forgotten every forget.
type pace struct {
	free         int
	most, forget time.Duration
}

var (
	perAccount = pace{5, 15 * time.Minute, 5 * time.Minute} // or device
	perAddress = pace{50, time.Minute, 10 * time.Second}
)

// maxThrottleCounts bounds the memory of a throttle, to about 10 MiB.
const maxThrottleCounts = 1 << 16

func (k throttleKey) pace() pace {
	if k.account == "" && k.device == "" {
		return perAddress
	}
	return perAccount
}

// throttleKeys says what a try counts by. A device cookie, if there is one, has been verified.
func throttleKeys(from netip.Addr, account, device string) []throttleKey {
	if device != "" {
		return []throttleKey{{account: account, device: device}}
	}
	p := prefixOf(from)
	return []throttleKey{{from: p}, {from: p, account: account}}
}

func prefixOf(from netip.Addr) netip.Prefix {
	bits := 32
	if from = from.Unmap().WithZone(""); from.Is6() {
		bits = 64
	}
	prefix, _ := from.Prefix(bits) // no address has an empty prefix, and one count for all
	return prefix
}

// begin counts a try as failed before its outcome is known, so that many at once count too.
// It returns 0, or for how long to stay away; then nothing was counted.
func (t *throttle) begin(keys []throttleKey, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		wait = max(wait, t.wait(k, now))
	}
	if wait > 0 {
		return wait
	}
	if t.counts == nil {
		t.counts = make(map[throttleKey]throttleCount)
	}
	for _, k := range keys {
		n := t.failures(k, now)
		if len(t.counts) >= maxThrottleCounts {
			t.makeRoom(now)
		}
		t.counts[k] = throttleCount{n + 1, now}
	}
	return 0
}

// forgive takes back what begin counted, after a success. What others failed before stays.
func (t *throttle) forgive(keys []throttleKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		c, ok := t.counts[k]
		if c.failures--; c.failures > 0 {
			t.counts[k] = c
		} else if ok {
			delete(t.counts, k)
		}
	}
}

func (t *throttle) failures(k throttleKey, now time.Time) int {
	c := t.counts[k]
	return max(c.failures-int(now.Sub(c.last)/k.pace().forget), 0)
}

func (t *throttle) wait(k throttleKey, now time.Time) time.Duration {
	p, c := k.pace(), t.counts[k]
	beyond := t.failures(k, now) - p.free
	if beyond < 0 {
		return 0
	}
	delay := p.most
	if beyond < 20 {
		delay = min(time.Second<<beyond, p.most)
	}
	return max(c.last.Add(delay).Sub(now), 0)
}

// makeRoom drops the counts that are down to nothing, and if these are few, any.
func (t *throttle) makeRoom(now time.Time) {
	for k := range t.counts {
		if t.failures(k, now) == 0 {
			delete(t.counts, k)
		}
	}
	for k := range t.counts {
		if len(t.counts) <= maxThrottleCounts*7/8 {
			return
		}
		delete(t.counts, k)
	}
}
