package store_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/authority/store"
)

// TestFleet: what authorities share comes back, and what they tell is heard.
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
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(f.Remove(t.Context(), []string{record.MembersField}))
	want("at the start", map[string]string{})
	check(f.Write(t.Context(), map[string][]byte{"a": []byte("1"), "b": []byte("2\x00")}))
	check(f.Write(t.Context(), map[string][]byte{"b": []byte("3"), "c": []byte("4")}))
	check(f.Write(t.Context(), nil))
	check(f.Remove(t.Context(), []string{"c", "nobody"}))
	check(f.Remove(t.Context(), nil))
	want("then", map[string]string{"a": "1", "b": "3"})
	some, err := f.Read(t.Context(), "b", "nobody")
	if err != nil || !maps.Equal(some, map[string]string{"b": "3"}) {
		t.Errorf("some: %v, %v", some, err)
	}

	heard := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Listen(ctx, func(news []byte) { heard <- string(news) }) }()
	redistest.Eventually(t, "hearing", func() error {
		check(f.Tell(t.Context(), []byte("news\x00")))
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
