// Package client asks validators whether to accept a request. Ingest servers use it.
//
// Dial connects to several validators. New returns a client that asks each question in a gRPC call.
// NewStreaming returns a client that asks over gRPC streams, which costs less. Middleware protects an
// http.Handler.
//
// This package is part of the public API: `make api` fails when a change would break programs that use it.
package client

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// DefaultTimeout is how long a question may take when its context has no deadline. A validator usually
// answers within a millisecond.
const DefaultTimeout = time.Second

// Client asks validators. Make one with New or NewStreaming. It is safe for concurrent use.
type Client struct {
	calls   *calls
	streams *streams // nil for a client of New, which asks all questions in calls
}

// New returns a client that asks each question in its own gRPC call. The client does not close the
// connection; the caller does.
//
// Over a Connection (from Dial), the client asks another validator when the first one does not answer; see
// Dial. Over any other connection it asks each question once.
func New(connection grpc.ClientConnInterface) *Client {
	c := &calls{validator: countersignv1.NewValidatorServiceClient(connection)}
	if dialed, ok := connection.(*Connection); ok {
		c.again = &dialed.again
	}
	return &Client{calls: c}
}

// Request is one question: may this request pass?
type Request struct {
	// AppID is the app that the request is for: 1 to 64 characters of A-Z a-z 0-9 - _.
	AppID string
	// Token is the secret that the request carried, without `Bearer `. The zero value means no token.
	Token secret.Secret
	// Scope is the endpoint that was called.
	Scope countersignv1.Scope
	// Source is the kind of sender. The zero value means an ordinary backend.
	Source countersignv1.Source
	// MinRevision is a consistency token that stands for a change. The validator waits until it has this
	// change, and then answers. If it does not have the change after at most 5 s, it returns UNAVAILABLE.
	// With an empty MinRevision it answers at once.
	MinRevision string
}

// Answer is the answer to one question.
type Answer struct {
	// Allow is true when the request is to be accepted.
	Allow bool
	// Reason is the result of the check of the token.
	Reason countersignv1.Reason
	// Enforced is true when the app requires a token for the scope.
	Enforced bool
	// TokenID is the id of the token that the secret belongs to, even when the token is revoked or expired.
	// It is empty when the app has no such token.
	TokenID string
	// Revision is the revision of the app's partition on which the decision is based.
	Revision uint64
	// DataAge is the time since the validator last knew that its data was complete.
	DataAge time.Duration
}

// Authorize asks one question. An error is never a denial. It means that there is no answer, for example
// because the question is invalid or no validator can decide. The function Undecided finds out whether an
// error is an outage. The function Reason names the cause. Without a deadline in ctx, DefaultTimeout applies.
func (c *Client) Authorize(ctx context.Context, request Request) (Answer, error) {
	token := request.Token.Reveal()
	if len(token) > secret.MaxLength {
		// All longer tokens are malformed (B03), so the rest need not be sent.
		token = token[:secret.MaxLength+1]
	}
	if !utf8.ValidString(token) {
		// A protobuf string must be UTF-8. No secret has other characters, so the replacement is malformed
		// too.
		token = strings.ToValidUTF8(token, "?")
	}
	response, err := c.ask(ctx, &countersignv1.AuthorizeRequest{
		AppId: request.AppID, Token: token, Scope: request.Scope, Source: request.Source, MinRevision: request.MinRevision,
	})
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{
		Reason: response.GetReason(), Enforced: response.GetEnforced(), TokenID: response.GetTokenId(),
		Revision: response.GetRevision(), DataAge: response.GetDataAge().AsDuration(),
	}
	switch response.GetDecision() {
	case countersignv1.Decision_DECISION_ALLOW:
		answer.Allow = true
	case countersignv1.Decision_DECISION_DENY:
	default:
		return Answer{}, fmt.Errorf("the validator answered neither ALLOW nor DENY but %s", response.GetDecision())
	}
	return answer, nil
}

func (c *Client) ask(
	ctx context.Context, question *countersignv1.AuthorizeRequest,
) (*countersignv1.AuthorizeResponse, error) {
	if c.streams != nil {
		return c.streams.ask(ctx, question)
	}
	ctx, cancel := bounded(ctx, time.Now())
	defer cancel()
	return c.calls.ask(ctx, question)
}

// bounded returns ctx if it has a deadline. Otherwise it adds a deadline: DefaultTimeout after asked, the
// time at which the question was asked.
func bounded(ctx context.Context, asked time.Time) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, asked.Add(DefaultTimeout))
}

// Reason returns the stable reason of an error of Authorize, for logs and metrics, such as NOT_LOADED. It
// returns the name of the gRPC code, such as Unavailable, for an error that carries no reason.
func Reason(err error) string {
	if reason := apierr.ReasonOf(err); reason != "" {
		return reason
	}
	return status.Code(err).String()
}
