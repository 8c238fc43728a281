package faults

import (
	"math/rand/v2"
	"slices"
)

// schedule says which fault of a lane comes next. By weight alone some never come in the minutes that a run
// has, so a recorded run makes up for chance.
type schedule struct {
	faults []fault
	// fair says to make up for chance: half of the faults are those that were inflicted least, and a
	// quarter those with a state that was never reached.
	fair bool
	// missed is how often each did not fit what was going on.
	missed map[string]int
}

// newSchedule returns the schedule of the faults that are for a kind of topology, and wanted.
func newSchedule(faults []fault, kind string, o options) *schedule {
	s := &schedule{fair: o.recorded, missed: map[string]int{}}
	for _, f := range faults {
		if f.fits(kind) && o.wants(f.name) {
			s.faults = append(s.faults, f)
		}
	}
	return s
}

// next returns a fault. Total is how often each fault was inflicted and each state was reached.
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
	// One that does not fit lets the others go first.
	cost := func(f fault) int { return 2*total[f.name] + s.missed[f.name] }
	least := cost(slices.MinFunc(from, func(a, b fault) int { return cost(a) - cost(b) }))
	from = slices.DeleteFunc(slices.Clone(from), func(f fault) bool { return cost(f) > least })
	return from[place%uint64(len(from))]
}

// owing returns the faults that bring about a state that was never reached.
func (s *schedule) owing(total map[string]int) (all []fault) {
	for _, f := range s.faults {
		if slices.ContainsFunc(rarities, func(r rarity) bool { return r.needs != "" && r.after(f.name) && total[r.name] == 0 }) {
			all = append(all, f)
		}
	}
	return all
}

// total returns how often each fault was inflicted and each state was reached, in this run and those before
// it.
func (c *campaign) total() map[string]int {
	total := totalOf(c.earlier)
	c.faults.addTo(total)
	c.stats.addReached(total)
	return total
}

// totalOf returns how often each fault was inflicted and each state was reached in some runs.
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

// addTo adds how often each fault was inflicted.
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

// addReached adds how often each state was reached.
func (s *stats) addReached(total map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, n := range s.reached {
		total[name] += n
	}
}
