package cluster

import (
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStart(t *testing.T) {
	c := Start(t, Options{Validators: 2})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+c.AdminKey.Reveal())
	created, err := countersignv1.NewAuthorityServiceClient(check.Dial(t, c.Authority)).CreateToken(ctx,
		&countersignv1.CreateTokenRequest{AppId: "app", Name: "token"})
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range c.Validators {
		answer, err := countersignv1.NewValidatorServiceClient(check.Dial(t, address)).Authorize(t.Context(),
			&countersignv1.AuthorizeRequest{
				AppId: "app", Token: created.GetSecret(), Scope: countersignv1.Scope_SCOPE_EVENTS,
				MinRevision: created.GetConsistencyToken(),
			})
		if err != nil || answer.GetReason() != countersignv1.Reason_REASON_TOKEN_VALID_UNSCOPED {
			t.Errorf("validator %s: %v %v", address, answer, err)
		}
	}
}
