package replica

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
)

// todo is what the worker has to do after a read of the store.
type todo int

const (
	nothing todo = iota
	catchUp      // read the log from the cursor on
	reload       // read the whole partition
)

// partition is one partition of a replica. Its mutex guards the fields below it, and is never held during
// I/O. Only its one worker reads from the source.
type partition struct {
	number int
	r      *Replica
	log    *slog.Logger
	wake   chan struct{}
	fresh  freshness
	// progress is signalled when the cursor moves.
	progress progress
	// requests are the reads that callers of Reach ask for.
	requests readRequests

	// The worker alone uses limit and searched. limit is how many links it reads at once: fewer after a
	// failed read, since many large links may not arrive in time.
	limit    int
	searched search

	mu sync.Mutex
	// state is the newest data. The table shows it once the partition serves. Its rows are nil before the
	// first load.
	state state
	// confirmed is the highest cursor that a read of the store has shown. Later links came as hints. A
	// failover may have lost their changes.
	confirmed record.Cursor
	// floor is the highest cursor that the fleet has reported. This history may lack it.
	floor record.Cursor
	past  history
	// filled says that the history reaches back as far as it should, or as far as the log does.
	filled bool
	// orphans are links that the store has lost, until an epoch settles them, and the epoch starts that lead
	// to them.
	orphans []pastLink
	// pending are changes that this process has made, and that were not yet seen in the store's log.
	pending []pastLink
	// stale is why the worker must reload: the log alone cannot bring the partition up to date.
	stale cause
	// undoing says that the store lacks links after confirmed. The reload must drop them.
	undoing bool
	// loadedAt is when the last read of the latest load was sent.
	loadedAt time.Time
	// verifyOnly says that the partition neither logs nor records what it finds; see Verify.
	verifyOnly bool
	// refusal is why the store is refused, and empty while it is not. The same reason is logged once. forked
	// says that the store denies changes that were confirmed.
	refusal string
	forked  bool
	// failure is why the latest load failed; nil after a success. failedAttempts counts failed attempts in a
	// row.
	failure        error
	failedAttempts int
	// unhealedHead is the head of an operator's epoch that this partition does not load before it is healed.
	unhealedHead unhealedHead
	// unanswered counts the polls in a row that got no answer about the partition.
	unanswered int
}

// position returns the cursor of the newest data.
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

// run is the partition's worker. It backs off after failures, up to about 2.5 s between two attempts.
func (p *partition) run(ctx context.Context) {
	failures := 0
	var due <-chan time.Time // when the next requested read may begin
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
				continue // a poll has answered the request
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

// work loads the partition, or brings it up to the head.
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

// readTail reads the head and the log after the cursor, and applies the links that continue it. It reports
// whether there is more to do. It reads the link at the cursor again, which shows whether the log still has
// the partition's history.
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
			break // checkHead sees the new epoch too, and asks for a reload
		}
		link, err := p.openLink(raw)
		if err != nil && raw.Revision <= before.Revision {
			continue // its change is already applied
		}
		if err != nil {
			// The link may lie beyond the head, where nothing is trusted. If not, the log does not lead to
			// the head.
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
			// The head is ahead, and the log does not lead there: it was trimmed or damaged, or this is a
			// fork. The load finds out which.
			p.requestReload(causeGap)
		}
		return true, nil
	case reload:
		return true, nil
	}
	return false, nil
}

// tail reads the head and the links after a revision. After a failed read, later reads ask for fewer links
// until the worker is done. If each success raised the limit again, every other read would fail.
func (p *partition) tail(ctx context.Context, after uint64) (head []byte, links []record.RawEntry, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	head, links, err = p.r.source.Tail(ctx, p.number, after, p.linksPerRead())
	if err != nil {
		p.limit = max(p.limit/2, minTailLimit)
	}
	return head, links, err
}

// linksPerRead returns the most links that one read asks for.
func (p *partition) linksPerRead() int {
	if p.r.throttle.paced && p.serves() {
		return min(p.limit, pacedLinks)
	}
	return p.limit
}

// acquireForLinks waits for a slot to apply links that were read. It needs none for a few links, or while the
// partition does not serve.
func (p *partition) acquireForLinks(ctx context.Context, links []record.RawEntry) (work *pacer, release func(), err error) {
	if len(links) <= fewLinks || !p.serves() {
		return &pacer{}, func() {}, nil
	}
	return p.r.throttle.acquire(ctx, p.r.throttle.tails)
}

func (p *partition) openLink(raw record.RawEntry) (*record.Link, error) {
	e, err := p.r.codec.OpenEntry(p.number, raw)
	return e.Link, err
}

// reloadCause returns why the partition is loaded.
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

// offer applies a link when it continues the cursor. It reports whether the link is in the history
// afterwards.
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
	if p.leastCursor().Conflicts(link.Cursor) {
		return false // a fork: the fleet has seen another change with this revision
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

// signalMove wakes everything that waits for the cursor to move.
func (p *partition) signalMove() {
	p.progress.signal()
	p.r.changes.signal()
}

// extend applies a link to a state. The caller holds the mutex when others can see the state.
func (p *partition) extend(s *state, link *record.Link) {
	if err := s.applyLink(p.r.codec, p.number, link); err != nil {
		p.r.stats.Quarantined.Add(1)
		p.r.logs.error(p.log, "change cannot be applied; keeping the app's last good policy", "app", link.AppID, "revision",
			link.Revision, "error", err)
	}
}
