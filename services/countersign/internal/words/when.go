package words

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// day is the unit d of a duration: always 24 hours, also when clocks change.
const day = 24 * time.Hour

// Days is a flag for a duration that may be given in days: 7d, 1d12h, 720h.
type Days time.Duration

// Type returns the placeholder of the value in help texts.
func (*Days) Type() string { return "duration" }

// String returns the duration; empty for 0, so that help texts show no default.
func (d *Days) String() string {
	if *d == 0 {
		return ""
	}
	return Span(time.Duration(*d))
}

// Set parses a duration.
func (d *Days) Set(text string) error {
	parsed, err := parseDays(text)
	if err != nil {
		return err
	}
	*d = Days(parsed)
	return nil
}

var errDuration = errors.New("want a duration, such as 30m, 12h, 7d or 1d12h")

func parseDays(text string) (time.Duration, error) {
	number, rest, inDays := strings.Cut(text, "d")
	if !inDays {
		number, rest = "0", text
	}
	days, err := strconv.ParseUint(number, 10, 32)
	if err != nil || days > uint64(math.MaxInt64/day) {
		return 0, errDuration
	}
	sum := time.Duration(days) * day
	if rest != "" {
		part, err := time.ParseDuration(rest)
		if err != nil || inDays && (part < 0 || part > math.MaxInt64-sum) {
			return 0, errDuration
		}
		sum += part
	} else if !inDays {
		return 0, errDuration
	}
	if sum < 0 {
		return 0, errors.New("want a duration that is not negative")
	}
	if 0 < sum && sum < time.Millisecond {
		return 0, errors.New("want 0, or at least 1ms")
	}
	return sum, nil
}

// Moment is a flag for a time in RFC 3339, such as 2027-01-31T12:00:00Z, or a duration. A duration stays one,
// so that the same command makes the same request again. Both are truncated to the millisecond, as in the
// authority.
type Moment struct {
	// Time is zero when a duration or nothing was given.
	time.Time
	// After is the duration; nil when a time or nothing was given.
	After *time.Duration
	// Absolute forbids durations.
	Absolute bool
}

// Type returns the placeholder of the value in help texts.
func (*Moment) Type() string { return "time" }

// String returns the time or the duration; empty when there is none.
func (m *Moment) String() string {
	switch {
	case m.After != nil:
		return Span(*m.After)
	case m.IsZero():
		return ""
	}
	return m.UTC().Format("2006-01-02T15:04:05.999Z07:00")
}

// Set parses a time or a duration.
func (m *Moment) Set(text string) error {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil && m.Absolute {
		return errors.New("want a time in RFC 3339, such as 2027-01-31T12:00:00Z")
	}
	if err != nil {
		from, err := parseDays(text)
		if err != nil {
			return errors.New("want a duration from now, such as 30d or 12h, or a time in RFC 3339, such as 2027-01-31T12:00:00Z")
		}
		from = from.Truncate(time.Millisecond)
		m.Time, m.After = time.Time{}, &from
		return nil
	}
	m.Time, m.After = at.Truncate(time.Millisecond), nil
	return nil
}
