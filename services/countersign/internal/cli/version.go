package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/countersign/internal/show"
)

// build is what the linker has written into the program.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func versionCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Show what this program was built from",
		Example: "  countersign version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := readBuild()
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

func readBuild() build {
	b := build{Version: "unknown", Go: runtime.Version(), Platform: fmt.Sprintf("%s/%s", runtime.GOOS, runtime.GOARCH)}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.time":
			b.Time = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}
