package visible

import "testing"

func TestNamesAndTexts(t *testing.T) {
	for _, hidden := range []string{
		"a\u200bb", "a\u200db", "a\u202eb", "a\u2066b", "\ufeffa", "a\u2028b", "\u3164", "a\ufe0f", "a\U000e0041", "\u2800",
		"a\ue000",
		"a\u00a0b", "a\xff", "a\x1b[2J", "a\rb", "a\x00",
	} {
		if Name(hidden) || Text(hidden) {
			t.Errorf("%q: a name %t, a text %t", hidden, Name(hidden), Text(hidden))
		}
	}
	for _, lines := range []string{"a\nb", "a\tb"} {
		if Name(lines) || !Text(lines) {
			t.Errorf("%q: a name %t, a text %t", lines, Name(lines), Text(lines))
		}
	}
	for _, plain := range []string{"", "backend 1", "Café", "価格", "שלום", "🙂"} {
		if !Name(plain) || !Text(plain) {
			t.Errorf("%q: a name %t, a text %t", plain, Name(plain), Text(plain))
		}
	}
}
