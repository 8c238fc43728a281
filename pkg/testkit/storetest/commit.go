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

// Change changes a document in place, except its cursor.
type Change func(*record.Document)

// Commit is the result of one change.
type Commit struct {
	Partition int
	AppID     string
	// Cursor names the change. After is the app's document after it, and Sum the partition's sum after it.
	Cursor record.Cursor
	After  *record.Document
	Sum    record.Sum
	// Link, Document and Head are the written records.
	Link, Document, Head []byte
}

// Commit changes an app as the authority does: it writes link, document and head at once, and publishes the
// link.
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

// Predict returns what Commit would write, and writes nothing. It stands for a change that was published and
// then lost.
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

// Observe sets a function that is called for every change, also a predicted one, before a reader can see it.
// The function must not call the store.
func (s *Store) Observe(f func(Commit)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observe = f
}

// epochJump is how far an epoch begins above the end of the one before. It equals the jump of an operator's
// epoch, and is far above anything that tests lose.
const epochJump = 1_000_000_000

// NewEpoch begins an epoch as a healing does, epochJump above the end of the current one. It settles lost
// changes by their tags.
func (s *Store) NewEpoch(partition int, settled ...record.Tag) record.Cursor {
	return s.newEpoch(partition, countersignv1.EpochCause_EPOCH_CAUSE_HEALED, settled)
}

// Adopt begins an epoch as an operator does who accepts the store as it is.
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
	c.log = append(c.log, record.RawEntry{
		Revision: start.Revision, Data: s.must(s.codec.SealEpoch(partition, start)),
		EpochStart: true,
	})
	s.sealHead(partition)
	return start.Cursor
}

// Position returns the position of a commit, as its consistency token has it.
func (s *Store) Position(c Commit) record.Position {
	return record.Position{StoreID: s.meta.StoreID, Partition: c.Partition, Cursor: c.Cursor}
}

// Token returns an active token with a given text as its secret.
func Token(id, text string, scopes ...policy.Scope) record.Token {
	return record.Token{
		Token: policy.Token{ID: id, Digest: secret.DigestOf(text), Scopes: policy.ScopesOf(scopes...), State: policy.Active},
		Name:  id,
	}
}

// AddToken adds an active token. Its secret is its id, which only an app with imported tokens looks up.
func AddToken(id string, scopes ...policy.Scope) Change { return Add(Token(id, id, scopes...)) }

// Add adds tokens.
func Add(tokens ...record.Token) Change {
	return func(d *record.Document) { d.Tokens = append(d.Tokens, tokens...) }
}

// SetState changes the state of a token. It panics when the app has no token with the id.
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

// Remove removes a token from the document. It does nothing when the app has no token with the id.
func Remove(id string) Change {
	return func(d *record.Document) {
		d.Tokens = slices.DeleteFunc(d.Tokens, func(t record.Token) bool { return t.ID == id })
	}
}

// Enforce sets the enforced scopes.
func Enforce(scopes ...policy.Scope) Change {
	return func(d *record.Document) { d.Enforcement = policy.Enforcement{Scopes: policy.ScopesOf(scopes...)} }
}
