package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// errAbandoned is what apart returns when its context is done before it has read anything.
var errAbandoned = errors.New("nothing was read in time")

// apart reads something on another goroutine, because nothing ends the reading but the end of the call: it
// returns once the handler has. What it has read when nobody waits any more is given to late. A panic is an
// error, since nobody would catch it there.
func apart[T any](ctx context.Context, read func() (T, error), late func(T)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome)
	go func() {
		var o outcome
		o.value, o.err = recovered(read)
		select {
		case done <- o:
		case <-ctx.Done():
			if late != nil && o.err == nil {
				late(o.value)
			}
		}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		var none T
		return none, errAbandoned
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

// awaited returns what a caller is told when its message was not read, for err; the end of the call goes
// before.
func awaited(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errAbandoned):
		return errNoMessage
	}
	return err
}
