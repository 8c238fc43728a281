package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/services/countersign/internal/client"
)

// watchEvery is the time between two reports of --watch.
const watchEvery = 2 * time.Second

// watched shows a report again and again, until the context ends. On a terminal each report takes the place
// of the one before. An authority that is away for a while, after it has answered once, does not end it.
func watched(ctx context.Context, cmd *cobra.Command, report func(io.Writer) error) error {
	descriptor, inPlace := terminal(cmd.OutOrStdout())
	for first := true; ; first = false {
		var text bytes.Buffer
		err := report(&text)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // Ctrl-C ends it
		case err != nil && (first || !away(err)):
			return err
		case err != nil:
			fmt.Fprintf(&text, "No report at %s: %s\n", time.Now().UTC().Format("15:04:05Z"), explain(err, cmd))
		}
		if inPlace {
			_, height, sizeErr := term.GetSize(descriptor)
			if sizeErr != nil {
				height = 24
			}
			_, err = io.WriteString(cmd.OutOrStdout(), redrawn(text.String(), height, first))
		} else {
			if !first {
				fmt.Fprintln(cmd.OutOrStdout())
			}
			_, err = text.WriteTo(cmd.OutOrStdout())
		}
		if err != nil {
			return err
		}
		if !pause(ctx, watchEvery) {
			return nil
		}
	}
}

// redrawn returns the text that replaces what a terminal shows by another text, cut to the terminal's height.
// The first text leaves what was shown before in the terminal's history.
func redrawn(text string, height int, first bool) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) > height {
		lines = append(lines[:height-1], "...")
	}
	start := "\x1b[H" // to the top
	if first {
		start = "\x1b[2J" + start // and clear
	}
	// Each line clears what an earlier and longer one left behind it, the last one everything below.
	return start + strings.ReplaceAll(strings.Join(lines, ""), "\n", "\x1b[K\n") + "\x1b[J"
}

// pause waits; false when the context ended before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// away reports whether an error means that the authority is away, or in trouble that may pass.
func away(err error) bool {
	if unreachable := (*client.UnreachableError)(nil); errors.As(err, &unreachable) {
		return true
	}
	return status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded
}
