package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/grantway/grantway"
	"github.com/grantway/grantway/internal/access"
	"github.com/grantway/grantway/internal/seal"
	"github.com/grantway/grantway/internal/store"
)

// The keys that sign JWTs, and those that seal opaque tokens. There is one of each algorithm that some client uses, and
// it has a successor in time:
//
//	created_at ── published, signs nothing ──> signs_from ── signs ──> signs_from of the next
//	    ── published, so that its last tokens can be checked ──> removed
//
// So nobody who fetches /oauth/jwks once in keyAhead ever meets a key he has not seen, and the
// only exception is the first key of an algorithm. Keys of opaque tokens are not at /oauth/jwks.
const (
	topicKey = "signing_key"

	keyAhead = 24 * time.Hour                             // published before it signs
	keyAfter = maxTokenSeconds*time.Second + 24*time.Hour // published after it has signed: tokens live, and caches
)

const kidLength = 16 // characters of a key's name

var signingAlgs = []string{grantway.AlgES256, grantway.AlgRS256, grantway.AlgEdDSA}

// signingKey is one key. It is immutable.
type signingKey struct {
	kid, alg string
	aead     tink.AEAD     // for opaque tokens; else nil, and the rest is for JWTs
	private  crypto.Signer // nil with aead
	header   string        // of an access token, encoded, with the dot

	plainHeader string // with the typ JWT
	createdAt   time.Time
	signsFrom   time.Time
	signsUntil  time.Time // zero: no successor yet
	jwk         jose.JSONWebKey
}

// keyring holds all keys that are published, the oldest first.
type keyring struct {
	v       atomic.Pointer[[]*signingKey]
	reading sync.Mutex // held while they are read again: a slow reader must not bring back a key that was removed
}

func (k *keyring) all() []*signingKey {
	if keys := k.v.Load(); keys != nil {
		return *keys
	}
	return nil
}

// signer is the key that signs with alg now; nil when there is none. The first one signs even if the clock here is behind.
func (k *keyring) signer(alg string, now time.Time) (found *signingKey) {
	for _, key := range k.all() {
		if key.alg == alg && (found == nil || !key.signsFrom.After(now)) {
			found = key
		}
	}
	return found
}

func (k *keyring) named(kid string) *signingKey {
	for _, key := range k.all() {
		if key.kid == kid {
			return key
		}
	}
	return nil
}

func keyPlace(kid string) seal.Place {
	return seal.Place{Table: "signing_key", Row: kid, Column: "sealed"}
}

// keysChanged reads the keys again.
func (i *Issuer) keysChanged(ctx context.Context, _ string) error {
	i.keys.reading.Lock()
	defer i.keys.reading.Unlock()
	keys, err := i.readKeys(ctx, i.Store.Read())
	if err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	old := i.keys.all()
	i.keys.v.Store(&keys)
	for _, key := range old {
		if i.keys.named(key.kid) == nil { // taken away; what it signed is no good any more
			i.sessions.drop(func(s *session) bool { return s.kid == key.kid })
		}
	}
	return nil
}

func (i *Issuer) readKeys(ctx context.Context, db store.Querier) (keys []*signingKey, err error) {
	err = store.Each(ctx, db, func(rows *sql.Rows) error {
		k := &signingKey{}
		var sealed []byte
		var created, from int64
		if err := rows.Scan(&k.kid, &k.alg, &sealed, &created, &from); err != nil {
			return err
		}
		k.createdAt, k.signsFrom = timeOf(created), timeOf(from)
		text, err := i.Sealer.Open(keyPlace(k.kid), sealed)
		if err != nil {
			return fmt.Errorf("key %s: %w", k.kid, err)
		}
		if err := k.parse(text); err != nil {
			return fmt.Errorf("key %s: %w", k.kid, err)
		}
		keys = append(keys, k)
		return nil
	}, `SELECT kid, alg, sealed, created_at, signs_from FROM signing_key ORDER BY signs_from, kid`)
	if err != nil {
		return nil, err
	}
	for n, k := range keys {
		for _, next := range keys[n+1:] {
			if next.alg == k.alg {
				k.signsUntil = next.signsFrom
				break
			}
		}
	}
	return keys, nil
}

// parse sets what generate has made.
func (k *signingKey) parse(text []byte) (err error) {
	if k.alg == opaqueAlg {
		k.aead, err = newOpaqueAEAD(text)
		return err
	}
	private, err := x509.ParsePKCS8PrivateKey(text)
	if err != nil {
		return err
	}
	k.private = private.(crypto.Signer)
	k.jwk = jose.JSONWebKey{Key: k.private.Public(), KeyID: k.kid, Algorithm: k.alg, Use: "sig"}
	header := func(typ string) string {
		text, _ := json.Marshal(map[string]string{"alg": k.alg, "kid": k.kid, "typ": typ}) // strings always can be
		return base64.RawURLEncoding.EncodeToString(text) + "."
	}
	k.header, k.plainHeader = header(tokenType), header(grantway.TypJWT)
	return nil
}

// ensureKey makes the first key of an algorithm. It signs at once: there were no tokens before
// it that anybody could have fetched keys for.
func (i *Issuer) ensureKey(ctx context.Context, tx *store.Tx, alg string) error {
	if alg == "" {
		return nil
	}
	if err := tx.Lock(ctx, topicKey); err != nil {
		return err
	}
	var there bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM signing_key WHERE alg = $1)`, alg).Scan(&there); err != nil || there {
		return err
	}
	now := time.Now()
	_, err := i.makeKey(ctx, tx, alg, now, now)
	return err
}

// haveKey reads the keys again if ensureKey has made one for c just now. If that fails, the feed
// of changes brings it.
func (i *Issuer) haveKey(ctx context.Context, c *client) {
	if c.TokenAlg != "" && i.keys.signer(c.TokenAlg, time.Now()) == nil {
		i.complain(ctx, "new signing key not read", i.keysChanged(ctx, ""))
	}
}

// makeKey writes a new key that signs from then on.
func (i *Issuer) makeKey(ctx context.Context, tx *store.Tx, alg string, now, from time.Time) (kid string, err error) {
	text, err := generate(alg)
	if err != nil {
		return "", err
	}
	kid = strings.ToLower(rand.Text())[:kidLength]
	sealed, err := i.Sealer.Seal(keyPlace(kid), text)
	if err != nil {
		return "", err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO signing_key (kid, alg, sealed, created_at, signs_from) VALUES ($1, $2, $3, $4, $5)`,
		kid, alg, sealed, now.UnixMilli(), from.UnixMilli())
	tx.Changed(topicKey, kid)
	return kid, err
}

// generate makes a key as it is stored: PKCS #8, or the bytes of newOpaqueAEAD.
func generate(alg string) (text []byte, err error) {
	var private any
	switch alg {
	case opaqueAlg:
		text = make([]byte, 2*opaqueKeySize)
		rand.Read(text)
		return text, nil
	case grantway.AlgES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case grantway.AlgRS256:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case grantway.AlgEdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("no algorithm %s", alg)
	}
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(private)
}

// sign signs text as a JWS does (RFC 7518 section 3).
func (k *signingKey) sign(text []byte) ([]byte, error) {
	switch key := k.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, text), nil
	case *rsa.PrivateKey:
		sum := sha256.Sum256(text)
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		sum := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		if err != nil {
			return nil, err
		}
		sig := make([]byte, 64)
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		return sig, nil
	}
	return nil, fmt.Errorf("key %s cannot sign", k.kid)
}

// rotateKeys makes the successor of each key that has signed for long enough, and removes keys whose
// last token has expired. An algorithm that no client uses gets no successor.
func (i *Issuer) rotateKeys(ctx context.Context, now time.Time) error {
	due := func(keys []*signingKey) (next []string, over []string) {
		for _, k := range keys {
			switch {
			case k.signsUntil.IsZero() && now.Add(keyAhead).After(k.signsFrom.Add(i.KeyPeriod)):
				next = append(next, k.alg)
			case !k.signsUntil.IsZero() && now.After(k.signsUntil.Add(keyAfter)):
				over = append(over, k.kid)
			}
		}
		return next, over
	}
	if next, over := due(i.keys.all()); len(next)+len(over) == 0 {
		return nil
	}
	used := map[string]bool{opaqueAlg: true}
	i.clients.all(func(_ *entry, c *client) { used[c.TokenAlg] = true })
	err := i.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, topicKey); err != nil {
			return err
		}
		keys, err := i.readKeys(ctx, tx) // another replica may have been faster
		if err != nil {
			return err
		}
		next, over := due(keys)
		for _, alg := range next {
			if !used[alg] {
				continue
			}
			kid, err := i.makeKey(ctx, tx, alg, now, now.Add(keyAhead))
			if err != nil {
				return err
			}
			if err := i.Audit.Record(ctx, tx, access.Hub(), grantway.Event{Action: "signing_key.create", Object: "signing-key/" + kid, Detail: alg}); err != nil {
				return err
			}
		}
		for _, kid := range over {
			if err := i.deleteKey(ctx, tx, access.Hub(), kid); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return i.keysChanged(ctx, "")
}

func (i *Issuer) deleteKey(ctx context.Context, tx *store.Tx, who access.Caller, kid string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM signing_key WHERE kid = $1`, kid); err != nil {
		return err
	}
	tx.Changed(topicKey, kid)
	return i.Audit.Record(ctx, tx, who, grantway.Event{Action: "signing_key.delete", Object: "signing-key/" + kid})
}

// SigningKeys lists the keys that are published. Errors are of code Forbidden.
func (i *Issuer) SigningKeys(ctx context.Context, who access.Caller) ([]grantway.SigningKey, error) {
	if err := i.Audit.RequireSomewhere(ctx, who, access.ReadClient, grantway.Event{Action: "signing_key.read"}); err != nil {
		return nil, err
	}
	all := []grantway.SigningKey{}
	for _, k := range i.keys.all() {
		one := grantway.SigningKey{ID: k.kid, Alg: k.alg, CreatedAt: k.createdAt, SignsFrom: k.signsFrom, SignsUntil: k.signsUntil}
		if !k.signsUntil.IsZero() {
			one.RemovedAt = k.signsUntil.Add(keyAfter)
		}
		all = append(all, one)
	}
	return all, nil
}

// RotateSigningKeys makes a successor, which signs in a day, for each algorithm whose key has none.
// Errors are of code Forbidden.
func (i *Issuer) RotateSigningKeys(ctx context.Context, who access.Caller) ([]grantway.SigningKey, error) {
	now := time.Now()
	return i.changeKeys(ctx, who, grantway.Event{Action: "signing_key.rotate"}, func(tx *store.Tx, keys []*signingKey) error {
		for _, k := range keys {
			if !k.signsUntil.IsZero() {
				continue
			}
			if k.signsFrom.After(now) {
				continue // a successor that waits
			}
			if _, err := i.makeKey(ctx, tx, k.alg, now, now.Add(keyAhead)); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveSigningKey takes a key away because it is no longer secret: all that it has signed is
// refused at once, on every replica within store.Staleness, and another key signs now.
// Errors are of code Forbidden or NotFound.
func (i *Issuer) RemoveSigningKey(ctx context.Context, who access.Caller, kid string) error {
	now := time.Now()
	_, err := i.changeKeys(ctx, who, grantway.Event{Action: "signing_key.remove", Object: access.Object("signing-key", kid)}, func(tx *store.Tx, keys []*signingKey) error {
		n := slices.IndexFunc(keys, func(k *signingKey) bool { return k.kid == kid })
		if n < 0 {
			return grantway.Errorf(grantway.NotFound, "there is no such signing key")
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM signing_key WHERE kid = $1`, kid); err != nil {
			return err
		}
		alg := keys[n].alg
		signs := slices.ContainsFunc(keys, func(k *signingKey) bool { return k.kid != kid && k.alg == alg && !k.signsFrom.After(now) })
		if signs && !keys[n].signsUntil.IsZero() {
			return nil
		}
		waiting := slices.IndexFunc(keys, func(k *signingKey) bool { return k.alg == alg && k.signsFrom.After(now) && k.kid != kid })
		if waiting >= 0 { // the successor is published already
			_, err := tx.ExecContext(ctx, `UPDATE signing_key SET signs_from = $1 WHERE kid = $2`, now.UnixMilli(), keys[waiting].kid)
			return err
		}
		if signs && keys[n].signsFrom.After(now) {
			return nil // it was the successor, and the schedule makes another
		}
		_, err := i.makeKey(ctx, tx, alg, now, now)
		return err
	})
	return err
}

// changeKeys runs f on the keys as they are, and records the event.
func (i *Issuer) changeKeys(ctx context.Context, who access.Caller, event grantway.Event, f func(*store.Tx, []*signingKey) error) ([]grantway.SigningKey, error) {
	if err := i.Audit.Require(ctx, who, access.RotateKey, access.Everywhere, event); err != nil {
		return nil, err
	}
	err := i.Store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, topicKey); err != nil {
			return err
		}
		keys, err := i.readKeys(ctx, tx)
		if err != nil {
			return err
		}
		if err := f(tx, keys); err != nil {
			return err
		}
		tx.Changed(topicKey, "")
		return i.Audit.Record(ctx, tx, who, event)
	})
	if err != nil {
		return nil, err
	}
	if err := i.keysChanged(ctx, ""); err != nil {
		return nil, err
	}
	return i.SigningKeys(ctx, who)
}

// jwks is the answer of /oauth/jwks.
func (i *Issuer) jwks() any {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range i.keys.all() {
		if k.private != nil {
			set.Keys = append(set.Keys, k.jwk)
		}
	}
	return set
}
