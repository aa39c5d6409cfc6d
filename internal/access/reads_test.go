package access

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func flush(t *testing.T, r *Reads, at time.Time) {
	t.Helper()
	if err := r.flush(t.Context(), at); err != nil {
		t.Fatal(err)
	}
}

// read is a row of token_read.
type read struct {
	Caller, Credential string
	Minute             time.Time
	Count              int64
}

// list returns the rows of one credential and caller, or of all.
func (r *Reads) list(t *testing.T, credential, caller string) (reads []read) {
	t.Helper()
	rows, err := r.store.Read().QueryContext(t.Context(), `
		SELECT caller, credential_id, minute, count FROM token_read
		WHERE ($1 = '' OR credential_id = $1) AND ($2 = '' OR caller = $2)
		ORDER BY minute, caller, credential_id`, credential, caller)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var one read
		var minute int64
		if err := rows.Scan(&one.Caller, &one.Credential, &minute, &one.Count); err != nil {
			t.Fatal(err)
		}
		one.Minute = time.Unix(minute*60, 0).UTC()
		reads = append(reads, one)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return reads
}

// Two replicas add up, minute by minute.
func TestReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		first := time.Now().UTC().Truncate(time.Minute)
		second, third := first.Add(time.Minute), first.Add(2*time.Minute)
		a, b := NewReads(s, quiet), NewReads(s, quiet)
		flush(t, a, first)
		flush(t, b, first)
		for range 3 {
			a.Count("app", "mail")
		}
		a.Count("app", "crm")
		b.Count("app", "mail")
		flush(t, a, second)
		flush(t, b, second)
		b.Count("job", "mail")
		flush(t, b, third)
		flush(t, b, third.Add(time.Minute)) // nothing is counted twice

		for _, test := range []struct {
			credential, caller string
			want               []read
		}{
			{"", "", []read{{"app", "crm", first, 1}, {"app", "mail", first, 4}, {"job", "mail", second, 1}}},
			{"mail", "job", []read{{"job", "mail", second, 1}}},
			{"mail", "nobody", nil},
		} {
			if diff := cmp.Diff(test.want, a.list(t, test.credential, test.caller)); diff != "" {
				t.Error(diff)
			}
		}

		flush(t, a, first.Add(readKeep+2*time.Minute+time.Hour))
		if got := a.list(t, "", ""); len(got) != 0 {
			t.Errorf("old rows are kept: %v", got)
		}
	})
}

// A count that comes late, into a table that has been written, is written the next time.
func TestReadsLateCount(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *store.Store) {
		r := NewReads(s, quiet)
		r.Count("app", "mail")
		late := r.current.Load()
		now := time.Now()
		flush(t, r, now)
		for i := range late.buckets {
			if c := late.buckets[i].Load(); c != nil {
				c.n.Add(1)
			}
		}
		flush(t, r, now)
		if got := r.list(t, "", ""); len(got) != 1 || got[0].Count != 2 {
			t.Errorf("got %v", got)
		}
	})
}

// While the database is away counts wait, and Stop tells when they are lost.
func TestReadsWithoutDatabase(t *testing.T) {
	url := storetest.SQLite(t)
	away, err := store.Open(t.Context(), store.Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	away.Close()
	r := NewReads(away, quiet)
	r.Count("app", "mail")
	now := time.Now()
	if r.flush(t.Context(), now) == nil {
		t.Fatal("written to a closed database")
	}
	r.Count("app", "mail")
	if r.flush(t.Context(), now) == nil {
		t.Fatal("written to a closed database")
	}
	r.store = storetest.Open(t, url)
	flush(t, r, now)
	got := r.list(t, "", "")
	var n int64
	for _, one := range got {
		n += one.Count
	}
	if n != 2 {
		t.Errorf("got %v", got)
	}
}

// Counts are written every minute, and what is left when Reads stops.
func TestReadsStartStop(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	written := func(r *Reads) (total int64) {
		got := r.list(t, "mail", "app")
		for _, one := range got {
			total += one.Count
		}
		return total
	}
	synctest.Test(t, func(t *testing.T) {
		r := NewReads(s, quiet)
		r.Start()
		r.Count("app", "mail")
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := written(r); n != 1 {
			t.Errorf("%d reads written after a minute", n)
		}
		r.Count("app", "mail")
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if n := written(r); n != 2 {
			t.Errorf("%d reads written at the end", n)
		}
	})
	if err := NewReads(s, quiet).Stop(t.Context()); err != nil {
		t.Errorf("never started: %v", err)
	}
}

func TestReadsConcurrent(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	r := NewReads(s, quiet)
	const callers, rounds = 8, 2000
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			for i := range rounds {
				r.Count(fmt.Sprint("app", n%2), fmt.Sprint("credential", i%50))
			}
		})
	}
	for range 5 {
		flush(t, r, time.Now())
	}
	wg.Wait()
	flush(t, r, time.Now())
	flush(t, r, time.Now())
	got := r.list(t, "", "")
	var total int64
	for _, one := range got {
		total += one.Count
	}
	if total != callers*rounds {
		t.Errorf("%d of %d reads counted", total, callers*rounds)
	}
}

func TestCountAllocatesNothing(t *testing.T) {
	r := NewReads(nil, quiet)
	r.Count("client_1", "credential_1")
	if n := testing.AllocsPerRun(100, func() { r.Count("client_1", "credential_1") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCount(b *testing.B) {
	for _, pairs := range []int{1, 100_000} {
		b.Run(fmt.Sprint(pairs, " credentials"), func(b *testing.B) {
			r := NewReads(nil, quiet)
			ids := make([]string, pairs)
			for i := range ids {
				ids[i] = fmt.Sprint("credential_", i)
				r.Count("client_1", ids[i])
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					r.Count("client_1", ids[i%pairs])
				}
			})
		})
	}
}
