package validator

import (
	"context"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/validator/internal/fleet"
)

// maxFloorWait is how long a validator waits for the floor from an authority before it loads the store
// without one.
const maxFloorWait = 5 * time.Second

// maxPendingWait is how long a validator waits while its authority says that the floor is pending. It is
// longer than the 10 s for which an authority collects reports after its own start, so that even after a
// restart of everything no old copy of the store is accepted.
const maxPendingWait = 15 * time.Second

// Fleet says to which authority a validator reports, and as which validator. The zero value reports nowhere.
type Fleet struct {
	// Authority is the address of the authority's gRPC server. Empty means that the validator reports
	// nowhere.
	Authority grpcclient.Address
	// Security says whether the connection is encrypted. The zero value uses TLS, except on loopback.
	Security grpcclient.Security
	// Key is the admin key, of role validator, that reports carry. The zero value sends no key.
	Key secret.Secret
	// CurrentKey returns the key for the next connection, for keys that change. Nil means that Key stays
	// valid.
	CurrentKey func() secret.Secret
	// ID is the validator's name. It must be unique in the fleet; see CheckID.
	ID string
}

// CheckID returns an error that describes what a validator's name must look like, or nil for a valid name.
func CheckID(id string) error { return fleet.CheckID(id) }

// membership is a validator's part in the fleet. The zero value belongs to no fleet.
type membership struct {
	reporter *fleet.Reporter // nil without an authority
	welcome  chan struct{}   // closed when the first floor has arrived
	once     sync.Once
}

// open makes the reporter, if an authority is configured.
func (m *membership) open(c Config) (err error) {
	if c.Fleet.Authority == "" {
		return nil
	}
	m.welcome = make(chan struct{})
	m.reporter, err = fleet.New(fleet.Config{
		Authority: c.Fleet.Authority, Security: c.Fleet.Security, Key: c.Fleet.Key, CurrentKey: c.Fleet.CurrentKey, ID: c.Fleet.ID,
		FencedAfter: fleet.FencedAfter(c.MaxStaleness), KeyIDs: c.Ring.IDs(), Log: c.Log, WallClock: c.WallClock,
	})
	return err
}

// report reports the state of a replica until ctx ends, whenever decides returns true.
func (m *membership) report(ctx context.Context, r *replica.Replica, decides func() bool) {
	if m.reporter != nil {
		m.reporter.Run(ctx, r, decides, func() { m.once.Do(func() { close(m.welcome) }) })
	}
}

// awaitFloor returns when the floor has arrived, or when it is not expected to arrive soon.
func (m *membership) awaitFloor(ctx context.Context) {
	if m.reporter == nil {
		return
	}
	began := time.Now()
	for wait := maxFloorWait; ; wait = pendingPause {
		select {
		case <-ctx.Done():
			return
		case <-m.welcome:
			return
		case <-time.After(wait):
		}
		if !m.reporter.FloorPending() || time.Since(began) > maxPendingWait {
			return
		}
	}
}

// pendingPause is how often a validator checks, after maxFloorWait, whether the floor is still pending.
const pendingPause = 250 * time.Millisecond

// leave stops answering and tells the authority, so that no receipt waits for this validator.
func (v *Validator) leave() {
	r := v.replica.Load()
	if v.fleet.reporter == nil || r == nil {
		return
	}
	v.replica.Store(replica.New(nil, r.Codec(), v.config.Log)) // an empty replica that is never run
	v.fleet.reporter.Leave(r.Codec().StoreID())
}

// Reporting tells whether an authority receives the validator's reports now.
func (v *Validator) Reporting() bool { return v.fleet.reporter != nil && v.fleet.reporter.Connected() }

// IDTaken tells whether authorities reject the validator's reports because a validator that was started
// later has the same name.
func (v *Validator) IDTaken() bool { return v.fleet.reporter != nil && v.fleet.reporter.IDTaken() }

// ClockSkew returns how far the validator's time of day is ahead of its authority's. known is false without
// a recent measurement.
func (v *Validator) ClockSkew() (ahead time.Duration, known bool) {
	if v.fleet.reporter == nil {
		return 0, false
	}
	return v.fleet.reporter.ClockSkew()
}

// FloorVerified tells whether the validator has received a floor: the least positions that the store must
// have. Without a floor it cannot distinguish a complete old copy of the store from the store.
func (v *Validator) FloorVerified() bool {
	return v.fleet.reporter != nil && v.fleet.reporter.FloorVerified()
}
