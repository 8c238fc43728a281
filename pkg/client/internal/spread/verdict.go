package spread

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// Verdict is what the outcome of a question says about the validator.
type Verdict int

// The verdicts.
const (
	// Decided is an answer, or an error that every validator would return.
	Decided Verdict = iota
	// Refused means that the validator decides nothing now, is overloaded, or cannot be reached.
	Refused
	// Lacking means that the validator cannot decide about this app, or does not have this revision.
	// Another validator may. It says nothing about other questions, and anyone can cause it.
	Lacking
	// Left means that the caller has given up, or that its deadline has passed.
	Left
)

// VerdictOf returns the verdict on the error of a question. A nil error is an answer.
func VerdictOf(err error) Verdict {
	switch status.Code(err) {
	case codes.Unavailable:
		switch apierr.ReasonOf(err) {
		case apierr.PolicyUnverified, apierr.RevisionNotReached, apierr.RevisionLost, apierr.TooManyWaiting:
			return Lacking
		}
		return Refused
	case codes.ResourceExhausted:
		if apierr.ReasonOf(err) == apierr.Overloaded {
			return Refused
		}
	case codes.DeadlineExceeded, codes.Canceled:
		return Left
	}
	return Decided
}
