package replica

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// todo is what a look at the store asks for.
type todo int

const (
	nothing todo = iota
	catchUp      // read the log from the cursor on
	reload       // read the whole partition
)

// partition is one partition of a replica. Its mutex guards what changes and is never held during I/O;
// reads of the source are made by its one worker.
type partition struct {
	number int
	r      *Replica
	log    *slog.Logger
	wake   chan struct{}
	fresh  freshness
	// progress is signalled when the cursor has moved.
	progress progress
	// asks says what callers of Reach ask of the worker.
	requests readRequests

	// limit and searched belong to the worker. limit is how many links it reads at once: fewer when reads
	// fail, since many large ones may not arrive in time.
	limit    int
	searched search

	mu sync.Mutex
	// held is what the table shows; its rows are nil before the first load.
	state state
	// confirmed is the furthest place that a read of the store has shown. What lies between it and the
	// cursor came as hints, which a failover may have taken back.
	confirmed record.Cursor
	// floor is the furthest place that the fleet has told of. It need not be in this past, and says nothing
	// of what is.
	floor record.Cursor
	past  history
	// filled says that past reaches back as far as it should, or as the log does.
	filled bool
	// orphans are links that were held and that the store does not have, until it is said that they are
	// dealt with, and the starts of epochs that lead to them.
	orphans []pastLink
	// pending are changes that were made through this process and have not been seen in the store's past yet.
	pending []pastLink
	// stale asks the worker for a reload, and says why: the log alone cannot bring the partition up to date.
	stale cause
	// undoing says that what lies behind confirmed is not in the store, and must not survive the reload.
	undoing bool
	// loadedAt is when the read was sent that the latest load rests on.
	loadedAt time.Time
	// looking says that nothing is to be said or done about what is found: see Verify.
	verifyOnly bool
	// alarm is the last state of the store that was refused, so that it is reported once; forked says that
	// it denies what was confirmed.
	refusal string
	forked  bool
	// trouble is why the latest load failed; nil once one has succeeded. failed is how many tries have
	// failed in a row.
	failure        error
	failedAttempts int
	// waited is the first sight of an epoch that an operator began and that is not followed before it is
	// healed.
	unhealedHead unhealedHead
	// vain is how many times in succession the store did not answer about the partition.
	unanswered int
}

// position returns the cursor.
func (p *partition) position() record.Cursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.cursor
}

func (p *partition) wakeWorker() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run is the partition's worker. Failures make it slower, up to about 2.5 s between two tries.
func (p *partition) run(ctx context.Context) {
	failures := 0
	var due <-chan time.Time // when the next read for callers of Reach may begin
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-p.requests.arrived:
			if due == nil {
				due = time.After(p.requests.pause(p.position()))
			}
			continue
		case <-due:
			due = nil
			if !p.requests.pending() {
				continue // a poll has looked meanwhile
			}
		}
		started := time.Now()
		err := p.work(ctx)
		if ctx.Err() == nil {
			p.noteAttempt(err)
		}
		p.requests.noteRead(started, p.position())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			p.logFailure(err)
			failures = min(failures+1, 8)
			p.wakeWorker()
		default:
			failures, p.limit = 0, min(2*p.limit, tailLimit)
		}
		p.r.progress.signal()
		select {
		case <-ctx.Done():
			return
		case <-time.After(readInterval<<failures - time.Since(started)):
		}
	}
}

// work does what the partition needs: load it, or bring it up to the head.
func (p *partition) work(ctx context.Context) error {
	for more := true; more; {
		var err error
		if p.needsLoad() {
			more, err = true, p.load(ctx)
		} else {
			more, err = p.readTail(ctx)
		}
		if err != nil {
			return err
		}
	}
	return p.fill(ctx)
}

func (p *partition) needsLoad() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state.rows == nil || p.stale != ""
}

// readTail reads the head and the log behind the cursor, applies what continues it, and tells whether there
// is more to do. The link at the cursor itself is read again: it shows whether the log still has the
// partition's past.
func (p *partition) readTail(ctx context.Context) (more bool, err error) {
	before, sent := p.position(), time.Now()
	head, links, err := p.tail(ctx, max(before.Revision, 1)-1)
	if err != nil {
		return false, err
	}
	p.r.stats.CatchUps.Add(1)
	work, release, err := p.acquireForLinks(ctx, links)
	if err != nil {
		return false, err
	}
	defer release()
	for _, raw := range links {
		work.step()
		if raw.EpochStart {
			if raw.Revision <= before.Revision {
				continue
			}
			break // the head shows it too, and asks for a reload
		}
		link, err := p.openLink(raw)
		if err != nil && raw.Revision <= before.Revision {
			continue // what it did is held
		}
		if err != nil {
			// It may stand beyond the head, where nothing is believed; if not, the log does not lead to the
			// head.
			p.r.quarantine(err)
			p.r.logs.error(p.log, "link of the log does not verify", "revision", raw.Revision, "error", err)
			break
		}
		if !p.offer(link, raw.Data) {
			break
		}
	}
	switch p.checkHead(head, sent, before) {
	case catchUp:
		if p.position() == before {
			// The head is further on, and the log does not lead there from here: it was trimmed or damaged,
			// or this is a fork. The load tells which.
			p.requestReload(causeGap)
		}
		return true, nil
	case reload:
		return true, nil
	}
	return false, nil
}

// tail reads the head and the links behind a revision. When it fails, the next one asks for fewer links,
// until the worker is done: trying more at every success would fail every other time, and wait.
func (p *partition) tail(ctx context.Context, after uint64) (head []byte, links []RawLink, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	head, links, err = p.r.source.Tail(ctx, p.number, after, p.linksPerRead())
	if err != nil {
		p.limit = max(p.limit/2, minTailLimit)
	}
	return head, links, err
}

// linksPerRead returns how many links are read at once.
func (p *partition) linksPerRead() int {
	if p.r.throttle.paced && p.serves() {
		return min(p.limit, pacedLinks)
	}
	return p.limit
}

// following begins to go through links that were read, and returns how to end it. When they are many, other
// partitions' come first or later.
func (p *partition) acquireForLinks(ctx context.Context, links []RawLink) (work *pacer, release func(), err error) {
	if len(links) <= fewLinks || !p.serves() {
		return &pacer{}, func() {}, nil
	}
	return p.r.throttle.acquire(ctx, p.r.throttle.tails)
}

func (p *partition) openLink(raw RawLink) (*record.Link, error) {
	link, err := p.r.codec.OpenLink(p.number, raw.Data)
	if err == nil && link.Revision != raw.Revision {
		err = errMisplaced
	}
	return link, err
}

// cause returns why the partition is to be loaded.
func (p *partition) reloadCause() cause {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stale == "" {
		return causeStart
	}
	return p.stale
}

func (p *partition) requestReload(why cause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stale = why
}

// offer applies a link when it continues the cursor. It tells whether the link is now part of the
// partition's past.
func (p *partition) offer(link *record.Link, raw []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.rows == nil {
		return false
	}
	if link.Epoch == p.state.cursor.Epoch && link.Revision <= p.state.cursor.Revision {
		return p.past.agrees(link.Cursor)
	}
	if !p.state.continuedBy(link) {
		return false
	}
	if least := p.leastCursor(); link.Epoch == least.Epoch && link.Revision == least.Revision && link.Tag != least.Tag {
		return false // a fork: the fleet has seen another change in this place
	}
	p.extend(&p.state, link)
	p.past.add(link.Cursor, raw)
	if len(p.orphans)+len(p.pending) > 0 {
		p.dropFound(link.Cursor)
	}
	p.signalMove()
	if p.state.torn && p.stale == "" {
		p.stale = causeTorn
		p.wakeWorker()
	}
	return true
}

// moved tells whoever waits that the cursor is another.
func (p *partition) signalMove() {
	p.progress.signal()
	p.r.changes.signal()
}

// extend applies a link to a state of the partition. The caller holds the mutex when others can see the
// state.
func (p *partition) extend(s *state, link *record.Link) {
	if err := s.applyLink(p.r.codec, p.number, link); err != nil {
		p.r.stats.Quarantined.Add(1)
		p.r.logs.error(p.log, "change cannot be applied; keeping the app's last good policy", "app", link.AppID, "revision", link.Revision, "error", err)
	}
}
