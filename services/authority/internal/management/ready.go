package management

import (
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/replica"
)

// outOfReach is the age of the latest good read of the store from which on this authority is not ready. A
// call waits 6 s for a failover of Redis (see package store), so an outage that most calls survive does not
// change readiness.
const outOfReach = 10 * time.Second

// Ready returns nil while calls can be answered: the store was loaded, and the apps of at least one partition
// can be read and changed. A partition that cannot be loaded affects its own apps only; see Trouble.
// Otherwise the error says for people why every call about an app is UNAVAILABLE.
func (s *Service) Ready() error {
	opened := s.open.Load()
	switch {
	case opened == nil:
		return errors.New("the store was not found yet: Redis does not answer, or holds no store of this key ring; the log " +
			"says which")
	case !opened.Replica().Tried():
		return notLoaded(opened.Replica())
	}
	return reachable(opened.Replica(), time.Now())
}

// notLoaded returns what is missing; it is never nil.
func notLoaded(r *replica.Replica) error {
	if err := r.Unloaded(); err != nil {
		return err
	}
	return errors.New("the store was loaded this moment")
}

// reachable returns why no app can be served although the store was loaded.
func reachable(r *replica.Replica, now time.Time) error {
	switch age, some := r.LeastAge(now); {
	case !some:
		return errors.New("the store was restored or adopted, and is not healed yet; no app is served until it is")
	case age > outOfReach:
		return fmt.Errorf("the store was last read %s ago: Redis does not answer, or has lost changes that this authority knows; "+
			"no app is served until it can be read",
			age.Round(time.Second))
	}
	return nil
}
