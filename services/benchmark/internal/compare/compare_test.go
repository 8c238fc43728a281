package compare

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
)

func reportOf(turns []*report.Turn, legs ...report.Leg) *Report {
	r := &Report{
		Options: testbed.Options{Rounds: 3, Rates: []int{500}, Tokens: 1_000_000, TokensPerApp: 10, Connections: 4, InFlight: 32},
		Turns:   turns,
	}
	for _, l := range legs {
		r.Summary = append(r.Summary, report.Summarise(l, turns))
	}
	return r
}

func goodReport() *Report {
	return reportOf(reporttest.Turns(), report.Empty, report.TunedEmpty, report.Validator)
}

// A leg's cost includes Redis's work for it.
func TestSummaryWithRedis(t *testing.T) {
	asks := reporttest.Turn(1, report.Redis, 30, time.Millisecond)
	decides := reporttest.Turn(1, report.Validator, 10, time.Millisecond)
	asks.Closed.RedisCPUNanos, decides.Closed.RedisCPUNanos = 12_000, 500
	s := report.Summarise(report.Redis, []*report.Turn{asks, decides})
	if s.WithRedisCPUNanos.Median != 42_000 || s.ToValidator.Median != 3 || s.WithRedisToValidator.Median != 4 {
		t.Errorf("%+v", s)
	}
	var out strings.Builder
	if err := (&Report{Summary: []report.Summary{s}}).Write(&out); err != nil {
		t.Fatal(err)
	}
	want := "30.00 us [30.00, 30.00]  3.00 [3.00, 3.00]  12.00 us [12.00, 12.00]  42.00 us [42.00, 42.00]  4.00 [4.00, 4.00]"
	if !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in:\n%s", want, &out)
	}
}

// The cost of counting is a ratio between a validator and one that counts nothing, which is asked in the same
// way.
func TestSummaryOfCounting(t *testing.T) {
	turns := []*report.Turn{
		reporttest.Turn(1, report.Validator, 12, time.Millisecond), reporttest.Turn(1, report.Uncounted, 10, time.Millisecond),
		reporttest.Turn(1, report.Stream, 4, time.Millisecond), reporttest.Turn(1, report.UncountedStream, 2, time.Millisecond),
	}
	all := tableOf(t, reportOf(turns, report.Validator, report.Uncounted, report.Stream, report.UncountedStream))
	_, table, _ := strings.Cut(all, "x without counting\n")
	table, _, _ = strings.Cut(table, "\n\n")
	want := "validator, unary Authorize 12.00 us [12.00, 12.00] 1.20 [1.20, 1.20] " +
		"validator, streams of the client 4.00 us [4.00, 4.00] 2.00 [2.00, 2.00]"
	if got := strings.Join(strings.Fields(table), " "); got != want {
		t.Errorf("got %q, want %q in:\n%s", got, want, all)
	}
	if strings.Contains(tableOf(t, goodReport()), "without counting") {
		t.Error("the table has a part about counting without a validator that counts nothing")
	}
}

func tableOf(t *testing.T, r *Report) string {
	t.Helper()
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestSummaryWithResyncs(t *testing.T) {
	var turns []*report.Turn
	for round := 1; round <= 3; round++ {
		turn := reporttest.Turn(round, report.Validator, 10, time.Millisecond)
		turn.Resyncs = &report.Resyncs{Times: uint64(round), Share: 0.2 * float64(round)}
		turns = append(turns, turn, reporttest.Turn(round, report.TunedEmpty, 10, time.Millisecond))
	}
	s := report.Summarise(report.Validator, turns)
	if s.Resyncs != 6 || s.ResyncShare == nil || s.ResyncShare.Median != 0.4 {
		t.Errorf("%+v", s)
	}
	var out strings.Builder
	if err := (&Report{Summary: []report.Summary{report.Summarise(report.TunedEmpty, turns), s}}).Write(&out); err != nil {
		t.Fatal(err)
	}
	want := "validator, unary Authorize: loaded the whole store again 6 times, in 40 % [30 %, 50 %] of the time of its turns."
	if strings.Count(out.String(), "loaded the whole store") != 1 || !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in:\n%s", want, &out)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	if err := goodReport().Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"1000000 tokens, 10 an app", "22.00 us [16.50, 27.50]  1.10 [1.10, 1.10]  0.55 [0.55, 0.55]",
		"Open loop, 500 calls/s", "2.00 [2.00, 2.00]",
		"Every one of 990 answers was checked; none was wrong.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, &out)
		}
	}
}

func TestPlot(t *testing.T) {
	var out strings.Builder
	r := goodReport()
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
	for _, want := range []string{
		"validator, unary Authorize", "22.0", "1.10 × [1.10, 1.10]", "1,000,000 tokens", `A <"&"> CPU`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
}

// Bars of any length end within the picture.
func TestPlotFits(t *testing.T) {
	for _, micros := range []float64{0, 0.01, 0.5, 9.99, 10, 17, 40, 1234} {
		r := &Report{
			Options: testbed.Options{Rounds: 1},
			Summary: []report.Summary{{CPUNanos: report.Quartiles{Q1: micros * 900, Median: micros * 1000, Q3: micros * 1100}}},
		}
		p := r.plot()
		if b := p.Bars[0]; b.Length < 0 || b.To > plotLeft+plotWidth || b.From > b.To {
			t.Errorf("%v us: %+v", micros, b)
		}
		if n := len(p.Ticks); n < 2 || n > 8 {
			t.Errorf("%v us: %d ticks", micros, n)
		}
	}
}
