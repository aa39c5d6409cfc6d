package tokencache

import (
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/grantway/grantway/grant"
)

// Error says that there is no token, why, and when another try will be made. It is shared
// by all who get it and must not be changed.
type Error struct {
	// Err is the last failure, as Options.Fetch returned it: as a rule a *grant.Error.
	// errors.Is and errors.As reach it.
	Err error

	// NextTry is the time before which the cache makes no further request for this key,
	// unless Drop or Put ends the back-off.
	NextTry time.Time
}

// Error implements error: the cause, then the time of the next try.
func (e *Error) Error() string {
	return e.Err.Error() + "; next try at " + e.NextTry.UTC().Format(time.RFC3339)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fail notes that a fetch failed and sets the time of the next try.
func (e *entry[K]) fail(err error, now time.Time) {
	permanent, retryAt := classify(err)
	if e.failure != nil {
		if before, _ := classify(e.failure.Err); before != permanent {
			e.failures = 0
		}
	}
	o := &e.c.o
	var bound, delay time.Duration
	if permanent {
		bound = o.Permanent.bound(e.failures)
		delay = bound
	} else {
		bound = o.Temporary.bound(e.failures)
		delay = max(rand.N(bound)+1, min(retryAt.Sub(now), o.MaxRetryAfter))
	}
	e.failures++
	e.failure = &Error{Err: err, NextTry: now.Add(delay)}
	// A caller who is back within another delay finds the count where it was, so the delays
	// go on growing.
	e.rememberUntil(now.Add(delay + bound))
}

// classify reads what a back-off depends on from an error.
func classify(err error) (permanent bool, retryAt time.Time) {
	var g *grant.Error
	if !errors.As(err, &g) {
		return false, time.Time{}
	}
	return g.Class == grant.Permanent, g.RetryAt
}

// bound is the longest delay after n earlier failures.
func (b Backoff) bound(n int) time.Duration {
	return time.Duration(min(math.Ldexp(float64(b.First), n), float64(b.Max)))
}
