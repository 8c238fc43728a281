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

// maxFloorWait is how long a validator waits for an authority to tell how far the store must be at least,
// before it loads what is there.
const maxFloorWait = 5 * time.Second

// maxPendingWait is how long it waits while the authority that it reports to says that it is about to tell:
// longer than the 10 s for which that authority waits for others at its own start. A restart of everything
// is no reason to believe an old copy.
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

// membership is a validator's part in the fleet; the zero value has none.
type membership struct {
	reporter *fleet.Reporter // nil: nowhere to report
	welcome  chan struct{}   // closed when the floor was first told
	once     sync.Once
}

// open makes the reporter, if there is somewhere to report.
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

// report reports what a replica holds until ctx ends, while it is the one that decides.
func (m *membership) report(ctx context.Context, r *replica.Replica, decides func() bool) {
	if m.reporter != nil {
		m.reporter.Run(ctx, r, decides, func() { m.once.Do(func() { close(m.welcome) }) })
	}
}

// awaitFloor returns when an authority has told the floor, or none is in reach.
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

// pendingPause is how often a validator that has waited for maxFloorWait looks whether the authority still
// is about to tell.
const pendingPause = 250 * time.Millisecond

// leave stops answering, and says so: a validator that has left is in no receipt.
func (v *Validator) leave() {
	r := v.replica.Load()
	if v.fleet.reporter == nil || r == nil {
		return
	}
	v.replica.Store(replica.New(nil, r.Codec(), v.config.Log)) // it holds nothing, and is not run
	v.fleet.reporter.Leave(r.Codec().StoreID())
}

// Reporting tells whether an authority hears the validator now.
func (v *Validator) Reporting() bool { return v.fleet.reporter != nil && v.fleet.reporter.Connected() }

// IDTaken tells whether no authority hears the validator because another one that was started later has its
// name.
func (v *Validator) IDTaken() bool { return v.fleet.reporter != nil && v.fleet.reporter.IDTaken() }

// ClockSkew returns how far the validator's time of day is ahead of its authority's; false while that is
// not known.
func (v *Validator) ClockSkew() (ahead time.Duration, known bool) {
	if v.fleet.reporter == nil {
		return 0, false
	}
	return v.fleet.reporter.ClockSkew()
}

// FloorVerified tells whether an authority has told the validator how far the store must be at least.
// Without, a complete old copy of the store cannot be told from the store.
func (v *Validator) FloorVerified() bool {
	return v.fleet.reporter != nil && v.fleet.reporter.FloorVerified()
}
