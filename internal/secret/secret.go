// Package secret resolves references to external secrets. A reference names a store, a
// key in it and perhaps a member of the value; the value itself never enters our database.
//
// The stores "env" and "file" are always there and are read at every use: the environment
// does not change, and a mounted file costs less than a cache of it would, which could be
// stale. All others are data of the hub, and reached over the network. What they answer is
// kept in memory:
//
//	read ──▶ fresh ──time to live──▶ read again at the next use ──store is away──▶ still used
//	                                                               until the hard limit
//
// A store that says that a key is gone, or not ours to read, is believed at once.
//
// A vendor that keeps secrets also keeps keys, and lets in by the same sign-in. So OpenKey is
// here, too: the key-encryption key of the hub itself, in a KMS.
package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/grantway/grantway"
)

// Store is one place external secrets come from. Implementations are safe for concurrent use.
type Store interface {
	// Describe tells people what the store is.
	Describe() grantway.SecretStore
	// Read returns the value under key. The error is a *grantway.Error made by fault, which
	// names the store and says what is wrong.
	Read(ctx context.Context, key, version string) ([]byte, error)
	// SignIn proves that the store can be reached and lets us in.
	SignIn(ctx context.Context) error
}

// reason classes what can go wrong with a store.
type reason int

const (
	unreachable reason = iota // no connection, or an answer that makes no sense
	sealed                    // a Vault that was not unsealed
	throttled                 // too many requests
	refused                   // the store does not accept our sign-in
	denied                    // signed in, but not allowed to read this key
	missing                   // no such key, field or version
	deleted                   // the key or version was there
	unusable                  // it is there, and is not what the reference says
)

// away says whether the fault is of the way to the secret, and not an answer about it. Then
// a value that was read before is still good.
func (r reason) away() bool { return r <= refused }

// trouble is the cause inside an error of a store.
type trouble struct {
	reason reason
	text   string // what is wrong, without the name of the store
	err    error
}

func (t *trouble) Error() string {
	if t.err == nil {
		return "secret store"
	}
	return t.err.Error()
}
func (t *trouble) Unwrap() error { return t.err }

// fault is an error of the named store. err is for the log and may be nil.
func fault(store string, r reason, err error, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	e := &grantway.Error{Code: grantway.Unavailable, Message: "secret store " + store + ": " + text, Err: &trouble{r, text, err}}
	if r == missing || r == deleted {
		e.Code = grantway.NotFound
	}
	return e
}

// reasonOf is the reason inside an error of a store.
func reasonOf(err error) reason {
	var t *trouble
	if errors.As(err, &t) {
		return t.reason
	}
	return unreachable
}

// notFound says that a store has no such key. there is the key as the store spells it.
func notFound(store, key, there string) error {
	text := "has no key " + named(key, there)
	return &grantway.Error{Code: grantway.NotFound, Message: "secret store " + store + " " + text, Err: &trouble{missing, text, nil}}
}

// named is a key in a message, with its spelling in the store where that is another one.
func named(key, there string) string {
	if key == there {
		return key
	}
	return key + " (there: " + there + ")"
}

// mapped is key with everything that a store does not allow in a name replaced by "-".
func mapped(key string, allowed func(r rune) bool) string {
	return strings.Map(func(r rune) rune {
		if allowed(r) {
			return r
		}
		return '-'
	}, key)
}

func alphanumeric(r rune) bool {
	return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// pick takes what ref asks for out of the value of its key. With ref.Field the value must be
// a JSON object and the member's text is the result. A store whose values are always objects
// needs no field when there is only one. Line ends at the end of a value are not part of it:
// files and editors add them, and no client secret has them.
func pick(value []byte, ref grantway.SecretRef, objects bool) (grantway.Secret, error) {
	if ref.Field != "" || objects {
		return member(value, ref, objects)
	}
	text := strings.TrimRight(string(value), "\r\n")
	if text == "" {
		return "", fault(ref.Store, unusable, nil, "key %s is empty", ref.Key)
	}
	return grantway.Secret(text), nil
}

func member(value []byte, ref grantway.SecretRef, objects bool) (grantway.Secret, error) {
	var object map[string]json.RawMessage
	if json.Unmarshal(value, &object) != nil {
		return "", fault(ref.Store, unusable, nil, "key %s is not a JSON object, so it has no field %s", ref.Key, ref.Field)
	}
	field := ref.Field
	if field == "" {
		var names []string
		for name := range object {
			names = append(names, name)
		}
		if slices.Sort(names); len(names) != 1 {
			return "", fault(ref.Store, unusable, nil, "key %s has the fields %s; the reference must name one", ref.Key, strings.Join(names, ", "))
		}
		field = names[0]
	}
	raw, ok := object[field]
	if !ok {
		return "", fault(ref.Store, missing, nil, "key %s has no field %s", ref.Key, field)
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw) // a number or a nested object: its JSON is the value
	}
	if objects {
		text = strings.TrimRight(text, "\r\n")
	}
	if text == "" {
		return "", fault(ref.Store, unusable, nil, "field %s of key %s is empty", field, ref.Key)
	}
	return grantway.Secret(text), nil
}
