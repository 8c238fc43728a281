// Package fleet is a validator's side of the fleet. It reports the validator's state to an authority, every
// second and within milliseconds of a change. It sends the signed links that the authority asks for, and
// passes the floor to the replica. It hands over the usage counts. This package is not part of the public API
// and may change in any release.
package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/clockskew"
	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/usage"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// Interval is how often a validator reports when nothing changes.
	Interval = time.Second
	// coalesce is the least time between two reports, so that a burst of changes is one report.
	coalesce = 2 * time.Millisecond
	// silence is how long an authority may be silent before the connection is given up. An authority
	// answers one report in each Interval at once, so this finds dead connections sooner than gRPC's
	// keepalive, whose shortest interval is 10 s.
	silence = 3 * time.Second
	// minPause and maxPause bound the mean pause before the next connection. Each pause differs from the
	// mean by up to a half, so that not all validators connect to a restarted authority at once.
	minPause = 100 * time.Millisecond
	maxPause = 750 * time.Millisecond
	// patience is how many attempts in a row must fail before a warning is logged. Fewer fail when one
	// authority restarts and another takes over.
	patience = 3
	// leaveTimeout bounds how long Leave waits for the authority to hear of it.
	leaveTimeout = time.Second
	// MaxIDLength is how many characters a validator's name may have.
	MaxIDLength = record.MaxValidatorIDLength
)

// Config configures a Reporter.
type Config struct {
	// Authority is the address of the authority.
	Authority grpcclient.Address
	Security  grpcclient.Security
	// Key is an admin key of role validator. The zero value sends no key.
	Key secret.Secret
	// CurrentKey returns the key for the next connection, for keys that change. Nil means Key.
	CurrentKey func() secret.Secret
	// ID is the validator's name, unique in the fleet; see CheckID.
	ID string
	// FencedAfter is the result of the function FencedAfter for the validator's staleness bounds.
	FencedAfter time.Duration
	// KeyIDs are the ids of the keys in the key ring.
	KeyIDs []string
	Log    *slog.Logger
	// Dial opens a connection to an address that Authority resolves to. Nil means TCP, with plain text only
	// to addresses that Security allows.
	Dial func(ctx context.Context, resolved string) (net.Conn, error)
	// WallClock is the validator's time of day, for tests. Nil means the machine's clock.
	WallClock replica.WallClock
	// Usage has the counts of the validator's decisions. The reporter hands them to the authority. Nil hands
	// over none.
	Usage *usage.Counter
}

// CheckID returns an error that describes what a validator's name must look like, or nil for a valid name.
func CheckID(id string) error {
	if !record.ValidValidatorID(id) {
		return fmt.Errorf(
			"want 1 to %d characters, no control, zero-width or bidirectional characters, no white space at the ends", MaxIDLength,
		)
	}
	return nil
}

// FencedAfter returns the age of data beyond which a validator answers for no scope: the largest staleness
// bound. It returns 0, which means never, when a scope of the contract has no bound.
func FencedAfter(bounds [policy.MaxScope + 1]time.Duration) (largest time.Duration) {
	for scope := range countersignv1.Scope_name {
		switch {
		case scope == 0:
		case bounds[scope] == 0:
			return 0
		default:
			largest = max(largest, bounds[scope])
		}
	}
	return largest
}

// Reporter sends the reports of one validator. Make one with New. It is safe for concurrent use, but only
// one Run may be active.
type Reporter struct {
	config   Config
	dialing  []grpc.DialOption // without credentials
	secured  atomic.Pointer[credentials.TransportCredentials]
	instance string
	start    time.Time
	sequence atomic.Uint64

	// running is when the reporter was made, by the monotonic clock. heartbeat is the latest report that an
	// authority answers at once.
	running   time.Time
	heartbeat atomic.Pointer[heartbeat]
	skew      atomic.Pointer[time.Duration] // nil while unknown
	alarm     clockskew.Alarm               // belongs to the goroutine that receives
	handover  *handover

	connected atomic.Bool
	verified  atomic.Bool
	pending   atomic.Bool
	idTaken   atomic.Bool
	reports   atomic.Uint64
}

// New checks the configuration. It connects to nothing.
func New(config Config) (*Reporter, error) {
	if err := CheckID(config.ID); err != nil {
		return nil, fmt.Errorf("validator id: %w", err)
	}
	transport, err := config.Security.Credentials(config.Authority)
	if err != nil {
		return nil, fmt.Errorf("connection to the authority: %w", err)
	}
	dial := config.Dial
	if dial == nil {
		dial = func(ctx context.Context, resolved string) (net.Conn, error) {
			return config.Security.Dial(ctx, config.Authority, resolved)
		}
	}
	now := time.Now()
	r := &Reporter{config: config, instance: rand.Text(), start: config.WallClock.At(now), running: now}
	r.handover = newHandover(config.Usage, config.WallClock)
	r.secured.Store(&transport)
	r.dialing = []grpc.DialOption{
		grpc.WithContextDialer(dial),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: silence}),
		// Spreads validators over several authorities behind one name.
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}`),
	}
	return r, nil
}

// options returns the options of the next connection, with the present certificate authorities and the
// present key. If the authorities cannot be read, the earlier ones stay.
func (r *Reporter) options() []grpc.DialOption {
	if transport, err := r.config.Security.Credentials(r.config.Authority); err == nil {
		r.secured.Store(&transport)
	} else {
		r.config.Log.Warn("the certificate authorities cannot be read; the earlier ones stay in use", "error", err)
	}
	options := append(slices.Clip(r.dialing), grpc.WithTransportCredentials(*r.secured.Load()))
	key := r.config.Key
	if r.config.CurrentKey != nil {
		key = r.config.CurrentKey()
	}
	if key.Reveal() != "" {
		options = append(options, grpc.WithPerRPCCredentials(r.config.Security.Bearer(key, r.config.Authority)))
	}
	return options
}

// Connected tells whether an authority receives the validator's reports now.
func (r *Reporter) Connected() bool { return r.connected.Load() }

// FloorVerified tells whether an authority has sent a floor. Without a floor, a complete old copy of the
// store cannot be distinguished from the store.
func (r *Reporter) FloorVerified() bool { return r.verified.Load() }

// FloorPending tells whether the authority has announced that it will send the floor soon. An authority
// does so after its start, while it waits for reports of other validators.
func (r *Reporter) FloorPending() bool { return r.pending.Load() }

// IDTaken tells whether authorities reject the reports because a validator that was started later has the
// same name.
func (r *Reporter) IDTaken() bool { return r.idTaken.Load() }

// Reports returns how many reports were sent.
func (r *Reporter) Reports() uint64 { return r.reports.Load() }

// Run reports the state of a replica until ctx ends. It reconnects when a connection fails. It reports the
// replica's cursors only while decides returns true: the validator then answers from this replica, which is
// what a receipt must say. Run calls welcomed after each floor that it has passed to the replica.
func (r *Reporter) Run(ctx context.Context, of *replica.Replica, decides func() bool, welcomed func()) {
	logged, pause, failures := "", minPause, 0
	for {
		err := r.session(ctx, of, decides, func() {
			if logged != "" {
				r.config.Log.Info("the authority hears this validator again", "authority", r.config.Authority)
			}
			logged, pause, failures = "", minPause, 0
			r.idTaken.Store(false)
		}, welcomed)
		r.connected.Store(false)
		r.skew.Store(nil)
		r.pending.Store(false)
		if ctx.Err() != nil {
			return
		}
		taken := apierr.ReasonOf(err) == apierr.ValidatorIDTaken
		r.idTaken.Store(taken)
		switch failures++; {
		case taken && logged != apierr.ValidatorIDTaken:
			// This needs an operator, so it is logged at once.
			logged = apierr.ValidatorIDTaken
			r.config.Log.Error(
				"another validator that was started later has this one's id: "+
					"no authority hears this one, and no receipt waits for it; give each a --validator-id of its own",
				"validator", r.config.ID, "authority", r.config.Authority,
			)
		case !taken && failures >= patience && err != nil && logged != err.Error():
			logged = err.Error()
			r.config.Log.Warn("no authority hears this validator; trying again", "authority", r.config.Authority, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + mathrand.N(pause)):
		}
		pause = min(2*pause, maxPause)
	}
}

// UnacknowledgedUsage returns how many batches of usage counts no authority has acknowledged yet, and how old
// the oldest decision in them may be: 0 when there are none.
func (r *Reporter) UnacknowledgedUsage() (batches int, age time.Duration) {
	return r.handover.unacknowledged()
}

// Leave hands the last usage counts over, and tells an authority that the validator has stopped for good, so
// that no receipt waits for it. Call it after Run has returned, and after the last decision. It tries each
// once: an authority that it does not reach lists the validator as lost.
func (r *Reporter) Leave(storeID string) {
	if r.handover.ends(storeID) {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		if err := r.flush(ctx, storeID); err != nil {
			r.config.Log.Info("the latest usage counts could not be handed over; reports will call them incomplete", "error", err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	err := r.call(ctx, func(stream reportStream) error {
		hello := r.hello(storeID)
		hello.Leaving, hello.UsageProgress = true, r.handover.progress()
		if err := stream.Send(hello); err != nil {
			return err
		}
		for {
			if _, err := stream.Recv(); err != nil {
				return err
			}
		}
	})
	if err != nil && !errors.Is(err, errEnded) {
		r.config.Log.Info("no authority has heard that this validator leaves; it will be listed as lost", "error", err)
	}
}
