package authorize

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
)

// held is the transport of a call whose message never arrives.
type held struct{ ended string }

func (*held) Method() string               { return "" }
func (*held) SetHeader(metadata.MD) error  { return nil }
func (*held) SendHeader(metadata.MD) error { return nil }
func (*held) SetTrailer(metadata.MD) error { return nil }
func (h *held) WriteStatus(s *status.Status) error {
	h.ended = apierr.ReasonOf(s.Err())
	return nil
}

// TestMessagesOnTheirWayAreBounded: a message must arrive within messageTimeout, or within shortTimeout
// while too many are arriving. Calls whose message has arrived are not ended.
func TestMessagesOnTheirWayAreBounded(t *testing.T) {
	start := receiving()
	begin := func(n int) (calls []*held, receivers []*receiver) {
		for range n {
			h, r := new(held), newReceiver()
			r.begin(grpc.NewContextWithServerTransportStream(context.Background(), h))
			calls, receivers = append(calls, h), append(receivers, &r)
		}
		return calls, receivers
	}
	after := func(n int, calls []*held) (ended int) {
		for range n {
			sweep(true)
		}
		for _, h := range calls {
			if h.ended == "MESSAGE_TIMEOUT" {
				ended++
			}
		}
		return ended
	}
	few, fewReceivers := begin(10)
	there, thereReceivers := begin(10)
	for _, r := range thereReceivers {
		r.end()
	}
	if n := after(int(messageTimeout/sweepInterval), few); n != 0 {
		t.Errorf("%d calls ended before messageTimeout", n)
	}
	if n := after(1, few); n != len(few) {
		t.Errorf("%d of %d calls ended after messageTimeout", n, len(few))
	}
	many, manyReceivers := begin(maxReceiving + 1)
	if n := after(int(shortTimeout/sweepInterval), many); n != 0 {
		t.Errorf("%d calls ended before shortTimeout", n)
	}
	if n := after(1, many); n != len(many) {
		t.Errorf("%d of %d calls ended after shortTimeout", n, len(many))
	}
	if n := after(0, there); n != 0 {
		t.Errorf("%d calls ended although their message has arrived", n)
	}
	for i, r := range append(manyReceivers, fewReceivers...) {
		if r.end(); receiving() != start+len(many)+len(few)-i-1 {
			t.Fatalf("%d messages are arriving", receiving())
		}
	}
}
