package tools

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/redisfeed"
)

const (
	// retryFor is how long a read is repeated that fails: longer than a failover takes.
	retryFor = 10 * time.Second
	// retryPause is the pause between two tries.
	retryPause = 200 * time.Millisecond
)

// again reads until Redis answers, or has not for too long: connections break, and masters change, and the
// client itself sends no command twice.
func retry(ctx context.Context, read func() error) error {
	for until := time.Now().Add(retryFor); ; {
		err := read()
		if !isTransient(err) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}

// reached is again for the first thing that is read of a Redis. When there is none to connect to, it says
// so at once: waiting would not tell more. One that has been there is waited for, since it is started
// again, or another one takes its place.
func firstRead(ctx context.Context, read func() error) error {
	var absent error
	there := false
	err := retry(ctx, func() error {
		err := read()
		if !there && isUnreachable(err) {
			absent = err
			return nil
		}
		there = true
		return err
	})
	return cmp.Or(absent, err)
}

// unreachable tells whether an error means that there was no server to send to.
func isUnreachable(err error) bool {
	var answer redis.Error
	return redisfeed.NotRun(err) && !errors.As(err, &answer)
}

// passes tells whether a read that failed may succeed when it is repeated.
func isTransient(err error) bool {
	return err != nil && (redisfeed.NotRun(err) || isConnectionError(err))
}

// broken tells whether an error is that of a connection, of which there may be a better one.
func isConnectionError(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
