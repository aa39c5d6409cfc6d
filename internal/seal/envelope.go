package seal

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KMS is one key of a key management service, which never gives it away. Methods may be called
// concurrently. Their errors name the key and say what to do.
type KMS interface {
	// NewKey returns a new key of 32 bytes, plain and encrypted by the key of the service.
	NewKey(ctx context.Context) (plain, wrapped []byte, err error)
	// Unwrap decrypts what NewKey returned, perhaps to another process and years ago.
	Unwrap(ctx context.Context, wrapped []byte) (plain []byte, err error)
}

// RemoteKey is the key-encryption key that service keeps. source is what ParseKey would be given
// if it knew such keys; the same source is the same key.
//
// The service is asked when a database is opened or a wrap is added, not to seal or open values,
// so a hub that runs goes on without it.
func RemoteKey(source string, service KMS) KEK {
	id := sha256.Sum256([]byte("grantway key-encryption key in a KMS\n" + source))
	e := &envelope{kms: service}
	return KEK{ID: hex.EncodeToString(id[:8]), Source: source, aead: e, envelope: e}
}

// envelope is the AEAD of a key in a KMS. It seals with a key of its own, which the KMS has
// encrypted and which lies beside what it sealed:
//
//	length of the encrypted key, 4 bytes big endian | encrypted key | nonce, ciphertext, tag
//
// So what binds a value to its place is the same with every KMS, whatever that can do itself.
// Encrypt and Decrypt ask nobody: ready does, before the transaction they are called in.
type envelope struct {
	kms KMS
	now atomic.Pointer[localKey] // nil before ready
}

// localKey is what an envelope seals with.
type localKey struct {
	tink.AEAD
	header []byte // length and encrypted key
}

// errNotReady means that a value was sealed with another key than the one that is at hand.
var errNotReady = errors.New("somebody has sealed the keyset anew in the meantime: try again")

// ready asks the KMS for the key that sealed was sealed with, or with nil for a new one; for
// what is at hand it asks nobody. A new one is tried both ways, so that a key which may
// encrypt but not decrypt is found out while there still is another way to open the database.
func (e *envelope) ready(ctx context.Context, sealed []byte) error {
	now := e.now.Load()
	if sealed == nil {
		if now != nil {
			return nil
		}
		plain, wrapped, err := e.kms.NewKey(ctx)
		if err != nil {
			return err
		}
		again, err := e.kms.Unwrap(ctx, wrapped)
		if err != nil {
			return err
		}
		if !slices.Equal(plain, again) {
			return errors.New("the KMS does not decrypt what it encrypted")
		}
		return e.use(plain, append(binary.BigEndian.AppendUint32(nil, uint32(len(wrapped))), wrapped...))
	}
	header, _, ok := split(sealed)
	if !ok {
		return errDamaged
	}
	if now != nil && slices.Equal(header, now.header) {
		return nil
	}
	plain, err := e.kms.Unwrap(ctx, header[4:])
	if err != nil {
		return err
	}
	return e.use(plain, slices.Clone(header))
}

func (e *envelope) use(plain, header []byte) error {
	if len(plain) != keySize {
		return fmt.Errorf("the KMS decrypted %d bytes instead of %d", len(plain), keySize)
	}
	key, err := subtle.NewAESGCM(plain)
	if err != nil {
		return err
	}
	e.now.Store(&localKey{key, header})
	return nil
}

// split tells the header from the rest.
func split(sealed []byte) (header, rest []byte, ok bool) {
	if len(sealed) < 4 {
		return nil, nil, false
	}
	n := 4 + int64(binary.BigEndian.Uint32(sealed))
	if n == 4 || int64(len(sealed)) < n {
		return nil, nil, false
	}
	return sealed[:n], sealed[n:], true
}

// Encrypt implements tink.AEAD.
func (e *envelope) Encrypt(plain, associated []byte) ([]byte, error) {
	now := e.now.Load()
	if now == nil {
		return nil, errNotReady
	}
	sealed, err := now.AEAD.Encrypt(plain, associated)
	return slices.Concat(now.header, sealed), err
}

// Decrypt implements tink.AEAD.
func (e *envelope) Decrypt(sealed, associated []byte) ([]byte, error) {
	now := e.now.Load()
	header, rest, ok := split(sealed)
	if now == nil || !ok || !slices.Equal(header, now.header) {
		return nil, errNotReady
	}
	return now.AEAD.Decrypt(rest, associated)
}
