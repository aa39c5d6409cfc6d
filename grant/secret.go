package grant

import (
	"fmt"
	"log/slog"
)

// Secret is a value that must not be read back: a client secret, a private key, a token.
// It prints, formats, marshals and logs as "[secret]"; convert it to string, on purpose
// and at the last moment, where its value is needed.
type Secret string

const redacted = "[secret]"

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer, so that %#v does not print the value either.
func (s Secret) GoString() string { return redacted }

// Format implements fmt.Formatter: every verb, %x and %q among them, prints the same.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// MarshalText implements encoding.TextMarshaler, and so covers JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
