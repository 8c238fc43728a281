package replica

import (
	"errors"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
)

var (
	errDoesNotFit = errors.New("it changes another revision of the policy than the current one")
	errNoBase     = errors.New("the policy that it changes is not verified")
)

// state is a partition's data at a cursor.
type state struct {
	rows   *table.Partition
	cursor record.Cursor
	sum    record.Sum
	// torn says that an app's policy is older than the cursor, although the sum is right. Only a reload
	// repairs that.
	torn bool
	// damaged is the number of documents that could not be verified. Their apps have no policy or an old one.
	damaged int
	// forks are the last cursors of earlier epochs, oldest first.
	forks []record.Cursor
	// revoked are the tokens that stay revoked against the store.
	revoked stickies
	// unhealed says that an operator began the epoch, and that no authority has healed it yet.
	unhealed bool
}

// rekeySum computes the sum under the key of a sealed sum. For another key it adds up every document again,
// which takes about 1 ms per 1,000.
func (s *state) rekeySum(codec *record.Codec, number int, sealed record.SealedSum) {
	if s.sum.Key() == sealed.Key {
		return
	}
	s.sum = sealed.EmptySum()
	for appID, entry := range s.rows.All() {
		s.sum = codec.Add(s.sum, number, appID, entry.Revision)
	}
}

// continuedBy reports whether a link directly follows the cursor.
func (s *state) continuedBy(link *record.Link) bool {
	return link.Epoch == s.cursor.Epoch && link.Revision == s.cursor.Revision+1 && link.PreviousTag == s.cursor.Tag
}

// before reports whether a cursor of an earlier epoch is known to be in the history of this state.
func (s *state) before(c record.Cursor) bool {
	for _, end := range s.forks {
		if end.Epoch == c.Epoch {
			return c.Revision < end.Revision || c == end
		}
	}
	return false
}

// applyLink moves the state to a link that continues it, and keeps revocations in force. When the link cannot
// be applied to its app, the app keeps its last good policy, the cursor moves all the same, and the error
// says why.
func (s *state) applyLink(codec *record.Codec, number int, link *record.Link) error {
	before := s.rows.Get(link.AppID)
	after, err := afterLink(before, link)
	after = s.revoked.enforce(link.AppID, before, after)
	if before != nil {
		s.sum = codec.Remove(s.sum, number, link.AppID, before.Revision)
	}
	s.sum = codec.Add(s.sum, number, link.AppID, link.Revision)
	s.cursor, s.torn = link.Cursor, s.torn || err != nil
	s.rows.Put(link.AppID, after)
	s.rows.SetRevision(link.Revision)
	return err
}

// afterLink returns an app's entry after a link; before is nil for an app without a document. On an error the
// entry has the link's revision and the last good policy. A link holds the difference to one exact revision.
// Applied to an older policy, it would make one that the app never had.
func afterLink(before *table.Entry, link *record.Link) (*table.Entry, error) {
	if before == nil {
		before = &table.Entry{}
	}
	kept := keepLastGood(before, link.Revision)
	switch {
	case before.Revision != link.PreviousAppRevision:
		return kept, errDoesNotFit
	case before.Behind() || before.Policy == nil && before.Revision != 0:
		return kept, errNoBase
	}
	next, err := link.Apply(before.StoredPolicy())
	if err != nil {
		return kept, err
	}
	return &table.Entry{Policy: next, Revision: link.Revision, PolicyRevision: link.Revision}, nil
}

// keepLastGood returns an entry with the last good policy, for a document whose newer revision is unusable.
func keepLastGood(before *table.Entry, revision uint64) *table.Entry {
	kept := *before
	kept.Revision = revision
	if kept.Since.IsZero() {
		kept.Since = time.Now()
	}
	return &kept
}
