package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
)

// messageTimeout is how long a unary call may take from its header to the end of its message, and a stream
// from the length of a message to its end. The largest message, of 5 MiB, takes that long at 4 Mbit/s.
const messageTimeout = 10 * time.Second

var (
	// errAbandoned is returned by readUntil when its context ends before the read does.
	errAbandoned = errors.New("the read was abandoned")

	errMessageTimeout = apierr.Exhausted(
		"MESSAGE_TIMEOUT", "the call's message did not arrive within %d s of its header", int(messageTimeout.Seconds()))
)

// readUntil runs a read that may block and returns its result, or errAbandoned once ctx is done. The read
// runs on its own goroutine, because grpc-go unblocks it only after the handler has returned. An abandoned
// read that still succeeds passes its value to late; a nil late drops it. A panic in the read becomes an
// error, because the recovery of interceptors does not reach that goroutine.
func readUntil[T any](ctx context.Context, read func() (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result)
	go func() {
		var r result
		r.value, r.err = recovered(read)
		select {
		case done <- r:
		case <-ctx.Done():
			if late != nil && r.err == nil {
				late(r.value)
			}
		}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, errAbandoned
	}
}

func recovered[T any](read func() (T, error)) (value T, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic while a message was read: %v\n%s", panicked, debug.Stack())
		}
	}()
	return read()
}

// readFailure returns the error to send for the outcome of a read, nil for none. When the call itself has
// ended, it returns that error instead.
func readFailure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errAbandoned):
		return errMessageTimeout
	}
	return err
}
