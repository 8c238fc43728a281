package bench

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/countersign/countersign/pkg/client"
	"github.com/countersign/countersign/pkg/secret"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
	"github.com/countersign/countersign/services/countersign/internal/bench/load"
)

// streamCaller asks over the streams of the real client: each question comes from a goroutine of its own, as in the ingest tier.
type streamCaller struct {
	connection *grpc.ClientConn
	client     *client.Client
}

func connectStream(_ context.Context, address string, _ int) (load.Caller, error) {
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &streamCaller{c, client.NewStreaming(c, client.StreamOptions{})}, nil
}

// Start implements load.Caller.
func (s *streamCaller) Start(c *load.Call) {
	go func() {
		q := c.Question.Request
		a, err := s.client.Authorize(context.Background(), client.Request{AppID: q.GetAppId(), Token: secret.New(q.GetToken()), Scope: q.GetScope()})
		decision := countersignv1.Decision_DECISION_DENY
		if a.Allow {
			decision = countersignv1.Decision_DECISION_ALLOW
		}
		c.Done(load.Answer{Decision: decision, Reason: a.Reason}, err)
	}()
}

// Flush implements load.Caller: the client sends by itself.
func (*streamCaller) Flush() {}

// Close implements load.Caller.
func (s *streamCaller) Close() error {
	s.client.Close()
	return s.connection.Close()
}
