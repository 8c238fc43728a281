package settings

import (
	"fmt"

	"github.com/spf13/pflag"
)

// emptyAllowed is the annotation of a flag whose empty value means something of its own.
const emptyAllowed = "countersign_empty_allowed"

// MayBeEmpty marks a flag whose empty value means something of its own: it takes away what may stand there
// already.
func MayBeEmpty(flags *pflag.FlagSet, name string) {
	flag := flags.Lookup(name)
	if flag.Annotations == nil {
		flag.Annotations = make(map[string][]string)
	}
	flag.Annotations[emptyAllowed] = nil
}

// NoEmptyFlags refuses a flag that was given without a value, as by a variable of the shell that is not
// set: it would mean the same as no flag at all, such as a secret on the terminal, or a service without
// admin keys.
func NoEmptyFlags(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(flag *pflag.Flag) {
		if _, allowed := flag.Annotations[emptyAllowed]; err == nil && !allowed && isNone(flag.Value.String()) {
			err = fmt.Errorf("--%s: want a value, it is empty or zero; leave the flag out if none is meant", flag.Name)
		}
	})
	return err
}

// isNone tells whether a flag's value, or its default, stands for none: empty, or a list of nothing.
func isNone(text string) bool { return text == "" || text == "[]" }
