package cmdline

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/services/internal/settings"
)

// Guard prepares a program's commands for Execute. Each command checks its command line before it runs. A
// group without a function of its own wants the name of one of its commands.
func Guard(command *cobra.Command) {
	if command.HasSubCommands() && command.RunE == nil {
		guardGroup(command)
		return
	}
	for _, below := range command.Commands() {
		Guard(below)
	}
	if command.Args == nil {
		command.Args = noArguments
	}
	if run := command.RunE; run != nil {
		command.RunE = func(command *cobra.Command, args []string) error {
			if err := notUTF8(command, args); err != nil {
				return err
			}
			if err := settings.NoEmptyFlags(command.Flags()); err != nil {
				return AsMisuse(err)
			}
			if err := run(command, args); err != nil {
				return &failureError{err}
			}
			return nil
		}
	}
}

func guardGroup(command *cobra.Command) {
	command.Args = cobra.ArbitraryArgs
	command.SuggestionsMinimumDistance = 2 // cobra's own distance, where it makes suggestions itself
	// A mistyped command comes with flags that the group does not know.
	command.FParseErrWhitelist.UnknownFlags = true
	command.RunE = func(command *cobra.Command, args []string) error {
		if len(args) == 0 {
			command.SetOut(command.ErrOrStderr())
			_ = command.Help()
			return errHelpShown
		}
		hint := ""
		if near := command.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "; did you mean '" + strings.Join(near, "' or '") + "'?"
		}
		return Misuse("'%s' has no such command%s", command.CommandPath(), hint)
	}
	for _, below := range command.Commands() {
		Guard(below)
	}
}

// notUTF8 returns an error for values that are not UTF-8, which a terminal with another encoding sends: no
// server accepts them. The error does not repeat a value, since it may be a misplaced secret.
func notUTF8(command *cobra.Command, args []string) (err error) {
	command.Flags().Visit(func(flag *pflag.Flag) {
		if err == nil && !utf8.ValidString(flag.Value.String()) {
			err = Misuse("--%s: want UTF-8", flag.Name)
		}
	})
	for i, arg := range args {
		if err == nil && !utf8.ValidString(arg) {
			err = Misuse("argument %d: want UTF-8", i+1)
		}
	}
	return err
}

// noArguments refuses arguments like cobra.NoArgs, but does not repeat them, since they may be secrets. An
// argument that looks like the value of a flag gets a hint: such a flag takes its value only after an equals
// sign.
func noArguments(command *cobra.Command, args []string) (err error) {
	if len(args) == 0 {
		return nil
	}
	command.Flags().Visit(func(flag *pflag.Flag) {
		_, number := time.ParseDuration(args[0])
		_, truth := strconv.ParseBool(args[0])
		isValue := flag.Value.Type() == "duration" && number == nil || flag.Value.Type() == "bool" && truth == nil
		if flag.NoOptDefVal != "" && isValue {
			err = fmt.Errorf("--%s takes no value after a space: write --%[1]s=%s", flag.Name, args[0])
		}
	})
	if err != nil {
		return err
	}
	return fmt.Errorf("'%s' takes flags only", command.CommandPath())
}
