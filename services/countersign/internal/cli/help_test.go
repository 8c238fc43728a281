package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign/countersign/services/internal/cmdline/cmdlinetest"
)

// Every command has an example, and every example is a command line that would run.
func TestExamples(t *testing.T) {
	cmdlinetest.Examples(t, func() *cobra.Command { return newRoot(nil) })
}

// A help text fits into a terminal of settings.HelpWidth columns.
func TestHelpFits(t *testing.T) { cmdlinetest.HelpFits(t, newRoot(nil)) }

var secretive = regexp.MustCompile(`secret|key|password|credential|bearer`)

// B02: shells keep command lines in their history, and other users can see them. So no flag takes a secret;
// flags take files.
func TestB02_NoFlagTakesASecret(t *testing.T) {
	cmdlinetest.Each(newRoot(nil), func(command *cobra.Command) {
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
	allowed := regexp.MustCompile(`^(authority|validator|admin-key-file|tls|tls-ca-file|plaintext|timeout|output|` +
		`redis-url|keyring-file|floor-file|partitions)$`)
	cmdlinetest.Each(newRoot(nil), func(command *cobra.Command) {
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
