package issuer

import (
	"crypto/rand"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"strings"
)

// A secret or token is a prefix, 43 random characters (256 bits), and 6 characters of
// checksum over both, by which scanners of source code tell it from a random string, and we tell a
// mistyped one without asking the database. All of it is letters, digits and "_", so it
// reads the same with and without the encoding of RFC 6749 Appendix B. An access token also
// says when it expires, in between; see tokenRow.
const (
	secretPrefix = "gws_"
	tokenPrefix  = "gwt_"
	randomChars  = 43
	expiryChars  = 8
	checkChars   = 6
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func newSecret(prefix string) string {
	return string(appendChecksum(appendRandom([]byte(prefix))))
}

// newToken makes an access token that expires then, in Unix milliseconds.
func newToken(expires int64) string {
	return string(appendChecksum(appendNumber(appendRandom([]byte(tokenPrefix)), expires, expiryChars)))
}

// expiryOf says when an access token expires, in Unix milliseconds; ok is false for what newToken
// has not made.
func expiryOf(token string) (expires int64, ok bool) {
	if !wellFormed(tokenPrefix, expiryChars, token) {
		return 0, false
	}
	digits := token[len(tokenPrefix)+randomChars:][:expiryChars]
	for k := len(digits) - 1; k >= 0; k-- {
		digit := strings.IndexByte(base62, digits[k])
		if digit < 0 {
			return 0, false
		}
		expires = expires*62 + int64(digit)
	}
	return expires, true
}

func appendRandom(text []byte) []byte {
	prefix := len(text)
	var random [64]byte
	for len(text) < prefix+randomChars {
		rand.Read(random[:])
		for _, b := range random {
			// 248 is a multiple of 62: larger bytes would make some characters likelier.
			if b < 248 && len(text) < prefix+randomChars {
				text = append(text, base62[b%62])
			}
		}
	}
	return text
}

// appendNumber writes so many digits of n, the lowest first.
func appendNumber(text []byte, n int64, digits int) []byte {
	for range digits {
		text = append(text, base62[n%62])
		n /= 62
	}
	return text
}

func appendChecksum(text []byte) []byte {
	return appendNumber(text, int64(crc32.ChecksumIEEE(text)), checkChars)
}

// wellFormed says whether text has that prefix, so many characters behind the random ones, and the
// right checksum.
func wellFormed(prefix string, more int, text string) bool {
	if len(text) != len(prefix)+randomChars+more+checkChars || !strings.HasPrefix(text, prefix) {
		return false
	}
	body := len(text) - checkChars
	return string(appendChecksum([]byte(text[:body]))[body:]) == text[body:]
}

// hash is what the database holds of a secret or token: HMAC-SHA-256 under a key that is
// sealed in the database. A plain SHA-256 of 256 random bits would keep a reader of the
// database out as well; with the key he cannot even tell whether a string he found is one of
// them. A slow hash is for passwords that people choose, and would add nothing but load.
func (i *Issuer) hash(text string) string {
	mac := i.macs.Get().(hash.Hash)
	defer i.macs.Put(mac)
	mac.Reset()
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
