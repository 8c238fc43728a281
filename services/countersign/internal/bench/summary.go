package bench

import "github.com/countersign/countersign/services/internal/load"

// Summary is what a leg has shown in all rounds.
type Summary struct {
	Leg   string `json:"leg"`
	Title string `json:"title"`
	// Calls is how many calls were answered in closed and open loops, each as it should be.
	Calls uint64 `json:"calls"`
	// CPUNanos is the server's CPU time for each call, by rounds; ToEmpty and ToTuned are its ratios to
	// those of the two empty servers in the same round. They have no rounds when these were not among the
	// legs.
	CPUNanos Quartiles `json:"cpuNanosPerCall"`
	ToEmpty  *Ratio    `json:"toEmpty,omitempty"`
	ToTuned  *Ratio    `json:"toTunedEmpty,omitempty"`
	// WithRedisCPUNanos is the CPU time of the server and of Redis together. Redis is the same process for
	// all legs, so that what it does for the validators that have no turn, and for the authority, is in it.
	RedisCPUNanos     Quartiles `json:"redisCpuNanosPerCall"`
	WithRedisCPUNanos Quartiles `json:"withRedisCpuNanosPerCall"`
	// ToValidator and WithRedisToValidator are the ratios of the two to the validator's that is asked call
	// by call.
	ToValidator          *Ratio `json:"toValidator,omitempty"`
	WithRedisToValidator *Ratio `json:"withRedisToValidator,omitempty"`
	// The others are by rounds, too.
	Allocations          Quartiles     `json:"allocationsPerCall"`
	PerSecond            Quartiles     `json:"perSecond"`
	Utilisation          Quartiles     `json:"serverUtilisation"`
	GeneratorUtilisation Quartiles     `json:"generatorUtilisation"`
	Open                 []OpenSummary `json:"open,omitempty"`
	// HeapBytes is what the server holds on its heap after all rounds, without garbage.
	HeapBytes uint64 `json:"heapBytes"`
	// Resyncs is how often the validator has loaded everything anew in its turns, ResyncShare what part of
	// them that was.
	Resyncs     uint64     `json:"resyncs,omitempty"`
	ResyncShare *Quartiles `json:"resyncShare,omitempty"`
}

// Ratio is how often what a leg needs is what another needs in the same round.
type Ratio = Quartiles

// OpenSummary is what a leg has shown at a fixed rate.
type OpenSummary struct {
	Rate  int    `json:"rate"`
	Calls uint64 `json:"calls"`
	// Quantiles are those of the calls of all rounds together.
	Quantiles
	// The ratios are those of the median and of the 99th percentile of each round to those of the two empty
	// servers in the same round.
	P50ToEmpty *Ratio `json:"p50ToEmpty,omitempty"`
	P50ToTuned *Ratio `json:"p50ToTunedEmpty,omitempty"`
	P99ToEmpty *Ratio `json:"p99ToEmpty,omitempty"`
	P99ToTuned *Ratio `json:"p99ToTunedEmpty,omitempty"`
	// LateP99 is how late calls were sent, in microseconds, by rounds.
	LateP99 Quartiles `json:"lateP99Micros"`
	// Utilisation is what part of one processor the server has used, by rounds.
	Utilisation Quartiles `json:"serverUtilisation"`
}

// summarise puts the turns of a leg together.
func summarise(l leg, turns []*Turn) Summary {
	own := of(l.name, turns)
	s := Summary{
		Leg: l.name, Title: l.title,
		CPUNanos:             quartilesBy(own, cpu),
		RedisCPUNanos:        quartilesBy(own, func(t *Turn) float64 { return t.Closed.RedisCPUNanos }),
		WithRedisCPUNanos:    quartilesBy(own, withRedis),
		Allocations:          quartilesBy(own, func(t *Turn) float64 { return t.Closed.Allocations }),
		PerSecond:            quartilesBy(own, func(t *Turn) float64 { return t.Closed.PerSecond }),
		Utilisation:          quartilesBy(own, func(t *Turn) float64 { return t.Closed.Utilisation }),
		GeneratorUtilisation: quartilesBy(own, func(t *Turn) float64 { return t.Closed.GeneratorUtilisation }),
	}
	s.ToEmpty, s.ToTuned = ratioBy(own, of(emptyLeg, turns), cpu), ratioBy(own, of(tunedLeg, turns), cpu)
	validator := of(validatorLeg, turns)
	s.ToValidator, s.WithRedisToValidator = ratioBy(own, validator, cpu), ratioBy(own, validator, withRedis)
	var shares []float64
	for _, t := range own {
		if t.Resyncs != nil {
			s.Resyncs += t.Resyncs.Times
			shares = append(shares, t.Resyncs.Share)
		}
		s.Calls += t.Closed.Calls
		for _, o := range t.Open {
			s.Calls += o.Calls
		}
	}
	if shares != nil {
		q := quartilesOf(shares)
		s.ResyncShare = &q
	}
	for i := range own[1].Open {
		s.Open = append(s.Open, summariseOpen(i, own, turns))
	}
	return s
}

func cpu(t *Turn) float64       { return t.Closed.CPUNanos }
func withRedis(t *Turn) float64 { return t.Closed.CPUNanos + t.Closed.RedisCPUNanos }

// summariseOpen puts together what a leg has shown at the i-th rate.
func summariseOpen(i int, own map[int]*Turn, turns []*Turn) OpenSummary {
	p50 := func(t *Turn) float64 { return t.Open[i].P50 }
	p99 := func(t *Turn) float64 { return t.Open[i].P99 }
	empty, tuned := of(emptyLeg, turns), of(tunedLeg, turns)
	s := OpenSummary{
		P50ToEmpty: ratioBy(own, empty, p50), P50ToTuned: ratioBy(own, tuned, p50),
		P99ToEmpty: ratioBy(own, empty, p99), P99ToTuned: ratioBy(own, tuned, p99),
		LateP99:     quartilesBy(own, func(t *Turn) float64 { return t.Open[i].LateP99 }),
		Utilisation: quartilesBy(own, func(t *Turn) float64 { return t.Open[i].Utilisation }),
	}
	all := load.NewHistogram()
	for _, t := range own {
		s.Rate = t.Open[i].Rate
		s.Calls += t.Open[i].Calls
		all.Merge(t.Open[i].latency)
	}
	s.Quantiles = quantilesOf(all)
	return s
}

// of returns the turns of a leg by their round.
func of(leg string, turns []*Turn) map[int]*Turn {
	own := map[int]*Turn{}
	for _, t := range turns {
		if t.Leg == leg {
			own[t.Round] = t
		}
	}
	return own
}

func quartilesBy(own map[int]*Turn, value func(*Turn) float64) Quartiles {
	var values []float64
	for _, t := range own {
		values = append(values, value(t))
	}
	return quartilesOf(values)
}

// ratioBy returns how a value compares with that of another leg in the same round; nil when there is
// nothing to compare with.
func ratioBy(own, other map[int]*Turn, value func(*Turn) float64) *Ratio {
	var ratios []float64
	for round, t := range own {
		if reference := other[round]; reference != nil && value(reference) > 0 {
			ratios = append(ratios, value(t)/value(reference))
		}
	}
	if len(ratios) == 0 {
		return nil
	}
	q := quartilesOf(ratios)
	return &q
}
