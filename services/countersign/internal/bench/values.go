package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rates are numbers of calls a second.
type Rates []int

// noRates is how a person says that there are none.
const noRates = "none"

// Type is how a help text calls the value.
func (*Rates) Type() string { return "rates" }

// String returns the rates with commas between them.
func (r *Rates) String() string {
	if len(*r) == 0 {
		return noRates
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*r), " ", ","), "[]")
}

// Set takes rates.
func (r *Rates) Set(text string) error {
	var rates Rates
	for part := range strings.SplitSeq(text, ",") {
		rate, err := strconv.Atoi(part)
		if err != nil && text == noRates {
			break
		}
		if err != nil || rate < 1 || rate > maxRate {
			return fmt.Errorf("want numbers from 1 to %d with commas between them, or %s", maxRate, noRates)
		}
		rates = append(rates, rate)
	}
	*r = rates
	return nil
}

// Mix is what calls ask about.
type Mix string

// The mixes. A valid token is known, ACTIVE and has the scope; an unknown one has the form of a secret and
// is nobody's; a malformed one is a secret with a letter wrong; another app's is valid there. Mixed is
// mostly valid, with unknown, revoked, other apps' and missing tokens among them.
const (
	Valid     Mix = "valid"
	Unknown   Mix = "unknown"
	Malformed Mix = "malformed"
	Missing   Mix = "missing"
	Revoked   Mix = "revoked"
	Others    Mix = "others"
	Mixed     Mix = "mixed"
)

// Mixes are all of them, those of one kind first.
var Mixes = []Mix{Valid, Unknown, Malformed, Missing, Revoked, Others, Mixed}

// Type is how a help text calls the value.
func (*Mix) Type() string { return "word" }

// String returns the word.
func (m *Mix) String() string { return string(*m) }

// Set takes one of the words.
func (m *Mix) Set(text string) error {
	if !slices.Contains(Mixes, Mix(text)) {
		return fmt.Errorf("want one of %s", words(Mixes))
	}
	*m = Mix(text)
	return nil
}

// words writes names with commas between them.
func words[T ~string](names []T) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ", ")
}
