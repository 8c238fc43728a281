package cluster

import (
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStart(t *testing.T) {
	c := Start(t, Options{Validators: 2})
	connection, err := grpc.NewClient(c.Authority, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.AdminKey.Reveal())
	created, err := countersignv1.NewAuthorityServiceClient(connection).CreateToken(ctx, &countersignv1.CreateTokenRequest{AppId: "app", Name: "token"})
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range c.Validators {
		connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		answer, err := countersignv1.NewValidatorServiceClient(connection).Authorize(t.Context(), &countersignv1.AuthorizeRequest{
			AppId: "app", Token: created.GetSecret(), Scope: countersignv1.Scope_SCOPE_EVENTS, MinRevision: created.GetConsistencyToken(),
		})
		if err != nil || answer.GetReason() != countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED {
			t.Errorf("validator %s: %v %v", address, answer, err)
		}
	}
}
