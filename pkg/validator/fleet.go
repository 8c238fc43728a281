package validator

import (
	"context"
	"sync"
	"time"

	"github.com/countersign/countersign/pkg/grpcclient"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/secret"
	"github.com/countersign/countersign/pkg/usage"
	"github.com/countersign/countersign/pkg/validator/internal/fleet"
)

// maxFloorWait is how long a validator waits for the floor from its authority before it loads the store
// without a floor. The floor is the least positions that the store must have.
const maxFloorWait = 5 * time.Second

// maxPendingWait is how long a validator waits while its authority says that the floor is pending. After its
// own start, an authority collects reports for 10 s before it knows the floor. The wait is longer than this.
// So no validator accepts an old copy of the store, even after a restart of all processes.
const maxPendingWait = 15 * time.Second

// Fleet says to which authority a validator reports, and under which name. With the zero value it reports to
// none.
type Fleet struct {
	// Authority is the address of the authority's gRPC server. Empty means that the validator does not
	// report.
	Authority grpcclient.Address
	// Security says whether the connection is encrypted. The zero value means TLS, and plain text on
	// loopback.
	Security grpcclient.Security
	// Key is the admin key with which the validator reports. It must have the role validator. With the zero
	// value no key is sent.
	Key secret.Secret
	// CurrentKey returns the key for the next connection. It is for keys that change while the validator
	// runs. If it is nil, Key is used for all connections.
	CurrentKey func() secret.Secret
	// ID is the validator's name. It must be unique in the fleet; see CheckID.
	ID string
}

// CheckID returns nil for a valid name of a validator, and otherwise an error that describes valid names.
func CheckID(id string) error { return fleet.CheckID(id) }

// membership connects a validator to the fleet. The zero value belongs to no fleet.
type membership struct {
	reporter *fleet.Reporter // nil without an authority
	welcome  chan struct{}   // closed when the first floor has arrived
	once     sync.Once
}

// open makes the reporter if an authority is configured.
func (m *membership) open(c Config, counter *usage.Counter) (err error) {
	if c.Fleet.Authority == "" {
		return nil
	}
	m.welcome = make(chan struct{})
	m.reporter, err = fleet.New(fleet.Config{
		Authority: c.Fleet.Authority, Security: c.Fleet.Security, Key: c.Fleet.Key, CurrentKey: c.Fleet.CurrentKey, ID: c.Fleet.ID,
		FencedAfter: fleet.FencedAfter(c.MaxStaleness), KeyIDs: c.Ring.IDs(), Log: c.Log, WallClock: c.WallClock,
		Usage: counter,
	})
	return err
}

// report reports the state of a replica until ctx ends, whenever decides returns true.
func (m *membership) report(ctx context.Context, r *replica.Replica, decides func() bool) {
	if m.reporter != nil {
		m.reporter.Run(ctx, r, decides, func() { m.once.Do(func() { close(m.welcome) }) })
	}
}

// awaitFloor waits until the floor has arrived, or until it is not expected to arrive soon.
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

// leave makes the validator answer no more questions, and then hands over its last usage counts and tells the
// authority that it leaves. So no receipt waits for this validator.
func (v *Validator) leave() {
	r := v.replica.Load()
	if v.fleet.reporter == nil || r == nil {
		return
	}
	v.replica.Store(replica.New(nil, r.Codec(), v.config.Log)) // an empty replica that is never run
	v.fleet.reporter.Leave(r.Codec().StoreID())
}

// Reporting reports whether an authority receives the validator's reports now.
func (v *Validator) Reporting() bool { return v.fleet.reporter != nil && v.fleet.reporter.Connected() }

// IDTaken reports whether authorities reject the validator's reports because a validator that was started
// later uses the same name.
func (v *Validator) IDTaken() bool { return v.fleet.reporter != nil && v.fleet.reporter.IDTaken() }

// ClockSkew returns how far the validator's clock is ahead of its authority's clock. It is negative when the
// validator's clock is behind. known is false without a recent measurement.
func (v *Validator) ClockSkew() (ahead time.Duration, known bool) {
	if v.fleet.reporter == nil {
		return 0, false
	}
	return v.fleet.reporter.ClockSkew()
}

// FloorVerified reports whether the validator has received a floor: the least positions that the store must
// have. Without a floor it cannot tell a complete old copy of the store from the current store.
func (v *Validator) FloorVerified() bool {
	return v.fleet.reporter != nil && v.fleet.reporter.FloorVerified()
}
