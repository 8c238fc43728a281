package management

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/visible"
)

// cleanName trims, normalises (NFC) and checks a token's name, so that two names that look the same are equal
// (B01).
func cleanName(field, name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", apierr.Invalid(field, "want UTF-8")
	}
	name = norm.NFC.String(strings.TrimSpace(name))
	switch {
	case name == "" || utf8.RuneCountInString(name) > maxNameLength:
		return "", apierr.Invalid(field, "want 1 to %d characters", maxNameLength)
	case !visible.Name(name):
		return "", apierr.Invalid(field, "want characters that can be seen, and plain spaces between them: "+
			"no control, zero-width or bidirectional characters, no byte order mark")
	}
	return name, checkNoSecret(field, name)
}
