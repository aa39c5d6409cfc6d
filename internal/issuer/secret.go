package issuer

import (
	"crypto/rand"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"strings"
)

// A secret is a prefix, 43 random characters (256 bits), and 6 characters of
// checksum over both, by which scanners of source code tell it from a random string, and we tell a
// mistyped one without asking the database. All of it is letters, digits and "_", so it
// reads the same with and without the encoding of RFC 6749 Appendix B. Opaque access tokens have the
// same prefix and checksum around something else, see opaqueClaims.
const (
	secretPrefix = "gws_"
	tokenPrefix  = "gwt_"
	randomChars  = 43
	checkChars   = 6
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func newSecret(prefix string) string {
	text := append(make([]byte, 0, 64), prefix...)
	var random [64]byte
	for len(text) < len(prefix)+randomChars {
		rand.Read(random[:])
		for _, b := range random {
			// 248 is a multiple of 62: larger bytes would make some characters likelier.
			if b < 248 && len(text) < len(prefix)+randomChars {
				text = append(text, base62[b%62])
			}
		}
	}
	return string(appendChecksum(text))
}

func appendChecksum(text []byte) []byte {
	sum := crc32.ChecksumIEEE(text)
	for range checkChars {
		text = append(text, base62[sum%62])
		sum /= 62
	}
	return text
}

// wellFormed says whether text has that prefix and the right checksum.
func wellFormed(prefix, text string) bool {
	body := len(text) - checkChars
	if body <= len(prefix) || !strings.HasPrefix(text, prefix) {
		return false
	}
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
