package faults

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/validator"
	"github.com/countersign/countersign/pkg/validator/inside"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// decider is a validator, embedded or behind its server.
type decider interface {
	Authorize(ctx context.Context, request validator.Request) (validator.Answer, error)
	DataAge() time.Duration
	Ready() error
	// Replica is nil for one in another process.
	Replica() *replica.Replica
}

// local is a validator in this process.
type local struct{ *validator.Validator }

// Replica implements decider.
func (l local) Replica() *replica.Replica { return inside.Replica(l.Validator) }

// seat is the position of one validator in the fleet. When the validator is restarted, the next one takes the
// seat.
type seat struct {
	number int
	id     string
	config validator.Config
	// clock is the wall clock of the validators that run in this process.
	clock clock
	// process is where its validators run; nil means this process.
	process *process
	// now is the running validator; nil when there is none.
	now atomic.Pointer[occupant]

	// stopped is since when its process is suspended (SIGSTOP), continued when it was last resumed; 0 for
	// neither.
	stopped, continued atomic.Int64

	mu    sync.Mutex
	lives int64
}

// fenced reports whether its validator has a staleness bound on every scope, and so decides nothing from data
// older than a bound.
func (s *seat) fenced() bool {
	for scope := policy.Scope(1); scope <= lastScope; scope++ {
		if s.config.MaxStaleness[scope] == 0 {
			return false
		}
	}
	return true
}

// occupant is one start of the validator in a seat.
type occupant struct {
	decider
	life int64
	// ready is the moment when it had all data; 0 before.
	ready atomic.Int64
	end   func()
}

// start starts a validator.
func (s *seat) start(o *oracle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lives++
	if s.process != nil {
		if s.lives > 1 { // newSeat starts the process the first time
			if err := s.process.start(); err != nil {
				return err
			}
		}
		s.now.Store(&occupant{
			decider: &remote{s.process, client.New(s.process.connection)}, life: s.lives,
			end: func() { s.process.kill() },
		})
		return nil
	}
	v, err := validator.New(s.config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	now := &occupant{decider: local{v}, life: s.lives, end: func() { cancel(); running.Wait() }}
	running.Go(func() { _ = v.Run(ctx) }) // returns only when ctx ends
	running.Go(func() {
		if v.WaitReady(ctx) == nil {
			now.ready.Store(int64(o.now()))
		}
	})
	s.now.Store(now)
	return nil
}

// leave ends the running validator: properly in this process, with kill -9 in another process.
func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now.Swap(nil); now != nil {
		now.end()
	}
	s.stopped.Store(0)
}

// justContinued reports whether its process was suspended until shortly before a time.
func (s *seat) justContinued(at moment) bool {
	since := moment(s.continued.Load())
	return since != 0 && at-since < moment(time.Second)
}

// stop suspends the validator of another process: its connections stay open, and what is sent to it waits. It
// returns the function that resumes it; this does nothing if the validator was replaced by then.
func (s *seat) stop(o *oracle) (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	life := s.lives
	s.process.signal(syscall.SIGSTOP)
	s.stopped.Store(int64(o.now()))
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.lives == life {
			s.process.signal(syscall.SIGCONT)
			s.stopped.Store(0)
			s.continued.Store(int64(o.now()))
		}
	}
}

// remote is a validator in another process. The campaign asks it like the ingest tier does.
type remote struct {
	*process
	client *client.Client
}

// errAway means that no answer came: the process was killed, or the machine is busy.
var errAway = errors.New("the validator did not answer")

func (r *remote) Authorize(ctx context.Context, q validator.Request) (validator.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.client.Authorize(ctx, client.Request{
		AppID: q.AppID, Token: q.Token, Scope: countersignv1.Scope(q.Scope), MinRevision: q.MinRevision,
	})
	if err != nil && apierr.ReasonOf(err) == "" {
		return validator.Answer{}, errAway
	}
	return validator.Answer{
		Decision: policy.Decision{
			Allow: answer.Allow, Reason: policy.Reason(answer.Reason), Enforced: answer.Enforced,
			TokenID: answer.TokenID,
		},
		Revision: answer.Revision, DataAge: answer.DataAge,
	}, err
}

// nobodys is a request about an app that does not exist. Its answer still has the age of the data.
var nobodys = validator.Request{AppID: "nobody", Scope: 1}

// DataAge asks about an app that does not exist.
func (r *remote) DataAge() time.Duration {
	answer, _ := r.Authorize(context.Background(), nobodys)
	return answer.DataAge
}

func (r *remote) Ready() error {
	if !r.serving(context.Background()) {
		return errAway
	}
	return nil
}

func (r *remote) Replica() *replica.Replica { return nil }

// newSeat makes a seat and starts a validator in it; with settings, in a process of its own.
func (c *campaign) newSeat(t testing.TB, folder string, config validator.Config, own *processSettings,
	certificates func(name string) *certificates,
) {
	s := &seat{number: len(c.seats), id: config.Fleet.ID, config: config}
	if own != nil {
		settings := *own
		settings.RedisURL = config.RedisURL
		settings.Validator = &validatorSettings{
			MaxStaleness: config.MaxStaleness, Snapshot: config.Snapshot,
			ID: s.id, Authority: string(config.Fleet.Authority), Key: config.Fleet.Key.Reveal(),
		}
		s.process = newProcess(t, s.id, folder, settings, certificates(s.id))
	}
	s.config.WallClock = s.clock.now
	c.seats = append(c.seats, s)
	t.Cleanup(s.leave)
	check.NoError(t, s.start(c.oracle))
}
