// Package cli is the command line for people: it administers tokens and enforcement through an authority,
// asks a validator, and prepares what both are started with.
//
// Exit codes: 0 done, or ALLOW; 1 an error; 2 the command line itself is wrong; 3 DENY; 4 done, but not
// known to be on every validator. Nothing that failed ever looks like a denial.
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

// errDenied ends a command whose answer was DENY. It is an answer, so there is nothing to say on top.
var errDenied = errors.New("denied")

// errIncomplete ends a command whose change is made, and whose receipt is not complete. Both have been shown.
var errIncomplete = errors.New("the receipt is not complete")

// errShown ends a command line that was answered with its help.
var errShown = errors.New("help was shown")

// Main runs the program with the arguments of the process, and returns its exit code. Commands that live
// elsewhere are added to its own.
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
		fmt.Fprintf(root.ErrOrStderr(), "countersign: %s\nRun '%s --help' for how to use it.\n", err, command.CommandPath())
		return exitMisused
	}
	fmt.Fprintln(root.ErrOrStderr(), "countersign:", explain(failed.error, command))
	return exitFailed
}

// failure is an error of a command that ran. Other errors come from cobra, before: the command line is wrong.
type failure struct{ error }

// Unwrap returns the error.
func (f *failure) Unwrap() error { return f.error }

// misuseError is an error of the command line that only the command itself can see.
type misuseError struct{ error }

// Unwrap returns the error.
func (m *misuseError) Unwrap() error { return m.error }

func misuse(format string, args ...any) error { return &misuseError{fmt.Errorf(format, args...)} }

// newRoot returns the program with all its commands.
func newRoot(others []*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:     "countersign",
		Version: buildinfo.Read().String(),
		Short:   "Administer, ask and try out Countersign: server-to-server request security",
		Long: `Administer, ask and try out Countersign: server-to-server request security.

Flags that every command has can be set by environment variables too; a flag wins. An admin key is read from
--admin-key-file, else from COUNTERSIGN_ADMIN_KEY, else, when the authority is on loopback, from the file that
'countersign dev' writes. Exit codes: 0 done or ALLOW, 1 error, 2 wrong command line, 3 DENY, 4 done,
but not known to be on every validator (--wait).`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	g := newGlobals(root.PersistentFlags())
	// Only the flags of every command get variables, and commands that are run by machines bind their own.
	// A variable for --all or --allow-lockout would decide about commands that nobody had in mind when it
	// was set.
	settings.BindEnv(root)
	for _, other := range others {
		settings.BindEnv(other)
	}
	root.AddCommand(tokenCommand(g), appCommand(g), authorizeCommand(g), fleetCommand(g),
		storeCommand(g), adminKeyCommand(g), healthCommand(g), benchCommand(g), versionCommand(g))
	root.AddCommand(others...)
	guard(root)
	return root
}

// guard makes every command tell its own failures from errors of the command line, and groups want one of
// their commands.
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
	command.SuggestionsMinimumDistance = 2 // as cobra does where it suggests by itself
	// With a mistyped command come flags of that command.
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

// notUTF8 refuses values that are not UTF-8, as from a terminal with another encoding: no authority takes
// them. The error does not repeat them, since they may be secrets in the wrong place.
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

// noArguments does what cobra.NoArgs does, but does not repeat the argument: it may be a secret. Where it
// is rather the value of a flag that takes none behind a space, the error says so.
func noArguments(command *cobra.Command, args []string) (err error) {
	if len(args) == 0 {
		return nil
	}
	command.Flags().Visit(func(flag *pflag.Flag) {
		_, number := time.ParseDuration(args[0])
		_, truth := strconv.ParseBool(args[0])
		if flag.NoOptDefVal != "" && (flag.Value.Type() == "duration" && number == nil || flag.Value.Type() == "bool" && truth == nil) {
			err = fmt.Errorf("--%s takes no value after a space: give --%[1]s=%s", flag.Name, args[0])
		}
	})
	if err != nil {
		return err
	}
	return fmt.Errorf("'%s' takes flags only", command.CommandPath())
}
