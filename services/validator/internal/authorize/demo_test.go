package authorize_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

const (
	fuzzApp = "fuzz0app"
	events  = countersignv1.Scope_SCOPE_EVENTS
)

// demo is a cluster with one app, which enforces EVENTS and has one token with that scope.
type demo struct {
	ctx        context.Context
	cluster    *cluster.Cluster
	connection *grpc.ClientConn // to the first validator
	secret     string
	position   string // consistency token of the latest change, which all validators have seen
}

func startDemo(t testing.TB, change ...func(*cluster.Options)) demo {
	options := cluster.Options{Validators: 1}
	for _, c := range change {
		c(&options)
	}
	c := cluster.Start(t, options)
	admin := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.AdminKey.Reveal())
	management := countersignv1.NewAuthorityServiceClient(connect(t, c.Authority))
	created, err := management.CreateToken(admin, &countersignv1.CreateTokenRequest{
		AppId: fuzzApp, Name: "good", Scopes: []countersignv1.Scope{events},
	})
	if err != nil {
		t.Fatal(err)
	}
	enforced, err := management.SetEnforcement(admin, &countersignv1.SetEnforcementRequest{
		AppId: fuzzApp, Scopes: []countersignv1.Scope{events}, AllowRejections: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	d := demo{
		ctx: t.Context(), cluster: c, connection: connect(t, c.Validators[0]),
		secret: created.GetSecret(), position: enforced.GetConsistencyToken(),
	}
	// After this the validators have seen both changes, and every answer must reflect them.
	for _, address := range c.Validators {
		if _, err := countersignv1.NewValidatorServiceClient(connect(t, address)).
			Authorize(t.Context(), &countersignv1.AuthorizeRequest{
				AppId: fuzzApp, Scope: events, MinRevision: d.position,
			}); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func connect(t testing.TB, target string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient(target, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}
