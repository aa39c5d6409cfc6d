package issuer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"time"
)

// What tests of the package's front need from behind it.

const (
	Crowd      = crowd
	MaxBuckets = maxBuckets
)

func (i *Issuer) Reload(ctx context.Context, id string) error    { return i.reload(ctx, id) }
func (i *Issuer) RecordUsage(ctx context.Context) error          { return i.recordUsage(ctx) }
func (i *Issuer) Purge(ctx context.Context, now time.Time) error { return i.purge(ctx, now) }

// Rotate does what is due for the signing keys at now.
func (i *Issuer) Rotate(ctx context.Context, now time.Time) error { return i.rotateKeys(ctx, now) }

// ForgetSessions makes the next use of each token verify it.
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

// Forge makes up a token, of a key that does not exist.
func Forge() string { return newSecret(tokenPrefix) }

// ForgeLike makes up a token of the same key as token, and of the same length.
func ForgeLike(token string) string {
	head, random := token[:len(tokenPrefix)+kidLength], ""
	for len(random) < len(token) {
		random += newSecret("")
	}
	return Checked(head + random[:len(token)-len(head)-checkChars])
}

// Checked adds the checksum of a secret or token.
func Checked(text string) string { return string(appendChecksum([]byte(text))) }

// AgeDocuments makes the documents of other servers older than they are.
func (i *Issuer) AgeDocuments(by time.Duration) {
	i.remote.mu.Lock()
	defer i.remote.mu.Unlock()
	for at, d := range i.remote.m {
		d.fetched = d.fetched.Add(-by)
		i.remote.m[at] = d
	}
}

// NonceAt is the nonce of DPoP proofs at a time.
func (i *Issuer) NonceAt(t time.Time) string { return i.nonce(t) }

// SignAs signs claims with the hub's own key for ES256, as if it had issued them.
func (i *Issuer) SignAs(typ string, claims map[string]any) (string, error) {
	key := i.keys.signer("ES256", time.Now())
	header, err := json.Marshal(map[string]string{"alg": key.alg, "kid": key.kid, "typ": typ})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(body)
	signature, err := key.sign([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}
