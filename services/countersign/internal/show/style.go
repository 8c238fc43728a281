package show

import (
	"strings"
	"unicode/utf8"
)

// Style is what the reader of an output can see.
type Style struct {
	// Width is the number of columns.
	Width int
	// Unicode says that the output may have characters beyond ASCII.
	Unicode bool
	// Color says that the output may have the colours of a terminal.
	Color bool
}

// Hues are colours of a terminal.
const (
	plain = ""
	red   = "\x1b[31m"
	green = "\x1b[32m"
	amber = "\x1b[33m"
	reset = "\x1b[0m"
)

func (s Style) paint(hue, text string) string {
	if !s.Color || hue == plain || text == "" {
		return text
	}
	return hue + text + reset
}

// part is a share of a bar.
type part struct {
	size           uint64
	unicode, ascii string
	hue            string
}

// bar draws parts in proportion, in so many columns. A part that is not zero is at least one column wide, so
// that one request in a million is seen too.
func (s Style) bar(columns int, parts ...part) string {
	total := uint64(0)
	for _, p := range parts {
		total += p.size
	}
	if total == 0 {
		return strings.Repeat(" ", columns)
	}
	widths, sum, widest := make([]int, len(parts)), 0, 0
	for i, p := range parts {
		widths[i] = int(float64(columns)*float64(p.size)/float64(total) + 0.5)
		if p.size > 0 {
			widths[i] = max(widths[i], 1)
		}
		if sum += widths[i]; widths[i] > widths[widest] {
			widest = i
		}
	}
	widths[widest] += columns - sum
	var drawn strings.Builder
	for i, p := range parts {
		sign := p.ascii
		if s.Unicode {
			sign = p.unicode
		}
		drawn.WriteString(s.paint(p.hue, strings.Repeat(sign, max(widths[i], 0))))
	}
	return drawn.String()
}

// wrap breaks a text into lines of at most the style's width. The first line begins with one indentation, the
// others with another one.
func (s Style) wrap(first, others, text string) string {
	var wrapped strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch size := utf8.RuneCountInString(word); {
		case i == 0:
			wrapped.WriteString(first)
			column = utf8.RuneCountInString(first)
		case column+1+size > s.Width:
			wrapped.WriteString("\n" + others)
			column = utf8.RuneCountInString(others)
		default:
			wrapped.WriteByte(' ')
			column++
		}
		wrapped.WriteString(word)
		column += utf8.RuneCountInString(word)
	}
	wrapped.WriteByte('\n')
	return wrapped.String()
}

// Arrow returns the sign before the name of a token that replaces the token above it.
func (s Style) Arrow() string {
	if s.Unicode {
		return "↳ "
	}
	return "-> "
}
