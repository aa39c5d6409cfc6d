package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/grantway/grantway/internal/store"
)

// wrap is one row of keyset_wrap: the keyset, sealed by one key-encryption key.
type wrap struct {
	id      string
	version int64
	sealed  []byte
}

func (w wrap) place() Place { return Place{"keyset_wrap", w.id, "sealed"} }

var errDamaged = errors.New("the keyset in the database is damaged, restore it from a backup")

// ready makes kek ready to open w.
func (w wrap) ready(ctx context.Context, kek KEK) error {
	sealed, err := keyset.NewBinaryReader(bytes.NewReader(w.sealed)).ReadEncrypted()
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return kek.ready(ctx, sealed.GetEncryptedKeyset())
}

func (w wrap) open(kek KEK) (*ring, error) {
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(w.sealed)), kek.aead, w.place().bytes())
	if errors.Is(err, errNotReady) {
		return nil, errNotReady
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return newRing(handle, w.version)
}

// wrap seals the keyset with a key-encryption key.
func (r *ring) wrap(kek KEK) (wrap, error) {
	w := wrap{id: kek.ID, version: r.version}
	var sealed bytes.Buffer
	if err := r.handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&sealed), kek.aead, w.place().bytes()); err != nil {
		return wrap{}, fmt.Errorf("sealing the keyset: %w", err)
	}
	w.sealed = sealed.Bytes()
	return w, nil
}

// create makes the first keyset of a database, unless another replica was faster.
func (s *Sealer) create(ctx context.Context) error {
	wraps, err := readWraps(ctx, s.store.Read())
	if err != nil {
		return err
	}
	if len(wraps) == 0 {
		if err := s.kek.ready(ctx, nil); err != nil {
			return err
		}
	}
	var r *ring
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		wraps, err := lockWraps(ctx, tx)
		switch {
		case err != nil || has(wraps, s.kek.ID):
			return err
		case len(wraps) > 0:
			return fmt.Errorf("wrong key: this database is sealed by %s, and not by %s: start with the right --key; nothing was changed", names(wraps), s.kek)
		}
		handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
		if err != nil {
			return fmt.Errorf("making a keyset: %w", err)
		}
		if r, err = newRing(handle, 1); err != nil {
			return err
		}
		return r.insert(ctx, tx, s.kek)
	})
	if err != nil {
		return err
	}
	if r == nil { // another replica was faster
		return s.load(ctx)
	}
	s.use(r)
	return nil
}

func (r *ring) insert(ctx context.Context, tx *store.Tx, kek KEK) error {
	w, err := r.wrap(kek)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO keyset_wrap (kek_id, version, sealed) VALUES ($1, $2, $3)`, w.id, w.version, w.sealed)
	if err != nil {
		return fmt.Errorf("saving the keyset: %w", err)
	}
	return nil
}

// Wrap says that a key-encryption key opens the keyset.
type Wrap struct {
	KEK   string // KEK.ID
	InUse bool   // by this Sealer
}

// Wraps lists the key-encryption keys that open the keyset.
func (s *Sealer) Wraps(ctx context.Context) ([]Wrap, error) {
	wraps, err := readWraps(ctx, s.store.Read())
	if err != nil {
		return nil, err
	}
	list := make([]Wrap, len(wraps))
	for i, w := range wraps {
		list[i] = Wrap{w.id, w.id == s.kek.ID}
	}
	return list, nil
}

// AddWrap lets kek open the keyset, too. To change the key-encryption key without downtime: add
// the new one, restart the replicas one by one with it, remove the old one, rotate. Adding one
// that is there does and records nothing.
func (s *Sealer) AddWrap(ctx context.Context, kek KEK, record Record) error {
	if kek.aead == nil {
		return errNoKey
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	if err := kek.ready(ctx, nil); err != nil {
		return err
	}
	return s.store.Write(ctx, func(tx *store.Tx) error {
		wraps, err := lockWraps(ctx, tx)
		if err != nil {
			return err
		}
		if has(wraps, kek.ID) {
			return nil
		}
		now, err := s.ours(wraps)
		if err != nil {
			return err
		}
		if err := now.insert(ctx, tx, kek); err != nil {
			return err
		}
		return record.in(tx)
	})
}

// RemoveWrap ends that the key-encryption key with this id opens the keyset. Replicas that run
// with it go on until they are restarted or the data key is rotated. The key this Sealer runs
// with, and the last one, are refused.
func (s *Sealer) RemoveWrap(ctx context.Context, id string, record Record) error {
	return s.store.Write(ctx, func(tx *store.Tx) error {
		wraps, err := lockWraps(ctx, tx)
		if err != nil {
			return err
		}
		switch {
		case !has(wraps, id):
			return fmt.Errorf("key %s does not open the keyset, only %s", id, names(wraps))
		case len(wraps) == 1:
			return fmt.Errorf("key %s is the only one that opens the keyset: add another one first", id)
		case id == s.kek.ID:
			return fmt.Errorf("key %s is the one this process runs with: start it with the new key first", id)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM keyset_wrap WHERE kek_id = $1`, id); err != nil {
			return fmt.Errorf("removing key %s: %w", id, err)
		}
		return record.in(tx)
	})
}

// lockWraps reads the wraps, and keeps others from changing them until tx ends.
func lockWraps(ctx context.Context, tx *store.Tx) ([]wrap, error) {
	if err := tx.Lock(ctx, topic); err != nil {
		return nil, err
	}
	return readWraps(ctx, tx)
}

func readWraps(ctx context.Context, q store.Querier) ([]wrap, error) {
	rows, err := q.QueryContext(ctx, `SELECT kek_id, version, sealed FROM keyset_wrap ORDER BY kek_id`)
	if err != nil {
		return nil, fmt.Errorf("reading the keyset: %w", err)
	}
	defer rows.Close()
	var wraps []wrap
	for rows.Next() {
		var w wrap
		if err := rows.Scan(&w.id, &w.version, &w.sealed); err != nil {
			return nil, fmt.Errorf("reading the keyset: %w", err)
		}
		wraps = append(wraps, w)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the keyset: %w", err)
	}
	return wraps, nil
}

// ours opens the wrap that is sealed by our key.
func (s *Sealer) ours(wraps []wrap) (*ring, error) {
	for _, w := range wraps {
		if w.id == s.kek.ID {
			return w.open(s.kek)
		}
	}
	return nil, errNotOurs
}

func has(wraps []wrap, id string) bool {
	return slices.ContainsFunc(wraps, func(w wrap) bool { return w.id == id })
}

func names(wraps []wrap) string {
	ids := make([]string, len(wraps))
	for i, w := range wraps {
		ids[i] = w.id
	}
	return "the key with id " + strings.Join(ids, " and the one with id ")
}
