// Package storetest is a store for tests: in memory, written as the authority writes Redis, read by a replica
// as Redis is read, and spoilt in every way that a Redis can be. It waits for nothing but time, so that it
// runs under testing/synctest. This package is not part of the public API and may change in any release.
package storetest

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

// Store is a store in memory. All methods are safe for concurrent use.
type Store struct {
	tb    testing.TB
	ring  *keyring.Ring
	codec *record.Codec
	meta  record.Meta

	mu         sync.Mutex
	partitions []contents
	apps       [][]string // ids that App has found, by partition
	faults     Faults
	calls      Calls
	feeds      map[*feed]struct{}
	observe    func(Commit)
	mirror     func(Commit) error
}

// contents is one partition. What it points to is never changed, so that a shallow copy is a snapshot.
type contents struct {
	// rawHead and documents are what readers see; head, sum and truth what was committed.
	rawHead   []byte
	documents map[string][]byte
	head      record.Head
	sum       record.Sum
	truth     map[string]*record.Document
	log       []record.RawEntry
}

func (c contents) clone() contents {
	c.documents, c.truth, c.log = maps.Clone(c.documents), maps.Clone(c.truth), slices.Clone(c.log)
	return c
}

// New returns an initialised store without apps, with a key ring of its own.
func New(tb testing.TB, partitions int) *Store {
	tb.Helper()
	return NewWith(tb, keyring.Generate(), record.Meta{StoreID: "storetest", Partitions: partitions, CreateTime: time.Now()})
}

// NewWith returns an initialised store without apps.
func NewWith(tb testing.TB, ring *keyring.Ring, meta record.Meta) *Store {
	tb.Helper()
	s := &Store{
		tb: tb, ring: ring, meta: meta, codec: record.NewCodec(ring, meta),
		partitions: make([]contents, meta.Partitions), apps: make([][]string, meta.Partitions),
		calls: newCalls(meta.Partitions), feeds: map[*feed]struct{}{},
	}
	for i := range s.partitions {
		c := &s.partitions[i]
		c.documents, c.truth = map[string][]byte{}, map[string]*record.Document{}
		c.head = record.Head{Cursor: record.Cursor{Epoch: 1, Tag: record.NewTag()}}
		s.sealHead(i)
		c.sum = c.head.State.EmptySum()
	}
	return s
}

// Codec returns the codec of the store's records.
func (s *Store) Codec() *record.Codec { return s.codec }

// Ring returns the keys of the store.
func (s *Store) Ring() *keyring.Ring { return s.ring }

// Meta returns which store this is.
func (s *Store) Meta() record.Meta { return s.meta }

// App returns the id of a partition's nth app: always the same for the same numbers.
func (s *Store) App(partition, n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.apps[partition]); len(s.apps[partition]) <= n; i++ {
		if id := fmt.Sprintf("app-%d", i); s.codec.PartitionOf(id) == partition && !slices.Contains(s.apps[partition], id) {
			s.apps[partition] = append(s.apps[partition], id)
		}
	}
	return s.apps[partition][n]
}

// sealHead puts the head that was committed where readers see it. The caller holds the mutex, or is alone.
func (s *Store) sealHead(partition int) {
	c := &s.partitions[partition]
	c.head.State = s.codec.SealSum(partition, c.sum)
	c.head.Policies = uint64(len(c.truth))
	c.rawHead = s.must(s.codec.SealHead(partition, c.head))
}

func (s *Store) must(raw []byte, err error) []byte {
	if err != nil {
		s.tb.Errorf("storetest: %v", err)
	}
	return raw
}

// Head returns the end of a partition as it was committed.
func (s *Store) Head(partition int) record.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[partition].head
}

// Sum returns the sum of a partition's documents as they were committed.
func (s *Store) Sum(partition int) record.Sum {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[partition].sum
}

// Truth returns what was committed last of every app of a partition. Nobody may change it.
func (s *Store) Truth(partition int) map[string]*record.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.partitions[partition].truth)
}

// Document returns what was committed last of an app; nil when there is none. Nobody may change it.
func (s *Store) Document(appID string) *record.Document {
	return s.Truth(s.codec.PartitionOf(appID))[appID]
}
