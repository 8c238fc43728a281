package grpcserver

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// cutGrace is how long what was cut may take to notice. It outlasts connectionTimeout, since a connection
// in its handshake is not cut but runs into that.
const cutGrace = connectionTimeout + time.Second

// DefaultDrainBound is the bound of a drain that names none.
const DefaultDrainBound = 10 * time.Second

// Drain says how a server ends once its context is done: it declares itself not serving, serves on for the
// settle time, then refuses what is new and gives what is in flight until the bound. What is cut then gets
// a few seconds to notice. Kubernetes grants 30 s to all of this and to whatever else the process has to
// end.
type Drain struct {
	// Settle is how long new calls are still served after health has changed, so that load balancers see
	// the change before they see a refusal. 0 means not at all.
	Settle time.Duration
	// Bound is how long calls in flight may go on after that; then they are cut. 0 means DefaultDrainBound.
	Bound time.Duration
}

func (d Drain) withDefaults() (Drain, error) {
	if d.Settle < 0 || d.Bound < 0 {
		return d, errors.New("settle time and drain bound must not be negative")
	}
	if d.Bound == 0 {
		d.Bound = DefaultDrainBound
	}
	return d, nil
}

// end runs graceful, which returns when nothing is in flight any more, and when that takes longer than the
// bound, cut, which must make graceful return. It returns an error if even then something went on.
func (d Drain) end(logger *slog.Logger, graceful, cut func()) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		graceful()
	}()
	if within(d.Bound, ended) {
		return nil
	}
	logger.Warn("drain took too long, cutting what is in flight", "bound", d.Bound)
	wasCut := make(chan struct{})
	go func() {
		defer close(wasCut)
		cut()
		<-ended
	}()
	if within(cutGrace, wasCut) {
		return nil
	}
	return fmt.Errorf("a call went on for %s after it was cut, and is left behind", cutGrace)
}

// within tells whether the channel was closed within the time.
func within(limit time.Duration, closed <-chan struct{}) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-closed:
		return true
	case <-timer.C:
		return false
	}
}
