package management

import (
	"fmt"
	"strings"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/services/store"
)

// storeOf returns the store for a call about one app. Only the app's own partition must be loaded.
func (s *Service) storeOf(appID string) (*store.Store, error) {
	opened := s.open.Load()
	if opened == nil {
		return nil, errNotLoaded
	}
	number := opened.Replica().Codec().PartitionOf(appID)
	for _, partition := range opened.Replica().Unserved() {
		switch {
		case partition.Partition != number:
		case partition.Forked:
			return nil, apierr.Unavailable(apierr.StoreForked,
				"the store has lost changes of partition %d, where this app is, or the whole of it; nothing was changed",
				number).Because(partition.Why)
		case partition.Why != nil:
			return nil, apierr.Unavailable(apierr.NotLoaded,
				"partition %d, where this app is, cannot be proven; nothing was changed: `countersign store verify` says what is wrong",
				number).Because(partition.Why)
		default:
			return nil, errNotLoaded
		}
	}
	return opened, nil
}

// unreachable names the partitions whose apps the replica may not have: partitions that are not loaded, and
// restored partitions that are not healed yet.
func unreachable(r *replica.Replica) []string {
	missing := map[int]bool{}
	for _, p := range r.Unserved() {
		missing[p.Partition] = true
	}
	var names []string
	for partition := range r.Codec().Partitions() {
		if _, unhealed := r.Unhealed(partition); unhealed || missing[partition] {
			names = append(names, fmt.Sprintf("partition %d", partition))
		}
	}
	return names
}

// inParentheses returns names in parentheses; empty for no names.
func inParentheses(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// maxTrouble is how many partitions Trouble explains.
const maxTrouble = 3

// Trouble says for people which partitions cannot be loaded, and why; empty when all can.
func (s *Service) Trouble() string {
	opened := s.open.Load()
	if opened == nil {
		return ""
	}
	var reasons []string
	count := 0
	for _, p := range opened.Replica().Unserved() {
		if p.Why == nil {
			continue
		}
		if count++; count <= maxTrouble {
			reasons = append(reasons, fmt.Sprintf("partition %d: %v", p.Partition, p.Why))
		}
	}
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("the apps of %d of %d partitions cannot be served; %s", count, opened.Replica().Codec().Partitions(),
		strings.Join(reasons, "; "))
}
