package proxy

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/broker"
)

const (
	maxWait  = 30 * time.Second // longer a request does not wait for its turn
	maxQueue = 1000             // requests that wait for one credential
	maxPause = 10 * time.Minute // longer a 429 is not heeded
)

// lane lets the requests with one credential through, at the pace that its API takes: no more
// than so many in some time, and none while a 429 with Retry-After holds.
//
//	        ┌────────── interval ──────────┐
//	──┬──┬──┴──┬─────────┬─────────┬───────┴─▶ time
//	 burst    next: the turn of the request that comes next
type lane struct {
	http1   atomic.Bool // the API does not speak HTTP/2
	limited atomic.Bool // there was a pace or a pause, so the rest has to be looked at

	mu      sync.Mutex // guards what follows
	next    time.Time
	paused  time.Time // until when; an earlier time is no pause
	waiting int
}

// enter returns when it is the request's turn. The error is of code RateLimited when that is
// too far away, or the context's.
func (l *lane) enter(ctx context.Context, name string, limit broker.Limit) error {
	if limit.Requests == 0 && !l.limited.Load() {
		return nil
	}
	l.limited.Store(true)
	turn, err := l.reserve(name, limit, time.Now())
	if err != nil {
		return err
	}
	if turn.IsZero() {
		return nil
	}
	defer l.leave()
	for {
		timer := time.NewTimer(time.Until(turn))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		l.mu.Lock()
		paused := l.paused
		l.mu.Unlock()
		if !paused.After(time.Now()) {
			return nil
		}
		if turn = paused; time.Until(turn) > maxWait { // paused while this one waited
			return busy(name, turn)
		}
	}
}

// reserve takes a turn: now, which is the zero time, or later, and then the request waits.
func (l *lane) reserve(name string, limit broker.Limit, now time.Time) (turn time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	turn = now
	if l.paused.After(turn) {
		turn = l.paused
	}
	next := l.next
	if limit.Requests > 0 {
		interval := max(limit.Per/time.Duration(limit.Requests), 1)
		burst := max(time.Second-interval, 0) / interval * interval // what belongs to one second may come at once
		if earliest := turn.Add(-burst); next.Before(earliest) {
			next = earliest
		}
		if next.After(turn) {
			turn = next
		}
		next = next.Add(interval)
	}
	if turn.Sub(now) > maxWait || turn.After(now) && l.waiting >= maxQueue {
		return turn, busy(name, turn)
	}
	l.next = next
	if !turn.After(now) {
		return time.Time{}, nil
	}
	l.waiting++
	return turn, nil
}

func (l *lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
}

// pause heeds an answer that is a 429 with Retry-After, and says how long that is.
func (l *lane) pause(resp *http.Response) (wait time.Duration, ok bool) {
	if resp.StatusCode != http.StatusTooManyRequests {
		return 0, false
	}
	now := time.Now()
	until, ok := retryAfter(resp.Header.Get("Retry-After"), now)
	if !ok {
		return 0, false
	}
	if wait = min(until.Sub(now), maxPause); wait <= 0 {
		return 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limited.Store(true)
	if until = now.Add(wait); until.After(l.paused) {
		l.paused = until
	}
	return wait, true
}

// retryAfter reads the value of Retry-After: seconds or a date (RFC 9110 section 10.2.3).
func retryAfter(value string, now time.Time) (time.Time, bool) {
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return now.Add(time.Duration(min(seconds, 1<<30)) * time.Second), true
	}
	date, err := http.ParseTime(value)
	return date, err == nil
}

func busy(name string, turn time.Time) error {
	e := grantway.Errorf(grantway.RateLimited, "credential %s: more requests than its API takes", name)
	e.RetryAt = turn
	return e
}
