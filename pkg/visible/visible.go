// Package visible tells characters that people see from those that hide in a name. It decides nothing about
// lengths and forms.
package visible

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hidden reports characters that are not shown, or not shown the same everywhere: controls, formats
// (zero-width and bidirectional ones, the byte order mark), other spaces than the plain one, private and
// unassigned ones, and those that Unicode says to leave out when they are not supported, such as Hangul
// fillers and variation selectors.
func Hidden(r rune) bool {
	const brailleBlank = '\u2800'
	return !unicode.IsPrint(r) || r == brailleBlank || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// Name tells whether a text is UTF-8 and holds nothing hidden.
func Name(text string) bool { return utf8.ValidString(text) && !strings.ContainsFunc(text, Hidden) }

// Text is Name for a text of several lines, which may hold line feeds and tabs.
func Text(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && Hidden(r) })
}
