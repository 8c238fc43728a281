package settings

import (
	"io"
	"log/slog"

	"github.com/spf13/pflag"
)

// The values of --log-format.
const (
	JSON = "json"
	Text = "text"
)

// Log defines --log-level and --log-format, with the given default format. Call the returned function after
// the flags were parsed; it makes the logger.
func Log(flags *pflag.FlagSet, format string) func(io.Writer) *slog.Logger {
	level := &choice{value: "info", from: []string{"debug", "info", "warn", "error"}}
	flags.Var(level, "log-level", "lowest level that is logged: "+level.list())
	formats := &choice{value: format, from: []string{JSON, Text}}
	flags.Var(formats, "log-format", "format of the log: "+formats.list())
	return func(w io.Writer) *slog.Logger {
		var least slog.Level
		// This cannot fail: the flag accepts only names of levels.
		_ = least.UnmarshalText([]byte(level.value))
		options := &slog.HandlerOptions{Level: least}
		if formats.value == Text {
			return slog.New(slog.NewTextHandler(w, options))
		}
		return slog.New(slog.NewJSONHandler(w, options))
	}
}
