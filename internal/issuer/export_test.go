package issuer

import (
	"context"
	"net/netip"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// What tests of the package's front need from behind it.

const (
	Crowd      = crowd
	MaxBuckets = maxBuckets
)

func (i *Issuer) Reload(ctx context.Context, id string) error    { return i.reload(ctx, id) }
func (i *Issuer) RecordUsage(ctx context.Context) error          { return i.recordUsage(ctx) }
func (i *Issuer) Purge(ctx context.Context, now time.Time) error { return i.tokens.purge(ctx, now) }
func (i *Issuer) CountTokens(ctx context.Context, now time.Time) error {
	return i.countTokens(ctx, now)
}

// AddSecret gives a client one more secret.
func (i *Issuer) AddSecret(ctx context.Context, clientID string) (id, secret string, err error) {
	err = i.Store.Write(ctx, func(tx *store.Tx) error {
		id, secret, err = i.addSecret(ctx, tx, clientID)
		return err
	})
	return id, secret, err
}

// ForgetSessions makes the next use of each token read the database.
func (i *Issuer) ForgetSessions() { i.sessions.init() }

// Throttle counts n failures, each from another address, and returns how many buckets there are.
func Throttle(n int) int {
	var t throttle
	now := time.Now()
	for k := range n {
		t.failed(netip.AddrFrom4([4]byte{10, byte(k >> 16), byte(k >> 8), byte(k)}), "client", now)
	}
	return len(t.buckets)
}

// Forge makes up a well-formed token.
func Forge() string { return newSecret(tokenPrefix) }
