package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Change changes a document in place. The cursor is not its business.
type Change func(*record.Document)

// Commit is what one change came to.
type Commit struct {
	Partition int
	AppID     string
	// Cursor is that of the change, After what was known of the app from then on, and Sum that of the
	// partition.
	Cursor record.Cursor
	After  *record.Document
	Sum    record.Sum
	// Link, Document and Head are the records that were written.
	Link, Document, Head []byte
}

// Commit makes a change of an app, as the authority does: link, document and head at once, and the link is
// published.
func (s *Store) Commit(appID string, changes ...Change) Commit {
	s.mu.Lock()
	made := s.commit(appID, changes)
	mirror := s.mirror
	s.mu.Unlock()
	if mirror != nil {
		if err := mirror(made); err != nil {
			s.tb.Errorf("storetest: commit of %s: %v", appID, err)
		}
	}
	s.publish(made.Partition, made.Link)
	return made
}

// Predict returns what Commit would write, and writes nothing: a change that was published and then lost.
func (s *Store) Predict(appID string, changes ...Change) Commit {
	s.mu.Lock()
	defer s.mu.Unlock()
	partition := s.codec.PartitionOf(appID)
	before := s.partitions[partition].clone()
	made := s.commit(appID, changes)
	s.partitions[partition] = before
	return made
}

func (s *Store) commit(appID string, changes []Change) Commit {
	partition := s.codec.PartitionOf(appID)
	c := &s.partitions[partition]
	before, after := c.truth[appID], &record.Document{CreateMillis: time.Now().UnixMilli()}
	if before != nil {
		*after = *before
		after.Tokens = slices.Clone(before.Tokens)
		c.sum = s.codec.Remove(c.sum, partition, appID, before.Revision)
	}
	for _, change := range changes {
		change(after)
	}
	after.AppID, after.UpdateMillis = appID, time.Now().UnixMilli()
	after.Cursor = record.Cursor{Epoch: c.head.Epoch, Revision: c.head.Revision + 1, Tag: record.NewTag()}

	made := Commit{Partition: partition, AppID: appID, Cursor: after.Cursor, After: after}
	made.Link = s.must(s.codec.SealLink(record.LinkBetween(c.head.Tag, before, after)))
	if _, err := after.Policy(); err != nil {
		made.Document = s.forge(after)
	} else {
		made.Document = s.must(s.codec.SealDocument(after))
	}
	c.sum = s.codec.Add(c.sum, partition, appID, after.Revision)
	c.truth[appID], c.documents[appID] = after, made.Document
	c.log = append(c.log, record.RawEntry{Revision: after.Revision, Data: made.Link})
	c.head.Cursor = after.Cursor
	s.sealHead(partition)
	made.Head, made.Sum = c.rawHead, c.sum
	if s.observe != nil {
		s.observe(made)
	}
	return made
}

// Observe calls a function for every change before a reader can see it, also for those that are only
// predicted. The function must not call the store.
func (s *Store) Observe(f func(Commit)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observe = f
}

// epochJump is how far above the end of an epoch the next one begins: as far as the one that an operator
// begins, and far above whatever the tests lose.
const epochJump = 1_000_000_000

// NewEpoch ends a partition's epoch, as a healing does: the next one begins epochJump above this one. It
// settles lost changes by their tags.
func (s *Store) NewEpoch(partition int, settled ...record.Tag) record.Cursor {
	return s.newEpoch(partition, countersignv1.EpochCause_EPOCH_CAUSE_HEALED, settled)
}

// Adopt ends a partition's epoch, as an operator does who takes the store as it is.
func (s *Store) Adopt(partition int) record.Cursor {
	return s.newEpoch(partition, countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED, nil)
}

func (s *Store) newEpoch(partition int, cause countersignv1.EpochCause, settled []record.Tag) record.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.partitions[partition]
	start := record.EpochStart{
		Cursor:   record.Cursor{Epoch: c.head.Epoch + 1, Revision: c.head.Revision + epochJump, Tag: record.NewTag()},
		Previous: c.head.Cursor, Cause: cause,
		Settled: settled, CommitMillis: time.Now().UnixMilli(),
	}
	c.head = c.head.Begin(start.Cursor)
	c.head.Unhealed = !start.Healed()
	c.log = append(c.log, record.RawEntry{Revision: start.Revision, Data: s.must(s.codec.SealEpoch(partition, start)), EpochStart: true})
	s.sealHead(partition)
	return start.Cursor
}

// Position returns the position of a commit: what its consistency token holds.
func (s *Store) Position(c Commit) record.Position {
	return record.Position{StoreID: s.meta.StoreID, Partition: c.Partition, Cursor: c.Cursor}
}

// Token returns an active token whose secret has a text.
func Token(id, text string, scopes ...policy.Scope) record.Token {
	return record.Token{
		Token: policy.Token{ID: id, Digest: secret.DigestOf(text), Scopes: policy.ScopesOf(scopes...), State: policy.Active},
		Name:  id,
	}
}

// AddToken adds an active token. Its secret is its id: a text that only an app with imported tokens looks up.
func AddToken(id string, scopes ...policy.Scope) Change { return Add(Token(id, id, scopes...)) }

// Add adds tokens.
func Add(tokens ...record.Token) Change {
	return func(d *record.Document) { d.Tokens = append(d.Tokens, tokens...) }
}

// SetState changes the state of a token. It panics when the app has none with that id.
func SetState(id string, state policy.State) Change {
	return func(d *record.Document) {
		for i := range d.Tokens {
			if d.Tokens[i].ID == id {
				d.Tokens[i].State = state
				return
			}
		}
		panic(fmt.Sprintf("storetest: no token %s", id))
	}
}

// Remove takes a token out of the document. It does nothing when the app has none with that id.
func Remove(id string) Change {
	return func(d *record.Document) {
		d.Tokens = slices.DeleteFunc(d.Tokens, func(t record.Token) bool { return t.ID == id })
	}
}

// Enforce sets what is enforced.
func Enforce(scopes ...policy.Scope) Change {
	return func(d *record.Document) { d.Enforcement = policy.Enforcement{Scopes: policy.ScopesOf(scopes...)} }
}
