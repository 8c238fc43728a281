package secret_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/countersign/countersign/pkg/secret"
)

// keeper holds a secret in an unexported field, which fmt reads by reflection without calling its methods.
type keeper struct {
	name   string
	secret secret.Secret
}

// TestB02_UnexportedFieldsHideTheSecret: fmt does not call Format for a field that it cannot read as an
// interface.
func TestB02_UnexportedFieldsHideTheSecret(t *testing.T) {
	s := secret.Mint()
	for kind, value := range map[string]any{
		"struct": keeper{"partner", s}, "pointer": &keeper{"partner", s}, "slice": []keeper{{"partner", s}},
		"slice in a struct": struct{ many []secret.Secret }{[]secret.Secret{s}},
		"map in a struct":   struct{ byName map[string]secret.Secret }{map[string]secret.Secret{"k": s}},
	} {
		for _, verb := range "vsqxXdobcOUeEfFgGtTpw" {
			for _, flags := range []string{"", "+", "#", " "} {
				format := "%" + flags + string(verb)
				checkHidden(t, format+" of a "+kind, fmt.Sprintf(format, value), s)
			}
		}
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("call", "command", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("call", "command", value)
		checkHidden(t, "a log of a "+kind, out.String(), s)
	}
}

// TestB02_MisusedVerbsHideTheSecret: for an unsuitable verb, fmt prints the value without calling its
// methods.
func TestB02_MisusedVerbsHideTheSecret(t *testing.T) {
	s := secret.Mint()
	for _, value := range []any{s, &s, hold(s), []secret.Secret{s}} {
		for verb := rune(1); verb < 256; verb++ {
			for _, flags := range []string{"", "+", "#", "5"} {
				format := "%" + flags + string(verb)
				checkHidden(t, format, fmt.Sprintf(format, value), s)
				checkHidden(t, format, fmt.Errorf(format, value).Error(), s)
			}
		}
		for _, format := range []string{"none", "%[2]v", "%[1]*d", "%.*d", "%!", "%"} {
			checkHidden(t, format, fmt.Sprintf(format, value), s)
		}
	}
}
