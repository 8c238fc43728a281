package grpcserver_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/pkg/grpcserver"
)

// A process runs its servers and other long-running work in one errgroup. The first member to fail ends the
// others, and a signal ends all of them. Wait returns when all have ended.
func Example() {
	logger := slog.New(slog.DiscardHandler)
	ctx, stop := grpcserver.SignalContext(context.Background())
	defer stop()

	api, err := grpcserver.New(grpcserver.Config{Listen: "127.0.0.1:7071", StreamWorkers: 64}, logger)
	if err != nil {
		fmt.Println(err)
		return
	}
	// Services are registered here, as in validatorv1.RegisterValidatorServiceServer(api, validator).
	web, err := grpcserver.NewHTTP(grpcserver.HTTPConfig{
		Listen:  "127.0.0.1:7081",
		Metrics: prometheus.NewRegistry(),
	}, logger)
	if err != nil {
		fmt.Println(err)
		return
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return api.Serve(ctx) })
	group.Go(func() error { return web.Serve(ctx) })
	api.SetServing("", true)
	if err := group.Wait(); err != nil {
		fmt.Println(err)
	}
}
