package store

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// story is a store of one partition without a Redis. A fork of it continues separately, like a failover that
// loses the changes of one side.
type story struct {
	t         fatal
	store     *Store
	head      record.Head
	sum       record.Sum
	documents map[string]*record.Document
	log       []record.Entry
	entries   map[record.Tag]record.Entry // all that it ever had
	clock     *int64
}

// fatal is the part of a test, or of a round of a property, that a story uses.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newStory(t fatal) *story {
	t.Helper()
	key := func() string {
		return base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text())[:keyring.KeySize])
	}
	ring, err := keyring.Parse(fmt.Appendf(nil, `{"current":"new","keys":{"old":%q,"new":%q}}`, key(), key()))
	if err != nil {
		t.Fatal(err)
	}
	codec := record.NewCodec(ring, record.Meta{StoreID: "story", Partitions: 1, CreateTime: time.Now()})
	return &story{
		t: t, store: &Store{codec: codec}, documents: map[string]*record.Document{}, entries: map[record.Tag]record.Entry{},
		clock: new(int64),
		head:  record.Head{Cursor: record.Cursor{Epoch: 1, Tag: record.NewTag()}, State: codec.SealSum(0, record.Sum{})},
	}
}

// underOldKey makes a new story's sum one that began before the current key was made.
func (s *story) underOldKey() {
	s.sum = record.SealedSum{Key: "old"}.EmptySum()
	s.head.State = s.store.codec.SealSum(0, s.sum)
}

func (s *story) fork() *story {
	other := *s
	other.documents, other.log, other.entries = maps.Clone(s.documents), slices.Clone(s.log), maps.Clone(s.entries)
	return &other
}

// change changes an app.
func (s *story) change(app string, changes ...func(*record.Document)) {
	s.t.Helper()
	*s.clock++
	before, after := s.documents[app], &record.Document{AppID: app, CreateMillis: *s.clock}
	if before != nil {
		*after = *before
		after.Tokens = slices.Clone(before.Tokens)
		s.sum = s.store.codec.Remove(s.sum, 0, app, before.Revision)
	} else {
		s.head.Policies++
	}
	for _, change := range changes {
		change(after)
	}
	after.UpdateMillis = *s.clock
	after.Cursor = record.Cursor{Epoch: s.head.Epoch, Revision: s.head.Revision + 1, Tag: record.NewTag()}
	touch(before, after)
	raw, err := s.store.codec.SealLink(record.LinkBetween(s.head.Tag, before, after))
	if err != nil {
		s.t.Fatal(err)
	}
	s.sum = s.store.codec.Add(s.sum, 0, app, after.Revision)
	s.head.Cursor, s.head.State = after.Cursor, s.store.codec.SealSum(0, s.sum)
	s.documents[app] = after
	s.append(record.RawEntry{Revision: after.Revision, Data: raw})
}

func (s *story) append(raw record.RawEntry) record.Entry {
	s.t.Helper()
	e, err := s.store.codec.OpenEntry(0, raw)
	if err != nil || e.Revision != raw.Revision {
		s.t.Fatalf("entry %+v: %v", e, err)
	}
	s.log, s.entries[e.Tag] = append(s.log, e), e
	return e
}

// held returns the entries that a following replica holds.
func (s *story) held() []record.Entry {
	entries := slices.Collect(maps.Values(s.entries))
	slices.SortFunc(entries, func(a, b record.Entry) int { return int(a.Revision) - int(b.Revision) })
	return entries
}

// known returns the history that the store's head and log tell.
func (s *story) known() known {
	k := newKnown(&s.head)
	for _, e := range s.log {
		k.learn(e)
	}
	return k
}

// heal does what Heal does to a store, and returns the result.
func (s *story) heal(entries []record.Entry, sticky []replica.Sticky, seen []record.Cursor) (Healed, error) {
	s.t.Helper()
	k := s.known()
	lost, err := k.search(0, entries, seen)
	if err != nil {
		return Healed{}, err
	}
	changes := lost.merge(s.documents, sticky, 1000)
	tags := lost.tags()
	if len(tags) == 0 && len(changes) == 0 && !s.head.Unhealed {
		return Healed{Nothing: true, GivenUp: lost.unknown}, nil
	}
	return s.take(epoch{
		top: lost.top, cause: countersignv1.EpochCause_EPOCH_CAUSE_HEALED, settled: lost.settling(),
		changes: changes, sum: s.sum, whole: true,
	}), nil
}

// adopt begins an operator's epoch and heals it with nothing.
func (s *story) adopt() Healed {
	s.t.Helper()
	return s.take(epoch{
		top:   record.Cursor{Epoch: s.head.Epoch + 1, Revision: s.head.Revision + 1},
		cause: countersignv1.EpochCause_EPOCH_CAUSE_ADOPTED, sum: s.sum, whole: true,
	})
}

// take applies the start of an epoch, after checking that everything in it is consistent.
func (s *story) take(e epoch) Healed {
	s.t.Helper()
	previous := s.head
	return s.begin(origin{raw: []byte("head"), head: &previous}, e)
}

// begin is take with an explicit origin, which may be empty.
func (s *story) begin(from origin, e epoch) Healed {
	s.t.Helper()
	b, healed, err := s.store.compose(0, from, e, time.UnixMilli(1000))
	if err != nil {
		s.t.Fatal(err)
	}
	at := record.Cursor{}
	if from.head != nil {
		at = from.head.Cursor
	}
	for i, raw := range b.Entries {
		e := s.append(raw)
		if (e.Link == nil) != (i == 0) || e.Previous != at {
			s.t.Fatalf("entry %+v behind %s", e, at)
		}
		at = e.Cursor
	}
	if s.head, err = s.store.codec.OpenHead(0, b.Head); err != nil || s.head.Cursor != at {
		s.t.Fatalf("the head is at %s, the log ends at %s: %v", s.head.Cursor, at, err)
	}
	for _, raw := range b.Documents {
		d, err := s.store.codec.OpenDocument(raw.AppID, raw.Data)
		if err != nil {
			s.t.Fatal(err)
		}
		s.documents[raw.AppID] = d
	}
	s.sum = s.sum.Empty()
	for app, d := range s.documents {
		s.sum = s.store.codec.Add(s.sum, 0, app, d.Revision)
	}
	if s.store.codec.SealSum(0, s.sum) != s.head.State || s.head.Policies != uint64(len(s.documents)) {
		s.t.Fatalf("the documents do not add up to the head: %d, it has %d", len(s.documents), s.head.Policies)
	}
	return healed
}

// wiped returns a store that was wiped and then healed with what a replica holds.
func (s *story) wiped() *story {
	s.t.Helper()
	k := newKnown(nil)
	lost, err := k.search(0, s.held(), []record.Cursor{s.head.Cursor})
	if err != nil {
		s.t.Fatal(err)
	}
	wiped := newStory(s.t)
	wiped.store, wiped.clock = s.store, s.clock
	wiped.begin(origin{}, epoch{
		top: lost.top, last: lost.last, cause: countersignv1.EpochCause_EPOCH_CAUSE_HEALED, settled: lost.settling(),
		changes: lost.merge(nil, nil, 1000), whole: true,
	})
	return wiped
}

func token(id string) record.Token {
	return record.Token{Token: policy.Token{ID: id, Digest: secret.DigestOf(id), State: policy.Active}, Name: "name of " + id}
}

func create(id string) func(*record.Document) {
	return func(d *record.Document) { d.Tokens = append(d.Tokens, token(id)) }
}

// with changes a token, which must exist.
func with(id string, change func(*record.Token)) func(*record.Document) {
	return func(d *record.Document) {
		change(&d.Tokens[slices.IndexFunc(d.Tokens, func(t record.Token) bool { return t.ID == id })])
	}
}

func revoked(id string) func(*record.Document) {
	return with(id, func(t *record.Token) { t.State, t.RevokeMillis = policy.Revoked, 77 })
}

func renamed(id, name string) func(*record.Document) {
	return with(id, func(t *record.Token) { t.Name = name })
}

func enforced(scopes ...policy.Scope) func(*record.Document) {
	return func(d *record.Document) { d.Enforcement.Scopes = policy.ScopesOf(scopes...) }
}

// states returns the states of an app's tokens by id; nil without a document.
func (s *story) states(app string) map[string]policy.State {
	d := s.documents[app]
	if d == nil {
		return nil
	}
	all := map[string]policy.State{}
	for _, t := range d.Tokens {
		all[t.ID] = t.State
	}
	return all
}
