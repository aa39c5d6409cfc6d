package seal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/store"
)

// Reseal goes through the sealed values of one noun, replaces those that Renew says are not
// sealed with the newest data key, and returns how many it replaced. It replaces a value only
// if that is still the one it read, because others save meanwhile; it may be run again at any time.
type Reseal func(ctx context.Context, s *Sealer) (n int, err error)

// Renew returns the value sealed with the newest data key; ok is false, and the rest nil, when
// it is so already.
func (s *Sealer) Renew(place Place, sealed []byte) (renewed []byte, ok bool, err error) {
	if id, _ := keyID(sealed); id == s.ring.Load().primary {
		return nil, false, nil
	}
	plain, err := s.Open(place, sealed)
	if err != nil {
		return nil, false, err
	}
	renewed, err = s.Seal(place, plain)
	return renewed, err == nil, err
}

// Row is a sealed value in the database, and the statement that replaces it if it is still the same:
// its parameters are the new value, the row of Place, and the old value.
type Row struct {
	Place   Place
	Sealed  []byte
	Replace string
}

// RenewRows brings rows to the newest data key, each in a transaction of its own so that others get their
// turn, and returns how many it replaced.
func (s *Sealer) RenewRows(ctx context.Context, db *store.Store, rows []Row) (n int, err error) {
	for _, r := range rows {
		renewed, ok, err := s.Renew(r.Place, r.Sealed)
		if err != nil {
			return n, err
		}
		if !ok {
			continue
		}
		err = db.Write(ctx, func(tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, r.Replace, renewed, r.Place.Row, r.Sealed)
			return err
		})
		if err != nil {
			return n, fmt.Errorf("sealing %s again: %w", r.Place, err)
		}
		n++
	}
	return n, nil
}

// Record records a change of the keyset in the transaction that makes it; if it fails there is
// no change. nil records nothing.
type Record func(tx *store.Tx) error

func (r Record) in(tx *store.Tx) error {
	if r == nil {
		return nil
	}
	return r(tx)
}

// Rotate makes a new data key and re-seals every value with it, while all replicas go on. It
// returns how many values were re-sealed. When it fails or is interrupted, everything still
// opens, and it can be run again.
//
// The key before the new one stays in the keyset until the next rotation: a replica that was
// cut off from the others may still have to hear of the new key, and what it seals until then
// must not be lost. Older keys are removed, which is recorded like the adding.
func (s *Sealer) Rotate(ctx context.Context, record Record, reseal ...Reseal) (n int, err error) {
	keys, err := s.edit(ctx, record, func(m *keyset.Manager, _ []uint32) error {
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
	if err != nil {
		return 0, fmt.Errorf("adding a data key: %w", err)
	}
	if n, err = s.reseal(ctx, reseal); err != nil || len(keys) <= 2 {
		return n, err
	}

	// Two rotations in quick succession: let every replica hear of the new key before a key
	// goes that some of them may still seal with.
	select {
	case <-ctx.Done():
		return n, ctx.Err()
	case <-time.After(2 * store.Staleness):
	}
	late, err := s.reseal(ctx, reseal)
	n += late
	if err != nil {
		return n, err
	}
	_, err = s.edit(ctx, record, func(m *keyset.Manager, present []uint32) error {
		for _, id := range keys[:len(keys)-2] {
			if !slices.Contains(present, id) {
				continue // another rotation removed it
			}
			if err := m.Delete(id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return n, fmt.Errorf("removing old data keys: %w", err)
	}
	return n, nil
}

// reseal runs all funcs until they find nothing to do, and so also what others saved while
// they ran the first time.
func (s *Sealer) reseal(ctx context.Context, funcs []Reseal) (n int, err error) {
	for {
		done := 0
		for _, f := range funcs {
			k, err := f(ctx, s)
			n, done = n+k, done+k
			if err != nil {
				return n, fmt.Errorf("re-sealing: %w", err)
			}
		}
		if done == 0 {
			return n, nil
		}
	}
}

// edit changes the keyset in the database and then in memory, and returns the ids of its keys
// from the oldest to the newest. change gets those from before.
func (s *Sealer) edit(ctx context.Context, record Record, change func(m *keyset.Manager, keys []uint32) error) ([]uint32, error) {
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	var changed *ring
	err := s.store.Write(ctx, func(tx *store.Tx) error {
		wraps, err := lockWraps(ctx, tx)
		if err != nil {
			return err
		}
		if len(wraps) > 1 {
			return grantway.Errorf(grantway.Conflict, "the keyset is sealed by %s, and each would have to seal it again: remove all but one first (grantway key unwrap)", names(wraps))
		}
		now, err := s.ours(wraps)
		if err != nil {
			return err
		}
		manager := keyset.NewManagerFromHandle(now.handle)
		if err := change(manager, now.keys); err != nil {
			return fmt.Errorf("keyset: %w", err)
		}
		handle, err := manager.Handle()
		if err != nil {
			return fmt.Errorf("keyset: %w", err)
		}
		if changed, err = newRing(handle, now.version+1); err != nil {
			return err
		}
		w, err := changed.wrap(s.kek)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE keyset_wrap SET version = $2, sealed = $3 WHERE kek_id = $1`, w.id, w.version, w.sealed); err != nil {
			return fmt.Errorf("saving the keyset: %w", err)
		}
		tx.Changed(topic, "")
		return record.in(tx)
	})
	if err != nil {
		return nil, err
	}
	s.use(changed)
	return changed.keys, nil
}
