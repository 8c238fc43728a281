package management_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// readyz returns an authority's answer to /readyz.
func (w *world) readyz() (code int, page string, err error) {
	response, err := http.Get("http://" + w.AuthorityProcesses[0].HTTPAddress + "/readyz")
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// health returns the gRPC health of a service.
func health(t *testing.T, conn *grpc.ClientConn, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	return check.Must(healthpb.NewHealthClient(conn).Check(t.Context(),
		&healthpb.HealthCheckRequest{Service: service}))(t).GetStatus()
}

// TestReadinessFollowsTheStore: an authority whose calls are all UNAVAILABLE tells load balancers so, with
// the reason. It becomes ready again by itself. Validators may report to it meanwhile.
func TestReadinessFollowsTheStore(t *testing.T) {
	w := newWorldWith(t, cluster.Options{})
	app := newApp()
	w.create(t, app, "a")
	expect := func(what string, code int, words string, state healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		check.Eventually(t, what, func() error {
			got, page, err := w.readyz()
			if err != nil || got != code || !strings.Contains(page, words) {
				return fmt.Errorf("/readyz: %d %s %w", got, page, err)
			}
			for _, service := range []string{"", pb.AuthorityService_ServiceDesc.ServiceName} {
				if got := health(t, w.conn, service); got != state {
					return fmt.Errorf("health of %q: %s", service, got)
				}
			}
			return nil
		})
		if got := health(t, w.conn, pb.FleetService_ServiceDesc.ServiceName); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%s: health of FleetService: %s", what, got)
		}
	}
	expect("at the start", http.StatusOK, "ok", healthpb.HealthCheckResponse_SERVING)
	w.Redis.Pause()
	expect("Redis does not answer", http.StatusServiceUnavailable, "Redis does not answer",
		healthpb.HealthCheckResponse_NOT_SERVING)
	_, err := w.GetApp(t.Context(), &pb.GetAppRequest{AppId: app})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a call: %v", err)
	}
	w.Redis.Resume()
	expect("Redis is back", http.StatusOK, "ok", healthpb.HealthCheckResponse_SERVING)
	w.get(t, app, w.create(t, app, "b").GetToken().GetTokenId())
}
