package store_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/services/store"
)

// TestFleet: authorities read back what they share, and receive each other's messages.
func TestFleet(t *testing.T) {
	s := newSystem(t)
	f := store.NewFleet(s.client)
	want := func(when string, want map[string]string) {
		t.Helper()
		all, err := f.Read(t.Context())
		if err != nil || !maps.Equal(all, want) {
			t.Errorf("%s: %v, %v; want %v", when, all, err, want)
		}
		names, err := f.Names(t.Context())
		if err != nil || !slices.Equal(slices.Sorted(slices.Values(names)), slices.Sorted(maps.Keys(want))) {
			t.Errorf("%s: names %v, %v", when, names, err)
		}
	}
	succeed := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	succeed(f.Remove(t.Context(), []string{record.MembersField}))
	want("at the start", map[string]string{})
	succeed(f.Write(t.Context(), map[string][]byte{"a": []byte("1"), "b": []byte("2\x00")}))
	succeed(f.Write(t.Context(), map[string][]byte{"b": []byte("3"), "c": []byte("4")}))
	succeed(f.Write(t.Context(), nil))
	succeed(f.Remove(t.Context(), []string{"c", "nobody"}))
	succeed(f.Remove(t.Context(), nil))
	want("then", map[string]string{"a": "1", "b": "3"})
	some, err := f.Read(t.Context(), "b", "nobody")
	if err != nil || !maps.Equal(some, map[string]string{"b": "3"}) {
		t.Errorf("some: %v, %v", some, err)
	}

	heard := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Listen(ctx, func(news []byte) { heard <- string(news) }) }()
	check.Eventually(t, "hearing", func() error {
		succeed(f.Tell(t.Context(), []byte("news\x00")))
		select {
		case news := <-heard:
			if news != "news\x00" {
				t.Errorf("heard %q", news)
			}
			return nil
		default:
			return errors.New("nothing is heard")
		}
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("listening ended with %v", err)
	}
	s.redis.Stop()
	if _, err := f.Names(t.Context()); err == nil {
		t.Error("names without a Redis")
	}
	if err := f.Listen(t.Context(), func([]byte) {}); err == nil {
		t.Error("it listens without a Redis")
	}
}
