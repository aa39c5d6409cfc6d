package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
	"github.com/grantway/grantway/internal/store/storetest"
)

// vault is a noun with sealed values.
type vault struct {
	store *store.Store
	fail  error // of the next value but one
	seen  int
}

// save seals a value and writes it, as a domain package does.
func (v *vault) save(ctx context.Context, s *seal.Sealer, row, plain string) error {
	sealed, err := s.Seal(place(row), []byte(plain))
	if err != nil {
		return err
	}
	return v.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO vault (id, sealed) VALUES ($1, $2)
			ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed`, row, sealed)
		return err
	})
}

func (v *vault) load(ctx context.Context, row string) (sealed []byte, err error) {
	err = v.store.Read().QueryRowContext(ctx, `SELECT sealed FROM vault WHERE id = $1`, row).Scan(&sealed)
	return sealed, err
}

func (v *vault) rows(ctx context.Context) (ids []string, err error) {
	rows, err := v.store.Read().QueryContext(ctx, `SELECT id FROM vault ORDER BY id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// reseal is a seal.Reseal.
func (v *vault) reseal(ctx context.Context, s *seal.Sealer) (n int, err error) {
	ids, err := v.rows(ctx)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		old, err := v.load(ctx, id)
		if err != nil {
			return n, err
		}
		renewed, ok, err := s.Renew(place(id), old)
		if err != nil {
			return n, err
		}
		if !ok {
			continue
		}
		if v.seen++; v.fail != nil && v.seen == 2 {
			return n, v.fail
		}
		err = v.store.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE vault SET sealed = $3 WHERE id = $1 AND sealed = $2`, id, old, renewed)
			return err
		})
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func newVault(t *testing.T, s *store.Store) *vault {
	t.Helper()
	exec(t, s, `CREATE TABLE vault (id TEXT NOT NULL PRIMARY KEY, sealed BYTEA NOT NULL)`)
	return &vault{store: s}
}

// wantAll checks that every value opens, and is what was saved.
func (v *vault) wantAll(t *testing.T, s *seal.Sealer, want int) {
	t.Helper()
	ids, err := v.rows(t.Context())
	if err != nil || len(ids) != want {
		t.Fatalf("%d rows, %v, want %d", len(ids), err, want)
	}
	for _, id := range ids {
		sealed, err := v.load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		wantOpen(t, s, id, sealed, "plain "+id)
	}
}

func (v *vault) fill(t *testing.T, s *seal.Sealer, n int) {
	t.Helper()
	for i := range n {
		id := fmt.Sprint(i)
		if err := v.save(t.Context(), s, id, "plain "+id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRotate(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		t.Parallel()
		kek := newKEK(t)
		st := storetest.Open(t, url)
		a, b := open(t, st, kek), open(t, storetest.Open(t, url), kek)
		v := newVault(t, st)
		v.fill(t, a, 5)
		first := mustSeal(t, a, "first", "x")

		if n, err := a.Rotate(t.Context(), nil, v.reseal); n != 5 || err != nil {
			t.Errorf("re-sealed %d, %v, want 5", n, err)
		}
		v.wantAll(t, a, 5)
		v.wantAll(t, b, 5) // whether or not b has heard of it
		second := mustSeal(t, a, "second", "x")
		if bytes.Equal(first[:5], second[:5]) {
			t.Error("the data key has not changed")
		}
		for _, s := range []*seal.Sealer{a, b} { // a slow replica seals with the key before
			wantOpen(t, s, "first", first, "x")
			wantOpen(t, s, "second", second, "x")
		}

		if n, err := b.Rotate(t.Context(), nil, v.reseal); n != 5 || err != nil {
			t.Errorf("re-sealed %d, %v, want 5", n, err)
		}
		v.wantAll(t, a, 5)
		v.wantAll(t, b, 5)
		wantOpen(t, b, "second", second, "x")
		_, err := b.Open(place("first"), first)
		wantError(t, err, "data key", "not in the keyset")
		wantOpen(t, open(t, storetest.Open(t, url), kek), "second", second, "x")
	})
}

// TestRotateWhileReplicasWork rotates twice, from two replicas, while a third one saves and
// opens all the time.
func TestRotateWhileReplicasWork(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		t.Parallel()
		kek := newKEK(t)
		st := storetest.Open(t, url)
		v := newVault(t, st)
		a, b, c := open(t, st, kek), open(t, storetest.Open(t, url), kek), open(t, storetest.Open(t, url), kek)
		v.fill(t, a, 20)

		ctx, cancel := context.WithCancel(t.Context())
		var working sync.WaitGroup
		worked := make(chan bool, 1) // filled again after each save
		rows := 20
		working.Go(func() {
			for ; ctx.Err() == nil; rows++ {
				id := fmt.Sprint(rows)
				if err := v.save(t.Context(), c, id, "plain "+id); err != nil {
					t.Error(err)
					return
				}
				for _, id := range []string{id, fmt.Sprint(rows % 20)} {
					sealed, err := v.load(t.Context(), id)
					if err != nil {
						t.Error(err)
						return
					}
					wantOpen(t, c, id, sealed, "plain "+id)
				}
				select {
				case worked <- true:
				default:
				}
			}
		})
		for _, s := range []*seal.Sealer{a, b} {
			<-worked
			if _, err := s.Rotate(t.Context(), nil, v.reseal); err != nil {
				t.Error(err)
			}
		}
		cancel()
		working.Wait()
		for _, s := range []*seal.Sealer{a, b, c, open(t, storetest.Open(t, url), kek)} {
			v.wantAll(t, s, rows)
		}
	})
}

func TestInterruptedRotation(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		t.Parallel()
		kek := newKEK(t)
		st := storetest.Open(t, url)
		v := newVault(t, st)
		s := open(t, st, kek)
		v.fill(t, s, 5)

		v.fail = errors.New("power cut")
		if n, err := s.Rotate(t.Context(), nil, v.reseal); n != 1 || !errors.Is(err, v.fail) {
			t.Errorf("re-sealed %d, %v, want 1 and the power cut", n, err)
		}
		restarted := open(t, storetest.Open(t, url), kek)
		v.wantAll(t, restarted, 5)

		v.fail = nil
		if n, err := restarted.Rotate(t.Context(), nil, v.reseal); n != 5 || err != nil {
			t.Errorf("re-sealed %d, %v, want 5", n, err)
		}
		v.wantAll(t, restarted, 5)
		v.wantAll(t, s, 5)
	})
}
