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

// serviceOf is what tells which role a server has.
var serviceOf = map[string]string{
	Authority: countersignv1.AuthorityService_ServiceDesc.ServiceName,
	Validator: countersignv1.ValidatorService_ServiceDesc.ServiceName,
}

// WrongServerError says that a call went to a server that has another role than the one that was meant.
type WrongServerError struct {
	Target Target
	// Is is the server's role; empty when it is none of ours.
	Is  string
	err error
}

// Unwrap returns what the server has answered.
func (e *WrongServerError) Unwrap() error { return e.err }

// Error says what the server is and what to give.
func (e *WrongServerError) Error() string {
	if e.Is == "" {
		return fmt.Sprintf("%s is no %[2]s: it does not know the service of one. Give the address of the %[2]s with --%[2]s", e.Target.Address, e.Target.Role)
	}
	return fmt.Sprintf("%s is the %s's address. Give the address of the %[3]s with --%[3]s", e.Target.Address, e.Is, e.Target.Role)
}

// wrongServer returns a *WrongServerError when a call has failed since the server does not have the service
// of its role.
func (d *dialer) wrongServer(ctx context.Context, err error, connection *grpc.ClientConn, invoke grpc.UnaryInvoker) error {
	if _, ours := serviceOf[d.Role]; !ours || status.Code(err) != codes.Unimplemented || !strings.HasPrefix(status.Convert(err).Message(), "unknown service ") {
		return err
	}
	wrong := &WrongServerError{Target: d.Target, err: err}
	for role, service := range serviceOf {
		var is healthpb.HealthCheckResponse
		// A server knows the names of its own services, whether it serves them yet or not.
		if role != d.Role && invoke(ctx, healthpb.Health_Check_FullMethodName, &healthpb.HealthCheckRequest{Service: service}, &is, connection) == nil {
			wrong.Is = role
		}
	}
	return wrong
}
