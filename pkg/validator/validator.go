// Package validator decides whether to accept requests. It keeps all policies of a store in memory, and
// applies every change of the store. A Go program that embeds a Validator needs no validator service; the
// service is built on this package.
//
// Make a Validator with New, start it with Run, and call Authorize once WaitReady has returned.
//
// This package is part of the public API: `make api` fails when a change would break programs that use it.
package validator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/usage"
)

// MaxCatchUp is the longest time for which Authorize waits for a request's MinRevision (B25).
const MaxCatchUp = 5 * time.Second

// Config configures a Validator. RedisURL, Ring and Log are required.
type Config struct {
	// RedisURL is the address of the store: redis:// or rediss:// for one server. docs/deployment.md
	// describes the forms for Sentinel and Cluster.
	RedisURL string
	// WriteQuorum is how many Redis replicas a master must have. Data that is read from a master with fewer
	// replicas does not count as fresh. 0 means that a master needs none.
	WriteQuorum int
	// Ring has the keys with which the store's records are signed.
	Ring *keyring.Ring
	// Log gets the validator's log lines. They hold no secrets.
	Log *slog.Logger
	// MaxStaleness has one bound for each scope. Authorize returns UNAVAILABLE for a scope when its data is
	// older than the bound (B20). 0 means no bound.
	MaxStaleness [policy.MaxScope + 1]time.Duration
	// Snapshot says where the validator keeps a copy of all policies, so that it can start while Redis is
	// down. The zero value means nowhere.
	Snapshot SnapshotFile
	// Fleet says to which authority the validator reports. With the zero value it reports to none.
	Fleet Fleet
	// WallClock returns the time of day, for tests. Nil means the machine's clock.
	WallClock func() time.Time
}

// Validator decides about requests from data in memory. Make one with New and start it with Run. It is safe
// for concurrent use.
type Validator struct {
	config  Config
	clock   replica.WallClock
	client  *redisfeed.Client
	replica atomic.Pointer[replica.Replica] // nil until the store or a snapshot was found
	found   chan struct{}                   // closed when replica is set
	// replaced is closed when the replica loaded from Redis has replaced the replica of the snapshot file.
	replaced chan struct{}
	snapshot snapshotState
	fleet    membership
	// stickyDenials is the result of StickyDenials.
	stickyDenials atomic.Uint64
	usage         usage.Counter
	uncounted     bool // see inside.StopCounting
}

// New returns a validator without data. It opens no connection. It fails when the configuration is wrong.
func New(config Config) (*Validator, error) {
	client, err := redisfeed.Open(config.RedisURL, redisfeed.Options{WriteQuorum: config.WriteQuorum})
	if err != nil {
		return nil, err
	}
	v := &Validator{
		config: config, clock: config.WallClock, client: client, found: make(chan struct{}), replaced: make(chan struct{}),
	}
	return v, v.fleet.open(config, &v.usage)
}

// Run finds the store, loads it, and applies its changes until ctx ends. The end of ctx is not an error. Run
// may be called once. With a snapshot file, the validator decides from the file while Redis does not answer,
// and Run writes the file a last time before it returns. After Run, a validator that reports to an authority
// answers no questions.
func (v *Validator) Run(ctx context.Context) error {
	defer v.client.Close()
	defer v.leave()
	defer v.leaveSnapshot()
	if r := v.fromSnapshot(); r != nil {
		if !v.followUnlessForeign(ctx, r) {
			return nil
		}
	}
	meta, err := v.client.AwaitMeta(ctx, v.config.Ring, v.config.Log)
	if err != nil {
		return nil // ctx has ended
	}
	r := v.newReplica(meta)
	if v.replica.Load() == nil {
		v.show(r)
		return v.follow(ctx, r)
	}
	// The replica of the snapshot decides until the store has been loaded completely.
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return v.follow(ctx, r) })
	group.Go(func() error {
		if r.WaitLoaded(ctx) == nil {
			v.replica.Store(r)
			close(v.replaced)
		}
		return nil
	})
	return group.Wait()
}

func (v *Validator) newReplica(meta record.Meta) *replica.Replica {
	r := replica.New(redisfeed.New(v.client, meta.Partitions), record.NewCodec(v.config.Ring, meta), v.config.Log)
	r.SetWallClock(v.clock)
	return r
}

// show makes a replica the first replica that decides.
func (v *Validator) show(r *replica.Replica) {
	v.replica.Store(r)
	close(v.found)
}

// follow keeps a replica equal to the store until ctx ends.
func (v *Validator) follow(ctx context.Context, r *replica.Replica) error {
	following, stop := context.WithCancel(ctx)
	group, _ := errgroup.WithContext(following)
	group.Go(func() error {
		defer stop()
		v.fleet.awaitFloor(ctx)
		return r.Run(ctx)
	})
	group.Go(func() error { v.keepSnapshot(following, r); return nil })
	group.Go(func() error {
		v.fleet.report(following, r, func() bool { return v.replica.Load() == r })
		return nil
	})
	return group.Wait()
}

// followUnlessForeign decides from the replica of a snapshot file, and keeps it equal to the store. It
// returns true when Redis holds another store than the file, and false when ctx has ended.
func (v *Validator) followUnlessForeign(ctx context.Context, r *replica.Replica) (foreign bool) {
	ours, cancel := context.WithCancel(ctx)
	defer cancel()
	v.show(r)
	var group errgroup.Group
	group.Go(func() error { return v.follow(ours, r) })
	group.Go(func() error {
		meta, err := v.client.AwaitMeta(ours, v.config.Ring, v.config.Log)
		if err == nil && (meta.StoreID != r.Codec().StoreID() || meta.Partitions != r.Codec().Partitions()) {
			foreign = true
			v.snapshot.unusable(v.config.Log, fmt.Errorf("it is of store %s, Redis has store %s", r.Codec().StoreID(), meta.StoreID))
			cancel()
		}
		return nil
	})
	_ = group.Wait()
	return foreign
}

// Ready returns nil when the validator has loaded all data. Before, it returns an error that says what is
// missing. A validator stays ready when the store becomes unreachable.
func (v *Validator) Ready() error {
	r := v.replica.Load()
	if r == nil {
		return errors.New("the policies are not loaded yet: no store was found")
	}
	return r.Unloaded()
}

// DataAge returns the age of the oldest partition: the time since its data was last known to be complete. It
// is 0 until all partitions are loaded.
func (v *Validator) DataAge() time.Duration {
	age, _ := v.Freshness()
	return age
}

// Freshness returns DataAge, and whether the data of any partition is stale. Data is stale when it is not
// loaded, older than 2 s, or of an unknown age because the machine's clock was set.
func (v *Validator) Freshness() (oldest time.Duration, stale bool) {
	r := v.replica.Load()
	if r == nil || !r.Loaded() {
		return 0, true
	}
	now := time.Now()
	for i := range r.Table().Len() {
		age, old := r.Freshness(i, now)
		oldest, stale = max(oldest, age), stale || old
	}
	return oldest, stale
}

// WaitReady returns nil when the validator has loaded all data, or the error of ctx if that ends first.
func (v *Validator) WaitReady(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-v.found:
	}
	first, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-first.Done():
		case <-v.replaced:
		}
	}()
	if v.replica.Load().WaitLoaded(first) == nil {
		return nil
	}
	return v.replica.Load().WaitLoaded(ctx)
}

// Request is one question: may this request pass?
type Request struct {
	// AppID is the app that the request is for: 1 to 64 characters of A-Z a-z 0-9 - _.
	AppID string
	// Token is the secret that the request carried. The zero value or an empty secret means none.
	Token secret.Secret
	// Scope is the endpoint that was called, from 1 to policy.MaxScope. The numbers are the same as in
	// countersign.v1.Scope.
	Scope policy.Scope
	// Source is the kind of sender. The zero value means an ordinary backend.
	Source policy.Source
	// MinRevision is a consistency token that stands for a change. Authorize waits until the validator has
	// this change, at most MaxCatchUp. With an empty MinRevision it decides at once.
	MinRevision string
}

// Answer is the answer to one question.
type Answer struct {
	policy.Decision
	// Revision is a revision of the app's partition. The decision reflects all changes up to it.
	Revision uint64
	// DataAge is the time since the app's data was last known to be complete.
	DataAge time.Duration
}

// Authorize answers a question (B19). An error is never a denial. Its gRPC status is INVALID_ARGUMENT for a
// malformed request, and UNAVAILABLE when the validator cannot decide (B20). client.Reason returns the stable
// reason of the error. Authorize waits only for a MinRevision, and uses ctx only for this wait.
func (v *Validator) Authorize(ctx context.Context, request Request) (Answer, error) {
	if !policy.ValidAppID(request.AppID) {
		return Answer{}, errBadAppID
	}
	if request.Scope == 0 || request.Scope > policy.MaxScope {
		return Answer{}, errBadScope
	}
	r := v.replica.Load()
	var least uint64
	if request.MinRevision != "" {
		var err error
		if least, err = reach(ctx, r, request); err != nil {
			return Answer{}, err
		}
	}
	if r == nil {
		return Answer{}, errNotLoaded
	}
	// Work that needs no policy is done while the processor fetches the policy from memory.
	place := r.Table().Locate(request.AppID)
	claim := policy.ClaimOf(request.Token)
	r.Table().Fetch(place)
	var spot, bare usage.Spot
	if !v.uncounted {
		spot, bare = usage.SpotOf(place.Hash(), claim.Hash()), usage.SpotOf(place.Hash(), 0)
		v.usage.Fetch(spot)
		v.usage.Fetch(bare)
	}
	now := time.Now()
	// Read the age before the data. In the other order the age could belong to newer data, and be too low.
	age := r.Age(place.Partition, now)
	view := r.Table().FindAt(place, request.AppID)
	if !view.Loaded {
		return Answer{}, errNotLoaded
	}
	answer := Answer{Revision: view.Revision, DataAge: age}
	var decides policy.Policy
	var p *policy.Policy
	if row := &view.Row; row.Known() {
		var has bool
		if decides, has = row.Policy(); !has || row.Behind() && row.PolicyRevision() < least {
			return Answer{}, errUnverified
		}
		if row.Behind() {
			// The last good policy still decides. The answer has its revision and its age, so that it does
			// not look newer.
			answer.Revision, answer.DataAge = row.PolicyRevision(), max(age, v.clock.Since(row.Since(), now))
		}
		p = &decides
	} else if view.Missing {
		return Answer{}, errUnverified // the store has lost the app's policy, so the app does not count as not configured
	}
	if bound := v.config.MaxStaleness[request.Scope]; bound > 0 && answer.DataAge > bound {
		return Answer{}, errTooOld
	}
	nowMillis := v.clock.At(now).UnixMilli()
	answer.Decision = policy.DecideClaim(
		p, policy.Request{Scope: request.Scope, Source: request.Source, NowMillis: nowMillis}, &claim,
	)
	if answer.TokenID == "" {
		spot = bare
	}
	if !v.uncounted {
		v.usage.Count(nowMillis, spot, request.AppID, request.Scope, answer.Decision)
	}
	if answer.Reason == policy.TokenRevoked && !answer.Allow && view.Row.Kept() &&
		r.KeptRevoked(view.Partition, request.AppID, request.Token.Digest()) {
		v.stickyDenials.Add(1)
	}
	return answer, nil
}

// StickyDenials returns how many requests were denied because of a token that is revoked in the validator's
// memory although it is not revoked in the store.
func (v *Validator) StickyDenials() uint64 { return v.stickyDenials.Load() }

var (
	errBadAppID = apierr.Invalid("app_id", "want 1 to %d characters of A-Z a-z 0-9 - _", policy.MaxAppIDLength)
	errBadScope = apierr.Invalid("scope", "want a scope, not unspecified or unknown")
	// These errors have no cause, because causes are logged, and anyone can trigger them at any rate.
	errBadRevision   = apierr.Invalid("min_revision", "want a consistency token")
	errOtherRevision = apierr.Invalid("min_revision", "want a consistency token of the same app")

	errNotLoaded  = apierr.Unavailable(apierr.NotLoaded, "this validator has not loaded the policies yet")
	errTooOld     = apierr.Unavailable(apierr.DataTooOld, "the data is older than is allowed for this scope")
	errUnverified = apierr.Unavailable(apierr.PolicyUnverified, "the app's policy could not be verified")
)

// reach waits until the validator has the change that the request's MinRevision names, and returns its
// revision (B25).
func reach(ctx context.Context, r *replica.Replica, request Request) (uint64, error) {
	position, err := record.DecodePosition(request.MinRevision)
	if err != nil {
		return 0, errBadRevision
	}
	if r == nil {
		return 0, errNotLoaded
	}
	codec := r.Codec()
	if position.StoreID != codec.StoreID() || position.Partition != codec.PartitionOf(request.AppID) {
		return 0, errOtherRevision
	}
	ctx, cancel := context.WithTimeout(ctx, MaxCatchUp)
	defer cancel()
	switch err := r.Reach(ctx, position.Partition, position.Cursor); {
	case errors.Is(err, replica.ErrLost):
		return 0, apierr.Unavailable(apierr.RevisionLost, "the change that min_revision names is not in the store's past")
	case err != nil:
		return 0, apierr.Unavailable(apierr.RevisionNotReached, "the change that min_revision names did not arrive in time")
	}
	return position.Revision, nil
}
