package management

import (
	"errors"
	"fmt"
	"time"

	"github.com/countersign/countersign/pkg/replica"
)

// outOfReach is how long ago the latest good read of the store may be. A call waits 6 s for a Redis that
// fails over (see package store), so an outage that most calls survive changes no readiness.
const outOfReach = 10 * time.Second

// Ready returns nil while calls can be answered: once the store is loaded, and as long as the apps of at
// least one partition can be read and changed. A partition that cannot be loaded costs its own apps, not
// the readiness; Trouble names it. Otherwise the error says in words why every call about an app is
// UNAVAILABLE. It is nil again as soon as the store can be read again.
func (s *Service) Ready() error {
	opened := s.open.Load()
	switch {
	case opened == nil:
		return errors.New("the store was not found yet: Redis does not answer, or holds no store of this key ring; the log says which")
	case !opened.Replica().Tried():
		return notLoaded(opened.Replica())
	}
	return reachable(opened.Replica(), time.Now())
}

// notLoaded says what is missing; it is never nil.
func notLoaded(r *replica.Replica) error {
	if err := r.Unloaded(); err != nil {
		return err
	}
	return errors.New("the store was loaded this moment")
}

// reachable returns why no app can be served, though the store was loaded.
func reachable(r *replica.Replica, now time.Time) error {
	switch age, some := r.LeastAge(now); {
	case !some:
		return errors.New("the store was restored, or taken as it is, and is not healed yet; no app is served until it is")
	case age > outOfReach:
		return fmt.Errorf("the store was last read %s ago: Redis does not answer, or has lost what this authority knows of; no app is served until that is over",
			age.Round(time.Second))
	}
	return nil
}
