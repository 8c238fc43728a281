package cli

import (
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// flagsOf maps each field of the API to the flags that set it. The error names the first of them that the
// user gave, otherwise the first that the command has.
var flagsOf = map[string][]string{
	"allow_lockout":        {"allow-lockout"},
	"allow_rejections":     {"allow-rejections"},
	"app_id":               {"app"},
	"credential":           {"secret-file", "sha256", "file"},
	"etag":                 {"etag"},
	"expire_time":          {"expires", "no-expiry"},
	"imports":              {"file"},
	"max_rejected_ratio":   {"max-rejected-ratio"},
	"min_revision":         {"min-revision"},
	"name":                 {"new-name", "name"},
	"note":                 {"note"},
	"overlap":              {"overlap"},
	"readiness_window":     {"window"},
	"request_id":           {"request-id"},
	"scope":                {"scope"},
	"scopes":               {"scopes", "all", "off"},
	"secret":               {"secret-file"},
	"sha256":               {"sha256"},
	"show_revoked":         {"all"},
	"source":               {"source"},
	"state":                {"state"},
	"token":                {"secret-file"},
	"token_id":             {"token"},
	"trial_duration":       {"for"},
	"trial_end_time":       {"until", "for"},
	"ttl":                  {"expires"},
	"until_unused":         {"until-unused"},
	"validate_only":        {"dry-run"},
	"wait_for_propagation": {"wait"},
	"window":               {"window"},
}

var (
	// leadingField matches the field before the first colon of a server's error.
	leadingField = regexp.MustCompile(`^(?:imports\[\d+\]\.|token\.)?([a-z][a-z0-9_]*): `)
	// namedField matches a field inside the message: ordinary words have no underscore.
	namedField = regexp.MustCompile(`\b[a-z]+(?:_[a-z]+)+\b`)
)

// inFlags replaces the API's fields in a server's message by the command's flags.
func inFlags(text string, command *cobra.Command) string {
	said := ""
	if at := leadingField.FindStringSubmatch(text); at != nil {
		switch flag, has := flagFor(at[1], command); {
		case has:
			said, text = flag+": ", strings.TrimPrefix(text, at[0])
		case at[1] == "validator_id" && command.Name() == "forget":
			said, text = "VALIDATOR: ", strings.TrimPrefix(text, at[0])
		}
	}
	return said + namedField.ReplaceAllStringFunc(text, func(field string) string {
		if flag, has := flagFor(field, command); has {
			return flag
		}
		return field
	})
}

// flagFor returns the flag of a command that sets a field; false when it has none.
func flagFor(field string, command *cobra.Command) (name string, has bool) {
	for _, candidate := range flagsOf[field] {
		switch flag := command.Flags().Lookup(candidate); {
		case flag == nil:
		case flag.Changed:
			return "--" + candidate, true
		case name == "":
			name = "--" + candidate
		}
	}
	return name, name != ""
}
