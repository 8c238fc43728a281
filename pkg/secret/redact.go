package secret

import (
	"fmt"
	"log/slog"
)

// Redacted stands wherever a secret would have been printed.
const Redacted = "[secret]"

var (
	_ fmt.Formatter  = Secret{}
	_ slog.LogValuer = Secret{}
)

// Format prints the placeholder for every verb and flag (B02).
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(Redacted)) }

// String returns the placeholder.
func (Secret) String() string { return Redacted }

// LogValue logs the placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText encodes the placeholder, which is what encoding/json and its like call.
func (Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
