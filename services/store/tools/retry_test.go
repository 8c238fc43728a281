package tools

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/countersign/countersign/pkg/redisfeed"
	"github.com/countersign/countersign/pkg/testkit/redistest"
)

// dials counts a client's attempts to connect.
type dials struct{ count atomic.Int64 }

func (d *dials) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d.count.Add(1)
		return next(ctx, network, address)
	}
}

func (d *dials) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (d *dials) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestTheFirstReadWaitsForConnectionsThatHold: for a while every new connection breaks. A restoration must
// know the existing store before it writes, so its first read is repeated like the others.
func TestTheFirstReadWaitsForConnectionsThatHold(t *testing.T) {
	s := newSystem(t)
	backup := s.backup()
	proxy := redistest.NewProxy(t, s.redis.Address())
	client, tries := clientOf(t, proxy.URL()), dials{}
	client.AddHook(&tries)
	tools := New(client, s.ring)
	for name, command := range map[string]func() error{
		"status":  func() error { _, err := tools.Status(t.Context()); return err },
		"verify":  func() error { _, err := tools.Verify(t.Context()); return err },
		"restore": func() error { _, err := tools.Restore(t.Context(), backup, RestoreOptions{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			began := tries.count.Load()
			proxy.Refuse()
			done := make(chan error, 1)
			go func() { done <- command() }()
			for tries.count.Load() < began+6 && len(done) == 0 {
				time.Sleep(time.Millisecond)
			}
			proxy.Restore()
			if err := <-done; err != nil && !errors.Is(err, ErrNotEmpty) {
				t.Error(err)
			}
		})
	}
}

// TestAnAbsentRedisIsReportedAtOnce: a Redis that has answered before is waited for, because it restarts or
// another one takes over.
func TestAnAbsentRedisIsReportedAtOnce(t *testing.T) {
	absent := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for name, tt := range map[string]struct {
		errors []error
		reads  int
		want   error
	}{
		"nobody is there":            {errors: []error{absent, nil}, reads: 1, want: absent},
		"it answers":                 {errors: []error{nil}, reads: 1},
		"it was there, and is again": {errors: []error{io.EOF, absent, absent, io.EOF, nil}, reads: 5},
		"it has something else to say": {
			errors: []error{redisfeed.ErrNotInitialised, nil}, reads: 1,
			want: redisfeed.ErrNotInitialised,
		},
		"it was there, and says another thing": {
			errors: []error{io.EOF, redisfeed.ErrNotInitialised, nil}, reads: 2,
			want: redisfeed.ErrNotInitialised,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads := 0
				err := firstRead(t.Context(), func() error { reads++; return tt.errors[reads-1] })
				if !errors.Is(err, tt.want) || reads != tt.reads {
					t.Errorf("%v after %d reads, want %v after %d", err, reads, tt.want, tt.reads)
				}
			})
		})
	}
}
