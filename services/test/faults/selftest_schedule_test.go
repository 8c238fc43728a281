package faults

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestScheduleIsFair: in a recorded run of twice as many faults as there are kinds, every kind comes, for any
// seed. A fault that never fits blocks no other.
func TestScheduleIsFair(t *testing.T) {
	for _, l := range lanes {
		for _, kind := range []string{"sentinel", "cluster", "rdb"} {
			for seed := range uint64(200) {
				s, r, total := newSchedule(l.faults, kind, options{recorded: true}), rand.New(rand.NewPCG(seed, 0)), map[string]int{}
				unfit := s.faults[int(seed)%len(s.faults)].name
				for range 3 * len(s.faults) {
					if f := s.next(r, total); f.name == unfit {
						s.missed[f.name]++
					} else {
						total[f.name]++
					}
				}
				if s.missed[unfit] == 0 {
					t.Errorf("%s, seed %d: the fault %q, which never fits, was never tried", kind, seed, unfit)
				}
				for _, f := range s.faults {
					if f.name != unfit && total[f.name] == 0 {
						t.Errorf("%s, seed %d: the fault %q was never chosen", kind, seed, f.name)
					}
				}
			}
		}
	}
}

// TestScheduleOwes: a fault with a state that was never reached comes more often until the state is reached.
func TestScheduleOwes(t *testing.T) {
	servers := lanes[slices.IndexFunc(lanes, func(l lane) bool { return l.name == "servers" })]
	count := func(reached bool) int {
		s, r, total := newSchedule(servers.faults, "cluster", options{recorded: true}), rand.New(rand.NewPCG(1, 2)),
			map[string]int{}
		for _, rare := range rarities {
			if rare.name != tornMended || reached {
				total[rare.name] = 1
			}
		}
		for range 400 {
			total[s.next(r, total).name]++
		}
		return total["append-only file torn"]
	}
	if owed, paid := count(false), count(true); owed < 100 || paid > 50 {
		t.Errorf("of 400 faults %d tear a file while a state of it was never reached, %d afterwards", owed, paid)
	}
}

// TestScheduleOfASeed: the schedule of an unrecorded run follows from the seed alone.
func TestScheduleOfASeed(t *testing.T) {
	for _, l := range lanes {
		names := func(total map[string]int) (all []string) {
			s, r := newSchedule(l.faults, "cluster", options{}), rand.New(rand.NewPCG(1, 2))
			for range 50 {
				all = append(all, s.next(r, total).name)
			}
			return all
		}
		if a, b := names(map[string]int{}), names(map[string]int{l.faults[0].name: 100}); !slices.Equal(a, b) {
			t.Errorf("%s: %q and %q", l.name, a, b)
		}
	}
}
