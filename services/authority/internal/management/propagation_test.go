package management_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	pb "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/test/cluster"
)

// wantComplete checks for a complete receipt of both validators, at or past a position.
func wantComplete(t *testing.T, what string, r *pb.Receipt, token string) {
	t.Helper()
	at, err := record.DecodePosition(token)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !r.GetComplete() || len(r.GetValidators()) != 2 {
		t.Errorf("%s: receipt %v", what, r)
	}
	for _, e := range r.GetValidators() {
		if e.GetState() != pb.PropagationState_PROPAGATION_STATE_APPLIED || e.GetRevision() < at.Revision {
			t.Errorf("%s: %v, want revision %d", what, e, at.Revision)
		}
		if after := e.GetReportTime().AsTime().Sub(r.GetCommitTime().AsTime()); after < 0 || after > patience {
			t.Errorf("%s: %s reported %v after the commit", what, e.GetValidatorId(), after)
		}
	}
}

// TestB24_EveryChangingCallWaits: with wait_for_propagation each call answers with a receipt, and without it
// none does. So do repetitions, and calls that find nothing left to revoke.
func TestB24_EveryChangingCallWaits(t *testing.T) {
	w := newWorldWith(t, cluster.Options{Validators: 2, Report: true})
	app := newApp()
	token := w.create(t, app, "first", events).GetToken().GetTokenId()
	leaked := w.create(t, app, "leaked", events)
	calls := []proto.Message{
		&pb.CreateTokenRequest{AppId: app, Name: "created"},
		&pb.ImportTokensRequest{AppId: app, Imports: []*pb.TokenImport{{
			Name:       "imported",
			Credential: &pb.TokenImport_Secret{Secret: foreign()},
		}}},
		&pb.UpdateTokenRequest{
			AppId: app, Token: &pb.Token{TokenId: token, Note: "new"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"note"}},
		},
		&pb.RotateTokenRequest{AppId: app, TokenId: token},
		&pb.SetEnforcementRequest{AppId: app},
		&pb.RevokeSecretRequest{Secret: leaked.GetSecret()},
		&pb.RevokeTokenRequest{AppId: app, TokenId: token},
		&pb.RevokeTokenRequest{AppId: app, TokenId: token, AllowLockout: true}, // B08: it is revoked already
		&pb.RevokeSecretRequest{Secret: leaked.GetSecret(), AllowLockout: true},
		&pb.DeleteAppRequest{AppId: app},
		&pb.RevokeSecretRequest{Secret: leaked.GetSecret()}, // of a deleted app
	}
	for i, call := range calls {
		name := call.ProtoReflect().Descriptor().Name()
		method := string(name[:len(name)-len("Request")])
		fields := call.ProtoReflect()
		set := func(field protoreflect.Name, value protoreflect.Value) {
			fields.Set(fields.Descriptor().Fields().ByName(field), value)
		}
		set("request_id", protoreflect.ValueOfString(method+string(rune('a'+i))))
		set("wait_for_propagation", protoreflect.ValueOfMessage(durationpb.New(patience).ProtoReflect()))
		verify := func(what string) {
			t.Helper()
			response, err := w.invoke(t, method, call)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			receipt := response.(interface{ GetReceipt() *pb.Receipt }).GetReceipt()
			switch r := response.(type) {
			case interface{ GetConsistencyToken() string }:
				wantComplete(t, what, receipt, r.GetConsistencyToken())
			case *pb.RevokeSecretResponse:
				wantComplete(t, what, receipt, r.GetConsistencyTokens()[0])
			}
		}
		verify(method)
		verify(method + " again")
		fields.Clear(fields.Descriptor().Fields().ByName("wait_for_propagation"))
		response, err := w.invoke(t, method, call)
		if err != nil || response.(interface{ GetReceipt() *pb.Receipt }).GetReceipt() != nil {
			t.Errorf("%s without waiting: %v, %v", method, response, err)
		}
	}
	dry := check.Must(w.SetEnforcement(t.Context(), &pb.SetEnforcementRequest{
		AppId: newApp(), ValidateOnly: true, WaitForPropagation: durationpb.New(patience),
	}))(t)
	if dry.GetReceipt() != nil {
		t.Errorf("a dry run has the receipt %v", dry.GetReceipt())
	}
}

// TestB24_RevokeSecretWaitsForEveryApp: one receipt for changes in several partitions.
func TestB24_RevokeSecretWaitsForEveryApp(t *testing.T) {
	w := newWorldWith(t, cluster.Options{Validators: 2, Report: true})
	shared := foreign()
	for range 10 {
		check.Must(w.ImportTokens(t.Context(), &pb.ImportTokensRequest{AppId: newApp(), Imports: []*pb.TokenImport{
			{Name: "shared", Credential: &pb.TokenImport_Secret{Secret: shared}},
		}}))(t)
	}
	response := check.Must(w.RevokeSecret(t.Context(), &pb.RevokeSecretRequest{
		Secret:             shared,
		WaitForPropagation: durationpb.New(patience),
	}))(t)
	if n := len(response.GetConsistencyTokens()); n != 10 || !response.GetReceipt().GetComplete() ||
		len(response.GetReceipt().GetValidators()) != 2 {
		t.Errorf("%d changes, receipt %v", n, response.GetReceipt())
	}
}

// TestB24_WaitForPropagation: it works with the consistency token of any change, also of one that is lost or
// was never made.
func TestB24_WaitForPropagation(t *testing.T) {
	w := newWorldWith(t, cluster.Options{Validators: 2, Report: true})
	made := w.create(t, newApp(), "a", events)
	for range 2 {
		r := check.Must(w.WaitForPropagation(t.Context(),
			&pb.WaitForPropagationRequest{ConsistencyToken: made.GetConsistencyToken()}))(t)
		wantComplete(t, "after a change", r.GetReceipt(), made.GetConsistencyToken())
	}
	at := check.Must(record.DecodePosition(made.GetConsistencyToken()))(t)
	other := at
	other.Tag = record.NewTag()
	_, err := w.WaitForPropagation(t.Context(), &pb.WaitForPropagationRequest{ConsistencyToken: record.EncodePosition(other)})
	// The authority needs a poll to know which change the store has at that position.
	wantFailure(t, err, failure{codes.Unavailable, apierr.RevisionLost, ""})

	never := at
	never.Revision += 1000
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	r := check.Must(w.WaitForPropagation(ctx,
		&pb.WaitForPropagationRequest{ConsistencyToken: record.EncodePosition(never)}))(t).GetReceipt()
	if r.GetComplete() || len(r.GetValidators()) != 2 || r.GetCommitTime() != nil {
		t.Errorf("of a change that was never made: %v", r)
	}
	for _, e := range r.GetValidators() {
		if e.GetState() != pb.PropagationState_PROPAGATION_STATE_PENDING {
			t.Errorf("of a change that was never made: %v", e)
		}
	}
}

// TestB24_NobodyReports: a receipt without validators is incomplete, and the change is made.
func TestB24_NobodyReports(t *testing.T) {
	w := newWorld(t)
	app := newApp()
	made := check.Must(w.CreateToken(t.Context(), &pb.CreateTokenRequest{
		AppId: app, Name: "a",
		WaitForPropagation: durationpb.New(50 * time.Millisecond),
	}))(t)
	if r := made.GetReceipt(); r == nil || r.GetComplete() || len(r.GetValidators()) != 0 {
		t.Errorf("receipt %v", r)
	}
	if w.get(t, app, made.GetToken().GetTokenId()).GetName() != "a" || made.GetSecret() == "" {
		t.Error("the token was not made")
	}
}
