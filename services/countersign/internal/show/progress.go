package show

import (
	"fmt"
	"io"
	"time"

	"github.com/countersign/countersign/services/countersign/internal/words"
)

// redraws is the least time between two drawings of a progress bar.
const redraws = 100 * time.Millisecond

// Progress is a bar on a terminal that is drawn again and again on one line. It is not safe for concurrent
// use.
type Progress struct {
	w            io.Writer
	style        Style
	begun, drawn time.Time
}

// NewProgress returns a bar that is drawn with the first Set.
func NewProgress(w io.Writer, style Style) *Progress {
	return &Progress{w: w, style: style, begun: time.Now()}
}

// Set draws how many of all items are done and refused, unless it has just been drawn.
func (p *Progress) Set(all, done, refused int) {
	now := time.Now()
	if now.Sub(p.drawn) < redraws && done+refused < all {
		return
	}
	p.drawn = now
	text := fmt.Sprintf(" %s of %s", words.Count(uint64(done+refused)), words.Count(uint64(all)))
	if refused > 0 {
		text += fmt.Sprintf(", %s refused", words.Count(uint64(refused)))
	}
	if passed := now.Sub(p.begun).Seconds(); passed > 0 {
		text += fmt.Sprintf(", %s/s", words.Count(uint64(float64(done+refused)/passed)))
	}
	columns := min(p.style.Width-len(text)-3, 40)
	if columns > 0 {
		text = "[" + p.style.bar(columns,
			part{uint64(done), "█", "#", green}, part{uint64(refused), "▒", "x", red},
			part{uint64(max(all-done-refused, 0)), "░", ".", plain}) + "]" + text
	}
	fmt.Fprint(p.w, "\r"+text+"\x1b[K") // to the end of the line
}

// Done ends the line of the bar.
func (p *Progress) Done() {
	if !p.drawn.IsZero() {
		fmt.Fprintln(p.w)
	}
}
