// Package visible finds characters that people cannot see in a name. It does not check lengths or forms. This
// package is not part of the public API and may change in any release.
package visible

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hidden reports whether a character is not shown, or not shown the same everywhere. Such are controls,
// format characters (zero-width, bidirectional, the byte order mark), spaces other than U+0020, and private
// and unassigned characters. So are characters that Unicode says to ignore when they are not supported, such
// as Hangul fillers and variation selectors.
func Hidden(r rune) bool {
	const brailleBlank = '\u2800'
	return !unicode.IsPrint(r) || r == brailleBlank ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Name reports whether a text is valid UTF-8 without hidden characters.
func Name(text string) bool { return utf8.ValidString(text) && !strings.ContainsFunc(text, Hidden) }

// Text is Name for a text of several lines: it also allows line feeds and tabs.
func Text(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text,
		func(r rune) bool { return r != '\n' && r != '\t' && Hidden(r) })
}
