package client_test

import (
	"context"
	"net"

	"google.golang.org/grpc"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// startValidator starts a validator for an example. It allows the token cs_good and denies all others. It
// cannot decide about the app "unverified".
func startValidator() (address string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	f := &fake{call: func(_ context.Context, r *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
		switch {
		case r.GetAppId() == "unverified":
			return nil, apierr.Unavailable(apierr.PolicyUnverified, "the app's policy could not be verified")
		case r.GetToken() == "cs_good":
			return &countersignv1.AuthorizeResponse{
				Decision: allow, Reason: countersignv1.Reason_REASON_TOKEN_VALID, Enforced: true, TokenId: "tok_example",
			}, nil
		}
		return &countersignv1.AuthorizeResponse{
			Decision: deny, Reason: countersignv1.Reason_REASON_TOKEN_UNKNOWN, Enforced: true,
		}, nil
	}}
	server := grpc.NewServer()
	countersignv1.RegisterValidatorServiceServer(server, f)
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	return listener.Addr().String(), func() { server.Stop(); <-served }
}
