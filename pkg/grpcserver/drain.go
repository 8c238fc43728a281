package grpcserver

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// cutGrace is how long cut calls get to end. It is longer than connectionTimeout: a connection in its
// handshake is not cut, it ends at that timeout.
const cutGrace = connectionTimeout + time.Second

// DefaultDrainTimeout is the Drain.Timeout of a configuration that sets none.
const DefaultDrainTimeout = 10 * time.Second

// Drain configures how a server ends once its context is done:
//
//  1. Its health changes to not serving. It still serves new calls for Delay.
//  2. It rejects new calls, and lets calls in flight go on for Timeout.
//  3. It cuts the calls that are left, and waits up to 6 s until they have ended.
//
// Kubernetes by default grants 30 s for all of this and for whatever else the process has to end
// (terminationGracePeriodSeconds).
type Drain struct {
	// Delay lets load balancers see the change of health before the server rejects calls. 0 means none.
	Delay time.Duration
	// Timeout bounds the calls in flight. 0 means DefaultDrainTimeout.
	Timeout time.Duration
}

func (d Drain) withDefaults() (Drain, error) {
	if d.Delay < 0 || d.Timeout < 0 {
		return d, errors.New("drain delay and drain timeout must not be negative")
	}
	if d.Timeout == 0 {
		d.Timeout = DefaultDrainTimeout
	}
	return d, nil
}

// end runs graceful, which must return when no call is in flight. After Timeout it runs cut, which must
// make graceful return. It returns an error when graceful still runs cutGrace later.
func (d Drain) end(logger *slog.Logger, graceful, cut func()) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		graceful()
	}()
	if closesWithin(d.Timeout, ended) {
		return nil
	}
	logger.Warn("drain timed out, cutting the calls in flight", "timeout", d.Timeout)
	wasCut := make(chan struct{})
	go func() {
		defer close(wasCut)
		cut()
		<-ended
	}()
	if closesWithin(cutGrace, wasCut) {
		return nil
	}
	return fmt.Errorf("a call still runs %s after it was cut, and is left running", cutGrace)
}

// closesWithin waits up to the limit for the channel to be closed, and reports whether it was.
func closesWithin(limit time.Duration, closed <-chan struct{}) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-closed:
		return true
	case <-timer.C:
		return false
	}
}
