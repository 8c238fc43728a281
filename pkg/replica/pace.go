package replica

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// burst is how long a worker that is to leave callers room goes on at a stretch.
	burst = 100 * time.Microsecond
	// doors is how often it goes through the gate between two bursts: a call that arrives takes two turns
	// of the scheduler, since gRPC lets others run before it sends what was answered.
	doors = 2
	// breath is how long it does nothing after a number of bursts: what it leaves behind has to be swept,
	// and while Go's sweeper runs, which is always ready to go on, nobody looks at the network
	// (runtime.bgsweep). That cannot be helped, but it can come so seldom that it is not among the slowest
	// hundredth of the calls.
	breath, bursts = 500 * time.Microsecond, 4
	// patience is how long whoever waits for a place lets those that have one do nothing: they may be
	// waiting for a store that does not answer, and a partition of another is not to wait with them.
	patience = 250 * time.Millisecond
	// fewLinks are as many links as are not worth being paced, pacedLinks the most that are read at once by
	// who is: what the client of the source makes of an answer is a stretch too.
	fewLinks, pacedLinks = 25, 100
)

// pace leaves room for the callers of the table while partitions are loaded that serve them. Loads never
// take all processors; where there is but one, they work in bursts, one load at a time, and whatever is
// ready on the network comes between. What serves nobody yet, is loaded as fast as it can be.
type pace struct {
	// bursts says that work is to be done in bursts, each as long as burst.
	bursts bool
	burst  time.Duration
	// loads and tails have a place for each load, and for whoever goes through many links.
	loads, tails *lane
}

// newPace returns the pace for a number of processors.
func newPace(processors int) *pace {
	return &pace{
		bursts: processors == 1, burst: burst,
		loads: newLane(max(processors-1, 1)),
		tails: newLane(max(processors-1, 1)),
	}
}

// lane has a number of places for those that work.
type lane struct {
	places chan struct{}
	// steps is how many were taken by those that have a place.
	steps atomic.Uint64
}

func newLane(places int) *lane { return &lane{places: make(chan struct{}, places)} }

// enter waits for a place, or until those that have one have done nothing for as long as patience lasts. It
// returns work, and how to end it.
func (p *pace) enter(ctx context.Context, l *lane) (*stint, func(), error) {
	for seen := l.steps.Load(); ; {
		select {
		case l.places <- struct{}{}:
			work := p.stint(true)
			work.steps = &l.steps
			return work, func() { l.steps.Add(1); <-l.places }, nil
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(patience):
			now := l.steps.Load()
			if now == seen {
				return p.stint(true), func() {}, nil
			}
			seen = now
		}
	}
}

// stint is the work of one goroutine at a time. The zero value is in no hurry to let others through.
type stint struct {
	// pace is nil for work that is not done in bursts.
	pace  *pace
	since time.Time
	// steps counts those of whoever has a place in a lane; nil for others.
	steps *atomic.Uint64
	// bursts is how many there were since the last breath.
	bursts int
}

// stint begins work: in bursts if it is to leave room and there is but one processor.
func (p *pace) stint(leavesRoom bool) *stint {
	if !leavesRoom || !p.bursts {
		return &stint{}
	}
	return &stint{pace: p, since: time.Now()}
}

// step is called between any two pieces of work that are short beside a burst.
func (s *stint) step() {
	if s.steps != nil {
		s.steps.Add(1)
	}
	if s.pace == nil || time.Since(s.since) < s.pace.burst {
		return
	}
	if s.bursts++; s.bursts == bursts {
		s.bursts = 0
		time.Sleep(breath)
	} else {
		rest()
	}
	s.since = time.Now()
}

// rest lets through whoever waits for the processor, or for the network.
func rest() {
	g, err := theGate()
	for range doors {
		if err == nil {
			err = g.pass()
		}
	}
	if err != nil {
		time.Sleep(burst)
	}
}
