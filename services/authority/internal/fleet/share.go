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
	// tellInterval is the least time between two tellings of news: at many changes a second each holds
	// several.
	tellInterval = 10 * time.Millisecond
	// keepInterval is how often the hash is read, and those that report here are written.
	keepInterval = time.Second
	// orphaned is how long after its latest report a validator's record is kept up by whoever has it, not
	// only by the authority that it reports to.
	orphaned = 3 * time.Second
	// listenPause is the mean pause before a broken subscription is made anew.
	listenPause = 500 * time.Millisecond
	// sweepInterval is how often is looked at what only time brings about.
	sweepInterval = 250 * time.Millisecond
)

// Load reads what the authorities share, as long as it takes: before, nobody can say who is in the fleet.
// It returns the context's error when that ends first.
func (r *Registry) Load(ctx context.Context) error {
	for said := ""; ; {
		err := r.exchange(ctx)
		if err == nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.awaitReports(time.Now())
			r.membership.partial = r.membership.unknown != membersKnown || !r.membership.list.BegunWith(r.codec.Meta())
			return nil
		}
		if ctx.Err() == nil && said != err.Error() {
			said = err.Error()
			r.log.Error("the fleet cannot be read; no validator can report until it can", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(keepInterval):
		}
	}
}

// Run keeps the registry until ctx ends, which is not an error. Load must have returned.
func (r *Registry) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context){r.tellAll, r.keepAll, r.listen, r.sweepAll, r.followOwn, r.answerAsks} {
		group.Go(func() error { loop(ctx); return nil })
	}
	return group.Wait()
}

// tellAll tells the other authorities what changes here.
func (r *Registry) tellAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.tell:
		}
		began := time.Now()
		r.mu.Lock()
		news := make([]*record.Validator, 0, len(r.news))
		for _, v := range r.news {
			news = append(news, v)
		}
		clear(r.news)
		r.mu.Unlock()
		// What cannot be told now is in the hash within a second.
		if raw, err := r.codec.SealNews(news); err == nil && len(news) > 0 {
			_ = r.shared.Tell(ctx, raw)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tellInterval - time.Since(began)):
		}
	}
}

// keepAll exchanges the hash every second, and at once when news are of somebody unknown.
func (r *Registry) keepAll(ctx context.Context) {
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.keep:
		case <-time.After(keepInterval):
		}
		switch err := r.exchange(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			said = ""
		case said != err.Error():
			said = err.Error()
			r.log.Warn("the fleet cannot be shared with other authorities", "error", err)
		}
	}
}

// exchange reads the hash, takes in what is newer there, and writes what is newer here.
func (r *Registry) exchange(ctx context.Context) error {
	all, err := r.shared.Read(ctx)
	if err != nil {
		if mended, _ := r.shared.Mend(ctx); mended {
			r.log.Error("the fleet in the store was no hash, and was taken away; it is written anew")
		}
		return err
	}
	list := all[record.MembersField]
	delete(all, record.MembersField)
	now := time.Now()
	r.mu.Lock()
	r.takeList(list, now)
	r.dropUnreadable(func(field string) bool { _, there := all[field]; return there })
	r.mu.Unlock()
	r.takeIn(all)
	var ours []*record.Validator
	var over []string
	r.mu.Lock()
	for id, m := range r.members {
		_, there := all[id]
		switch {
		case m.Gone && now.Sub(m.heard) > goneLife:
			over = append(over, id)
			delete(r.members, id)
		case m.stream != nil, !there, m.kept == "" && now.Sub(m.heard) > orphaned:
			ours = append(ours, m.whole())
		}
	}
	due := r.due(nil) != nil
	r.mu.Unlock()
	_, err = r.write(ctx, ours...)
	if due {
		select {
		case r.membership.turn <- struct{}{}:
			r.keepList(ctx)
			<-r.membership.turn
		default: // it is changed now, and looked at again in a second
		}
	}
	return errors.Join(err, r.shared.Remove(ctx, over))
}

// write writes records into the hash, and returns them by name.
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

// seal signs records, by name.
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

// written notes what stands in the hash.
func (r *Registry) written(validators []*record.Validator, records map[string][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range validators {
		if m := r.members[v.ID]; m != nil && m.InstanceID == v.InstanceID {
			m.kept = string(records[v.ID])
		}
	}
}

// takeIn merges records of the hash.
func (r *Registry) takeIn(records map[string]string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, raw := range records {
		m := r.members[id]
		if m != nil && m.kept == raw || r.unreadable[id] == raw {
			continue
		}
		v, err := r.codec.OpenValidator(id, []byte(raw))
		if err != nil {
			r.unreadable[id] = raw
			if m != nil && !errors.Is(err, keyring.ErrUnknownKey) {
				m.kept = "" // it is written anew
			}
			r.log.Error("a record of the fleet does not verify; no receipt is complete until it is replaced, or forgotten by this name",
				"validator", record.FieldName(id), "error", err)
			continue
		}
		delete(r.unreadable, id)
		r.merge(v, now)
		r.complete(v, now)
		if was := r.floor.owed[id]; was != nil && v.Newer(was) {
			r.hasReported(id, now)
		}
		switch m := r.members[id]; {
		case m.Newer(v):
			m.kept = ""
		case m.InstanceID == v.InstanceID:
			m.kept = raw
		}
	}
	r.missMembers(now)
}

// dropUnreadable forgets those records that did not verify and are gone from the hash. The caller holds the
// mutex.
func (r *Registry) dropUnreadable(there func(field string) bool) {
	for field := range r.unreadable {
		if !there(field) {
			delete(r.unreadable, field)
		}
	}
}

// hear merges news.
func (r *Registry) hear(raw []byte) {
	news, err := r.codec.OpenNews(raw)
	if err != nil {
		r.log.Warn("news of the fleet do not verify; they are ignored", "error", err)
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range news {
		m := r.members[v.ID]
		if (m == nil || m.InstanceID != v.InstanceID || m.Gone) && !v.Gone {
			wake(r.keep) // the hash has all of it
			continue
		}
		r.merge(v, now)
		// merge seats a member where there was none, and replaces one that is gone.
		if m = r.members[v.ID]; !m.Gone && m.Clock == v.Clock {
			m.clock.read(v.Clock, now)
		}
	}
}

// merge takes in a record if it is newer than what is known. The caller holds the mutex.
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
		r.seat(m)
	} else {
		if m.stream != nil {
			// Sequences are those of the instance: it reports elsewhere now.
			m.stream.end(errElsewhere)
			m.stream = nil
			clear(m.orphans)
		}
		cursors := m.Cursors
		m.Validator, m.heard, m.kept = *v, now, ""
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

// complete takes in those cursors of a record of the hash, which has all of them, that are newer than what
// is known of their partitions. The news that told them may never have arrived, though later ones of the
// same validator did. The caller holds the mutex.
func (r *Registry) complete(v *record.Validator, now time.Time) {
	if m := r.members[v.ID]; m.InstanceID == v.InstanceID && m.stream == nil && !m.Gone && !v.Gone {
		r.moveAll(m, v, now)
	}
}

// moveAll notes those cursors of a record that are newer than what is known of their partitions. The caller
// holds the mutex.
func (r *Registry) moveAll(m *member, v *record.Validator, now time.Time) {
	for partition, at := range v.Cursors {
		if v.Sequence <= m.told[partition] {
			continue
		}
		m.told[partition] = v.Sequence
		if !r.plausible(partition, at) {
			r.metrics.implausible.Inc()
			r.log.Error("a position of the fleet's records is too far beyond the store to be one of it; it is ignored", "validator", v.ID, "partition", partition, "position", at)
			continue
		}
		r.move(m, partition, at, now)
	}
}

// listen follows the news of the other authorities. What is told while there is no subscription is in the
// hash.
func (r *Registry) listen(ctx context.Context) {
	for {
		err := r.shared.Listen(ctx, r.hear)
		if ctx.Err() != nil {
			return
		}
		r.log.Debug("the news of the fleet are not heard; the hash has them within a second", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(listenPause/2 + rand.N(listenPause)):
		}
	}
}

// confirm returns when every validator that joined another authority before the call is known here.
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

// answerAsks answers confirm: all that ask while one look is under way share the next.
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
		err := r.lookForOthers(ctx)
		for _, one := range asked {
			one <- err
		}
	}
}

// lookForOthers reads the records of those validators in the hash that are not known to be in the fleet.
func (r *Registry) lookForOthers(ctx context.Context) error {
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
	r.takeIn(records)
	return nil
}
