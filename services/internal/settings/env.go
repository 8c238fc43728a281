package settings

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// annotation marks a flag that has a variable, with the variable's name. Flags that cobra adds later, such as
// --help, have none.
const annotation = "countersign_env"

// BindEnv lets an environment variable set every flag of the command and its subcommands:
// COUNTERSIGN_KEYRING_FILE sets --keyring-file. A flag wins over its variable, and a bad value is an error
// that names both. An empty variable counts as unset where the default is none. Elsewhere it is an error,
// because it could mean the default or none. The help text of each flag names its variable. Call BindEnv
// once, on the root, after all commands and flags were added.
//
// Variables are read before any hook of the commands runs, and before cobra checks required flags and flag
// groups. BindEnv also keeps values that may hold a credential out of the errors about flags.
func BindEnv(root *cobra.Command) {
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if invalid := (*pflag.InvalidValueError)(nil); errors.As(err, &invalid) {
			return invalidValue("--"+invalid.GetFlag().Name, invalid)
		}
		return err
	})
	readFirst(root)
	bindAll(root)
}

func bindAll(command *cobra.Command) {
	bind := func(flag *pflag.Flag) {
		if flag.Annotations[annotation] != nil {
			return
		}
		name := "COUNTERSIGN_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(flag.Name))
		if flag.Annotations == nil {
			flag.Annotations = make(map[string][]string)
		}
		flag.Annotations[annotation] = []string{name}
		flag.Usage += " (env " + name + ")"
	}
	command.Flags().VisitAll(bind)
	command.PersistentFlags().VisitAll(bind)
	for _, below := range command.Commands() {
		// cobra runs only the nearest of these hooks, so each must read the variables.
		if below.PersistentPreRun != nil || below.PersistentPreRunE != nil {
			readFirst(below)
		}
		bindAll(below)
	}
}

// readFirst makes the command's hook read the variables before it runs.
func readFirst(command *cobra.Command) {
	run, runE := command.PersistentPreRun, command.PersistentPreRunE
	command.PersistentPreRunE = func(command *cobra.Command, args []string) error {
		if err := readAll(command.Flags()); err != nil {
			return err
		}
		if runE != nil {
			return runE(command, args)
		}
		if run != nil {
			run(command, args)
		}
		return nil
	}
}

func readAll(flags *pflag.FlagSet) error {
	var all []error
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || flag.Annotations[annotation] == nil {
			return
		}
		name := flag.Annotations[annotation][0]
		value, set := os.LookupEnv(name)
		switch {
		case !set, value == "" && isNone(flag.DefValue):
			return
		case value == "":
			all = append(all, fmt.Errorf("--%s (%s): the variable is set but empty; give it a value, or unset it for the default",
				flag.Name, name))
			return
		}
		if invalid := (*pflag.InvalidValueError)(nil); errors.As(flags.Set(flag.Name, value), &invalid) {
			all = append(all, invalidValue("--"+flag.Name+" ("+name+")", invalid))
		}
	})
	return errors.Join(all...)
}

// hider is the value of a flag that may hold a credential.
type hider interface {
	hides()
}

func invalidValue(from string, invalid *pflag.InvalidValueError) error {
	if _, ok := invalid.GetFlag().Value.(hider); ok {
		return fmt.Errorf("%s: %w (value not shown)", from, errors.Unwrap(invalid))
	}
	return fmt.Errorf("%s: %q: %w", from, invalid.GetValue(), errors.Unwrap(invalid))
}
