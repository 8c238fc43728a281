package replica

import (
	"errors"
	"fmt"
)

// trouble is what keeps a partition from being loaded.
type trouble string

const (
	troubleType     trouble = "type"     // a key holds something of another type
	troubleHead     trouble = "head"     // the head is missing or does not verify
	troubleLog      trouble = "log"      // the log does not lead to the head
	troubleDigest   trouble = "digest"   // the documents do not add up to the head
	troubleFork     trouble = "fork"     // the store denies what was confirmed
	troubleUnhealed trouble = "unhealed" // an operator began the epoch, and no authority has healed it yet
	troubleOther    trouble = "other"    // it cannot be read, or was changed meanwhile
)

// AllTroubles are what Stats names as keeping partitions from being loaded.
var AllTroubles = []string{
	string(troubleType), string(troubleHead), string(troubleLog), string(troubleDigest), string(troubleFork), string(troubleUnhealed),
	string(troubleOther),
}

var (
	errHead = errors.New("the head is refused")
	errLog  = errors.New("the log does not lead to the head")
)

// proving are the errors that another read of the same store does not mend.
var proving = []struct {
	is      error
	trouble trouble
	words   string
}{
	{ErrWrongType, troubleType, "a key of the store holds something of another type"},
	{errHead, troubleHead, "its head is missing or does not verify"},
	{errLog, troubleLog, "its log does not lead to its head"},
	{errDoesNotAddUp, troubleDigest, "its documents do not add up to its head"},
	{errForked, troubleFork, "the store denies what was seen before"},
	{errUnhealed, troubleUnhealed, "the store was restored, or taken as it is, and no authority has healed it yet"},
}

// troubleOf returns what kept a partition from being loaded.
func troubleOf(err error) trouble {
	for _, known := range proving {
		if errors.Is(err, known.is) {
			return known.trouble
		}
	}
	return troubleOther
}

// complain logs why the worker has failed. Of a store that does not prove, each partition has a line of its
// own, since an operator has to mend each.
func (p *partition) complain(err error) {
	switch troubleOf(err) {
	case troubleType, troubleLog, troubleDigest:
		p.r.say.error(p.log, fmt.Sprintf("partition %d of the store does not prove; trying again (countersign store verify)", p.number), "error", err)
	default:
		p.r.say.warn(p.log, "reading the store failed; trying again", "error", err)
	}
}

// Unloaded returns in words how much is not loaded, and why the first partition of it is not whose store
// does not prove; nil when all is loaded. The words hold no names and no addresses.
func (r *Replica) Unloaded() error {
	unloaded, why, proven := 0, "they are being read", true
	for i, p := range r.partitions {
		if p.settled() {
			continue
		}
		p.mu.Lock()
		err := p.trouble
		p.mu.Unlock()
		unloaded++
		if words := wordsFor(err); words != "" && proven {
			why, proven = fmt.Sprintf("partition %d: %s", i, words), false
		} else if err != nil && proven {
			why = "the store cannot be read"
		}
	}
	if unloaded == 0 {
		return nil
	}
	return fmt.Errorf("the policies are not loaded yet: %d of %d partitions are missing; %s", unloaded, len(r.partitions), why)
}

// wordsFor says what does not prove; nothing for an error that says nothing of that.
func wordsFor(err error) string {
	for _, known := range proving {
		if errors.Is(err, known.is) {
			return known.words
		}
	}
	return ""
}
