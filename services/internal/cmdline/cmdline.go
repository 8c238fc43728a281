// Package cmdline is what the command lines for people share: how they end, which errors they report as
// misuse, the flag for the form of answers, and files that flags name.
//
// This package is not part of the public API and may change in any release.
package cmdline

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/pkg/atomicfile"
)

// Exit codes.
const (
	ExitDone = iota
	ExitFailed
	ExitMisused
)

// errHelpShown ends a command line that was answered with its help.
var errHelpShown = errors.New("help was shown")

// Execute runs a program and returns its exit code. The error of a command that ran goes to failed, which
// reports it and returns the exit code. Execute itself reports errors of the command line.
func Execute(root *cobra.Command, failed func(err error, command *cobra.Command) (code int)) int {
	command, err := root.ExecuteC()
	var misuse *misuseError
	var failure *failureError
	switch {
	case err == nil:
		return ExitDone
	case errors.Is(err, errHelpShown):
		return ExitMisused
	case errors.As(err, &misuse) || !errors.As(err, &failure):
		fmt.Fprintf(root.ErrOrStderr(), "%s: %s\nRun '%s --help' for usage.\n", root.Name(), err, command.CommandPath())
		return ExitMisused
	}
	return failed(failure.error, command)
}

// failureError is the error of a command that ran. Other errors come from cobra before a command runs, and
// mean that the command line is wrong.
type failureError struct{ error }

// Unwrap returns the error.
func (f *failureError) Unwrap() error { return f.error }

// misuseError is an error of the command line that only the command itself can find.
type misuseError struct{ error }

// Unwrap returns the error.
func (m *misuseError) Unwrap() error { return m.error }

// Misuse returns an error of the command line.
func Misuse(format string, args ...any) error { return &misuseError{fmt.Errorf(format, args...)} }

// AsMisuse marks an error as one of the command line.
func AsMisuse(err error) error { return &misuseError{err} }

// Format is a flag for the format of the output.
type Format string

// The formats.
const (
	Table Format = "table"
	JSON  Format = "json"
)

// Type returns the placeholder of the value in help texts.
func (*Format) Type() string { return "format" }

// String returns the format.
func (f *Format) String() string { return string(*f) }

// Set parses a format.
func (f *Format) Set(text string) error {
	if format := Format(text); format == Table || format == JSON {
		*f = format
		return nil
	}
	return errors.New("want table or json")
}

// WriteFile writes the file that a flag names. Without a path it does nothing.
func WriteFile(flag, path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	var text strings.Builder
	if err := write(&text); err != nil {
		return err
	}
	if err := atomicfile.Write(path, []byte(text.String()), atomicfile.Options{Mode: 0o644}); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}
