package ledger

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// appStore is a store with an app. empty is its state before the app was made.
type appStore struct {
	*storetest.Store
	app   string
	empty storetest.State
}

// TestB21_WhatIsKnownOfAnApp: an authority knows the tokens of an app, or that there is no such app, only
// while it has all that validators can have. Otherwise token ids are kept, and counts of apps that it does
// not have wait.
func TestB21_WhatIsKnownOfAnApp(t *testing.T) {
	const wait = 10 * time.Second
	errDown := errors.New("down")
	damage := func(s appStore) {
		raw := s.RawDocument(s.app)
		raw[len(raw)-1] ^= 1
		s.SetDocument(s.app, raw)
	}
	// unseen makes the replica read the store anew, because it gets no hint and the log is too short.
	unseen := func(s appStore) {
		s.Fail(storetest.Faults{Hint: func(int, []byte) [][]byte { return nil }})
		s.Commit(s.app, storetest.AddToken("new"))
		s.Trim(0, 0)
	}
	nothing := func(appStore) {}
	for _, tt := range []struct {
		name string
		// before is what happens to the store before the replica loads it. happens is what happens later.
		before, happens func(s appStore)
		// ids are the tokens of the app; nil when they are not known. err is of an app that is not there.
		ids []string
		err error
	}{
		{"nothing happens", nothing, nothing, []string{"old"}, nil},
		{
			"another authority adds a token", nothing,
			func(s appStore) { s.Commit(s.app, storetest.AddToken("new")) },
			[]string{"new", "old"},
			nil,
		},
		{
			"a token is added while the store does not answer", nothing, func(s appStore) {
				s.Fail(storetest.Faults{Down: errDown})
				s.Commit(s.app, storetest.AddToken("new"))
			},
			nil, errNotNow,
		},
		{
			"the document is damaged when a token is added", nothing, func(s appStore) {
				unseen(s)
				damage(s)
			},
			nil, nil,
		},
		{"the document was never read", damage, nothing, nil, nil},
		{
			"the document is lost", nothing, func(s appStore) {
				unseen(appStore{Store: s.Store, app: s.App(0, 1)})
				s.SetDocument(s.app, nil)
			},
			nil, errNotNow,
		},
		{
			"the store loses a token", nothing, func(s appStore) {
				before := s.Save()
				s.Commit(s.app, storetest.AddToken("new"))
				time.Sleep(time.Second)
				s.RollBack(before)
				s.NewEpoch(0)
			},
			nil, errNotNow,
		},
		{
			"the store loses the app", nothing, func(s appStore) {
				s.RollBack(s.empty)
				s.NewEpoch(0)
			},
			nil, errNotNow,
		},
		{
			"an operator restores the store", nothing, func(s appStore) { s.Adopt(0) },
			nil, errNotNow,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := appStore{Store: storetest.New(t, 1)}
				s.app, s.empty = s.App(0, 0), s.Save()
				s.Commit(s.app, storetest.AddToken("old"))
				tt.before(s)
				r := replica.New(s.Store, s.Codec(), slog.New(slog.DiscardHandler))
				r.Heals()
				apps := OfReplica(r)
				if _, _, err := apps.Tokens(s.app); !errors.Is(err, errNotLoaded) {
					t.Errorf("before the store is loaded: %v", err)
				}
				ctx, stop := context.WithCancel(context.Background())
				ended := make(chan error)
				go func() { ended <- r.Run(ctx) }()
				defer func() { stop(); check.NoError(t, <-ended) }()
				check.NoError(t, r.WaitLoaded(t.Context()))
				time.Sleep(wait)
				tt.happens(s)
				time.Sleep(wait)
				synctest.Wait()

				ids, known, err := apps.Tokens(s.app)
				if !known || err != nil || (ids == nil) != (tt.ids == nil) ||
					!slices.Equal(slices.Sorted(maps.Keys(ids)), tt.ids) {
					t.Errorf("got the tokens %v, %v, %v, want %v", ids, known, err, tt.ids)
				}
				if ids, known, err := apps.Tokens("another"); ids != nil || known || !errors.Is(err, tt.err) {
					t.Errorf("of an app that is not there: %v, %v, %v, want %v", ids, known, err, tt.err)
				}
			})
		})
	}
}
