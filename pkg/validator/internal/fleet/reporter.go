// Package fleet is a validator's side of the fleet: it tells an authority what the validator holds, every
// second and within milliseconds of a change, hands over the signed links that it is asked for, and brings
// back the floor. This package is not part of the public API and may change in any release.
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
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

const (
	// Interval is how often a validator reports when nothing changes.
	Interval = time.Second
	// coalesce is the least time between two reports: a burst of changes is one.
	coalesce = 2 * time.Millisecond
	// silence is how long an authority may not answer before the connection is given up. Each report of an
	// Interval is answered at once, so this finds what grpc's own keepalive, with its least interval of 10
	// s, is slow to find.
	silence = 3 * time.Second
	// minPause and maxPause are the mean pauses before the connection is made anew, each off by up to a
	// half: an authority that is started again is not overrun.
	minPause = 100 * time.Millisecond
	maxPause = 750 * time.Millisecond
	// patience is how many tries in a row fail before that is worth a word: one authority is restarted,
	// another takes over.
	patience = 3
	// leaveTimeout bounds the farewell.
	leaveTimeout = time.Second
	// MaxIDLength is the most characters that a validator's name may have.
	MaxIDLength = record.MaxValidatorIDLength
)

// Config says where a validator reports.
type Config struct {
	// Authority is the address of the authority; empty: nowhere.
	Authority grpcclient.Address
	Security  grpcclient.Security
	// Key is that of an identity of role validator; the zero value sends none.
	Key secret.Secret
	// CurrentKey returns the key as it is now, where that may change; nil: it is always Key.
	CurrentKey func() secret.Secret
	// ID is the validator's name, unique in the fleet; see CheckID.
	ID string
	// FencedAfter is the age of data past which the validator answers for no scope; 0 when there is no such
	// age. See FencedAfter.
	FencedAfter time.Duration
	// KeyIDs are those of the ring.
	KeyIDs []string
	Log    *slog.Logger
	// Dial opens a connection to an address that Authority stands for; nil is TCP, which keeps plain text
	// on this machine unless Security allows more.
	Dial func(ctx context.Context, resolved string) (net.Conn, error)
	// WallClock is the validator's clock of the time of day, for tests; nil is the machine's.
	WallClock replica.WallClock
}

// CheckID returns an error when a text cannot be a validator's name.
func CheckID(id string) error {
	if !record.ValidValidatorID(id) {
		return fmt.Errorf("want 1 to %d characters, no control, zero-width or bidirectional characters, "+
			"no white space at the ends", MaxIDLength)
	}
	return nil
}

// FencedAfter returns the age of data past which no scope is answered for, by the bounds of the scopes,
// where 0 is none; 0 when a scope of the contract has none.
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

// Reporter reports one validator. Make one with New. Its methods are safe for concurrent use, but only one
// Run at a time.
type Reporter struct {
	config   Config
	dialing  []grpc.DialOption // beside what secures a connection
	secured  atomic.Pointer[credentials.TransportCredentials]
	instance string
	start    time.Time
	sequence atomic.Uint64

	// running is when the reporter was made, by the monotonic clock; heartbeat is the latest report that is
	// answered.
	running   time.Time
	heartbeat atomic.Pointer[heartbeat]
	skew      atomic.Pointer[time.Duration] // nil: not known
	alarm     clockskew.Alarm               // belongs to the session that receives

	connected atomic.Bool
	verified  atomic.Bool
	pending   atomic.Bool
	idTaken   atomic.Bool
	reports   atomic.Uint64
}

// New checks the configuration. Nothing is sent before Run.
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
	r.secured.Store(&transport)
	r.dialing = []grpc.DialOption{
		grpc.WithContextDialer(dial),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: silence}),
		// Several authorities behind one name share the validators.
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}`),
	}
	return r, nil
}

// options returns how the next connection is made: with the authorities that the file has now, and the key
// as it is now. Authorities that cannot be read change nothing.
func (r *Reporter) options() []grpc.DialOption {
	if transport, err := r.config.Security.Credentials(r.config.Authority); err == nil {
		r.secured.Store(&transport)
	} else {
		r.config.Log.Warn("the authorities to check the authority's certificate against stay as they were", "error", err)
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

// Connected tells whether an authority hears the validator now.
func (r *Reporter) Connected() bool { return r.connected.Load() }

// FloorVerified tells whether the validator has learnt from an authority how far the store must be at
// least. Without, a complete old copy of the store cannot be told from the store.
func (r *Reporter) FloorVerified() bool { return r.verified.Load() }

// FloorPending tells whether the authority that hears the validator is about to tell the floor: it was just
// started itself, and waits for other validators to report.
func (r *Reporter) FloorPending() bool { return r.pending.Load() }

// IDTaken tells whether no authority hears the validator because another one that was started later has its
// name.
func (r *Reporter) IDTaken() bool { return r.idTaken.Load() }

// Reports returns how many reports were sent.
func (r *Reporter) Reports() uint64 { return r.reports.Load() }

// Run reports what a replica holds until ctx ends, through whatever happens to the connection. How far it
// is it reports only while decides tells that it is the one from which the validator answers: a receipt is
// of that. It calls welcomed each time that an authority has told the floor, after the replica was told.
func (r *Reporter) Run(ctx context.Context, of *replica.Replica, decides func() bool, welcomed func()) {
	said, pause, failures := "", minPause, 0
	for {
		err := r.session(ctx, of, decides, func() {
			if said != "" {
				r.config.Log.Info("the authority hears this validator again", "authority", r.config.Authority)
			}
			said, pause, failures = "", minPause, 0
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
		case taken && said != apierr.ValidatorIDTaken:
			// It does not pass by itself, so it is said at once.
			said = apierr.ValidatorIDTaken
			r.config.Log.Error("another validator that was started later has this one's id: no authority hears this one, "+
				"and no receipt waits for it; give each a --validator-id of its own",
				"validator", r.config.ID, "authority", r.config.Authority)
		case !taken && failures >= patience && err != nil && said != err.Error():
			said = err.Error()
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

// Leave tells an authority that the validator has stopped answering for good, so that no receipt waits for
// it. It must be called after Run has returned, and does not insist: a validator that went without a word
// is listed as lost.
func (r *Reporter) Leave(storeID string) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	err := r.call(ctx, func(stream reportStream) error {
		hello := r.hello(storeID)
		hello.Leaving = true
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
