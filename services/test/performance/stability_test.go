package performance

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

var (
	outageLength = flag.Duration("stability.outage", 4*time.Second, "how long Redis is away")
	aroundLength = flag.Duration("stability.around", 2*time.Second, "how long the load goes on before and after")
	outageFleet  = flag.Int("stability.validators", 3, "how many validators there are")
	outageLoad   = flag.Float64("stability.rate", 300, "calls of Authorize a second, of all validators together")
)

const (
	// returnSeconds is for how long commands are counted after Redis is back.
	returnSeconds = 5
	// stampede bounds the reads of one second after Redis is back, as a multiple of the share of a validator
	// that loads everything.
	stampede = 4
)

// TestStaticStability makes Redis unreachable under load, and brings it back. No decision may be wrong or
// fail. No validator may restart or become unready. None may claim fresher data than it can have. A validator
// that starts meanwhile from its snapshot file decides like the others; one without a file answers
// UNAVAILABLE until Redis is back. Then all follow the store again, and read no more than they must.
func TestStaticStability(t *testing.T) {
	o := startOutage(t)
	before, during, after := &phase{name: "before"}, &phase{name: "during"}, &phase{name: "after"}
	o.enter(before)
	load := o.startLoad()
	steady := o.measureSteady(*aroundLength)

	o.enter(during)
	o.Redis.Stop()
	gone := time.Now()
	o.gone.Store(&gone)
	empty, copied := startProcess(t, o.binary, o.arguments...), startProcess(t, o.binary, o.copying...)
	fromFile := copied.awaitServing()
	o.watchNewcomers(empty, copied, gone.Add(*outageLength))
	o.inTheEnd = append(slices.Clip(o.validators), copied)

	o.gone.Store(nil)
	o.Redis.Restart()
	o.enter(after)
	back := time.Now()
	var counting sync.WaitGroup
	var counted []commands
	counting.Go(func() { counted = watchCommands(t.Context(), t, o.client, returnSeconds) })
	fresh := o.awaitFresh(back)
	revoked := o.revokeDoomed(back)
	joined := empty.awaitServing() - back.Sub(empty.started)
	counting.Wait()
	select {
	case <-t.Context().Done():
	case <-time.After(time.Until(back.Add(*aroundLength))):
	}
	o.enter(nil)
	load()

	for _, v := range o.inTheEnd {
		if !v.running() {
			t.Error("a validator has ended")
		}
	}
	processes := *outageFleet + 3 // the authority and two newcomers run too
	bound := stampede * processes * int(time.Second/replica.PollInterval) * record.DefaultPartitions
	for i, c := range counted {
		if c.reads() > bound {
			t.Errorf("second %d after Redis has returned: %s; want at most %d reads", i+1, c, bound)
		}
	}
	if n := o.unready.Load(); n > 0 {
		t.Errorf("%d times a validator was not ready", n)
	}

	figures := newTable("Redis", "calls", "p50", "p99", "p99.9", "max", "p99 of the median minute", "wrong or failed",
		"CPU of a validator")
	for _, p := range []*phase{before, during, after} {
		if p.latency.len() == 0 {
			t.Errorf("no calls %s the outage", p.name)
		}
		if p.wrong.Load() > 0 {
			t.Errorf("%d wrong or failed answers %s the outage", p.wrong.Load(), p.name)
		}
		figures.row(append(append([]string{p.name, strconv.Itoa(p.latency.len())}, p.latency.quantiles()...),
			ms(p.usual()), strconv.Itoa(int(p.wrong.Load())), fmt.Sprintf("%.1f %%", 100*p.cpu))...)
	}
	figures.print(t, fmt.Sprintf("%d validators, %.0f calls a second, Redis away for %v; the load generator was late by p99 %s",
		*outageFleet, *outageLoad, *outageLength, ms(o.late.at(0.99))))
	reads := newTable("second after its return", "reads", "all commands")
	reads.row("before the outage", fmt.Sprintf("%.0f", steady), "")
	for i, c := range counted {
		reads.row(strconv.Itoa(i+1), strconv.Itoa(c.reads()), c.String())
	}
	reads.print(t,
		fmt.Sprintf("fresh again: %s; a revocation made then is everywhere: %s; "+
			"the validator started meanwhile with nothing serves: %s; "+
			"the one with a snapshot file served %s after its start", ms(fresh), ms(revoked), ms(joined), ms(fromFile)))
}

// outage is a cluster whose validators run in processes of their own, under load.
type outage struct {
	*world
	binary     string
	arguments  []string   // of every validator
	copying    []string   // of a validator with a snapshot file
	validators []*process // under load
	inTheEnd   []*process // with data when Redis is back
	client     *redisfeed.Client
	population *population

	phase   atomic.Pointer[phase]
	cpu     []time.Duration           // of the validators, when the phase began
	gone    atomic.Pointer[time.Time] // when Redis became unreachable; nil while it is reachable
	unready atomic.Int64
	late    times
}

// phase is a part of the run.
type phase struct {
	name    string
	entered time.Time
	latency times
	wrong   atomic.Int64
	cpu     float64 // of one validator, in processors

	mu      sync.Mutex
	minutes []*times // latency by the minute in which calls were due
}

// add records how long a call took from when it was due.
func (p *phase) add(due time.Time) {
	took, minute := time.Since(due), max(int(due.Sub(p.entered)/time.Minute), 0)
	p.latency.add(took)
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.minutes) <= minute {
		p.minutes = append(p.minutes, &times{})
	}
	p.minutes[minute].add(took)
}

// usual returns the p99 of the median minute, which leaves out short disturbances of the machine.
func (p *phase) usual() time.Duration {
	var each times
	for _, minute := range p.minutes {
		each.add(minute.at(0.99))
	}
	return each.at(0.5)
}

func startOutage(t *testing.T) *outage {
	o := &outage{world: start(t, cluster.Options{RedisArgs: durable}), binary: check.Must(validatorBinary())(t)}
	o.client = o.redis(t)
	o.arguments = []string{
		"--redis-url=" + redistest.URL(o.Redis.Address(), "validator", "validator"),
		"--keyring-file=" + o.RingFile,
	}
	for range *outageFleet {
		o.validators = append(o.validators, startProcess(t, o.binary, o.arguments...))
	}
	o.population = o.populate(20)
	o.population.addTimed(time.Now().Add(*aroundLength + *outageLength/2))
	o.copying = append(slices.Clip(o.arguments), "--snapshot-file="+filepath.Join(t.TempDir(), "snapshot"))
	writer := startProcess(t, o.binary, o.copying...)
	for _, v := range append(slices.Clip(o.validators), writer) {
		v.awaitServing()
		o.population.await(v)
	}
	writer.end()
	return o
}

// enter begins a phase, nil for none, and ends the phase before.
func (o *outage) enter(next *phase) {
	now, cpu := time.Now(), make([]time.Duration, len(o.validators))
	for i, v := range o.validators {
		cpu[i] = v.cpu()
	}
	if last := o.phase.Load(); last != nil {
		for i := range cpu {
			last.cpu += float64(cpu[i]-o.cpu[i]) / float64(now.Sub(last.entered)) / float64(len(cpu))
		}
	}
	if next != nil {
		next.entered = now
	}
	o.cpu = cpu
	o.phase.Store(next)
}

// startLoad asks all questions of all validators in turn, and checks their readiness, until the returned
// function is called.
func (o *outage) startLoad() (stop func()) {
	ctx, cancel := context.WithCancel(o.t.Context())
	var running sync.WaitGroup
	running.Go(func() { openLoop(ctx, *outageLoad, 0, o.call) })
	for _, v := range o.validators {
		running.Go(func() {
			for ctx.Err() == nil {
				if !v.ready(ctx) && ctx.Err() == nil {
					o.unready.Add(1)
				}
				select {
				case <-ctx.Done():
				case <-time.After(250 * time.Millisecond):
				}
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

// call asks one question and judges the answer.
func (o *outage) call(i int, due time.Time) {
	p := o.phase.Load()
	if p == nil {
		return
	}
	v, q := o.validators[i%len(o.validators)], o.population.questions[i/len(o.validators)%len(o.population.questions)]
	o.late.add(time.Since(due))
	fault := o.ask(v, q)
	p.add(due)
	if fault != "" && p.wrong.Add(1) <= 3 {
		o.t.Errorf("%s the outage, app %s: %s; want %s", p.name, q.request.GetAppId(), fault, q.first)
	}
}

// ask asks a validator a question, and returns what is wrong with the answer, if anything.
func (o *outage) ask(v *process, q *question) (fault string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.t.Context()), patience)
	defer cancel()
	gone, sent := o.gone.Load(), time.Now()
	answer, err := v.Authorize(ctx, q.request)
	received := time.Now()
	if err != nil {
		return err.Error()
	}
	if got := verdictOf(answer); !q.right(got, sent, received) {
		return got.String()
	}
	if gone == nil {
		return ""
	}
	away := sent.Sub(*gone)
	if age := answer.GetDataAge().AsDuration(); age < away-away/clockDrift {
		return fmt.Sprintf("data of %v ago, %v after Redis went away", age, away)
	}
	return ""
}

// clockDrift bounds the drift between the two clocks of a machine, while one of them is corrected, as 1 part
// in clockDrift.
const clockDrift = 500

// measureSteady returns the reads per second in normal operation.
func (o *outage) measureSteady(length time.Duration) float64 {
	first, began := readCommands(o.t, o.client), time.Now()
	select {
	case <-o.t.Context().Done():
	case <-time.After(length):
	}
	return float64(readCommands(o.t, o.client).since(first).reads()) / time.Since(began).Seconds()
}

// watchNewcomers watches two validators that were started without Redis. The one without a snapshot file
// runs, is not ready, and decides nothing (B20). The other one decides everything.
func (o *outage) watchNewcomers(empty, copied *process, until time.Time) {
	o.t.Helper()
	check.Eventually(o.t, "a validator without data lives", func() error {
		if got := empty.probe(o.t.Context(), "/livez"); got != http.StatusOK {
			return fmt.Errorf("/livez answers %d", got)
		}
		return nil
	})
	for {
		_, err := empty.Authorize(o.t.Context(), o.population.questions[1].request)
		if status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) != apierr.NotLoaded {
			o.t.Fatalf("a validator without data answers %v", err)
		}
		if empty.ready(o.t.Context()) {
			o.t.Fatal("a validator without data is ready")
		}
		for _, q := range o.population.questions {
			if fault := o.ask(copied, q); fault != "" {
				o.t.Fatalf("a validator that was started from its snapshot file, app %s: %s; want %s", q.request.GetAppId(),
					fault, q.first)
			}
		}
		if !copied.ready(o.t.Context()) {
			o.t.Fatal("a validator that was started from its snapshot file is not ready")
		}
		pause := min(time.Second, time.Until(until))
		if pause <= 0 {
			return
		}
		time.Sleep(pause)
	}
}

// awaitFresh returns how long after a time every validator had fresh data of every partition, as its answers
// say.
func (o *outage) awaitFresh(since time.Time) time.Duration {
	o.t.Helper()
	took := make([]time.Duration, len(o.inTheEnd))
	var waiting sync.WaitGroup
	for i, v := range o.inTheEnd {
		waiting.Go(func() {
			for partition := range record.DefaultPartitions {
				request := &countersignv1.AuthorizeRequest{AppId: appIn(partition, "app"), Scope: events}
				o.eventually(v, request, "fresh data", func(a *countersignv1.AuthorizeResponse) bool {
					return a.GetDataAge().AsDuration() <= replica.StaleAfter
				})
			}
			took[i] = time.Since(since)
		})
	}
	waiting.Wait()
	return slices.Max(took)
}

// revokeDoomed revokes tokens as soon as the authority can, and returns how long after a time no validator
// accepted any of them.
func (o *outage) revokeDoomed(since time.Time) time.Duration {
	o.t.Helper()
	revoked := verdict{deny, countersignv1.Reason_REASON_TOKEN_REVOKED, true}
	for _, d := range o.population.doomed {
		d.turn.Store(&turn{from: time.Now(), then: revoked})
		check.Eventually(o.t, "the authority revokes", func() error {
			_, err := o.management.RevokeToken(o.admin,
				&countersignv1.RevokeTokenRequest{AppId: d.request.GetAppId(), TokenId: d.tokenID})
			return err
		})
	}
	for _, d := range o.population.doomed {
		for _, v := range o.inTheEnd {
			o.eventually(v, d.request, "a revocation",
				func(a *countersignv1.AuthorizeResponse) bool { return verdictOf(a) == revoked })
		}
	}
	took := time.Since(since)
	for _, d := range o.population.doomed {
		d.turn.Store(&turn{from: d.turn.Load().from, until: time.Now(), then: revoked})
	}
	return took
}

// eventually asks a validator until its answer is correct.
func (o *outage) eventually(v *process, request *countersignv1.AuthorizeRequest, what string,
	right func(*countersignv1.AuthorizeResponse) bool,
) {
	deadline := time.Now().Add(patience)
	for {
		answer, err := v.Authorize(o.t.Context(), request)
		if err == nil && right(answer) {
			return
		}
		if time.Now().After(deadline) {
			o.t.Errorf("no %s in time: %v %v", what, answer, err)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
