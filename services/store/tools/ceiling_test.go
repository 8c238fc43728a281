package tools

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// TestAdoptAboveAForgedPosition: after a forged report and its documented remedy the store still accepts
// changes. The same holds for any epoch that an operator can name. An epoch without room for changes is
// refused, and nothing is changed.
func TestAdoptAboveAForgedPosition(t *testing.T) {
	for name, forged := range map[string]record.Cursor{
		"the highest revision":     {Epoch: 1, Revision: record.MaxPosition},
		"the highest epoch":        {Epoch: record.MaxPosition, Revision: 1},
		"the highest that is both": {Epoch: record.MaxPosition, Revision: record.MaxPosition},
		"a plausible one":          {Epoch: 1 + record.MaxJump, Revision: record.MaxJump},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // validators leave a new epoch some seconds
			s := newSystem(t)
			forged.Tag = record.NewTag()
			s.report("forger", map[int]record.Cursor{1: forged})
			plan := check.Must(s.tools.PlanAdoption(t.Context(), 0))(t)
			if believed := forged.Plausible(record.Cursor{Epoch: 1, Revision: 6}); believed == has(plan.Ignored,
				record.FleetKey+" forger", "ignored") {
				t.Errorf("%t, but ignored are %v", believed, plan.Ignored)
			}
			if err := s.tools.Adopt(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			s.wantChanges(t)
			// A restoration begins above the adopted epoch.
			check.Must(s.tools.Restore(t.Context(), s.backup(), RestoreOptions{Replace: true}))(t)
			s.wantChanges(t)
		})
	}
}

// wantChanges checks that every partition accepts a change and that everything verifies.
func (s *system) wantChanges(t *testing.T) {
	t.Helper()
	s.heal()
	for i := range partitions {
		app := s.app(i, 0)
		name := rand.Text()
		check.Eventually(t, "changing the store", func() error { return s.change(app, "Add", addToken(app, name)) })
	}
	s.wantClean()
}

// TestAboveEpochOutOfRange: an epoch that leaves no room for changes, or wraps to 0, is refused before
// anything is changed.
func TestAboveEpochOutOfRange(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	before := s.dump()
	for _, epoch := range []uint64{record.MaxStart, record.MaxPosition, record.MaxPosition + 1, math.MaxInt64, math.MaxUint64} {
		_, planned := s.tools.PlanAdoption(t.Context(), epoch)
		_, restored := s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true, AboveEpoch: epoch})
		for _, err := range []error{planned, restored} {
			if err == nil || !strings.Contains(err.Error(), "--above-epoch") ||
				!strings.Contains(err.Error(), "nothing was changed") {
				t.Errorf("above %d: %v", epoch, err)
			}
		}
	}
	if after := s.dump(); len(after) != len(before) {
		t.Errorf("%d keys, before %d", len(after), len(before))
	}
	done := check.Must(s.tools.Restore(t.Context(), path, RestoreOptions{Replace: true, AboveEpoch: record.MaxStart - 1}))(t)
	if done.Epochs != [2]uint64{record.MaxStart, record.MaxStart} {
		t.Errorf("%+v", done.Epochs)
	}
	s.wantChanges(t)
	// No operator's epoch can begin above the highest one, and the store stays as it is.
	if _, err := s.tools.PlanAdoption(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "too high") {
		t.Errorf("above the highest: %v", err)
	}
	s.wantChanges(t)
}

// TestChangesUpToTheCeiling: changes work up to revision 2^53, where floating point numbers stop being exact.
// The next change is refused without damage.
func TestChangesUpToTheCeiling(t *testing.T) {
	s := newSystem(t)
	const partition = 1
	at := record.Cursor{Epoch: 1, Revision: record.MaxPosition - 2, Tag: record.NewTag()}
	s.moveTo(partition, at)
	app := s.app(partition, 0)
	for i, name := range []string{"one before the last", "the last"} {
		check.Eventually(t, "change "+name, func() error { return s.change(app, "Add", addToken(app, name)) })
		if head := s.headOf(partition); head.Revision != record.MaxPosition-1+uint64(i) {
			t.Fatalf("%s: the head is at %s", name, head.Cursor)
		}
	}
	before := s.dump()
	if err := s.change(app, "Add", addToken(app, "one too many")); err == nil {
		t.Error("there is a revision beyond the last")
	}
	after := s.dump()
	for key := range before {
		if before[key] != after[key] {
			t.Errorf("the refused change has written %s", key)
		}
	}
}

func (s *system) headOf(partition int) record.Head {
	s.t.Helper()
	raw := check.Must(s.client.Get(s.t.Context(), record.KeysOf(partition).Head).Bytes())(s.t)
	return check.Must(s.codec.OpenHead(partition, raw))(s.t)
}

// moveTo makes a partition an empty one at a position, as after many changes.
func (s *system) moveTo(partition int, at record.Cursor) {
	s.t.Helper()
	ctx, keys := context.WithoutCancel(s.t.Context()), record.KeysOf(partition)
	head := check.Must(s.codec.SealHead(partition, record.Head{
		Cursor: at,
		State:  s.codec.SealSum(partition, record.Sum{}),
	}))(s.t)
	link := check.Must(proto.Marshal(&countersignv1.SealedRecord{}))(s.t)
	pipe := s.client.TxPipeline()
	pipe.Del(ctx, keys.Policies, keys.Audit, keys.Log)
	pipe.Set(ctx, keys.Head, head, 0)
	pipe.Do(ctx, "XADD", keys.Log, fmt.Sprintf("%d-0", at.Revision), "l", link)
	if _, err := pipe.Exec(ctx); err != nil {
		s.t.Fatal(err)
	}
	// The store's own replica rejects the moved partition. A new replica accepts it.
	s.reopen()
}
