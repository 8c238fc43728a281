package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// healthInterval is the pause between two updates of gRPC health.
const healthInterval = 250 * time.Millisecond

// detail returns the problems that /readyz shows besides whether calls can be answered; empty for none.
func (s *Server) detail() string {
	var lines []string
	if trouble := s.management.Trouble(); trouble != "" {
		lines = append(lines, trouble)
	}
	if r := s.replica.Load(); r != nil {
		if n, epoch := below(r); n > 0 {
			lines = append(lines, fmt.Sprintf("the store is below the floor in %d partitions: it lost changes, or is an old copy; "+
				"unless validators bring them back, restore the latest backup, or take the store as it is "+
				"(countersign store adopt --above-epoch %d)", n, epoch))
		}
		if s.floor.cameBackEmpty(r, time.Now()) {
			lines = append(lines, "nothing was ever changed in this store, which is older than an hour: if it held apps, it came "+
				"back empty")
		}
	}
	return strings.Join(lines, "; ")
}

// ready returns nil once management calls can be answered.
func (s *Server) ready() error {
	err := s.management.Ready()
	if detail := s.detail(); err != nil && detail != "" {
		return fmt.Errorf("%w; %s", err, detail)
	}
	return err
}

// keepHealth keeps gRPC health equal to /readyz until ctx ends. The health of FleetService is not changed.
// Validators also report to an authority that cannot serve management, since their reports may be needed to
// heal the store.
func (s *Server) keepHealth(ctx context.Context) {
	for serving, first := false, true; ; first = false {
		err := s.ready()
		if now := err == nil; now != serving || first {
			switch serving = now; {
			case !serving:
				s.config.Log.Error("management calls cannot be served", "why", err)
			case !first:
				s.config.Log.Info("management calls are served again")
			}
			s.grpc.SetServing("", serving)
			s.grpc.SetServing(countersignv1.AuthorityService_ServiceDesc.ServiceName, serving)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(healthInterval):
		}
	}
}
