package settings

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// Duration defines a flag for a duration from least to most, both included, such as 250ms or 1h30m.
func Duration(flags *pflag.FlagSet, name string, value, least, most time.Duration, usage string) *time.Duration {
	d := &duration{value: value, least: least, most: most}
	flags.Var(d, name, usage)
	return &d.value
}

type duration struct {
	value, least, most time.Duration
}

// Type returns the placeholder of the value in help texts.
func (d *duration) Type() string { return "duration" }

// String returns the duration.
func (d *duration) String() string { return d.value.String() }

// Set parses a duration in the format of time.ParseDuration.
func (d *duration) Set(value string) error {
	parsed, err := time.ParseDuration(value)
	if err != nil {
		return errors.New("want a duration, such as 250ms, 10s or 1h30m")
	}
	if parsed < d.least || parsed > d.most {
		return fmt.Errorf("want a duration from %s to %s", d.least, d.most)
	}
	d.value = parsed
	return nil
}
