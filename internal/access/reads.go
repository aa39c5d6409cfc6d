package access

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantway/grantway/internal/store"
)

// Reads counts who reads tokens of which credential, by minute. Counting is in memory;
// every minute, and when Reads stops, the counts are added to the table token_read, to
// which all replicas add. A crash loses the counts of the last minute.
//
//	Count ──> current table ──a minute later──> pending ──one transaction──> token_read
type Reads struct {
	store *store.Store
	log   *slog.Logger

	seed    maphash.Seed
	current atomic.Pointer[readTable]

	// Only the flusher uses these.
	previous *readTable        // may still get a late count or two
	pending  map[readKey]int64 // taken from the tables, not yet in the database
	purged   time.Time         // when old rows were last deleted

	stop context.CancelFunc // nil before Start
	done sync.WaitGroup
}

const (
	readKeep    = 90 * 24 * time.Hour // rows older than this are deleted
	readBuckets = 1 << 14             // of a table: 128 KiB
	readPending = 1 << 20             // rows kept while the database is away: about 100 MiB
	readChunk   = 500                 // rows written in one transaction, so that others get their turn
)

// readTable holds the counts of one minute: a hash table that is only ever added to, so
// that neither readers nor writers take a lock.
type readTable struct {
	minute  int64 // Unix minutes
	buckets [readBuckets]atomic.Pointer[readCount]
}

type readCount struct {
	caller, credential string
	n                  atomic.Int64
	next               *readCount
}

type readKey struct {
	caller, credential string
	minute             int64
}

// NewReads returns a counter that writes to s.
func NewReads(s *store.Store, log *slog.Logger) *Reads {
	r := &Reads{store: s, log: log, seed: maphash.MakeSeed(), pending: make(map[readKey]int64)}
	r.current.Store(&readTable{minute: time.Now().Unix() / 60})
	return r
}

// Count counts one read of credential, an id, by the caller with this id. It takes no lock, and
// allocates only at the first read of the pair in a minute.
func (r *Reads) Count(caller, credential string) {
	t := r.current.Load()
	h := maphash.String(r.seed, caller) ^ maphash.String(r.seed, credential)*3
	bucket := &t.buckets[h%readBuckets]
	var fresh *readCount
	for {
		head := bucket.Load()
		for c := head; c != nil; c = c.next {
			if c.credential == credential && c.caller == caller {
				c.n.Add(1)
				return
			}
		}
		if fresh == nil {
			fresh = &readCount{caller: caller, credential: credential}
			fresh.n.Store(1)
		}
		fresh.next = head
		if bucket.CompareAndSwap(head, fresh) {
			return
		}
	}
}

// Start begins to write the counts to the database, until Stop.
func (r *Reads) Start() {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.done.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute))):
			}
			if err := r.flush(ctx, time.Now()); err != nil && ctx.Err() == nil {
				r.log.Error("counts of token reads are kept in memory for now", "rows", len(r.pending), "error", err)
			}
		}
	})
}

// Stop writes what has been counted and ends the writing. Nobody may Count any more.
func (r *Reads) Stop(ctx context.Context) error {
	if r.stop == nil {
		return nil
	}
	r.stop()
	r.done.Wait()
	if err := r.flush(ctx, time.Now()); err != nil {
		return fmt.Errorf("counts of token reads: %w", err)
	}
	return nil
}

// flush starts a new table for the minute of now, and writes what the tables before it hold.
// What cannot be written waits for the next time.
func (r *Reads) flush(ctx context.Context, now time.Time) error {
	ended := r.current.Swap(&readTable{minute: now.Unix() / 60})
	r.take(r.previous)
	r.take(ended)
	// A Count that got hold of the table just before the swap may come late, but not by a minute.
	r.previous = ended

	if len(r.pending) > readPending {
		r.log.Error("counts of token reads are lost, because the database is away for so long", "rows", len(r.pending))
		clear(r.pending)
	}
	// All replicas write in the same order, so that they do not lock one another out.
	keys := slices.SortedFunc(maps.Keys(r.pending), func(a, b readKey) int {
		return cmp.Or(cmp.Compare(a.minute, b.minute), cmp.Compare(a.caller, b.caller), cmp.Compare(a.credential, b.credential))
	})
	for chunk := range slices.Chunk(keys, readChunk) {
		if err := r.write(ctx, chunk); err != nil {
			return err
		}
		for _, k := range chunk {
			delete(r.pending, k)
		}
	}
	if now.Sub(r.purged) < time.Hour {
		return nil
	}
	r.purged = now
	return r.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM token_read WHERE minute < $1`, now.Add(-readKeep).Unix()/60)
		return err
	})
}

// take moves the counts of t to pending.
func (r *Reads) take(t *readTable) {
	if t == nil {
		return
	}
	for i := range t.buckets {
		for c := t.buckets[i].Load(); c != nil; c = c.next {
			if n := c.n.Swap(0); n > 0 {
				r.pending[readKey{c.caller, c.credential, t.minute}] += n
			}
		}
	}
}

func (r *Reads) write(ctx context.Context, keys []readKey) error {
	return r.store.Write(ctx, func(tx *store.Tx) error {
		add, err := tx.PrepareContext(ctx, `
			INSERT INTO token_read (caller, credential_id, minute, count) VALUES ($1, $2, $3, $4)
			ON CONFLICT (caller, credential_id, minute) DO UPDATE SET count = token_read.count + excluded.count`)
		if err != nil {
			return err
		}
		defer add.Close()
		for _, k := range keys {
			if _, err := add.ExecContext(ctx, k.caller, k.credential, k.minute, r.pending[k]); err != nil {
				return err
			}
		}
		return nil
	})
}
