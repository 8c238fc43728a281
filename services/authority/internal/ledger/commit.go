package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/services/store"
)

const (
	// maxTogether is about how many counts are added by one script.
	maxTogether = 5 * usage.MaxBatch
	// attempts is how often an addition is tried while other authorities add to the same apps.
	attempts = 10
	// conflictPause is the mean pause before the next try.
	conflictPause = 10 * time.Millisecond
	// logPause is the least time between two log lines about additions that fail.
	logPause = time.Minute
)

var errConflicts = errors.New("other authorities add to the same apps all the time")

// work adds the batches of a partition until ctx ends. All batches that wait are added together, so that many
// validators cost one round trip.
func (l *Ledger) work(ctx context.Context, partition int) {
	q := l.queues[partition]
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for jobs := q.take(); len(jobs) > 0 && ctx.Err() == nil; jobs = q.take() {
			counted, err := l.commit(ctx, partition, jobs)
			if err != nil && ctx.Err() == nil {
				l.config.Metrics.failures.Add(float64(len(jobs)))
				l.warn(partition, err)
			}
			for _, j := range jobs {
				q.all.add(-j.weight())
				j.done <- outcome{counted[j.instance], err}
			}
		}
	}
}

// warn logs an error, at most once in logPause for all partitions.
func (l *Ledger) warn(partition int, err error) {
	now := time.Now()
	if last := l.warned.Load(); (last == nil || now.Sub(*last) >= logPause) && l.warned.CompareAndSwap(last, &now) {
		l.config.Log.Warn("usage counts cannot be added; validators keep them and send them again", "partition", partition,
			"error", err)
	}
}

// commit adds the batches of some jobs. It returns the number of the last batch that was added, by instance.
//
// A write whose reply is lost is no special case: the next try reads the last batches, and finds whether the
// write was made.
func (l *Ledger) commit(ctx context.Context, partition int, jobs []*job) (counted map[string]uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, addTimeout)
	defer cancel()
	jobs = slices.Clone(jobs)
	slices.SortStableFunc(jobs, func(a, b *job) int {
		switch {
		case a.batch.Number < b.batch.Number:
			return -1
		case a.batch.Number > b.batch.Number:
			return 1
		}
		return 0
	})
	judged, err := l.judge(jobs)
	if err != nil {
		return nil, err
	}
	for try := range attempts {
		if try > 0 {
			l.config.Metrics.conflicts.Inc()
			select {
			case <-ctx.Done():
				return nil, errors.Join(ctx.Err(), err)
			case <-time.After(pauseOf(conflictPause)):
			}
		}
		var w store.CountsWrite
		var added []*job
		if w, added, err = l.prepare(ctx, partition, jobs, judged); err != nil {
			return nil, err
		}
		counted = map[string]uint64{}
		for _, last := range w.After {
			counted[last.InstanceID] = last.Number
		}
		if len(added) == 0 && !w.Lost {
			return counted, nil
		}
		var done bool
		if done, err = l.config.Storage.Write(ctx, w); done {
			l.note(added, judged)
			return counted, nil
		}
		if errors.Is(err, store.ErrRefused) {
			return nil, err
		}
	}
	return nil, errors.Join(errConflicts, err)
}

// prepare reads what Redis has, and computes the write that adds the batches which follow the last ones. It
// returns the jobs of these batches too.
func (l *Ledger) prepare(ctx context.Context, partition int, jobs []*job, judged map[*job]*verdict) (
	w store.CountsWrite, added []*job, err error,
) {
	var instances []string
	for _, j := range jobs {
		if !slices.Contains(instances, j.instance) {
			instances = append(instances, j.instance)
		}
	}
	apps := map[string]*addition{}
	for _, j := range jobs {
		for id := range judged[j].byApp {
			apps[id] = nil
		}
	}
	w = store.CountsWrite{Partition: partition, Version: rand.Text()[:versionLength], Now: l.config.Now()}
	ids := slices.Sorted(maps.Keys(apps))
	var found []store.AppCounts
	if w.Before, found, err = l.config.Storage.Look(ctx, partition, instances, ids); err != nil {
		return w, nil, err
	}
	w.After = slices.Clone(w.Before)
	for _, j := range jobs {
		last := &w.After[slices.Index(instances, j.instance)]
		if len(j.batch.Counts) == 0 && j.batch.Oldest && j.batch.Number > last.Number {
			// The validator was told that these batches were counted, and holds none of them any more.
			w.Lost, last.Number = true, j.batch.Number
		}
		if !follows(j.batch, last.Number) {
			continue
		}
		// The validator has dropped the batches between, because they were acknowledged: Redis lost them.
		w.Lost = w.Lost || j.batch.Number > last.Number+1
		last.Number = j.batch.Number
		added = append(added, j)
		for id, of := range judged[j].byApp {
			if apps[id] == nil {
				apps[id] = &addition{tokens: of.tokens}
			}
			apps[id].counts = append(apps[id].counts, of.counts...)
		}
	}
	var whole bool
	w.Apps, whole, err = l.add(ctx, partition, apps, found)
	w.Lost = w.Lost || !whole
	return w, added, err
}

// versionLength is the length of a version: 40 bits. It distinguishes the writes of some milliseconds.
const versionLength = 8

// follows reports whether a batch is to be added after the last one that was: it is the next one, or the
// validator has no earlier one left.
func follows(b *usage.Batch, last uint64) bool {
	return len(b.Counts) > 0 && b.Number > last && (b.Number == last+1 || b.Oldest)
}

// addition is what is added to one app.
type addition struct {
	counts []usage.Count
	tokens map[string]bool // nil while they are not known
}

// add returns the new values of all apps that get counts, and whether all counts could be decoded that they
// replace. Found are their running counts. Only an app whose counts are moved on to past hours and days needs
// the others, which are large.
func (l *Ledger) add(ctx context.Context, partition int, apps map[string]*addition, found []store.AppCounts) (
	written []store.AppCounts, whole bool, err error,
) {
	now := l.config.Now()
	whole = true
	var moving []string
	for i := range found {
		id := found[i].AppID
		of := apps[id]
		if of == nil {
			continue
		}
		a, readable := l.open(&found[i])
		whole = whole && readable
		running := a.running.plus(hourly(of.counts))
		if running.moves(firstRunning(id, now)) {
			moving = append(moving, id)
			continue
		}
		written = append(written, store.AppCounts{
			AppID: id, Version: found[i].Version, Running: notNil(running.pack(minutesOfHour)),
		})
	}
	if len(moving) == 0 {
		return written, whole, nil
	}
	if found, _, err = l.config.Storage.Read(ctx, partition, moving); err != nil {
		return nil, false, err
	}
	for i := range found {
		id := found[i].AppID
		of := apps[id]
		a, readable := l.open(&found[i])
		whole = whole && readable
		a.running = a.running.plus(hourly(of.counts))
		a = a.settle(firstRunning(id, now), func(token string) bool { return of.tokens == nil || of.tokens[token] })
		written = append(written, store.AppCounts{
			AppID: id, Version: found[i].Version, Running: notNil(a.running.pack(minutesOfHour)),
			Hours: notNil(a.hours.pack(minutesOfHour)), Days: notNil(a.days.pack(hoursOfDay * minutesOfHour)),
		})
	}
	return written, whole, nil
}

// notNil returns a value that is written also when it is empty.
func notNil(raw []byte) []byte {
	if raw == nil {
		return []byte{}
	}
	return raw
}
