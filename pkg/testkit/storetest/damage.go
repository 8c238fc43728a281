package storetest

import (
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// SetHead replaces a partition's head for readers; nil removes it.
func (s *Store) SetHead(partition int, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[partition].rawHead = raw
}

// RawHead returns a partition's head as readers see it.
func (s *Store) RawHead(partition int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[partition].rawHead
}

// SetDocument replaces an app's document for readers; nil removes it.
func (s *Store) SetDocument(appID string, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	documents := s.partitions[s.codec.PartitionOf(appID)].documents
	if raw == nil {
		delete(documents, appID)
		return
	}
	documents[appID] = raw
}

// SetField replaces any field of a partition's policies for readers; nil removes it.
func (s *Store) SetField(partition int, field string, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	documents := s.partitions[partition].documents
	if raw == nil {
		delete(documents, field)
		return
	}
	documents[field] = raw
}

// RawDocument returns an app's document as readers see it; nil for none.
func (s *Store) RawDocument(appID string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[s.codec.PartitionOf(appID)].documents[appID]
}

// Log returns a partition's log as readers see it.
func (s *Store) Log(partition int) []record.RawEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.partitions[partition].log)
}

// SetLog replaces a partition's log for readers.
func (s *Store) SetLog(partition int, log []record.RawEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[partition].log = slices.Clone(log)
}

// SetLink replaces the link with a revision in a partition's log.
func (s *Store) SetLink(partition int, revision uint64, raw []byte) {
	log := s.Log(partition)
	for i := range log {
		if log[i].Revision == revision {
			log[i].Data = raw
		}
	}
	s.SetLog(partition, log)
}

// Trim shortens a partition's log to its latest links.
func (s *Store) Trim(partition, keep int) {
	log := s.Log(partition)
	s.SetLog(partition, log[max(len(log)-keep, 0):])
}

// State is a saved copy of everything in a store.
type State struct{ partitions []contents }

// Save returns a copy of the store's contents.
func (s *Store) Save() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := State{}
	for _, c := range s.partitions {
		state.partitions = append(state.partitions, c.clone())
	}
	return state
}

// RollBack restores saved contents, like a failover that lost writes, or an old backup.
func (s *Store) RollBack(to State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range to.partitions {
		s.partitions[i] = c.clone()
	}
}

// RollBackPartition restores the saved contents of one partition.
func (s *Store) RollBackPartition(partition int, to State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[partition] = to.partitions[partition].clone()
}
