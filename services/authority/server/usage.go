package server

import (
	"context"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/replica"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/store"
)

// countUsage adds the usage counts of validators until ctx ends.
func (s *Server) countUsage(ctx context.Context, r *replica.Replica) error {
	meta := r.Codec().Meta()
	counts := ledger.New(ledger.Config{
		Storage: store.NewCounts(s.usage, meta.StoreID), Partitions: meta.Partitions, StoreCreated: meta.CreateTime,
		Apps: ledger.OfReplica(r), KnownScope: knownScope, Metrics: s.counts, Log: s.config.Log,
	})
	s.fleet.OpenUsage(counts)
	s.evidence.Open(evidence.CountsOf(counts))
	return counts.Run(ctx)
}

// knownScope tells the scopes of the contract.
func knownScope(scope policy.Scope) bool {
	_, known := countersignv1.Scope_name[int32(scope)]
	return known && scope != 0
}
