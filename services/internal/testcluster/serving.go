package testcluster

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/countersign/countersign/pkg/grpcserver"
)

// awaitServing returns when the authority and all validators have loaded the store.
func (c *Cluster) awaitServing(t testing.TB, files grpcserver.TLS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	transport := insecure.NewCredentials()
	if files.CertFile != "" {
		// The address is the one that was bound a moment ago: there is nobody else to talk to.
		transport = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	for _, address := range append([]string{c.Authority}, c.Validators...) {
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
		check(t, err)
		defer connection.Close()
		for {
			response, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
			check(t, err)
			if response.GetStatus() == healthpb.HealthCheckResponse_SERVING {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}
