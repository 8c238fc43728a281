package settings

import (
	"bytes"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// command returns a command that only parses flags, bound to the environment.
func command(define func(*pflag.FlagSet)) *cobra.Command {
	c := &cobra.Command{
		Use: "test", SilenceUsage: true, SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	define(c.Flags())
	BindEnv(c)
	return c
}

// run executes the command and returns its output.
func run(c *cobra.Command, args ...string) (output string, err error) {
	var written bytes.Buffer
	c.SetOut(&written)
	c.SetErr(&written)
	c.SetArgs(args)
	err = c.Execute()
	return written.String(), err
}

// words returns the text of an error, empty for none.
func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// expect compares a result with what the test wants.
func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}
