package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/services/countersign/internal/client"
	"github.com/countersign/countersign/services/countersign/internal/words"
)

// explain returns the words for an error of a command: those of the server after its code, with flags where
// it names fields, or ours.
func explain(err error, command *cobra.Command) string {
	text := err.Error()
	var unreachable *client.UnreachableError
	var wrong *client.WrongServerError
	if errors.As(err, &unreachable) {
		text = "UNAVAILABLE: " + unreachable.Error()
	} else if errors.As(err, &wrong) {
		text = "UNIMPLEMENTED: " + wrong.Error()
	} else if told, fromServer := statusOf(err); fromServer {
		var imported importError
		if i := (*importError)(nil); errors.As(err, &i) {
			imported = *i
		}
		text = code.Code(told.Code()).String() + ": " + inFlags(serverWords(told), command, imported.lines)
	}
	if unreachable == nil && grpcclient.AnswersPlain(err) {
		text += "\nThe server answers in plain text: give --plaintext if nobody can listen on the way, or let it have a certificate."
	}
	var advice *adviceError
	if errors.As(err, &advice) {
		text += "\n" + advice.advice
	}
	return printableLines(text)
}

// printableLines keeps our line breaks; whatever else is not printable came from elsewhere.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = words.Printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// statusOf returns the status that an error came with over gRPC; false when it is none.
func statusOf(err error) (*status.Status, bool) {
	var carrier interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carrier) {
		return nil, false
	}
	return carrier.GRPCStatus(), true
}

// serverWords returns a status's message, with the field at fault and the stable reason where the message
// lacks them.
func serverWords(told *status.Status) string {
	text := told.Message()
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				if !strings.Contains(text, violation.GetField()) {
					text += fmt.Sprintf(" (%s: %s)", violation.GetField(), violation.GetDescription())
				}
			}
		case *errdetails.ErrorInfo:
			// Only an UNAVAILABLE has several meanings that call for different steps.
			if told.Code() == codes.Unavailable && !strings.Contains(text, detail.GetReason()) {
				text += " (" + detail.GetReason() + ")"
			}
		}
	}
	return text
}

// adviceError is an error with what to do about it.
type adviceError struct {
	error
	advice string
}

// Unwrap returns the error.
func (a *adviceError) Unwrap() error { return a.error }

// aboutKey adds to an UNAUTHENTICATED where the key came from, or where one is looked for.
func aboutKey(err error, key client.Key) error {
	if status.Code(err) != codes.Unauthenticated {
		return err
	}
	if key.From != "" {
		return &adviceError{err, "The admin key was read from " + key.From + "."}
	}
	return &adviceError{err, "There is no admin key: give --admin-key-file, or set COUNTERSIGN_ADMIN_KEY_FILE or " + client.KeyVariable + "."}
}

// unknownOutcome tells whether a change that ended with an error may have been made all the same.
func unknownOutcome(err error) bool {
	var unreachable *client.UnreachableError
	told, fromServer := statusOf(err)
	if errors.As(err, &unreachable) || !fromServer {
		return false
	}
	switch told.Code() {
	case codes.Unavailable:
		// Without a reason it is not the authority's answer: the connection broke.
		reason := apierr.ReasonOf(err)
		return reason == "" || reason == apierr.OutcomeUnknown
	case codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal:
		return true
	}
	return false
}
