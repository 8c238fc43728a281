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
	return sum, nil
}

// Moment is a flag for a time: in RFC 3339, such as 2027-01-31T12:00:00Z, or as a duration from now. It is kept to the
// millisecond, as the authority does, so that Text names it exactly.
type Moment struct {
	time.Time
	// Absolute allows no durations.
	Absolute bool
}

// Type is how the help text calls the value.
func (*Moment) Type() string { return "time" }

// String returns the time, empty when there is none.
func (m *Moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Text()
}

// Text returns the time in a form that Set takes.
func (m *Moment) Text() string { return m.UTC().Format("2006-01-02T15:04:05.999Z07:00") }

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
		at = time.Now().Add(from)
	}
	m.Time = at.Truncate(time.Millisecond)
	return nil
}
