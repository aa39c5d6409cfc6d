package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
)

// usage counts what happened to a credential since the process started, and bounds what a
// caller can make the hub do to its provider.
type usage struct {
	reads   atomic.Int64 // tokens handed out
	hits    atomic.Int64 // of these, from memory at once
	fetches [outcomes]atomic.Int64

	mu       sync.Mutex           // guards what follows
	variants map[string]time.Time // what callers asked for beside the credential's own token, and when last
	renewed  time.Time            // when all of renewBurst may be used again
}

// Every scope, audience and resource that a caller makes up is a token request, a row and a
// cache entry. Real callers use a few.
const (
	maxVariants  = 100
	variantPause = time.Hour // after which an unused one no longer counts

	// "Renew now" is for people, and for the moment after something was put right.
	renewBurst    = 20
	renewInterval = 10 * time.Second
)

// admit lets a fetch for variant go on, unless there are too many of them.
func (u *usage) admit(name, variant string, now time.Time) error {
	if variant == "" {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.variants[variant]; !known && len(u.variants) >= maxVariants {
		oldest := now
		for old, used := range u.variants {
			if now.Sub(used) > variantPause {
				delete(u.variants, old)
			} else if used.Before(oldest) {
				oldest = used
			}
		}
		if len(u.variants) >= maxVariants {
			e := grantway.Errorf(grantway.RateLimited, "credential %s: more than %d different scopes, audiences and resources were asked for within an hour", name, maxVariants)
			e.RetryAt = oldest.Add(variantPause)
			return e
		}
	}
	if u.variants == nil {
		u.variants = map[string]time.Time{}
	}
	u.variants[variant] = now
	return nil
}

// renewNow lets a "renew now" go on, unless there were too many of them.
func (u *usage) renewNow(name string, now time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.renewed.Before(now) {
		u.renewed = now
	}
	if free := u.renewed.Add(-(renewBurst - 1) * renewInterval); free.After(now) {
		e := grantway.Errorf(grantway.RateLimited, "credential %s was renewed too often", name)
		e.RetryAt = free
		return e
	}
	u.renewed = u.renewed.Add(renewInterval)
	return nil
}
