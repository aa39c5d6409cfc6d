// Package seal encrypts the secrets in the database.
//
//	key-encryption key (KEK)   in a file, the environment or a KMS, never in the database
//	  seals the keyset         a row of keyset_wrap for each KEK that opens it
//	    of data keys           AES-256-GCM; the newest, the primary, seals; all open
//	      that seal values     each bound to its Place: table, row and column
//
// A sealed value starts with the id of its data key, so keys can change while all replicas
// run. See Rotate for a new data key, and AddWrap for a new key-encryption key.
package seal

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/grantway/grantway/internal/store"
)

const topic = "keyset" // of store.Tx.Changed

// Place says where a sealed value lives. A value opens only in the place it was sealed for,
// so one that is moved to another row is found out.
type Place struct{ Table, Row, Column string }

// String returns the place for a message.
func (p Place) String() string { return p.Table + " " + p.Row + " " + p.Column }

// bytes is the associated data of a value: each part after its length, so that no two
// places have the same.
func (p Place) bytes() []byte {
	b := make([]byte, 0, 12+len(p.Table)+len(p.Row)+len(p.Column))
	for _, part := range []string{p.Table, p.Row, p.Column} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b
}

// Sealer seals and opens values. Its methods may be called concurrently.
type Sealer struct {
	store *store.Store
	kek   KEK
	ring  atomic.Pointer[ring]
	end   func() // of the subscription
}

// ring is one version of the keyset, ready for use. It does not change.
type ring struct {
	version int64
	handle  *keyset.Handle
	aead    tink.AEAD
	keys    []uint32 // ids, from the oldest to the newest
	primary uint32   // id of the key that seals
}

func newRing(handle *keyset.Handle, version int64) (*ring, error) {
	r := &ring{version: version, handle: handle}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("keyset: %w", err)
		}
		r.keys = append(r.keys, entry.KeyID())
		if entry.IsPrimary() {
			r.primary = entry.KeyID()
		}
	}
	var err error
	if r.aead, err = aead.New(handle); err != nil {
		return nil, fmt.Errorf("keyset: %w", err)
	}
	return r, nil
}

// Open loads the keyset, and keeps it up to date once st is started. In a database that has
// none it makes one. If kek does not open the keyset, Open fails and changes nothing.
func Open(ctx context.Context, st *store.Store, kek KEK) (*Sealer, error) {
	if kek.aead == nil {
		return nil, errNoKey
	}
	s := &Sealer{store: st, kek: kek}
	s.end = st.Subscribe(topic, func(ctx context.Context, _ string) error { return s.load(ctx) })
	err := s.load(ctx)
	if errors.Is(err, errNotOurs) {
		err = s.create(ctx)
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// Close ends the reloading of the keyset. The Sealer still works.
func (s *Sealer) Close() { s.end() }

// Seal encrypts plain for a place, with the newest data key.
func (s *Sealer) Seal(place Place, plain []byte) ([]byte, error) {
	sealed, err := s.ring.Load().aead.Encrypt(plain, place.bytes())
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", place, err)
	}
	return sealed, nil
}

// Open decrypts what was sealed for the same place, with any data key of the keyset. Another
// replica may have just added that key; then Open reads the keyset once from the database.
func (s *Sealer) Open(place Place, sealed []byte) ([]byte, error) {
	id, ok := keyID(sealed)
	if !ok {
		return nil, fmt.Errorf("opening %s: not a sealed value", place)
	}
	r := s.ring.Load()
	if !slices.Contains(r.keys, id) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.load(ctx); err != nil {
			return nil, fmt.Errorf("opening %s: %w", place, err)
		}
		if r = s.ring.Load(); !slices.Contains(r.keys, id) {
			return nil, fmt.Errorf("opening %s: its data key %08x is not in the keyset", place, id)
		}
	}
	plain, err := r.aead.Decrypt(sealed, place.bytes())
	if err != nil {
		return nil, fmt.Errorf("opening %s: the value is damaged, or was sealed for another place", place)
	}
	return plain, nil
}

// keyID returns the id of the data key a value is sealed with: Tink puts a 1 and the id in front.
func keyID(sealed []byte) (id uint32, ok bool) {
	if len(sealed) < 5 || sealed[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:]), true
}

var errNoKey = errors.New("key: none was given")

// errNotOurs means that no wrap of the keyset is sealed by our key-encryption key.
var errNotOurs = errors.New("the keyset is not sealed by the key of this process: restart it with the new key")

// load reads the keyset from the database.
func (s *Sealer) load(ctx context.Context) error {
	w := wrap{id: s.kek.ID}
	err := s.store.Read().QueryRowContext(ctx, `SELECT version, sealed FROM keyset_wrap WHERE kek_id = $1`, w.id).Scan(&w.version, &w.sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return errNotOurs
	}
	if err != nil {
		return fmt.Errorf("reading the keyset: %w", err)
	}
	if err := w.ready(ctx, s.kek); err != nil {
		return err
	}
	if now := s.ring.Load(); now != nil && now.version >= w.version {
		return nil
	}
	r, err := w.open(s.kek)
	if err != nil {
		return err
	}
	s.use(r)
	return nil
}

// use replaces the keyset in use by a newer one.
func (s *Sealer) use(r *ring) {
	for {
		old := s.ring.Load()
		if old != nil && old.version >= r.version || s.ring.CompareAndSwap(old, r) {
			return
		}
	}
}
