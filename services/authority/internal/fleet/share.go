package fleet

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
)

const (
	// publishInterval is the least time between two messages of news. At many changes a second, one message
	// carries several.
	publishInterval = 10 * time.Millisecond
	// exchangeInterval is the pause between two exchanges with the hash. An exchange reads the hash, then
	// writes the records that this authority must write.
	exchangeInterval = time.Second
	// orphaned is how long a validator must be silent before any authority may write its record to the hash,
	// if the hash has an older one. Before that, only the authority to which the validator reports writes the
	// record.
	orphaned = 3 * time.Second
	// listenPause is the mean pause before a broken subscription is made again.
	listenPause = 500 * time.Millisecond
	// sweepInterval is the pause between two checks for expired leases and timeouts.
	sweepInterval = 250 * time.Millisecond
)

// Load reads the records that the authorities share, and tries again until it succeeds. Until then the
// members are unknown. It returns the error of ctx when ctx ends first.
func (r *Registry) Load(ctx context.Context) error {
	for logged := ""; ; {
		err := r.exchange(ctx)
		if err == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.awaitReports(time.Now())
			r.membership.partial = r.membership.unknown != membersKnown || !r.membership.list.BegunWith(r.codec.Meta())
			return nil
		}
		if ctx.Err() == nil && logged != err.Error() {
			logged = err.Error()
			r.log.Error("the fleet cannot be read; no validator can report until it can", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(exchangeInterval):
		}
	}
}

// Run runs the registry until ctx ends, which is not an error. Load must have returned.
func (r *Registry) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context){
		r.publishAll, r.exchangeAll, r.listen, r.sweepLoop, r.followOwn,
		r.answerAsks,
	} {
		group.Go(func() error { loop(ctx); return nil })
	}
	return group.Wait()
}

// publishAll sends news of the validators that report here to the other authorities.
func (r *Registry) publishAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.publish:
		}
		began := time.Now()
		r.mu.Lock()
		news := make([]*record.Validator, 0, len(r.news))
		for _, v := range r.news {
			news = append(news, v)
		}
		clear(r.news)
		r.mu.Unlock()
		// News that cannot be sent reaches the hash within exchangeInterval.
		if raw, err := r.codec.SealNews(news); err == nil && len(news) > 0 {
			_ = r.shared.Tell(ctx, raw)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(publishInterval - time.Since(began)):
		}
	}
}

// exchangeAll exchanges records with the hash every exchangeInterval, and at once after news of a validator
// that this authority does not know.
func (r *Registry) exchangeAll(ctx context.Context) {
	logged := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.exchangeNow:
		case <-time.After(exchangeInterval):
		}
		switch err := r.exchange(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			logged = ""
		case logged != err.Error():
			logged = err.Error()
			r.log.Warn("the fleet cannot be shared with other authorities", "error", err)
		}
	}
}

// exchange reads the hash and merges the records that are newer than this authority's. Then it writes the
// records of validators that report here, the records that the hash lacks, and the newer records of
// validators that have been silent for longer than orphaned. It removes the records of validators that left
// longer than goneLife ago.
func (r *Registry) exchange(ctx context.Context) error {
	all, err := r.shared.Read(ctx)
	if err != nil {
		if mended, _ := r.shared.Mend(ctx); mended {
			r.log.Error("the key of the fleet in the store was not a hash, and was deleted; it is written again")
		}
		return err
	}
	list := all[record.MembersField]
	delete(all, record.MembersField)
	now := time.Now()
	r.mu.Lock()
	r.mergeList(list, now)
	r.dropUnreadable(func(field string) bool { _, there := all[field]; return there })
	r.mu.Unlock()
	r.mergeRecords(all)
	var ours []*record.Validator
	var over []string
	r.mu.Lock()
	for id, m := range r.members {
		_, there := all[id]
		switch {
		case m.Gone && now.Sub(m.heard) > goneLife:
			over = append(over, id)
			delete(r.members, id)
		case m.stream != nil, !there, m.stored == "" && now.Sub(m.heard) > orphaned:
			ours = append(ours, m.copyRecord())
		}
	}
	due := r.nextList(nil) != nil
	r.mu.Unlock()
	_, err = r.write(ctx, ours...)
	if due {
		select {
		case r.membership.turn <- struct{}{}:
			r.writeList(ctx)
			<-r.membership.turn
		default: // another goroutine writes the list; the next exchange checks again
		}
	}
	return errors.Join(err, r.shared.Remove(ctx, over))
}

// write writes the records of some validators into the hash. It returns the signed records by validator id.
func (r *Registry) write(ctx context.Context, validators ...*record.Validator) (map[string][]byte, error) {
	records, err := r.seal(validators)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	if err := r.shared.Write(ctx, records); err != nil {
		return nil, err
	}
	r.written(validators, records)
	return records, nil
}

// seal signs the records of some validators, and returns them by validator id.
func (r *Registry) seal(validators []*record.Validator) (map[string][]byte, error) {
	records := map[string][]byte{}
	for _, v := range validators {
		raw, err := r.codec.SealValidator(v)
		if err != nil {
			return nil, err
		}
		records[v.ID] = raw
	}
	return records, nil
}

// written remembers which records the hash has after a write. It skips a validator whose name another
// instance has taken meanwhile.
func (r *Registry) written(validators []*record.Validator, records map[string][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range validators {
		if m := r.members[v.ID]; m != nil && m.InstanceID == v.InstanceID {
			m.stored = string(records[v.ID])
		}
	}
}

// mergeRecords merges records that were read from the hash.
func (r *Registry) mergeRecords(records map[string]string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, raw := range records {
		m := r.members[id]
		if m != nil && m.stored == raw || r.unreadable[id] == raw {
			continue
		}
		v, err := r.codec.OpenValidator(id, []byte(raw))
		if err != nil {
			r.unreadable[id] = raw
			if m != nil && !errors.Is(err, keyring.ErrUnknownKey) {
				m.stored = "" // so the next exchange writes it again
			}
			r.log.Error("a record of the fleet does not verify; no receipt is complete until it is replaced, or forgotten by this "+
				"name",
				"validator", record.FieldName(id), "error", err)
			continue
		}
		delete(r.unreadable, id)
		r.merge(v, now)
		r.complete(v, now)
		if was := r.floor.awaited[id]; was != nil && v.Newer(was) {
			r.hasReported(id, now)
		}
		switch m := r.members[id]; {
		case m.Newer(v):
			m.stored = ""
		case m.InstanceID == v.InstanceID:
			m.stored = raw
		}
	}
	r.addMissingMembers(now)
}

// dropUnreadable forgets the unverified records whose field the hash does not have. there reports whether the
// hash has a field. The caller holds the mutex.
func (r *Registry) dropUnreadable(there func(field string) bool) {
	for field := range r.unreadable {
		if !there(field) {
			delete(r.unreadable, field)
		}
	}
}

// mergeNews merges one message of news from another authority.
func (r *Registry) mergeNews(raw []byte) {
	news, err := r.codec.OpenNews(raw)
	if err != nil {
		r.log.Warn("news of the fleet does not verify; it is ignored", "error", err)
		return
	}
	now := time.Now()
	r.takeOffer(news, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range news.Records {
		m := r.members[v.ID]
		if (m == nil || m.InstanceID != v.InstanceID || m.Gone) && !v.Gone {
			wake(r.exchangeNow) // news has only the moved cursors; the hash has all
			continue
		}
		r.merge(v, now)
		// merge has added the member if it was unknown or gone.
		if m = r.members[v.ID]; !m.Gone && m.Clock == v.Clock {
			m.clock.read(v.Clock, now)
		}
	}
}

// merge replaces the record of a validator by v if v is newer. It applies the cursors of v that are newer
// than the known ones. The caller holds the mutex.
func (r *Registry) merge(v *record.Validator, now time.Time) {
	m := r.members[v.ID]
	if m != nil && !v.Newer(&m.Validator) {
		return
	}
	if m == nil || m.InstanceID != v.InstanceID || v.Gone || m.Gone {
		next := newMember(v, now)
		if m != nil && m.stream != nil {
			m.stream.end(errReplaced)
		}
		m = next
		r.addMember(m)
	} else {
		if m.stream != nil {
			// Another authority has received a newer report of the same instance, so the validator reports
			// there.
			m.stream.end(errElsewhere)
			m.stream = nil
			clear(m.orphans)
		}
		cursors := m.Cursors
		m.Validator, m.heard, m.stored = *v, now, ""
		m.Cursors = cursors
		m.clock.see(v.Clock)
	}
	if v.Gone {
		r.hasReported(v.ID, now)
		r.checkAll()
		return
	}
	r.moveAll(m, v, now)
}

// complete applies the newer cursors of a record from the hash. News carries only cursors that have moved, so
// later news does not repeat the cursors of lost news. A record in the hash has all cursors. The caller holds
// the mutex.
func (r *Registry) complete(v *record.Validator, now time.Time) {
	if m := r.members[v.ID]; m.InstanceID == v.InstanceID && m.stream == nil && !m.Gone && !v.Gone {
		r.moveAll(m, v, now)
	}
}

// moveAll applies the cursors in a record that come from a later report than the known cursors. The caller
// holds the mutex.
func (r *Registry) moveAll(m *member, v *record.Validator, now time.Time) {
	for partition, at := range v.Cursors {
		if v.Sequence <= m.sequences[partition] {
			continue
		}
		m.sequences[partition] = v.Sequence
		if !r.plausible(partition, at) {
			r.metrics.implausible.Inc()
			r.log.Error("a position in the fleet's records is too far beyond the store to be real; it is ignored",
				"validator", v.ID, "partition", partition, "position", at)
			continue
		}
		r.move(m, partition, at, now)
	}
}

// listen merges the news of the other authorities. News that is missed while there is no subscription is read
// from the hash.
func (r *Registry) listen(ctx context.Context) {
	for {
		err := r.shared.Listen(ctx, r.mergeNews)
		if ctx.Err() != nil {
			return
		}
		r.log.Debug("the subscription to the fleet's news has ended; the hash has the news within a second", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(listenPause/2 + rand.N(listenPause)):
		}
	}
}

// confirm returns nil once this authority knows every validator that had joined another authority before the
// call. It returns an error when the hash cannot be read, or when ctx ends.
func (r *Registry) confirm(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case r.asks <- answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answerAsks serves the calls of confirm. Calls that arrive while a read is in flight share the next read.
func (r *Registry) answerAsks(ctx context.Context) {
	for {
		var asked []chan error
		select {
		case <-ctx.Done():
			return
		case one := <-r.asks:
			asked = append(asked, one)
		}
		for more := true; more; {
			select {
			case one := <-r.asks:
				asked = append(asked, one)
			default:
				more = false
			}
		}
		err := r.readUnknownMembers(ctx)
		for _, one := range asked {
			one <- err
		}
	}
}

// readUnknownMembers reads the records of the validators that are in the hash and that this authority does
// not know as members.
func (r *Registry) readUnknownMembers(ctx context.Context) error {
	names, err := r.shared.Names(ctx)
	if err != nil {
		return err
	}
	var others []string
	r.mu.Lock()
	r.dropUnreadable(func(field string) bool { return slices.Contains(names, field) })
	for _, id := range names {
		if m := r.members[id]; id != record.MembersField && (m == nil || m.Gone) {
			others = append(others, id)
		}
	}
	r.mu.Unlock()
	if len(others) == 0 {
		return nil
	}
	records, err := r.shared.Read(ctx, others...)
	if err != nil {
		return err
	}
	r.mergeRecords(records)
	return nil
}
