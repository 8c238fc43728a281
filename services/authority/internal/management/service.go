// Package management is the AuthorityService. It reads requests and checks their form, has package rules
// compute the change and package store commit it, and answers. Every rule about tokens and enforcement is in
// rules. This package is not part of the public API and may change in any release.
package management

import (
	"context"
	"sync/atomic"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/authority/internal/evidence"
	"github.com/countersign/countersign/services/store"
)

// Service implements countersignv1.AuthorityServiceServer. It is safe for concurrent use.
type Service struct {
	countersignv1.UnimplementedAuthorityServiceServer
	open     atomic.Pointer[store.Store]
	fleet    Fleet
	evidence *evidence.Source
	lists    snapshots
	shared   *sharedLists
}

// New returns a service that asks a fleet for receipts, and reports on readiness from the evidence; nil for
// none.
func New(fleet Fleet, source *evidence.Source) *Service {
	return &Service{fleet: fleet, evidence: source, shared: newSharedLists()}
}

// Open gives the service its store. Until then every call is UNAVAILABLE.
func (s *Service) Open(opened *store.Store) { s.open.Store(opened) }

// store returns the store for a call about all apps. The call names the partitions that cannot be loaded.
func (s *Service) store() (*store.Store, error) {
	if opened := s.open.Load(); opened != nil && opened.Replica().Tried() {
		return opened, nil
	}
	return nil, errNotLoaded
}

var errNotLoaded = apierr.Unavailable(apierr.NotLoaded, "the authority has not loaded the store yet; nothing was changed")

// read returns an app's present document; nil when the app has none or was deleted.
func (s *Service) read(ctx context.Context, appID string) (*record.Document, error) {
	if err := checkAppID(appID); err != nil {
		return nil, err
	}
	st, err := s.storeOf(appID)
	if err != nil {
		return nil, err
	}
	d, _, err := st.Read(ctx, appID)
	if err != nil || d == nil || d.Deleted {
		return nil, err
	}
	return d, nil
}

func notServed(what string) error {
	return apierr.Unimplemented("%s is not served by this release", what)
}
