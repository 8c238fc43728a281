package cli

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/services/internal/settings"
)

// Every command has an example, and every example is a command line that would run.
func TestExamples(t *testing.T) {
	each(newRoot(nil), func(command *cobra.Command) {
		path := command.CommandPath()
		if command.Short == "" || !strings.HasPrefix(strings.TrimSpace(command.Example), path+" ") &&
			strings.TrimSpace(command.Example) != path {
			t.Errorf("%s: example %q", path, command.Example)
		}
		for line := range strings.Lines(command.Example) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), "   (")
			args := strings.Fields(line)[1:]
			root := newRoot(nil)
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

// A help text fits into a terminal of settings.HelpWidth columns.
func TestHelpFits(t *testing.T) {
	each(newRoot(nil), func(command *cobra.Command) {
		if strings.HasPrefix(command.CommandPath(), "countersign bench") {
			return
		}
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

var secretive = regexp.MustCompile(`secret|key|password|credential|bearer`)

// B02: shells keep command lines in their history, and other users can see them. So no flag takes a secret;
// flags take files.
func TestB02_NoFlagTakesASecret(t *testing.T) {
	each(newRoot(nil), func(command *cobra.Command) {
		command.InheritedFlags() // merges them
		command.Flags().VisitAll(func(flag *pflag.Flag) {
			if secretive.MatchString(flag.Name) && !strings.HasSuffix(flag.Name, "-file") {
				t.Errorf("%s --%s", command.CommandPath(), flag.Name)
			}
		})
	})
}

// A variable that stays set must not affect commands that nobody thought of. So only global flags, and flags
// that name a store, have one.
func TestVariables(t *testing.T) {
	allowed := regexp.MustCompile(`^(authority|validator|admin-key-file|tls|tls-ca-file|plaintext|timeout|output|redis-url|keyring-file|floor-file|partitions)$`)
	each(newRoot(nil), func(command *cobra.Command) {
		command.InheritedFlags()
		command.Flags().VisitAll(func(flag *pflag.Flag) {
			bound := strings.Contains(flag.Usage, "(env COUNTERSIGN_")
			if want := allowed.MatchString(flag.Name) && command.CommandPath() != "countersign admin-key create"; bound &&
				!allowed.MatchString(flag.Name) || want && !bound {
				t.Errorf("%s --%s: %s", command.CommandPath(), flag.Name, flag.Usage)
			}
		})
	})
}
