package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersign/countersign/pkg/apierr"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/cmdline"
)

var unknownAdvice = regexp.MustCompile(
	`(?m)^The change may have been made. Repeat the same command with --request-id (\S+): the change is not made twice\.$`)

// When the outcome of a change is unknown, following the advice sends the same request again.
func TestUnknownOutcome(t *testing.T) {
	withDetail, err := status.New(codes.InvalidArgument, "no").WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "name", Description: "too long"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var server *grpc.Server
	for name, tt := range map[string]struct {
		create  creates
		says    string
		unknown bool
	}{
		"outcome unknown": {
			fails(apierr.Unavailable(apierr.OutcomeUnknown, "the store did not say")),
			"countersign: UNAVAILABLE: the store did not say (OUTCOME_UNKNOWN)\n", true,
		},
		"too late": {hangs, "countersign: DEADLINE_EXCEEDED: ", true},
		"connection lost": {func(ctx context.Context, r *createRequest) (*createResponse, error) {
			go server.Stop()
			return hangs(ctx, r)
		}, "countersign: UNAVAILABLE: ", true},
		"interrupted": {func(ctx context.Context, r *createRequest) (*createResponse, error) {
			this, _ := os.FindProcess(os.Getpid())
			if err := this.Signal(os.Interrupt); err != nil {
				return nil, err
			}
			return hangs(ctx, r)
		}, "countersign: CANCELLED: ", true},
		"internal": {fails(status.Error(codes.Internal, "internal error")), "countersign: INTERNAL: internal error\n", true},
		"not loaded": {
			fails(apierr.Unavailable(apierr.NotLoaded, "not yet")),
			"countersign: UNAVAILABLE: not yet (NOT_LOADED)\n", false,
		},
		"refused":       {fails(apierr.Invalid("name", "too long")), "countersign: INVALID_ARGUMENT: --name: too long\n", false},
		"field added":   {fails(withDetail.Err()), "countersign: INVALID_ARGUMENT: no (name: too long)\n", false},
		"made harmless": {fails(status.Error(codes.Aborted, "a\x1b[2Jb")), `countersign: ABORTED: a\x1b[2Jb` + "\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{create: tt.create}
			f.start(t)
			server = f.server
			timeout := "--timeout=20s"
			if name == "too late" {
				timeout = "--timeout=300ms"
			}
			file := filepath.Join(t.TempDir(), "secret")
			got := run(t, "token", "create", "--app=a", "--name=n", "--expires=30d", timeout, "--secret-file", file)
			if got.code != cmdline.ExitFailed || got.out != "" || !strings.HasPrefix(got.errors, tt.says) {
				t.Errorf("%+v, want %q", got, tt.says)
			}
			if _, err := os.Stat(file); err == nil {
				t.Error("a file without a secret is left")
			}
			advice := unknownAdvice.FindStringSubmatch(got.errors)
			if (advice != nil) != tt.unknown {
				t.Fatalf("advice: %q", got.errors)
			}
			if advice == nil {
				return
			}
			if name == "connection lost" {
				f.start(t)
			}
			f.answer(fails(apierr.Invalid("name", "too long")))
			run(t, "token", "create", "--app=a", "--name=n", "--request-id", advice[1], "--expires=30d")
			if seen := f.requests(); len(seen) != 2 || !proto.Equal(seen[0], seen[1]) {
				t.Errorf("the same request again: %v", seen)
			}
		})
	}
}

func fails(err error) creates {
	return func(context.Context, *createRequest) (*createResponse, error) {
		return nil, err
	}
}

// hangs answers when the caller has stopped waiting.
func hangs(ctx context.Context, _ *createRequest) (*createResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A secret that cannot be written is lost; the error names the token.
func TestSecretIsLost(t *testing.T) {
	f := &fake{create: func(context.Context, *createRequest) (*createResponse, error) {
		return &createResponse{Token: &countersignv1.Token{TokenId: "tok_1"}, Secret: "cs_1"}, nil
	}}
	f.start(t)
	root := newRoot(nil)
	root.SetArgs([]string{"token", "create", "--app=a", "--name=n"})
	root.SetOut(full{})
	var said strings.Builder
	root.SetErr(&said)
	if code := execute(root); code != cmdline.ExitFailed ||
		!strings.Contains(said.String(), "token tok_1 was created, but could not be shown: disk full") {
		t.Errorf("code %d, %q", code, &said)
	}
}

// full is a writer that fails.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// When only LOST validators are missing, the authority does not wait, and the message names no duration.
func TestIncompleteReceiptOfLostOnes(t *testing.T) {
	f := &fake{create: func(_ context.Context, r *createRequest) (*createResponse, error) {
		response := &createResponse{Token: &countersignv1.Token{TokenId: "tok_1"}, Secret: "cs_1"}
		if r.GetWaitForPropagation() != nil {
			response.Receipt = &countersignv1.Receipt{Validators: []*countersignv1.ReceiptEntry{
				{ValidatorId: "fast", State: countersignv1.PropagationState_PROPAGATION_STATE_APPLIED},
				{ValidatorId: "fenced", State: countersignv1.PropagationState_PROPAGATION_STATE_FENCED},
				{ValidatorId: "gone", State: countersignv1.PropagationState_PROPAGATION_STATE_LOST},
			}}
		}
		return response, nil
	}}
	f.start(t)
	got := run(t, "token", "create", "--app=a", "--name=n", "--wait=30s")
	if got.code != exitIncomplete ||
		got.errors != "countersign: the change is made, but some validators may not have it: gone is LOST\n" {
		t.Errorf("%+v", got)
	}
}

// An incomplete receipt names the missing validators and has an exit code of its own. The call's deadline
// includes the wait.
func TestIncompleteReceipt(t *testing.T) {
	f := &fake{create: func(ctx context.Context, r *createRequest) (*createResponse, error) {
		if r.GetWaitForPropagation() == nil {
			return &createResponse{Token: &countersignv1.Token{TokenId: "tok_1"}, Secret: "cs_1"}, nil
		}
		if deadline, has := ctx.Deadline(); r.GetWaitForPropagation().AsDuration() != 30*time.Second || !has ||
			time.Until(deadline) < 31*time.Second {
			t.Errorf("%v until %v", r, deadline)
		}
		return &createResponse{Token: &countersignv1.Token{TokenId: "tok_1"}, Receipt: &countersignv1.Receipt{
			CommitTime: timestamppb.New(time.UnixMilli(1000)),
			Validators: []*countersignv1.ReceiptEntry{
				{
					ValidatorId: "fast", State: countersignv1.PropagationState_PROPAGATION_STATE_APPLIED, Revision: 7,
					ReportTime: timestamppb.New(time.UnixMilli(1012)),
				},
				{ValidatorId: "fenced", State: countersignv1.PropagationState_PROPAGATION_STATE_FENCED, Revision: 5},
				{ValidatorId: "slow\x1b[2J", State: countersignv1.PropagationState_PROPAGATION_STATE_PENDING, Revision: 6},
				{ValidatorId: "gone", State: countersignv1.PropagationState_PROPAGATION_STATE_LOST, Revision: 1},
			},
		}}, nil
	}}
	f.start(t)
	got := run(t, "token", "create", "--app=a", "--name=n", "--timeout=2s", "--wait=30s")
	const says = "countersign: the change is made, but after 30s some validators may not have it: " +
		"slow\\x1b[2J is PENDING, gone is LOST\n"
	if got.code != exitIncomplete || got.errors != says || !strings.Contains(got.out, "cs_1") {
		t.Errorf("%+v", got)
	}
	for _, row := range []string{"fast APPLIED 7 12 ms", "fenced FENCED 5 -", "gone LOST 1 -"} {
		if !strings.Contains(strings.Join(strings.Fields(got.out), " "), row) {
			t.Errorf("no %q in %s", row, got.out)
		}
	}
	if got := run(t, "token", "create", "--app=a", "--name=n", "--wait=30s", "-o=json"); got.code != exitIncomplete ||
		!strings.Contains(got.out, `"validatorId": "gone"`) {
		t.Errorf("%+v", got)
	}
}
