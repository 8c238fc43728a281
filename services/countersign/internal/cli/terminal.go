package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/countersign/countersign/services/internal/cmdline"
)

var (
	errInterrupted  = errors.New("interrupted; nothing was changed")
	errNotConfirmed = errors.New("not confirmed; nothing was changed")
)

// terminal returns the file descriptor of a stream; false when the stream is no terminal.
func terminal(stream any) (int, bool) {
	file, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	return int(file.Fd()), true
}

// hidden reads lines from a terminal, up to the end of input, while the terminal does not show them. It first
// shows a prompt. Close it after use.
type hidden struct {
	cmd        *cobra.Command
	descriptor int
	prompt     string
	restore    func() error // nil until the first read
	signals    chan os.Signal
	rest       []byte
}

// Close switches the terminal's echo on again.
func (h *hidden) Close() error {
	if h.restore == nil {
		return nil
	}
	defer signal.Stop(h.signals)
	return h.restore()
}

// Read implements io.Reader.
func (h *hidden) Read(p []byte) (int, error) {
	if len(h.rest) == 0 {
		line, err := h.line()
		if err != nil {
			return 0, err
		}
		h.rest = append(line, '\n')
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}

// line reads a line, without its end.
func (h *hidden) line() ([]byte, error) {
	if h.restore == nil {
		// Catch signals: otherwise one could end the process, also between two lines, and leave the terminal
		// without echo.
		h.signals = make(chan os.Signal, 1)
		signal.Notify(h.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		var err error
		if h.restore, err = quiet(h.descriptor); err != nil {
			return nil, err
		}
		fmt.Fprint(h.cmd.ErrOrStderr(), h.prompt)
	}
	line, err := readHidden(h.descriptor, h.signals)
	if err != nil {
		fmt.Fprintln(h.cmd.ErrOrStderr()) // ends the line of the prompt
	}
	return line, err
}

// secret reads the first line that is not blank: pasted secrets bring line breaks along.
func (h *hidden) secret() (string, error) {
	for {
		line, err := h.line()
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			fmt.Fprintln(h.cmd.ErrOrStderr())
			return string(line), nil
		}
	}
}

// readHidden reads a line that the terminal does not show. A signal ends it.
func readHidden(descriptor int, signals <-chan os.Signal) ([]byte, error) {
	before, err := term.GetState(descriptor)
	if err != nil {
		return nil, err
	}
	type result struct {
		line []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := term.ReadPassword(descriptor)
		read <- result{line, err}
	}()
	select {
	case r := <-read:
		return r.line, r.err
	case <-signals:
		return nil, errors.Join(errInterrupted, term.Restore(descriptor, before))
	}
}

// confirmation asks before an action that takes something away or cannot be undone.
type confirmation struct{ yes bool }

func (c *confirmation) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do not ask for confirmation (without a terminal it is never asked for)")
}

// ask says on a terminal what the command is about to do, and returns an error unless a person agrees. It
// does not ask without a terminal to read from and to write to, as in scripts.
func (c *confirmation) ask(cmd *cobra.Command, format string, args ...any) error {
	if c.yes || !canAsk(cmd) {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), format+" ", args...)
	return agreed(cmd, "Go on?")
}

// agreed asks a question, and returns an error unless the answer is yes.
func agreed(cmd *cobra.Command, question string) error {
	fmt.Fprint(cmd.ErrOrStderr(), question+" [y/N] ")
	switch answer, err := readLine(cmd.InOrStdin()); {
	case err != nil:
		fmt.Fprintln(cmd.ErrOrStderr())
		return errors.Join(errNotConfirmed, err)
	case strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"):
		return nil
	}
	return errNotConfirmed
}

// canAsk reports whether a person can see a question and answer it.
func canAsk(cmd *cobra.Command) bool {
	_, reads := terminal(cmd.InOrStdin())
	_, sees := terminal(cmd.ErrOrStderr())
	return reads && sees
}

// readLine reads one line, not a byte more. The end of the input ends a line too.
func readLine(from io.Reader) (string, error) {
	var line strings.Builder
	for one := make([]byte, 1); line.Len() < 100; {
		n, err := from.Read(one)
		switch {
		case n == 1 && one[0] == '\n', n == 0 && errors.Is(err, io.EOF):
			return strings.TrimSpace(line.String()), nil
		case n == 1:
			line.WriteByte(one[0])
		case err != nil:
			return "", err
		}
	}
	return "", nil
}

// planned reports whether to carry out a plan: with yes, or when a person has seen the plan and agrees.
// Without a terminal, and with JSON output, there is no question: the command only shows the plan.
func planned(cmd *cobra.Command, g *globals, yes, changes bool,
	people func(io.Writer) error, format string, args ...any,
) (bool, error) {
	if yes || !changes || g.output == cmdline.JSON || !canAsk(cmd) {
		return yes, nil
	}
	if err := people(cmd.OutOrStdout()); err != nil {
		return false, err
	}
	return true, (&confirmation{}).ask(cmd, format, args...)
}
