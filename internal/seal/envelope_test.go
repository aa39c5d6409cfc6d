package seal_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store/storetest"
)

// kms is a KMS that gives out keys by numbers. The real ones and their doubles are tested in
// package secret.
type kms struct {
	keys   sync.Map // by what they are wrapped as
	asked  atomic.Int64
	broken atomic.Bool // Unwrap returns another key
	away   atomic.Bool
}

func (k *kms) NewKey(context.Context) (plain, wrapped []byte, err error) {
	k.asked.Add(1)
	plain, wrapped = make([]byte, 32), make([]byte, 8)
	rand.Read(plain)
	rand.Read(wrapped)
	k.keys.Store(string(wrapped), plain)
	return plain, wrapped, k.err()
}

func (k *kms) Unwrap(_ context.Context, wrapped []byte) ([]byte, error) {
	k.asked.Add(1)
	plain, ok := k.keys.Load(string(wrapped))
	if !ok {
		return nil, errors.New("the KMS has another key")
	}
	if k.broken.Load() {
		return make([]byte, 32), nil
	}
	return plain.([]byte), k.err()
}

func (k *kms) err() error {
	if k.away.Load() {
		return errors.New("the KMS is away")
	}
	return nil
}

// key is the key-encryption key as a process that has just started sees it.
func (k *kms) key() seal.KEK { return seal.RemoteKey("kms:key", k) }

func TestRemoteKey(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		service := &kms{}
		sealers := make([]*seal.Sealer, 4)
		var all sync.WaitGroup
		for i := range sealers {
			s := storetest.Open(t, url)
			all.Go(func() {
				var err error
				if sealers[i], err = seal.Open(t.Context(), s, service.key()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		for _, s := range sealers {
			defer s.Close()
		}
		wantOpen(t, sealers[1], "a", mustSeal(t, sealers[0], "a", "x"), "x")

		service.away.Store(true)
		before := service.asked.Load()
		if _, err := sealers[0].Rotate(t.Context(), nil); err != nil {
			t.Errorf("rotate while the KMS is away: %v", err)
		}
		wantOpen(t, sealers[1], "a", mustSeal(t, sealers[0], "a", "x"), "x") // it has to read the new keyset
		if n := service.asked.Load() - before; n != 0 {
			t.Errorf("the KMS was asked %d times", n)
		}
		_, err := seal.Open(t.Context(), storetest.Open(t, url), service.key())
		wantError(t, err, "the KMS is away")
		_, err = seal.Open(t.Context(), storetest.Open(t, url), seal.RemoteKey("kms:other", service))
		wantError(t, err, "wrong key", "kms:other")
		_, err = seal.Open(t.Context(), storetest.Open(t, url), seal.RemoteKey("kms:key", &kms{}))
		wantError(t, err, "the KMS has another key")
	})
}

// TestRemoteKeyWrappedAnew wraps the keyset again with the key that a replica runs with.
func TestRemoteKeyWrappedAnew(t *testing.T) {
	storetest.EachURL(t, func(t *testing.T, url string) {
		service, file := &kms{}, newKEK(t)
		db := storetest.Open(t, url)
		running := open(t, db, service.key())
		if err := running.AddWrap(t.Context(), file, nil); err != nil {
			t.Fatal(err)
		}
		other := open(t, storetest.Open(t, url), file)
		if err := errors.Join(other.RemoveWrap(t.Context(), service.key().ID, nil), other.AddWrap(t.Context(), service.key(), nil)); err != nil {
			t.Fatal(err)
		}
		if err := running.RemoveWrap(t.Context(), file.ID, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := running.Rotate(t.Context(), nil); err != nil {
			t.Errorf("rotate: %v", err)
		}
		wantOpen(t, open(t, storetest.Open(t, url), service.key()), "a", mustSeal(t, running, "a", "x"), "x")
	})
}

// TestRemoteKeyIsTried before the keyset depends on it.
func TestRemoteKeyIsTried(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	service := &kms{}
	service.broken.Store(true)
	_, err := seal.Open(t.Context(), s, service.key())
	wantError(t, err, "does not decrypt what it encrypted")
	if used, err := seal.InUse(t.Context(), s); used || err != nil {
		t.Errorf("a keyset was made: %t, %v", used, err)
	}
	sealer := open(t, s, newKEK(t))
	wantError(t, sealer.AddWrap(t.Context(), service.key(), nil), "does not decrypt what it encrypted")
	service.broken.Store(false)
	if err := sealer.AddWrap(t.Context(), service.key(), nil); err != nil {
		t.Fatal(err)
	}

	// What somebody changed in the database is found out, wherever it is.
	id := service.key().ID
	var good []byte
	if err := s.Read().QueryRowContext(t.Context(), `SELECT sealed FROM keyset_wrap WHERE kek_id = $1`, id).Scan(&good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		damaged := bytes.Clone(good)
		damaged[i] ^= 1
		exec(t, s, `UPDATE keyset_wrap SET sealed = $1 WHERE kek_id = $2`, damaged, id)
		opened, err := seal.Open(t.Context(), s, service.key())
		if err == nil {
			opened.Close()
			if !infoOnly(t, good, i) {
				t.Errorf("byte %d: a damaged keyset opens", i)
			}
		}
	}
	exec(t, s, `UPDATE keyset_wrap SET sealed = $1 WHERE kek_id = $2`, good, id)
	open(t, s, service.key())
}

// infoOnly says whether byte i is of the part of a Tink keyset that describes its keys and is not
// sealed: it comes last, and nothing is decided by it.
func infoOnly(t *testing.T, sealed []byte, i int) bool {
	t.Helper()
	at := bytes.LastIndex(sealed, []byte("type.googleapis.com/google.crypto.tink.AesGcmKey"))
	return at >= 0 && i > at-16
}
