package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/services/internal/load"
)

// turnOf returns a turn with one open loop in which every call took as long.
func turnOf(round int, leg string, cpuMicros float64, latency time.Duration) *Turn {
	h := load.NewHistogram()
	for range 10 {
		_ = h.RecordValue(int64(latency))
	}
	return &Turn{
		Round: round, Leg: leg,
		Closed: Closed{Calls: 100, PerSecond: 1e6 / cpuMicros, CPUNanos: cpuMicros * 1000, Utilisation: 1, Allocations: 50},
		Open:   []Open{{Rate: 500, Calls: 10, Quantiles: quantilesOf(h), latency: h}},
	}
}

// report returns that of three rounds in which the machine became slower, and the ratios stayed.
func report() *Report {
	r := &Report{Options: Options{Rounds: 3, Rates: []int{500}, Tokens: 1_000_000, TokensPerApp: 10, Connections: 4, InFlight: 32}}
	for round := 1; round <= 3; round++ {
		slow := float64(round)
		r.Turns = append(r.Turns,
			turnOf(round, emptyLeg, 20*slow, time.Millisecond),
			turnOf(round, tunedLeg, 10*slow, time.Millisecond),
			turnOf(round, "validator", 11*slow, 2*time.Millisecond),
		)
	}
	for _, l := range legs[:3] {
		r.Summary = append(r.Summary, summarise(l, r.Turns))
	}
	return r
}

// Ratios are those of one round, so that they do not show what has become of the machine between rounds.
func TestSummary(t *testing.T) {
	s := report().Summary[2]
	if s.Leg != "validator" || s.Calls != 330 || s.CPUNanos != (Quartiles{16500, 22000, 27500}) || s.Allocations.Median != 50 {
		t.Errorf("%+v", s)
	}
	near := func(got, want float64) bool { return got > want*0.999 && got < want*1.001 }
	for name, r := range map[string]struct {
		got  *Ratio
		want float64
	}{
		"to tuned": {s.ToTuned, 1.1}, "to empty": {s.ToEmpty, 0.55},
		"p99 to tuned": {s.Open[0].P99ToTuned, 2}, "p99 to empty": {s.Open[0].P99ToEmpty, 2},
		"p50 to tuned": {s.Open[0].P50ToTuned, 2}, "p50 to empty": {s.Open[0].P50ToEmpty, 2},
		"to itself": {s.ToValidator, 1}, "empty to validator": {report().Summary[0].ToValidator, 20 / 11.},
	} {
		if r.got == nil || !near(r.got.Q1, r.want) || !near(r.got.Median, r.want) || !near(r.got.Q3, r.want) {
			t.Errorf("%s: %v, want %v", name, r.got, r.want)
		}
	}
	if o := s.Open[0]; o.Calls != 30 || o.Rate != 500 || !near(o.P50, 2000) || !near(o.P999, 2000) {
		t.Errorf("%+v", o)
	}
}

// What Redis spends on a leg is part of what the leg costs.
func TestSummaryWithRedis(t *testing.T) {
	asks, decides := turnOf(1, redisLeg, 30, time.Millisecond), turnOf(1, validatorLeg, 10, time.Millisecond)
	asks.Closed.RedisCPUNanos, decides.Closed.RedisCPUNanos = 12_000, 500
	turns := []*Turn{asks, decides}
	s := summarise(legs[4], turns)
	if s.WithRedisCPUNanos.Median != 42_000 || s.ToValidator.Median != 3 || s.WithRedisToValidator.Median != 4 {
		t.Errorf("%+v", s)
	}
	var out strings.Builder
	if err := (&Report{Summary: []Summary{s}}).Write(&out); err != nil {
		t.Fatal(err)
	}
	if want := "30.00 us [30.00, 30.00]  3.00 [3.00, 3.00]  12.00 us [12.00, 12.00]  42.00 us [42.00, 42.00]  4.00 [4.00, 4.00]"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in:\n%s", want, &out)
	}
}

func TestSummaryWithResyncs(t *testing.T) {
	var turns []*Turn
	for round := 1; round <= 3; round++ {
		turn := turnOf(round, validatorLeg, 10, time.Millisecond)
		turn.Resyncs = &Resyncs{Times: uint64(round), Share: 0.2 * float64(round)}
		turns = append(turns, turn, turnOf(round, tunedLeg, 10, time.Millisecond))
	}
	s := summarise(legs[2], turns)
	if s.Resyncs != 6 || s.ResyncShare == nil || s.ResyncShare.Median != 0.4 {
		t.Errorf("%+v", s)
	}
	var out strings.Builder
	if err := (&Report{Summary: []Summary{summarise(legs[1], turns), s}}).Write(&out); err != nil {
		t.Fatal(err)
	}
	if want := "validator, unary Authorize: everything was loaded anew 6 times, in 40 % [30 %, 50 %] of the time of its turns."; strings.Count(out.String(), "loaded anew") != 1 || !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in:\n%s", want, &out)
	}
}

func TestSummaryWithoutReference(t *testing.T) {
	s := summarise(legs[2], []*Turn{turnOf(1, "validator", 10, time.Millisecond)})
	if s.ToEmpty != nil || s.ToTuned != nil || s.Open[0].P99ToTuned != nil {
		t.Errorf("%+v", s)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	if err := report().Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1000000 tokens, 10 an app", "22.00 us [16.50, 27.50]  1.10 [1.10, 1.10]  0.55 [0.55, 0.55]", "Open loop, 500 calls/s", "2.00 [2.00, 2.00]",
		"Every one of 990 answers was checked; none was wrong.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

func TestPlot(t *testing.T) {
	var out strings.Builder
	r := report()
	r.Environment.CPU = `A <"&"> CPU`
	if err := r.Plot(&out); err != nil {
		t.Fatal(err)
	}
	bars, text := 0, ""
	for decoder := xml.NewDecoder(strings.NewReader(out.String())); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, &out)
		}
		switch token := token.(type) {
		case xml.StartElement:
			for _, attribute := range token.Attr {
				if attribute.Name.Local == "class" && (attribute.Value == "ours" || attribute.Value == "reference") {
					bars++
				}
			}
		case xml.CharData:
			text += string(token)
		}
	}
	if bars != 3 {
		t.Errorf("%d bars, want 3", bars)
	}
	for _, want := range []string{"validator, unary Authorize", "22.0", "1.10 × [1.10, 1.10]", "1,000,000 tokens", `A <"&"> CPU`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
}

// Bars end within the plot, whatever they are long.
func TestPlotFits(t *testing.T) {
	for _, micros := range []float64{0, 0.01, 0.5, 9.99, 10, 17, 40, 1234} {
		r := &Report{Options: Options{Rounds: 1}, Summary: []Summary{{CPUNanos: Quartiles{micros * 900, micros * 1000, micros * 1100}}}}
		p := r.plot()
		if b := p.Bars[0]; b.Length < 0 || b.To > plotLeft+plotWidth || b.From > b.To {
			t.Errorf("%v us: %+v", micros, b)
		}
		if n := len(p.Ticks); n < 2 || n > 8 {
			t.Errorf("%v us: %d ticks", micros, n)
		}
	}
}

func TestNiceStep(t *testing.T) {
	for least, want := range map[float64]float64{0: 1, 1: 1, 1.1: 2, 3: 5, 5.5: 10, 0.03: 0.05, 70: 100} {
		if got := niceStep(least); got < want*0.999 || got > want*1.001 {
			t.Errorf("%v: %v, want %v", least, got, want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1_234_567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
