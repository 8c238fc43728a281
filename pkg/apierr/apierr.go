// Package apierr has the errors that calls end with. Each becomes a gRPC status with a code, a stable reason
// for programs (google.rpc.ErrorInfo, AIP-193), a message for people, and where it applies the field or the
// condition at fault. An error may also have a cause, which the server logs and never sends. This package is
// not part of the public API and may change in any release.
//
// The reasons are part of the contract in proto.
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

// Domain is the domain of every ErrorInfo that Countersign sends.
const Domain = "countersign"

// The reasons of UNAVAILABLE: the server could not decide, or could not make a change (B20). Clients may
// depend on their text.
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
	UsageUnavailable   = "USAGE_UNAVAILABLE"
)

// Overloaded is the reason of RESOURCE_EXHAUSTED when a server has too many calls in flight, or their
// messages take too much memory.
const Overloaded = "OVERLOADED"

// ValidatorIDTaken is the reason of ALREADY_EXISTS for a validator that reports with the id of one that was
// started later.
const ValidatorIDTaken = "VALIDATOR_ID_TAKEN"

// Error is an error with a gRPC code, a stable reason and a message that clients see. It is immutable, so it
// is safe for concurrent use and calls may share it.
type Error struct {
	code    codes.Code
	reason  string
	message string
	detail  protoadapt.MessageV1
	cause   error
	// answer is what a call that failed in part has achieved.
	answer protoadapt.MessageV1
}

// Error returns the message and the cause, for logs.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.message
	}
	return e.message + ": " + e.cause.Error()
}

// Unwrap returns the cause, nil if there is none.
func (e *Error) Unwrap() error { return e.cause }

// Code returns the gRPC code.
func (e *Error) Code() codes.Code { return e.code }

// Reason returns the stable reason.
func (e *Error) Reason() string { return e.reason }

// Because returns a copy of the error with a cause, which is logged and not sent.
func (e *Error) Because(cause error) *Error {
	with := *e
	with.cause = cause
	return &with
}

// With returns a copy of the error with the answer of a call that failed in part. The answer is sent among
// the details of the status.
func (e *Error) With(answer proto.Message) *Error {
	with := *e
	with.answer = protoadapt.MessageV1Of(answer)
	return &with
}

// Saying returns a copy of the error with another message, for a call in which the error is only one part.
func (e *Error) Saying(message string) *Error {
	with := *e
	with.message = message
	return &with
}

// GRPCStatus returns the status that is sent for the error. grpc-go calls it.
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

// Invalid returns INVALID_ARGUMENT with the reason INVALID_FIELD. The field is named as in the request, such
// as token.name. The text says what was expected and must not contain a secret.
func Invalid(field, format string, args ...any) *Error {
	text := fmt.Sprintf(format, args...)
	return &Error{
		code: codes.InvalidArgument, reason: "INVALID_FIELD", message: field + ": " + text,
		detail: &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: text},
		}},
	}
}

// Precondition returns FAILED_PRECONDITION: the subject, such as apps/ID, is not in the state that the call
// needs.
func Precondition(reason, subject, format string, args ...any) *Error {
	e := newf(codes.FailedPrecondition, reason, format, args)
	e.detail = &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
		{Type: reason, Subject: subject, Description: e.message},
	}}
	return e
}

// Violation is one reason why a precondition does not hold. Type is its stable name.
type Violation struct{ Type, Description string }

// Preconditions returns FAILED_PRECONDITION for a subject with several violations.
func Preconditions(reason, subject string, violations []Violation, format string, args ...any) *Error {
	e := newf(codes.FailedPrecondition, reason, format, args)
	detail := &errdetails.PreconditionFailure{}
	for _, v := range violations {
		detail.Violations = append(detail.Violations, &errdetails.PreconditionFailure_Violation{
			Type: v.Type, Subject: subject, Description: v.Description,
		})
	}
	e.detail = detail
	return e
}

// NotFound returns NOT_FOUND.
func NotFound(reason, format string, args ...any) *Error {
	return newf(codes.NotFound, reason, format, args)
}

// AlreadyExists returns ALREADY_EXISTS.
func AlreadyExists(reason, format string, args ...any) *Error {
	return newf(codes.AlreadyExists, reason, format, args)
}

// Exhausted returns RESOURCE_EXHAUSTED.
func Exhausted(reason, format string, args ...any) *Error {
	return newf(codes.ResourceExhausted, reason, format, args)
}

// Aborted returns ABORTED: the data has changed since the caller read it. The caller should read it again
// and repeat the call.
func Aborted(reason, format string, args ...any) *Error {
	return newf(codes.Aborted, reason, format, args)
}

// Unavailable returns UNAVAILABLE with one of the reasons above.
func Unavailable(reason, format string, args ...any) *Error {
	return newf(codes.Unavailable, reason, format, args)
}

// Unimplemented returns UNIMPLEMENTED with the reason NOT_SERVED: this release does not serve the call.
func Unimplemented(format string, args ...any) *Error {
	return newf(codes.Unimplemented, "NOT_SERVED", format, args)
}

// Unauthenticated returns UNAUTHENTICATED with the reason NO_IDENTITY: the caller is not known.
func Unauthenticated(format string, args ...any) *Error {
	return newf(codes.Unauthenticated, "NO_IDENTITY", format, args)
}

// PermissionDenied returns PERMISSION_DENIED with the reason ROLE_DOES_NOT_REACH: the caller is known, and
// its role does not allow the call.
func PermissionDenied(format string, args ...any) *Error {
	return newf(codes.PermissionDenied, "ROLE_DOES_NOT_REACH", format, args)
}

// ReasonOf returns the stable reason of an Error, however deeply wrapped, or of a status received over gRPC.
// It is empty for every other error.
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
