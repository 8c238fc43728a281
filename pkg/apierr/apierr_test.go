package apierr_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/apierr"
)

// overTheWire returns the error that a client receives when a server returns err: it encodes and decodes the
// status as grpc-go does.
func overTheWire(t *testing.T, err error) error {
	t.Helper()
	sent, _ := status.FromError(err)
	raw, marshalErr := proto.Marshal(sent.Proto())
	if marshalErr != nil {
		t.Fatal(marshalErr)
	}
	var received spb.Status
	if err := proto.Unmarshal(raw, &received); err != nil {
		t.Fatal(err)
	}
	return status.FromProto(&received).Err()
}

func TestEachErrorHasItsCodeReasonAndDetails(t *testing.T) {
	info := func(reason string) *errdetails.ErrorInfo {
		return &errdetails.ErrorInfo{Reason: reason, Domain: "countersign"}
	}
	tests := []struct {
		name    string
		err     *apierr.Error
		code    codes.Code
		message string
		details []proto.Message
	}{
		{
			"Invalid", apierr.Invalid("token.name", "must have at most %d characters", 100),
			codes.InvalidArgument, "token.name: must have at most 100 characters",
			[]proto.Message{info("INVALID_FIELD"), &errdetails.BadRequest{
				FieldViolations: []*errdetails.BadRequest_FieldViolation{
					{Field: "token.name", Description: "must have at most 100 characters"},
				},
			}},
		},
		{
			"Precondition", apierr.Precondition("LOCKOUT", "apps/pezwd5bre2xb", "%s would have no token", "EVENTS"),
			codes.FailedPrecondition, "EVENTS would have no token",
			[]proto.Message{info("LOCKOUT"), &errdetails.PreconditionFailure{
				Violations: []*errdetails.PreconditionFailure_Violation{
					{Type: "LOCKOUT", Subject: "apps/pezwd5bre2xb", Description: "EVENTS would have no token"},
				},
			}},
		},
		{
			"NotFound", apierr.NotFound("TOKEN_NOT_FOUND", "no token %q", "tok_1"),
			codes.NotFound, `no token "tok_1"`,
			[]proto.Message{info("TOKEN_NOT_FOUND")},
		},
		{
			"AlreadyExists", apierr.AlreadyExists("NAME_TAKEN", "the name %q is taken", "a"),
			codes.AlreadyExists, `the name "a" is taken`,
			[]proto.Message{info("NAME_TAKEN")},
		},
		{
			"Exhausted", apierr.Exhausted("TOO_MANY_TOKENS", "at most %d tokens", 1000),
			codes.ResourceExhausted, "at most 1000 tokens",
			[]proto.Message{info("TOO_MANY_TOKENS")},
		},
		{
			"B07 Aborted", apierr.Aborted("STALE_ETAG", "the token has changed"),
			codes.Aborted, "the token has changed",
			[]proto.Message{info("STALE_ETAG")},
		},
		{
			"Unimplemented", apierr.Unimplemented("served from %s on", "v2"),
			codes.Unimplemented, "served from v2 on",
			[]proto.Message{info("NOT_SERVED")},
		},
		{
			"B26 Unauthenticated", apierr.Unauthenticated("no identity"),
			codes.Unauthenticated, "no identity",
			[]proto.Message{info("NO_IDENTITY")},
		},
		{
			"B26 PermissionDenied", apierr.PermissionDenied("%s may not change", "viewer"),
			codes.PermissionDenied, "viewer may not change",
			[]proto.Message{info("ROLE_DOES_NOT_REACH")},
		},
		{
			"message with a percent sign", apierr.Aborted("R", "%s", "100 %d"),
			codes.Aborted, "100 %d",
			[]proto.Message{info("R")},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.err.Code() != tt.code || tt.err.Error() != tt.message {
				t.Errorf("%v %q, want %v %q", tt.err.Code(), tt.err, tt.code, tt.message)
			}
			reason := tt.details[0].(*errdetails.ErrorInfo).GetReason()
			if tt.err.Reason() != reason || apierr.ReasonOf(tt.err) != reason {
				t.Errorf("reason %q, ReasonOf %q, want %q", tt.err.Reason(), apierr.ReasonOf(tt.err), reason)
			}
			received := overTheWire(t, tt.err)
			if got := apierr.ReasonOf(received); got != reason {
				t.Errorf("ReasonOf the received error = %q, want %q", got, reason)
			}
			s := status.Convert(received)
			if s.Code() != tt.code || s.Message() != tt.message {
				t.Errorf("a client receives %v %q, want %v %q", s.Code(), s.Message(), tt.code, tt.message)
			}
			if len(s.Details()) != len(tt.details) {
				t.Fatalf("a client receives the details %v, want %v", s.Details(), tt.details)
			}
			for i, want := range tt.details {
				if got, ok := s.Details()[i].(proto.Message); !ok || !proto.Equal(got, want) {
					t.Errorf("detail %d is %v, want %v", i, s.Details()[i], want)
				}
			}
		})
	}
}

// TestB20_EveryUnavailableHasAStableReason: a client can distinguish the reasons of UNAVAILABLE from a denial
// and from each other. The test spells them out, because clients have them in their code.
func TestB20_EveryUnavailableHasAStableReason(t *testing.T) {
	for want, reason := range map[string]string{
		"NOT_LOADED":           apierr.NotLoaded,
		"DATA_TOO_OLD":         apierr.DataTooOld,
		"POLICY_UNVERIFIED":    apierr.PolicyUnverified,
		"REVISION_NOT_REACHED": apierr.RevisionNotReached,
		"REVISION_LOST":        apierr.RevisionLost,
		"STORE_UNAVAILABLE":    apierr.StoreUnavailable,
		"STORE_FORKED":         apierr.StoreForked,
		"OUTCOME_UNKNOWN":      apierr.OutcomeUnknown,
		"SHUTTING_DOWN":        apierr.ShuttingDown,
	} {
		received := overTheWire(t, apierr.Unavailable(reason, "no decision"))
		if status.Code(received) != codes.Unavailable || apierr.ReasonOf(received) != want {
			t.Errorf("a client receives %v %q, want UNAVAILABLE %q", status.Code(received), apierr.ReasonOf(received), want)
		}
	}
}

func TestBecauseKeepsTheCauseFromTheClient(t *testing.T) {
	cause := fmt.Errorf("dial tcp 10.1.2.3:6379: %w", context.DeadlineExceeded)
	plain := apierr.Unavailable(apierr.StoreUnavailable, "the store does not answer")
	err := plain.Because(cause)

	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "10.1.2.3") {
		t.Errorf("%q does not contain the cause, which logs need", err)
	}
	if err.Code() != codes.Unavailable || apierr.ReasonOf(err) != apierr.StoreUnavailable {
		t.Errorf("with a cause it is %v %q", err.Code(), apierr.ReasonOf(err))
	}
	received := overTheWire(t, err)
	text := fmt.Sprint(status.Convert(received).Proto())
	if strings.Contains(text, "10.1.2.3") || strings.Contains(text, "deadline") {
		t.Errorf("a client receives the cause: %s", text)
	}
	if !errors.Is(received, overTheWire(t, plain)) {
		t.Errorf("a client receives %v with a cause and %v without", received, overTheWire(t, plain))
	}
	// Calls share errors, so Because must not change the error that it is called on.
	if plain.Unwrap() != nil || plain.Error() != "the store does not answer" {
		t.Errorf("Because changed the error that it was called on: %q", plain)
	}
}

func TestReasonOf(t *testing.T) {
	foreign, err := status.New(codes.Unavailable, "").WithDetails(&errdetails.ErrorInfo{Reason: "X", Domain: "elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	both, err := foreign.WithDetails(&errdetails.ErrorInfo{Reason: "OURS", Domain: apierr.Domain})
	if err != nil {
		t.Fatal(err)
	}
	inner := apierr.NotFound("INNER", "inner")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"nil", nil, ""},
		{"plain", errors.New("plain"), ""},
		{"status without details", status.Error(codes.Unavailable, "down"), ""},
		{"status of another domain", foreign.Err(), ""},
		{"status of several domains", both.Err(), "OURS"},
		{"wrapped", fmt.Errorf("call: %w", inner), "INNER"},
		{"received and wrapped", fmt.Errorf("call: %w", overTheWire(t, inner)), "INNER"},
		{"caused by another", apierr.Aborted("OUTER", "outer").Because(inner), "OUTER"},
		{"caused by a received one", apierr.Aborted("OUTER", "outer").Because(overTheWire(t, inner)), "OUTER"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := apierr.ReasonOf(tt.err); got != tt.want {
				t.Errorf("ReasonOf = %q, want %q", got, tt.want)
			}
		})
	}
}
