package storetest

import (
	"slices"

	"github.com/countersign/countersign/pkg/record"
)

// SetHead replaces what readers see as a partition's head; nil removes it.
func (s *Store) SetHead(partition int, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[partition].rawHead = raw
}

// RawHead returns what readers see as a partition's head.
func (s *Store) RawHead(partition int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[partition].rawHead
}

// SetDocument replaces what readers see under an app's id; nil removes it.
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

// SetField replaces what readers see under any field of a partition's policies; nil removes it.
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

// RawDocument returns what readers see under an app's id; nil for nothing.
func (s *Store) RawDocument(appID string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[s.codec.PartitionOf(appID)].documents[appID]
}

// Log returns what readers see as a partition's log.
func (s *Store) Log(partition int) []record.RawEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.partitions[partition].log)
}

// SetLog replaces what readers see as a partition's log.
func (s *Store) SetLog(partition int, log []record.RawEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[partition].log = slices.Clone(log)
}

// SetLink replaces the link under a revision of a partition's log.
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

// State is everything that a store held at one time.
type State struct{ partitions []contents }

// Save returns what the store holds.
func (s *Store) Save() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := State{}
	for _, c := range s.partitions {
		state.partitions = append(state.partitions, c.clone())
	}
	return state
}

// RollBack makes the store what it was: a failover that lost writes, or an old backup put back.
func (s *Store) RollBack(to State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range to.partitions {
		s.partitions[i] = c.clone()
	}
}

// RollBackPartition does the same with one partition.
func (s *Store) RollBackPartition(partition int, to State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partitions[partition] = to.partitions[partition].clone()
}
