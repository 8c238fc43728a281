package grpcserver

import (
	"testing"

	"github.com/countersign/countersign/pkg/testkit/check"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

func stateOf(t *testing.T, conn *grpc.ClientConn, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	response, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatalf("health of %q: %v", service, err)
	}
	return response.GetStatus()
}

// expect reads the next state from a watch.
func expect(t *testing.T, watch healthpb.Health_WatchClient, want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	response, err := watch.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if got := response.GetStatus(); got != want {
		t.Fatalf("watch = %v, want %v", got, want)
	}
}

func TestSetServing(t *testing.T) {
	server := start(t, Config{}, &echo{call: repeat})
	conn := check.Dial(t, server.Addr().String())
	for _, service := range []string{"", echoService} {
		if got := stateOf(t, conn, service); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health of %q at the start = %v, want NOT_SERVING", service, got)
		}
	}
	watch, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{Service: echoService})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, watch, healthpb.HealthCheckResponse_NOT_SERVING)
	server.SetServing(echoService, true)
	expect(t, watch, healthpb.HealthCheckResponse_SERVING)
	if got := stateOf(t, conn, ""); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health of the server = %v, though only a service was set", got)
	}
	server.SetServing(echoService, false)
	expect(t, watch, healthpb.HealthCheckResponse_NOT_SERVING)
	_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "none"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("health of no service = %v, want NOT_FOUND", err)
	}
}

func TestReflection(t *testing.T) {
	for _, on := range []bool{false, true} {
		server := start(t, Config{Reflection: on}, &echo{call: repeat})
		conn := check.Dial(t, server.Addr().String())
		stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// When Send fails it returns io.EOF; Recv returns the reason.
		_ = stream.Send(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
		})
		response, err := stream.Recv()
		if !on {
			if status.Code(err) != codes.Unimplemented {
				t.Errorf("reflection off: %v, want UNIMPLEMENTED", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, service := range response.GetListServicesResponse().GetService() {
			found = found || service.GetName() == echoService
		}
		if !found {
			t.Errorf("reflection lists %v, without %s", response, echoService)
		}
	}
}
