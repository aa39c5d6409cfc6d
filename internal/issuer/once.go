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
//
// A row is durable when use returns. To make that cheap, all rows that wait are written in one transaction.
type once struct {
	store   *store.Store
	waiting chan *single
}

// single is a row of used_once that waits to be written.
type single struct {
	hash      string
	expiresAt int64      // Unix milliseconds
	done      chan error // buffered
}

// maxBatch bounds how many rows are written in one transaction, manyRows how many by one statement:
// with PostgreSQL each is a round trip.
const (
	maxBatch = 256
	manyRows = 32
)

// errUsed means that it was used before.
var errUsed = errors.New("was used before")

func newOnce(s *store.Store) once { return once{s, make(chan *single, maxBatch)} }

// use notes that what the parts name is used now, and remembers it until expires. It returns
// errUsed when it was used before, here or on another replica.
func (o *once) use(ctx context.Context, expires time.Time, parts ...string) error {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	row := &single{base64.RawURLEncoding.EncodeToString(sum[:]), expires.UnixMilli(), make(chan error, 1)}
	select {
	case o.waiting <- row:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-row.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes rows until ctx ends.
func (o *once) run(ctx context.Context) {
	for {
		var rows []*single
		select {
		case <-ctx.Done():
			return
		case row := <-o.waiting:
			rows = append(rows, row)
		}
	gather:
		for len(rows) < maxBatch {
			select {
			case row := <-o.waiting:
				rows = append(rows, row)
			default:
				break gather
			}
		}
		o.write(ctx, rows)
	}
}

// write writes rows in one transaction, and tells those who wait.
func (o *once) write(ctx context.Context, rows []*single) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var first map[string]bool
	err := o.store.Write(ctx, func(tx *store.Tx) error {
		first = make(map[string]bool, len(rows))
		for some := range slices.Chunk(rows, manyRows) {
			if err := insertUses(ctx, tx, some, first); err != nil {
				return err
			}
		}
		return nil
	})
	for _, row := range rows {
		answer := err
		if err == nil && !first[row.hash] {
			answer = errUsed
		}
		delete(first, row.hash) // the same twice in one batch: one was first
		row.done <- answer
	}
}

// insertUses inserts rows, and notes which were the first of theirs.
func insertUses(ctx context.Context, tx *store.Tx, some []*single, first map[string]bool) error {
	var rows []string
	var args []any
	for n, row := range some {
		rows = append(rows, fmt.Sprintf("($%d, $%d)", 2*n+1, 2*n+2))
		args = append(args, row.hash, row.expiresAt)
	}
	return store.Each(ctx, tx, func(row *sql.Rows) error {
		var hash string
		err := row.Scan(&hash)
		first[hash] = true
		return err
	}, `INSERT INTO used_once (hash, expires_at) VALUES `+strings.Join(rows, ", ")+` ON CONFLICT DO NOTHING RETURNING hash`, args...)
}
