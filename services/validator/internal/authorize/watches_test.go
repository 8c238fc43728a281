package authorize_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/rawgrpc"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	validator "github.com/countersign/countersign/services/validator/server"
)

// TestIdleWatchesAreNoLoad: calls are answered however many health watches are open.
func TestIdleWatchesAreNoLoad(t *testing.T) {
	d := startDemo(t)
	const bound = 800
	p := d.cluster.StartValidator(t, func(c *validator.Config) { c.MaxInFlight = bound })
	service := countersignv1.NewValidatorServiceClient(connect(t, p.Address))
	ask := func() error {
		_, err := service.Authorize(
			t.Context(), &countersignv1.AuthorizeRequest{AppId: fuzzApp, Token: d.secret, Scope: events, MinRevision: d.position},
		)
		return err
	}
	check.Eventually(t, "the validator decides", ask)
	for range 2 * bound / 4 {
		conn := rawgrpc.Dial(t, p.Address)
		for range 4 {
			watch := conn.Open(healthpb.Health_Watch_FullMethodName)
			conn.Announce(watch, 0)
			conn.Message(watch)
		}
		if err := ask(); status.Code(err) != codes.OK {
			t.Fatal(err)
		}
	}
}
