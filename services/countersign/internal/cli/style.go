package cli

import (
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/countersign/countersign/services/countersign/internal/show"
	"github.com/countersign/countersign/services/internal/settings"
)

// styleOf returns what the reader of a stream can see. Colours are for terminals only, and not when NO_COLOR
// is set (https://no-color.org).
func styleOf(stream any) show.Style {
	style := show.Style{Width: settings.HelpWidth, Unicode: unicodeLocale()}
	descriptor, is := terminal(stream)
	if !is {
		return style
	}
	if columns, _, err := term.GetSize(descriptor); err == nil && columns > 0 {
		style.Width = columns
	}
	style.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return style
}

// unicodeLocale reports whether the environment says that characters are written in UTF-8. The first of these
// variables that is set counts, as in POSIX.
func unicodeLocale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := os.Getenv(name); value != "" {
			value = strings.ToLower(value)
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}
