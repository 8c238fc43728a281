package report

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/services/internal/load"
)

const unknown = "unknown"

// OrUnknown returns a text, or "unknown" when it is empty.
func OrUnknown(text string) string {
	if text == "" {
		return unknown
	}
	return text
}

// CPUTime writes nanoseconds of CPU time in microseconds. A median of 0 is unknown.
func CPUTime(q Quartiles) string {
	if q.Median == 0 {
		return unknown
	}
	return fmt.Sprintf("%.2f us [%.2f, %.2f]", q.Median/1000, q.Q1/1000, q.Q3/1000)
}

// Times writes a ratio; nil, which means that there is nothing to compare with, is a dash.
func Times(r *Ratio) string {
	if r == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]", r.Median, r.Q1, r.Q3)
}

// Latency writes microseconds.
func Latency(q Quartiles) string {
	return fmt.Sprintf("%s [%s, %s]", load.Micros(q.Median), load.Micros(q.Q1), load.Micros(q.Q3))
}

// Percent writes a part of 1. A part of 0 is unknown.
func Percent(part float64) string {
	if part == 0 {
		return unknown
	}
	return fmt.Sprintf("%.0f %%", 100*part)
}

// Number writes a number with at most one decimal.
func Number(v float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
}

// Thousands writes a number with commas between its thousands.
func Thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Bytes writes an amount of memory.
func Bytes(n float64) string {
	units := []string{"B", "kB", "MB", "GB"}
	for _, unit := range units {
		if n < 1000 || unit == units[len(units)-1] {
			return fmt.Sprintf("%s %s", Number(n), unit)
		}
		n /= 1000
	}
	return ""
}

// If returns the formatted text when the condition holds, else nothing.
func If(condition bool, format string, args ...any) string {
	if !condition {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// List writes names with commas between them.
func List[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}
