package replica

import (
	"context"
	"time"
)

const (
	// burst is how long a paced load works without a pause.
	burst = 100 * time.Microsecond
	// pollsPerYield is how often a load goes through the network poller between two bursts. A call that
	// arrives takes two turns of the scheduler, since gRPC yields once before it sends an answer.
	pollsPerYield = 2
	// After burstsPerSleep bursts a load sleeps for sleepTime, in which Go sweeps the load's garbage. While
	// the sweeper runs (runtime.bgsweep), nobody polls the network. The sleep makes that so rare that it
	// stays out of the slowest hundredth of the calls.
	burstsPerSleep = 4
	sleepTime      = 500 * time.Microsecond
	// Up to fewLinks links are applied without a slot.
	fewLinks = 25
	// pacedLinks is the most links that a paced worker reads at once, since the source decodes one answer
	// without a pause.
	pacedLinks = 100
)

// throttle leaves processor time to callers while partitions load that already serve. Such loads never take
// all processors. On a single processor one load runs at a time, in bursts with pauses for the network.
// Partitions that do not serve yet load at full speed.
type throttle struct {
	// paced says that loads pause after each burst.
	paced bool
	burst time.Duration
	// loads bounds the loads that run at once, tails the goroutines that apply many links at once.
	loads, tails *limiter
}

func newThrottle(processors int) *throttle {
	return &throttle{
		paced: processors == 1, burst: burst,
		loads: newLimiter(max(processors-1, 1)),
		tails: newLimiter(max(processors-1, 1)),
	}
}

// acquire waits for a slot of a limiter. It returns the pacer for the work, and a function that must be
// called after the work. It fails when ctx ends first.
func (t *throttle) acquire(ctx context.Context, l *limiter) (work *pacer, release func(), err error) {
	slot, err := l.acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	work = t.pacer()
	if !slot {
		return work, func() {}, nil
	}
	work.limiter = l
	return work, l.release, nil
}

// pacer spreads the work of one goroutine over time. The zero value never pauses.
type pacer struct {
	// throttle is nil for work that does not pause.
	throttle *throttle
	// limiter counts the steps of work that holds one of its slots; nil for other work.
	limiter *limiter
	// since is when the burst began, bursts how many there were since the last sleep.
	since  time.Time
	bursts int
}

// pacer returns the pacer for work on a partition that serves.
func (t *throttle) pacer() *pacer {
	if !t.paced {
		return &pacer{}
	}
	return &pacer{throttle: t, since: time.Now()}
}

// step marks the end of a piece of work that is short beside a burst, and pauses when the burst is over.
func (p *pacer) step() {
	if p.limiter != nil {
		p.limiter.steps.Add(1)
	}
	if p.throttle == nil || time.Since(p.since) < p.throttle.burst {
		return
	}
	if p.bursts++; p.bursts == burstsPerSleep {
		p.bursts = 0
		time.Sleep(sleepTime)
	} else {
		yield()
	}
	p.since = time.Now()
}

// yield lets every goroutine run that is ready, or that the network makes ready.
func yield() {
	poller, err := processPoller()
	for range pollsPerYield {
		if err == nil {
			err = poller.pass()
		}
	}
	if err != nil {
		time.Sleep(burst)
	}
}
