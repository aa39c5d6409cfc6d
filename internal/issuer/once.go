package issuer

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
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

// errUsed means that it was used before.
var errUsed = errors.New("was used before")

func newOnce(s *store.Store) once {
	insert := make([]string, manyRows+1)
	for n := 1; n <= manyRows; n++ {
		insert[n] = insertUses(n)
	}
	return once{newBatch(s, func(ctx context.Context, tx *store.Tx, rows []*waiting[single]) error {
		for some := range slices.Chunk(rows, manyRows) {
			args := make([]any, 0, len(some)*2)
			for _, w := range some {
				args = append(args, w.row.hash, w.row.expiresAt)
			}
			first := make(map[string]bool, len(some))
			err := store.Each(ctx, tx, func(row *sql.Rows) error {
				var hash string
				err := row.Scan(&hash)
				first[hash] = true
				return err
			}, insert[len(some)], args...)
			if err != nil {
				return err
			}
			for _, w := range some {
				w.refused = errUsed
				if first[w.row.hash] {
					w.refused = nil
					delete(first, w.row.hash) // the same twice in one batch: one was first
				}
			}
		}
		return nil
	})}
}

func insertUses(n int) string {
	var rows strings.Builder
	for p := 1; p <= n*2; p += 2 {
		if p > 1 {
			rows.WriteString(", ")
		}
		fmt.Fprintf(&rows, "($%d, $%d)", p, p+1)
	}
	return `INSERT INTO used_once (hash, expires_at) VALUES ` + rows.String() + ` ON CONFLICT DO NOTHING RETURNING hash`
}

// use notes that what the parts name is used now, and remembers it until expires. It returns
// errUsed when it was used before, here or on another replica.
func (o once) use(ctx context.Context, expires time.Time, parts ...string) error {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return o.add(ctx, single{base64.RawURLEncoding.EncodeToString(sum[:]), expires.UnixMilli()})
}
