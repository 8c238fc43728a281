// Package apierr is the one place where what went wrong becomes a gRPC status: the code, a stable reason
// for programs (google.rpc.ErrorInfo, AIP-193), the field or condition at fault, and words for people. The
// cause stays behind: it is logged by whoever serves the call and never sent.
package apierr

import (
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// Domain is the domain of every ErrorInfo.
const Domain = "countersign"

// The reasons of UNAVAILABLE: no decision, or no change, could be made (B20).
const (
	NotLoaded          = "NOT_LOADED"
	DataTooOld         = "DATA_TOO_OLD"
	PolicyUnverified   = "POLICY_UNVERIFIED"
	RevisionNotReached = "REVISION_NOT_REACHED"
	RevisionLost       = "REVISION_LOST"
	TooManyWaiting     = "TOO_MANY_WAITING"
	StoreUnavailable   = "STORE_UNAVAILABLE"
	StoreForked        = "STORE_FORKED"
	StoreUnhealed      = "STORE_UNHEALED"
	OutcomeUnknown     = "OUTCOME_UNKNOWN"
	ShuttingDown       = "SHUTTING_DOWN"
)

// Overloaded is the reason of RESOURCE_EXHAUSTED when a server has too many calls in flight, or holds too
// much for them.
const Overloaded = "OVERLOADED"

// ValidatorIDTaken is the reason of ALREADY_EXISTS for a validator that reports by the name of one that was
// started later.
const ValidatorIDTaken = "VALIDATOR_ID_TAKEN"

// Error is an error with its gRPC code and public words. It is immutable.
type Error struct {
	code    codes.Code
	reason  string
	message string
	detail  protoadapt.MessageV1
	cause   error
	// answer is what a call that failed in part has to tell.
	answer protoadapt.MessageV1
}

// Error returns the public words and the cause, for logs.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.message
	}
	return e.message + ": " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Code returns the gRPC code.
func (e *Error) Code() codes.Code { return e.code }

// Reason returns the stable reason.
func (e *Error) Reason() string { return e.reason }

// Because returns the error with a cause, which is logged but not sent.
func (e *Error) Because(cause error) *Error {
	with := *e
	with.cause = cause
	return &with
}

// With returns the error with what a call has to tell that failed in part. It is sent among the details of
// the status.
func (e *Error) With(answer proto.Message) *Error {
	with := *e
	with.answer = protoadapt.MessageV1Of(answer)
	return &with
}

// Saying returns the error with other public words, for a call of which it is only a part.
func (e *Error) Saying(words string) *Error {
	with := *e
	with.message = words
	return &with
}

// GRPCStatus is what grpc-go sends for the error.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(e.code, e.message)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: e.reason, Domain: Domain}}
	if e.detail != nil {
		details = append(details, e.detail)
	}
	if e.answer != nil {
		details = append(details, e.answer)
	}
	with, err := s.WithDetails(details...)
	if err != nil {
		return s
	}
	return with
}

func newf(code codes.Code, reason, format string, args []any) *Error {
	return &Error{code: code, reason: reason, message: fmt.Sprintf(format, args...)}
}

// Invalid is INVALID_ARGUMENT for one field; the words say what was expected and must not hold the value of
// a secret.
func Invalid(field, format string, args ...any) *Error {
	words := fmt.Sprintf(format, args...)
	return &Error{
		code: codes.InvalidArgument, reason: "INVALID_FIELD", message: field + ": " + words,
		detail: &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: words},
		}},
	}
}

// Precondition is FAILED_PRECONDITION: the subject (an app or token) is not in the state that the call needs.
func Precondition(reason, subject, format string, args ...any) *Error {
	e := newf(codes.FailedPrecondition, reason, format, args)
	e.detail = &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
		{Type: reason, Subject: subject, Description: e.message},
	}}
	return e
}

// NotFound is NOT_FOUND.
func NotFound(reason, format string, args ...any) *Error {
	return newf(codes.NotFound, reason, format, args)
}

// AlreadyExists is ALREADY_EXISTS.
func AlreadyExists(reason, format string, args ...any) *Error {
	return newf(codes.AlreadyExists, reason, format, args)
}

// Exhausted is RESOURCE_EXHAUSTED.
func Exhausted(reason, format string, args ...any) *Error {
	return newf(codes.ResourceExhausted, reason, format, args)
}

// Aborted is ABORTED: what the caller had read has changed since; read again and repeat.
func Aborted(reason, format string, args ...any) *Error {
	return newf(codes.Aborted, reason, format, args)
}

// Unavailable is UNAVAILABLE with one of the reasons above.
func Unavailable(reason, format string, args ...any) *Error {
	return newf(codes.Unavailable, reason, format, args)
}

// Unimplemented is UNIMPLEMENTED for a call that a later release serves.
func Unimplemented(format string, args ...any) *Error {
	return newf(codes.Unimplemented, "NOT_SERVED", format, args)
}

// Unauthenticated is UNAUTHENTICATED: no known identity.
func Unauthenticated(format string, args ...any) *Error {
	return newf(codes.Unauthenticated, "NO_IDENTITY", format, args)
}

// PermissionDenied is PERMISSION_DENIED: a known identity whose role does not reach.
func PermissionDenied(format string, args ...any) *Error {
	return newf(codes.PermissionDenied, "ROLE_DOES_NOT_REACH", format, args)
}

// ReasonOf returns the stable reason of an error, also of one that came over gRPC; empty when it has none.
func ReasonOf(err error) string {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.reason
	}
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info.GetReason()
		}
	}
	return ""
}
