package testbed

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/internal/load"
)

// Rates is a flag with rates in calls a second, such as 500,3000.
type Rates []int

// noRates is the flag's value when there are to be no open loops.
const noRates = "none"

// Type returns the type's name for help texts.
func (*Rates) Type() string { return "rates" }

// String returns the rates with commas between them.
func (r *Rates) String() string {
	if len(*r) == 0 {
		return noRates
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*r), " ", ","), "[]")
}

// Set parses rates.
func (r *Rates) Set(text string) error {
	var rates Rates
	for part := range strings.SplitSeq(text, ",") {
		rate, err := strconv.Atoi(part)
		if err != nil && text == noRates {
			break
		}
		if err != nil || rate < 1 || rate > load.MaxRate {
			return fmt.Errorf("want numbers from 1 to %d with commas between them, or %s", load.MaxRate, noRates)
		}
		rates = append(rates, rate)
	}
	*r = rates
	return nil
}

// Mix is a flag for the kind of tokens that calls carry.
type Mix string

// The mixes.
const (
	// Valid tokens are known, ACTIVE and have the scope.
	Valid Mix = "valid"
	// Unknown tokens have the form of a secret, but belong to no app.
	Unknown Mix = "unknown"
	// Malformed tokens are secrets with a wrong last character.
	Malformed Mix = "malformed"
	// Missing means that the question carries no token.
	Missing Mix = "missing"
	// Revoked tokens belong to the app, and were revoked.
	Revoked Mix = "revoked"
	// Others are tokens that are valid for another app.
	Others Mix = "others"
	// Mixed is 16 parts of Valid and one part each of Unknown, Revoked, Others and Missing.
	Mixed Mix = "mixed"
)

// Mixes are all mixes. The mixes with a single kind of token come first.
var Mixes = []Mix{Valid, Unknown, Malformed, Missing, Revoked, Others, Mixed}

// Type returns the type's name for help texts.
func (*Mix) Type() string { return "word" }

// String returns the mix as the flag spells it.
func (m *Mix) String() string { return string(*m) }

// Set parses the name of a mix.
func (m *Mix) Set(text string) error {
	if !slices.Contains(Mixes, Mix(text)) {
		return fmt.Errorf("want one of %s", report.List(Mixes))
	}
	*m = Mix(text)
	return nil
}
