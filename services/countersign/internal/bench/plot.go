package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
)

//go:embed plot.svg.tmpl
var plotText string

//go:embed style.css.tmpl
var styleText string

// plotTemplate is one of HTML, which escapes what SVG wants escaped, too.
var plotTemplate = template.Must(template.Must(styled()).New("plot").Parse(plotText))

// styled returns templates with the style sheet that all pictures share.
func styled() (*template.Template, error) { return template.New("style").Parse(styleText) }

// Measures of the plot, in pixels. Bars begin at plotLeft and are at most plotWidth long; what stands
// behind a bar has plotRight.
const (
	plotLeft  = 236
	plotWidth = 430
	plotRight = 186
	plotTop   = 66
	rowHeight = 44
	barHeight = 22
	// plotTicks is about how many marks the axis has.
	plotTicks = 5
)

// plot is what the template fills in.
type plot struct {
	Width, Height, Left, Axis, Caption int
	Title, Subtitle, Footer            string
	Bars                               []bar
	Ticks                              []tick
}

// bar is one leg: as long as its median, with whiskers from quartile to quartile.
type bar struct {
	Label, Value, Ratio    string
	Class                  string // of the style sheet
	Y, Middle, High, Low   int
	Length, From, To, Text float64
}

type tick struct {
	X     float64
	Label string
}

// Plot writes the CPU time of a decision as a picture in SVG, with bars and their quartiles. It is readable
// on a light and on a dark page.
func (r *Report) Plot(w io.Writer) error { return plotTemplate.ExecuteTemplate(w, "plot", r.plot()) }

func (r *Report) plot() plot {
	longest := 0.0
	for _, s := range r.Summary {
		longest = max(longest, s.CPUNanos.Q3/1000, s.CPUNanos.Median/1000)
	}
	step, end := scale(longest)
	x := func(micros float64) float64 { return plotLeft + micros/end*plotWidth }
	axis := plotTop + len(r.Summary)*rowHeight
	p := plot{
		Width: plotLeft + plotWidth + plotRight, Height: axis + 64, Left: plotLeft, Axis: axis, Caption: axis + 50,
		Title: "Server CPU per decision, in microseconds",
		Subtitle: fmt.Sprintf("Median of %d interleaved rounds, whiskers from quartile to quartile; %d connections, %d calls in flight, %s tokens",
			r.Options.Rounds, r.Options.Connections, r.Options.InFlight, thousands(r.Options.Tokens)),
		Footer: fmt.Sprintf("%s, %s, grpc-go %s. Ratios: to the tuned empty server, by rounds.",
			orUnknown(r.Environment.CPU), r.Environment.Go, orUnknown(r.Environment.GRPC)),
	}
	for i, s := range r.Summary {
		middle := plotTop + i*rowHeight + rowHeight/2
		b := bar{
			Label: s.Title, Value: fmt.Sprintf("%.1f", s.CPUNanos.Median/1000), Class: classOf(s.Leg),
			Y: middle - barHeight/2, Middle: middle, High: middle - 5, Low: middle + 5,
			Length: x(s.CPUNanos.Median/1000) - plotLeft, From: x(s.CPUNanos.Q1 / 1000), To: x(s.CPUNanos.Q3 / 1000),
		}
		b.Text = max(x(s.CPUNanos.Median/1000), b.To) + 10
		if s.ToTuned != nil && s.Leg != tunedLeg {
			b.Ratio = fmt.Sprintf("%.2f × [%.2f, %.2f]", s.ToTuned.Median, s.ToTuned.Q1, s.ToTuned.Q3)
		}
		p.Bars = append(p.Bars, b)
	}
	for at := 0.0; at <= end+step/2; at += step {
		p.Ticks = append(p.Ticks, tick{x(at), number(at)})
	}
	return p
}

// The classes of the style sheet.
const (
	ours      = "ours"
	reference = "reference"
	another   = "other"
)

// classOf tells apart what the product is compared with: what any server costs, and what others do.
func classOf(leg string) string {
	switch leg {
	case emptyLeg, tunedLeg:
		return reference
	case redisLeg, tunedRedisLeg:
		return another
	}
	return ours
}

// scale returns the step between the ticks of an axis that reaches from 0 to a value at least, and where it
// ends.
func scale(highest float64) (step, end float64) {
	step = niceStep(highest / plotTicks)
	return step, max(math.Ceil(highest/step), 1) * step
}

// niceStep returns 1, 2 or 5 times a power of ten, the least that is not below a number; 1 for 0.
func niceStep(least float64) float64 {
	if least <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, times := range []float64{1, 2, 5} {
		if times*power >= least {
			return times * power
		}
	}
	return 10 * power
}

// thousands writes a number with commas between its thousands.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
