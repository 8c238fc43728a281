// Package evidence gathers what reports on readiness are made of: the usage counts of apps, and how far the
// counts of the fleet are complete. This package is not part of the public API and may change in any release.
package evidence

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/services/authority/internal/fleet"
	"github.com/countersign/countersign/services/authority/internal/ledger"
	"github.com/countersign/countersign/services/authority/internal/readiness"
)

// readTimeout bounds one gathering, so that a counts' Redis that is away holds no call up for long.
const readTimeout = 3 * time.Second

// History is what was counted of one app; see ledger.History.
type History interface {
	Sums(since time.Time) (sums []ledger.Sum, from time.Time)
	LastUses() []ledger.LastUse
	Counted() ledger.Counted
}

// Counts reads the usage counts. It must be safe for concurrent use. Without counts of an app, App returns a
// History without any, and Apps may leave the app out.
type Counts interface {
	App(ctx context.Context, appID string) (History, error)
	Apps(ctx context.Context, partition int, appIDs []string) (map[string]History, error)
	Coverage(ctx context.Context) (all []ledger.Coverage, since time.Time, err error)
}

// Members lists the validators of the fleet; see fleet.Service.
type Members interface {
	Instances() ([]fleet.Instance, error)
}

// Source gathers evidence. It is safe for concurrent use. A nil Source has none.
type Source struct {
	members Members
	counts  atomic.Pointer[Counts]
}

// New returns a source without counts.
func New(members Members) *Source { return &Source{members: members} }

// Open gives the source its counts.
func (s *Source) Open(counts Counts) { s.counts.Store(&counts) }

var errNoCounts = errors.New("this authority has no usage counts yet")

func (s *Source) open() (Counts, error) {
	if s != nil {
		if counts := s.counts.Load(); counts != nil {
			return *counts, nil
		}
	}
	return nil, errNoCounts
}

// App is the evidence on one app.
type App struct {
	History
	Fleet readiness.Fleet
}

// App gathers the evidence on one app.
func (s *Source) App(ctx context.Context, appID string) (*App, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	// The fleet is read first: everything that it calls complete is in the counts that are read later.
	covered, err := s.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	history, err := s.Uses(ctx, appID)
	if err != nil {
		return nil, err
	}
	return &App{History: history, Fleet: covered}, nil
}

// Uses reads the counts of one app, without the fleet.
func (s *Source) Uses(ctx context.Context, appID string) (History, error) {
	counts, err := s.open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return counts.App(ctx, appID)
}

// Apps reads the counts of some apps of one partition. The caller bounds its time.
func (s *Source) Apps(ctx context.Context, partition int, appIDs []string) (map[string]History, error) {
	counts, err := s.open()
	if err != nil {
		return nil, err
	}
	return counts.Apps(ctx, partition, appIDs)
}

// Fleet reads how far the counts of all validators are complete.
func (s *Source) Fleet(ctx context.Context) (readiness.Fleet, error) {
	counts, err := s.open()
	if err != nil {
		return readiness.Fleet{}, err
	}
	// The members are listed first: one that joins in between is not missed in the coverage.
	instances, err := s.members.Instances()
	if err != nil {
		return readiness.Fleet{}, err
	}
	var covered readiness.Fleet
	if covered.Coverage, covered.Since, err = counts.Coverage(ctx); err != nil {
		return readiness.Fleet{}, err
	}
	for _, i := range instances {
		covered.Validators = append(covered.Validators, readiness.Validator{
			ID: i.ID, InstanceID: i.InstanceID, Start: i.Start, Ahead: i.Ahead, ClockKnown: i.ClockKnown, Heard: i.Heard,
			Live: i.Reporting, Contested: i.Contested, Gone: i.Gone, FencedAfter: i.FencedAfter,
		})
	}
	return covered, nil
}

// Ledger is the reading side of ledger.Ledger.
type Ledger interface {
	App(ctx context.Context, appID string) (ledger.History, error)
	Apps(ctx context.Context, partition int, appIDs []string) (map[string]ledger.History, error)
	Coverage(ctx context.Context) (all []ledger.Coverage, since time.Time, err error)
}

// CountsOf returns the counts of a ledger.
func CountsOf(l Ledger) Counts { return ledgerCounts{l} }

type ledgerCounts struct{ Ledger }

func (l ledgerCounts) App(ctx context.Context, appID string) (History, error) {
	h, err := l.Ledger.App(ctx, appID)
	return &h, err
}

func (l ledgerCounts) Apps(ctx context.Context, partition int, appIDs []string) (map[string]History, error) {
	found, err := l.Ledger.Apps(ctx, partition, appIDs)
	if err != nil {
		return nil, err
	}
	histories := make(map[string]History, len(found))
	for id, h := range found {
		histories[id] = &h
	}
	return histories, nil
}
