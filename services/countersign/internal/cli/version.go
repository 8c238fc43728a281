package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/internal/buildinfo"
)

func versionCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show the version and source of this program",
		Example: "  countersign version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := buildinfo.Read()
			return g.answerValue(cmd, b, func(w io.Writer) error {
				modified := ""
				if b.Modified {
					modified = "yes"
				}
				return show.Details(
					w,
					show.Row{Name: "Version", Value: b.Version}, show.Row{Name: "Revision", Value: b.Revision},
					show.Row{Name: "Time", Value: b.Time}, show.Row{Name: "Modified", Value: modified},
					show.Row{Name: "Go", Value: b.Go}, show.Row{Name: "Platform", Value: b.Platform},
				)
			})
		},
	}
}
