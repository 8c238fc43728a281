package authorize

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// TestB25_CallsThatWaitAreBounded: calls that wait for a min_revision share the slots with streams. A call
// without a slot gets UNAVAILABLE at once. A call without a min_revision needs no slot.
func TestB25_CallsThatWaitAreBounded(t *testing.T) {
	w := startWorld(t)
	w.service.waiting = make(waiting, 2)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	ended := make(chan error, 2)
	for range cap(w.service.waiting) {
		go func() {
			_, err := w.service.call(ctx, w.ahead(1000))
			ended <- err
		}()
	}
	check.Eventually(t, "all slots taken", func() error {
		if len(w.service.waiting) < cap(w.service.waiting) {
			return errors.New("some are free")
		}
		return nil
	})
	_, err := w.service.call(ctx, w.ahead(1000))
	if status.Code(err) != codes.Unavailable || apierr.ReasonOf(err) != apierr.TooManyWaiting {
		t.Errorf("one more call that waits: %v", err)
	}
	line := talk(t, NewBulk(w.service, testServer{}))
	line.ask(w.ahead(1000))
	if got := outcomes(t, line.answer()); len(got) != 1 || got[1] != tooMany {
		t.Errorf("a request of a stream that waits: %v", got)
	}
	line.hangUp()
	line.end()
	if _, err := w.service.call(ctx, w.request()); err != nil {
		t.Errorf("a call that does not wait: %v", err)
	}
	hangUp()
	for range cap(w.service.waiting) {
		if err := <-ended; apierr.ReasonOf(err) != apierr.RevisionNotReached {
			t.Errorf("a call that waited: %v", err)
		}
	}
	if len(w.service.waiting) != 0 {
		t.Error("a slot was not given back")
	}
}
