package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
)

//go:embed grow.svg.tmpl
var growText string

var growTemplate = template.Must(template.Must(styled()).New("grow").Parse(growText))

// Measures of the plot, in pixels: of the space for lines, and around it.
const (
	growLeft   = 64
	growRight  = 250
	growTop    = 70
	growWidth  = 560
	growHeight = 300
	// labelGap is how far apart the names of two lines are at least.
	labelGap = 34
)

// growPlot is what the template fills in.
type growPlot struct {
	Width, Height, Left, Right, Top, Axis, Caption int
	Title, Subtitle, Footer, Below                 string
	Lines                                          []line
	Xs, Ys                                         []mark
}

// line is one leg: its medians by step, with whiskers from quartile to quartile, and its name behind the
// last.
type line struct {
	Class, Label, Ratio string
	// Path joins the medians; it is empty where steps are no numbers, which have nothing between them.
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

// Plot writes the CPU time of a decision by steps as a picture in SVG. It is readable on a light and on a
// dark page.
func (g *Growth) Plot(w io.Writer) error { return growTemplate.ExecuteTemplate(w, "grow", g.plot()) }

func (g *Growth) plot() growPlot {
	highest := 0.0
	for _, step := range g.Steps {
		for _, s := range step.Summary {
			highest = max(highest, s.CPUNanos.Q3/1000, s.CPUNanos.Median/1000)
		}
	}
	tick, end := scale(highest)
	y := func(micros float64) float64 { return growTop + growHeight*(1-micros/end) }
	xs := g.places()
	p := growPlot{
		Width: growLeft + growWidth + growRight, Height: growTop + growHeight + 84, Left: growLeft, Right: growLeft + growWidth,
		Top: growTop, Axis: growTop + growHeight, Caption: growTop + growHeight + 68,
		Title: "Server CPU per decision, in microseconds, by " + axes[g.Options.By].title,
		Subtitle: fmt.Sprintf("Median of %d interleaved rounds, whiskers from quartile to quartile; %d calls in flight",
			g.Options.Rounds, g.Options.InFlight),
		Footer: fmt.Sprintf("%s, %s, grpc-go %s. Ratios: to the tuned empty server at the last step, by rounds.",
			orUnknown(g.Environment.CPU), g.Environment.Go, orUnknown(g.Environment.GRPC)),
		Below: axes[g.Options.By].title,
	}
	if g.Options.By == ByReasons {
		p.Footer = fmt.Sprintf("%s, %s, grpc-go %s.", orUnknown(g.Environment.CPU), g.Environment.Go, orUnknown(g.Environment.GRPC))
	}
	for i, step := range g.Steps {
		p.Xs = append(p.Xs, mark{xs[i], step.Value})
	}
	for at := 0.0; at <= end+tick/2; at += tick {
		p.Ys = append(p.Ys, mark{y(at), number(at)})
	}
	for _, leg := range g.Steps[0].Summary {
		p.Lines = append(p.Lines, g.line(leg.Leg, xs, y))
	}
	spread(p.Lines)
	return p
}

// line returns that of a leg.
func (g *Growth) line(leg string, xs []float64, y func(float64) float64) line {
	l := line{Class: classOf(leg)}
	for i, step := range g.Steps {
		s := step.leg(leg)
		if s == nil {
			continue
		}
		at := point{xs[i], y(s.CPUNanos.Median / 1000), y(s.CPUNanos.Q1 / 1000), y(s.CPUNanos.Q3 / 1000)}
		if g.Options.By != ByReasons {
			command := "L"
			if l.Path == "" {
				command = "M"
			}
			l.Path += fmt.Sprintf("%s%.1f %.1f", command, at.X, at.Y)
		}
		l.Points = append(l.Points, at)
		l.Label, l.LabelX, l.LabelY = s.Title, growLeft+growWidth+14, at.Y
		if s.ToTuned != nil && leg != tunedLeg && g.Options.By != ByReasons {
			l.Ratio = fmt.Sprintf("%.2f × [%.2f, %.2f]", s.ToTuned.Median, s.ToTuned.Q1, s.ToTuned.Q3)
		}
	}
	return l
}

// places returns where each step stands: numbers on a logarithmic scale, with 0 a tenth of the least; words
// side by side.
func (g *Growth) places() []float64 {
	at := make([]float64, len(g.Steps))
	least := 0
	for _, s := range g.Steps {
		if s.Number > 0 && (least == 0 || s.Number < least) {
			least = s.Number
		}
	}
	for i, s := range g.Steps {
		switch {
		case g.Options.By == ByReasons:
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
		at[i] = growLeft + margin + part*(growWidth-2*margin)
	}
	return at
}

// spread moves names apart that would stand on each other.
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
