package tools

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/countersign/countersign/pkg/record"
	"github.com/countersign/countersign/pkg/testkit/check"
	"github.com/countersign/countersign/pkg/testkit/redistest"
	"github.com/countersign/countersign/services/store"
)

// TestRepairOfKeysThatDoNotBelong: a repair removes useless keys and shows every other finding of a
// verification. Each finding says what to do.
func TestRepairOfKeysThatDoNotBelong(t *testing.T) {
	s := newSystem(t)
	held := s.dump()
	meta := s.codec.Meta()
	ours := check.Must(record.SealMeta(s.ring, meta))(t)
	meta.StoreID = strings.Repeat("a", 32)
	others := check.Must(record.SealMeta(s.ring, meta))(t)
	aside := asideNames(record.KeysOf(1), "restore-0123abcd")
	for _, tt := range []struct {
		name    string
		command []any
		// removed says that a repair removes the key; remedy is a part of the finding.
		removed bool
		remedy  string
	}{
		{"initialisation of nobody", []any{"SET", store.InitKey, "x"}, true, "countersign store repair"},
		{"initialisation of another type", []any{"LPUSH", store.InitKey, "x"}, true, "countersign store repair"},
		{"initialisation of another store", []any{"SET", store.InitKey, others}, true, "countersign store repair"},
		{"initialisation of this store", []any{"SET", store.InitKey, ours}, false, "countersign store init"},
		{"restoration of nobody", []any{"SET", restoreKey, "x"}, true, "countersign store repair"},
		{"restoration of another type", []any{"LPUSH", restoreKey, "x"}, true, "countersign store repair"},
		{"restoration of another store", []any{"SET", restoreKey, others}, true, "countersign store repair"},
		{"leftover", []any{"HSET", aside[0], "x", "x"}, true, "countersign store repair"},
		{"stray key", []any{"SET", "cs:foo", "x"}, false, "redis-cli DEL"},
		{"partition beyond", []any{"SET", "cs:{cs04}:head", "x"}, false, "redis-cli DEL"},
		{"record of a validator", []any{"HSET", record.FleetKey, "foo", "x"}, false, "countersign fleet forget"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.t = t
			s.load(held)
			s.do(tt.command...)
			found := check.Must(s.tools.Verify(t.Context()))(t).Findings
			if len(found) != 1 || !strings.Contains(found[0].What, tt.remedy) {
				t.Errorf("verify: %v, want one that says %q", found, tt.remedy)
			}
			plan := s.repair()
			if len(plan.Partitions) > 0 || fmt.Sprint(append(plan.Removed, plan.Left...)) != fmt.Sprint(found) ||
				tt.removed != (len(plan.Left) == 0) {
				t.Errorf("%+v, verify found %v", plan, found)
			}
			if tt.removed {
				s.wantClean()
			} else if again := s.repair(); len(again.Left) != 1 {
				t.Errorf("the second time: %+v", again)
			}
		})
	}
	s.t = t
}

// TestRepairIsRefusedBeforeAnythingIsChanged: for an epoch without room, and for an account without all
// rights.
func TestRepairIsRefusedBeforeAnythingIsChanged(t *testing.T) {
	s := newSystem(t)
	s.do("SET", store.InitKey, "x")
	s.do("HSET", record.KeysOf(1).Policies, "no app!", "x")
	held := fmt.Sprint(s.dump())
	if _, err := s.tools.PlanRepair(t.Context(), RepairOptions{AboveEpoch: math.MaxUint64}); err == nil ||
		!strings.Contains(err.Error(), "--above-epoch") {
		t.Error(err)
	}
	for name, rights := range map[string][]any{
		"no partition":  {"+@all", "~cs:init", "~cs:meta", "~cs:fleet", "%R~cs:*"},
		"no rename":     {"+@all", "~cs:*", "-rename"},
		"no scripts":    {"+@all", "~cs:*", "-eval"},
		"no key beside": {"+@all", "~cs:{*}:*", "~cs:meta", "~cs:fleet", "%R~cs:*"},
	} {
		s.do(append([]any{"ACL", "SETUSER", "limited", "reset", "on", ">limited"}, rights...)...)
		limited := New(clientOf(t, redistest.URL(s.redis.Address(), "limited", "limited")), s.ring)
		plan := check.Must(limited.PlanRepair(t.Context(), RepairOptions{}))(t)
		if err := limited.Repair(t.Context(), plan); err == nil ||
			!strings.Contains(err.Error(), "nothing was changed; use the operator's account") {
			t.Errorf("%s: %v", name, err)
		}
		adoption := check.Must(limited.PlanAdoption(t.Context(), 0))(t)
		if name == "no partition" || name == "no scripts" {
			if err := limited.Adopt(t.Context(), adoption); err == nil ||
				!strings.Contains(err.Error(), "nothing was changed; use the operator's account") {
				t.Errorf("adopt, %s: %v", name, err)
			}
		}
		if fmt.Sprint(s.dump()) != held {
			t.Fatalf("%s: the store is changed", name)
		}
	}
}

// TestAStoreWithoutItsMetaIsNotInitialisedAgain: every command says how to restore the meta.
func TestAStoreWithoutItsMetaIsNotInitialisedAgain(t *testing.T) {
	s := newSystem(t)
	path := s.backup()
	s.do("DEL", record.MetaKey)
	_, verify := s.tools.Verify(t.Context())
	_, status := s.tools.Status(t.Context())
	_, repair := s.tools.PlanRepair(t.Context(), RepairOptions{})
	for what, err := range map[string]error{"verify": verify, "status": status, "repair": repair} {
		if err == nil || !strings.Contains(err.Error(), "store repair --from") || strings.Contains(err.Error(), "store init") {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.repair(path)
	s.wantClean()
	s.flush()
	if _, err := s.tools.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), "store init") {
		t.Errorf("an empty Redis: %v", err)
	}
}
