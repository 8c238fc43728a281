package flood

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/pkg/apierr"
	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/internal/load"
)

func goodFlood() Options {
	return Options{
		Rounds: 3, Rate: 500, Times: 10, Connections: 4, Arrivals: load.Poisson, Time: time.Second, Tokens: 1000, TokensPerApp: 10,
		MaxInFlight: 600, InFlight: 4000,
	}
}

// Every error names the flag of the wrong option.
func TestFloodOptions(t *testing.T) {
	if err := goodFlood().Check(); err != nil {
		t.Fatal(err)
	}
	for flag, change := range map[string]func(*Options){
		"--rate":           func(f *Options) { f.Rate = 0 },
		"--times":          func(f *Options) { f.Times = 1e6 },
		"--max-in-flight":  func(f *Options) { f.MaxInFlight = 0 },
		"--rounds":         func(f *Options) { f.Rounds = 0 },
		"--connections":    func(f *Options) { f.Connections = 0 },
		"--in-flight":      func(f *Options) { f.InFlight = 3 },
		"--tokens":         func(f *Options) { f.Tokens = 0 },
		"--tokens-per-app": func(f *Options) { f.TokensPerApp = 0 },
	} {
		f := goodFlood()
		change(&f)
		if err := f.Check(); err == nil || !strings.HasPrefix(err.Error(), flag+": want ") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// Ratios are between values of one round.
func TestFloodSummary(t *testing.T) {
	r := &Report{Options: goodFlood(), Overload: &Overload{AtRest: 400, Calls: 30, Right: 10, Refused: 20, After: 1000}}
	for n := range 3 {
		slow := float64(n + 1)
		r.Rounds = append(r.Rounds, Round{
			Calm: Flow{
				Calls: 100, Quantiles: load.Quantiles{P50: 200 * slow, P99: 1000 * slow, P999: 2000},
				HeapBytes: 10e6, RedisPerSecond: 300,
				Redis: map[string]float64{"get": 299.5, "ping": 0.5},
			},
			Flooded: Flow{
				Calls: 100, Quantiles: load.Quantiles{P50: 220 * slow, P99: 1500 * slow, P999: 2000},
				HeapBytes: 11e6, RedisPerSecond: 302, Flood: 1000,
				Redis: map[string]float64{"get": 299.5, "hset": 2.5},
			},
		})
	}
	r.summarise()
	if r.P99Ratio != (report.Ratio{Q1: 1.5, Median: 1.5, Q3: 1.5}) ||
		r.P50Ratio.Median < 1.0999 || r.P50Ratio.Median > 1.1001 || r.Flood != 3000 || r.Flooded.P99.Median != 3000 {
		t.Errorf("%+v", r)
	}
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"without the flood  400 us [300 us, 500 us]  2ms [1.5ms, 2.5ms]",
		"x without          1.10 [1.10, 1.10]        1.50 [1.50, 1.50]",
		"300 [300, 300]", "11 MB [11 MB, 11 MB]", "hset              0.0                2.5", "which has 400 goroutines at rest",
		"Every one of 4610 answers was checked, 3000 of them the flood's; none was wrong.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "ping") {
		t.Errorf("a rare command is in:\n%s", &out)
	}
}

func TestCommandCalls(t *testing.T) {
	calls, err := commandCalls("# Commandstats\r\n" +
		"cmdstat_get:calls=10,usec=20,usec_per_call=2.00,rejected_calls=0,failed_calls=0\r\n" +
		"cmdstat_client|setinfo:calls=7,usec=1\r\n")
	if err != nil || len(calls) != 2 || calls["get"] != 10 || calls["client|setinfo"] != 7 {
		t.Errorf("%v %v", calls, err)
	}
	if _, err := commandCalls("cmdstat_get:calls=many,usec=1\r\n"); err == nil {
		t.Error("a malformed number was accepted")
	}
}

// An overloaded validator may refuse calls. No other error is accepted.
func TestJudgeOverload(t *testing.T) {
	result := func(answered, wrong uint64, failed map[string]uint64) *load.Result {
		return &load.Result{
			Answered: answered, Wrong: wrong, Errors: failed, Elapsed: 2 * time.Second, Latency: load.NewHistogram(),
		}
	}
	refused := func(n uint64) map[string]uint64 { return map[string]uint64{apierr.Overloaded: n} }
	o, err := judgeOverload(t.Context(), result(100, 0, refused(50)))
	if err != nil || o.Calls != 150 || o.Right != 100 || o.Refused != 50 || o.RightPerSecond != 50 || o.RefusedPerSecond != 25 {
		t.Errorf("%+v %v", o, err)
	}
	for name, r := range map[string]*load.Result{
		"no refusal":     result(100, 0, nil),
		"no decision":    result(0, 0, refused(50)),
		"another error":  result(100, 0, map[string]uint64{apierr.Overloaded: 50, "Unavailable": 1}),
		"wrong decision": result(100, 1, refused(50)),
	} {
		if o, err := judgeOverload(t.Context(), r); err == nil || errors.Is(err, load.ErrWrong) != (r.Wrong > 0) {
			t.Errorf("%s: %+v %v", name, o, err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := judgeOverload(ended, result(100, 0, refused(50))); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
