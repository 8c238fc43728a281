package grow

import (
	_ "embed"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/countersign/countersign/services/benchmark/internal/report"
)

//go:embed plot.svg.tmpl
var plotText string

var plotTemplate = report.ParsePicture(plotText)

// Sizes of the picture, in pixels: the area of the lines, and the margins around it.
const (
	plotLeft   = 64
	plotRight  = 250
	plotTop    = 70
	plotWidth  = 560
	plotHeight = 300
	// labelGap is the least distance between the names of two lines.
	labelGap = 34
)

// plot has the values of the template.
type plot struct {
	Width, Height, Left, Right, Top, Axis, Caption int
	Title, Subtitle, Footer, Below                 string
	Lines                                          []line
	Xs, Ys                                         []mark
}

// line is one leg: its medians by step, with whiskers from quartile to quartile. Its name stands behind the
// last step.
type line struct {
	Class        report.Class
	Label, Ratio string
	// Path joins the medians. It is empty when steps are not numbers, since nothing lies between them.
	Path   string
	Points []point
	LabelX float64
	LabelY float64
}

type point struct{ X, Y, Low, High float64 }

type mark struct {
	At    float64
	Label string
}

// Plot writes a picture in SVG: the CPU time of a decision by step. It is readable on light and on dark
// pages.
func (r *Report) Plot(w io.Writer) error { return plotTemplate.Execute(w, r.plot()) }

func (r *Report) plot() plot {
	highest := 0.0
	for _, step := range r.Steps {
		for _, s := range step.Summary {
			highest = max(highest, s.CPUNanos.Q3/1000, s.CPUNanos.Median/1000)
		}
	}
	tick, end := report.Scale(highest)
	y := func(micros float64) float64 { return plotTop + plotHeight*(1-micros/end) }
	xs := r.xs()
	p := plot{
		Width: plotLeft + plotWidth + plotRight, Height: plotTop + plotHeight + 84, Left: plotLeft, Right: plotLeft + plotWidth,
		Top: plotTop, Axis: plotTop + plotHeight, Caption: plotTop + plotHeight + 68,
		Title: "Server CPU per decision, in microseconds, by " + axes[r.Options.By].title,
		Subtitle: fmt.Sprintf("Median of %d interleaved rounds, whiskers from quartile to quartile; %d calls in flight",
			r.Options.Rounds, r.Options.InFlight),
		Footer: fmt.Sprintf("%s, %s, grpc-go %s.%s",
			report.OrUnknown(r.Environment.CPU), r.Environment.Go, report.OrUnknown(r.Environment.GRPC),
			report.If(r.Options.By != ByReasons, " Ratios: to the tuned empty server at the last step, by rounds.")),
		Below: axes[r.Options.By].title,
	}
	for i, step := range r.Steps {
		p.Xs = append(p.Xs, mark{xs[i], step.Value})
	}
	for at := 0.0; at <= end+tick/2; at += tick {
		p.Ys = append(p.Ys, mark{y(at), report.Number(at)})
	}
	for _, leg := range r.Steps[0].Summary {
		p.Lines = append(p.Lines, r.line(leg.Leg, xs, y))
	}
	spread(p.Lines)
	return p
}

// line returns the line of a leg.
func (r *Report) line(leg string, xs []float64, y func(float64) float64) line {
	l := line{Class: report.ClassOf(leg)}
	for i, step := range r.Steps {
		s := step.leg(leg)
		if s == nil {
			continue
		}
		at := point{xs[i], y(s.CPUNanos.Median / 1000), y(s.CPUNanos.Q1 / 1000), y(s.CPUNanos.Q3 / 1000)}
		if r.Options.By != ByReasons {
			command := "L"
			if l.Path == "" {
				command = "M"
			}
			l.Path += fmt.Sprintf("%s%.1f %.1f", command, at.X, at.Y)
		}
		l.Points = append(l.Points, at)
		l.Label, l.LabelX, l.LabelY = s.Title, plotLeft+plotWidth+14, at.Y
		if s.ToTuned != nil && leg != report.TunedEmpty.Name && r.Options.By != ByReasons {
			l.Ratio = fmt.Sprintf("%.2f × [%.2f, %.2f]", s.ToTuned.Median, s.ToTuned.Q1, s.ToTuned.Q3)
		}
	}
	return l
}

// xs returns the horizontal position of each step. Numbers are on a logarithmic scale, on which 0 stands at a
// tenth of the least other number. Words have equal distances.
func (r *Report) xs() []float64 {
	at := make([]float64, len(r.Steps))
	least := 0
	for _, s := range r.Steps {
		if s.Number > 0 && (least == 0 || s.Number < least) {
			least = s.Number
		}
	}
	for i, s := range r.Steps {
		switch {
		case r.Options.By == ByReasons:
			at[i] = float64(i)
		case s.Number == 0:
			at[i] = math.Log10(float64(max(least, 1))) - 1
		default:
			at[i] = math.Log10(float64(s.Number))
		}
	}
	from, to := slices.Min(at), slices.Max(at)
	const margin = 24
	for i := range at {
		part := 0.5
		if to > from {
			part = (at[i] - from) / (to - from)
		}
		at[i] = plotLeft + margin + part*(plotWidth-2*margin)
	}
	return at
}

// spread moves names apart that would overlap.
func spread(lines []line) {
	order := make([]*line, len(lines))
	for i := range lines {
		order[i] = &lines[i]
	}
	slices.SortFunc(order, func(a, b *line) int { return int(math.Copysign(1, a.LabelY-b.LabelY)) })
	for i := 1; i < len(order); i++ {
		order[i].LabelY = max(order[i].LabelY, order[i-1].LabelY+labelGap)
	}
}
