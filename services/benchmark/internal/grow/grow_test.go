package grow

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/services/benchmark/internal/report"
	"github.com/countersign/countersign/services/benchmark/internal/report/reporttest"
	"github.com/countersign/countersign/services/benchmark/internal/testbed"
	"github.com/countersign/countersign/services/internal/load"
)

func good() testbed.Options {
	return testbed.Options{
		Rounds: 11, Connections: 4, InFlight: 32, Tokens: 1000, TokensPerApp: 10, Rates: []int{500}, Mix: testbed.Mixed,
		Arrivals: load.Poisson, Validators: 1,
	}
}

func growing(by Axis, steps ...string) Options {
	return Options{Options: good(), By: by, Steps: steps}
}

// The default steps of every axis are valid options, and change the option that the axis is about.
func TestPlans(t *testing.T) {
	for by, want := range map[Axis]func(testbed.Options) any{
		ByTokens:      func(o testbed.Options) any { return o.Tokens },
		ByConnections: func(o testbed.Options) any { return o.Connections },
		ByChanges:     func(o testbed.Options) any { return o.ChangesPerSecond },
		ByValidators:  func(o testbed.Options) any { return o.Validators },
		ByReasons:     func(o testbed.Options) any { return o.Mix },
	} {
		steps, options, err := growing(by).plan()
		if err != nil || len(steps) < 4 || len(options) != len(steps) {
			t.Fatalf("%s: %v %v", by, steps, err)
		}
		seen := map[any]bool{}
		for _, o := range options {
			seen[want(o)] = true
			if o.InFlight != options[0].InFlight || len(o.Legs) < 2 || o.Legs[0] != report.TunedEmpty.Name {
				t.Errorf("%s: %+v", by, o)
			}
		}
		if len(seen) != len(steps) {
			t.Errorf("%s: %v of %v", by, seen, steps)
		}
	}
	_, options, err := growing(ByConnections, "1", "64").plan()
	if err != nil || options[0].InFlight != 64 || options[0].Connections != 1 {
		t.Errorf("%+v %v", options, err)
	}
}

func TestPlansThatAreRefused(t *testing.T) {
	for want, g := range map[string]Options{
		"--by: want one of tokens, ":                              growing("time"),
		`--steps: "many": want numbers`:                           growing(ByTokens, "10", "many"),
		`--steps: "-1": want numbers`:                             growing(ByChanges, "-1"),
		"--steps: 20,000,000: --tokens: want 1 to 10000000":       growing(ByTokens, "20000000"),
		"--steps: 0: --connections: want 1 to 1024":               growing(ByConnections, "0"),
		`--steps: "mixd": want some of valid, unknown, malformed`: growing(ByReasons, "valid", "mixd"),
	} {
		if err := g.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// growthOf returns a report with two rounds at each step. From step to step, the validator needs more CPU
// time compared with the tuned empty server (twice as much at the second step), and the machine becomes
// slower (three times).
func growthOf(by Axis, steps ...int) *Report {
	g := &Report{Options: Options{Options: good(), By: by}}
	for i, step := range steps {
		slow := 1 + 2*float64(i)
		var turns []*report.Turn
		for round := 1; round <= 2; round++ {
			turns = append(turns,
				reporttest.Turn(round, report.TunedEmpty, 10*slow, time.Millisecond),
				reporttest.Turn(round, report.Validator, 12*slow*float64(i+1), time.Millisecond),
			)
		}
		summaries := []report.Summary{report.Summarise(report.TunedEmpty, turns), report.Summarise(report.Validator, turns)}
		g.add(step, &testbed.Findings{Turns: [][]*report.Turn{turns}, Summaries: [][]report.Summary{summaries}}, 0)
	}
	g.compareWithFirst()
	return g
}

func TestGrowthToFirst(t *testing.T) {
	for by, want := range map[Axis]float64{
		ByTokens:      2, // compared with the empty server at the same step
		ByConnections: 2,
		ByReasons:     6, // not compared with the empty server, whose calls carry nothing
	} {
		g := growthOf(by, 1, 3)
		if first := g.Steps[0].leg(report.Validator.Name).ToFirst; first != nil {
			t.Errorf("%s: the first is %v of itself", by, first)
		}
		got := g.Steps[1].leg(report.Validator.Name).ToFirst
		if got == nil || got.Median < want*0.999 || got.Median > want*1.001 {
			t.Errorf("%s: %v, want %v", by, got, want)
		}
		if tuned := g.Steps[1].leg(report.TunedEmpty.Name).ToFirst; tuned != nil {
			t.Errorf("%s: the empty server is %v", by, tuned)
		}
		if g.Steps[1].leg(report.Redis.Name) != nil {
			t.Errorf("%s: there is a leg that was not measured", by)
		}
	}
}

func TestGrowthTable(t *testing.T) {
	var out strings.Builder
	if err := growthOf(ByTokens, 1000, 1_000_000).Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"tokens of the store  server",
		"1,000,000            validator, unary Authorize  72.00 us [72.00, 72.00]  2.40 [2.40, 2.40]  2.00 [2.00, 2.00]",
		"Every one of 880 answers was checked; none was wrong.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

// The picture is XML and has every point within its bounds. It joins points only when steps are numbers.
func TestGrowthPlot(t *testing.T) {
	for by, steps := range map[Axis][]int{ByChanges: {0, 100, 5000}, ByReasons: {0, 1, 2}, ByTokens: {1000}} {
		g := growthOf(by, steps...)
		var out strings.Builder
		if err := g.Plot(&out); err != nil {
			t.Fatal(err)
		}
		elements := map[string]int{}
		for decoder := xml.NewDecoder(strings.NewReader(out.String())); ; {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v in:\n%s", by, err, &out)
			}
			if start, is := token.(xml.StartElement); is {
				elements[start.Name.Local]++
			}
		}
		if elements["circle"] != 2*len(steps) {
			t.Errorf("%s: %d points, want %d", by, elements["circle"], 2*len(steps))
		}
		if joined := strings.Contains(out.String(), `class="line ours"`); joined != (by != ByReasons) {
			t.Errorf("%s: joined %t", by, joined)
		}
		p := g.plot()
		for i, l := range p.Lines {
			last := float64(plotLeft)
			for _, at := range l.Points {
				if at.X <= last || at.X >= plotLeft+plotWidth || at.High < plotTop-1 || at.Low > plotTop+plotHeight {
					t.Errorf("%s: %+v", by, l.Points)
				}
				last = at.X
			}
			if i > 0 && l.LabelY == p.Lines[i-1].LabelY {
				t.Errorf("%s: names overlap", by)
			}
		}
	}
}
