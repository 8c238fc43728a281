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

// Log defines --log-level and --log-format, with the default format given. The returned function makes the
// logger; it is called when the flags have been read.
func Log(flags *pflag.FlagSet, format string) func(io.Writer) *slog.Logger {
	level := &choice{value: "info", from: []string{"debug", "info", "warn", "error"}}
	flags.Var(level, "log-level", "least level that is logged: "+level.list())
	form := &choice{value: format, from: []string{JSON, Text}}
	flags.Var(form, "log-format", "form of the log: "+form.list())
	return func(w io.Writer) *slog.Logger {
		var least slog.Level
		// It cannot fail: what the flag lets through are names of levels.
		_ = least.UnmarshalText([]byte(level.value))
		options := &slog.HandlerOptions{Level: least}
		if form.value == Text {
			return slog.New(slog.NewTextHandler(w, options))
		}
		return slog.New(slog.NewJSONHandler(w, options))
	}
}
