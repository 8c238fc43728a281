package fleet

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// List returns the validators of the fleet, sorted by name.
func (r *Registry) List() []*countersignv1.Validator {
	own := r.past.Cursors()
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*countersignv1.Validator
	for _, m := range r.members {
		if m.Gone {
			continue
		}
		v := &countersignv1.Validator{
			ValidatorId: m.ID, InstanceId: m.InstanceID, DataAge: durationpb.New(m.DataAge),
			State: m.state(now), ReportAge: durationpb.New(now.Sub(m.heard)), Stale: m.Stale, KeyIds: m.KeyIDs,
			OrphanCount: uint32(m.Orphans),
		}
		if !m.Reported.IsZero() {
			v.ReportTime = timestamppb.New(m.Reported)
		}
		if ahead, known := m.clock.skew(); known {
			v.ClockSkew = durationpb.New(ahead)
		}
		v.IdContested = !m.contested.IsZero() && now.Sub(m.contested) < Lease
		if m.FencedAfter > 0 {
			v.FencedAfter = durationpb.New(m.FencedAfter)
		}
		for partition, to := range own {
			at, loaded := m.Cursors[partition]
			if loaded {
				v.Cursors = append(v.Cursors, &countersignv1.Position{
					Partition: uint32(partition), Epoch: at.Epoch,
					Revision: at.Revision,
				})
			}
			if at.Revision < to.Revision {
				v.Behind += to.Revision - at.Revision
			}
		}
		all = append(all, v)
	}
	for _, name := range r.unverified() {
		all = append(all, &countersignv1.Validator{
			ValidatorId: name, State: countersignv1.ValidatorState_VALIDATOR_STATE_LOST,
			Unreadable: true,
		})
	}
	slices.SortFunc(all, func(a, b *countersignv1.Validator) int { return cmp.Compare(a.GetValidatorId(), b.GetValidatorId()) })
	return all
}

// Instance is one start of a validator of the fleet.
type Instance struct {
	ID, InstanceID string
	// Start is when the instance was started, by its own clock.
	Start time.Time
	// Ahead is how far its clock is ahead of this authority's. ClockKnown says whether that is known.
	Ahead      time.Duration
	ClockKnown bool
	// Heard is when its latest report arrived, by the clock of the authority that received it. Reporting says
	// that it still counts as reporting.
	Heard     time.Time
	Reporting bool
	// Contested says that another process decides under the same id, and is not a member.
	Contested bool
	// Gone says that it has left or was forgotten, at Heard.
	Gone bool
	// FencedAfter is the age of data from which on it answers nothing; 0 when it has no such bound.
	FencedAfter time.Duration
}

// Instances returns the present instance of each validator of the fleet, and the latest one of each that was
// a member, in no order.
func (r *Registry) Instances() []Instance {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Instance
	for _, m := range r.members {
		ahead, known := m.clock.skew()
		all = append(all, Instance{
			ID: m.ID, InstanceID: m.InstanceID, Start: m.Start, Ahead: ahead, ClockKnown: known, Heard: m.Reported,
			Reporting: !m.Gone && !m.silent(now), Contested: !m.contested.IsZero() && now.Sub(m.contested) < Lease, Gone: m.Gone,
			FencedAfter: m.FencedAfter,
		})
	}
	return all
}

// state returns the state of a member in lists: whether it reports, and if not, whether its staleness bound
// stops its answers.
func (m *member) state(now time.Time) countersignv1.ValidatorState {
	switch {
	case !m.silent(now):
		return countersignv1.ValidatorState_VALIDATOR_STATE_REPORTING
	case stateOf(now.Sub(m.heard), m.FencedAfter, Lease) == Fenced:
		return countersignv1.ValidatorState_VALIDATOR_STATE_FENCED
	}
	return countersignv1.ValidatorState_VALIDATOR_STATE_LOST
}
