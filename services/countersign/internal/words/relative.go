package words

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/visible"
)

// Span formats a duration in its largest unit and the next smaller one, rounded: 7d, 1d12h, 2m5s, 90ms.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(time.Second).String()
	}
	units := []struct {
		name string
		size time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, unit := range units {
		if d < unit.size {
			continue
		}
		below := units[i+1]
		if rounded := d.Round(below.size); rounded != d {
			return Span(rounded) // rounding may reach a larger unit
		}
		text := fmt.Sprintf("%d%s", d/unit.size, unit.name)
		if rest := d % unit.size / below.size; rest > 0 {
			text += fmt.Sprintf("%d%s", rest, below.name)
		}
		return text
	}
	return ""
}

// Relative formats a time relative to now: "in 7d", "2h5m ago", "just now"; "-" for none.
func Relative(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "-"
	}
	switch until := t.AsTime().Sub(now); {
	case until >= time.Second:
		return "in " + Span(until)
	case until <= -time.Second:
		return Span(-until) + " ago"
	}
	return "just now"
}

// Time formats a time in the local zone, and relative to now; "-" for none.
func Time(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Local().Format(time.RFC3339) + " (" + Relative(t, now) + ")"
}

// Printable escapes, as in Go, what is not printable in a foreign text, so that the text cannot control the
// terminal.
func Printable(text string) string {
	var clean strings.Builder
	for _, r := range text {
		if !visible.Hidden(r) {
			clean.WriteRune(r)
		} else {
			clean.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return clean.String()
}
