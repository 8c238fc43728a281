package spread

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// Verdict is what comes of a question, and what that says of the validator that it was asked of.
type Verdict int

// The verdicts.
const (
	// Decided is an answer, or an error that another validator would have, too.
	Decided Verdict = iota
	// Refused is that the validator decides nothing now, has too much to do, or is out of reach.
	Refused
	// Lacking is that the validator cannot decide about this app, or does not have this revision and cannot
	// wait. Another one may; of other questions it says nothing, and anybody can ask such a one.
	Lacking
	// Left is that the caller has gone, or has no more time.
	Left
)

// VerdictOf judges the error of a question, nil for an answer.
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
