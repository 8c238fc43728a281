package replica

import (
	"errors"
	"fmt"
)

// loadFailure is a reason why a partition cannot be loaded. Its values are labels of a metric.
type loadFailure string

const (
	failureType     loadFailure = "type"     // a key holds a value of another type
	failureHead     loadFailure = "head"     // the head is missing or does not verify
	failureLog      loadFailure = "log"      // the log does not lead to the head
	failureDigest   loadFailure = "digest"   // the documents do not add up to the head
	failureFork     loadFailure = "fork"     // the store denies confirmed changes
	failureUnhealed loadFailure = "unhealed" // an operator began the epoch, and no authority has healed it yet
	failureOther    loadFailure = "other"    // the store cannot be read, or was changed meanwhile
)

// AllLoadFailures are the keys of Stats.LoadFailures.
var AllLoadFailures = []string{
	string(failureType), string(failureHead), string(failureLog), string(failureDigest), string(failureFork),
	string(failureUnhealed), string(failureOther),
}

var (
	errHead = errors.New("the head is refused")
	errLog  = errors.New("the log does not lead to the head")
)

// lastingFailures are errors that another read of the same store repeats, with a text for operators.
var lastingFailures = []struct {
	err     error
	failure loadFailure
	text    string
}{
	{ErrWrongType, failureType, "a key of the store holds something of another type"},
	{errHead, failureHead, "its head is missing or does not verify"},
	{errLog, failureLog, "its log does not lead to its head"},
	{errDoesNotAddUp, failureDigest, "its documents do not add up to its head"},
	{errForked, failureFork, "the store denies what was seen before"},
	{errUnhealed, failureUnhealed, "the store was restored, or taken as it is, and no authority has healed it yet"},
}

// failureOf returns why a load failed.
func failureOf(err error) loadFailure {
	for _, known := range lastingFailures {
		if errors.Is(err, known.err) {
			return known.failure
		}
	}
	return failureOther
}

// failureText describes a lasting failure. It returns "" for any other error.
func failureText(err error) string {
	for _, known := range lastingFailures {
		if errors.Is(err, known.err) {
			return known.text
		}
	}
	return ""
}

// logFailure logs why the worker has failed. A partition that an operator must repair gets its own message.
// So the log limiter, which goes by message, does not omit it.
func (p *partition) logFailure(err error) {
	switch failureOf(err) {
	case failureType, failureLog, failureDigest:
		p.r.logs.error(p.log,
			fmt.Sprintf("partition %d of the store does not prove; trying again (countersign store verify)", p.number), "error", err)
	default:
		p.r.logs.warn(p.log, "reading the store failed; trying again", "error", err)
	}
}
