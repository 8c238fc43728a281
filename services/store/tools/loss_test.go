package tools

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/policy"
	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
)

// TestB08_RepairBelowWhatWasSeenIsRefused: a partition has lost a revocation that a validator or an authority
// has seen. It is repaired only with a file that has the revocation, or when the operator accepts the loss.
func TestB08_RepairBelowWhatWasSeenIsRefused(t *testing.T) {
	s := newSystem(t)
	app, other := s.app(1, 0), s.app(1, 1)
	keys := record.KeysOf(1)
	before := s.dump()
	running, stop := s.follow()
	s.revoke(app, "first")
	between := s.dump()
	s.add(other, "third")
	check.Eventually(t, "following", func() error {
		if state(running, other, "third") != policy.Active {
			return errors.New("not there yet")
		}
		return nil
	})
	seen := running.Cursors()[1]
	snapshot := s.replicaFileOf(running)
	stop()
	held := s.dump()
	fork := seen
	fork.Tag = record.NewTag()
	for _, damage := range []struct {
		name string
		do   func()
		seen record.Cursor
		from uint64
	}{
		{name: "head and the latest changes lost", seen: seen, from: 7, do: func() { s.load(before); s.do("DEL", keys.Head) }},
		{name: "head and the latest change lost", seen: seen, from: 8, do: func() { s.load(between); s.do("DEL", keys.Head) }},
		{
			name: "older copy and a stray field", seen: seen, from: 7,
			do: func() { s.load(before); s.do("HSET", keys.Policies, "no app!", "x") },
		},
		{name: "head and a change lost, and not the one behind it", seen: seen, from: 7, do: func() {
			s.load(held)
			document := s.client.HGet(t.Context(), keys.Policies, other).Val()
			s.load(before)
			s.do("HSET", keys.Policies, other, document)
			s.do("DEL", keys.Head)
		}},
		{
			name: "another past and a stray field", seen: fork, from: 8,
			do: func() { s.load(held); s.do("HSET", keys.Policies, "no app!", "x") },
		},
	} {
		for _, by := range []string{"validator", "floor"} {
			t.Run(damage.name+", "+by, func(t *testing.T) {
				s.t = t
				damage.do()
				s.tools.UseFloor(record.Floor{})
				if by == "floor" {
					floor := make([]record.Cursor, partitions)
					floor[1] = damage.seen
					s.tools.UseFloor(record.Floor{StoreID: s.codec.StoreID(), Cursors: floor})
				} else {
					s.report("validator-1", map[int]record.Cursor{1: damage.seen})
				}
				held := s.dump()
				m := s.repair().Partitions[0]
				if !strings.Contains(m.Refused, "seen revision 8 of epoch 1") || !strings.Contains(m.Refused, "--accept-loss") ||
					m.Loss == nil || m.Loss.From != damage.from || m.Loss.To != 8 {
					t.Errorf("%+v, loss %v", m, m.Loss)
				}
				if fmt.Sprint(s.dump()) != fmt.Sprint(held) {
					t.Fatal("what is refused is changed")
				}
				if damage.seen == seen && !strings.Contains(damage.name, "stray") {
					with := check.Must(s.tools.PlanRepair(t.Context(), RepairOptions{Files: []string{snapshot}}))(t)
					if m := with.Partitions[0]; m.Loss != nil || m.Refused != "" || m.To != 8 {
						t.Errorf("with a file that has the changes: %+v", m)
					}
				}
				plan := check.Must(s.tools.PlanRepair(t.Context(), RepairOptions{AcceptLoss: true}))(t)
				if err := s.tools.Repair(t.Context(), plan); err != nil || plan.Partitions[0].Refused != "" ||
					plan.Partitions[0].Loss == nil {
					t.Errorf("%+v, %v", plan.Partitions[0], err)
				}
				s.wantClean()
			})
		}
	}
	s.t = t
	s.tools.UseFloor(record.Floor{})
}

// TestB08_RepairHeedsReportsOfAfterThePlan: a report that arrives between plan and repair is respected too.
func TestB08_RepairHeedsReportsOfAfterThePlan(t *testing.T) {
	s := newSystem(t)
	keys := record.KeysOf(1)
	before := s.dump()
	s.revoke(s.app(1, 0), "first")
	head := check.Must(s.codec.OpenHead(1, []byte(s.client.Get(t.Context(), keys.Head).Val())))(t)
	s.load(before)
	s.do("DEL", keys.Head)
	plan := check.Must(s.tools.PlanRepair(t.Context(), RepairOptions{}))(t)
	if m := plan.Partitions[0]; m.Refused != "" || plan.Validators != 0 {
		t.Fatalf("%+v", m)
	}
	s.report("validator-1", map[int]record.Cursor{1: head.Cursor})
	if err := s.tools.Repair(t.Context(), plan); err != nil || plan.Partitions[0].Refused == "" {
		t.Errorf("%+v, %v", plan.Partitions[0], err)
	}
	if n := s.client.Exists(t.Context(), keys.Head).Val(); n != 0 {
		t.Error("the partition is begun anew")
	}
}
