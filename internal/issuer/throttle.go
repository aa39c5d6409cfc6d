package issuer

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// throttle slows down who guesses (RFC 6749 section 2.3.1). It counts failures, by
// address and by address and client id, in buckets that drain with time.
//
// Only failures are refused for it. Correct credentials always pass, whatever the bucket:
// nobody can lock out a client by failing in its name, not even from the client's own
// address, as when both are behind one gateway. That gives nothing away, for secrets are 256
// random bits that the hub has made: no rate of guessing finds one. What the throttle
// saves is the work and the noise. Access tokens have one of their own; good ones pass as well.
type throttle struct {
	mu      sync.Mutex
	buckets map[bucket]time.Time // when each will be empty; guarded by mu
	seed    maphash.Seed
}

// bucket is what failures are counted by. An IPv6 address counts as its /64, which is
// what one host can have.
type bucket struct {
	from   netip.Prefix
	client uint64 // hash of the client id; 0: any client
}

// pace lets through burst failures at once, and then one every interval.
type pace struct {
	burst    int
	interval time.Duration
}

var (
	perAddress = pace{60, time.Second}
	perClient  = pace{10, 6 * time.Second}
)

// maxBuckets bounds the memory of a throttle, to about 10 MiB.
const maxBuckets = 1 << 16

// failed notes a failure in the name of a client. It returns 0, or for how long the address
// should stay away because it has failed too often; then the failure does not count.
func (t *throttle) failed(from netip.Addr, clientID string, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.init()
	address := addressBucket(from)
	client := bucket{address.from, maphash.String(t.seed, clientID) | 1}
	wait = max(t.wait(address, perAddress, now), t.wait(client, perClient, now))
	if wait == 0 {
		t.fill(address, perAddress, now)
		t.fill(client, perClient, now)
	}
	return wait
}

// passed counts a request of a client that has proved who it is. It returns 0, or for how long the
// client should wait because it, or its address, had more than most in a minute; then the request does
// not count. An address may have ten times as many. Nobody else can use up what a client may have.
func (t *throttle) passed(from netip.Addr, clientID string, most int, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.init()
	address, client := addressBucket(from), bucket{client: maphash.String(t.seed, clientID) | 1}
	forClient := pace{most, time.Minute / time.Duration(most)}
	forAddress := pace{10 * most, forClient.interval / 10}
	wait = max(t.wait(address, forAddress, now), t.wait(client, forClient, now))
	if wait == 0 {
		t.fill(address, forAddress, now)
		t.fill(client, forClient, now)
	}
	return wait
}

// missed notes a failure in nobody's name, such as a token that was made up. It returns 0, or for how long
// the address should stay away because it has failed too often; then the failure does not count.
func (t *throttle) missed(from netip.Addr, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.init()
	address := addressBucket(from)
	if wait = t.wait(address, perAddress, now); wait == 0 {
		t.fill(address, perAddress, now)
	}
	return wait
}

func (t *throttle) init() {
	if t.buckets == nil {
		t.buckets, t.seed = make(map[bucket]time.Time), maphash.MakeSeed()
	}
}

func addressBucket(from netip.Addr) bucket {
	bits := 32
	if from = from.Unmap().WithZone(""); from.Is6() {
		bits = 64
	}
	prefix, _ := from.Prefix(bits) // no address has an empty prefix, and a bucket for all
	return bucket{prefix, 0}
}

// wait is how long it takes until b has room for one more.
func (t *throttle) wait(b bucket, p pace, now time.Time) time.Duration {
	room := t.buckets[b].Add(-time.Duration(p.burst-1) * p.interval)
	return max(room.Sub(now), 0)
}

func (t *throttle) fill(b bucket, p pace, now time.Time) {
	empty := t.buckets[b]
	if empty.Before(now) {
		empty = now
	}
	if len(t.buckets) >= maxBuckets {
		t.makeRoom(now)
	}
	t.buckets[b] = empty.Add(p.interval)
}

// makeRoom drops the buckets that are empty, and if these are few, any.
func (t *throttle) makeRoom(now time.Time) {
	for b, empty := range t.buckets {
		if !empty.After(now) {
			delete(t.buckets, b)
		}
	}
	for b := range t.buckets {
		if len(t.buckets) <= maxBuckets*7/8 {
			return
		}
		delete(t.buckets, b)
	}
}
