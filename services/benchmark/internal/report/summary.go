package report

import "github.com/countersign/countersign/services/internal/load"

// Summary is the result of a leg in all rounds. Values are quartiles by rounds unless their comment tells
// otherwise.
type Summary struct {
	Leg   string `json:"leg"`
	Title string `json:"title"`
	// Calls is the number of answers in closed and open loops. All of them were right.
	Calls uint64 `json:"calls"`
	// CPUNanos is the server's CPU time for each call. ToEmpty and ToTuned divide it by the CPU time of the
	// two empty servers in the same round. They are nil when these servers are not among the legs.
	CPUNanos Quartiles `json:"cpuNanosPerCall"`
	ToEmpty  *Ratio    `json:"toEmpty,omitempty"`
	ToTuned  *Ratio    `json:"toTunedEmpty,omitempty"`
	// WithRedisCPUNanos is the CPU time of the server and of Redis together. All legs share one Redis, so its
	// work for the idle validators and for the authority is included.
	RedisCPUNanos     Quartiles `json:"redisCpuNanosPerCall"`
	WithRedisCPUNanos Quartiles `json:"withRedisCpuNanosPerCall"`
	// ToValidator and WithRedisToValidator divide CPUNanos and WithRedisCPUNanos by the values of the leg
	// Validator.
	ToValidator          *Ratio `json:"toValidator,omitempty"`
	WithRedisToValidator *Ratio `json:"withRedisToValidator,omitempty"`
	// ToUncounted divides CPUNanos of Validator by the value of Uncounted, and of Stream by UncountedStream.
	ToUncounted          *Ratio        `json:"toUncounted,omitempty"`
	Allocations          Quartiles     `json:"allocationsPerCall"`
	PerSecond            Quartiles     `json:"perSecond"`
	Utilisation          Quartiles     `json:"serverUtilisation"`
	GeneratorUtilisation Quartiles     `json:"generatorUtilisation"`
	Open                 []OpenSummary `json:"open,omitempty"`
	// HeapBytes is the size of the server's heap after all rounds, without garbage.
	HeapBytes uint64 `json:"heapBytes"`
	// Resyncs is how many times the validator loaded the whole store again during its turns, ResyncShare the
	// part of its turns during which it was loading.
	Resyncs     uint64     `json:"resyncs,omitempty"`
	ResyncShare *Quartiles `json:"resyncShare,omitempty"`
}

// OpenSummary is the result of a leg at a fixed rate.
type OpenSummary struct {
	Rate  int    `json:"rate"`
	Calls uint64 `json:"calls"`
	// Quantiles are over the calls of all rounds together.
	load.Quantiles
	// The ratios divide the median and the 99th percentile of each round by those of the two empty servers in
	// the same round.
	P50ToEmpty *Ratio `json:"p50ToEmpty,omitempty"`
	P50ToTuned *Ratio `json:"p50ToTunedEmpty,omitempty"`
	P99ToEmpty *Ratio `json:"p99ToEmpty,omitempty"`
	P99ToTuned *Ratio `json:"p99ToTunedEmpty,omitempty"`
	// LateP99 is how late calls were sent, in microseconds, by rounds.
	LateP99 Quartiles `json:"lateP99Micros"`
	// Utilisation is the part of one processor that the server used, by rounds.
	Utilisation Quartiles `json:"serverUtilisation"`
}

// Summarise combines the turns of a leg. The turns of the other legs are what it is compared with.
func Summarise(l Leg, turns []*Turn) Summary {
	own := Of(l.Name, turns)
	s := Summary{
		Leg: l.Name, Title: l.Title,
		CPUNanos:             quartilesBy(own, CPU),
		RedisCPUNanos:        quartilesBy(own, func(t *Turn) float64 { return t.Closed.RedisCPUNanos }),
		WithRedisCPUNanos:    quartilesBy(own, withRedis),
		Allocations:          quartilesBy(own, func(t *Turn) float64 { return t.Closed.Allocations }),
		PerSecond:            quartilesBy(own, func(t *Turn) float64 { return t.Closed.PerSecond }),
		Utilisation:          quartilesBy(own, func(t *Turn) float64 { return t.Closed.Utilisation }),
		GeneratorUtilisation: quartilesBy(own, func(t *Turn) float64 { return t.Closed.GeneratorUtilisation }),
	}
	s.ToEmpty, s.ToTuned = RatioBy(own, Of(Empty.Name, turns), CPU), RatioBy(own, Of(TunedEmpty.Name, turns), CPU)
	validator := Of(Validator.Name, turns)
	s.ToValidator, s.WithRedisToValidator = RatioBy(own, validator, CPU), RatioBy(own, validator, withRedis)
	switch l {
	case Validator:
		s.ToUncounted = RatioBy(own, Of(Uncounted.Name, turns), CPU)
	case Stream:
		s.ToUncounted = RatioBy(own, Of(UncountedStream.Name, turns), CPU)
	}
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
		q := QuartilesOf(shares)
		s.ResyncShare = &q
	}
	for i := range own[1].Open {
		s.Open = append(s.Open, summariseOpen(i, own, turns))
	}
	return s
}

// CPU returns the server's CPU time for each call, in nanoseconds.
func CPU(t *Turn) float64 { return t.Closed.CPUNanos }

func withRedis(t *Turn) float64 { return t.Closed.CPUNanos + t.Closed.RedisCPUNanos }

// summariseOpen combines the results of a leg at the i-th rate.
func summariseOpen(i int, own map[int]*Turn, turns []*Turn) OpenSummary {
	p50 := func(t *Turn) float64 { return t.Open[i].P50 }
	p99 := func(t *Turn) float64 { return t.Open[i].P99 }
	empty, tuned := Of(Empty.Name, turns), Of(TunedEmpty.Name, turns)
	s := OpenSummary{
		P50ToEmpty: RatioBy(own, empty, p50), P50ToTuned: RatioBy(own, tuned, p50),
		P99ToEmpty: RatioBy(own, empty, p99), P99ToTuned: RatioBy(own, tuned, p99),
		LateP99:     quartilesBy(own, func(t *Turn) float64 { return t.Open[i].LateP99 }),
		Utilisation: quartilesBy(own, func(t *Turn) float64 { return t.Open[i].Utilisation }),
	}
	all := load.NewHistogram()
	for _, t := range own {
		s.Rate = t.Open[i].Rate
		s.Calls += t.Open[i].Calls
		all.Merge(t.Open[i].Latency)
	}
	s.Quantiles = load.QuantilesOf(all)
	return s
}

// Of returns the turns of a leg by round.
func Of(leg string, turns []*Turn) map[int]*Turn {
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
	return QuartilesOf(values)
}

// RatioBy divides a value by the value of the other turn of the same round; nil when no round has both.
func RatioBy(own, other map[int]*Turn, value func(*Turn) float64) *Ratio {
	var ratios []float64
	for round, t := range own {
		if reference := other[round]; reference != nil && value(reference) > 0 {
			ratios = append(ratios, value(t)/value(reference))
		}
	}
	if len(ratios) == 0 {
		return nil
	}
	q := QuartilesOf(ratios)
	return &q
}
