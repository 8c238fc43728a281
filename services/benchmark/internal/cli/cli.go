// Package cli is the command line of the benchmark. Exit codes: 0 done, 1 an error, 2 the command line is
// wrong. This package is not part of the public API and may change in any release.
package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/internal/buildinfo"
	"github.com/countersign/countersign/services/internal/cmdline"
	"github.com/countersign/countersign/services/internal/settings"
)

// Main runs the program with the arguments of the process, and returns its exit code.
func Main() int {
	root := newRoot()
	return cmdline.Execute(root, func(err error, _ *cobra.Command) int {
		fmt.Fprintf(root.ErrOrStderr(), "%s: %s\n", root.Name(), err)
		return cmdline.ExitFailed
	})
}

// newRoot returns the program with all its commands.
func newRoot() *cobra.Command {
	form := cmdline.Table
	root := &cobra.Command{
		Use:     "benchmark",
		Version: buildinfo.Read().String(),
		Short:   "Measure what Countersign costs, and what callers get in trouble",
		Long: `Measure what Countersign costs, and what callers get in trouble.

Every command starts the servers that it needs on this machine, and a Redis when a redis-server is
on the PATH. To put load on a validator that already runs, use 'countersign bench'.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().VarP(&form, "output", "o", "output format: table or json")
	settings.BindEnv(root)
	root.AddCommand(compareCommand(&form), growCommand(&form), floodCommand(&form), failoverCommand(&form), serveCommand())
	settings.WrapHelp(root)
	cmdline.Guard(root)
	return root
}
