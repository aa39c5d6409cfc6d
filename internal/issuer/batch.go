package issuer

import (
	"context"
	"database/sql"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// batch inserts rows of many requests into a table. A row is durable when add returns; to make that
// cheap, all rows that wait are written in one transaction.
type batch[T row] struct {
	store   *store.Store
	waiting chan *waiting[T]
	insert  [statements]*sql.Stmt // of 1, 2, 4 … rows; returns the keys of those that it took
	refusal error                 // of a row that it did not take
}

// row is what a batch writes.
type row interface {
	key() string
	columns() []any // strings and int64s, always of the same types
}

type waiting[T row] struct {
	row  T
	done chan error // buffered
}

// maxBatch bounds how many rows are written in one transaction, the largest statement takes 16 of
// them: with PostgreSQL each is a round trip. patience bounds how long a row waits for others.
const (
	maxBatch   = 256
	statements = 5
	patience   = 2 * time.Millisecond
)

// newBatch returns a batch whose rows insert takes: SQL around a list of VALUES with the columns of a
// row, that returns the keys of the rows it inserted.
func newBatch[T row](ctx context.Context, s *store.Store, refusal error, insert func(values string) string) (*batch[T], error) {
	b := &batch[T]{store: s, waiting: make(chan *waiting[T], maxBatch), refusal: refusal}
	var one T
	for n := range b.insert {
		var err error
		if b.insert[n], err = s.Prepare(ctx, insert(values(one.columns(), 1<<n))); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// values is the list of n rows of parameters with the types of these columns.
func values(columns []any, n int) string {
	var list strings.Builder
	for p := range n * len(columns) {
		c := p % len(columns)
		switch {
		case p == 0:
			list.WriteString("(")
		case c == 0:
			list.WriteString("), (")
		default:
			list.WriteString(", ")
		}
		kind := "TEXT"
		if _, ok := columns[c].(int64); ok {
			kind = "BIGINT"
		}
		fmt.Fprintf(&list, "CAST($%d AS %s)", p+1, kind)
	}
	return list.String() + ")"
}

// add writes one row, and returns when it is durable.
func (b *batch[T]) add(ctx context.Context, row T) error {
	w := &waiting[T]{row: row, done: make(chan error, 1)}
	select {
	case b.waiting <- w:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run writes rows until ctx ends.
//
// A transaction costs as much as dozens of rows. So when many requests come at once, it waits until most of those that
// were there last time are there again: while one batch is written, the next gathers.
func (b *batch[T]) run(ctx context.Context) {
	var crowd int // rows that were written or waited when the last write ended
	var took time.Duration
	for {
		rows := b.gather(ctx, crowd*3/4, min(took, patience))
		if len(rows) == 0 {
			return
		}
		began := time.Now()
		b.flush(ctx, rows)
		crowd, took = len(rows)+len(b.waiting), time.Since(began)
	}
}

// gather takes what waits, at least one row unless ctx ends. Once it has one it waits until there are
// enough, but not for longer than patience.
func (b *batch[T]) gather(ctx context.Context, enough int, patience time.Duration) (rows []*waiting[T]) {
	var over <-chan time.Time
	for len(rows) < maxBatch {
		if len(rows) >= max(enough, 1) {
			select {
			case w := <-b.waiting:
				rows = append(rows, w)
				continue
			default:
				return rows
			}
		}
		select {
		case w := <-b.waiting:
			rows = append(rows, w)
			if over == nil && enough > 1 {
				over = time.After(patience)
			}
		case <-over:
			enough = 0
		case <-ctx.Done():
			return rows
		}
	}
	return rows
}

// flush writes rows in one transaction, and tells those who wait.
func (b *batch[T]) flush(ctx context.Context, rows []*waiting[T]) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var taken map[string]bool
	err := b.store.Write(ctx, func(tx *store.Tx) error {
		taken = make(map[string]bool, len(rows))
		for rest := rows; len(rest) > 0; {
			n := bits.Len(uint(min(len(rest), 1<<(statements-1)))) - 1
			if err := b.write(ctx, tx, n, rest[:1<<n], taken); err != nil {
				return err
			}
			rest = rest[1<<n:]
		}
		return nil
	})
	for _, w := range rows {
		answer := err
		if key := w.row.key(); err == nil && !taken[key] {
			answer = b.refusal
		} else {
			delete(taken, key) // the same twice in one batch: one was first
		}
		w.done <- answer
	}
}

// write inserts 1<<n rows, and notes the keys of those that were taken.
func (b *batch[T]) write(ctx context.Context, tx *store.Tx, n int, some []*waiting[T], taken map[string]bool) error {
	var args []any
	for _, w := range some {
		args = append(args, w.row.columns()...)
	}
	rows, err := tx.StmtContext(ctx, b.insert[n]).QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return err
		}
		taken[key] = true
	}
	return rows.Err()
}
