package grpcserver

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sync/errgroup"
)

// TestGroup: servers in one errgroup end when another member fails, and Wait returns that failure.
func TestGroup(t *testing.T) {
	api, err := New(Config{Listen: loopback(t), StreamWorkers: 2}, new(logs).logger())
	if err != nil {
		t.Fatal(err)
	}
	web, err := NewHTTP(HTTPConfig{Listen: loopback(t)}, new(logs).logger())
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("could not go on")
	group, ctx := errgroup.WithContext(t.Context())
	group.Go(func() error { return api.Serve(ctx) })
	group.Go(func() error { return web.Serve(ctx) })
	group.Go(func() error { return failure })
	if err := group.Wait(); !errors.Is(err, failure) {
		t.Errorf("Wait = %v, want %v", err, failure)
	}
	for _, address := range []net.Addr{api.Addr(), web.Addr()} {
		if conn, err := net.Dial("tcp", address.String()); err == nil {
			conn.Close()
			t.Errorf("%s is still listened on", address)
		}
	}
}
