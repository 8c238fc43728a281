package faults

import (
	"math/rand/v2"
	"slices"
)

// schedule chooses the next fault of a lane. By weight alone, some faults never come in a short run, so a
// recorded run compensates for chance.
type schedule struct {
	faults []fault
	// fair compensates for chance: half of the faults are those inflicted least, and a quarter are those with
	// a state that was never reached.
	fair bool
	// missed counts how often each fault did not fit the current state.
	missed map[string]int
}

// newSchedule returns the schedule of the faults for a kind of topology that the options want.
func newSchedule(faults []fault, kind string, o options) *schedule {
	s := &schedule{fair: o.recorded, missed: map[string]int{}}
	for _, f := range faults {
		if f.fits(kind) && o.wants(f.name) {
			s.faults = append(s.faults, f)
		}
	}
	return s
}

// next returns a fault. Total counts inflicted faults and reached states.
func (s *schedule) next(r *rand.Rand, total map[string]int) fault {
	var weighted []fault
	for _, f := range s.faults {
		weighted = append(weighted, slices.Repeat([]fault{f}, f.weight)...)
	}
	byWeight, draw, place := oneOf(r, weighted), r.IntN(4), r.Uint64()
	if !s.fair || draw == 0 {
		return byWeight
	}
	from := s.faults
	if draw == 1 {
		if owing := s.owing(total); len(owing) > 0 {
			from = owing
		}
	}
	// A fault that does not fit lets the others go first.
	cost := func(f fault) int { return 2*total[f.name] + s.missed[f.name] }
	least := cost(slices.MinFunc(from, func(a, b fault) int { return cost(a) - cost(b) }))
	from = slices.DeleteFunc(slices.Clone(from), func(f fault) bool { return cost(f) > least })
	return from[place%uint64(len(from))]
}

// owing returns the faults that cause a state that was never reached.
func (s *schedule) owing(total map[string]int) (all []fault) {
	for _, f := range s.faults {
		if slices.ContainsFunc(rarities, func(r rarity) bool { return r.needs != "" && r.after(f.name) && total[r.name] == 0 }) {
			all = append(all, f)
		}
	}
	return all
}

// total counts the inflicted faults and reached states of this run and those before it.
func (c *campaign) total() map[string]int {
	total := totalOf(c.earlier)
	c.faults.addTo(total)
	c.stats.addReached(total)
	return total
}

// totalOf counts the inflicted faults and reached states of some runs.
func totalOf(runs []*summary) map[string]int {
	total := map[string]int{}
	for _, r := range runs {
		for name, n := range r.Faults {
			total[name] += n
		}
		for name, n := range r.Reached {
			total[name] += n
		}
	}
	return total
}

// addTo adds the numbers of inflicted faults.
func (l *ledger) addTo(total map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, i := range l.all {
		i.mu.Lock()
		if i.fitted() {
			total[i.name]++
		}
		i.mu.Unlock()
	}
}

// addReached adds the numbers of reached states.
func (s *stats) addReached(total map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, n := range s.reached {
		total[name] += n
	}
}
