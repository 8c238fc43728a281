// Package cli implements the command line for people. It manages tokens and enforcement through an authority,
// asks a validator, and prepares and repairs the store. This package is not part of the public API and may
// change in any release.
//
// Exit codes: 0 success or ALLOW, 1 error, 2 wrong usage, 3 DENY, 4 the change is made but not known to be on
// every validator. A failure never looks like a denial.
package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/services/internal/buildinfo"
	"github.com/countersign/countersign/services/internal/settings"
)

const (
	exitDone = iota
	exitFailed
	exitMisused
	exitDenied
	exitIncomplete
)

// errDenied ends a command whose answer was DENY, which has been shown already.
var errDenied = errors.New("denied")

// errIncomplete ends a command whose change is made and whose receipt is not complete. Both have been shown.
var errIncomplete = errors.New("the receipt is not complete")

// errShown ends a command line that was answered with its help.
var errShown = errors.New("help was shown")

// Main runs the program with the arguments of the process, and returns its exit code. The given commands are
// added to the package's own.
func Main(others ...*cobra.Command) int { return execute(newRoot(others)) }

func execute(root *cobra.Command) int {
	command, err := root.ExecuteC()
	var misuse *misuseError
	var failed *failure
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errDenied):
		return exitDenied
	case errors.Is(err, errIncomplete):
		return exitIncomplete
	case errors.Is(err, errShown):
		return exitMisused
	case errors.As(err, &misuse) || !errors.As(err, &failed):
		fmt.Fprintf(root.ErrOrStderr(), "countersign: %s\nRun '%s --help' for usage.\n", err, command.CommandPath())
		return exitMisused
	}
	fmt.Fprintln(root.ErrOrStderr(), "countersign:", explain(failed.error, command))
	return exitFailed
}

// failure is an error of a command that ran. Errors of other types come from cobra: the command line is
// wrong.
type failure struct{ error }

// Unwrap returns the error.
func (f *failure) Unwrap() error { return f.error }

// misuseError is a wrong command line that only the command itself can detect.
type misuseError struct{ error }

// Unwrap returns the error.
func (m *misuseError) Unwrap() error { return m.error }

func misuse(format string, args ...any) error { return &misuseError{fmt.Errorf(format, args...)} }

// newRoot returns the root command with all subcommands.
func newRoot(others []*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:     "countersign",
		Version: buildinfo.Read().String(),
		Short:   "Manage tokens and enforcement, ask validators, and try out Countersign",
		Long: `Manage tokens and enforcement, ask validators, and try out Countersign.

The global flags can also be set by environment variables. A flag wins over its variable.

The admin key comes from --admin-key-file; without it from COUNTERSIGN_ADMIN_KEY; without that, and
for an authority on loopback, from the file that 'countersign dev' writes.

Exit codes: 0 success or ALLOW, 1 error, 2 wrong usage, 3 DENY, 4 the change is made, but not
confirmed on every validator (--wait).`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	g := newGlobals(root.PersistentFlags())
	// Only the global flags get variables; commands that machines run bind their own. A variable for --all or
	// --allow-lockout would affect commands that nobody thought of when it was set.
	settings.BindEnv(root)
	for _, other := range others {
		settings.BindEnv(other)
	}
	root.AddCommand(tokenCommand(g), appCommand(g), authorizeCommand(g), fleetCommand(g),
		storeCommand(g), adminKeyCommand(g), healthCommand(g), benchCommand(g), versionCommand(g))
	root.AddCommand(others...)
	settings.WrapHelp(root)
	guard(root)
	return root
}

// guard makes every command distinguish its own failures from a wrong command line, and makes groups demand
// one of their commands.
func guard(command *cobra.Command) {
	if command.HasSubCommands() && command.RunE == nil {
		guardGroup(command)
		return
	}
	for _, below := range command.Commands() {
		guard(below)
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
				return &misuseError{err}
			}
			if err := run(command, args); err != nil {
				return &failure{err}
			}
			return nil
		}
	}
}

func guardGroup(command *cobra.Command) {
	command.Args = cobra.ArbitraryArgs
	command.SuggestionsMinimumDistance = 2 // cobra's default where it suggests by itself
	// A mistyped command may be followed by flags of the intended command.
	command.FParseErrWhitelist.UnknownFlags = true
	command.RunE = func(command *cobra.Command, args []string) error {
		if len(args) == 0 {
			command.SetOut(command.ErrOrStderr())
			_ = command.Help()
			return errShown
		}
		hint := ""
		if near := command.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "; did you mean '" + strings.Join(near, "' or '") + "'?"
		}
		return misuse("'%s' has no such command%s", command.CommandPath(), hint)
	}
	for _, below := range command.Commands() {
		guard(below)
	}
}

// notUTF8 rejects values that are not UTF-8, for example from a terminal with another encoding, because no
// authority accepts them. The error does not repeat the value, which may be a secret in the wrong place.
func notUTF8(command *cobra.Command, args []string) (err error) {
	command.Flags().Visit(func(flag *pflag.Flag) {
		if err == nil && !utf8.ValidString(flag.Value.String()) {
			err = misuse("--%s: want UTF-8", flag.Name)
		}
	})
	for i, arg := range args {
		if err == nil && !utf8.ValidString(arg) {
			err = misuse("argument %d: want UTF-8", i+1)
		}
	}
	return err
}

// noArguments works like cobra.NoArgs but does not repeat the argument, which may be a secret. When the
// argument looks like the value of a flag that takes none after a space, the error says so.
func noArguments(command *cobra.Command, args []string) (err error) {
	if len(args) == 0 {
		return nil
	}
	command.Flags().Visit(func(flag *pflag.Flag) {
		_, number := time.ParseDuration(args[0])
		_, truth := strconv.ParseBool(args[0])
		if flag.NoOptDefVal != "" &&
			(flag.Value.Type() == "duration" && number == nil || flag.Value.Type() == "bool" && truth == nil) {
			err = fmt.Errorf("--%s takes no value after a space: write --%[1]s=%s", flag.Name, args[0])
		}
	})
	if err != nil {
		return err
	}
	return fmt.Errorf("'%s' takes flags only", command.CommandPath())
}
