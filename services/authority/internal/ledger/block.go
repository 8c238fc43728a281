package ledger

import (
	"cmp"
	"slices"
	"strings"

	"github.com/countersign/countersign/pkg/usage"
)

const (
	minutesOfHour = 60
	hoursOfDay    = 24
)

// block has counts of one app by kind and period. The periods of a block are all hours or all days, numbered
// since the Unix epoch. The series are in order of compareKinds, each kind once. Blocks are immutable: they
// share memory.
type block []series

// series has the counts of one kind.
type series struct {
	Kind
	// last is the minute of the last use, numbered since the Unix epoch.
	last int64
	// points are in order of their periods, each period once. None is 0. A series without points only has the
	// last use.
	points []point
}

type point struct {
	period int64
	n      uint64
}

func compareKinds(a, b Kind) int {
	enforced := func(k Kind) int {
		if k.Enforced {
			return 1
		}
		return 0
	}
	return cmp.Or(strings.Compare(a.TokenID, b.TokenID), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Reason, b.Reason),
		cmp.Compare(enforced(a), enforced(b)))
}

// hourly returns the counts of one app as a block of hours.
func hourly(counts []usage.Count) block {
	all := make(block, 0, len(counts))
	for _, c := range counts {
		if c.N == 0 {
			continue
		}
		minute := floorDiv(c.Minute.Unix(), 60)
		all = append(all, series{
			Kind: Kind{c.TokenID, c.Scope, c.Reason, c.Enforced}, last: minute,
			points: []point{{floorDiv(minute, minutesOfHour), c.N}},
		})
	}
	slices.SortStableFunc(all, func(a, b series) int { return compareKinds(a.Kind, b.Kind) })
	var sum block
	for _, s := range all {
		if n := len(sum); n > 0 && sum[n-1].Kind == s.Kind {
			sum[n-1] = sum[n-1].plus(s)
		} else {
			sum = append(sum, s)
		}
	}
	return sum
}

// plus returns the sum of two blocks with the same kind of periods.
func (b block) plus(other block) block {
	if len(b) == 0 {
		return other
	}
	if len(other) == 0 {
		return b
	}
	sum := make(block, 0, len(b)+len(other))
	for len(b) > 0 && len(other) > 0 {
		switch c := compareKinds(b[0].Kind, other[0].Kind); {
		case c < 0:
			sum, b = append(sum, b[0]), b[1:]
		case c > 0:
			sum, other = append(sum, other[0]), other[1:]
		default:
			sum, b, other = append(sum, b[0].plus(other[0])), b[1:], other[1:]
		}
	}
	return append(append(sum, b...), other...)
}

// plus returns the sum of two series of one kind.
func (s series) plus(other series) series {
	sum := series{Kind: s.Kind, last: max(s.last, other.last), points: make([]point, 0, len(s.points)+len(other.points))}
	a, b := s.points, other.points
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].period < b[0].period:
			sum.points, a = append(sum.points, a[0]), a[1:]
		case a[0].period > b[0].period:
			sum.points, b = append(sum.points, b[0]), b[1:]
		default:
			sum.points = append(sum.points, point{a[0].period, usage.AddUp(a[0].n, b[0].n)})
			a, b = a[1:], b[1:]
		}
	}
	sum.points = append(append(sum.points, a...), b...)
	return sum
}

// cut divides a block into the periods before one, and that period and later ones. A series with points in
// both parts has its last use in the second.
func (b block) cut(at int64) (before, from block) {
	for _, s := range b {
		n := 0
		for n < len(s.points) && s.points[n].period < at {
			n++
		}
		switch {
		case n == len(s.points):
			before = append(before, s)
		case n == 0:
			from = append(from, s)
		default:
			before = append(before, series{s.Kind, s.points[n-1].period * minutesOfHour, s.points[:n:n]})
			from = append(from, series{s.Kind, s.last, s.points[n:]})
		}
	}
	return before, from
}

// byDay returns a block of hours as a block of days.
func (b block) byDay() block {
	days := make(block, len(b))
	for i, s := range b {
		days[i] = series{Kind: s.Kind, last: s.last}
		points := make([]point, 0, len(s.points)/hoursOfDay+1)
		for _, p := range s.points {
			day := floorDiv(p.period, hoursOfDay)
			if n := len(points); n > 0 && points[n-1].period == day {
				points[n-1].n = usage.AddUp(points[n-1].n, p.n)
			} else {
				points = append(points, point{day, p.n})
			}
		}
		days[i].points = points
	}
	return days
}

// without drops the periods before one. It keeps a series that has no points left if keep returns true, for
// the last use.
func (b block) without(before int64, keep func(Kind) bool) block {
	kept := make(block, 0, len(b))
	for _, s := range b {
		for len(s.points) > 0 && s.points[0].period < before {
			s.points = s.points[1:]
		}
		if len(s.points) > 0 || keep(s.Kind) {
			kept = append(kept, s)
		}
	}
	return kept
}

// floorDiv divides, and rounds down.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
