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
	// retryFor is how long a failing read is repeated. It is longer than a failover.
	retryFor = 10 * time.Second
	// retryPause is the pause between two attempts.
	retryPause = 200 * time.Millisecond
)

// retry repeats a read while its error may pass, for at most retryFor: connections break and masters change,
// and the client itself sends no command twice.
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

// firstRead does what retry does for the first read of a Redis. When no server answers at all, it fails at
// once, since waiting would not help. Once a server has answered, a lost one is waited for: it restarts, or
// another one takes over.
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

// isUnreachable reports whether an error means that there was no server to send to.
func isUnreachable(err error) bool {
	var answer redis.Error
	return redisfeed.NotRun(err) && !errors.As(err, &answer)
}

// isTransient reports whether a failed read may succeed when it is repeated.
func isTransient(err error) bool {
	return err != nil && (redisfeed.NotRun(err) || isConnectionError(err))
}

// isConnectionError reports whether an error is about a connection, so that a new one may work.
func isConnectionError(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}
