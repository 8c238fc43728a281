package grpcserver

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// SignalContext returns a context that is done at the first SIGINT or SIGTERM. A second signal ends the
// process at once, even during a drain. The caller calls the returned function to release the context's
// goroutine.
func SignalContext(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer cancel()
		// Stop runs before cancel: signal.NotifyContext cancels first, and swallows a second signal that
		// follows closely.
		defer signal.Stop(signals)
		select {
		case <-signals:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
