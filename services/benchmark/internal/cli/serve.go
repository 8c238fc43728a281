package cli

import (
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/benchmark/internal/serve"
)

// serveCommand is the command of the child processes.
func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     serve.Name,
		Short:   "Be a child process of another command, which starts it",
		Example: "  benchmark serve",
		Hidden:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve.Main(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
