// Package storetest is an in-memory store for tests. Tests write to it as the authority writes to Redis,
// replicas read from it as from Redis, and faults damage it in every way that Redis can fail. It blocks only
// on time, so it works under testing/synctest. This package is not part of the public API and may change in
// any release.
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

// Store is an in-memory store. It is safe for concurrent use.
type Store struct {
	tb    testing.TB
	ring  *keyring.Ring
	codec *record.Codec
	meta  record.Meta

	mu         sync.Mutex
	partitions []contents
	apps       [][]string // ids that App has returned, by partition
	faults     Faults
	calls      Calls
	feeds      map[*feed]struct{}
	observe    func(Commit)
	mirror     func(Commit) error
}

// contents is one partition. Values behind its pointers never change, so a shallow copy is a snapshot.
type contents struct {
	// rawHead and documents are what readers see. Head, sum and truth are what was committed.
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

// New returns an initialised store without apps and with its own key ring.
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

// Ring returns the key ring of the store.
func (s *Store) Ring() *keyring.Ring { return s.ring }

// Meta returns the meta of the store.
func (s *Store) Meta() record.Meta { return s.meta }

// App returns the id of the nth app of a partition. Equal arguments give equal ids.
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

// sealHead shows the committed head to readers. The caller holds the mutex, or is alone.
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

// Head returns the committed head of a partition.
func (s *Store) Head(partition int) record.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[partition].head
}

// Sum returns the sum of a partition's committed documents.
func (s *Store) Sum(partition int) record.Sum {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[partition].sum
}

// Truth returns the latest committed document of every app of a partition. Do not change the documents.
func (s *Store) Truth(partition int) map[string]*record.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.partitions[partition].truth)
}

// Document returns the latest committed document of an app; nil for none. Do not change it.
func (s *Store) Document(appID string) *record.Document {
	return s.Truth(s.codec.PartitionOf(appID))[appID]
}
