package access

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/grantway/grantway"
)

// The argon2id parameters of new passwords, as OWASP recommends them. Those of a stored
// password are in its hash.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
)

// The lengths of a password, in characters.
const (
	minPassword = 12
	maxPassword = 256
)

// wrongPassword says what is wrong with a new password, as a phrase that follows the word
// "password"; "" means nothing. Length is what counts (NIST SP 800-63B): nobody has to
// think of a digit.
func wrongPassword(password, email string) string {
	switch n := utf8.RuneCountInString(password); {
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return "holds control characters, or is not UTF-8"
	case n < minPassword:
		return fmt.Sprintf("must have at least %d characters; a few words do", minPassword)
	case n > maxPassword:
		return fmt.Sprintf("is longer than %d characters", maxPassword)
	case strings.EqualFold(password, email):
		return "must not be your e-mail address"
	}
	return ""
}

// hasher works out password hashes, a few at a time: each takes 19 MiB, and it is
// strangers who ask for it.
type hasher struct {
	slots chan struct{}
	done  atomic.Int64 // hashes worked out since the start
}

func newHasher() *hasher { return &hasher{slots: make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))} }

// hash returns the hash of a new password, with a salt of its own, in PHC format:
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt)
	key, err := h.key(ctx, password, salt, argonTime, argonMemory, argonLanes, 32)
	if err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes, b64(salt), b64(key)), nil
}

// matches says whether stored is the hash of password.
func (h *hasher) matches(ctx context.Context, password, stored string) (bool, error) {
	var version, memory, rounds uint32
	var lanes uint8
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, fmt.Errorf("stored password: not an argon2id hash")
	}
	_, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &rounds, &lanes)
	if err != nil || version != argon2.Version {
		return false, fmt.Errorf("stored password: parameters %q are not known", parts[2]+" "+parts[3])
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, fmt.Errorf("stored password: salt: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) < 16 {
		return false, fmt.Errorf("stored password: the hash is damaged")
	}
	got, err := h.key(ctx, password, salt, rounds, memory, lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1 && err == nil, err
}

// key waits for its turn, at most 10 seconds. Passwords that look the same are the same: é may
// be one character or two, depending on the keyboard.
func (h *hasher) key(ctx context.Context, password string, salt []byte, rounds, memory uint32, lanes uint8, size uint32) ([]byte, error) {
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-patience.C:
		return nil, &grantway.Error{Code: grantway.Unavailable, Message: "too many people sign in at this moment; try again", RetryAt: time.Now().Add(10 * time.Second)}
	}
	h.done.Add(1)
	return argon2.IDKey([]byte(norm.NFC.String(password)), salt, rounds, memory, lanes, size), nil
}
