package fleet

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/services/authority/internal/identity"
)

const (
	// enrolTimeout bounds one change of the list of members, with all its attempts.
	enrolTimeout = 5 * time.Second
	// enrolPause is the mean pause before another attempt when another authority has changed the list.
	enrolPause = 5 * time.Millisecond
	// youngStore is the age below which a store may lack a list of members without a warning.
	youngStore = time.Hour
)

// membership is the list of members as this authority knows it. The list shows when a record was removed from
// the hash, or was replaced by an older one. The mutex of the registry guards all fields but turn.
type membership struct {
	// list is never nil. raw is the list in the hash when this authority last read or wrote it; empty for
	// none.
	list *record.Members
	raw  string
	// stale is true when the hash does not have list.
	stale bool
	// unknown is the reason why the members are unknown. Until they are known, receipts name
	// record.UnknownMembers as LOST. Only a list from another authority, or an operator, makes them known.
	unknown unknownReason
	// partial is true when the list may have lacked members at the start of this authority. Then the list was
	// unknown, or was begun later than the store. Unlisted validators may run then.
	partial bool
	// waiting has the validators that the next write of the list includes.
	waiting []*enrolment
	// turn is a lock with one slot: one goroutine at a time changes the list.
	turn chan struct{}
}

// unknownReason is the reason why the members are unknown.
type unknownReason int

const (
	// membersKnown means that the members are known.
	membersKnown unknownReason = iota
	// listForeign means that the list is signed with a key that this authority lacks. The list may be right,
	// so this authority does not replace it.
	listForeign
	// listLost means that the list was removed or damaged while no authority that knew it was running.
	// Records may be missing too.
	listLost
)

// enrolment is a validator that joins or leaves.
type enrolment struct {
	v    *record.Validator
	raw  string // the record as it was written
	done chan error
}

func newMembership() membership {
	return membership{list: &record.Members{}, turn: make(chan struct{}, 1)}
}

// mergeList uses the list in the hash if it is valid and not older than the known one. The caller holds the
// mutex.
func (r *Registry) mergeList(raw string, now time.Time) {
	m := &r.membership
	if raw == m.raw && (m.stale || m.list.Sequence > 0) {
		return
	}
	list, err := r.codec.OpenMembers([]byte(raw))
	m.raw, m.stale, m.unknown = raw, true, membersKnown
	remembered := m.list.Sequence > 0 || !m.list.Since.IsZero()
	switch {
	case raw != "" && errors.Is(err, keyring.ErrUnknownKey):
		m.unknown = listForeign
		r.log.Error("the list of validators in the store is signed with a key that this authority lacks: no receipt is "+
			"complete here. Give it the key ring of the other authorities. If the key was retired, replace the list by the "+
			"validators that this authority knows (countersign fleet forget "+record.UnknownMembers+")", "error", err)
	case err != nil && remembered:
		r.log.Error("the list of validators in the store is missing or does not verify; this authority writes it back")
	case raw == "" && !r.codec.Meta().MembersListed:
		// The store is from an earlier release, which wrote no list.
		if now.Sub(r.codec.Meta().CreateTime) > youngStore {
			r.log.Warn("the store has no list of validators, so it is made from their records. If this is not the first " +
				"start of this release, it may lack a validator that does not run now")
		}
		m.list = &record.Members{Since: now}
	case err != nil:
		m.unknown = listLost
		r.log.Error("the list of validators in the store was removed or damaged: no receipt is complete until an operator "+
			"has checked that no other validators run than the listed ones (countersign fleet list), and has confirmed it "+
			"(countersign fleet forget "+record.UnknownMembers+")", "error", err)
	case list.Sequence < m.list.Sequence:
		r.log.Error("the store has an older list of validators; it is brought up to date", "sequence", list.Sequence, "known",
			m.list.Sequence)
	default:
		m.list, m.stale = list, false
	}
}

// unlistedMayRun reports whether a validator may run that is neither in the list nor has reported. Such a
// validator has as long to report as a known member: one lease from the start of this authority. The caller
// holds the mutex.
func (r *Registry) unlistedMayRun(now time.Time) bool {
	return r.membership.partial && now.Sub(r.floor.since) <= Lease
}

// addMissingMembers adds a member for each entry of the list whose record is missing or older than the entry.
// The caller holds the mutex.
func (r *Registry) addMissingMembers(now time.Time) {
	for id, entry := range r.membership.list.Entries {
		if m := r.members[id]; m != nil && !entry.Newer(&m.Validator) {
			continue
		}
		r.log.Error("the record of a validator is missing, or is an older one: it counts as LOST unless it reports, or until "+
			"it is forgotten", "validator", id)
		r.addMember(newMember(entry, now))
	}
}

// nextList returns the next version of the list, with the validators that joined and without those that left.
// It returns nil when the list in the hash is right, or while the members are unknown. The caller holds the
// mutex.
func (r *Registry) nextList(joining []*enrolment) *record.Members {
	if r.membership.unknown != membersKnown {
		return nil
	}
	was := r.membership.list
	next := maps.Clone(was.Entries)
	if next == nil {
		next = map[string]*record.Validator{}
	}
	changed := r.membership.stale
	note := func(v *record.Validator) {
		entry := next[v.ID]
		switch {
		case v.Gone && entry != nil && !entry.Newer(v):
			delete(next, v.ID)
		case !v.Gone && (entry == nil || entry.InstanceID != v.InstanceID && v.Newer(entry)):
			next[v.ID] = record.EntryOf(v)
		default:
			return
		}
		changed = true
	}
	for _, m := range r.members {
		note(&m.Validator)
	}
	for _, e := range joining {
		note(e.v)
	}
	if !changed {
		return nil
	}
	return &record.Members{Sequence: was.Sequence + 1, Since: was.Since, Entries: next}
}

// enroll writes the record of a validator that joins or leaves, together with the list. Validators that join
// or leave during a write share the next write.
func (r *Registry) enroll(ctx context.Context, v *record.Validator) (raw string, err error) {
	e := &enrolment{v: v, done: make(chan error, 1)}
	r.mu.Lock()
	r.membership.waiting = append(r.membership.waiting, e)
	r.mu.Unlock()
	select {
	case err := <-e.done:
		return e.raw, err
	case <-ctx.Done():
		return "", ctx.Err()
	case r.membership.turn <- struct{}{}:
	}
	r.writeList(ctx)
	<-r.membership.turn
	err = <-e.done
	return e.raw, err
}

// writeList writes the records of the waiting validators, and the list if it must change. The caller holds
// turn.
func (r *Registry) writeList(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enrolTimeout)
	defer cancel()
	r.mu.Lock()
	all := r.membership.waiting
	r.membership.waiting = nil
	r.mu.Unlock()
	err := r.changeList(ctx, all)
	for _, e := range all {
		e.done <- err
	}
}

// changeList changes the list by compare-and-set. It tries again when another authority has changed the list.
func (r *Registry) changeList(ctx context.Context, all []*enrolment) error {
	validators := make([]*record.Validator, len(all))
	for i, e := range all {
		validators[i] = e.v
	}
	records, err := r.seal(validators)
	if err != nil {
		return err
	}
	for {
		r.mu.Lock()
		before, list, unknown := r.membership.raw, r.nextList(all), r.membership.unknown != membersKnown
		if list == nil && len(records) > 0 {
			list = r.membership.list
		}
		r.mu.Unlock()
		if unknown && len(records) > 0 {
			// Only the records are written. An authority that knows the list adds these members to it.
			if err := r.shared.Write(ctx, records); err != nil {
				return err
			}
			r.enrolled(all, validators, records)
			return nil
		}
		if unknown || list == nil {
			return nil
		}
		after, err := r.codec.SealMembers(list)
		if err != nil {
			return err
		}
		done, err := r.shared.Enroll(ctx, []byte(before), after, records)
		if err != nil {
			return err
		}
		if done {
			r.mu.Lock()
			r.membership.list, r.membership.raw, r.membership.stale = list, string(after), false
			r.mu.Unlock()
			r.enrolled(all, validators, records)
			return nil
		}
		found, err := r.shared.Read(ctx, record.MembersField)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.mergeList(found[record.MembersField], time.Now())
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(enrolPause/2 + rand.N(enrolPause)):
		}
	}
}

// enrolled remembers that the hash has the records of the validators that join or leave.
func (r *Registry) enrolled(all []*enrolment, validators []*record.Validator, records map[string][]byte) {
	r.written(validators, records)
	for _, e := range all {
		e.raw = string(records[e.v.ID])
	}
}

// listed reports whether the list agrees with a validator's record: it has this instance, or lacks a
// validator that has left. The caller holds the mutex.
func (r *Registry) listed(v *record.Validator) bool {
	entry := r.membership.list.Entries[v.ID]
	if v.Gone || entry == nil {
		return v.Gone && entry == nil
	}
	return entry.InstanceID == v.InstanceID
}

// put writes the record of one validator, and the list if the list must change. It returns the signed record.
func (r *Registry) put(ctx context.Context, v *record.Validator) (raw string, err error) {
	r.mu.Lock()
	listed := r.listed(v)
	r.mu.Unlock()
	if !listed {
		return r.enroll(ctx, v)
	}
	records, err := r.write(ctx, v)
	return string(records[v.ID]), err
}

// unverified returns the fields of the hash that do not verify and belong to no member. The value is the name
// to show for the field. While the members are unknown, the list of members is one of the fields. The caller
// holds the mutex.
func (r *Registry) unverified() map[string]string {
	names := map[string]string{}
	if r.membership.unknown != membersKnown {
		names[record.MembersField] = record.UnknownMembers
	}
	for field := range r.unreadable {
		if m := r.members[field]; m == nil || m.Gone {
			names[field] = record.FieldName(field)
		}
	}
	return names
}

// forgetUnverified removes the fields with a name that do not verify from the hash. It calls audit first, and
// removes nothing when audit returns an error.
func (r *Registry) forgetUnverified(ctx context.Context, name string, audit func(context.Context) error) error {
	r.mu.Lock()
	if r.membership.unknown != membersKnown && name == record.UnknownMembers {
		r.mu.Unlock()
		return r.forgetList(ctx, audit)
	}
	var fields []string
	for field, called := range r.unverified() {
		if called == name {
			fields = append(fields, field)
		}
	}
	r.mu.Unlock()
	if len(fields) == 0 {
		return apierr.NotFound("VALIDATOR_NOT_FOUND", "the fleet has no validator of this name")
	}
	if err := audit(ctx); err != nil {
		return err
	}
	r.log.Info("records that do not verify are forgotten", "validator", name, "identity", identity.From(ctx).Name)
	if err := r.shared.Remove(ctx, fields); err != nil {
		return errNotForgotten.Because(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, field := range fields {
		delete(r.unreadable, field)
	}
	return nil
}

// forgetList replaces a list that is unknown by a list of the members that this authority knows. It calls
// audit first, and changes nothing when audit returns an error.
func (r *Registry) forgetList(ctx context.Context, audit func(context.Context) error) error {
	if err := audit(ctx); err != nil {
		return err
	}
	r.log.Warn("the list of validators is replaced by the validators that this authority knows",
		"identity", identity.From(ctx).Name)
	select {
	case r.membership.turn <- struct{}{}:
		defer func() { <-r.membership.turn }()
	case <-ctx.Done():
		return errNotForgotten.Because(ctx.Err())
	}
	r.mu.Lock()
	m := &r.membership
	m.list, m.stale, m.unknown = &record.Members{Sequence: m.list.Sequence, Since: time.Now(), Entries: m.list.Entries}, true,
		membersKnown
	r.mu.Unlock()
	if err := r.changeList(ctx, nil); err != nil {
		return errNotForgotten.Because(err)
	}
	return nil
}
