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

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/internal/buildinfo"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/settings"
)

// Exit codes beside those that all command lines share.
const (
	exitDenied     = cmdline.ExitMisused + 1
	exitIncomplete = cmdline.ExitMisused + 2
)

// errDenied ends a command whose answer was DENY, which has been shown already.
var errDenied = errors.New("denied")

// errIncomplete ends a command whose change is made and whose receipt is not complete. Both have been shown.
var errIncomplete = errors.New("the receipt is not complete")

// Main runs the program with the arguments of the process, and returns its exit code. The given commands are
// added to the package's own.
func Main(others ...*cobra.Command) int { return execute(newRoot(others)) }

func execute(root *cobra.Command) int {
	return cmdline.Execute(root, func(err error, command *cobra.Command) int {
		switch {
		case errors.Is(err, errDenied):
			return exitDenied
		case errors.Is(err, errIncomplete):
			return exitIncomplete
		}
		fmt.Fprintln(root.ErrOrStderr(), "countersign:", explain(err, command))
		return cmdline.ExitFailed
	})
}

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
	cmdline.Guard(root)
	return root
}
