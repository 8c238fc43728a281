package words

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// day is what a d in a duration stands for: 24 hours, whatever the clocks do meanwhile.
const day = 24 * time.Hour

// Days is a flag for a duration that may be given in days: 7d, 1d12h, 720h.
type Days time.Duration

// Type is how the help text calls the value.
func (*Days) Type() string { return "duration" }

// String returns the duration; empty for 0, which as a default is no default.
func (d *Days) String() string {
	if *d == 0 {
		return ""
	}
	return Span(time.Duration(*d))
}

// Set takes a duration.
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

// Moment is a flag for a time: in RFC 3339, such as 2027-01-31T12:00:00Z, or as a duration, which is kept
// as it was given, so that the same command gives the same again. Both are kept to the millisecond, as the
// authority does.
type Moment struct {
	// Time is zero when a duration was given, or nothing.
	time.Time
	// After is the duration; nil when a time was given, or nothing.
	After *time.Duration
	// Absolute allows no durations.
	Absolute bool
}

// Type is how the help text calls the value.
func (*Moment) Type() string { return "time" }

// String returns the time or the duration, empty when there is none.
func (m *Moment) String() string {
	switch {
	case m.After != nil:
		return Span(*m.After)
	case m.IsZero():
		return ""
	}
	return m.UTC().Format("2006-01-02T15:04:05.999Z07:00")
}

// Set takes a time.
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
