package bench

import (
	"fmt"
	"strconv"
	"strings"
)

// FlowSummary is what flows have shown, by rounds.
type FlowSummary struct {
	Calls          uint64    `json:"calls"`
	P50            Quartiles `json:"p50Micros"`
	P99            Quartiles `json:"p99Micros"`
	P999           Quartiles `json:"p999Micros"`
	LateP99        Quartiles `json:"lateP99Micros"`
	Utilisation    Quartiles `json:"serverUtilisation"`
	RedisPerSecond Quartiles `json:"redisCommandsPerSecond"`
	// Redis is by command.
	Redis       map[string]Quartiles `json:"redisCommandsPerSecondByCommand,omitempty"`
	HeapBytes   Quartiles            `json:"heapBytes"`
	SystemBytes Quartiles            `json:"systemBytes"`
}

// summarise puts the rounds together.
func (r *FloodReport) summarise() {
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
	r.P50Ratio, r.P99Ratio = quartilesOf(p50), quartilesOf(p99)
}

func summariseFlows(flows []Flow) (s FlowSummary) {
	by := func(value func(Flow) float64) Quartiles {
		values := make([]float64, len(flows))
		for i, f := range flows {
			values[i] = value(f)
		}
		return quartilesOf(values)
	}
	for _, f := range flows {
		s.Calls += f.Calls
	}
	s.P50, s.P99, s.P999 = by(func(f Flow) float64 { return f.P50 }), by(func(f Flow) float64 { return f.P99 }), by(func(f Flow) float64 { return f.P999 })
	s.LateP99, s.Utilisation = by(func(f Flow) float64 { return f.LateP99 }), by(func(f Flow) float64 { return f.Utilisation })
	s.RedisPerSecond = by(func(f Flow) float64 { return f.RedisPerSecond })
	for _, f := range flows {
		for command := range f.Redis {
			if s.Redis == nil {
				s.Redis = map[string]Quartiles{}
			}
			s.Redis[command] = by(func(f Flow) float64 { return f.Redis[command] })
		}
	}
	s.HeapBytes, s.SystemBytes = by(func(f Flow) float64 { return float64(f.HeapBytes) }), by(func(f Flow) float64 { return float64(f.SystemBytes) })
	return s
}

// commandCalls reads how often each command was run from what Redis says of its commandstats.
func commandCalls(info string) (map[string]uint64, error) {
	calls := map[string]uint64{}
	for line := range strings.Lines(info) {
		line, is := strings.CutPrefix(strings.TrimSpace(line), "cmdstat_")
		name, fields, found := strings.Cut(line, ":calls=")
		if !is || !found {
			continue
		}
		text, _, _ := strings.Cut(fields, ",")
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("redis says of %s: %w", name, err)
		}
		calls[name] = n
	}
	return calls, nil
}
