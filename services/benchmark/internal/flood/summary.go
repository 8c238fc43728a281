package flood

import "github.com/countersign/countersign/services/benchmark/internal/report"

// FlowSummary combines the flows of all rounds.
type FlowSummary struct {
	Calls          uint64           `json:"calls"`
	P50            report.Quartiles `json:"p50Micros"`
	P99            report.Quartiles `json:"p99Micros"`
	P999           report.Quartiles `json:"p999Micros"`
	LateP99        report.Quartiles `json:"lateP99Micros"`
	Utilisation    report.Quartiles `json:"serverUtilisation"`
	RedisPerSecond report.Quartiles `json:"redisCommandsPerSecond"`
	// Redis is by command.
	Redis       map[string]report.Quartiles `json:"redisCommandsPerSecondByCommand,omitempty"`
	HeapBytes   report.Quartiles            `json:"heapBytes"`
	SystemBytes report.Quartiles            `json:"systemBytes"`
}

// summarise combines the rounds.
func (r *Report) summarise() {
	var calm, flooded []Flow
	var p50, p99 []float64
	r.Flood = 0
	for _, round := range r.Rounds {
		calm, flooded = append(calm, round.Calm), append(flooded, round.Flooded)
		r.Flood += round.Flooded.Flood
		if round.Calm.P50 > 0 && round.Calm.P99 > 0 {
			p50 = append(p50, round.Flooded.P50/round.Calm.P50)
			p99 = append(p99, round.Flooded.P99/round.Calm.P99)
		}
	}
	r.Calm, r.Flooded = summariseFlows(calm), summariseFlows(flooded)
	r.P50Ratio, r.P99Ratio = report.QuartilesOf(p50), report.QuartilesOf(p99)
}

func summariseFlows(flows []Flow) FlowSummary {
	by := func(value func(Flow) float64) report.Quartiles {
		values := make([]float64, len(flows))
		for i, f := range flows {
			values[i] = value(f)
		}
		return report.QuartilesOf(values)
	}
	s := FlowSummary{
		P50:            by(func(f Flow) float64 { return f.P50 }),
		P99:            by(func(f Flow) float64 { return f.P99 }),
		P999:           by(func(f Flow) float64 { return f.P999 }),
		LateP99:        by(func(f Flow) float64 { return f.LateP99 }),
		Utilisation:    by(func(f Flow) float64 { return f.Utilisation }),
		RedisPerSecond: by(func(f Flow) float64 { return f.RedisPerSecond }),
		HeapBytes:      by(func(f Flow) float64 { return float64(f.HeapBytes) }),
		SystemBytes:    by(func(f Flow) float64 { return float64(f.SystemBytes) }),
	}
	for _, f := range flows {
		s.Calls += f.Calls
		for command := range f.Redis {
			if s.Redis == nil {
				s.Redis = map[string]report.Quartiles{}
			}
			s.Redis[command] = by(func(f Flow) float64 { return f.Redis[command] })
		}
	}
	return s
}
