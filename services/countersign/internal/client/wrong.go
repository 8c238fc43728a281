package client

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// Authority and Validator are the roles of servers, and the flags that take their addresses.
const (
	Authority = "authority"
	Validator = "validator"
)

// serviceOf names the service that only a server of each role has.
var serviceOf = map[string]string{
	Authority: countersignv1.AuthorityService_ServiceDesc.ServiceName,
	Validator: countersignv1.ValidatorService_ServiceDesc.ServiceName,
}

// WrongServerError means that a call went to a server with another role than intended.
type WrongServerError struct {
	Target Target
	// Is is the server's role; empty when it is no Countersign server.
	Is  string
	err error
}

// Unwrap returns the server's error.
func (e *WrongServerError) Unwrap() error { return e.err }

// Error says what the server is, and which flag to give.
func (e *WrongServerError) Error() string {
	if e.Is == "" {
		return fmt.Sprintf("%s is no %[2]s: it lacks that service. Give the address of the %[2]s with --%[2]s",
			e.Target.Address, e.Target.Role)
	}
	return fmt.Sprintf("%s is the %s's address. Give the address of the %[3]s with --%[3]s", e.Target.Address, e.Is,
		e.Target.Role)
}

// wrongServer returns a *WrongServerError when the call failed because the server lacks the service of its
// role.
func (d *dialer) wrongServer(ctx context.Context, err error, connection *grpc.ClientConn, invoke grpc.UnaryInvoker) error {
	if _, ours := serviceOf[d.Role]; !ours || status.Code(err) != codes.Unimplemented ||
		!strings.HasPrefix(status.Convert(err).Message(), "unknown service ") {
		return err
	}
	wrong := &WrongServerError{Target: d.Target, err: err}
	for role, service := range serviceOf {
		var is healthpb.HealthCheckResponse
		// A server knows the names of its services even before it serves them.
		request := &healthpb.HealthCheckRequest{Service: service}
		if role != d.Role && invoke(ctx, healthpb.Health_Check_FullMethodName, request, &is, connection) == nil {
			wrong.Is = role
		}
	}
	return wrong
}
