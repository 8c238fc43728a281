// Package faults is the fault campaign. It changes a whole Countersign over real Redis servers and asks for
// decisions without pause, while servers, processes and the network fail. An oracle knows only what was
// acknowledged, and judges the answers and the store by that. See docs/faults.md.
package faults

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/countersign/countersign/deploy/redisacl"
	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/testcert"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/services/internal/adminkeys"
	"github.com/countersign/countersign/services/store"
	"github.com/countersign/countersign/services/store/tools"
)

func TestMain(m *testing.M) {
	if raw := os.Getenv(processEnv); raw != "" {
		if err := runProcess(raw); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// options are the parameters of a campaign.
type options struct {
	length     time.Duration
	seed       uint64
	topologies string
	quorums    string
	quorum     int // one of quorums
	validators int
	processes  int
	writers    int
	pause      time.Duration
	decisions  float64
	receipts   float64
	only, skip string
	recorded   bool
	report     string
}

var given options

func init() {
	flag.DurationVar(&given.length, "length", 20*time.Second, "how long faults are inflicted, over all topologies")
	flag.Uint64Var(&given.seed, "seed", 0, "seed of the schedule; 0 means random")
	flag.StringVar(&given.topologies, "topology", "sentinel,cluster", "single, sentinel, cluster, rdb, or several with commas")
	flag.StringVar(&given.quorums, "quorum", "-1",
		"Redis replicas that a change waits for, or several numbers with commas; -1 means all")
	flag.IntVar(&given.validators, "validators", 6, "number of validators in the process of the campaign")
	flag.IntVar(&given.processes, "processes", 3,
		"number of validators in processes of their own, which are suspended and killed")
	flag.IntVar(&given.writers, "writers", 6, "number of writers that change apps")
	flag.DurationVar(&given.pause, "pause", 60*time.Millisecond, "mean pause between two changes of a writer")
	flag.Float64Var(&given.decisions, "decisions", 20_000, "decisions per second, over all validators")
	flag.Float64Var(&given.receipts, "receipts", 0.3, "share of the changes that wait for their receipt")
	flag.StringVar(&given.only, "only", "", "regexp of the faults to inflict; empty is all")
	flag.StringVar(&given.skip, "skip", "", "regexp of the faults to leave out; empty is none")
	flag.BoolVar(&given.recorded, "recorded", false, "fail when a fault was never inflicted or a rare state never reached")
	flag.StringVar(&given.report, "report", "", "file to append the report to, one line of JSON for each topology and quorum")
}

func (o options) wants(name string) bool {
	matches := func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(name) }
	return (o.only == "" || matches(o.only)) && (o.skip == "" || !matches(o.skip))
}

// calmEnough is the time without any fault or loss after which everything must work again.
const calmEnough = healBound + slack

// campaign is one run on one topology.
type campaign struct {
	t testing.TB
	// title names the topology and the write quorum of this run.
	title       string
	options     options
	log         *slog.Logger
	oracle      *oracle
	topology    *topology
	codec       *record.Codec
	authorities []*authority
	seats       []*seat
	adminKey    string
	fresh       chan freshChange
	faults      *ledger
	stats       *stats
	backups     backups
	operator    *operator
	// resting is locked while the lanes rest: no new fault may begin then.
	resting  sync.RWMutex
	healings sync.WaitGroup
	calm     calm
	inFlight inFlight
	receipts receipts
	// converged is how long it took, after the last fault, until all validators and authorities had the same
	// data as the store.
	converged time.Duration
	// earlier are the runs before this one, on other topologies or with other quorums.
	earlier []*summary
}

// seatOf returns the seat of a validator by its name, or nil.
func (c *campaign) seatOf(id string) *seat {
	for _, s := range c.seats {
		if s.id == id {
			return s
		}
	}
	return nil
}

// newCampaign starts a Countersign over a Redis.
func newCampaign(t testing.TB, options options, top *topology) *campaign {
	title := fmt.Sprint(top.kind, " ", options.quorum)
	if options.quorum < 0 {
		options.quorum = top.replicas
	}
	folder := t.TempDir()
	c := &campaign{
		t: t, title: title, options: options, topology: top, oracle: newOracle(options.validators + options.processes),
		fresh:  make(chan freshChange, 64),
		faults: &ledger{}, stats: newStats(), backups: backups{
			root: filepath.Join(folder, "backups"),
			kept: map[*group][]backup{},
		},
	}
	c.faults.oracle = c.oracle
	logFile, err := os.Create(filepath.Join(folder, "validators.log"))
	check.NoError(t, err)
	t.Cleanup(func() { logFile.Close(); c.keepLogs(folder) })
	c.log = newLog(logFile)

	ring, ringFile, keysFile := keyring.Generate(), filepath.Join(folder, "keyring.json"), filepath.Join(folder, "keys.json")
	check.NoError(t, ring.Create(ringFile))
	admin, err := adminkeys.Add(keysFile, "admin", adminkeys.Admin)
	check.NoError(t, err)
	reporting, err := adminkeys.Add(keysFile, "validators", adminkeys.Validator)
	check.NoError(t, err)
	c.adminKey = admin.Reveal()
	check.NoError(t, top.addSeats(t.Context(), options.validators+options.processes))
	owner, err := redisfeed.Open(top.urlFor(redisacl.Operator, redisacl.Operator), redisfeed.Options{})
	check.NoError(t, err)
	t.Cleanup(func() { owner.Close() })
	c.operator = newOperator(tools.New(owner, ring), folder)
	meta, _, err := store.Init(t.Context(), owner, ring, record.DefaultPartitions)
	check.NoError(t, err)
	c.codec = record.NewCodec(ring, meta)

	signer, err := testcert.New()
	check.NoError(t, err)
	settings := processSettings{
		WriteQuorum: options.quorum, RingFile: ringFile, KeysFile: keysFile,
		CAFile: filepath.Join(folder, "ca.crt"),
	}
	check.NoError(t, os.WriteFile(settings.CAFile, signer.PEM, 0o600))
	issued := 0
	certificates := func(name string) *certificates {
		made, err := newCertificates(filepath.Join(folder, name+".tls"), issued, signer)
		check.NoError(t, err)
		issued++
		return made
	}
	for i := range 2 {
		own := settings
		own.RedisURL = top.urlFor(redisacl.Authority, redisacl.Authority)
		c.authorities = append(c.authorities, newAuthority(t, fmt.Sprintf("authority-%d", i+1), folder, own,
			certificates(fmt.Sprintf("authority-%d", i+1))))
	}
	for i := range options.validators + options.processes {
		config := validator.Config{
			RedisURL: top.urlFor(validatorUser(i), redisacl.Validator), WriteQuorum: options.quorum, Ring: ring,
			Log: c.log.With("validator", i),
			Fleet: validator.Fleet{
				Authority: grpcclient.Address(c.authorities[i%len(c.authorities)].settings.Listen), Key: reporting,
				ID:       fmt.Sprintf("validator-%d", i),
				Security: grpcclient.Security{CAFile: settings.CAFile},
			},
		}
		if i%2 == 0 {
			config.Snapshot = validator.SnapshotFile{
				Path:     filepath.Join(folder, config.Fleet.ID+".snapshot"),
				Interval: 5 * time.Second,
			}
		}
		if i == 0 || i == options.validators { // one of each kind has a staleness bound on all scopes
			for scope := range config.MaxStaleness {
				config.MaxStaleness[scope] = 3 * time.Second
			}
		}
		var own *processSettings
		if i >= options.validators {
			own = &settings
		}
		c.newSeat(t, folder, config, own, certificates)
	}
	return c
}

func validatorUser(seat int) string { return fmt.Sprintf("validator%d", seat) }

// keepLogs copies the logs beside the report, if the run writes a report.
func (c *campaign) keepLogs(folder string) {
	if c.options.report == "" {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(folder, "*.log"))
	for _, path := range logs {
		if data, err := os.ReadFile(path); err == nil {
			_ = os.WriteFile(fmt.Sprintf("%s.%s.%s", c.options.report, strings.ReplaceAll(c.title, " ", "."), filepath.Base(path)),
				data, 0o600)
		}
	}
}

// run inflicts faults for a time, and then waits until everything works again.
func (c *campaign) run() *summary {
	ctx, endWatching := context.WithCancel(context.Background())
	defer endWatching()
	var watching sync.WaitGroup
	watching.Go(func() {
		c.topology.watch(ctx, c.oracle, func(n *node, floor, from moment) {
			l := &loss{What: n.name + " became master", Floor: floor, From: from}
			c.oracle.open(l)
			c.healings.Go(func() { c.awaitHealed(ctx, l) })
		})
	})
	watching.Go(func() { c.watchCalm(ctx) })
	watching.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, pollInterval) {
			c.oracle.review(false)
		}
	})
	for i, m := range c.members() {
		watching.Go(func() { c.renew(ctx, m, rand.New(rand.NewPCG(c.options.seed, uint64(i)<<32|uint64(len("renewal"))))) })
	}
	c.awaitServing()

	source := func(name string, n int) *rand.Rand {
		h := fnv.New64a() // each run has a schedule of its own
		fmt.Fprintf(h, "%s %s %d", c.title, name, n)
		return rand.New(rand.NewPCG(c.options.seed, h.Sum64()))
	}
	working, endWork := context.WithCancel(ctx)
	var writers, deciders, troubles sync.WaitGroup
	for i := range c.options.writers {
		w := &writer{campaign: c, name: fmt.Sprint("w", i), random: source("writer", i)}
		writers.Go(func() { w.run(working) })
	}
	const deciderCount = 2
	deciding, endDecisions := context.WithCancel(ctx)
	embedded, remote := c.seats[:c.options.validators], c.seats[c.options.validators:]
	for i := range deciderCount {
		deciders.Go(func() { c.decide(deciding, embedded, source("decider", i), c.options.decisions/deciderCount) })
		deciders.Go(func() { c.follow(deciding, source("follower", i)) })
	}
	for i := range remote { // a stopped validator must not block the others
		deciders.Go(func() { c.decide(deciding, remote[i:i+1], source("remote", i), remoteDecisions/float64(len(remote))) })
	}
	began := time.Now()
	troubling, endTrouble := context.WithTimeout(ctx, c.options.length)
	for i := range lanes {
		troubles.Go(func() { lanes[i].run(troubling, c, source("lane", i)) })
	}
	troubles.Go(func() { c.backups.make(troubling, c) })
	troubles.Go(func() { c.operator.keepBackups(troubling, c) })
	troubles.Wait()
	endTrouble()
	c.healings.Wait()
	pause(ctx, leaseEnds+4*time.Second) // changes and decisions with nothing wrong
	endWork()
	writers.Wait()
	c.converge(ctx)
	endDecisions()
	deciders.Wait()
	c.oracle.review(true)
	endWatching()
	watching.Wait()
	return c.finish(time.Since(began))
}

// remoteDecisions is the rate of decisions, per second, of the validators in processes of their own.
const remoteDecisions = 300

// awaitServing waits until everything works.
func (c *campaign) awaitServing() {
	for until := time.Now().Add(time.Minute); ; pause(context.Background(), pollInterval) {
		ready := c.topology.whole() == nil && c.serving(context.Background())
		for _, s := range c.seats {
			ready = ready && s.now.Load().Ready() == nil
		}
		if ready {
			return
		}
		if time.Now().After(until) {
			c.t.Fatalf("some process does not serve after a minute: %v", c.topology.whole())
		}
	}
}

// serving reports whether all authorities accept changes.
func (c *campaign) serving(ctx context.Context) bool {
	return !slices.ContainsFunc(c.authorities, func(a *authority) bool { return !a.serving(ctx) })
}

// calm records since when nothing has been wrong.
type calm struct {
	mu    sync.Mutex
	since moment // 0 while something is wrong
}

// calmFor returns for how long nothing has been wrong: no fault, no loss.
func (c *campaign) calmFor() time.Duration {
	c.calm.mu.Lock()
	defer c.calm.mu.Unlock()
	if c.calm.since == 0 || c.faults.active() || c.oracle.lacking() { // since does not show a fault that has just begun
		return 0
	}
	return time.Duration(c.oracle.now() - c.calm.since)
}

const notFresh = "not fresh again in time"

// watchCalm keeps calm up to date. When nothing was wrong for long enough, all validators must follow the
// store.
func (c *campaign) watchCalm(ctx context.Context) {
	for ; ctx.Err() == nil; pause(ctx, pollInterval) {
		for _, s := range c.seats { // validators in other processes have to be asked
			if now := s.now.Load(); now != nil && s.process != nil && now.ready.Load() == 0 && now.Ready() == nil {
				now.ready.Store(int64(c.oracle.now()))
			}
		}
		wrong := c.faults.active() || c.topology.whole() != nil || c.oracle.lacking() || !c.serving(ctx)
		c.calm.mu.Lock()
		switch {
		case wrong:
			c.calm.since = 0
		case c.calm.since == 0:
			c.calm.since = c.oracle.now()
		}
		c.calm.mu.Unlock()
		if calm := c.calmFor(); calm > calmEnough {
			for _, s := range c.seats {
				if e := s.now.Load(); e != nil && (e.DataAge() > 2*time.Second || e.Ready() != nil) && c.calmFor() > calmEnough {
					c.oracle.violate(notFresh, c.oracle.now(), "%s: data is %s old after %s without anything wrong, %v", s.id, e.DataAge(),
						calm, e.Ready())
				}
			}
		}
	}
}
