package compare

import (
	_ "embed"
	"fmt"
	"io"

	"github.com/countersign/countersign/services/benchmark/internal/report"
)

//go:embed plot.svg.tmpl
var plotText string

var plotTemplate = report.ParsePicture(plotText)

// Sizes of the picture, in pixels. Bars begin at plotLeft and are at most plotWidth long; the texts behind
// them have plotRight.
const (
	plotLeft  = 264
	plotWidth = 430
	plotRight = 186
	plotTop   = 66
	rowHeight = 44
	barHeight = 22
)

// plot has the values of the template.
type plot struct {
	Width, Height, Left, Axis, Caption int
	Title, Subtitle, Footer            string
	Bars                               []bar
	Ticks                              []tick
}

// bar is one leg: as long as its median, with whiskers from quartile to quartile.
type bar struct {
	Label, Value, Ratio    string
	Class                  report.Class
	Y, Middle, High, Low   int
	Length, From, To, Text float64
}

type tick struct {
	X     float64
	Label string
}

// Plot writes a picture in SVG: the CPU time of a decision as bars, with quartiles. It is readable on light
// and on dark pages.
func (r *Report) Plot(w io.Writer) error { return plotTemplate.Execute(w, r.plot()) }

func (r *Report) plot() plot {
	longest := 0.0
	for _, s := range r.Summary {
		longest = max(longest, s.CPUNanos.Q3/1000, s.CPUNanos.Median/1000)
	}
	step, end := report.Scale(longest)
	x := func(micros float64) float64 { return plotLeft + micros/end*plotWidth }
	axis := plotTop + len(r.Summary)*rowHeight
	p := plot{
		Width: plotLeft + plotWidth + plotRight, Height: axis + 64, Left: plotLeft, Axis: axis, Caption: axis + 50,
		Title: "Server CPU per decision, in microseconds",
		Subtitle: fmt.Sprintf(
			"Median of %d interleaved rounds, whiskers from quartile to quartile; %d connections, %d calls in flight, %s tokens",
			r.Options.Rounds, r.Options.Connections, r.Options.InFlight, report.Thousands(r.Options.Tokens)),
		Footer: fmt.Sprintf("%s, %s, grpc-go %s. Ratios: to the tuned empty server, by rounds.",
			report.OrUnknown(r.Environment.CPU), r.Environment.Go, report.OrUnknown(r.Environment.GRPC)),
	}
	for i, s := range r.Summary {
		middle := plotTop + i*rowHeight + rowHeight/2
		b := bar{
			Label: s.Title, Value: fmt.Sprintf("%.1f", s.CPUNanos.Median/1000), Class: report.ClassOf(s.Leg),
			Y: middle - barHeight/2, Middle: middle, High: middle - 5, Low: middle + 5,
			Length: x(s.CPUNanos.Median/1000) - plotLeft, From: x(s.CPUNanos.Q1 / 1000), To: x(s.CPUNanos.Q3 / 1000),
		}
		b.Text = max(x(s.CPUNanos.Median/1000), b.To) + 10
		if s.ToTuned != nil && s.Leg != report.TunedEmpty.Name {
			b.Ratio = fmt.Sprintf("%.2f × [%.2f, %.2f]", s.ToTuned.Median, s.ToTuned.Q1, s.ToTuned.Q3)
		}
		p.Bars = append(p.Bars, b)
	}
	for at := 0.0; at <= end+step/2; at += step {
		p.Ticks = append(p.Ticks, tick{x(at), report.Number(at)})
	}
	return p
}
