package management

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/countersign/countersign/pkg/apierr"
)

// cleanName trims, normalises (NFC) and checks a token's name, so that two names that look the same are the same (B01).
func cleanName(field, name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", apierr.Invalid(field, "want UTF-8")
	}
	name = norm.NFC.String(strings.TrimSpace(name))
	switch {
	case name == "" || utf8.RuneCountInString(name) > maxNameLength:
		return "", apierr.Invalid(field, "want 1 to %d characters", maxNameLength)
	case strings.ContainsFunc(name, unseen):
		return "", apierr.Invalid(field, "want characters that can be seen, and plain spaces between them: no control, zero-width or bidirectional characters, no byte order mark")
	}
	return name, checkNoSecret(field, name)
}

// unseen reports characters that are not shown, or not shown the same everywhere: controls, formats, other spaces than
// the plain one, private and unassigned ones, and those that Unicode says to leave out when they are not supported, such
// as Hangul fillers and variation selectors.
func unseen(r rune) bool {
	const brailleBlank = '\u2800'
	return !unicode.IsPrint(r) || r == brailleBlank || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
