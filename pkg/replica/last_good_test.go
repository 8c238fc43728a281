package replica_test

import (
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/replica"
	"github.com/countersign/countersign/pkg/testkit/storetest"
)

// reload makes the replica load its partition: hints are lost, and the log does not lead to the head.
func (w *world) reload(app string, changes ...storetest.Change) {
	w.faults(storetest.Faults{Hint: deaf})
	w.store.Commit(app, changes...)
	w.store.Trim(0, 0)
	w.pass(2 * longestPoll)
	w.faults(storetest.Faults{})
}

// TestB20_DamagedPolicyKeepsTheLastGoodOne when a loaded replica reads the partition again.
func TestB20_DamagedPolicyKeepsTheLastGoodOne(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps, strangers := w.fill(0, 5), w.fill(1, 1)
		for name, raw := range damages(w, apps[2], apps[3], strangers[0]) {
			w.startLoaded()
			whole, was := w.store.RawDocument(apps[2]), w.tokens(apps[2])
			w.store.SetDocument(apps[2], raw)
			w.store.ResetCalls()
			w.reload(apps[1], storetest.AddToken("for "+name))
			if calls := w.store.Calls(); calls.Documents[0] != 1 {
				w.Fatalf("%s: read everything %d times", name, calls.Documents[0])
			}
			if now := w.tokens(apps[2]); len(was) == 0 || len(now) != len(was) ||
				w.entry(apps[2]).Revision != w.store.Document(apps[2]).Revision {
				w.Errorf("%s: %v at %+v, had %v", name, now, w.entry(apps[2]), was)
			}
			w.mustDifferIn(0)
			w.pass(enough)
			w.mustBeFresh(0)
			w.store.SetDocument(apps[2], whole)
		}
	})
}

// TestB20_LastGoodPolicyIsNeverMixedWithLaterChanges: a change is relative to the policy before it. Applied
// to an older policy, it could switch on enforcement without the tokens for it, and deny valid requests.
func TestB20_LastGoodPolicyIsNeverMixedWithLaterChanges(t *testing.T) {
	simulate(t, 1, func(w *world) {
		w.fill(0, 3)
		app := w.store.App(0, 10)
		w.store.Commit(app, storetest.AddToken("old", events))
		w.startLoaded()

		// The change that adds the new token is missed, and its document is damaged.
		w.faults(storetest.Faults{Hint: deaf})
		w.store.Commit(app, storetest.AddToken("new", events))
		whole := w.store.RawDocument(app)
		raw := append([]byte{}, whole...)
		raw[len(raw)-1] ^= 1
		w.store.SetDocument(app, raw)
		w.store.Trim(0, 0)
		w.pass(2 * longestPoll)
		w.faults(storetest.Faults{})
		if tokens := w.tokens(app); len(tokens) != 1 || w.entry(app).Revision != w.store.Document(app).Revision {
			w.Fatalf("%v at %+v, want the last good policy", tokens, w.entry(app))
		}

		// It is still damaged when the next two changes come.
		for _, change := range []storetest.Change{storetest.Enforce(events), storetest.AddToken("newer", sessions)} {
			w.store.Commit(app, change)
			w.store.SetDocument(app, raw)
			w.pass(2 * longestPoll)
			entry := w.entry(app)
			if tokens := w.tokens(app); len(tokens) != 1 || entry.Policy.Enforcement().Scopes != 0 ||
				entry.Revision != w.store.Document(app).Revision {
				w.Errorf("%+v with %v, want the last good policy at revision %d", entry, tokens, w.store.Document(app).Revision)
			}
		}
		w.mustDifferIn(0, app)
		w.mustBeFresh(0)

		// A change that leaves a good document repairs everything.
		w.commit(app, storetest.SetState("newer", policy.Disabled))
		w.pass(20 * latency)
		w.mustEqualStore()
	})
}

// TestB20_RepairedPolicyIsReadWithItsNextChange: an app whose policy could not be verified becomes decidable
// when the authority changes it, since the authority could then read it.
func TestB20_RepairedPolicyIsReadWithItsNextChange(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 4)
		whole := w.store.RawDocument(apps[1])
		w.store.SetDocument(apps[1], []byte("garbage"))
		w.startLoaded()
		if entry := w.entry(apps[1]); entry == nil || entry.Policy != nil {
			w.Fatalf("%+v", entry)
		}
		w.store.SetDocument(apps[1], whole)
		w.commit(apps[1], storetest.SetState("second", policy.Revoked))
		w.pass(20 * latency)
		w.mustEqualStore()
		w.pass(enough)
		w.mustEqualStore()
		if calls := w.store.Calls(); calls.Documents[0] != 2 {
			w.Errorf("read everything %d times", calls.Documents[0])
		}
	})
}

// TestB20_ChangeThatCannotBeAppliedKeepsTheLastGoodPolicy, and costs one reload.
func TestB20_ChangeThatCannotBeAppliedKeepsTheLastGoodPolicy(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 4)
		w.startLoaded()
		was := w.entry(apps[1]).Policy
		w.store.ResetCalls()
		// Two tokens with the same digest: signed, but not a policy.
		w.store.Commit(apps[1], storetest.Add(storetest.Token("twin", "second")))
		w.commit(apps[1], storetest.Enforce(sessions))
		if entry := w.entry(apps[1]); *entry.Policy != *was || !entry.Behind() {
			w.Errorf("%+v, want the policy of before", entry)
		}
		w.pass(enough)
		if entry := w.entry(apps[1]); *entry.Policy != *was || entry.Revision != w.store.Document(apps[1]).Revision {
			w.Errorf("%+v, want the policy of before at revision %d", entry, w.store.Document(apps[1]).Revision)
		}
		w.mustDifferIn(0, apps[1])
		w.mustBeFresh(0)
		if calls := w.store.Calls(); calls.Documents[0] != 1 {
			w.Errorf("read everything %d times", calls.Documents[0])
		}
		w.commit(apps[2], storetest.SetState("second", policy.Revoked))
		w.mustDifferIn(0, apps[1])
		w.commit(apps[1], storetest.Remove("twin"))
		w.pass(20 * latency)
		w.mustEqualStore()
	})
}

// TestB20_PolicyRepairedInPlaceIsReadAgain although no change shows the repair. Until then it costs little.
func TestB20_PolicyRepairedInPlaceIsReadAgain(t *testing.T) {
	simulate(t, 2, func(w *world) {
		apps := w.fill(0, 4)
		whole := w.store.RawDocument(apps[1])
		w.store.SetDocument(apps[1], []byte("garbage"))
		w.startLoaded()
		w.store.ResetCalls()
		w.pass(time.Minute)
		if entry := w.entry(apps[1]); entry == nil || entry.Policy != nil {
			w.Fatalf("%+v", entry)
		}
		if calls := w.store.Calls(); calls.Documents[0] > int(time.Minute/replica.RepairInterval)+1 || calls.Documents[1] > 0 {
			w.Errorf("reads in a minute: %+v", calls)
		}
		w.mustBeFresh(0)
		w.store.SetDocument(apps[1], whole)
		w.pass(replica.RepairInterval + 2*longestPoll)
		w.mustEqualStore()
		w.store.ResetCalls()
		w.pass(time.Minute)
		if calls := w.store.Calls(); calls.Documents[0] > 0 {
			w.Errorf("reads on when all is well: %+v", calls)
		}
	})
}

// TestB20_LastGoodPolicySaysSinceWhenItIsOld: its age and its revision stay right through every reload until
// the document is good again.
func TestB20_LastGoodPolicySaysSinceWhenItIsOld(t *testing.T) {
	simulate(t, 1, func(w *world) {
		apps := w.fill(0, 4)
		w.startLoaded()
		good := w.entry(apps[1])
		if good.Behind() || good.PolicyRevision != good.Revision || !good.Since.IsZero() {
			w.Fatalf("%+v is old from the beginning", good)
		}
		w.faults(storetest.Faults{Hint: deaf})
		w.store.Commit(apps[1], storetest.AddToken("third"))
		whole := w.store.RawDocument(apps[1])
		w.store.SetDocument(apps[1], []byte("garbage"))
		w.store.Trim(0, 0)
		w.pass(2 * longestPoll)
		first := w.entry(apps[1])
		if !first.Behind() || first.PolicyRevision != good.Revision || first.Revision != w.store.Document(apps[1]).Revision {
			w.Fatalf("%+v, want the policy of %d at %d", first, good.Revision, w.store.Document(apps[1]).Revision)
		}
		if since := time.Since(first.Since); since <= 0 || since > 4*longestPoll {
			w.Errorf("old since %v", since)
		}
		w.pass(5 * replica.RepairInterval)
		if later := w.entry(apps[1]); !later.Behind() || !later.Since.Equal(first.Since) || later.PolicyRevision != good.Revision {
			w.Errorf("%+v after reloads, was %+v", later, first)
		}
		w.store.SetDocument(apps[1], whole)
		w.pass(replica.RepairInterval + 2*longestPoll)
		if entry := w.entry(apps[1]); entry.Behind() || !entry.Since.IsZero() {
			w.Errorf("%+v after the repair", entry)
		}
		w.mustEqualStore()
	})
}
