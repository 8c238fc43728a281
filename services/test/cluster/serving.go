package cluster

import (
	"context"
	"crypto/tls"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/grpcserver"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// awaitServing returns when the authority and all validators have loaded the store.
func (c *Cluster) awaitServing(t testing.TB, files grpcserver.TLS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for _, address := range slices.Concat(c.Authorities, c.Validators) {
		connection := c.connect(t, address, files)
		defer connection.Close()
		for {
			response, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
			check.NoError(t, err)
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

func (c *Cluster) connect(t testing.TB, address string, files grpcserver.TLS) *grpc.ClientConn {
	t.Helper()
	transport := insecure.NewCredentials()
	if files.CertFile != "" {
		// The address was bound a moment ago, so no other server can answer.
		transport = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	check.NoError(t, err)
	return connection
}

// awaitFleet returns when every authority knows that every validator has loaded the store.
func (c *Cluster) awaitFleet(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.AdminKey.Reveal())
	for _, address := range c.Authorities {
		connection := c.connect(t, address, c.options.TLS)
		defer connection.Close()
		for {
			response, err := countersignv1.NewAuthorityServiceClient(connection).ListValidators(ctx,
				&countersignv1.ListValidatorsRequest{})
			if err == nil && len(response.GetValidators()) == len(c.Validators) &&
				!slices.ContainsFunc(response.GetValidators(),
					func(v *countersignv1.Validator) bool { return v.GetBehind() > 0 || len(v.GetCursors()) == 0 }) {
				break
			}
			select {
			case <-ctx.Done():
				t.Fatalf("cluster: the fleet is not complete: %v %v", response, err)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}
