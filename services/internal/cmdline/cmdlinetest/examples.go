package cmdlinetest

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/services/internal/settings"
)

// Each calls a function with every command of a program, apart from groups without an example.
func Each(command *cobra.Command, f func(*cobra.Command)) {
	if !command.HasSubCommands() || command.Example != "" {
		f(command)
	}
	for _, below := range command.Commands() {
		Each(below, f)
	}
}

// Examples checks that every command of a program has a description and an example, and that every example is
// a valid command line. Each call of newRoot must return the program anew.
func Examples(t *testing.T, newRoot func() *cobra.Command) {
	Each(newRoot(), func(command *cobra.Command) {
		path := command.CommandPath()
		example := strings.TrimSpace(command.Example)
		if command.Short == "" || !strings.HasPrefix(example, path+" ") && example != path {
			t.Errorf("%s: example %q", path, command.Example)
		}
		for line := range strings.Lines(command.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), "   (")
			args := strings.Fields(line)[1:]
			root := newRoot()
			found, rest, err := root.Find(args)
			if err != nil || found.CommandPath() != path {
				t.Errorf("%s: %q is %s, %v", path, line, found.CommandPath(), err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if err := found.ValidateRequiredFlags(); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if err := found.ValidateFlagGroups(); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	})
}

// HelpFits checks that the help texts of a program fit into settings.HelpWidth columns.
func HelpFits(t *testing.T, root *cobra.Command) {
	Each(root, func(command *cobra.Command) {
		var help strings.Builder
		command.SetOut(&help)
		if err := command.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(help.String()) {
			if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > settings.HelpWidth {
				t.Errorf("%s: %d columns: %s", command.CommandPath(), utf8.RuneCountInString(line), line)
			}
		}
	})
}
