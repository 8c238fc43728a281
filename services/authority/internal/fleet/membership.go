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
	// enrolTimeout bounds one change of the list of members, with all its tries.
	enrolTimeout = 5 * time.Second
	// enrolPause is the mean pause before the list is changed again, after another authority has changed it.
	enrolPause = 5 * time.Millisecond
	// youngStore is the age of a store up to which it need not have a list of members.
	youngStore = time.Hour
)

// membership is the list of members as this authority knows it: a record that is taken away from the hash,
// or replaced by an older one, is missed. The mutex of the registry guards it, but for turn.
type membership struct {
	// list is never nil, raw what stands in the hash: empty for nothing.
	list *record.Members
	raw  string
	// stale says that raw is not the list.
	stale bool
	// unknown says why nobody can say who was a member: receipts then name record.UnknownMembers as LOST.
	// Only another authority's list or an operator ends it.
	unknown unknownReason
	// partial says that the list did not name everybody when this authority was started: it was unknown, or
	// was begun after the store. Validators that nobody knows of may run then.
	partial bool
	// waiting are validators that are to be written with the next change.
	waiting []*enrolment
	// turn is held by whoever changes the list.
	turn chan struct{}
}

// unknownReason says why the members are unknown.
type unknownReason int

const (
	// membersKnown is the usual state.
	membersKnown unknownReason = iota
	// listForeign: the list is signed with a key that this authority lacks. It may be right, so it is not
	// replaced.
	listForeign
	// listLost: the list was removed or damaged while no authority ran that remembers it. Records may be
	// missing too.
	listLost
)

// enrolment is a validator that joins or leaves.
type enrolment struct {
	v    *record.Validator
	raw  string // as it was written
	done chan error
}

func newMembership() membership {
	return membership{list: &record.Members{}, turn: make(chan struct{}, 1)}
}

// takeList takes in the list as it stands in the hash. The caller holds the mutex.
func (r *Registry) takeList(raw string, now time.Time) {
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
		r.log.Error("the list of validators in the store is signed with a key that this authority lacks: no receipt is complete here. Give it the key ring that the other authorities have. If that key was retired, have a list made of what is known here (countersign fleet forget "+record.UnknownMembers+")", "error", err)
	case err != nil && remembered:
		r.log.Error("the list of validators in the store is missing or does not verify; this authority writes it back")
	case raw == "" && !r.codec.Meta().MembersListed:
		// The store was made by an earlier release, which wrote no list.
		if now.Sub(r.codec.Meta().CreateTime) > youngStore {
			r.log.Warn("the store has no list of validators: it is made from their records. If this is not the first start of this release, a validator that has stopped without a word may be missing")
		}
		m.list = &record.Members{Since: now}
	case err != nil:
		m.unknown = listLost
		r.log.Error("the list of validators in the store was removed or damaged: no receipt is complete until you have looked which validators run (countersign fleet list) and say that no other one does (countersign fleet forget "+record.UnknownMembers+")", "error", err)
	case list.Sequence < m.list.Sequence:
		r.log.Error("the store has an older list of validators; it is brought up to date", "sequence", list.Sequence, "known", m.list.Sequence)
	default:
		m.list, m.stale = list, false
	}
}

// strangersMayCome tells whether a validator that nobody knows of may run and not have reported yet: it has
// the same time as one that is known, which is a lease from the start of this authority. The caller holds
// the mutex.
func (r *Registry) strangersMayCome(now time.Time) bool {
	return r.membership.partial && now.Sub(r.floor.since) <= Lease
}

// missMembers makes members of those that are in the list, and of which there is no record, or an older
// one. The caller holds the mutex.
func (r *Registry) missMembers(now time.Time) {
	for id, entry := range r.membership.list.Entries {
		if m := r.members[id]; m != nil && !entry.Newer(&m.Validator) {
			continue
		}
		r.log.Error("the record of a validator is missing, or is an older one: it counts as LOST unless it reports, or until it is forgotten", "validator", id)
		r.seat(newMember(entry, now))
	}
}

// due returns the list as it should be: with those that joined, without those that left; nil when it is so,
// or is another authority's to write. The caller holds the mutex.
func (r *Registry) due(joining []*enrolment) *record.Members {
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

// enroll writes the record of a validator that joins or leaves, together with the list that says so. Those
// that come while another one is written are written with the next change, all at once.
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
	r.keepList(ctx)
	<-r.membership.turn
	err = <-e.done
	return e.raw, err
}

// keepList writes those that wait to be, and the list if it is not as it should be. The caller has the turn.
func (r *Registry) keepList(ctx context.Context) {
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

// changeList is compare-and-set, and tries again when another authority has changed the list.
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
		before, list, unknown := r.membership.raw, r.due(all), r.membership.unknown != membersKnown
		if list == nil && len(records) > 0 {
			list = r.membership.list
		}
		r.mu.Unlock()
		if unknown && len(records) > 0 {
			// An authority that knows the list takes its members from the records.
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
		r.takeList(found[record.MembersField], time.Now())
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(enrolPause/2 + rand.N(enrolPause)):
		}
	}
}

// enrolled notes that the records of those that join or leave are written.
func (r *Registry) enrolled(all []*enrolment, validators []*record.Validator, records map[string][]byte) {
	r.written(validators, records)
	for _, e := range all {
		e.raw = string(records[e.v.ID])
	}
}

// listed tells whether the list says the same of a validator. The caller holds the mutex.
func (r *Registry) listed(v *record.Validator) bool {
	entry := r.membership.list.Entries[v.ID]
	if v.Gone || entry == nil {
		return v.Gone && entry == nil
	}
	return entry.InstanceID == v.InstanceID
}

// put writes the record of one validator, and the list when it is to change. It returns the record as it
// was written.
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

// strangers are the names of those fields of the hash that do not verify and are of no member, by field.
// The list of members is one while it does not tell who else there is. The caller holds the mutex.
func (r *Registry) strangers() map[string]string {
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

// forgetStranger takes a field that does not verify out of the hash, after audit has returned nil.
func (r *Registry) forgetStranger(ctx context.Context, name string, audit func(context.Context) error) error {
	r.mu.Lock()
	if r.membership.unknown != membersKnown && name == record.UnknownMembers {
		r.mu.Unlock()
		return r.forgetList(ctx, audit)
	}
	var fields []string
	for field, called := range r.strangers() {
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

// forgetList replaces a list that is unknown by what this authority knows, after audit has returned nil.
func (r *Registry) forgetList(ctx context.Context, audit func(context.Context) error) error {
	if err := audit(ctx); err != nil {
		return err
	}
	r.log.Warn("the list of validators is made of those that are known here", "identity", identity.From(ctx).Name)
	select {
	case r.membership.turn <- struct{}{}:
		defer func() { <-r.membership.turn }()
	case <-ctx.Done():
		return errNotForgotten.Because(ctx.Err())
	}
	r.mu.Lock()
	m := &r.membership
	m.list, m.stale, m.unknown = &record.Members{Sequence: m.list.Sequence, Since: time.Now(), Entries: m.list.Entries}, true, membersKnown
	r.mu.Unlock()
	if err := r.changeList(ctx, nil); err != nil {
		return errNotForgotten.Because(err)
	}
	return nil
}
