package report

import (
	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/countersign/countersign/services/internal/load"
)

// Turn is the result of one leg in one round.
type Turn struct {
	Round  int    `json:"round"`
	Leg    string `json:"leg"`
	Closed Closed `json:"closed"`
	Open   []Open `json:"open,omitempty"`
	// Resyncs is nil when the validator was not made to resync.
	Resyncs *Resyncs `json:"resyncs,omitempty"`
}

// Closed is the result of a closed loop, in which each answer is followed by the next call.
type Closed struct {
	Calls uint64 `json:"calls"`
	// PerSecond is the number of answers a second.
	PerSecond float64 `json:"perSecond"`
	// CPUNanos is the server's CPU time for each call; 0 when the system does not tell it.
	CPUNanos float64 `json:"cpuNanosPerCall"`
	// Utilisation is the part of one processor that the server used; GeneratorUtilisation is the load
	// generator's part. The first is close to 1 when the loop measures the server.
	Utilisation          float64 `json:"serverUtilisation"`
	GeneratorUtilisation float64 `json:"generatorUtilisation"`
	// RedisCPUNanos is Redis's CPU time for each call. It includes the work that keeps validators up to date.
	RedisCPUNanos float64 `json:"redisCpuNanosPerCall"`
	// Allocations is the number of objects that the server allocated for each call, Collections the number of
	// garbage collections during the loop.
	Allocations float64 `json:"allocationsPerCall"`
	Collections uint64  `json:"collections"`
	load.Quantiles
}

// Open is the result of an open loop, in which calls are sent at a fixed rate.
type Open struct {
	// Rate is the intended number of calls a second, Calls the number of answers.
	Rate  int    `json:"rate"`
	Calls uint64 `json:"calls"`
	load.Quantiles
	// LateP99 is the 99th percentile of the delay between the moment a call was due and its sending, in
	// microseconds.
	LateP99 float64 `json:"lateP99Micros"`
	// Utilisation is the part of one processor that the server used, for calls and for everything else.
	Utilisation float64 `json:"serverUtilisation"`

	// Latency has the latencies of all calls.
	Latency *hdrhistogram.Histogram `json:"-"`
}

// Resyncs describes how a validator loaded the whole store again during its turn, while it decided.
type Resyncs struct {
	Times uint64 `json:"times"`
	// Share is the part of the turn during which the validator was loading.
	Share float64 `json:"share"`
}
