package authorize_test

import (
	"sync"
	"testing"

	"google.golang.org/grpc"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// A client that does not read its answers blocks only its own stream, and gets all answers when it reads
// again.
func TestStreamOfASlowReader(t *testing.T) {
	d := startDemo(t)
	// The window is fixed, because the one that grpc-go estimates would grow.
	connection := connect(t, d.cluster.Validators[0], grpc.WithStaticStreamWindowSize(64<<10))
	bulk := countersignv1.NewBulkValidatorServiceClient(connection)
	slow, err := bulk.AuthorizeStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const messages, together = 300, 200
	ask := &countersignv1.AuthorizeRequest{AppId: fuzzApp, Token: d.secret, Scope: events}
	message := &countersignv1.AuthorizeStreamRequest{Request: ask}
	for range together - 1 {
		message.More = append(message.More, ask)
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for range messages {
			if err := slow.Send(message); err != nil {
				t.Error(err)
				return
			}
		}
	})

	other, err := bulk.AuthorizeStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := other.Send(&countersignv1.AuthorizeStreamRequest{Request: ask}); err != nil {
			t.Fatal(err)
		}
		if got, err := other.Recv(); err != nil || got.GetResponse().GetReason() != valid {
			t.Fatal(got, err)
		}
	}

	for i := range messages {
		got, err := slow.Recv()
		if err != nil || 1+len(got.GetMore()) != together || got.GetResponse().GetReason() != valid {
			t.Fatalf("message %d: %d answers, %v", i, 1+len(got.GetMore()), err)
		}
	}
}

const valid = countersignv1.Reason_REASON_TOKEN_VALID
