package client_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/client"
)

// With a validator that serves no streams all is asked in calls, and one is tried for about every minute.
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

// Streams that end unused are opened ever more rarely.
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

// Streams are renewed while they are used, without any caller noticing, and let go when they are not.
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
			t.Errorf("%d streams in an hour, %d calls", used, f.calls.Load())
		}
		time.Sleep(10 * time.Hour)
		if f.streams.Load() != used {
			t.Errorf("%d streams more while nothing is asked", f.streams.Load()-used)
		}
	})
}
