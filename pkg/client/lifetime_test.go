package client_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/client"
)

// When a validator does not support streams, the client asks all questions in calls, and tries a stream about
// once a minute.
func TestStreamingFallsBackToCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		c := streaming(t, f, client.StreamOptions{Streams: 1})
		for range 3600 {
			if err := ask(t.Context(), t, c, "x"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		if n := f.streams.Load(); n < 45 || n > 80 {
			t.Errorf("%d streams tried in an hour", n)
		}
	})
}

// When streams end before they answer a question, the pauses between them grow.
func TestStreamingBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stream: func(serverStream) error { return errors.New("not now") }}
		c := streaming(t, f, client.StreamOptions{Streams: 1})
		for range 3600 {
			if err := ask(t.Context(), t, c, "x"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		if n := f.streams.Load(); n < 300 || n > 460 {
			t.Errorf("%d streams tried in an hour", n)
		}
	})
}

// The client renews streams while they are used, without an error for any caller. It closes streams that are
// not used.
func TestStreamingRenewsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{stream: each(echoed)}
		c := streaming(t, f, client.StreamOptions{})
		for range 3600 {
			if err := ask(t.Context(), t, c, "x"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
		used := f.streams.Load()
		if used < 2*80 || used > 2*120 || f.calls.Load() > 20 {
			t.Errorf("the client used %d streams and %d calls in an hour", used, f.calls.Load())
		}
		time.Sleep(10 * time.Hour)
		if f.streams.Load() != used {
			t.Errorf("the client opened %d more streams while nothing was asked", f.streams.Load()-used)
		}
	})
}
