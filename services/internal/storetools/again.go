package storetools

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/countersign/countersign/pkg/redisfeed"
)

const (
	// patience is how long a read is repeated that fails: longer than a failover takes.
	patience = 10 * time.Second
	// readPause is the pause between two tries.
	readPause = 200 * time.Millisecond
)

// again reads until Redis answers, or has not for too long: connections break, and masters change, and the client itself
// sends no command twice.
func again(ctx context.Context, read func() error) error {
	for until := time.Now().Add(patience); ; {
		err := read()
		if err == nil || !redisfeed.NotRun(err) && !broken(err) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(readPause):
		}
	}
}

// broken tells whether an error is that of a connection, of which there may be a better one.
func broken(err error) bool {
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
