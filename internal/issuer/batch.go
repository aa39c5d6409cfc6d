package issuer

import (
	"context"

	"github.com/grantway/grantway/internal/store"
)

// batch writes rows of many requests into the database. A row is durable when add returns;
// to make that cheap, all rows that wait are written in one transaction.
type batch[T any] struct {
	store   *store.Store
	waiting chan *waiting[T]

	// write writes rows, and sets refused of those that it does not take. It may run more than
	// once for the same rows.
	write func(ctx context.Context, tx *store.Tx, rows []*waiting[T]) error
}

type waiting[T any] struct {
	row     T
	refused error
	done    chan error // buffered
}

// maxBatch bounds how many rows are written in one transaction, manyRows is how many by one
// statement: with PostgreSQL each statement is a round trip.
const (
	maxBatch = 256
	manyRows = 32
)

func newBatch[T any](s *store.Store, write func(ctx context.Context, tx *store.Tx, rows []*waiting[T]) error) *batch[T] {
	return &batch[T]{store: s, waiting: make(chan *waiting[T], maxBatch), write: write}
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
func (b *batch[T]) run(ctx context.Context) {
	for {
		var rows []*waiting[T]
		select {
		case <-ctx.Done():
			return
		case w := <-b.waiting:
			rows = append(rows, w)
		}
	gather:
		for len(rows) < maxBatch {
			select {
			case w := <-b.waiting:
				rows = append(rows, w)
			default:
				break gather
			}
		}
		b.flush(ctx, rows)
	}
}

// flush writes rows in one transaction, and tells those who wait. On PostgreSQL a client
// that is deleted at the same moment breaks the transaction off; in the next attempt it
// is gone, and only its own rows are refused.
func (b *batch[T]) flush(ctx context.Context, rows []*waiting[T]) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var err error
	for range 3 {
		if err = b.store.Write(ctx, func(tx *store.Tx) error { return b.write(ctx, tx, rows) }); err == nil {
			break
		}
	}
	for _, w := range rows {
		if err == nil {
			w.done <- w.refused
		} else {
			w.done <- err
		}
	}
}
