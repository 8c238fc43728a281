package validator_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/pkg/testkit/storetest"
	"github.com/countersign/countersign/pkg/validator"
)

// older fails the test unless a validator answers from its last good data, reports a growing data age, and
// stays ready.
func (k *kit) older(t *testing.T, v *validator.Validator, least time.Duration) {
	t.Helper()
	last := time.Duration(0)
	check.Eventually(t, "the data gets older", func() error {
		answer, err := v.Authorize(t.Context(), k.ask())
		if err != nil || !answer.Allow || answer.Reason != policy.TokenValid {
			t.Fatalf("Authorize: got %+v, error %v", answer, err)
		}
		if err := v.Ready(); err != nil {
			t.Fatalf("Ready: got error %v, want none", err)
		}
		if answer.DataAge < least {
			return fmt.Errorf("it is %v old", answer.DataAge)
		}
		last = answer.DataAge
		return nil
	})
	if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || answer.DataAge < last {
		t.Errorf("the data age fell from %v to %v (error %v), want it to grow", last, answer.DataAge, err)
	}
}

// fresh waits until the data is fresh.
func (k *kit) fresh(t *testing.T, v *validator.Validator) {
	t.Helper()
	check.Eventually(t, "the data gets fresh", func() error {
		answer, err := v.Authorize(t.Context(), k.ask())
		if err == nil && answer.DataAge > time.Second {
			err = fmt.Errorf("it is %v old", answer.DataAge)
		}
		return err
	})
}

// TestRedisOutageStopsNoAnswer: during an outage the validator answers from the last good data, whose age
// grows. When Redis returns with its data, the validator follows it again.
func TestRedisOutageStopsNoAnswer(t *testing.T) {
	for name, outage := range map[string]struct {
		begin, end func(k *kit, p *redistest.Proxy)
	}{
		"server stopped, back with its data": {
			func(k *kit, _ *redistest.Proxy) { k.server.Stop() },
			func(k *kit, _ *redistest.Proxy) { k.server.Restart(); k.store.CopyTo(k.admin) },
		},
		"server does not run": {
			func(k *kit, _ *redistest.Proxy) { k.server.Pause() },
			func(k *kit, _ *redistest.Proxy) { k.server.Resume() },
		},
		"network drops packets": {
			func(_ *kit, p *redistest.Proxy) { p.BlackHole() },
			func(_ *kit, p *redistest.Proxy) { p.Restore() },
		},
		"replies are lost": {
			func(_ *kit, p *redistest.Proxy) { p.SwallowReplies() },
			func(_ *kit, p *redistest.Proxy) { p.Restore() },
		},
		"connections refused": {
			func(_ *kit, p *redistest.Proxy) { p.Refuse() },
			func(_ *kit, p *redistest.Proxy) { p.Restore() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := start(t)
			k.store.CopyTo(k.admin)
			proxy := redistest.NewProxy(t, k.server.Address())
			v := k.ready(t, proxy.URL())
			k.fresh(t, v)
			outage.begin(k, proxy)
			k.older(t, v, 1500*time.Millisecond)
			outage.end(k, proxy)
			k.fresh(t, v)
			k.store.Commit(k.app, storetest.SetState("tok_good", policy.Revoked))
			check.Eventually(t, "following again", func() error {
				if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || answer.Reason != policy.TokenRevoked {
					return fmt.Errorf("%+v, %w", answer, errors.Join(err, errors.New("not revoked")))
				}
				return nil
			})
		})
	}
}

// TestRedisThatForgotEverythingIsNotFollowed: an empty Redis does not make the validator forget its policies.
func TestRedisThatForgotEverythingIsNotFollowed(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	k.server.Stop()
	k.server.Restart()
	k.older(t, v, 1500*time.Millisecond)
}

// TestStoreThatAppearsLateIsFound: a validator finds a store that is created after the validator started.
func TestStoreThatAppearsLateIsFound(t *testing.T) {
	k := start(t)
	v := k.validator(t, k.server.URL(), k.store.Ring())
	if v.Ready() == nil {
		t.Error("Ready without a store: got no error, want one")
	}
	k.store.CopyTo(k.admin)
	if err := v.WaitReady(limited(t)); err != nil {
		t.Fatal(err)
	}
	if answer, err := v.Authorize(t.Context(), k.ask()); err != nil || !answer.Allow {
		t.Errorf("Authorize: got %+v, error %v", answer, err)
	}
}

// TestB20_LastGoodPolicyDoesNotPassForANewerOne: when the document of a newer revision cannot be verified,
// the previous policy decides, with its own revision and a growing age. It does not answer requests for the
// newer revision.
func TestB20_LastGoodPolicyDoesNotPassForANewerOne(t *testing.T) {
	t.Parallel()
	k := start(t)
	k.store.CopyTo(k.admin)
	v := k.ready(t, k.server.URL())
	k.fresh(t, v)
	before, err := v.Authorize(t.Context(), k.ask())
	if err != nil {
		t.Fatal(err)
	}
	lost := k.store.Predict(k.app, storetest.SetState("tok_good", policy.Revoked))
	keys := record.KeysOf(lost.Partition)
	const script = `redis.call('HSET', KEYS[2], ARGV[2], 'garbage') redis.call('SET', KEYS[1], ARGV[1])`
	if err := k.admin.Eval(t.Context(), script, []string{keys.Head, keys.Policies}, lost.Head, k.app).
		Err(); err != nil &&
		err.Error() != "redis: nil" {
		t.Fatal(err)
	}
	newer := k.ask()
	newer.MinRevision = record.EncodePosition(k.store.Position(lost))
	_, err = v.Authorize(t.Context(), newer)
	mustRefuse(t, err, codes.Unavailable, apierr.PolicyUnverified)

	old := k.ask()
	made := lost
	made.Cursor = k.store.Head(lost.Partition).Cursor
	old.MinRevision = record.EncodePosition(k.store.Position(made))
	for _, request := range []validator.Request{k.ask(), old} {
		answer, err := v.Authorize(t.Context(), request)
		if err != nil || !answer.Allow || answer.Revision != before.Revision {
			t.Errorf("%+v, %v; want the answer of revision %d", answer, err, before.Revision)
		}
	}
	k.older(t, v, 500*time.Millisecond)
	other, err := v.Authorize(t.Context(), validator.Request{AppID: k.store.App(lost.Partition, 1), Scope: events})
	if err != nil || other.Revision != lost.Cursor.Revision || other.DataAge > 2*time.Second {
		t.Errorf("another app of the partition: got %+v, error %v", other, err)
	}

	// The document is good again, without a new change. The validator reads it soon.
	if err := k.admin.HSet(t.Context(), keys.Policies, k.app, lost.Document).Err(); err != nil {
		t.Fatal(err)
	}
	check.Eventually(t, "reading the repaired policy", func() error {
		answer, err := v.Authorize(t.Context(), newer)
		if err == nil && (answer.Reason != policy.TokenRevoked || answer.Revision != lost.Cursor.Revision) {
			err = fmt.Errorf("%+v", answer)
		}
		return err
	})
}
