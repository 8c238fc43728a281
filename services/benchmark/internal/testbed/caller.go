package testbed

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/internal/load"
)

// clientCaller sends its questions with the product's client. Each question has a goroutine of its own, as in
// an ingest server.
type clientCaller struct {
	connection io.Closer
	client     *client.Client
	deadline   time.Duration // of each question; 0 is the client's default
}

// NewClientCaller returns a caller that sends questions with a client. The caller's Close closes the client
// and its connection. deadline is the time for each question; 0 is the client's default.
func NewClientCaller(c *client.Client, connection io.Closer, deadline time.Duration) load.Caller {
	return &clientCaller{connection: connection, client: c, deadline: deadline}
}

func connectStream(_ context.Context, address string, _ int) (load.Caller, error) {
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return NewClientCaller(client.NewStreaming(c, client.StreamOptions{}), c, 0), nil
}

// Start implements load.Caller.
func (s *clientCaller) Start(c *load.Call) {
	go func() {
		q, ctx := c.Question.Request, context.Background()
		if s.deadline > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.deadline)
			defer cancel()
		}
		a, err := s.client.Authorize(ctx, client.Request{
			AppID: q.GetAppId(), Token: secret.New(q.GetToken()), Scope: q.GetScope(),
		})
		decision := countersignv1.Decision_DECISION_DENY
		if a.Allow {
			decision = countersignv1.Decision_DECISION_ALLOW
		}
		c.Done(load.Answer{Decision: decision, Reason: a.Reason}, err)
	}()
}

// Flush implements load.Caller. It does nothing, because the client sends each question at once.
func (*clientCaller) Flush() {}

// Close implements load.Caller.
func (s *clientCaller) Close() error {
	s.client.Close()
	return s.connection.Close()
}
