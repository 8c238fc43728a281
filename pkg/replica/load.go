package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/table"
)

// load reads the whole partition, proves it against its head, and replaces the current state. The old data
// serves meanwhile. When the store denies changes that were confirmed, load fails and changes nothing.
func (p *partition) load(ctx context.Context) error {
	p.r.stats.reloads[p.reloadCause()].Add(1)
	work, release, err := p.acquireForLoad(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	started := time.Now()
	first, err := p.loadableHead(ctx)
	if err != nil {
		return err
	}
	documents, err := p.readDocuments(ctx, work)
	if err != nil {
		return err
	}
	revoked := stickies{}
	to, err := p.replay(ctx, work, documents, revoked, first.Cursor)
	if err != nil {
		return err
	}
	head := to.head
	sum, err := p.prove(ctx, work, documents, head)
	if err != nil {
		return err
	}
	entries := make(map[string]*table.Entry, len(documents))
	loaded := state{cursor: head.Cursor, sum: sum, forks: head.Forks, revoked: revoked, unhealed: head.Unhealed}
	for appID, d := range documents {
		work.step()
		entries[appID] = d.entry
		loaded.torn = loaded.torn || d.rewritten
		if d.damage != nil {
			loaded.damaged++
			p.r.quarantine(d.damage)
			p.r.logs.error(p.log, "policy does not verify; its app keeps the last good one, or is undecidable", "app", appID,
				"error", d.damage)
		}
		if !d.entry.Behind() {
			d.entry.Since = time.Time{}
		}
	}
	loaded.rows = table.Build(entries, head.Revision, work.step)
	if p.r.lists {
		loaded.rows.Order()
	}
	loaded.rows.Between(p.r.throttle.pacer().step)
	if p.mustWaitForHealing(head) {
		return errUnhealed
	}
	crossed, err := p.crossing(ctx, head)
	if err != nil {
		return err
	}
	if err := p.install(ctx, work, loaded, to, crossed); err != nil {
		return err
	}
	p.log.Debug("partition loaded", "cursor", head.Cursor, "apps", len(entries), "took", time.Since(started))
	return nil
}

// acquireForLoad waits for a slot, unless the partition does not serve yet. It first checks that the store
// answers with a usable head, so that a load that must fail takes no slot.
func (p *partition) acquireForLoad(ctx context.Context) (work *pacer, release func(), err error) {
	if !p.serves() {
		return &pacer{}, func() {}, nil
	}
	asking, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if _, err := p.loadableHead(asking); err != nil {
		return nil, nil, err
	}
	return p.r.throttle.acquire(ctx, p.r.throttle.loads)
}

// loadableHead reads the head from which a load starts. It fails when the head is in an operator's epoch that
// must be healed before it is loaded.
func (p *partition) loadableHead(ctx context.Context) (record.Head, error) {
	head, err := p.firstHead(ctx)
	if err == nil && p.mustWaitForHealing(head) {
		err = errUnhealed
	}
	return head, err
}

// firstHead reads the head from which a load starts. It fails when the store denies changes that were
// confirmed. A load may bridge a gap in the log, but never a fork.
func (p *partition) firstHead(ctx context.Context) (record.Head, error) {
	p.mu.Lock()
	confirmed, sent := p.leastCursor(), time.Now()
	p.mu.Unlock()
	raw, links, err := p.r.source.Tail(ctx, p.number, max(confirmed.Revision, 1)-1, 1)
	if err != nil {
		return record.Head{}, err
	}
	head, err := p.openHead(raw)
	if err != nil {
		p.refuse(raw == nil, "the head is refused: "+err.Error())
		return record.Head{}, fmt.Errorf("%w: %w", errHead, err)
	}
	if head.Epoch > confirmed.Epoch {
		return head, nil
	}
	p.mu.Lock()
	denies := p.deniedBy(head.Cursor) && !p.fresh.reached(sent)
	p.mu.Unlock()
	if len(links) > 0 && confirmed.Revision > 0 {
		next, err := p.openEntry(links[0])
		denies = denies || err == nil && next.skips(confirmed)
	}
	if denies {
		p.refuse(true, "the store has forked: it denies changes that were confirmed", "confirmed", confirmed, "head", head.Cursor)
		return record.Head{}, fmt.Errorf("%w: confirmed was %s, its head is %s", errForked, confirmed, head.Cursor)
	}
	return head, nil
}

// skips reports whether an entry, the first one of the log at or after a cursor, proves that the log lacks
// that cursor. It does when it has the cursor's revision and another tag, or when it continues an earlier
// entry.
func (e *entry) skips(place record.Cursor) bool {
	if e.Revision == place.Revision {
		return e.Cursor != place
	}
	return e.Previous.Revision <= place.Revision && e.Previous != place
}

var errForked = errors.New("the store denies what was confirmed")

func (p *partition) refuse(forked bool, what string, args ...any) {
	if p.verifyOnly {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noteRefusal(forked, what, args...)
}

// document is what a load knows about one app.
type document struct {
	entry *table.Entry
	// damage is why the document could not be opened. entry then has the revision that the document claims,
	// and the last good policy if there is one.
	damage error
	// rewritten says that the log has a later change of the damaged document. The store then has a newer
	// document, so the partition must be loaded again.
	rewritten bool
}

func (p *partition) readDocuments(ctx context.Context, work *pacer) (map[string]*document, error) {
	documents := map[string]*document{}
	old, complete := p.r.table.Partition(p.number), p.fresh.last()
	err := p.r.source.Documents(ctx, p.number, func(appID string, raw []byte) {
		work.step()
		if !policy.ValidAppID(appID) || p.r.codec.PartitionOf(appID) != p.number {
			p.stray(appID) // the digest of the head does not cover it
			return
		}
		opened, at, err := p.r.codec.OpenPolicy(appID, raw)
		next := &document{entry: &table.Entry{Policy: opened, Revision: at.Revision, PolicyRevision: at.Revision}, damage: err}
		if err != nil {
			next.entry.Revision, _ = record.ClaimedRevision(raw)
			if old != nil {
				if before := old.Get(appID); before != nil {
					next.entry = keepLastGood(before, next.entry.Revision)
					if !before.Behind() && !complete.IsZero() {
						next.entry.Since = complete // the store may have changed right after that time
					}
				}
			}
		}
		// A scan may show a document more than once, but never an older one after a newer one. A damaged copy
		// must not replace a good one.
		if seen := documents[appID]; seen == nil || err == nil && (seen.damage != nil || seen.entry.Revision < at.Revision) {
			documents[appID] = next
		}
	})
	return documents, err
}

// replayed is the result of a replay: the last head, the time at which its read was sent, and the history
// that ends there. The history includes the entry at the first cursor if the log has it. If the store loses
// that change, this replica may be the only one that can supply it.
type replayed struct {
	head record.Head
	sent time.Time
	past history
}

// replay applies every link between a cursor and the head to the documents. It skips a link that the scanned
// document already contains.
func (p *partition) replay(ctx context.Context, work *pacer, documents map[string]*document, revoked stickies,
	from record.Cursor,
) (replayed, error) {
	at, past := from, history{base: from}
	for after := max(from.Revision, 1) - 1; ; {
		sent := time.Now()
		raw, links, err := p.tail(ctx, after)
		if err != nil {
			return replayed{}, err
		}
		head, err := p.openHead(raw)
		if err != nil {
			return replayed{}, err
		}
		began := after
		for _, raw := range links {
			work.step()
			if raw.Revision > head.Revision {
				break
			}
			after = raw.Revision
			if after == at.Revision {
				if e, err := p.openEntry(raw); err == nil && e.Cursor == at {
					past.follow(e)
				}
				continue
			}
			if raw.EpochStart {
				return replayed{}, errors.New("an epoch began meanwhile")
			}
			link, err := p.openLink(raw)
			if err != nil {
				return replayed{}, fmt.Errorf("%w: revision %d: %w", errLog, raw.Revision, err)
			}
			if link.Epoch != at.Epoch || link.Revision != at.Revision+1 || link.PreviousTag != at.Tag {
				return replayed{}, fmt.Errorf("%w: it has a gap behind %s", errLog, at)
			}
			at = link.Cursor
			past.add(link.Cursor, raw.Data)
			d := documents[link.AppID]
			if d == nil {
				d = &document{entry: &table.Entry{}}
				documents[link.AppID] = d
			}
			if d.entry.Revision >= link.Revision {
				continue
			}
			before := d.entry
			d.entry, err = afterLink(before, link)
			d.entry = revoked.enforce(link.AppID, before, d.entry)
			if err != nil && d.damage == nil {
				return replayed{}, fmt.Errorf("revision %d of app %s: %w", link.Revision, link.AppID, err)
			}
			d.rewritten = err != nil
		}
		if at == head.Cursor {
			return replayed{head, sent, past}, nil
		}
		if after == began {
			return replayed{}, fmt.Errorf("%w: it ends at %s, before the head at %s", errLog, at, head.Cursor)
		}
	}
}

// install makes a loaded state the current one. It first applies the changes that came as hints during the
// load. Otherwise readers would see such a change disappear and come back.
func (p *partition) install(ctx context.Context, work *pacer, loaded state, to replayed, crossed crossing) error {
	proven, past := loaded.cursor, to.past
	if crossed.past.end() == loaded.cursor {
		past = crossed.past
	}
	for {
		seen := p.newCarryOver(work, &loaded)
		installed, err := p.tryInstall(&loaded, past, crossed, seen, proven, to.sent)
		if installed || err != nil {
			return err
		}
		_, links, err := p.tail(ctx, loaded.cursor.Revision)
		if err != nil {
			return err
		}
		if len(links) == 0 {
			return fmt.Errorf("the log ends at %s", loaded.cursor)
		}
		for _, raw := range links {
			work.step()
			if raw.EpochStart {
				return errors.New("an epoch began meanwhile")
			}
			link, err := p.openLink(raw)
			if err != nil {
				return err
			}
			if !loaded.continuedBy(link) {
				return fmt.Errorf("the log has a gap behind %s", loaded.cursor)
			}
			p.extend(&loaded, link)
			past.add(link.Cursor, raw.Data)
		}
	}
}

// tryInstall returns false, and does nothing, when more links were applied since the proven cursor than the
// history keeps. It fails when SetFloor meanwhile raised the floor above the loaded state.
func (p *partition) tryInstall(loaded *state, past history, crossed crossing, seen *carryOver, proven record.Cursor,
	sent time.Time,
) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ahead := p.state.rows != nil && !p.undoing &&
		p.state.cursor.Epoch == loaded.cursor.Epoch && p.state.cursor.Revision > loaded.cursor.Revision
	if ahead {
		if loaded.cursor.Revision < p.past.base.Revision {
			return false, nil
		}
		// When the loaded cursor is not in this history, the store has other changes, and the loaded state
		// lacks nothing.
		if missing, continued := p.past.after(loaded.cursor); continued {
			for _, gone := range missing {
				if link, err := p.r.codec.OpenLink(p.number, gone.raw); err == nil {
					seen.recheck(link.AppID)
					p.extend(loaded, link)
					past.add(link.Cursor, gone.raw)
				}
			}
		}
	}
	if p.deniedBy(loaded.cursor) {
		return false, fmt.Errorf("%w: confirmed is %s, it was at %s", errForked, p.leastCursor(), loaded.cursor)
	}
	p.keepOrphans(loaded.cursor, crossed)
	p.keepRevoked(loaded, seen, p.stale == causeDigest)
	if p.past.end() == loaded.cursor {
		past = p.past // the same history, which may reach back further
	} else {
		past.precede(p.past)
		p.filled = false
	}
	p.state, p.past, p.stale, p.undoing, p.loadedAt, p.failure = *loaded, past, "", false, sent, nil
	if loaded.torn {
		p.stale = causeTorn
	}
	p.confirm(proven, sent)
	p.serve()
	p.signalMove()
	return true, nil
}
