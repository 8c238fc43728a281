// Package validator is a validator without its network: it keeps every policy of a store in memory and decides. The
// service of the same name wraps it; a Go program can hold one of its own instead.
package validator

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/keyring"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
)

// MaxCatchUp is how long Authorize waits at most for the revision that a request asks for (B25).
const MaxCatchUp = 5 * time.Second

// Config is what a validator needs. All fields are required.
type Config struct {
	// RedisURL is where the store is: redis://[user:password@]host:port/db or rediss://.
	RedisURL string
	// Ring verifies the store's records.
	Ring *keyring.Ring
	Log  *slog.Logger
}

// Validator decides about requests from memory. Make one with New, start it with Run. All methods are safe for
// concurrent use.
type Validator struct {
	config  Config
	client  *redisfeed.Client
	replica atomic.Pointer[replica.Replica] // nil until the store was found
	found   chan struct{}                   // closed when replica is set
}

// New returns a validator that holds nothing yet. It fails when the URL does not parse.
func New(config Config) (*Validator, error) {
	client, err := redisfeed.Open(config.RedisURL)
	if err != nil {
		return nil, err
	}
	return &Validator{config: config, client: client, found: make(chan struct{})}, nil
}

// Run finds the store, loads it and follows it until ctx ends, which is not an error. It may be called once.
func (v *Validator) Run(ctx context.Context) error {
	defer v.client.Close()
	meta, err := v.client.AwaitMeta(ctx, v.config.Ring, v.config.Log)
	if err != nil {
		return nil // only the end of ctx ends the search
	}
	r := replica.New(redisfeed.New(v.client, meta.Partitions), record.NewCodec(v.config.Ring, meta), v.config.Log)
	v.replica.Store(r)
	close(v.found)
	return r.Run(ctx)
}

// Ready returns nil once the validator has all data. It stays ready when the store goes away.
func (v *Validator) Ready() error {
	if r := v.replica.Load(); r == nil || !r.Loaded() {
		return errors.New("the policies are not loaded yet")
	}
	return nil
}

// DataAge returns how long ago the oldest partition was last known to be complete; 0 until all are loaded.
func (v *Validator) DataAge() time.Duration {
	r := v.replica.Load()
	if r == nil || !r.Loaded() {
		return 0
	}
	var oldest time.Duration
	now := time.Now()
	for i := range r.Table().Len() {
		oldest = max(oldest, r.Age(i, now))
	}
	return oldest
}

// WaitReady returns when the validator has all data, or an error when the context ends first.
func (v *Validator) WaitReady(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-v.found:
		return v.replica.Load().WaitLoaded(ctx)
	}
}

// Request is one question.
type Request struct {
	// AppID is the app; see policy.ValidAppID.
	AppID string
	// Token is the secret that the request carried; the zero value, or an empty one, is none.
	Token secret.Secret
	// Scope is the endpoint, from 1 to policy.MaxScope.
	Scope policy.Scope
	// Source is what sent the request.
	Source policy.Source
	// MinRevision is a consistency token; empty to decide at once.
	MinRevision string
}

// Answer is the answer to one question.
type Answer struct {
	policy.Decision
	// Revision is one of the app's partition: every change up to it was taken into account.
	Revision uint64
	// DataAge is how long ago the data was last known to be complete.
	DataAge time.Duration
}

// Authorize answers a question (B19). An error is never a denial: it is an *apierr.Error with INVALID_ARGUMENT for a
// malformed request, or UNAVAILABLE when nothing can be decided (B20). It waits for nothing but MinRevision.
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
	// The age is read before the data, so that it is never that of newer data.
	now := time.Now()
	place := r.Table().Locate(request.AppID)
	age := r.Age(place.Partition, now)
	view := r.Table().FindAt(place, request.AppID)
	if !view.Loaded {
		return Answer{}, errNotLoaded
	}
	answer := Answer{Revision: view.Revision, DataAge: age}
	var p *policy.Policy
	if entry := view.Entry; entry != nil {
		p = entry.Policy
		if p == nil || entry.Behind() && entry.PolicyRevision < least {
			return Answer{}, errUnverified
		}
		if entry.Behind() {
			// The last good policy goes on deciding, but must not pass for a newer one.
			answer.Revision, answer.DataAge = entry.PolicyRevision, max(age, now.Sub(entry.Since))
		}
	}
	answer.Decision = policy.Decide(p, policy.Request{
		Token: request.Token, Scope: request.Scope, Source: request.Source, NowMillis: now.UnixMilli(),
	})
	return answer, nil
}

var (
	errBadAppID   = apierr.Invalid("app_id", "want 1 to %d characters of A-Z a-z 0-9 - _", policy.MaxAppIDLength)
	errBadScope   = apierr.Invalid("scope", "want a scope, not unspecified or unknown")
	errNotLoaded  = apierr.Unavailable(apierr.NotLoaded, "this validator has not loaded the policies yet")
	errUnverified = apierr.Unavailable(apierr.PolicyUnverified, "the app's policy could not be verified")
)

// reach makes sure that the data is as new as the request asks, and returns the revision that it asks for (B25).
func reach(ctx context.Context, r *replica.Replica, request Request) (uint64, error) {
	position, err := record.DecodePosition(request.MinRevision)
	if err != nil {
		return 0, apierr.Invalid("min_revision", "want a consistency token").Because(err)
	}
	if r == nil {
		return 0, errNotLoaded
	}
	codec := r.Codec()
	if position.StoreID != codec.StoreID() || position.Partition != codec.PartitionOf(request.AppID) {
		return 0, apierr.Invalid("min_revision", "want a consistency token of the same app")
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
