package settings

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// HelpWidth is the number of columns that help texts need.
const HelpWidth = 100

// WrapHelp wraps the descriptions of flags in the help texts of the command and its subcommands at HelpWidth.
func WrapHelp(root *cobra.Command) {
	wrapped := fmt.Sprintf("FlagUsagesWrapped %d", HelpWidth)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), "FlagUsages", wrapped))
}
