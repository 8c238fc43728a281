package rules

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/pkg/policy"
)

// Kind says why a call is refused.
type Kind int

// The kinds of refusals.
const (
	Invalid Kind = iota + 1 // a field of the request has a wrong value
	Unmet                   // the app or the token is not in the state that the call needs
	Missing                 // the app or the token does not exist
	Taken                   // another token has the name or the secret
	Full                    // the app has reached a limit
)

// Error is the error of a call that breaks a rule. It changes nothing, and is plain data: the edge turns it
// into a status.
type Error struct {
	Kind Kind
	// Reason is the stable name of the rule for programs. It is empty for Invalid.
	Reason string
	// Subject is the field of the request for Invalid, and the resource name of the app or token for Unmet.
	// It is empty for the other kinds.
	Subject string
	// Scopes are the scopes that the message names, at the mark {scopes}. The edge knows their names.
	Scopes policy.ScopeSet
	// text is the message for people.
	text string
}

// scopesMark stands in a text for the names of scopes.
const scopesMark = "{scopes}"

// Message returns the message for people; names writes a set of scopes.
func (r *Error) Message(names func(policy.ScopeSet) string) string {
	if r.Scopes == 0 {
		return r.text
	}
	return strings.Replace(r.text, scopesMark, names(r.Scopes), 1)
}

// Error names scopes by number, for logs.
func (r *Error) Error() string {
	message := r.Message(func(scopes policy.ScopeSet) string { return fmt.Sprintf("scopes %b:", scopes) })
	if r.Kind == Invalid {
		return r.Subject + ": " + message
	}
	return message
}

func invalid(field, text string) error { return &Error{Kind: Invalid, Subject: field, text: text} }

func unmet(reason, subject, format string, args ...any) error {
	return &Error{Kind: Unmet, Reason: reason, Subject: subject, text: fmt.Sprintf(format, args...)}
}

func missing(reason, format string, args ...any) error {
	return &Error{Kind: Missing, Reason: reason, text: fmt.Sprintf(format, args...)}
}

func taken(reason, format string, args ...any) error {
	return &Error{Kind: Taken, Reason: reason, text: fmt.Sprintf(format, args...)}
}

func full(reason, format string, args ...any) error {
	return &Error{Kind: Full, Reason: reason, text: fmt.Sprintf(format, args...)}
}
