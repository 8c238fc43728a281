package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func growing(by Axis, steps ...string) GrowOptions {
	return GrowOptions{Options: good(), By: by, Steps: steps}
}

// Every axis has steps that can be had, and they change what the axis says.
func TestPlans(t *testing.T) {
	for by, want := range map[Axis]func(Options) any{
		ByTokens:      func(o Options) any { return o.Tokens },
		ByConnections: func(o Options) any { return o.Connections },
		ByChanges:     func(o Options) any { return o.ChangesPerSecond },
		ByValidators:  func(o Options) any { return o.Validators },
		ByReasons:     func(o Options) any { return o.Mix },
	} {
		steps, options, err := growing(by).plan()
		if err != nil || len(steps) < 4 || len(options) != len(steps) {
			t.Fatalf("%s: %v %v", by, steps, err)
		}
		seen := map[any]bool{}
		for _, o := range options {
			seen[want(o)] = true
			if o.InFlight != options[0].InFlight || len(o.Legs) < 2 || o.Legs[0] != tunedLeg {
				t.Errorf("%s: %+v", by, o)
			}
		}
		if len(seen) != len(steps) {
			t.Errorf("%s: %v of %v", by, seen, steps)
		}
	}
	if _, options, err := growing(ByConnections, "1", "64").plan(); err != nil || options[0].InFlight != 64 || options[0].Connections != 1 {
		t.Errorf("%+v %v", options, err)
	}
}

func TestPlansThatAreRefused(t *testing.T) {
	for want, g := range map[string]GrowOptions{
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

// growth returns one of two steps and two rounds, at the second of which the validator needs twice as much
// beside the tuned empty server, and the machine is three times as slow.
func growthOf(by Axis, steps ...int) *Growth {
	g := &Growth{Options: GrowOptions{Options: good(), By: by}}
	for i, step := range steps {
		slow := 1 + 2*float64(i)
		f := &findings{}
		var turns []*Turn
		for round := 1; round <= 2; round++ {
			turns = append(turns, turnOf(round, tunedLeg, 10*slow, time.Millisecond), turnOf(round, validatorLeg, 12*slow*float64(i+1), time.Millisecond))
		}
		f.turns, f.summaries = [][]*Turn{turns}, [][]Summary{{summarise(legs[1], turns), summarise(legs[2], turns)}}
		g.add(step, f, 0)
	}
	g.compareWithFirst()
	return g
}

func TestGrowthToFirst(t *testing.T) {
	for by, want := range map[Axis]float64{
		ByTokens:      2, // beside what the empty server needs at the same step
		ByConnections: 2,
		ByReasons:     6, // as it is: empty calls carry nothing
	} {
		g := growthOf(by, 1, 3)
		if first := g.Steps[0].leg(validatorLeg).ToFirst; first != nil {
			t.Errorf("%s: the first is %v of itself", by, first)
		}
		got := g.Steps[1].leg(validatorLeg).ToFirst
		if got == nil || got.Median < want*0.999 || got.Median > want*1.001 {
			t.Errorf("%s: %v, want %v", by, got, want)
		}
		if tuned := g.Steps[1].leg(tunedLeg).ToFirst; tuned != nil {
			t.Errorf("%s: the empty server is %v", by, tuned)
		}
		if g.Steps[1].leg(redisLeg) != nil {
			t.Errorf("%s: there is a leg that has not competed", by)
		}
	}
}

func TestGrowthTable(t *testing.T) {
	var out strings.Builder
	if err := growthOf(ByTokens, 1000, 1_000_000).Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"tokens of the store  server", "1,000,000            validator, unary Authorize  72.00 us [72.00, 72.00]  2.40 [2.40, 2.40]  2.00 [2.00, 2.00]",
		"Every one of 880 answers was checked; none was wrong.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 2e6: "2 MB", 7.25e9: "7.2 GB", 3e12: "3000 GB"} {
		if got := bytes(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
}

// The picture is XML, has every point within its bounds, and joins numbers only.
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
			last := float64(growLeft)
			for _, at := range l.Points {
				if at.X <= last || at.X >= growLeft+growWidth || at.High < growTop-1 || at.Low > growTop+growHeight {
					t.Errorf("%s: %+v", by, l.Points)
				}
				last = at.X
			}
			if i > 0 && l.LabelY == p.Lines[i-1].LabelY {
				t.Errorf("%s: names stand on each other", by)
			}
		}
	}
}
