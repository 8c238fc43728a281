package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// fault is one kind of fault. Inflict starts it, waits, and ends it. It returns errNotNow when the fault does
// not fit the current state.
type fault struct {
	name string
	// weight is how often the fault comes, relative to the others of its lane.
	weight  int
	inflict func(ctx context.Context, c *trouble, r *rand.Rand) error
	// kinds are the topologies on which the fault is possible; empty means all.
	kinds []string
}

// fits reports whether the fault is possible on a kind of topology.
func (f fault) fits(kind string) bool { return len(f.kinds) == 0 || slices.Contains(f.kinds, kind) }

var errNotNow = errors.New("not now")

// trouble is a campaign together with the fault that is being inflicted.
type trouble struct {
	*campaign
	*inflicted
}

// lane is a series of faults, one after the other. Faults of different lanes overlap.
type lane struct {
	name string
	// pause is the mean time between two faults.
	pause time.Duration
	// patient lanes wait until the store has recovered before they go on.
	patient bool
	faults  []fault
}

var (
	replicated = []string{"sentinel", "cluster"}
	appending  = []string{"single", "sentinel", "cluster"}
	snapshots  = []string{"rdb"}
	clustered  = []string{"cluster"}
)

// lanes is the table of all faults.
var lanes = []lane{
	{name: "network", pause: 600 * time.Millisecond, faults: []fault{
		{name: "connections cut", weight: 3, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.Cut() }, 0)},
		{name: "connections refused", weight: 2, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.Refuse() },
			2*time.Second)},
		{name: "replies delayed", weight: 3, inflict: onProxy(func(p *redistest.Proxy,
			r *rand.Rand,
		) {
			p.Delay(upTo(r, 300*time.Millisecond))
		}, 3*time.Second)},
		{name: "replies lost", weight: 3, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.SwallowReplies() },
			3*time.Second)},
		{name: "requests lost", weight: 2, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.SwallowRequests() },
			3*time.Second)},
		{name: "half-open", weight: 2, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.SwallowReplies() },
			6*time.Second)},
		{name: "black hole", weight: 3, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.BlackHole() }, 4*time.Second)},
	}},
	{name: "hints", pause: 2 * time.Second, faults: []fault{
		{name: "hints dropped", weight: 3, inflict: dropHints},
		{name: "hints repeated", weight: 2, inflict: repeatHints},
		{name: "log trimmed", weight: 2, inflict: trimLog},
	}},
	{name: "validators", pause: 3 * time.Second, faults: []fault{
		{name: "validator cut off", weight: 1, inflict: cutValidator},
		{name: "validator restarted", weight: 1, inflict: restartValidator},
	}},
	{name: "stopped", pause: 6 * time.Second, faults: []fault{
		{name: "validator stopped and continued", weight: 1, inflict: stopValidator},
	}},
	{name: "logs", pause: 6 * time.Second, faults: []fault{
		{name: "log not read for a while", weight: 3, inflict: blockLog},
		{name: "log closed", weight: 1, inflict: closeLog},
	}},
	{name: "clocks", pause: 4 * time.Second, faults: []fault{
		{name: "clock set off by 5 minutes", weight: 1, inflict: jumpClock},
	}},
	{name: "authorities", pause: 2 * time.Second, faults: []fault{
		{name: "authority killed while it writes", weight: 5, inflict: crash},
		{name: "authority killed while it waits for a reply", weight: 3, inflict: crashWithoutReply},
		{name: "authority killed", weight: 2, inflict: killAuthority},
		{name: "sentinel killed", weight: 1, inflict: killSentinel, kinds: []string{"sentinel"}},
	}},
	{name: "servers", pause: 1500 * time.Millisecond, patient: true, faults: []fault{
		{name: "master killed", weight: 4, inflict: killMaster, kinds: appending},
		{name: "replica killed", weight: 3, inflict: killReplica, kinds: replicated},
		{name: "master stopped and continued", weight: 4, inflict: stopMaster},
		{name: "failover", weight: 2, inflict: failover, kinds: replicated},
		{name: "failover that loses writes", weight: 5, inflict: losingFailover, kinds: replicated},
		{name: "slot moved", weight: 6, inflict: moveSlots, kinds: clustered},
		{name: "out of memory", weight: 3, inflict: outOfMemory},
		{name: "wiped", weight: 2, inflict: wipe},
		{name: "restored while writers run", weight: 4, inflict: restoreWhileWriting},
		{name: "wiped after a restoration", weight: 3, inflict: wipeAfterRestore},
		{name: "key of a wrong type", weight: 4, inflict: spoilKey(wrongTypes)},
		{name: "record damaged: garbage", weight: 5, inflict: spoilKey(garbage)},
		{name: "record damaged: something added", weight: 3, inflict: spoilKey(added)},
		{name: "record damaged: something removed", weight: 3, inflict: spoilKey(removed)},
		{name: "record damaged: something put back", weight: 3, inflict: spoilKey(replayed)},
		{name: "older copy put back", weight: 3, inflict: putBack, kinds: appending},
		{name: "all servers of a group restarted", weight: 3, inflict: restartAll},
		{name: "append-only file torn", weight: 4, inflict: tearLog, kinds: appending},
		{name: "killed, and back at its latest snapshot", weight: 4, inflict: killSnapshot, kinds: snapshots},
	}},
}

// run inflicts faults until ctx ends. The seed decides their order and length. In a recorded run they also
// depend on what was inflicted and reached so far.
func (l *lane) run(ctx context.Context, c *campaign, r *rand.Rand) {
	schedule := newSchedule(l.faults, c.topology.kind, c.options)
	for n := 1; len(schedule.faults) > 0; n++ {
		choosing, own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64())), rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		rest, considerate := time.Duration(r.ExpFloat64()*float64(l.pause)), r.IntN(10) < 7
		if l.patient && n%8 == 0 {
			rest += restLength
		}
		c.pausing(ctx, l.patient, rest, considerate)
		if ctx.Err() != nil {
			return
		}
		next := schedule.next(choosing, c.total())
		doing := c.faults.begin(l.name, next.name)
		ended := make(chan error, 1)
		go func() {
			// A server that cannot be started ends the test, and this goroutine, from here.
			err := errNotNow
			defer func() { ended <- err }()
			err = next.inflict(ctx, &trouble{c, doing}, own)
		}()
		err := <-ended
		c.faults.end(doing, err)
		if errors.Is(err, errNotNow) {
			schedule.missed[next.name]++
		}
		if l.patient {
			c.recover(ctx)
		}
	}
}

// restLength is how long no fault begins, now and then, so that the campaign can see whether all is well
// again.
const restLength = 9 * time.Second

// pausing waits between two faults. All lanes rest when the patient lane does. A considerate fault waits
// until the store has recovered its losses.
func (c *campaign) pausing(ctx context.Context, patient bool, rest time.Duration, considerate bool) {
	if patient && rest > restLength {
		c.resting.Lock()
		pause(ctx, rest)
		c.resting.Unlock()
		return
	}
	pause(ctx, rest)
	if patient {
		return
	}
	c.resting.RLock()
	c.resting.RUnlock() //nolint:staticcheck // an empty critical section waits for the resting lane
	for until := time.Now().Add(30 * time.Second); considerate && c.oracle.lacking() && time.Now().Before(until) &&
		ctx.Err() == nil; {
		pause(ctx, pollInterval)
	}
}

// recover waits until all servers run in their roles and the store lacks no change.
func (c *campaign) recover(ctx context.Context) {
	for until := time.Now().Add(2 * time.Minute); ctx.Err() == nil && time.Now().Before(until); pause(ctx, pollInterval) {
		if c.topology.whole() == nil && !c.oracle.lacking() {
			return
		}
	}
}

// lacking reports whether the store may lack an acknowledged change.
func (o *oracle) lacking() bool {
	for _, l := range *o.losses.Load() {
		if l.until.Load() == 0 {
			return true
		}
	}
	return false
}

func upTo(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d))) + d/100
}

func oneOf[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

// alone reports whether no other fault is active, and none has left traces.
func (c *trouble) alone() bool {
	return len(c.faults.during(c.oracle.now(), 5*time.Second)) == 1 && c.topology.whole() == nil && !c.oracle.lacking()
}
