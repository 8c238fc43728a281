package secret

import (
	"fmt"
	"log/slog"
)

// Redacted is printed in place of a secret.
const Redacted = "[secret]"

var (
	_ fmt.Formatter  = Secret{}
	_ slog.LogValuer = Secret{}
)

// Format prints Redacted for every verb and flag (B02).
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// String returns Redacted.
func (Secret) String() string { return Redacted }

// LogValue logs Redacted.
func (Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns Redacted, so that encoding/json and similar packages encode it.
func (Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
