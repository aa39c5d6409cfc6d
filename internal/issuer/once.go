package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// once knows what may be used a single time, and has been: the jti of assertions and of DPoP
// proofs. The database is the one memory of all replicas. Nothing is looked up: whoever
// gets a row in was first.
type once struct{ *batch[single] }

// single is a row of used_once.
type single struct {
	hash      string
	expiresAt int64 // Unix milliseconds
}

func (s single) key() string    { return s.hash }
func (s single) columns() []any { return []any{s.hash, s.expiresAt} }

// errUsed means that it was used before.
var errUsed = errors.New("was used before")

func newOnce(ctx context.Context, s *store.Store) (once, error) {
	b, err := newBatch[single](ctx, s, errUsed, func(values string) string {
		return `INSERT INTO used_once (hash, expires_at) VALUES ` + values + ` ON CONFLICT DO NOTHING RETURNING hash`
	})
	return once{b}, err
}

// use notes that what the parts name is used now, and remembers it until expires. It returns
// errUsed when it was used before, here or on another replica.
func (o once) use(ctx context.Context, expires time.Time, parts ...string) error {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return o.add(ctx, single{base64.RawURLEncoding.EncodeToString(sum[:]), expires.UnixMilli()})
}
