package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// fault is one kind of trouble. Inflict makes it, lasts as long as it does, and ends it; errNotNow says that it does not
// fit what is going on.
type fault struct {
	name string
	// weight is how often it comes, beside the others of its lane.
	weight  int
	inflict func(ctx context.Context, c *trouble, r *rand.Rand) error
	// kinds are the topologies that it is for; empty: all.
	kinds []string
}

var errNotNow = errors.New("not now")

// trouble is a campaign with the fault that is being inflicted.
type trouble struct {
	*campaign
	*inflicted
}

// lane is a series of faults, one after the other; those of different lanes overlap.
type lane struct {
	name string
	// pause is the mean time between two.
	pause time.Duration
	// patient lanes wait until the store has recovered before they go on.
	patient bool
	faults  []fault
}

var (
	replicated = []string{"sentinel", "cluster"}
	clustered  = []string{"cluster"}
)

// lanes is the table of all faults.
var lanes = []lane{
	{name: "network", pause: 600 * time.Millisecond, faults: []fault{
		{name: "connections cut", weight: 3, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.Cut() }, 0)},
		{name: "connections refused", weight: 2, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.Refuse() }, 2*time.Second)},
		{name: "replies delayed", weight: 3, inflict: onProxy(func(p *redistest.Proxy, r *rand.Rand) { p.Delay(upTo(r, 300*time.Millisecond)) }, 3*time.Second)},
		{name: "replies lost", weight: 3, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.SwallowReplies() }, 3*time.Second)},
		{name: "requests lost", weight: 2, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.SwallowRequests() }, 3*time.Second)},
		{name: "half-open", weight: 2, inflict: onProxy(func(p *redistest.Proxy, _ *rand.Rand) { p.SwallowReplies() }, 6*time.Second)},
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
	{name: "authorities", pause: 2 * time.Second, faults: []fault{
		{name: "authority killed while it writes", weight: 5, inflict: crash},
		{name: "authority killed while it waits for a reply", weight: 3, inflict: crashWithoutReply},
		{name: "authority killed", weight: 2, inflict: killAuthority},
		{name: "sentinel killed", weight: 1, inflict: killSentinel, kinds: []string{"sentinel"}},
	}},
	{name: "servers", pause: 1500 * time.Millisecond, patient: true, faults: []fault{
		{name: "master killed", weight: 4, inflict: killMaster},
		{name: "replica killed", weight: 3, inflict: killReplica, kinds: replicated},
		{name: "master stopped and continued", weight: 4, inflict: stopMaster},
		{name: "failover", weight: 2, inflict: failover, kinds: replicated},
		{name: "failover that loses writes", weight: 5, inflict: losingFailover, kinds: replicated},
		{name: "slot moved", weight: 6, inflict: moveSlots, kinds: clustered},
		{name: "out of memory", weight: 3, inflict: outOfMemory},
		{name: "wiped", weight: 2, inflict: wipe},
		{name: "older copy put back", weight: 3, inflict: putBack},
	}},
}

// run inflicts faults until ctx ends. What comes in which order, and how long it lasts, follows from the seed alone.
func (l *lane) run(ctx context.Context, c *campaign, r *rand.Rand) {
	var all []fault
	for _, f := range l.faults {
		if (len(f.kinds) == 0 || slices.Contains(f.kinds, c.topology.kind)) && c.options.wants(f.name) {
			all = append(all, slices.Repeat([]fault{f}, f.weight)...)
		}
	}
	for n := 1; len(all) > 0; n++ {
		next, own := all[r.IntN(len(all))], rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		rest, considerate := time.Duration(r.ExpFloat64()*float64(l.pause)), r.IntN(10) < 7
		if l.patient && n%8 == 0 {
			rest += restLength
		}
		c.pausing(ctx, l.patient, rest, considerate)
		if ctx.Err() != nil {
			return
		}
		doing := c.faults.begin(l.name, next.name)
		ended := make(chan error, 1)
		go func() {
			// A server that cannot be started ends the test from here, and with it this goroutine.
			err := errNotNow
			defer func() { ended <- err }()
			err = next.inflict(ctx, &trouble{c, doing}, own)
		}()
		err := <-ended
		c.faults.end(doing, err)
		if l.patient {
			c.recover(ctx)
		}
	}
}

// restLength is how long nothing new happens now and then, so that it shows whether all is well again.
const restLength = 9 * time.Second

// pausing waits between two faults. Everything rests when the patient lane does, and a considerate fault waits until the
// store has recovered from what it lost.
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
	c.resting.RUnlock() //nolint:staticcheck // whoever rests is waited for
	for until := time.Now().Add(30 * time.Second); considerate && c.oracle.lacking() && time.Now().Before(until) && ctx.Err() == nil; {
		pause(ctx, lookInterval)
	}
}

// recover waits until the store is whole, and lacks nothing.
func (c *campaign) recover(ctx context.Context) {
	for until := time.Now().Add(2 * time.Minute); ctx.Err() == nil && time.Now().Before(until); pause(ctx, lookInterval) {
		if c.topology.whole() == nil && !c.oracle.lacking() {
			return
		}
	}
}

// lacking tells whether the store may lack something now.
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

// onProxy spoils the network of one node for a while.
func onProxy(spoil func(*redistest.Proxy, *rand.Rand), longest time.Duration) func(context.Context, *trouble, *rand.Rand) error {
	return func(ctx context.Context, c *trouble, r *rand.Rand) error {
		n := oneOf(r, append(c.topology.nodes(), c.topology.sentinels...))
		if r.IntN(2) == 0 { // masters have the most to lose
			n = oneOf(r, c.topology.groups).current()
		}
		if !n.busy.TryLock() {
			return errNotNow
		}
		defer n.busy.Unlock()
		c.note("%s", n.name)
		spoil(n.proxy, r)
		if longest > 0 {
			pause(ctx, upTo(r, longest))
		}
		n.proxy.Restore()
		return nil
	}
}

// onMasters runs a command on the master of every group.
func (c *campaign) onMasters(ctx context.Context, args ...any) error {
	var errs []error
	for _, g := range c.topology.groups {
		errs = append(errs, g.current().direct.Do(ctx, args...).Err())
	}
	return errors.Join(errs...)
}

// dropHints ends all subscriptions, some times in a row: what is published meanwhile reaches nobody.
func dropHints(ctx context.Context, c *trouble, r *rand.Rand) error {
	for range 1 + r.IntN(10) {
		for _, n := range c.topology.nodes() {
			_ = n.direct.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err() // it may be down
		}
		pause(ctx, upTo(r, 100*time.Millisecond))
	}
	return nil
}

// repeatHints publishes links again that were published before.
func repeatHints(ctx context.Context, c *trouble, r *rand.Rand) error {
	for range 1 + r.IntN(20) {
		partition := r.IntN(c.codec.Partitions())
		keys := record.KeysOf(partition)
		for _, g := range c.topology.groups {
			n := g.current()
			links, err := n.direct.XRevRangeN(ctx, keys.Log, "+", "-", 1+r.Int64N(50)).Result()
			if err != nil || len(links) == 0 {
				continue
			}
			if link, ok := links[len(links)-1].Values[redisfeed.LinkField].(string); ok {
				_ = n.direct.Publish(ctx, keys.Hint, link).Err()
			}
		}
	}
	return nil
}

// trimLog drops most of the log of some partitions.
func trimLog(ctx context.Context, c *trouble, r *rand.Rand) error {
	for range 1 + r.IntN(8) {
		keys := record.KeysOf(r.IntN(c.codec.Partitions()))
		left := 1 + r.Int64N(4)
		for _, g := range c.topology.groups {
			_ = g.current().direct.XTrimMaxLen(ctx, keys.Log, left).Err() // the slot may be another's
		}
	}
	return nil
}

// cutValidator takes the right to connect from one validator.
func cutValidator(ctx context.Context, c *trouble, r *rand.Rand) error {
	s := oneOf(r, c.seats)
	user := validatorUser(s.number)
	c.note("%s", s.id)
	set := func(ctx context.Context, state string) {
		for _, n := range c.topology.nodes() {
			_ = n.direct.Do(ctx, "ACL", "SETUSER", user, state).Err() // one that is down comes back with all rights
			_ = n.direct.Do(ctx, "CLIENT", "KILL", "USER", user).Err()
		}
	}
	set(ctx, "off")
	for until := time.Now().Add(upTo(r, 10*time.Second)); ctx.Err() == nil && time.Now().Before(until); {
		pause(ctx, 500*time.Millisecond)
		set(ctx, "off")
	}
	for range 3 { // a server that is stopped now may not hear it
		set(context.WithoutCancel(ctx), "on")
		pause(ctx, time.Second)
	}
	return nil
}

// crash kills an authority at a random moment after a change was sent to it, and starts it again.
func crash(ctx context.Context, c *trouble, r *rand.Rand) error {
	a := oneOf(r, c.authorities)
	calls := a.calls.Load()
	for until := time.Now().Add(2 * time.Second); a.calls.Load() == calls && time.Now().Before(until) && ctx.Err() == nil; {
		time.Sleep(50 * time.Microsecond)
	}
	time.Sleep(time.Duration(r.IntN(4000)) * time.Microsecond)
	return c.restart(ctx, a, r)
}

// crashWithoutReply kills an authority while the store's replies to it are held back.
func crashWithoutReply(ctx context.Context, c *trouble, r *rand.Rand) error {
	n := oneOf(r, c.topology.groups).current()
	if !n.busy.TryLock() {
		return errNotNow
	}
	defer n.busy.Unlock()
	n.proxy.SwallowReplies()
	defer n.proxy.Restore()
	pause(ctx, upTo(r, 300*time.Millisecond))
	return c.restart(ctx, oneOf(r, c.authorities), r)
}

func killAuthority(ctx context.Context, c *trouble, r *rand.Rand) error {
	return c.restart(ctx, oneOf(r, c.authorities), r)
}

func (c *trouble) restart(ctx context.Context, a *authority, r *rand.Rand) error {
	if !a.kill() {
		return errNotNow
	}
	c.note("%s", a.name)
	if r.IntN(3) > 0 {
		pause(ctx, upTo(r, 3*time.Second))
	}
	return a.start()
}

func restartValidator(ctx context.Context, c *trouble, r *rand.Rand) error {
	s := oneOf(r, c.seats)
	c.note("%s", s.id)
	s.leave()
	pause(ctx, upTo(r, 500*time.Millisecond))
	return s.start(c.oracle)
}

// away stops a node from running with a signal or for good, and lets it go on after a while.
func (c *trouble) away(ctx context.Context, n *node, longest time.Duration, r *rand.Rand, stop, start func()) error {
	if !n.busy.TryLock() {
		return errNotNow
	}
	defer n.busy.Unlock()
	c.note("%s", n.name)
	stop()
	pause(ctx, upTo(r, longest))
	start()
	return nil
}

func killSentinel(ctx context.Context, c *trouble, r *rand.Rand) error {
	n := oneOf(r, c.topology.sentinels)
	return c.away(ctx, n, 4*time.Second, r, n.server.Stop, n.server.Restart)
}

func killMaster(ctx context.Context, c *trouble, r *rand.Rand) error {
	n := oneOf(r, c.topology.groups).current()
	return c.away(ctx, n, 6*time.Second, r, n.server.Stop, n.server.Restart)
}

func killReplica(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	n := oneOf(r, g.replicas())
	return c.away(ctx, n, 6*time.Second, r, n.server.Stop, n.server.Restart)
}

func stopMaster(ctx context.Context, c *trouble, r *rand.Rand) error {
	n := oneOf(r, c.topology.groups).current()
	return c.away(ctx, n, 6*time.Second, r, n.server.Pause, n.server.Resume)
}

func (g *group) replicas() []*node {
	return slices.DeleteFunc(slices.Clone(g.nodes), func(n *node) bool { return n == g.current() })
}

// failover has a replica take the place of its master, with nothing wrong.
func failover(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	n := oneOf(r, g.replicas())
	c.note("%s", g.current().name)
	if c.topology.cluster != nil {
		return n.direct.Do(ctx, "CLUSTER", "FAILOVER").Err()
	}
	return oneOf(r, c.topology.sentinels).direct.Do(ctx, "SENTINEL", "FAILOVER", redistest.MasterName).Err()
}

// losingFailover keeps what a master acknowledges from its replicas, and then kills it: a replica without it takes its
// place.
func losingFailover(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	n := g.current()
	if !n.busy.TryLock() {
		return errNotNow
	}
	defer n.busy.Unlock()
	c.note("%s", n.name)
	replicas := g.replicas()
	credentials := func(ctx context.Context, user, password string) {
		for _, replica := range replicas {
			_ = replica.direct.Do(ctx, "CONFIG", "SET", "masteruser", user, "masterauth", password).Err()
			_ = replica.direct.Do(ctx, "CONFIG", "REWRITE").Err() // a sentinel may have made it write down the wrong ones
		}
	}
	credentials(ctx, "nobody", "nothing") // the master refuses them from now on
	_ = n.direct.Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err()
	pause(ctx, upTo(r, 1500*time.Millisecond))
	n.server.Stop()
	for until := time.Now().Add(15 * time.Second); g.current() == n && time.Now().Before(until) && ctx.Err() == nil; {
		pause(ctx, lookInterval)
	}
	credentials(context.WithoutCancel(ctx), "", "")
	pause(ctx, upTo(r, 3*time.Second))
	n.server.Restart()
	return nil
}

// moveSlots moves some slots with partitions to another master. Copies of before are worth nothing afterwards: they have keys
// of slots that are elsewhere now.
func moveSlots(ctx context.Context, c *trouble, r *rand.Rand) error {
	c.backups.moved()
	defer c.backups.moved()
	for range 1 + r.IntN(3) {
		if err := c.moveSlot(ctx, r.IntN(c.codec.Partitions()), r); err != nil {
			return err
		}
	}
	return nil
}

// moveSlot moves the slot of a partition, key by key, as often as it takes (Redis, CLUSTER SETSLOT).
func (c *campaign) moveSlot(ctx context.Context, partition int, r *rand.Rand) error {
	to := oneOf(r, c.topology.groups)
	wait := upTo(r, 300*time.Millisecond)
	ctx = context.WithoutCancel(ctx) // a slot that is left half-way would be lost to everybody
	var slot int64
	step := func() error {
		target := to.current()
		var err error
		if slot, err = target.direct.ClusterKeySlot(ctx, record.KeysOf(partition).Head).Result(); err != nil {
			return err
		}
		source, err := c.ownerOf(ctx, slot)
		if err != nil || source == target {
			return err
		}
		ids := map[*node]string{}
		for _, n := range []*node{source, target} {
			if ids[n], err = n.direct.Do(ctx, "CLUSTER", "MYID").Text(); err != nil {
				return err
			}
		}
		if err := target.direct.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source]).Err(); err != nil {
			return err
		}
		if err := source.direct.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target]).Err(); err != nil {
			return err
		}
		host, port, _ := strings.Cut(target.server.Address(), ":")
		for {
			keys, err := source.direct.ClusterGetKeysInSlot(ctx, int(slot), 10).Result()
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				break
			}
			command := []any{"MIGRATE", host, port, "", 0, 5000, "REPLACE", "KEYS"}
			for _, key := range keys {
				command = append(command, key)
			}
			if err := source.direct.Do(ctx, command...).Err(); err != nil {
				return err
			}
			time.Sleep(wait / 10)
		}
		time.Sleep(wait)
		for _, n := range []*node{target, source} {
			if err := n.direct.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", ids[target]).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	for range 200 {
		if err = step(); err == nil {
			return nil
		}
		time.Sleep(lookInterval)
	}
	return fmt.Errorf("slot %d could not be moved: %w", slot, err)
}

// ownerOf returns the master that has a slot.
func (c *campaign) ownerOf(ctx context.Context, slot int64) (*node, error) {
	for _, g := range c.topology.groups {
		n := g.current()
		shards, err := n.direct.ClusterSlots(ctx).Result() //nolint:staticcheck // CLUSTER SHARDS tells no address behind a proxy
		if err != nil {
			return nil, err
		}
		for _, s := range shards {
			if int64(s.Start) <= slot && slot <= int64(s.End) && len(s.Nodes) > 0 && s.Nodes[0].Addr == n.server.PublicAddress() {
				return n, nil
			}
		}
	}
	return nil, errors.New("no master says that it has the slot")
}

const noRevocation = "a revocation was not made while Redis was out of memory"

// outOfMemory leaves the masters no memory for a while. A token can be revoked all the same.
func outOfMemory(ctx context.Context, c *trouble, r *rand.Rand) error {
	w := &writer{campaign: c.campaign, name: fmt.Sprint("oom", r.Uint32()), random: r}
	a := w.oracle.newApp(w.next("app-"))
	a.mu.Lock()
	defer a.mu.Unlock()
	w.create(ctx, a)
	if err := c.onMasters(ctx, "CONFIG", "SET", "maxmemory", "1"); err != nil {
		return err
	}
	alone, began := c.alone(), time.Now()
	for _, t := range a.list() {
		w.revoke(ctx, t)
		if last := t.state.last(); alone && c.alone() && (last.acked == 0 || time.Since(began) > callTimeout) {
			c.oracle.violate(noRevocation, c.oracle.now(), "after %s: %s", time.Since(began), history(t.state))
		}
	}
	pause(ctx, upTo(r, 3*time.Second))
	for _, n := range c.topology.nodes() {
		_ = n.direct.ConfigSet(context.WithoutCancel(ctx), "maxmemory", "0").Err() // one that is restarted has forgotten it
	}
	return nil
}

// alone tells whether no other fault is being inflicted, and nothing is left of one.
func (c *trouble) alone() bool {
	return len(c.faults.during(c.oracle.now(), 5*time.Second)) == 1 && c.topology.whole() == nil && !c.oracle.lacking()
}

// wipe empties the store, or one shard of it.
func wipe(ctx context.Context, c *trouble, r *rand.Rand) error {
	g := oneOf(r, c.topology.groups)
	l := &loss{What: "wiped: " + g.name, From: c.oracle.now(), Whole: true}
	c.oracle.open(l)
	err := g.current().direct.FlushAll(ctx).Err()
	c.settling.Go(func() { c.settle(context.WithoutCancel(ctx), l) })
	return err
}

// backup is a copy of what the servers of a group had on their disks.
type backup struct {
	folder string
	at     moment
}

// putBack puts an older copy in place of what the servers of a group have.
func putBack(ctx context.Context, c *trouble, r *rand.Rand) error {
	i := r.IntN(len(c.topology.groups))
	g := c.topology.groups[i]
	kept := c.backups.get(g)
	if len(kept) == 0 {
		return errNotNow
	}
	b := oneOf(r, kept)
	for _, n := range g.nodes {
		n.busy.Lock()
		defer n.busy.Unlock()
	}
	c.note("%s as of %s", g.name, b.at)
	l := &loss{What: "older copy put back: " + g.name, Floor: b.at, From: c.oracle.now(), Whole: true}
	c.oracle.open(l)
	defer c.settling.Go(func() { c.settle(context.WithoutCancel(ctx), l) })
	for _, n := range g.nodes {
		n.server.Stop()
	}
	var errs []error
	for _, n := range g.nodes {
		errs = append(errs, n.put(b.folder))
	}
	for _, n := range g.nodes {
		n.server.Restart()
	}
	return errors.Join(errs...)
}

// backups keeps a few copies of each group.
type backups struct {
	root   string
	serial int

	mu    sync.Mutex
	moves int
	kept  map[*group][]backup
}

func (b *backups) get(g *group) []backup { b.mu.Lock(); defer b.mu.Unlock(); return b.kept[g] }

// moved forgets all copies, and whatever is being copied.
func (b *backups) moved() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moves++
	clear(b.kept)
}

const (
	backupInterval = 15 * time.Second
	backupsKept    = 4
)

// make takes copies now and then, when nothing keeps the master from having all there is.
func (b *backups) make(ctx context.Context, c *campaign) {
	for ; ctx.Err() == nil; pause(ctx, backupInterval) {
		for _, g := range c.topology.groups {
			b.copy(c, g)
		}
	}
}

func (b *backups) copy(c *campaign, g *group) {
	b.mu.Lock()
	moves := b.moves
	b.mu.Unlock()
	at, master := c.oracle.now(), g.current()
	if c.topology.whole() != nil || c.oracle.lacking() || !master.busy.TryLock() {
		return
	}
	b.serial++
	folder := filepath.Join(b.root, strconv.Itoa(b.serial))
	err := master.keep(folder)
	master.busy.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || moves != b.moves || c.topology.whole() != nil || c.oracle.lacking() {
		return
	}
	b.kept[g] = append(b.kept[g], backup{folder, at})
	b.kept[g] = b.kept[g][max(0, len(b.kept[g])-backupsKept):]
}
