package show

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// A bar has the asked width, and each part that is not zero can be seen.
func TestBar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(10, 200).Draw(t, "columns")
		a, b := rapid.Uint64Range(0, 1<<40).Draw(t, "a"), rapid.Uint64Range(0, 1<<40).Draw(t, "b")
		for _, style := range []Style{{}, {Unicode: true}} {
			bar := style.bar(columns, part{a, "█", "#", green}, part{b, "▒", "x", red})
			first, second := "#", "x"
			if style.Unicode {
				first, second = "█", "▒"
			}
			if utf8.RuneCountInString(bar) != columns {
				t.Fatalf("%q has not %d columns", bar, columns)
			}
			if strings.Contains(bar, first) != (a > 0) || strings.Contains(bar, second) != (b > 0) {
				t.Fatalf("%d and %d are %q", a, b, bar)
			}
		}
	})
	if got, want := (Style{Color: true}).bar(4, part{1, "█", "#", green}, part{1, "▒", "x", red}),
		"\x1b[32m##\x1b[0m\x1b[31mxx\x1b[0m"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Wrapped text keeps all words, and no line is wider than the style unless it is one word.
func TestWrap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		style := Style{Width: rapid.IntRange(10, 100).Draw(t, "width")}
		words := rapid.SliceOfN(rapid.StringMatching(`[a-zé]{1,30}`), 1, 40).Draw(t, "words")
		wrapped := style.wrap("- ", "  ", strings.Join(words, " "))
		if got := strings.Fields(strings.TrimPrefix(wrapped, "- ")); strings.Join(got, " ") != strings.Join(words, " ") {
			t.Fatalf("%q became %q", words, got)
		}
		for line := range strings.Lines(wrapped) {
			line = strings.TrimSuffix(line, "\n")
			if utf8.RuneCountInString(line) > style.Width && len(strings.Fields(strings.TrimPrefix(line, "- "))) > 1 {
				t.Fatalf("%q is wider than %d", line, style.Width)
			}
		}
	})
}

// The bar is drawn on one line, at most every tenth of a second, and always at the end.
func TestProgress(t *testing.T) {
	var out strings.Builder
	bar := NewProgress(&out, Style{Width: 100})
	for i := range 1000 {
		bar.Set(1000, i+1, 0)
	}
	if n := strings.Count(out.String(), "\r"); n < 2 || n > 100 && time.Since(bar.begun) < time.Second {
		t.Errorf("drawn %d times", n)
	}
	if last := out.String()[strings.LastIndexByte(out.String(), '\r'):]; !strings.HasPrefix(last, "\r["+strings.Repeat("#", 40)+
		"] 1,000 of 1,000, ") || strings.Contains(out.String(), "\n") {
		t.Errorf("%q", last)
	}
}
