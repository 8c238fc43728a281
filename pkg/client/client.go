// Package client is for the ingest tier: it asks a validator about each request, over gRPC, in calls or
// over streams, and puts the question in front of an http.Handler.
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

// DefaultTimeout bounds a question whose context has no deadline. A validator answers within a millisecond;
// one that does not is as good as gone.
const DefaultTimeout = time.Second

// Client asks validators. It is safe for concurrent use.
type Client struct {
	calls   *calls
	streams *streams // nil: all questions are asked in calls
}

// New returns a client that asks each question in a call of its own, over a connection that stays the
// caller's to close. With one of Dial, no question fails because of one validator; over any other, each is
// asked once.
func New(connection grpc.ClientConnInterface) *Client {
	c := &calls{validator: countersignv1.NewValidatorServiceClient(connection)}
	if dialed, ok := connection.(*Connection); ok {
		c.again = &dialed.again
	}
	return &Client{calls: c}
}

// Request is one question.
type Request struct {
	// AppID is the app that the request is for.
	AppID string
	// Token is the secret that the request carried: what stands behind `Authorization: Bearer `.
	Token secret.Secret
	// Scope is the endpoint that was called.
	Scope countersignv1.Scope
	// Source is what sent the request; the zero value is an ordinary backend.
	Source countersignv1.Source
	// MinRevision is a consistency token; empty to decide at once.
	MinRevision string
}

// Answer is the answer to one question.
type Answer struct {
	// Allow says whether to accept the request.
	Allow bool
	// Reason is the verdict on the token.
	Reason countersignv1.Reason
	// Enforced says whether the scope was enforced.
	Enforced bool
	// TokenID is the token that was recognised; empty for none.
	TokenID string
	// Revision and DataAge say how new the data was that the answer rests on.
	Revision uint64
	DataAge  time.Duration
}

// Authorize asks about one request. An error is never a denial: the question was malformed, or there is no
// answer now. Reason tells the two apart.
func (c *Client) Authorize(ctx context.Context, request Request) (Answer, error) {
	token := request.Token.Reveal()
	if len(token) > secret.MaxLength {
		// Longer ones are malformed whatever they say (B03), and need not be sent.
		token = token[:secret.MaxLength+1]
	}
	if !utf8.ValidString(token) {
		// A protobuf string must be UTF-8, and no secret has anything else: what replaces it is malformed,
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

func (c *Client) ask(ctx context.Context, question *countersignv1.AuthorizeRequest) (*countersignv1.AuthorizeResponse, error) {
	if c.streams != nil {
		return c.streams.ask(ctx, question)
	}
	ctx, cancel := bounded(ctx, time.Now())
	defer cancel()
	return c.calls.ask(ctx, question)
}

// bounded returns a context for a question that was asked at a time. It has a deadline.
func bounded(ctx context.Context, asked time.Time) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, asked.Add(DefaultTimeout))
}

// Reason returns the stable reason of an error of Authorize, for logs and metrics: NOT_LOADED and its like,
// or the gRPC code when the validator itself was out of reach.
func Reason(err error) string {
	if reason := apierr.ReasonOf(err); reason != "" {
		return reason
	}
	return status.Code(err).String()
}
