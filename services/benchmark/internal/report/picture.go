package report

import (
	_ "embed"
	"html/template"
	"math"
)

//go:embed style.css.tmpl
var styleText string

// ParsePicture parses the template of an SVG picture, which may use the style sheet that all pictures share
// as the template "style". An HTML template escapes everything that SVG needs escaped.
func ParsePicture(text string) *template.Template {
	style := template.Must(template.New("style").Parse(styleText))
	return template.Must(style.New("picture").Parse(text))
}

// axisTicks is the approximate number of ticks on an axis.
const axisTicks = 5

// Scale returns the step between the ticks of an axis from 0, and the end of the axis, which is at or above
// the highest value.
func Scale(highest float64) (step, end float64) {
	step = niceStep(highest / axisTicks)
	return step, max(math.Ceil(highest/step), 1) * step
}

// niceStep returns the least of 1, 2 and 5 times a power of ten that is at or above a number; 1 for 0.
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
