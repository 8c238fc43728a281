package fleet

import (
	"context"
	"maps"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/identity"
)

var (
	errNameTaken = apierr.AlreadyExists(apierr.ValidatorIDTaken,
		"another validator reports by this name, and was started later")
	errReplaced = apierr.AlreadyExists(apierr.ValidatorIDTaken,
		"another validator that was started later reports by this name now")
	errElsewhere    = apierr.Aborted("REPORTS_ELSEWHERE", "the validator has opened another stream")
	errNotForgotten = apierr.Unavailable(apierr.StoreUnavailable,
		"the store cannot be written; the validator was not taken out of the fleet")

	errNotShared = apierr.Unavailable(apierr.StoreUnavailable, "the validator could not be made known to other authorities")
)

// join makes a validator a member. The caller reads the floor for the validator only after join. So the other
// authorities can know the validator before it has loaded anything. If a receipt lacks the validator, the
// validator loads data that is newer than the change.
func (r *Registry) join(ctx context.Context, s *stream, u *update) error {
	v := u.validator
	r.mu.Lock()
	known, err := r.admit(&v)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	v.Reported = time.Now()
	raw, err := r.put(ctx, &v)
	if err != nil && !known {
		return errNotShared.Because(err)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.admit(&v); err != nil {
		return err
	}
	now := time.Now()
	m := r.members[v.ID]
	if m == nil || m.InstanceID != v.InstanceID || m.Gone {
		next := newMember(&v, now)
		if m != nil {
			next.stream = m.stream
		}
		m = next
		r.addMember(m)
	}
	if m.stream != nil {
		m.stream.end(errElsewhere)
	}
	m.stream, m.Start, m.FencedAfter = s, v.Start, v.FencedAfter
	if raw != "" {
		m.stored = raw
	}
	s.id = v.ID
	// The first message of a stream has all orphans. Later messages have only the partitions in which they
	// changed.
	m.Orphans = 0
	clear(m.orphans)
	r.apply(m, u, now)
	r.log.Info("a validator reports", "validator", v.ID, "instance", v.InstanceID, "identity", s.identity)
	r.hasReported(v.ID, now)
	return nil
}

// admit decides whether an instance may report by its name. known is true if the hash has a record of this
// instance. If another instance has the name, admit moves v.Start to a time after the start of that instance.
// The caller holds the mutex.
func (r *Registry) admit(v *record.Validator) (known bool, err error) {
	m := r.members[v.ID]
	if m == nil || m.Gone {
		return false, nil
	}
	if m.InstanceID == v.InstanceID {
		if v.Start.Before(m.Start) {
			v.Start = m.Start
		}
		return m.stored != "", nil
	}
	if time.Since(m.heard) < claim && m.Start.After(v.Start) {
		r.log.Warn("two validators report by one name; the one that was started later counts", "validator", v.ID)
		m.contested = time.Now()
		return false, errNameTaken
	}
	if !v.Start.After(m.Start) {
		v.Start = m.Start.Add(time.Millisecond)
	}
	if m.stream != nil {
		if time.Since(m.heard) < claim {
			r.log.Warn("two validators report by one name; the one that was started later counts", "validator", v.ID)
		}
		m.stream.end(errReplaced)
	}
	return false, nil
}

// report applies one message of a validator that has joined.
func (r *Registry) report(s *stream, u *update) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.members[s.id]
	if m == nil || m.stream != s {
		return errElsewhere
	}
	r.apply(m, u, time.Now())
	return nil
}

// apply applies a report to a member. The caller holds the mutex.
func (r *Registry) apply(m *member, u *update, now time.Time) {
	r.metrics.reports.Inc()
	m.Sequence = max(m.Sequence, u.validator.Sequence)
	m.heard, m.Reported = now, now
	if !u.validator.Clock.Wall.IsZero() {
		m.Clock = u.validator.Clock
		m.clock.read(m.Clock, now)
		r.logClock(m, now)
	}
	if u.heartbeat {
		m.DataAge, m.Stale, m.KeyIDs = u.validator.DataAge, u.validator.Stale, u.validator.KeyIDs
	}
	var moved []int
	for partition, at := range u.validator.Cursors {
		m.sequences[partition] = m.Sequence
		if r.move(m, partition, at, now) {
			moved = append(moved, partition)
			m.digests[partition] = u.digests[partition]
		}
	}
	maps.Copy(m.begins, u.begins)
	for partition, tags := range u.orphans {
		delete(m.orphans, partition)
		if len(tags) > 0 {
			m.orphans[partition] = tags
			r.notice(partition)
		}
	}
	if len(u.orphans) > 0 {
		m.countOrphans()
	}
	r.publishLater(m, moved)
}

// drop handles the end of a stream.
func (r *Registry) drop(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for g := range r.gathers {
		g.ended(s)
	}
	if m := r.members[s.id]; m != nil && m.stream == s {
		m.stream = nil
		clear(m.orphans) // the next stream reports them again
	}
}

// leave removes a validator from the fleet when the validator reports that it leaves.
func (r *Registry) leave(ctx context.Context, u *update) error {
	r.mu.Lock()
	m := r.members[u.validator.ID]
	if m == nil || m.Gone || m.InstanceID != u.validator.InstanceID {
		r.mu.Unlock()
		return nil // it never joined, or another instance has its name
	}
	v := m.copyRecord()
	r.mu.Unlock()
	v.Sequence = max(v.Sequence, u.validator.Sequence)
	r.log.Info("a validator has left", "validator", v.ID, "instance", v.InstanceID)
	return r.remove(ctx, v)
}

// Forget removes a validator whose lease has expired, or a hash field that does not verify. It calls audit
// first, and removes nothing when audit returns an error.
func (r *Registry) Forget(ctx context.Context, id string, audit func(context.Context) error) error {
	_ = r.confirm(ctx) // the validator may have just joined another authority
	r.mu.Lock()
	m := r.members[id]
	switch {
	case m == nil || m.Gone:
		r.mu.Unlock()
		return r.forgetUnverified(ctx, id, audit)
	case !m.silent(time.Now()):
		r.mu.Unlock()
		return apierr.Precondition("VALIDATOR_REPORTS", "validators/"+id,
			"it has reported within %s: only one that does not can be forgotten", Lease)
	}
	v := m.copyRecord()
	r.mu.Unlock()
	if err := audit(ctx); err != nil {
		return err
	}
	r.log.Info("a validator is forgotten", "validator", id, "instance", v.InstanceID, "identity", identity.From(ctx).Name)
	return r.remove(ctx, v)
}

// remove writes to the hash that a validator has left, and publishes it as news.
func (r *Registry) remove(ctx context.Context, v *record.Validator) error {
	v.Gone, v.Reported, v.Cursors = true, time.Now(), nil
	if _, err := r.put(ctx, v); err != nil {
		return errNotForgotten.Because(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.merge(v, time.Now())
	if m := r.members[v.ID]; m.Gone {
		r.publishLater(m, nil)
	}
	return nil
}
