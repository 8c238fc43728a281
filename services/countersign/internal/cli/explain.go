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

// explain returns the text for an error of a command. For a server's error it is the code and the server's
// message, with flags in place of field names.
func explain(err error, command *cobra.Command) string {
	text := err.Error()
	var unreachable *client.UnreachableError
	var wrong *client.WrongServerError
	if errors.As(err, &unreachable) {
		text = "UNAVAILABLE: " + unreachable.Error()
	} else if errors.As(err, &wrong) {
		text = "UNIMPLEMENTED: " + wrong.Error()
	} else if told, fromServer := statusOf(err); fromServer {
		text = code.Code(told.Code()).String() + ": " + inFlags(serverWords(told), command)
	}
	if unreachable == nil && grpcclient.AnswersPlain(err) {
		text += "\nThe server uses plain text: give --plaintext if the network is trusted, or give the server a certificate."
	}
	var advice *adviceError
	if errors.As(err, &advice) {
		text += "\n" + advice.advice
	}
	return printableLines(text)
}

// printableLines keeps line breaks, which this program has made, and escapes everything else that is not
// printable.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = words.Printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// statusOf returns the gRPC status of an error; false when it has none.
func statusOf(err error) (*status.Status, bool) {
	var carrier interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carrier) {
		return nil, false
	}
	return carrier.GRPCStatus(), true
}

// serverWords returns a status's message. It adds the bad fields and the stable reason when the message lacks
// them.
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
			// Only UNAVAILABLE has several meanings that call for different steps.
			if told.Code() == codes.Unavailable && !strings.Contains(text, detail.GetReason()) {
				text += " (" + detail.GetReason() + ")"
			}
		}
	}
	return text
}

// adviceError is an error with advice on what to do.
type adviceError struct {
	error
	advice string
}

// Unwrap returns the error.
func (a *adviceError) Unwrap() error { return a.error }

// aboutKey adds to an UNAUTHENTICATED error where the admin key came from, or how to give one.
func aboutKey(err error, key client.Key) error {
	if status.Code(err) != codes.Unauthenticated {
		return err
	}
	if key.From != "" {
		return &adviceError{err, "The admin key was read from " + key.From + "."}
	}
	return &adviceError{err, "There is no admin key: give --admin-key-file, or set COUNTERSIGN_ADMIN_KEY_FILE or " +
		client.KeyVariable + "."}
}

// unknownOutcome reports whether a change that ended with this error may have been made.
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
