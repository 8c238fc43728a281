package words

import (
	"fmt"
	"strings"
)

// Count formats a number with commas between groups of three digits: 4,211.
func Count(n uint64) string {
	digits := fmt.Sprint(n)
	var text strings.Builder
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			text.WriteByte(',')
		}
		text.WriteByte(digits[i])
	}
	return text.String()
}

// Share formats a share of a total in percent: 0.5 %. A share that is neither 0 nor everything never looks
// like it.
func Share(part, total uint64) string {
	if total == 0 || part == 0 {
		return "0 %"
	}
	percent := 100 * float64(part) / float64(total)
	switch {
	case part >= total:
		return "100 %"
	case percent < 0.01:
		return "< 0.01 %"
	case percent >= 99.95: // would be rounded to everything
		return "> 99.9 %"
	case percent < 1:
		return fmt.Sprintf("%.2f %%", percent)
	}
	return fmt.Sprintf("%.1f %%", percent)
}

// Plural formats a number of things: "1 token", "2,000 tokens".
func Plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return Count(uint64(n)) + " " + thing + "s"
}
