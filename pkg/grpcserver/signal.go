package grpcserver

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// SignalContext returns a context that is done at the first SIGINT or SIGTERM. By then the two have their
// usual effect again, so that a second one ends the process at once, drained or not. The returned function
// releases what is held.
func SignalContext(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer cancel()
		// signal.NotifyContext would end the context first, and swallow a second signal that follows closely.
		defer signal.Stop(signals)
		select {
		case <-signals:
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
