package authorize_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// FuzzAuthorize sends all that parses as a request, over gRPC. The validator answers or returns
// INVALID_ARGUMENT, and never fails. To an enforced scope it admits only the one good secret (B13, B18,
// B19, B20).
func FuzzAuthorize(f *testing.F) {
	w := startDemo(f)
	validator := countersignv1.NewValidatorServiceClient(w.connection)
	for _, seed := range []*countersignv1.AuthorizeRequest{
		{AppId: fuzzApp, Scope: events},
		{AppId: fuzzApp, Token: w.secret, Scope: events},
		{AppId: fuzzApp, Token: w.secret, Scope: events, MinRevision: w.position},
		{
			AppId: fuzzApp, Token: w.secret, Scope: countersignv1.Scope_SCOPE_SESSIONS,
			Source: countersignv1.Source_SOURCE_GOOGLE_TAG_MANAGER,
		},
		{AppId: "other", Token: "cs_", Scope: 99, Source: -1, MinRevision: "AAAA"},
		{AppId: "no app", Token: "\x00", Scope: -1},
	} {
		raw, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var request countersignv1.AuthorizeRequest
		if proto.Unmarshal(raw, &request) != nil {
			return
		}
		// A request for a position that does not exist waits for it.
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		answer, err := validator.Authorize(ctx, &request)
		if err != nil {
			switch status.Code(err) {
			case codes.InvalidArgument, codes.ResourceExhausted:
			case codes.Unavailable, codes.DeadlineExceeded:
				if request.GetMinRevision() == "" && status.Code(err) == codes.Unavailable {
					t.Errorf("no decision: %v", err)
				}
			default:
				t.Errorf("failed: %v", err)
			}
			return
		}
		allowed := answer.GetDecision() == countersignv1.Decision_DECISION_ALLOW
		if !allowed && answer.GetDecision() != countersignv1.Decision_DECISION_DENY {
			t.Errorf("neither allowed nor denied: %v", answer)
		}
		if request.GetAppId() != fuzzApp {
			if !allowed || answer.GetReason() != countersignv1.Reason_REASON_APP_NOT_CONFIGURED {
				t.Errorf("an app without a policy: %v", answer)
			}
			return
		}
		good := request.GetToken() == w.secret && request.GetSource() != countersignv1.Source_SOURCE_GOOGLE_TAG_MANAGER
		if request.GetScope() == events && (allowed != good || !answer.GetEnforced()) {
			t.Errorf("%v for a request that is good: %t", answer, good)
		}
	})
}
