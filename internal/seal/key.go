package seal

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const keySize = 32 // bytes: AES-256

// KEK is a key-encryption key: it seals the keyset that seals everything else, and is kept
// outside the database. Get one from ParseKey or RemoteKey.
type KEK struct {
	ID     string // derived from the key, or from where it is kept; tells keys apart without revealing them
	Source string // where it came from, as given to ParseKey

	aead     tink.AEAD
	envelope *envelope // that aead is, when the key is in a KMS
}

// ready makes k ready to open sealed, or with nil to seal. It is for before a transaction, since
// it may have to ask a KMS.
func (k KEK) ready(ctx context.Context, sealed []byte) error {
	if k.envelope == nil {
		return nil
	}
	return k.envelope.ready(ctx, sealed)
}

// String names the key, for people.
func (k KEK) String() string { return k.Source + " (key id " + k.ID + ")" }

// ParseKey reads the key-encryption key that spec names: "file:" and a path, or "env:" and the
// name of an environment variable. Both hold 32 bytes in base64. A file that others than its
// owner may read is refused.
func ParseKey(spec string) (KEK, error) {
	kind, name, _ := strings.Cut(spec, ":")
	var text string
	var err error
	switch {
	case kind == "file" && name != "":
		text, err = readKeyFile(name)
	case kind == "env" && name != "":
		if text = os.Getenv(name); text == "" {
			err = fmt.Errorf("key: the environment variable %s is not set", name)
		}
	default: // spec is not repeated, it may be the key itself
		err = errors.New("key: must be file:PATH or env:NAME")
	}
	if err != nil {
		return KEK{}, err
	}

	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != keySize {
		return KEK{}, fmt.Errorf("key: %s does not hold %d bytes in base64, such as `openssl rand -base64 %d` prints", spec, keySize, keySize)
	}
	cipher, err := subtle.NewAESGCM(key)
	if err != nil {
		return KEK{}, fmt.Errorf("key: %s: %w", spec, err)
	}
	id := sha256.Sum256(append([]byte("grantway key-encryption key id\n"), key...))
	return KEK{ID: hex.EncodeToString(id[:8]), Source: spec, aead: cipher}, nil
}

func readKeyFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&^0o600 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("key: others may use the file %s (mode %#o): run chmod 600 %[1]s", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(file, 1024))
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	return string(text), nil
}

// GenerateKeyFile writes a new key to a new file, which only its owner can read. Without that
// file the secrets in the database are lost, so tell people to back it up.
func GenerateKeyFile(path string) error {
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("creating the key file: %w", err)
	}
	_, err = file.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing the key file: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// syncDir makes a new file of a directory survive a power cut. Windows cannot, and need not.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
