package settings

import (
	"fmt"

	"github.com/spf13/pflag"
)

// emptyAllowed annotates a flag whose empty value has a meaning.
const emptyAllowed = "countersign_empty_allowed"

// MayBeEmpty marks a flag whose empty value has a meaning: it removes the present value.
func MayBeEmpty(flags *pflag.FlagSet, name string) {
	flag := flags.Lookup(name)
	if flag.Annotations == nil {
		flag.Annotations = make(map[string][]string)
	}
	flag.Annotations[emptyAllowed] = nil
}

// NoEmptyFlags rejects a flag with an empty value, as from an unset variable of the shell. An empty value
// would mean the same as no flag, such as a secret on the terminal, or a service without admin keys.
func NoEmptyFlags(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(flag *pflag.Flag) {
		if _, allowed := flag.Annotations[emptyAllowed]; err == nil && !allowed && isNone(flag.Value.String()) {
			err = fmt.Errorf("--%s: want a value, it is empty or zero; omit the flag if you mean none", flag.Name)
		}
	})
	return err
}

// isNone reports whether a flag's value or default means none: empty, or an empty list.
func isNone(text string) bool { return text == "" || text == "[]" }
